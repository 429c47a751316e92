"""Tables: read, checked, divided into training and test rows, written and read again."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from pipeline.common.errors import UserError, naming, refuse
from pipeline.data.encoding import check_readable, label_ids, to_raw
from pipeline.data.schema import Schema, check_columns, infer_columns, infer_labels, missing_columns
from pipeline.data.sources import Source
from pipeline.data.splits import Division, Subset, check_splits, holdout

if TYPE_CHECKING:
    from pipeline.config import Config

_ROWS_AT_ONCE = 65_536


def divided(config: "Config", source: Source, test: Source | None) -> Division:
    """Read, check and divide the rows; without a `test` file, test rows are drawn.

    A test file teaches nothing: it is read as the schema of the training rows says."""
    data = config.data
    if data.target is None:
        raise UserError(f"data.target: must be given, the label column of {source.name}")
    table = source.table()
    with naming(source.name):
        check_columns(table, data.target, data.drop)
        labels = infer_labels(table, data.target, data.positive, source.rows)
        y = label_ids(table, Schema((), data.target, labels))
        training = np.ones(len(y), dtype=bool)
        if test is None:
            training[holdout(y, float(data.test), config.seed, labels)[1]] = False
        check_splits(config, np.bincount(y[training]).tolist(), labels)
        columns, left_out = infer_columns(table, data.target, data.drop, training)
    schema = Schema(columns, data.target, labels)
    table = _used(table, schema)
    train = _subset(table, y, training)
    if test is None:
        return Division(schema, train, _subset(table, y, ~training), left_out)
    table, y = _read_test(test, source, schema)
    return Division(schema, train, _subset(table, y, np.ones(len(y), dtype=bool)), left_out)


def _subset(table: pa.Table, y: np.ndarray, mask: np.ndarray) -> Subset:
    return Subset(y[mask], partial(_write, table=table, mask=mask))


def _read_test(test: Source, source: Source, schema: Schema) -> tuple[pa.Table, np.ndarray]:
    """The rows of a test file and their class ids."""
    text = [column.name for column in schema.columns if column.kind == "category"]
    if isinstance(schema.labels[0], str):
        text.append(schema.target)
    table = test.table(text)
    with naming(test.name):
        why = f" as {source.name} has"
        refuse(missing_columns(table.column_names, schema.names, "the test rows", why))
        check_readable(table, schema)
        return _used(table, schema), label_ids(table, schema, test.rows)


def _used(table: pa.Table, schema: Schema) -> pa.Table:
    """The columns that inform and the target; one dictionary per column, as the format asks."""
    return table.select(schema.names).unify_dictionaries()


def _write(path: Path, table: pa.Table, mask: np.ndarray) -> None:
    """Block by block, so that a subset is never held beside the whole table."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        for start in range(0, table.num_rows, _ROWS_AT_ONCE):
            block = table.slice(start, _ROWS_AT_ONCE)
            block = block.filter(pa.array(mask[start : start + _ROWS_AT_ONCE]))
            if block.num_rows:
                writer.write_table(block.combine_chunks())


def load(path: Path, schema: Schema, total: int) -> tuple[np.ndarray, np.ndarray, pa.Table]:
    """Raw values [N, F] float64, class ids [N] int64 and the table, mapped from the file.

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
    assert start == total
    return raw, y, pa.ipc.open_file(pa.memory_map(str(path))).read_all()
