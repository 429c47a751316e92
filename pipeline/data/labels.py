"""The label column: which labels it holds, and which one each row has.

A label is what stands in the table: text, a whole number or a boolean. Blanks at its ends do not
count; in a column of words `None` and `NA` are words too."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.common.errors import UserError, did_you_mean
from pipeline.common.text import count, some
from pipeline.data import values
from pipeline.data.schema import Label, Schema
from pipeline.data.sources import Index, row_numbers
from pipeline.inference.rows import BOOLEAN_WORDS, MISSING, stripped

NameRows = Callable[[Index], str]

MAX_LABELS = 1000

_WORDS = {"none", "na", "n/a", "n.a.", "n.a", "null"}  # marks that may be labels as well
_FEW = 30  # numbers; of more, a column of labels is another


@dataclass(frozen=True)
class LabelColumn:
    """values: N labels as text, int64, float64 or booleans, null where there is none. warnings:
    on what was read otherwise than it stands."""

    values: Any
    warnings: tuple[str, ...] = ()

    def take(self, rows: np.ndarray) -> "LabelColumn":
        return replace(self, values=self.values.take(pa.array(rows)))


def read_labels(
    column: Any, target: str, rows: NameRows = row_numbers, marks: Sequence[str] = ()
) -> LabelColumn:
    """The labels of a column of any type; text that is one whole number or boolean after another is
    that. `marks` stand for missing beside the usual ones; `rows` names rows in messages.

    Raises UserError: labels that are no text, whole numbers or booleans."""
    column = values.plain(column)
    kind = column.type
    try:
        if pa.types.is_string(kind):
            return _of_text(column, target, rows, set(marks))
        if pa.types.is_integer(kind):
            column = pc.cast(column, pa.int64())
        elif pa.types.is_floating(kind) or pa.types.is_decimal(kind):
            column = _whole(values.as_kind(column, {"kind": "number"}), target, rows)
        elif not (pa.types.is_boolean(kind) or pa.types.is_null(kind)):
            raise _no_label(target, kind)
    except pa.ArrowInvalid:  # 2**63 and more
        raise _no_label(target, column.type) from None
    numbers = [float(mark) for mark in marks if re.fullmatch(r"-?\d+(\.0*)?", mark)]
    if numbers and not pa.types.is_boolean(column.type):
        absent = pc.is_in(pc.cast(column, pa.float64(), safe=False), pa.array(numbers))
        column = pc.if_else(absent, None, column)
    return LabelColumn(column)


def _of_text(column: Any, target: str, rows: NameRows, marks: set[str]) -> LabelColumn:
    found = pc.unique(column.drop_null())
    texts = {text: stripped(text) for text in found.to_pylist()}
    sure = {text for text in texts.values() if text.lower() not in MISSING and text not in marks}
    numeric = all(re.fullmatch(r"[+-]?\d+(\.\d+)?", text) for text in sure)
    logical = {text.lower() for text in sure} <= {"true", "false"}
    kept = {"-"} - marks if "+" in sure else set[str]()
    warnings = list[str]()
    if not numeric and not logical:
        words = {text for text in texts.values() if text.lower() in _WORDS} - marks
        kept |= words
        if words:
            warnings.append(
                f"column {target!r}: {some(sorted(words))} is read as a label; if it says that "
                f"there is none, set data.missing: {sorted(words)} and data.unlabelled: drop"
            )
    known = sure | kept
    meant = {text: short if short in known else None for text, short in texts.items()}
    labels = pa.array(meant.values(), pa.string()).take(pc.index_in(column, found))
    padded = [text for text, short in meant.items() if short is not None and short != text]
    if padded:
        where = np.flatnonzero(np.asarray(pc.is_in(column, pa.array(padded))))
        blanks = f"{count(len(where), 'label')} with blanks at the ends, such as {padded[0]!r}"
        warnings.append(f"column {target!r} has {blanks}, read without them ({rows(where[:1])})")
    if logical and sure:
        return LabelColumn(pc.equal(pc.utf8_lower(labels), "true"), tuple(warnings))
    if numeric and sure and not any(re.match(r"[+-]?0\d|\+", text) for text in sure):
        numbers = np.array(pc.cast(labels, pa.float64()).to_numpy(zero_copy_only=False))
        whole = all(re.fullmatch(r"-?\d{1,18}", text) for text in sure)
        typed = pc.cast(labels, pa.int64()) if whole else _whole(numbers, target, rows)
        return LabelColumn(typed, tuple(warnings))
    spellings = defaultdict(list)
    for text in sorted(known):
        spellings[text.lower()].append(text)
    for alike in (texts for texts in spellings.values() if len(texts) > 1):
        shown = some(alike)
        warnings.append(f"column {target!r}: labels that differ by case only are others: {shown}")
    return LabelColumn(labels, tuple(warnings))


def _whole(numbers: np.ndarray, target: str, rows: NameRows) -> Any:
    """float64 with null for NaN. Raises UserError for numbers with fractions."""
    fractions = np.flatnonzero(np.isfinite(numbers) & (numbers != np.floor(numbers)))
    if len(fractions):
        distinct = len(np.unique(numbers[np.isfinite(numbers)]))
        example = f"{float(numbers[fractions[0]])!r} in {rows(fractions[:1])}"
        if distinct > _FEW:
            raise _regression(target, distinct, example)
        raise _no_label(target, example)
    return pa.array(numbers, from_pandas=True)


def _regression(target: str, distinct: int, example: Any) -> UserError:
    return UserError(
        "regression is not supported, this program classifies; "
        f"column {target!r} holds {distinct:,} different numbers, such as {example}"
    )


def _no_label(target: str, content: Any) -> UserError:
    return UserError(
        "labels must be text, booleans or whole numbers less than 2**63; "
        f"column {target!r} holds {content}"
    )


def unlabelled(column: LabelColumn, target: str, rows: NameRows = row_numbers) -> None:
    """UserError that names the rows without a label, if there are any."""
    missing = np.flatnonzero(~np.asarray(column.values.is_valid()))
    if len(missing):
        raise UserError(
            f"every row must have a label; column {target!r} has none in {rows(missing)} "
            f"({len(missing):,} of {len(column.values):,} rows); data.unlabelled: drop leaves "
            "them out"
        )


def labels_of(column: LabelColumn, target: str, positive: Label | None = None) -> tuple[Label, ...]:
    """The labels of a column in the order of their class ids, as `ordered_labels` has it."""
    found = pc.unique(column.values.drop_null()).to_pylist()
    is_number = bool(found) and not isinstance(found[0], str | bool)
    if is_number and len(found) > max(_FEW, len(column.values) // 10):
        raise _regression(target, len(found), found[0])
    return ordered_labels(found, f"column {target!r}", positive)


def ordered_labels(
    found: Iterable[Label], place: str, positive: Label | None = None
) -> tuple[Label, ...]:
    """The distinct labels of `place` in the order of their class ids: ascending, text
    alphabetically; of two labels, `positive` is moved to the end. Raises UserError: too few or too
    many, `positive` not among them or not one of two."""
    labels = sorted(found)
    if len(labels) < 2:
        content = f"{labels[0]!r} in every row" if labels else "no rows"
        raise UserError(f"{place} must hold two labels or more; got {content}")
    if len(labels) > MAX_LABELS:
        raise UserError(
            f"{place} must hold at most {MAX_LABELS:,} labels; got {len(labels):,}, such "
            f"as {some(labels, 3)}; is it a column of labels?"
        )
    if positive is not None:
        match = [label for label in labels if _same(label, positive)]
        if not match:
            raise UserError(
                f"data.positive must be a label of {place}; got {positive!r}"
                f"{did_you_mean(str(positive), map(str, labels)) or '; labels: ' + some(labels)}"
            )
        if len(labels) != 2:
            rule = "data.positive must be left out unless there are two labels"
            raise UserError(f"{rule}; {place} has {len(labels)}")
        labels.sort(key=match.__contains__)
    return tuple(labels)


def _same(label: Label, positive: Label) -> bool:
    if isinstance(label, bool) != isinstance(positive, bool):
        return str(label).lower() == str(positive).lower()
    return label == positive or str(label) == str(positive)


def ids_of(
    column: LabelColumn, schema: Schema, rows: NameRows = row_numbers
) -> tuple[np.ndarray, list[str]]:
    """The class id of every row, int64 [N], -1 without a label; and warnings. Labels are the same
    that files write as 1, 1.0, true and yes, or in another case where that leaves no doubt. Raises
    UserError: a label that the schema has not."""
    own = {_key(label): i for i, label in enumerate(schema.labels)}
    by_case = {key.lower(): i for key, i in own.items()}
    alike = len(by_case) == len(own)
    pairs = (*BOOLEAN_WORDS, ("0", "1"))
    for no, yes in pairs:
        if by_case.keys() == {no, yes}:
            ids = (by_case[no], by_case[yes])
            by_case = {w: i for pair in pairs for w, i in zip(pair, ids, strict=True)}
            break
    present = pc.unique(column.values.drop_null())
    places = pc.index_in(column.values, present).fill_null(-1)
    distinct = present.to_pylist()
    exact = [own.get(_key(label), -1) for label in distinct]
    found = [
        by_case.get(_key(label).lower(), -1) if i < 0 and alike else i
        for label, i in zip(distinct, exact, strict=True)
    ]
    of_rows = np.array([*found, -1], dtype=np.int64)[np.asarray(places)]
    if -1 in found:
        unknown = np.flatnonzero((of_rows < 0) & np.asarray(column.values.is_valid()))
        strange = [label for label, i in zip(distinct, found, strict=True) if i < 0]
        raise UserError(
            f"column {schema.target!r} must hold only labels that training has "
            f"({some(schema.labels)}); got {some(strange)} in {rows(unknown)}"
        )
    other = [
        f"{label!r} as {schema.labels[i]!r}"
        for label, i, known in zip(distinct, found, exact, strict=True)
        if known < 0 and isinstance(label, str)
    ]
    read = f"column {schema.target!r}: labels are read as those of training: "
    return of_rows, [read + ", ".join(other[:5])] if other else []


def _key(label: Label) -> str:
    """The same for 1, 1.0 and "1"."""
    if isinstance(label, float) and label.is_integer():
        return str(int(label))
    return str(label)
