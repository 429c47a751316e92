"""Tables: read, checked, divided into training and test rows, written and read again."""

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa

from pipeline.common.errors import UserError, collecting, naming, refuse
from pipeline.common.text import percent, some
from pipeline.data import values
from pipeline.data.dependence import GROUPS, INDEPENDENT, ORDER, Dependence, DependenceReader
from pipeline.data.encoding import Misfits, misfits, to_raw
from pipeline.data.labels import (
    LabelColumn,
    NameRows,
    ids_of,
    labels_of,
    ordered_labels,
    read_labels,
    unlabelled,
)
from pipeline.data.schema import (
    ColumnRules,
    Label,
    Schema,
    check_columns,
    infer_columns,
    missing_columns,
)
from pipeline.data.sources import Source
from pipeline.data.splits import Division, Subset, check_splits, holdout, rare_labels
from pipeline.data.suspicions import suspicions

if TYPE_CHECKING:
    from pipeline.config import Config

_ROWS_AT_ONCE = 65_536


def divided(config: "Config", source: Source, test: Source | None) -> Division:
    """Read, check and divide the rows; without a `test` file, test rows are drawn.

    A test file teaches nothing: it is read as the schema of the training rows says."""
    data, target = config.data, config.data.target
    if target is None:
        raise UserError(f"data.target: must be given, the label column of {source.name}")
    marks = tuple(map(str, data.missing))
    rules = ColumnRules(data.categorical, data.dates, marks, data.max_categories)
    reader = DependenceReader(config.validation, rules)
    rows = _labelled(config, source, target, reader, test is None)
    told, labels, warnings = reader.told.values(), rows.labels, rows.warnings
    with naming(source.name):
        if data.duplicates == "drop":
            flat = [f.name for f in rows.table.schema if not pa.types.is_nested(f.type)]
            used = rows.table.select([name for name in flat if name not in data.drop])
            stays = np.asarray(~_digests(used.to_pandas()).duplicated())
            warnings += _left_out(stays, "copies of others", "data.duplicates")
            rows = rows.take(stays)
        table, y, dependence = rows.table, rows.y, rows.dependence
        training = np.ones(len(y), dtype=bool)
        if test is None:
            training[holdout(y, float(data.test), config.seed, labels, dependence)[1]] = False
        check_splits(config, y[training], labels, dependence.take(training))
        no_input = [*data.drop, *told]
        columns, left_out, doubts = infer_columns(table, target, no_input, training, rules)
    schema = Schema(columns, target, labels)
    warnings += doubts + [_counted(misfit) for misfit in misfits(table, schema)]
    train = _subset(table, schema, y, dependence, training)
    no_input = [*data.drop, *left_out]
    look = partial(suspicions, table, target, y, labels, training, told, no_input)
    notes = source.notes()
    if test is None:
        warnings += look()
        tested = _subset(table, schema, y, dependence, ~training)
        return Division(schema, train, tested, left_out, warnings, notes)
    of_test = _read_test(config, test, source.name, schema, reader)
    warnings += of_test.warnings
    stays = np.ones(len(of_test.y), dtype=bool)
    if data.duplicates == "drop":  # as a model sees the rows: files write one value differently
        digests, known = (
            _digests(pd.DataFrame(np.column_stack([to_raw(each.table, schema), each.y])))
            for each in (of_test, rows)
        )
        stays = np.asarray(~digests.isin(known))
        warnings += _left_out(stays, f"copies of rows of {source.name}", "data.duplicates")
        if not stays.any():
            raise UserError(f"{test.name}: every row stands in {source.name} too")
    warnings += _mixed(dependence, of_test.dependence.take(stays))
    warnings += look(of_test.table.filter(pa.array(stays)))
    tested = _subset(of_test.table, schema, of_test.y, of_test.dependence, stays)
    return Division(schema, train, tested, left_out, warnings, notes)


@dataclass(frozen=True)
class _Rows:
    """N labelled rows: y int64 [N]."""

    table: pa.Table
    labels: tuple[Label, ...]
    y: np.ndarray
    dependence: Dependence
    warnings: list[str] = field(default_factory=list)

    def take(self, stays: np.ndarray) -> "_Rows":
        """Those of a mask."""
        kept = self.table.filter(pa.array(stays)), self.labels, self.y[stays]
        return _Rows(*kept, self.dependence.take(stays), self.warnings)


