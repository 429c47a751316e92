"""What the training rows teach about a table's columns: kinds, categories, labels."""

import json
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import TypeAdapter

from pipeline.common.errors import UserError, did_you_mean, refuse
from pipeline.common.text import count, some
from pipeline.data import values
from pipeline.data.dialect import UNNAMED
from pipeline.data.kinds import Kind

Dtype = Literal["float32", "uint8", "int64"]
Label = str | int | float | bool

SCHEMA_VERSION = 1
MAX_CATEGORIES = 64


@dataclass(frozen=True)
class Column:
    """One column that informs.

    missing: seen missing in the training rows. decimal: the sign in numbers that are text. format:
    of dates that are not ISO 8601, as strptime has it. marks: what stands for missing beside the
    usual marks."""

    name: str
    kind: Kind
    categories: tuple[str, ...] = ()
    missing: bool = False
    decimal: str = "."
    format: str | None = None
    marks: tuple[str, ...] = ()

    @property
    def like(self) -> Mapping[str, Any]:
        """As schema.json has it."""
        return vars(self)


@dataclass(frozen=True)
class ColumnRules:
    """What the configuration says of columns.

    categorical: those that are categories whatever they look like. dates: format by column. marks:
    see `Column`. categories: how many are kept of a column."""

    categorical: Collection[str] = ()
    dates: Mapping[str, str] = field(default_factory=dict)
    marks: tuple[str, ...] = ()
    categories: int = MAX_CATEGORIES

    @property
    def named(self) -> list[tuple[str, str]]:
        """Columns that these rules are for, each with its key; read as they stand."""
        categorical = [("data.categorical", name) for name in self.categorical]
        return [*categorical, *(("data.dates", name) for name in self.dates)]


NO_RULES = ColumnRules()


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
    def positive(self) -> str:
        """Of two labels the one that `probability` is of, for people; else empty."""
        return f"probability is that of {self.labels[1]!r}" if self.classes == 2 else ""

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
        usual = {"decimal": ".", "marks": []}
        for column in content["columns"]:
            for key in [key for key, value in usual.items() if column[key] == value]:
                del column[key]
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
    table: pa.Table, target: str, drop: Sequence[str] = (), others: Iterable[tuple[str, str]] = ()
) -> None:
    """Whether the table has the columns that the configuration names: `others` with their keys.
    Raises UserError: names each that it has not, and the nearest that it has; a dropped target."""
    problems = [
        f"{key} must name columns of the table; got {name!r}"
        f"{did_you_mean(name, table.column_names)}"
        for key, name in [*(("data.drop", name) for name in drop), *others]
        if name not in table.column_names
    ]
    if target in drop:
        problems.append(f"data.drop must not name the target; got {target!r}")
    refuse([*problems, *missing_columns(table.column_names, [target])])


def infer_columns(
    table: pa.Table,
    target: str,
    drop: Sequence[str] = (),
    training: np.ndarray | None = None,
    rules: ColumnRules = NO_RULES,
) -> tuple[tuple[Column, ...], dict[str, str], list[str]]:
    """The columns but `target` and `drop` that inform, for each other one the reason to leave it
    out, and what may be wrong; as the `training` rows (bool [rows]; None: all) show them, one at a
    time, so that no second table is held. Raises UserError: no column informs."""
    mask = None if training is None else pa.array(training)
    metadata = table.schema.metadata or {}
    index = json.loads(metadata.get(b"index", b"[]"))
    decimal = metadata.get(b"decimal", b".").decode()
    columns, left_out, warnings = list[Column](), dict[str, str](), list[str]()
    for name in table.column_names:
        if name == target or name in drop:
            continue
        if name == "" or name.startswith(UNNAMED):
            left_out[name] = "it has no name"
        elif re.fullmatch(r"__index_level_\d+__", name) or name in index:
            left_out[name] = "it is the index of the data frame that wrote the file"
        else:
            content = table.column(name)
            content = content if mask is None else content.filter(mask)
            column = _column(name, content, rules, decimal, warnings)
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
    return tuple(columns), left_out, warnings


def _column(
    name: str, content: Any, rules: ColumnRules, decimal: str, warnings: list[str]
) -> Column | str:
    """The column, or the reason to leave it out; what may be wrong is added to `warnings`."""
    own = values.kind_of_type(content.type)
    content = values.present(content, rules.marks)
    if content.null_count == len(content):
        return "it is missing in every training row"
    if name in rules.dates:
        form = rules.dates[name]
        return _informing(Column(name, "date", format=form, marks=rules.marks), content)
    if name in rules.categorical or own == "category":
        return _categories(name, _as_words(content), rules, warnings, is_declared=True)
    if own is None and not pa.types.is_string(content.type):
        return f"values of type {content.type} are not supported"
    said = values.kind_of(content, name, decimal, rules.marks)
    if said.doubt:
        warnings.append(said.doubt)
    if said.kind == "category":
        return _categories(name, content, rules, warnings)
    sign = decimal if own is not None else said.decimal
    column = Column(name, said.kind, decimal=sign, format=said.format, marks=rules.marks)
    return _informing(column, content)


def _categories(
    name: str, content: Any, rules: ColumnRules, warnings: list[str], is_declared: bool = False
) -> Column | str:
    counted = pc.value_counts(content.drop_null()).to_pylist()
    counts = pd.Series({each["values"]: each["counts"] for each in counted}, dtype=np.int64)
    present, most = len(content) - content.null_count, rules.categories
    if len(counts) == 1 and present == len(content):
        return f"it is {counts.index[0]!r} in every training row"
    if 1 < len(counts) == present:
        return "it is a distinct string in every training row"
    if len(counts) > max(most, 0.9 * present) and not is_declared:
        return f"{len(counts):,} of its {present:,} texts are distinct"
    if len(counts) > most:
        kept = counts.sort_index().sort_values(ascending=False, kind="stable")[:most]
        warnings.append(
            f"column {name!r} has {len(counts):,} categories, of which the {most} most frequent "
            f"are kept: {present - kept.sum():,} of {present:,} rows have others "
            "(data.max_categories)"
        )
        counts = kept
    categories, is_missing = tuple(sorted(counts.index)), present < len(content)
    return Column(name, "category", categories, is_missing, marks=rules.marks)


def _as_words(content: Any) -> Any:
    """Numbers and booleans as the text that stands for them: 3, not 3.0."""
    if pa.types.is_string(content.type):
        return content
    words = pc.cast(content, pa.string())
    return pc.replace_substring_regex(words, r"\.0$", "")


def _informing(column: Column, content: Any) -> Column | str:
    """The column, unless all its values are missing or one and the same."""
    raw = values.as_kind(content, column.like)
    absent = int(np.isnan(raw).sum())
    if absent == len(raw):
        return "it is missing in every training row"
    if absent == 0 and raw.min() == raw.max():
        return f"it is {content[0].as_py()} in every training row"
    return replace(column, missing=absent > 0)


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
