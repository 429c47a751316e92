"""Tables of any length: read and written in blocks of rows, in constant memory."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from pipeline.common.errors import refuse
from pipeline.common.files import whole
from pipeline.common.text import shorten
from pipeline.data.schema import missing_columns
from pipeline.data.sources import is_parquet, opened
from pipeline.data.text_files import delimiter_of, explained, is_packed

_BLOCK_BYTES = 1 << 22  # of text; a longer row cannot be read
_BLOCK_ROWS = 65_536
_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True)
class Block:
    """Some rows of a table, and how far the reading is.

    table: the columns that were asked for. Those of text files are all `string`, as they stand.
    numbers: int64 [rows], each row's number in the table, from 1.
    malformed: number and content of the rows of a text file that have more or fewer values than
        the header; they are in no table.
    done: the part of the file that has been read, in [0, 1]."""

    table: pa.Table
    numbers: npt.NDArray[np.int64]
    malformed: Sequence[tuple[int, str]]
    done: float


@contextmanager
def reading(source: str, columns: Sequence[str]) -> Iterator[Iterator[Block]]:
    """The blocks of a table: a path, a URL or sklearn:NAME, as `sources.opened` takes them. Raises
    UserError: no such table; columns that it lacks, or that stand twice in its header. While the
    blocks are read: a file that is damaged."""
    with opened(source) as table:
        place = table.place
        with explained(source):
            names = _column_names(place)
        problems = missing_columns(names, columns) + [
            f"column {name!r} stands {names.count(name)} times in the header"
            for name in columns
            if names.count(name) > 1
        ]
        refuse([f"{source}: {problem}" for problem in problems])
        yield _blocks(source, place, list(columns))


def _column_names(place: Path | pa.Table) -> list[str]:
    if not isinstance(place, Path):
        return list(place.column_names)
    if is_parquet(place.name):
        return list(pa.parquet.read_schema(place).names)
    with _open_csv(place, lambda _: "skip") as (reader, _):
        return list(reader.schema.names)


def _blocks(source: str, place: Path | pa.Table, columns: list[str]) -> Iterator[Block]:
    with explained(source):
        if not isinstance(place, Path):
            yield Block(place.select(columns), np.arange(1, len(place) + 1), (), 1.0)
        elif is_parquet(place.name):
            yield from _parquet_blocks(place, columns)
        else:
            yield from _text_blocks(place, columns)


def _parquet_blocks(path: Path, columns: list[str]) -> Iterator[Block]:
    # Read through a buffer of its own per column: else whole columns of a row group, and all row
    # groups that were read before, are held.
    with pa.parquet.ParquetFile(path, buffer_size=_BUFFER_BYTES, pre_buffer=False) as file:
        total, start = file.metadata.num_rows, 1
        for batch in file.iter_batches(_BLOCK_ROWS, columns=columns, use_threads=False):
            end = start + len(batch)
            table = pa.Table.from_batches([batch]).select(columns)
            table.validate(full=True)
            yield Block(table, np.arange(start, end), (), (end - 1) / max(total, 1))
            start = end


def _text_blocks(path: Path, columns: list[str]) -> Iterator[Block]:
    malformed: list[tuple[int, str]] = []  # of those read but not yet given, in order

    def set_aside(row: Any) -> str:
        reason = f"expected {row.expected_columns} values, got {row.actual_columns}"
        # The header is row 1 to pyarrow.
        malformed.append((row.number - 1, f"{reason}: {shorten(row.text, 200)!r}"))
        return "skip"

    convert = pa.csv.ConvertOptions(
        column_types={name: pa.string() for name in columns},
        include_columns=columns,
        strings_can_be_null=False,
    )
    size = max(path.stat().st_size, 1)
    with _open_csv(path, set_aside, convert) as (reader, file):
        start = 1
        for batch in reader:
            numbers = np.arange(start, start + len(batch) + len(malformed))
            numbers = numbers[~np.isin(numbers, [number for number, _ in malformed])][: len(batch)]
            start = int(numbers[-1]) + 1 if len(numbers) else start
            before = [row for row in malformed if row[0] < start]
            del malformed[: len(before)]
            table = pa.Table.from_batches([batch])
            yield Block(table, numbers, before, min(file.tell() / size, 1.0))
        if malformed:
            yield Block(reader.schema.empty_table(), np.arange(0), malformed, 1.0)


@contextmanager
def _open_csv(
    path: Path, handler: Callable[[Any], str], convert: Any = None
) -> Iterator[tuple[Any, Any]]:
    """pyarrow's reader of a text in blocks, whose handler is told of malformed rows; and the file
    itself, which tells how far it has been read."""
    parse = pa.csv.ParseOptions(
        delimiter=delimiter_of(path.name), newlines_in_values=True, invalid_row_handler=handler
    )
    options = pa.csv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES)
    with pa.OSFile(str(path), "rb") as file:
        stream = pa.CompressedInputStream(file, "gzip") if is_packed(path.name) else file
        with pa.csv.open_csv(stream, options, parse, convert) as reader:
            yield reader, file


@contextmanager
def writing(path: Path) -> Iterator[Callable[[pa.Table], None]]:
    """Gives what writes a table block by block, as the ending of `path` says: one of `ENDINGS`.

    The file gets its name when the `with` block ends well; nothing stays of one that does not. The
    first table makes it, so a table without rows makes a file with a header and no rows."""
    with whole(path) as temporary, ExitStack() as stack:
        writers: list[Any] = []

        def write(table: pa.Table) -> None:
            if not writers:
                writers.append(_writer(stack, temporary, path.name, table.schema))
            writers[0].write_table(table)

        yield write


def _writer(stack: ExitStack, path: Path, name: str, schema: pa.Schema) -> Any:
    """pyarrow's writer for a file of this name; `stack` closes it."""
    if is_parquet(name):
        return stack.enter_context(pa.parquet.ParquetWriter(path, schema))
    stream = stack.enter_context(pa.OSFile(str(path), "wb"))
    if is_packed(name):
        stream = stack.enter_context(pa.CompressedOutputStream(stream, "gzip"))
    options = pa.csv.WriteOptions(delimiter=delimiter_of(name), quoting_style="needed")
    return stack.enter_context(pa.csv.CSVWriter(stream, schema, write_options=options))
