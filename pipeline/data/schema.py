"""What the training rows teach about a table's columns: kinds, categories, labels."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import TypeAdapter

from pipeline.common.errors import UserError, did_you_mean, refuse
from pipeline.common.text import count, some
from pipeline.data import values
from pipeline.data.sources import Index, row_numbers

Dtype = Literal["float32", "uint8", "int64"]
Label = str | int | float | bool
NameRows = Callable[[Index], str]

SCHEMA_VERSION = 1
MAX_CATEGORIES = 64
MAX_LABELS = 1000


@dataclass(frozen=True)
class Column:
    """One column that informs. `missing`: seen missing in the training rows."""

    name: str
    kind: values.Kind
    categories: tuple[str, ...] = ()
    missing: bool = False


@dataclass(frozen=True)
class Inputs:
    """What a row of arrays is: [*shape] numbers of one dtype; images are [channels, height, width].

    `size`: the (height, width) that images are brought to; None: they have to have it."""

    shape: tuple[int, ...]
    dtype: Dtype
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Schema:
    """What the training rows taught about the columns; written as schema.json with each model.

    `labels[i]` is the label of class i as it stood in the data; of two labels, `labels[1]` is
    the positive one. `inputs` is None for a table; arrays have it and no columns."""

    columns: tuple[Column, ...]
    target: str
    labels: tuple[Label, ...]
    inputs: Inputs | None = None

    @property
    def names(self) -> list[str]:
        """The columns that inform, and the target."""
        return [*(column.name for column in self.columns), self.target]

    @property
    def classes(self) -> int:
        """The number of labels C."""
        return len(self.labels)

    @property
    def form(self) -> str:
        """What a row is, for people: `9 columns`, `[3, 32, 32] uint8`."""
        if self.inputs is not None:
            return f"{list(self.inputs.shape)} {self.inputs.dtype}"
        return count(len(self.columns), "column")

    @property
    def width(self) -> int:
        """The number of encoded columns D: numbers, then an indicator for each category, then one
        for each column that was seen missing. Of arrays the numbers of a row."""
        if self.inputs is not None:
            return math.prod(self.inputs.shape)
        return len(self.numeric) + sum(len(c.categories) + c.missing for c in self.columns)

    @property
    def numeric(self) -> tuple[int, ...]:
        """Positions of the columns that are encoded as one number: numbers, booleans, dates."""
        return tuple(i for i, column in enumerate(self.columns) if column.kind != "category")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` restores the same schema."""
        content = _SCHEMA.dump_python(self, mode="json", exclude_none=True)
        return {"version": SCHEMA_VERSION, **content}

    @staticmethod
    def from_dict(content: Mapping[str, Any]) -> "Schema":
        """The schema that `to_dict` gave. Raises ValueError for anything else."""
        if content.get("version") != SCHEMA_VERSION:
            raise ValueError(
                f"the schema's version must be {SCHEMA_VERSION}; got {content.get('version')!r}"
            )
        return _SCHEMA.validate_python(content)


_SCHEMA = TypeAdapter(Schema)


def check_columns(
    table: pa.Table, target: str, drop: Sequence[str] = (), others: Mapping[str, str] = {}
) -> None:
    """Whether the table has the columns that the configuration names: `others` by their keys.
    Raises UserError: names each that it has not, and the nearest that it has; a dropped target."""
    problems = [
        f"{key} must name columns of the table; got {name!r}"
        f"{did_you_mean(name, table.column_names)}"
        for key, name in [*(("data.drop", name) for name in drop), *others.items()]
        if name not in table.column_names
    ]
    if target in drop:
        problems.append(f"data.drop must not name the target; got {target!r}")
    refuse([*problems, *missing_columns(table.column_names, [target])])


def infer_labels(
    table: pa.Table, target: str, positive: Label | None = None, rows: NameRows = row_numbers
) -> tuple[Label, ...]:
    """The labels in the order of their class ids: ascending, strings alphabetically.

    Of two labels, `positive` is moved to the end. `rows` names rows in messages.

    Raises UserError: no such column, a row without a label, a label that is no text, whole number
    or boolean, a single label, `positive` not among the labels or not one of two."""
    check_columns(table, target)
    column = label_values(table.column(target), target, rows)
    return ordered_labels(pc.unique(column).to_pylist(), f"column {target!r}", positive)


def ordered_labels(
    found: Iterable[Label], place: str, positive: Label | None = None
) -> tuple[Label, ...]:
    """The distinct labels of `place` in the order of their class ids, as `infer_labels` has it.
    Raises UserError: too few or too many, `positive` not among them or not one of two."""
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


