"""Text files, packed or not, as Arrow tables, and what is wrong with one that is none."""

import codecs
import csv
import io
import lzma
import zipfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from pipeline.common.errors import UserError
from pipeline.common.text import few, shorten
from pipeline.data.dialect import BLANKS, Dialect, Told, find_dialect, rows_of, squeezed, types_of
from pipeline.inference.rows import MISSING

SEPARATORS = {".csv": ",", ".tsv": "\t", ".txt": ",", ".data": ",", ".xlsx": ","}
"""Endings of text files, and what separates values unless the file shows something else. The first
sheet of a workbook is read as if it had been saved so."""

PACKED = ("", ".gz", ".bz2", ".xz", ".zip")

_BLOCK_BYTES = 1 << 22  # of text; a longer row cannot be read
_MARKS = sorted({form(mark) for mark in MISSING for form in (str, str.upper, str.capitalize)})
_NULLS = [*_MARKS, "NaN", "-NaN", "NaT"]


def separator_of(name: str) -> str:
    """What a file's name says of its values."""
    return next((sign for ending, sign in SEPARATORS.items() if ending in name.lower()), ",")


@contextmanager
def content(path: Path) -> Iterator[Any]:
    """The bytes of a file, unpacked as its name says. Raises UserError: an archive of several."""
    with pa.OSFile(str(path)) as raw, _unpacked(path, raw) as file:
        yield file


@contextmanager
def _unpacked(path: Path, raw: Any) -> Iterator[Any]:
    name = path.name.lower()
    if name.endswith(".zip"):
        with zipfile.ZipFile(raw) as archive:
            files = [m for m in archive.namelist() if m[-1] != "/" and "__MACOSX" not in m]
            if len(files) != 1:
                raise UserError(f"{path.name}: must hold one file; it has {len(files)}")
            with archive.open(files[0]) as file:
                yield file
    elif name.endswith(".xlsx"):
        yield io.BytesIO(_sheet(path))
    elif name.endswith(".xz"):
        with lzma.open(raw) as file:
            yield file
    elif name.endswith((".gz", ".bz2")):
        with pa.CompressedInputStream(raw, "gzip" if name.endswith(".gz") else "bz2") as file:
            yield file
    else:
        yield raw


def _sheet(path: Path) -> bytes:
    """The first sheet of a workbook as CSV. Raises UserError: openpyxl is not there."""
    try:
        cells = pd.read_excel(path, header=None, dtype=object)
    except ImportError:
        raise UserError(f"{path.name}: reading it needs openpyxl: pip install openpyxl") from None
    return str(cells.to_csv(header=False, index=False)).encode()


def dialect_of(source: str, path: Path, wanted: Collection[str], told: Told) -> Dialect:
    """How the file writes its table, whose header has the columns `wanted`. Raises UserError."""
    with content(path) as file:
        return find_dialect(source, file, separator_of(path.name), wanted, told)


def read_text(source: str, path: Path, dialect: Dialect, text: Collection[str]) -> pa.Table:
    """The rows: columns of plain numbers int64 or float64, all others as they stand, as those named
    in `text`. Raises UserError, and pyarrow's errors for what is no text at all.

    Types are those of the first rows, which takes the least memory. Where later values do not fit,
    the file is read once more, and columns of numbers have the type that all their values allow."""
    types = {name: dtype for name, dtype in types_of(dialect).items() if name not in text}
    convert = pa.csv.ConvertOptions(
        null_values=_NULLS,
        true_values=[],
        false_values=[],
        strings_can_be_null=False,
        decimal_point=dialect.decimal or ".",
        column_types={name: types.get(name, "string") for name in dialect.names},
    )
    try:
        table = _parse(path, dialect, convert)
    except pa.ArrowInvalid:
        convert.column_types = {name: "string" for name in dialect.names if name not in types}
        try:
            table = _parse(path, dialect, convert)
        except pa.ArrowInvalid as error:
            if unequal := _unequal_rows(path, dialect):
                raise UserError(f"{source}: {unequal}") from error
            raise
    about = {"decimal": dialect.decimal} if dialect.decimal else {}
    if len(shorter := _without_headers(table)) < len(table):
        table, about["repeated"] = shorter, "header"
    return table.replace_schema_metadata(about)


def _parse(path: Path, dialect: Dialect, convert: Any, newlines: bool = False) -> pa.Table:
    # Blocks are cut at any newline first, which is faster; a quoted newline then shows as an error,
    # and the second reading respects it.
    options, parsing = _read_options(dialect), _parsing(dialect, newlines)
    try:
        with content(path) as file:
            return pa.csv.read_csv(_squeezed(file, dialect), options, parsing, convert)
    except pa.ArrowInvalid:
        if newlines:
            raise
    return _parse(path, dialect, convert, newlines=True)


