"""The colours of all figures, light and dark, and the look of each optimizer."""

import zlib

INK, MUTED, FAINT, GRID, BAND, PAPER = (
    "#1f2328",
    "#5b636b",
    "#a9b0b7",
    "#e6e8eb",
    "#dfe3e8",
    "#fefefe",
)
WHITE = "#ffffff"
# Okabe and Ito's palette first, then Paul Tol's muted one: both told apart by colour-blind readers;
# each optimizer has a marker of its own besides.
STYLES = {
    "SGD": ("#0072b2", "o"),
    "Adagrad": ("#e69f00", "s"),
    "RMSprop": ("#009e73", "^"),
    "Adam": ("#d55e00", "D"),
    "AdamW": ("#cc79a7", "v"),
    "NAdam": ("#56b4e9", "P"),
    "RAdam": ("#332288", "p"),
    "Adamax": ("#882255", "h"),
    "Adadelta": ("#6b7280", "<"),
    "ASGD": ("#999933", ">"),
    "Rprop": ("#44aa99", "8"),
    "Adafactor": ("#117733", "d"),
}
ACCENT = "#0072b2"
# What each colour becomes on a dark page.
DARK = {
    INK: "#e8eaed",
    MUTED: "#a4abb3",
    FAINT: "#6c757f",
    GRID: "#2b3036",
    BAND: "#333a42",
    PAPER: "#15181c",
    "#0072b2": "#4ba3e3",
    "#e69f00": "#f0b429",
    "#009e73": "#2bc59a",
    "#d55e00": "#f47b3a",
    "#cc79a7": "#e29bc3",
    "#56b4e9": "#8fd0f7",
    "#332288": "#9a8cf0",
    "#882255": "#d9668f",
    "#6b7280": "#9aa3af",
    "#999933": "#c2c25a",
    "#44aa99": "#6fd0c0",
    "#117733": "#5cc07c",
}


def optimizer_style(name: str) -> tuple[str, str]:
    """Colour (hex) and marker of an optimizer: fixed per name, in every figure of every search."""
    if name in STYLES:
        return STYLES[name]
    return list(STYLES.values())[zlib.crc32(name.encode()) % len(STYLES)]


def css_name(color: str) -> str:
    """The custom property that stands for a colour of these figures in `svg` output."""
    return f"--plot-{color.lstrip('#')}"


def css_variables(dark: bool = False) -> str:
    """Declarations of every colour, for the style sheet of the page that holds `svg` output."""
    return "".join(f"{css_name(light)}:{DARK[light] if dark else light};" for light in DARK)