def infer_columns(
    table: pa.Table, target: str, drop: Sequence[str] = (), training: np.ndarray | None = None
) -> tuple[tuple[Column, ...], dict[str, str]]:
    """The columns that inform, as the `training` rows (bool [rows]; None: all) show them, one at a
    time, so that no second table is held; and for each other but `target` and `drop` the reason
    against it. Raises UserError: no column informs."""
    mask = None if training is None else pa.array(training)
    columns: list[Column] = []
    left_out: dict[str, str] = {}
    for name in table.column_names:
        if name == target or name in drop:
            continue
        content = table.column(name)
        column = _infer(name, content if mask is None else content.filter(mask))
        if isinstance(column, Column):
            columns.append(column)
        else:
            left_out[name] = column
    if not columns:
        reasons = "; ".join(f"{name!r}: {reason}" for name, reason in left_out.items())
        raise UserError(
            f"the table must have a column that informs about {target!r}; got "
            f"{reasons or 'none besides the label and the dropped columns'}"
        )
    return tuple(columns), left_out


def _infer(name: str, content: Any) -> Column | str:
    """The column as the training rows show it, or the reason to leave it out."""
    if name == "":
        return "it has no name"
    if re.fullmatch(r"__index_level_\d+__", name):
        return "it is the index of the data frame that wrote the file"
    content = values.plain(content)
    if content.null_count == len(content):
        return "it is missing in every training row"
    if pa.types.is_string(content.type):
        return _infer_text(name, content)
    kind = values.kind_of_type(content.type)
    if kind is None:
        return f"values of type {content.type} are not supported"
    return _informing(name, kind, content)


def _infer_text(name: str, content: Any) -> Column | str:
    counted = pc.value_counts(content.drop_null())
    distinct, counts = pa.chunked_array([counted.field("values")]), counted.field("counts")
    present = len(content) - content.null_count
    if kind := values.kind_of_texts(distinct):
        return _informing(name, kind, content)
    if len(distinct) == 1 and present == len(content):
        return f"it is {distinct[0].as_py()!r} in every training row"
    if 1 < len(distinct) == present:
        return f"it is a distinct string in every training row{_nearly_numbers(distinct)}"
    if len(distinct) > MAX_CATEGORIES:
        order = pc.sort_indices(
            pa.table({"value": distinct, "count": counts}),
            sort_keys=[("count", "descending"), ("value", "ascending")],
        )
        distinct = distinct.take(order[:MAX_CATEGORIES])
    categories = tuple(sorted(distinct.to_pylist()))
    return Column(name, "category", categories, missing=present < len(content))


def _nearly_numbers(distinct: Any) -> str:
    for looked_at in (distinct[:100], distinct):  # the first tell it of most
        strange = np.flatnonzero(np.isnan(values.as_kind(looked_at, "number")))
        if 2 * len(strange) >= len(looked_at):
            return ""
    return f"; most are numbers, but not {distinct[int(strange[0])].as_py()!r}"


def _informing(name: str, kind: values.Kind, content: Any) -> Column | str:
    """The column, unless all its values are missing or one and the same."""
    raw = values.as_kind(content, kind)
    absent = int(np.isnan(raw).sum())
    if absent == len(raw):
        return "it is missing in every training row"
    if absent == 0 and raw.min() == raw.max():
        return f"it is {content[0].as_py()} in every training row"
    return Column(name, kind, (), absent > 0)


def label_values(column: Any, target: str, rows: NameRows = row_numbers) -> Any:
    """The labels of a column as text, int64, float64 or booleans. Raises UserError: a row without a
    label, a label that is no text, whole number or boolean."""
    try:
        column = values.plain(column)
        kind = column.type
        if pa.types.is_integer(kind):
            column = pc.cast(column, pa.int64())
        elif pa.types.is_floating(kind) or pa.types.is_decimal(kind):
            numbers = values.as_kind(column, "number")
            fractions = np.flatnonzero(np.isfinite(numbers) & (numbers != np.floor(numbers)))
            if len(fractions):
                first = float(numbers[fractions[0]])
                raise _no_label(target, f"{first!r} in {rows(fractions[:1])}")
            column = pa.array(numbers, from_pandas=True)
        elif not (pa.types.is_boolean(kind) or pa.types.is_null(kind) or pa.types.is_string(kind)):
            raise _no_label(target, kind)
    except pa.ArrowInvalid:  # 2**63 and more
        raise _no_label(target, column.type) from None
    unlabelled = np.flatnonzero(~np.asarray(column.is_valid()))
    if len(unlabelled):
        raise UserError(
            f"every row must have a label; column {target!r} has none in {rows(unlabelled)} "
            f"({len(unlabelled):,} of {len(column):,} rows)"
        )
    return column


def _no_label(target: str, content: Any) -> UserError:
    return UserError(
        "labels must be text, booleans or whole numbers less than 2**63; "
        f"column {target!r} holds {content}"
    )


def _same(label: Label, positive: Label) -> bool:
    if isinstance(label, bool) != isinstance(positive, bool):
        return str(label).lower() == str(positive).lower()
    return label == positive or str(label) == str(positive)


def missing_columns(
    names: Sequence[str], required: Iterable[str], table: str = "the table", why: str = ""
) -> list[str]:
    """A problem for each required column that is none of the names, with the nearest of these."""
    return [
        f"{table} must have a column {name!r}{why}"
        f"{did_you_mean(name, names) or f'; columns: {some(names)}'}"
        for name in required
        if name not in names
    ]
