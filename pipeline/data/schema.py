"""What the training rows teach about a table's columns: kinds, categories, labels."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.common.errors import UserError, did_you_mean, refuse
from pipeline.common.text import some
from pipeline.data import values
from pipeline.data.sources import Index, row_numbers

Kind = Literal["number", "boolean", "date", "category"]
Label = str | int | float | bool
NameRows = Callable[[Index], str]

SCHEMA_VERSION = 1
MAX_CATEGORIES = 64
MAX_LABELS = 1000


@dataclass(frozen=True)
class Column:
    """One column that informs. `missing`: seen missing in the training rows."""

    name: str
    kind: Kind
    categories: tuple[str, ...] = ()
    missing: bool = False


@dataclass(frozen=True)
class Schema:
    """What the training rows taught about the columns; written as schema.json with each model.

    `labels[i]` is the label of class i as it stood in the table; of two labels, `labels[1]` is
    the positive one.
    """

    columns: tuple[Column, ...]
    target: str
    labels: tuple[Label, ...]

    @property
    def names(self) -> list[str]:
        """The columns that inform, and the target."""
        return [*(column.name for column in self.columns), self.target]

    @property
    def classes(self) -> int:
        """The number of labels C."""
        return len(self.labels)

    @property
    def width(self) -> int:
        """The number of encoded columns D: numbers, then an indicator for each category, then one
        for each column that was seen missing."""
        return len(self.numeric) + sum(len(c.categories) + c.missing for c in self.columns)

    @property
    def numeric(self) -> tuple[int, ...]:
        """Positions of the columns that are encoded as one number: numbers, booleans, dates."""
        return tuple(i for i, column in enumerate(self.columns) if column.kind != "category")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` restores the same schema."""
        return {
            "version": SCHEMA_VERSION,
            "target": self.target,
            "labels": list(self.labels),
            "columns": [
                asdict(column) | {"categories": list(column.categories)} for column in self.columns
            ],
        }

    @staticmethod
    def from_dict(content: Mapping[str, Any]) -> "Schema":
        """The schema that `to_dict` gave.

        Raises:
            ValueError: a version or a kind of column that this program does not know.
        """
        if content.get("version") != SCHEMA_VERSION:
            raise ValueError(
                f"the schema's version must be {SCHEMA_VERSION}; got {content.get('version')!r}"
            )
        columns = tuple(
            Column(item["name"], item["kind"], tuple(item["categories"]), item["missing"])
            for item in content["columns"]
        )
        for column in columns:
            if column.kind not in get_args(Kind):
                raise ValueError(f"column {column.name!r} has an unknown kind {column.kind!r}")
        return Schema(columns, content["target"], tuple(content["labels"]))