def _labelled(
    config: "Config", source: Source, target: str, reader: DependenceReader, is_divided: bool
) -> _Rows:
    """The rows of the source that have a label, each label in rows enough. All problems of the
    label column are told at once."""
    data, rules, problems = config.data, reader.rules, list[str]()
    named = [*reader.told.items(), *rules.named]
    as_text = [target, *(name for _, name in named)]
    table = source.table([*as_text, *data.drop], as_text)
    with naming(source.name):
        check_columns(table, target, data.drop, named)
        table, column, rows, warnings = _with_label(config, source, table, target, problems)
        with collecting(problems):
            labels = labels_of(column, target, data.positive)
            y, _ = ids_of(column, Schema((), target, labels), rows)
            found = _Rows(table, labels, y, reader.read(table, rows), warnings)
            rare = rare_labels(config, y, found.dependence, is_divided)
            if len(rare) and data.rare_labels == "drop":
                stays = ~np.isin(y, rare)
                few_rows = f"of labels with too few rows ({some([labels[i] for i in rare])})"
                warnings += _left_out(stays, few_rows, "data.rare_labels")
                labels = tuple(label for i, label in enumerate(labels) if i not in rare)
                ordered_labels(labels, f"column {target!r} without rare labels")
                y = np.searchsorted(np.setdiff1d(np.arange(len(found.labels)), rare), y[stays])
                found = replace(found.take(stays), labels=labels, y=y)
            elif problems:  # else the split says it
                check_splits(config, y, labels, found.dependence)
        refuse(problems)
    return found


def _with_label(
    config: "Config", source: Source, table: pa.Table, target: str, problems: list[str]
) -> tuple[pa.Table, LabelColumn, NameRows, list[str]]:
    """The rows that have a label, their labels, what names them, and warnings. That all rows must
    have one is added to the problems."""
    warnings = source.warnings()
    column = read_labels(
        table.column(target), target, source.rows, tuple(map(str, config.data.missing))
    )
    has_label = np.asarray(column.values.is_valid())
    if config.data.unlabelled == "error":
        with collecting(problems):
            unlabelled(column, target, source.rows)
    warnings += [*column.warnings, *_left_out(has_label, "without a label", "data.unlabelled")]
    place = np.flatnonzero(has_label)
    if len(place) < len(has_label):
        table, column = table.filter(pa.array(has_label)), column.take(place)
    return table, column, lambda index: source.rows(place[np.asarray(index)]), warnings


def _read_test(
    config: "Config", test: Source, source: str, schema: Schema, reader: DependenceReader
) -> _Rows:
    """The rows of a test file, read as the training rows were."""
    told, target = reader.told.values(), schema.target
    text = [column.name for column in schema.columns if column.kind in ("category", "date")]
    needed = [*schema.names, *told]
    table = test.table(needed, [*text, target, *told])
    with naming(test.name):
        lacking = missing_columns(table.column_names, needed, "the test rows", f" as {source} has")
        if target not in table.column_names:
            lacking[-1] += "; to score rows without labels, use predict"
        refuse(lacking)
        problems = list[str]()
        table, column, rows, warnings = _with_label(config, test, table, target, problems)
        refuse(problems)
        y, other_case = ids_of(column, schema, rows)
        decimal = (table.schema.metadata or {}).get(b"decimal", b"").decode()
        strange = misfits(table, schema, decimal)
        refuse(
            [
                f"{misfit}, in {rows(misfit.rows)} ({percent(len(misfit.rows) / len(y))}); at most "
                f"1 % may be written otherwise than in {source}"
                for misfit in strange
                if len(misfit.rows) > max(1, 0.01 * len(y))
            ]
        )
        warnings += [*other_case, *(f"{test.name}: {_counted(misfit)}" for misfit in strange)]
        dependence = reader.read(table, rows)
        table = _with_numbers(table, schema, decimal)
        return _Rows(table, schema.labels, y, dependence, warnings)


