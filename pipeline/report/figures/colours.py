"""The colours of all figures, light and dark, and the look of each optimizer."""

import zlib

INK, MUTED, FAINT = "#1f2328", "#5b636b", "#a9b0b7"
GRID, BAND, PAPER, WHITE = "#e6e8eb", "#dfe3e8", "#fefefe", "#ffffff"
ACCENT, WRONG = "#0072b2", "#d55e00"
# Light, dark, marker: Okabe and Ito's palette first, then Paul Tol's muted one, since colour-blind
# readers tell both apart.
_CLASSES = {
    "SGD": ("#0072b2", "#4ba3e3", "o"),
    "Adagrad": ("#e69f00", "#f0b429", "s"),
    "RMSprop": ("#009e73", "#2bc59a", "^"),
    "Adam": ("#d55e00", "#f47b3a", "D"),
    "AdamW": ("#cc79a7", "#e29bc3", "v"),
    "NAdam": ("#56b4e9", "#8fd0f7", "P"),
    "RAdam": ("#332288", "#9a8cf0", "p"),
    "Adamax": ("#882255", "#d9668f", "h"),
    "Adadelta": ("#6b7280", "#9aa3af", "<"),
    "ASGD": ("#999933", "#c2c25a", ">"),
    "Rprop": ("#44aa99", "#6fd0c0", "8"),
    "Adafactor": ("#117733", "#5cc07c", "d"),
}
STYLES = {name: (light, marker) for name, (light, _, marker) in _CLASSES.items()}
"""Colour and marker of each class of torch.optim."""
ANGULAR = "s^v<>DdP"
"""Markers of other optimizers than these: none of the four round ones, which look alike."""
DARK = {INK: "#e8eaed", MUTED: "#a4abb3", FAINT: "#6c757f"}
DARK |= {GRID: "#2b3036", BAND: "#333a42", PAPER: "#15181c"}
"""What each colour becomes on a dark page."""
SHADES: dict[str, tuple[str, str]] = {}
"""A stronger and a fainter shade of each class's colour, for further optimizers of the class."""


def _mixed(color: str, other: str, share: float) -> str:
    parts = zip(bytes.fromhex(color[1:]), bytes.fromhex(other[1:]), strict=True)
    return "#" + "".join(f"{round((1 - share) * a + share * b):02x}" for a, b in parts)


for _light, _dark, _ in _CLASSES.values():
    SHADES[_light] = strong, faint = _mixed(_light, "#000000", 0.45), _mixed(_light, WHITE, 0.35)
    DARK[_light] = _dark
    DARK[strong], DARK[faint] = _mixed(_dark, WHITE, 0.55), _mixed(_dark, DARK[PAPER], 0.35)


def optimizer_style(label: str) -> tuple[str, str]:
    """Colour (hex) and marker of an optimizer: fixed by its label, in every figure of every search.

    A label that begins with a class of torch.optim has the class's colour. One that says more than
    the class (`SGD momentum=0.9`) has a shade of it and another marker; one of another class has
    the colour of any."""
    if label in STYLES:
        return STYLES[label]
    first, *words = label.split(" ")
    of_any = [*STYLES.values()][zlib.crc32(first.encode()) % len(STYLES)]
    color, marker = STYLES.get(first, of_any)
    others = [other for other in ANGULAR if other != marker]
    # By their number: `momentum=0.9` and `momentum=0.9 nesterov=true` have not the same shade.
    shade = SHADES[color][(len(words) - 1) % 2] if words else color
    return shade, others[zlib.crc32(label.encode()) // len(STYLES) % len(others)]


def css_name(color: str) -> str:
    """The custom property that stands for a colour of these figures in `svg` output."""
    return f"--plot-{color.lstrip('#')}"


def css_variables(dark: bool = False) -> str:
    """Declarations of every colour, for the style sheet of the page that holds `svg` output."""
    return "".join(f"{css_name(light)}:{DARK[light] if dark else light};" for light in DARK)
