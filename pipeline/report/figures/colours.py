"""The colours of all figures, and the look of each optimizer; a dark page turns them round."""

import zlib

import numpy as np
from matplotlib.colors import to_hex, to_rgb

INK, MUTED, FAINT = "#1f2328", "#5b636b", "#a9b0b7"
GRID, BAND, PAPER, WHITE = "#e6e8eb", "#dfe3e8", "#fefefe", "#ffffff"
ACCENT = "#0072b2"
# Okabe and Ito's palette first, then Paul Tol's muted one, since colour-blind readers tell both
# apart.
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
"""Colour and marker of each class of torch.optim."""
ANGULAR = "s^v<>DdP"
"""Markers of other optimizers than these: none of the four round ones, which look alike."""
SHADES = (("#000000", 0.45), (WHITE, 0.35))
"""What is mixed into a class's colour for further optimizers of the class, and its share."""


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
    if words:  # by their number: `momentum=0.9` and `momentum=0.9 nesterov=true` differ
        other, share = SHADES[(len(words) - 1) % 2]
        mixed = np.average([to_rgb(color), to_rgb(other)], axis=0, weights=[1 - share, share])
        color = to_hex(tuple(mixed.tolist()))
    return color, others[zlib.crc32(label.encode()) // len(STYLES) % len(others)]