def check_columns(table: pa.Table, target: str, drop: Sequence[str] = ()) -> None:
    """Whether the table has the columns that the configuration names.

    Raises:
        UserError: names each that it has not, and the nearest that it has; a dropped target.
    """
    problems = [
        f"data.drop must name columns of the table; got {name!r}"
        f"{did_you_mean(name, table.column_names)}"
        for name in drop
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

    Raises:
        UserError: no such column, a row without a label, a label that is no text, whole number or
            boolean, a single label, `positive` not among the labels or not one of two.
    """
    check_columns(table, target)
    column = _label_values(table.column(target), target, rows)
    unlabelled = np.flatnonzero(~np.asarray(column.is_valid()))
    if len(unlabelled):
        raise UserError(
            f"every row must have a label; column {target!r} has none in {rows(unlabelled)} "
            f"({len(unlabelled):,} of {table.num_rows:,} rows)"
        )
    labels: list[Label] = sorted(pc.unique(column).to_pylist())
    if len(labels) < 2:
        content = f"{labels[0]!r} in every row" if labels else "no rows"
        raise UserError(f"column {target!r} must hold two labels or more; got {content}")
    if len(labels) > MAX_LABELS:
        raise UserError(
            f"column {target!r} must hold at most {MAX_LABELS:,} labels; got {len(labels):,}, such "
            f"as {some(labels, 3)}; is it a column of labels?"
        )
    if positive is not None:
        match = next((label for label in labels if _same(label, positive)), None)
        if match is None:
            raise UserError(
                f"data.positive must be a label of column {target!r}; got {positive!r}"
                f"{did_you_mean(str(positive), map(str, labels)) or '; labels: ' + some(labels)}"
            )
        if len(labels) != 2:
            raise UserError(
                f"data.positive must be left out unless there are two labels; "
                f"column {target!r} has {len(labels)}"
            )
        labels.sort(key=lambda label: label == match)
    return tuple(labels)


def infer_columns(
    table: pa.Table, target: str, drop: Sequence[str] = (), training: np.ndarray | None = None
) -> tuple[tuple[Column, ...], dict[str, str]]:
    """Kinds, categories and missing indicators from the training rows.

    Args:
        target, drop: columns to leave out.
        training: bool [rows], the rows to learn from; None = all. Columns are looked at one at a
            time, so that no second table is held.

    Returns:
        The columns that inform, and for each other but `target` and `drop` the reason against it.

    Raises:
        UserError: no column informs.
    """
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
    with suppress(pa.ArrowException):  # a dictionary of lists, say, stays one and has no kind
        content = values.plain(content)
    if pa.types.is_string(content.type):
        return _infer_text(name, content)
    if pa.types.is_null(content.type):
        return "it is missing in every training row"
    kind = _kind(content.type)
    if kind is None:
        return f"values of type {content.type} are not supported"
    return _informing(name, kind, content)


def _kind(dtype: Any) -> Kind | None:
    types = pa.types
    if types.is_boolean(dtype):
        return "boolean"
    if types.is_date(dtype) or types.is_timestamp(dtype):
        return "date"
    if types.is_integer(dtype) or types.is_floating(dtype) or types.is_decimal(dtype):
        return "number"
    return "number" if types.is_time(dtype) or types.is_duration(dtype) else None


def _infer_text(name: str, content: Any) -> Column | str:
    content = values.text(content)
    counted = pc.value_counts(content.drop_null())
    distinct, counts = counted.field("values"), counted.field("counts")
    present = len(content) - content.null_count
    if present == 0:
        return "it is missing in every training row"
    if values.reads_as_numbers(distinct):
        return _informing(name, "number", content)
    if values.reads_as_dates(distinct):
        return _informing(name, "date", content)
    if len(distinct) == 1 and present == len(content):
        return f"it is {distinct[0].as_py()!r} in every training row"
    if values.reads_as_booleans(distinct):
        return _informing(name, "boolean", content)
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
    strange = np.flatnonzero(np.isnan(values.parse_numbers(distinct)))
    if 2 * len(strange) >= len(distinct):
        return ""
    return f"; most are numbers, but not {distinct[int(strange[0])].as_py()!r}"


def _informing(name: str, kind: Kind, content: Any) -> Column | str:
    """The column, unless all its values are missing or one and the same."""
    raw = values.as_kind(content, kind)
    absent = int(np.isnan(raw).sum())
    if absent == len(raw):
        return "it is missing in every training row"
    if absent == 0 and raw.min() == raw.max():
        return f"it is {content[0].as_py()} in every training row"
    return Column(name, kind, (), absent > 0)


def _label_values(column: Any, target: str, rows: NameRows) -> Any:
    """The labels as text, int64, float64 or booleans; null where missing."""
    try:
        column = values.plain(column)
    except pa.ArrowException:
        raise _no_label(target, column.type) from None
    kind = column.type
    if pa.types.is_boolean(kind) or pa.types.is_null(kind):
        return column
    if pa.types.is_string(kind):
        return values.text(column)
    if pa.types.is_integer(kind):
        try:
            return pc.cast(column, pa.int64())
        except pa.ArrowInvalid:
            raise UserError(f"labels of column {target!r} must be less than 2**63") from None
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        numbers = values.numbers(column)
        fractions = np.flatnonzero(np.isfinite(numbers) & (numbers != np.floor(numbers)))
        if len(fractions):
            first = float(numbers[fractions[0]])
            raise _no_label(target, f"{first!r} in {rows(fractions[:1])}")
        return pa.array(numbers, from_pandas=True)
    raise _no_label(target, kind)


def _no_label(target: str, content: Any) -> UserError:
    return UserError(
        f"labels must be text, booleans or whole numbers; column {target!r} holds {content}"
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
