"""Files that hold tables, of every form that is read: whole, or in blocks of rows."""

import json
import lzma
import zipfile
import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.json
import pyarrow.orc
import pyarrow.parquet

from pipeline.common import files
from pipeline.common.errors import UserError, first_line, refuse
from pipeline.data.dialect import NOTHING_TOLD, Dialect, Told
from pipeline.data.given import as_arrow
from pipeline.data.schema import missing_columns
from pipeline.data.text_files import PACKED, SEPARATORS, dialect_of, read_text, text_blocks

TEXTS = tuple(
    end + packed for end in SEPARATORS for packed in PACKED if end + packed != ".xlsx.zip"
)
TYPED = (".parquet", ".feather", ".arrow", ".orc", ".jsonl", ".ndjson")
ENDINGS = (*(ending for ending in TEXTS if not ending.startswith(".xlsx.")), *TYPED)

MOST_COLUMNS = 10_000
"""What the search, its report and MLflow's pages can still hold."""

_UNPACKING = (zipfile.BadZipFile, lzma.LZMAError, zlib.error)
_BLOCK_ROWS = 65_536
_BUFFER_BYTES = 1 << 20
_BEGINNINGS = {
    b"PAR1": ("a Parquet file", (".parquet",)),
    b"ARROW1": ("an Arrow file", (".feather", ".arrow")),
    b"FEA1": ("a Feather file", (".feather", ".arrow")),
    b"ORC": ("an ORC file", (".orc",)),
    b"PK\x03\x04": ("a zip archive, as a workbook is too", (".zip", ".xlsx")),
    b"\x1f\x8b": ("packed by gzip", (".gz",)),
    b"BZh": ("packed by bzip2", (".bz2",)),
    b"\xfd7zXZ": ("packed by xz", (".xz",)),
    b"\x28\xb5\x2f\xfd": ("packed by zstd, which is not read", ()),
    b"\xd0\xcf\x11\xe0": ("an old workbook (.xls), to be saved as .xlsx", ()),
    b"%PDF": ("a PDF", ()),
    b"SQLite format 3": ("a SQLite database", ()),
    b"\x93NUMPY": ("an array of NumPy", ()),
    b"\x89HDF": ("a HDF5 file", ()),
    b"version https://git-lfs": ("a pointer of Git LFS; fetch the file itself: git lfs pull", ()),
    b"<!doctype html": ("a page of HTML", ()),
    b"<html": ("a page of HTML", ()),
    b"<?xml": ("an XML file", ()),
    b'{"': ("JSON", (".jsonl", ".ndjson")),
    b"[{": ("one JSON list; .jsonl has a record on each line", ()),
}
"""How files of other kinds begin, in any case, and the endings that they may have."""


@dataclass(frozen=True)
class Block:
    """Some rows of a table, and how far the reading is.

    table: the columns that were asked for. Those of text files are all `string`, as they stand.
    numbers: int64 [rows], each row's number in the table, from 1.
    malformed: number and content of the rows of a text file that have more or fewer values than
        the header; they are in no table.
    done: the part of the file that has been read, in [0, 1].
    decimal: the decimal sign of a text file, where it is beyond doubt."""

    table: pa.Table
    numbers: npt.NDArray[np.int64]
    malformed: list[tuple[int, str]]
    done: float
    decimal: str | None = None


@contextmanager
def explained(source: str) -> Iterator[None]:
    """Errors of pyarrow, pandas and of files as the user's."""
    try:
        yield
    except (pa.ArrowException, EOFError, OSError, ValueError, *_UNPACKING) as error:
        text = first_line(error)
        if "Empty CSV" in text:
            text = "the file is empty, or its first row is longer than 1 MiB"
        elif "invalid UTF8" in text or isinstance(error, UnicodeDecodeError):
            text = "not text in the encoding that was found; set data.encoding, or save it as UTF-8"
        elif "straddling" in text:
            text = "a row is longer than 1 MiB, or a quote is never closed"
        raise UserError(f"{source}: cannot be read: {text}") from error


def is_text(path: Path) -> bool:
    """Whether a file of this name has lines, a header and text as values."""
    return path.name.lower().endswith(TEXTS)


def is_parquet(name: str) -> bool:
    """Whether a file of this name is read as Parquet."""
    return name.lower().endswith(".parquet")


def check_content(source: str, path: Path) -> None:
    """UserError for a file whose first bytes are those of another kind than its name says."""
    with path.open("rb") as file:
        start = file.read(64).lstrip().lower()
    for beginning, (what, endings) in _BEGINNINGS.items():
        if start.startswith(beginning.lower()) and not path.name.lower().endswith(endings or "?"):
            name = f"; call it {path.stem}{endings[0]}" if endings else ""
            raise UserError(f"{source}: the file is another than its name says: {what}{name}")


