"""What the training rows teach about a table's columns: kinds, categories, labels."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.common.errors import UserError, did_you_mean
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
    def classes(self) -> int:
        """The number of labels C."""
        return len(self.labels)

    @property
    def width(self) -> int:
        """The number of encoded columns D."""
        return len(self.encoded_names())

    @property
    def numeric(self) -> tuple[int, ...]:
        """Positions of the columns that are encoded as one number: numbers, booleans, dates."""
        return tuple(i for i, column in enumerate(self.columns) if column.kind != "category")

    def encoded_names(self) -> tuple[str, ...]:
        """Names of the D encoded columns: numbers, then categories, then missing indicators."""
        return (
            *(self.columns[i].name for i in self.numeric),
            *(f"{column.name} = {value}" for column in self.columns for value in column.categories),
            *(f"{column.name} is missing" for column in self.columns if column.missing),
        )

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
            Column(
                name=column["name"],
                kind=column["kind"],
                categories=tuple(column["categories"]),
                missing=column["missing"],
            )
            for column in content["columns"]
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
    if target not in table.column_names:
        problems.append(lacks(table, target))
    if problems:
        raise UserError(problems)


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
    lacking = np.flatnonzero(~np.asarray(column.is_valid()))
    if len(lacking):
        raise UserError(
            f"every row must have a label; column {target!r} has none in {rows(lacking)} "
            f"({len(lacking):,} of {table.num_rows:,} rows)"
        )
    labels: list[Label] = sorted(pc.unique(column).to_pylist())
    if len(labels) < 2:
        found = f"{labels[0]!r} in every row" if labels else "no rows"
        raise UserError(f"column {target!r} must hold two labels or more; got {found}")
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


def infer_schema(
    table: pa.Table,
    target: str,
    positive: Label | None = None,
    drop: Sequence[str] = (),
    training: np.ndarray | None = None,
    rows: NameRows = row_numbers,
) -> tuple[Schema, dict[str, str]]:
    """Kinds, categories and missing indicators from the training rows.

    Args:
        table: the table; all its rows give the labels.
        target, positive: see `infer_labels`.
        drop: columns to leave out.
        training: bool [rows], the rows to learn from; None = all. Columns are looked at one at a
            time, so that no second table is held.
        rows: names rows in messages.

    Returns:
        The schema, and for each column that cannot inform the reason why it is left out.

    Raises:
        UserError: see `infer_labels`; a dropped column that is not there or is the target; no
            column left.
    """
    check_columns(table, target, drop)
    labels = infer_labels(table, target, positive, rows)
    mask = None if training is None else pa.array(training)
    columns: list[Column] = []
    left_out: dict[str, str] = {}
    for name in table.column_names:
        if name == target or name in drop:
            continue
        column = table.column(name)
        found = _infer(name, column if mask is None else column.filter(mask))
        if isinstance(found, Column):
            columns.append(found)
        else:
            left_out[name] = found
    if not columns:
        reasons = "; ".join(f"{name!r}: {reason}" for name, reason in left_out.items())
        raise UserError(
            f"the table must have a column that informs about {target!r}; got "
            f"{reasons or 'none besides the label and the dropped columns'}"
        )
    return Schema(tuple(columns), target, labels), left_out


def _infer(name: str, column: Any) -> Column | str:
    """The column as the training rows show it, or the reason to leave it out."""
    if name == "":
        return "it has no name"
    if re.fullmatch(r"__index_level_\d+__", name):
        return "it is the index of the data frame that wrote the file"
    try:
        column = values.plain(column)
    except pa.ArrowException:
        return f"values of type {column.type} are not supported"
    kind = _kind(column.type)
    if pa.types.is_string(column.type):
        return _infer_text(name, column)
    if pa.types.is_null(column.type):
        return "it is missing in every training row"
    if kind is None:
        return f"values of type {column.type} are not supported"
    return _checked(Column(name, kind), column)


def _kind(kind: Any) -> Kind | None:
    types = pa.types
    if types.is_boolean(kind):
        return "boolean"
    if types.is_date(kind) or types.is_timestamp(kind):
        return "date"
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return "number"
    if types.is_time(kind) or types.is_duration(kind):
        return "number"
    return None


def _infer_text(name: str, column: Any) -> Column | str:
    column = values.text(column)
    counted = pc.value_counts(column.drop_null())
    distinct, counts = counted.field("values"), counted.field("counts")
    if len(distinct) == 0:
        return "it is missing in every training row"
    missing = column.null_count > 0
    if values.reads_as_numbers(distinct):
        return _checked(Column(name, "number"), column)
    if values.reads_as_dates(distinct):
        return _checked(Column(name, "date"), column)
    if len(distinct) == 1 and not missing:
        return f"it is {distinct[0].as_py()!r} in every training row"
    if values.reads_as_booleans(distinct):
        return _checked(Column(name, "boolean"), column)
    if len(distinct) == len(column) - column.null_count and len(distinct) > 1:
        return f"it is a distinct string in every training row{_nearly_numbers(distinct)}"
    if len(distinct) > MAX_CATEGORIES:
        order = pc.sort_indices(
            pa.table({"value": distinct, "count": counts}),
            sort_keys=[("count", "descending"), ("value", "ascending")],
        )
        distinct = distinct.take(order[:MAX_CATEGORIES])
    return Column(name, "category", tuple(sorted(distinct.to_pylist())), missing)


def _nearly_numbers(distinct: Any) -> str:
    strange = np.flatnonzero(np.isnan(values.parse_numbers(distinct)))
    if 2 * len(strange) >= len(distinct):
        return ""
    return f"; most are numbers, but not {distinct[int(strange[0])].as_py()!r}"


def _checked(column: Column, given: Any) -> Column | str:
    found = values.as_kind(given, column.kind, column.categories)
    absent = int(np.isnan(found).sum())
    if absent == len(found):
        return "it is missing in every training row"
    if absent == 0 and found.min() == found.max():
        return f"it is {given[0].as_py()} in every training row"
    return Column(column.name, column.kind, (), absent > 0)


def _label_values(column: Any, target: str, rows: NameRows) -> Any:
    """The labels as text, int64, float64 or booleans; null where missing."""
    try:
        column = values.plain(column)
    except pa.ArrowException:
        raise UserError(_no_label(target, column.type)) from None
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
        found = values.numbers(column)
        broken = np.flatnonzero(np.isfinite(found) & (found != np.floor(found)))
        if len(broken):
            raise UserError(
                f"labels must be text, booleans or whole numbers; column {target!r} holds "
                f"{float(found[broken[0]])!r} in {rows(broken[:1])}"
            )
        return pa.array(found, from_pandas=True)
    raise UserError(_no_label(target, kind))


def _no_label(target: str, kind: Any) -> str:
    return f"labels must be text, booleans or whole numbers; column {target!r} holds {kind}"


def _same(label: Label, given: Label) -> bool:
    if isinstance(label, bool) != isinstance(given, bool):
        return str(label).lower() == str(given).lower()
    return label == given or str(label) == str(given)


def lacks(table: pa.Table, name: str) -> str:
    """The problem that a table has no such column, with the nearest that it has."""
    hint = did_you_mean(name, table.column_names) or f"; columns: {some(table.column_names)}"
    return f"the table must have a column {name!r}{hint}"


def some(found: Sequence[Any], shown: int = 8) -> str:
    """The first few of some values, and how many more there are."""
    rest = f" and {len(found) - shown:,} more" if len(found) > shown else ""
    return ", ".join(repr(value) for value in found[:shown]) + rest