def _with_numbers(table: pa.Table, schema: Schema, decimal: str) -> pa.Table:
    """With numbers for text that its own file's decimal sign, where it is known, makes numbers."""
    for column in schema.columns if decimal else ():
        content = table.column(column.name)
        if column.kind == "number" and values.is_text(content.type):
            raw = values.as_kind(content, {**column.like, "decimal": decimal})
            place = table.column_names.index(column.name)
            table = table.set_column(place, column.name, pa.array(raw, from_pandas=True))
    return table


def _counted(misfit: Misfits) -> str:
    """Values that count as missing, and what to set if that is not meant."""
    name = misfit.column.name
    ways = {"number": f"data.categorical: [{name}]", "date": f"data.dates: {{{name}: FORM}}"}
    other = f", or {ways[misfit.column.kind]} if not" if misfit.column.kind in ways else ""
    verb = "counts" if len(misfit.rows) == 1 else "count"
    missing = f"set data.missing: [{misfit.examples[0]}] if that is right"
    return f"{misfit} and {verb} as missing; {missing}{other}"


def _digests(rows: pd.DataFrame) -> pd.Series:
    """The same for rows of the same values, uint64 [N]."""
    return pd.util.hash_pandas_object(rows, index=False)


def _left_out(stays: np.ndarray, what: str, key: str) -> list[str]:
    count, rows = int((~stays).sum()), len(stays)
    left_out = f"{count:,} of {rows:,} rows are {what} and are left out ({key}: drop)"
    return [left_out] if count else []


def _mixed(training: Dependence, test: Dependence) -> list[str]:
    """What is wrong with test rows of a file of their own."""
    column = training.column
    if training.groups is not None and test.groups is not None:
        shared = len(np.intersect1d(training.groups, test.groups))
        text = (
            f"{shared:,} of the {test.count:,} groups ({column!r}) of the test file stand among "
            "the training rows too: the test score holds for known groups"
        )
        return [text] if shared else []
    if training.order is not None and test.order is not None:
        early = int((test.order <= training.order.max()).sum())
        text = (
            f"{early:,} of the {len(test.order):,} test rows are not later by {column!r} than all "
            "training rows: the test score does not hold for rows to come"
        )
        return [text] if early else []
    return []


def _subset(
    table: pa.Table, schema: Schema, y: np.ndarray, dependence: Dependence, mask: np.ndarray
) -> Subset:
    """The rows of the mask: the columns that inform and the target, with one dictionary per column,
    as the format asks, and the number of their group or their moment as a last column."""
    used = table.select([column.name for column in schema.columns]).unify_dictionaries()
    used = used.append_column(schema.target, pa.array(schema.labels).take(pa.array(y)))
    for key, column in ((GROUPS, dependence.groups), (ORDER, dependence.order)):
        if column is not None:
            used = used.append_column(f"{key} {dependence.column}", pa.array(column))
    write = partial(_write, table=used, mask=mask)
    return Subset(y[mask], write, dependence.take(mask).count)


def _write(path: Path, table: pa.Table, mask: np.ndarray) -> None:
    """Block by block, so that a subset is never held beside the whole table."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        for start in range(0, table.num_rows, _ROWS_AT_ONCE):
            block = table.slice(start, _ROWS_AT_ONCE)
            block = block.filter(pa.array(mask[start : start + _ROWS_AT_ONCE]))
            if block.num_rows:
                writer.write_table(block.combine_chunks())


def load(path: Path, schema: Schema) -> tuple[np.ndarray, pa.Table, Dependence]:
    """Class ids [N] int64, the table, mapped from the file, and what makes its rows depend on each
    other."""
    table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    y, _ = ids_of(LabelColumn(table.column(schema.target)), schema)
    dependence = INDEPENDENT
    if table.num_columns > len(schema.names):
        key, _, column = table.column_names[-1].partition(" ")
        values = table.column(-1).to_numpy()
        groups, order = (values, None) if key == GROUPS else (None, values)
        dependence = Dependence(groups, order, column)
    return y, table.select(range(len(schema.names))), dependence
