"""Tables of any length: read and written in blocks of rows, in constant memory."""

import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from pipeline.common.errors import UserError, did_you_mean
from pipeline.data import sources as tables
from pipeline.data.text_files import delimiter_of, first_line

OUTPUTS = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")

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
    done: the part of the file that has been read, in [0, 1].
    """

    table: pa.Table
    numbers: npt.NDArray[np.int64]
    malformed: Sequence[tuple[int, str]]
    done: float


@contextmanager
def reading(source: str, columns: Sequence[str]) -> Iterator[Iterator[Block]]:
    """The blocks of a table: a path, a URL or sklearn:NAME, as `tables.opened` takes them.

    Raises:
        UserError: no such table; columns that it lacks, or that stand twice in its header. While
            the blocks are read: a file that is damaged.
    """
    with tables.located(source) as found:
        blocks = _readers(found)
        with _explained(source):
            names, read = blocks(found)
            _check(source, names, columns)
        yield _checked_blocks(source, read(list(columns)))


def _readers(found: Any) -> Callable[[Any], "_Opened"]:
    if not isinstance(found, Path):
        return _open_shipped
    return _open_parquet if tables.is_parquet(found.name) else _open_text


_Opened = tuple[Sequence[str], Callable[[list[str]], Iterator[Block]]]


def _check(source: str, names: Sequence[str], columns: Sequence[str]) -> None:
    problems = [
        f"{source}: the table must have a column {name!r}"
        f"{did_you_mean(name, names) or '; columns: ' + ', '.join(map(repr, names[:20]))}"
        for name in columns
        if name not in names
    ]
    problems += [
        f"{source}: column {name!r} stands {names.count(name)} times in the header"
        for name in columns
        if names.count(name) > 1
    ]
    if problems:
        raise UserError(problems)


def _checked_blocks(source: str, blocks: Iterator[Block]) -> Iterator[Block]:
    with _explained(source):
        yield from blocks


@contextmanager
def _explained(source: str) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        raise UserError(f"{source}: not UTF-8 text; save the file as UTF-8") from error
    except (pa.ArrowException, EOFError, OSError) as error:
        text = first_line(error)
        if "Empty CSV" in text:
            text = "the file is empty"
        elif "invalid UTF8" in text:
            text = "not UTF-8 text; save the file as UTF-8"
        elif "straddling" in text:
            text = f"a row is longer than {_BLOCK_BYTES // 2**20} MiB, or a quote is never closed"
        raise UserError(f"{source}: cannot be read: {text}") from error


def _open_shipped(table: pa.Table) -> _Opened:
    def read(columns: list[str]) -> Iterator[Block]:
        yield Block(table.select(columns), np.arange(1, len(table) + 1), (), 1.0)

    return table.column_names, read


def _open_parquet(path: Path) -> _Opened:
    # Read through a buffer of its own per column: else whole columns of a row group, and all row
    # groups that were read before, are held.
    file = pa.parquet.ParquetFile(path, buffer_size=_BUFFER_BYTES, pre_buffer=False)

    def read(columns: list[str]) -> Iterator[Block]:
        total, start = file.metadata.num_rows, 1
        with file:
            for batch in file.iter_batches(_BLOCK_ROWS, columns=columns, use_threads=False):
                end = start + len(batch)
                table = pa.Table.from_batches([batch]).select(columns)
                yield Block(table, np.arange(start, end), (), (end - 1) / max(total, 1))
                start = end

    return file.schema_arrow.names, read


def _open_text(path: Path) -> _Opened:
    delimiter = delimiter_of(path.name)
    with _bytes_of(path) as (stream, _):
        parse = pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
        parse.invalid_row_handler = lambda _: "skip"
        options = pa.csv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES)
        with pa.csv.open_csv(stream, options, parse) as reader:
            names = reader.schema.names

    def read(columns: list[str]) -> Iterator[Block]:
        malformed = _Malformed()
        parse = pa.csv.ParseOptions(
            delimiter=delimiter, newlines_in_values=True, invalid_row_handler=malformed
        )
        convert = pa.csv.ConvertOptions(
            column_types={name: pa.string() for name in columns},
            include_columns=columns,
            strings_can_be_null=False,
        )
        size = max(path.stat().st_size, 1)
        with (
            _bytes_of(path) as (stream, file),
            pa.csv.open_csv(stream, options, parse, convert) as reader,
        ):
            start = 1
            for batch in reader:
                numbers = malformed.numbers_of(start, len(batch))
                start = int(numbers[-1]) + 1 if len(numbers) else start
                table = pa.Table.from_batches([batch])
                yield Block(table, numbers, malformed.before(start), min(file.tell() / size, 1.0))
            last = malformed.before(None)
            if last:
                yield Block(reader.schema.empty_table(), np.arange(0), last, 1.0)

    return names, read


@contextmanager
def _bytes_of(path: Path) -> Iterator[tuple[Any, Any]]:
    """The text of a file, and the file itself, which tells how far it has been read."""
    with pa.OSFile(str(path), "rb") as file:
        stream = file
        if path.name.lower().endswith(".gz"):
            stream = pa.CompressedInputStream(file, "gzip")
        yield stream, file


@dataclass
class _Malformed:
    """Rows that pyarrow's reader met and could not part into the header's columns, in order."""

    rows: list[tuple[int, str]] = field(default_factory=list)
    _numbers: list[int] = field(default_factory=list)

    def __call__(self, row: Any) -> str:
        number = row.number - 1  # the header is row 1 to it
        self._numbers.append(number)
        text = row.text if len(row.text) <= 200 else row.text[:199] + "…"
        reason = f"expected {row.expected_columns} values, got {row.actual_columns}: {text!r}"
        self.rows.append((number, reason))
        return "skip"

    def numbers_of(self, start: int, count: int) -> npt.NDArray[np.int64]:
        """The numbers of the next `count` good rows, of which none is before `start`."""
        numbers = np.arange(start, start + count + len(self._numbers))
        return numbers[~np.isin(numbers, self._numbers)][:count]

    def before(self, number: int | None) -> list[tuple[int, str]]:
        """Takes out those before a row; all without one."""
        taken = [row for row in self.rows if number is None or row[0] < number]
        self.rows = self.rows[len(taken) :]
        self._numbers = self._numbers[len(taken) :]
        return taken


class Sink:
    """A file that is written in blocks, under a temporary name until it is whole.

    Its ending says how: one of `OUTPUTS`. The file appears with the first block; `finish` gives it
    its name. A block without rows makes a file with a header and no rows.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._temporary = path.with_name(f".{uuid.uuid4().hex[:8]}.{path.name}")
        self._writer: Any = None
        self._close: list[Any] = []

    def write(self, table: pa.Table) -> None:
        if self._writer is None:
            self._writer = self._open(table.schema)
        self._writer.write_table(table)

    def _open(self, schema: pa.Schema) -> Any:
        if tables.is_parquet(self.path.name):
            return pa.parquet.ParquetWriter(self._temporary, schema)
        stream = pa.OSFile(str(self._temporary), "wb")
        self._close = [stream]
        if self.path.name.lower().endswith(".gz"):
            stream = pa.CompressedOutputStream(stream, "gzip")
            self._close.insert(0, stream)
        options = pa.csv.WriteOptions(
            delimiter=delimiter_of(self.path.name), quoting_style="needed"
        )
        return pa.csv.CSVWriter(stream, schema, write_options=options)

    def finish(self) -> None:
        """Close the file, if anything was written, and give it its name."""
        if self._writer is not None:
            self._shut()
            os.replace(self._temporary, self.path)

    def discard(self) -> None:
        """Leave nothing behind of what was written."""
        if self._writer is not None:
            self._shut()
            self._temporary.unlink(missing_ok=True)

    def _shut(self) -> None:
        for one in (self._writer, *self._close):
            one.close()


@contextmanager
def writing(*sinks: Sink) -> Iterator[None]:
    """Finish the sinks when the block ends well, discard them when it does not."""
    try:
        yield
    except BaseException:
        for sink in sinks:
            sink.discard()
        raise
    for sink in sinks:
        sink.finish()
