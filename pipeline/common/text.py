"""How numbers and untrusted text are written for people; the same in plots, page and console."""

from collections.abc import Sequence
from typing import Any


def percent(share: float | None, digits: int = 1) -> str:
    """`0.6893` as `68.9 %`; None as an en dash."""
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def number(value: float | None, digits: int = 3) -> str:
    """A number with `digits` significant digits and no trailing zeros; None as an en dash."""
    return "–" if value is None else f"{value:.{digits}g}"


def count(n: int, noun: str, plural: str = "") -> str:
    """`1 trial`, `1,508 trials`, `2 searches`."""
    return f"{n:,} {noun if n == 1 else plural or f'{noun}s'}"


def duration(seconds: float) -> str:
    """Seconds as `0.4 s`, `38 s`, `3 min 20 s` or `2 h 05 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def listing(words: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def few(texts: Sequence[str], shown: int, total: int | None = None) -> list[str]:
    """The first `shown` texts, and a last one that counts the others: `and 1,200 more`.

    total: how many there are, where `texts` are the first of them."""
    left = (len(texts) if total is None else total) - shown
    return [*texts[:shown], *([f"and {left:,} more"] if left > 0 else [])]


def some(values: Sequence[Any], shown: int = 8) -> str:
    """`'a', 'b', 'c'`; of more than `shown` values the first, and how many more there are."""
    return ", ".join(few([repr(value) for value in values[:shown]], shown, len(values)))


def shorten(text: str, width: int) -> str:
    """At most `width` characters, the end replaced by an ellipsis."""
    return text if len(text) <= width else text[: max(width - 1, 0)].rstrip() + "…"


def printable(text: str) -> str:
    """Text with control and formatting characters (escape codes, line breaks, direction marks)
    replaced by their escapes, so that data cannot act on a terminal or break a line."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )
