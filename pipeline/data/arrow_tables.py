"""Tables: read, checked, divided into training and test rows, written and read again."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa

from pipeline.common.errors import UserError, naming, refuse
from pipeline.data.dependence import GROUPS, INDEPENDENT, ORDER, Dependence, DependenceReader
from pipeline.data.encoding import check_readable, label_ids, to_raw
from pipeline.data.schema import Schema, check_columns, infer_columns, infer_labels, missing_columns
from pipeline.data.sources import Source
from pipeline.data.splits import Division, Subset, check_splits, holdout
from pipeline.data.suspicions import suspicions

if TYPE_CHECKING:
    from pipeline.config import Config

_ROWS_AT_ONCE = 65_536


def divided(config: "Config", source: Source, test: Source | None) -> Division:
    """Read, check and divide the rows; without a `test` file, test rows are drawn.

    A test file teaches nothing: it is read as the schema of the training rows says."""
    data, reader = config.data, DependenceReader(config.validation)
    if data.target is None:
        raise UserError(f"data.target: must be given, the label column of {source.name}")
    table, told, warnings = source.table(), reader.told, list[str]()
    with naming(source.name):
        check_columns(table, data.target, data.drop, told)
        labels = infer_labels(table, data.target, data.positive, source.rows)
        y = label_ids(table, Schema((), data.target, labels))
        dependence = reader.read(table, source.rows)
        if data.duplicates == "drop":
            flat = [f.name for f in table.schema if not pa.types.is_nested(f.type)]
            used = table.select([name for name in flat if name not in data.drop])
            stays = np.asarray(~_digests(used.to_pandas()).duplicated())
            warnings += _left_out(stays, "copies of others")
            table, y, dependence = table.filter(pa.array(stays)), y[stays], dependence.take(stays)
        training = np.ones(len(y), dtype=bool)
        if test is None:
            training[holdout(y, float(data.test), config.seed, labels, dependence)[1]] = False
        check_splits(config, y[training], labels, dependence.take(training))
        no_input = [*data.drop, *told.values()]
        columns, left_out = infer_columns(table, data.target, no_input, training)
    schema = Schema(columns, data.target, labels)
    train = _subset(table, schema, y, dependence, training)
    look = partial(suspicions, table, data.target, y, labels, training, told.values(), data.drop)
    if test is None:
        warnings += look()
        tested = _subset(table, schema, y, dependence, ~training)
        return Division(schema, train, tested, left_out, warnings)
    other = _read_test(test, source.name, table, schema, told)
    with naming(test.name):
        ids, of_test = label_ids(other, schema, test.rows), reader.read(other, test.rows)
    stays = np.ones(len(ids), dtype=bool)
    if data.duplicates == "drop":  # as a model sees the rows: files write one value differently
        digests, known = (
            _digests(pd.DataFrame(np.column_stack([to_raw(rows, schema), of_rows])))
            for rows, of_rows in ((other, ids), (table, y))
        )
        stays = np.asarray(~digests.isin(known))
        warnings += _left_out(stays, f"copies of rows of {source.name}")
        if not stays.any():
            raise UserError(f"{test.name}: every row stands in {source.name} too")
    warnings += _mixed(dependence, of_test.take(stays))
    warnings += look(other.filter(pa.array(stays)))
    tested = _subset(other, schema, ids, of_test, stays)
    return Division(schema, train, tested, left_out, warnings)


def _read_test(
    test: Source, source: str, training: pa.Table, schema: Schema, told: Mapping[str, str]
) -> pa.Table:
    """The rows of a test file, text where the training rows have text."""
    text = [column.name for column in schema.columns if column.kind == "category"]
    others = (schema.target, *told.values())
    text += [name for name in others if pa.types.is_string(training.column(name).type)]
    table = test.table(text)
    with naming(test.name):
        needed = [*schema.names, *told.values()]
        why = f" as {source} has"
        refuse(missing_columns(table.column_names, needed, "the test rows", why))
        check_readable(table, schema)
    return table


def _digests(rows: pd.DataFrame) -> pd.Series:
    """The same for rows of the same values, uint64 [N]."""
    return pd.util.hash_pandas_object(rows, index=False)


def _left_out(stays: np.ndarray, what: str) -> list[str]:
    count, rows = int((~stays).sum()), len(stays)
    left_out = f"{count:,} of {rows:,} rows are {what} and are left out (data.duplicates: drop)"
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
    used = table.select(schema.names).unify_dictionaries()
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


def load(
    path: Path, schema: Schema, total: int
) -> tuple[np.ndarray, np.ndarray, pa.Table, Dependence]:
    """Raw values [N, F] float64, class ids [N] int64, the table, mapped from the file, and what
    makes its rows depend on each other.

    Block by block: beside the result, one block is held at a time."""
    raw = np.empty((total, len(schema.columns)), dtype=np.float64)
    y = np.empty(total, dtype=np.int64)
    start = 0
    with pa.OSFile(str(path)) as file:
        reader = pa.ipc.open_file(file)
        for index in range(reader.num_record_batches):
            block = pa.Table.from_batches([reader.get_batch(index)])
            rows = slice(start, start + block.num_rows)
            raw[rows], y[rows] = to_raw(block, schema), label_ids(block, schema)
            start = rows.stop
    table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    dependence = INDEPENDENT
    if table.num_columns > len(schema.names):
        key, _, column = table.column_names[-1].partition(" ")
        values = table.column(-1).to_numpy()
        groups, order = (values, None) if key == GROUPS else (None, values)
        dependence = Dependence(groups, order, column)
    return raw, y, table.select(range(len(schema.names))), dependence