def check_memory(source: str, needed: int, what: str = "the table") -> None:
    """UserError unless so many bytes fit into half of the memory: training needs as much."""
    most = files.memory_limit() // 2
    if needed > most:
        raise UserError(
            f"{source}: {what} must fit into half of the memory, {most / 1e9:.1f} GB here; "
            f"it needs {needed / 1e9:.1f} GB or more"
        )


def read_table(
    source: str, path: Path, wanted: Collection[str], told: Told, text: Collection[str]
) -> tuple[pa.Table, Dialect | None]:
    """The rows, of a text file as `read_text` has them, and how that is written.

    The columns of a data frame's index are told by the table's metadata, `index`. Raises UserError:
    unreadable, too large, another content than its name says."""
    with explained(source):
        check_content(source, path)
        if is_text(path):
            dialect = dialect_of(source, path, wanted, told)
            _check_width(source, len(dialect.names))
            check_memory(source, dialect.size)
            return read_text(source, path, dialect, text), dialect
        if is_parquet(path.name):
            # Not read_table: it would add a column for a folder named like 'year=2024'.
            with pa.parquet.ParquetFile(path) as file:
                _check_width(source, file.metadata.num_columns)
                check_memory(source, file.metadata.num_rows * file.metadata.num_columns * 8)
                table = file.read()
        else:
            check_memory(source, path.stat().st_size)
            table = _typed(path)
            _check_width(source, table.num_columns)
        table.validate(full=True)  # text that is no UTF-8 would fail wherever it is first read
        index = json.dumps(_index_of(table))
        return table.replace_schema_metadata({"index": index}), None


def _typed(path: Path) -> pa.Table:
    name = path.name.lower()
    if name.endswith(".orc"):
        return pa.orc.ORCFile(path).read()
    if name.endswith((".jsonl", ".ndjson")):
        with suppress(pa.ArrowInvalid):  # a column of several types
            return pa.json.read_json(path)
        return as_arrow(pd.read_json(path, lines=True, dtype=False, convert_dates=False))
    with suppress(pa.ArrowInvalid):  # a stream
        return pa.feather.read_table(path, memory_map=False)
    with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as reader:
        return reader.read_all()


def _index_of(table: pa.Table) -> list[str]:
    """The columns that were the index of a data frame of pandas."""
    with suppress(ValueError, TypeError, AttributeError):
        about = json.loads((table.schema.metadata or {}).get(b"pandas", b"{}"))
        return [name for name in about.get("index_columns", []) if isinstance(name, str)]
    return []


def _check_width(source: str, count: int) -> None:
    if count > MOST_COLUMNS:
        raise UserError(
            f"{source}: the table must have at most {MOST_COLUMNS:,} columns; got {count:,}"
        )


def blocks(source: str, place: Path | pa.Table, columns: list[str]) -> Iterator[Block]:
    """These columns of a file, or of a table that is at hand, in constant memory where its form
    allows it. Raises UserError: columns that it lacks or has twice; when it comes there, damage."""
    if isinstance(place, pa.Table):
        _check_names(source, place.column_names, columns)
        yield Block(place.select(columns), np.arange(1, len(place) + 1), [], 1.0)
        return
    with explained(source):
        check_content(source, place)
        if is_text(place):
            dialect = dialect_of(source, place, columns, NOTHING_TOLD)
            _check_names(source, dialect.names, columns)
            for block in text_blocks(place, dialect, columns):
                yield Block(*block, dialect.decimal)
        elif is_parquet(place.name):
            _check_names(source, pa.parquet.read_schema(place).names, columns)
            yield from _parquet_blocks(place, columns)
        else:
            yield from blocks(source, _typed(place), columns)


def _check_names(source: str, names: Sequence[str], columns: Sequence[str]) -> None:
    counts = Counter(names)
    problems = missing_columns(names, columns) + [
        f"column {name!r} stands {counts[name]} times in the header"
        for name in columns
        if counts[name] > 1
    ]
    refuse([f"{source}: {problem}" for problem in problems])


def _parquet_blocks(path: Path, columns: list[str]) -> Iterator[Block]:
    # Read through a buffer of its own per column: else whole columns of a row group, and all row
    # groups that were read before, are held.
    with pa.parquet.ParquetFile(path, buffer_size=_BUFFER_BYTES, pre_buffer=False) as file:
        total, start = file.metadata.num_rows, 1
        for batch in file.iter_batches(_BLOCK_ROWS, columns=columns, use_threads=False):
            end = start + len(batch)
            table = pa.Table.from_batches([batch]).select(columns)
            table.validate(full=True)
            yield Block(table, np.arange(start, end), [], (end - 1) / max(total, 1))
            start = end