def _read_options(dialect: Dialect, **more: Any) -> Any:
    encoding = dialect.encoding.removesuffix("-sig")
    return pa.csv.ReadOptions(
        skip_rows=dialect.skip, column_names=dialect.names, encoding=encoding, **more
    )


def _parsing(dialect: Dialect, newlines: bool, handler: Any = None) -> Any:
    form = dialect.form
    return pa.csv.ParseOptions(
        delimiter=form.separator,
        quote_char=form.quote,
        escape_char=form.escape or False,
        newlines_in_values=newlines,
        invalid_row_handler=handler,
    )


def _squeezed(file: Any, dialect: Dialect) -> Any:
    """With one blank between values, where a dialect has any number; such files are read whole."""
    if dialect.form.separator != BLANKS:
        return file
    lines = codecs.getreader(dialect.encoding)(file)
    return io.BytesIO("".join(map(squeezed, lines)).encode(dialect.encoding))


def _without_headers(table: pa.Table) -> pa.Table:
    """Without rows that repeat the names; only text can."""
    repeated = pa.scalar(all(map(pa.types.is_string, table.schema.types)))
    for name, column in zip(table.column_names, table.columns, strict=True):
        if not pc.any(repeated).as_py():
            return table
        repeated = pc.and_(repeated, pc.equal(pc.utf8_trim_whitespace(column), name))
    return table.filter(pc.invert(repeated))


def text_blocks(
    path: Path, dialect: Dialect, columns: list[str]
) -> Iterator[tuple[pa.Table, np.ndarray, list[tuple[int, str]], float]]:
    """Some rows at a time, their columns as they stand: a table, the numbers of its rows, int64
    from 1, number and content of the rows before its end that have more or fewer values than the
    header, and the part of the file that has been read, in [0, 1]."""
    malformed: list[tuple[int, str]] = []  # of those read but not yet given, in order

    def set_aside(row: Any) -> str:
        reason = f"expected {row.expected_columns} values, got {row.actual_columns}"
        # Lines that are skipped are no rows to pyarrow.
        malformed.append((row.number - dialect.skip, f"{reason}: {shorten(row.text, 200)!r}"))
        return "skip"

    convert = pa.csv.ConvertOptions(
        column_types={name: pa.string() for name in columns},
        include_columns=columns,
        strings_can_be_null=False,
    )
    options = _read_options(dialect, use_threads=False, block_size=_BLOCK_BYTES)
    size = max(path.stat().st_size, 1)
    with pa.OSFile(str(path)) as raw, _unpacked(path, raw) as file:
        parsing = _parsing(dialect, True, set_aside)
        with pa.csv.open_csv(_squeezed(file, dialect), options, parsing, convert) as reader:
            start = 1
            for batch in reader:
                numbers = np.arange(start, start + len(batch) + len(malformed))
                numbers = numbers[~np.isin(numbers, [number for number, _ in malformed])]
                numbers = numbers[: len(batch)]
                start = int(numbers[-1]) + 1 if len(numbers) else start
                before = [row for row in malformed if row[0] < start]
                del malformed[: len(before)]
                yield pa.Table.from_batches([batch]), numbers, before, min(raw.tell() / size, 1.0)
            if malformed:
                yield reader.schema.empty_table(), np.arange(0), malformed, 1.0


def _numbered_rows(path: Path, dialect: Dialect) -> Iterator[tuple[int, list[str]]]:
    """The values of each row that is not blank, and the line on which it begins. Raises csv.Error
    at a line that no table has."""
    with content(path) as file, io.TextIOWrapper(file, dialect.encoding, newline="") as text:
        lines = islice(text, dialect.skip, None)
        yield from ((line + dialect.skip, row) for line, row in rows_of(lines, dialect.form))


def _unequal_rows(path: Path, dialect: Dialect) -> str | None:
    """Names the lines of the rows that are longer or shorter than the header, or None."""
    expected = len(dialect.names)
    try:
        rows = _numbered_rows(path, dialect)
        found = [f"line {line} has {len(row)}" for line, row in rows if len(row) != expected]
    except (csv.Error, UnicodeDecodeError):
        return None
    rule = f"every row must have as many values as the header, which has {expected}"
    return f"{rule}; {', '.join(few(found, 5))}" if found else None


def lines_of(path: Path, dialect: Dialect, rows: Sequence[int]) -> list[int]:
    """The line on which each row begins: blank lines and quoted newlines move it."""
    lines: list[int] = []
    with suppress(csv.Error, OSError, UnicodeDecodeError):
        for line, values in _numbered_rows(path, dialect):
            if len(lines) > max(rows):
                break
            if values != list(dialect.names):
                lines.append(line)
    return [lines[row] if row < len(lines) else row + 1 + dialect.skip for row in rows]


def repeated_headers(path: Path, dialect: Dialect) -> list[int]:
    """The lines that repeat the header."""
    rows = _numbered_rows(path, dialect)
    return [line for line, values in rows if values == list(dialect.names)]
