"""What the text of a column says: numbers, dates, true or false, or words; and how it writes them.

Looked at are at most `SAMPLE` of the column's distinct values. Most of them decide, so that a typo
makes no words of numbers; what is read otherwise than they are counts as missing."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pipeline.inference.rows import BOOLEAN_WORDS, is_missing, read_distinct, stripped

Kind = Literal["number", "boolean", "date", "category"]

SAMPLE = 1_000

_DATE = re.compile(
    r"(?i)((?:mon|tue|wed|thu|fri|sat|sun)[a-z]*)?(,?\s)?(.+?)"
    r"(?:([T\s])\d{1,2}:\d\d(:\d\d)?([.]\d{1,9})?(\s?[ap]m)?\s?(Z|[+-]\d\d:?\d\d)?)?"
)
"""A day of the week, a day or a month, and a time."""


@dataclass(frozen=True)
class TextKind:
    """decimal: the sign of numbers. format: of dates that are not ISO 8601, as strptime has it.
    doubt: a sentence on what could be meant otherwise, and the key to set."""

    kind: Kind
    decimal: str = "."
    format: str | None = None
    doubt: str = ""


def text_kind(
    distinct: Sequence[str], name: str, decimal: str = ".", marks: Sequence[str] = ()
) -> TextKind:
    """What a column called `name` holds.

    Args:
        distinct: at most `SAMPLE` of its distinct texts; those that stand for missing ones say
            nothing.
        decimal: what its file is known to write; decides where the column itself leaves doubt.
        marks: what stands for missing beside `MISSING`."""
    column = {"marks": marks}
    stems = dict.fromkeys(map(stripped, distinct))
    texts = [text for text in stems if not is_missing(text, column)]
    if not texts or _are_codes(texts):
        return TextKind("category")
    words = {text.lower() for text in texts}
    if any(words <= set(pair) for pair in BOOLEAN_WORDS):
        return TextKind("boolean")
    signs = sorted(".,", key=lambda sign: sign != decimal)
    shares = {sign: _share(texts, {"kind": "number", "decimal": sign}) for sign in signs}
    best = max(signs, key=lambda sign: shares[sign])
    if shares[best] > 0.5:
        return TextKind("number", best, doubt=_mixed_units(texts, best, name))
    return _dates(texts, name) or TextKind("category")


def _are_codes(texts: Sequence[str]) -> bool:
    """Whether digits with zeros before them are names, as of post codes: all of one length, or more
    than a tenth begins so."""
    digits = [text for text in texts if text.isdecimal()]
    padded = sum(text[0] == "0" and len(text) > 1 for text in digits)
    of_one_length = len({len(text) for text in digits}) == 1
    return 2 * len(digits) > len(texts) and padded > (0 if of_one_length else 0.1 * len(texts))


def _share(texts: Sequence[str], column: Mapping[str, Any]) -> float:
    """Of the texts that can be read so."""
    return float(1 - read_distinct(np.array(texts, dtype=object), column)[1].mean())


def _mixed_units(texts: Sequence[str], decimal: str, name: str) -> str:
    """Some numbers with a sign and some without, or with another, are not of one unit."""
    unfit = read_distinct(np.array(texts, dtype=object), {"kind": "number", "decimal": decimal})[1]
    texts = [text for text, is_none in zip(texts, unfit, strict=True) if not is_none]
    signs = {re.sub(r"[\d\s.,'\u2019+()\u2212eE-]", "", text) for text in texts}
    units = {sign for sign in signs if len(sign) < 2 and not sign.isalpha()}
    if len(units) < 2:
        return ""
    shown = " and ".join(repr(sign) if sign else "no sign" for sign in sorted(units))
    return f"column {name!r} has numbers with {shown}, which are read as of one unit"


def _dates(texts: Sequence[str], name: str) -> TextKind | None:
    """Dates of the form that most texts have, or ISO 8601; None: most are no dates."""
    found = dict.fromkeys(form for text in texts[:50] for form in _formats(text))
    shares = {form: _share(texts, {"kind": "date", "format": form}) for form in found}
    iso = _share(texts, {"kind": "date"})
    form = max(shares, key=lambda form: shares[form], default=None)
    if max(iso, shares.get(form or "", 0.0)) <= 0.5:
        return None
    if form is None or iso >= shares[form]:
        return TextKind("date")
    swapped = form.translate({ord("d"): "m", ord("m"): "d"})
    doubt = ""
    if shares.get(swapped, 0.0) == shares[form]:
        first = "%m" if "/" in form else "%d"  # as most of those do who write so
        form, swapped = sorted((form, swapped), key=lambda form: not form.startswith(first))
        doubt = (
            f"column {name!r} has dates such as {texts[0]!r}, read as {form} though {swapped} "
            f"would do as well; set data.dates: {{{name}: '{form}'}}"
        )
    return TextKind("date", format=form, doubt=doubt)


def _formats(text: str) -> Iterator[str]:
    """The forms that a date may be of, as strptime has them: two where the order of day and month
    is open."""
    if (match := _DATE.fullmatch(text)) is None:
        return
    week, comma, date, gap, seconds, fraction, half, zone = match.groups(default="")
    fields = re.split(r"([-/.,\s]+)", date)
    if week:
        week = "%A" if len(week) > 3 else "%a"
    time = ""
    if gap:
        known = {":%S": seconds, ".%f": fraction, f"{half[:-2]}%p": half, "%z": zone}
        time = f"{gap}{'%I' if half else '%H'}:%M"
        time += "".join(form for form, found in known.items() if found)
    for order in ("dmy", "mdy", "ymd", "my", "ym"):
        if 2 * len(order) - 1 == len(fields):
            form = [*fields]
            form[::2] = map(_directive, order, fields[::2])
            if all(form) and ("%y" not in form or order in ("dmy", "mdy")):
                yield week + comma + "".join(form) + time


def _directive(what: str, field: str) -> str:
    """How strptime calls a year, a month or a day that is written so; empty where it cannot be."""
    if what == "m" and field.isalpha():
        return "%B" if len(field) > 3 else "%b"
    if what == "y":
        return {4: "%Y", 2: "%y"}.get(len(field), "") if field.isdecimal() else ""
    return f"%{what}" if field.isdecimal() and len(field) < 3 else ""
