"""CSV and TSV text, packed or not, as Arrow tables, and what is wrong with it where it is none."""

import csv
import gzip
import io
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.csv

from pipeline.common import files
from pipeline.common.errors import UserError, first_line, refuse
from pipeline.common.text import few

MISSING = (
    *("", "NA", "N/A", "n/a", "na", "#N/A", "<NA>", "NaN", "nan", "NAN", "-NaN", "-nan"),
    *("NULL", "Null", "null", "None", "none", "NaT", "?"),
)
"""Spellings that count as missing in CSV and TSV files."""

MOST_COLUMNS = 10_000
"""What the search, its report and MLflow's pages can still hold."""

_SNIFFED_BYTES = 1 << 20  # also the longest row of a text file
_LONGEST_LINE = 1 << 24


def read_text(source: str, path: Path, text: Collection[str]) -> pa.Table:
    """The rows of a .csv, .tsv or packed file; the columns named in `text` stay strings. Raises
    UserError, and pyarrow's errors for what is no text at all."""
    delimiter = delimiter_of(path.name)
    try:
        # Blocks are cut at any newline first, which is faster; a quoted newline then shows as an
        # error, and the second reading respects it.
        try:
            table = _convert(source, path, text, newlines=False)
        except pa.ArrowInvalid:
            table = _convert(source, path, text, newlines=True)
    except pa.ArrowInvalid as error:
        raise UserError(_why_no_table(source, path, error)) from error
    refuse(
        [
            f"{source}: column {field.name!r} is not UTF-8 text; save the file as UTF-8"
            for field in table.schema
            if pa.types.is_binary(field.type)
        ]
    )
    if table.num_columns == 1:
        only = table.column_names[0]
        other = next((sign for sign in ";\t|," if sign in only and sign != delimiter), None)
        if other:
            raise UserError(
                f"{source}: found a single column named {only!r}; values must be separated by "
                f"{'tabs' if delimiter == chr(9) else 'commas'}, but these seem to be by {other!r}"
            )
    return table


def _convert(source: str, path: Path, text: Collection[str], newlines: bool) -> pa.Table:
    """With types from the first block: pyarrow's own inference takes three times as long, and
    three times the memory. Only a column whose later values do not fit is left to it."""

    delimiter = delimiter_of(path.name)

    def options(types: dict[str, Any]) -> dict[str, Any]:
        return {
            "parse_options": pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=newlines),
            "convert_options": pa.csv.ConvertOptions(
                column_types=types | {name: pa.string() for name in text},
                null_values=list(MISSING),
                true_values=["true", "True", "TRUE"],
                false_values=["false", "False", "FALSE"],
                strings_can_be_null=True,
            ),
        }

    def read(types: dict[str, Any]) -> pa.Table:
        with _content(source, path) as content:
            return pa.csv.read_csv(content, **options(types))

    block = pa.csv.ReadOptions(block_size=_SNIFFED_BYTES)
    try:
        with (
            _content(source, path) as content,
            pa.csv.open_csv(content, read_options=block, **options({})) as reader,
        ):
            schema = reader.schema
    except pa.ArrowInvalid:  # a row longer than a block, or a quoted newline at its end
        return read({})
    check_width(source, len(schema))
    types = {field.name: field.type for field in schema if not pa.types.is_null(field.type)}
    for _ in range(3):
        try:
            return read(types)
        except pa.ArrowInvalid as error:
            misfit = re.match(r"In CSV column #(\d+)", str(error))
            if misfit is None:
                raise
            types.pop(schema.names[int(misfit[1])], None)
    return read({})


@contextmanager
def explained(source: str, what: str = "") -> Iterator[None]:
    """Errors of pyarrow and of files as the user's; `what`: what is text there."""
    not_utf8 = "not UTF-8 text; save the file as UTF-8"
    try:
        yield
    except UnicodeDecodeError as error:
        raise UserError(f"{source}: {what}{not_utf8}") from error
    except (pa.ArrowException, EOFError, OSError) as error:
        text = first_line(error)
        if "Empty CSV" in text:
            text = "the file is empty"
        elif "invalid UTF8" in text:
            text = not_utf8
        elif "straddling" in text:
            text = "a row is longer than 4 MiB, or a quote is never closed"
        raise UserError(f"{source}: cannot be read: {text}") from error


@contextmanager
def _content(source: str, path: Path) -> Iterator[Any]:
    """The text for pyarrow's readers, unpacked as far as the memory goes."""
    if not is_packed(path.name):
        check_memory(source, path.stat().st_size)
        yield path
        return
    with pa.input_stream(str(path), compression="gzip") as stream:
        yield pa.PythonFile(_Unpacked(source, stream), mode="r")


class _Unpacked(io.RawIOBase):
    """A megabyte of packed text can hold a gigabyte: one beyond the memory is given up."""

    def __init__(self, source: str, stream: Any) -> None:
        super().__init__()
        self._source, self._stream, self._count = source, stream, 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        content: bytes = self._stream.read(None if size < 0 else size)
        self._count += len(content)
        check_memory(self._source, max(self._count, pa.total_allocated_bytes()))
        return content


def _why_no_table(source: str, path: Path, error: pa.ArrowInvalid) -> str:
    """What is wrong with a text that pyarrow cannot read, in the user's terms."""
    with _open(path) as file:
        start = file.read(4)
    if start[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in start:
        return f"{source}: the file is not UTF-8 text; save it as UTF-8"
    if unequal := _unequal_rows(path):
        return f"{source}: {unequal}"
    reason = first_line(error)
    if "straddling" not in str(error) and "Empty CSV" not in str(error):
        return f"{source}: {reason}"
    if not start.strip():
        return f"{source}: the file is empty"
    return (
        f"{source}: a row must be at most {_SNIFFED_BYTES:,} bytes long; one is longer, or a "
        "quote is never closed"
    )


def delimiter_of(name: str) -> str:
    """What separates the values of a text file of this name."""
    return "\t" if name.lower().endswith((".tsv", ".tsv.gz")) else ","


def is_packed(name: str) -> bool:
    """Whether a file of this name is packed with gzip."""
    return name.lower().endswith(".gz")


def check_memory(source: str, needed: int, what: str = "the table") -> None:
    """UserError unless so many bytes fit into half of the memory: training needs as much."""
    most = files.memory_limit() // 2
    if needed > most:
        raise UserError(
            f"{source}: {what} must fit into half of the memory, {most / 1e9:.1f} GB here; "
            f"it needs {needed / 1e9:.1f} GB or more"
        )


def check_width(source: str, count: int) -> None:
    """UserError for more than `MOST_COLUMNS`."""
    if count > MOST_COLUMNS:
        raise UserError(
            f"{source}: the table must have at most {MOST_COLUMNS:,} columns; got {count:,}"
        )


def _open(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path)) if is_packed(path.name) else path.open("rb")


def _numbered_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The values of each row that is not blank, the header too, and the line on which it begins.
    Raises csv.Error at a line that no table has."""
    with _open(path) as file, io.TextIOWrapper(file, "utf-8-sig", "replace", newline="") as text:
        reader = csv.reader(_lines(text), delimiter=delimiter_of(path.name))
        line = 1
        for values in reader:
            if values:
                yield line, values
            line = reader.line_num + 1


def _lines(text: IO[str]) -> Iterator[str]:
    while line := text.readline(_LONGEST_LINE):
        if len(line) == _LONGEST_LINE:
            raise csv.Error("a line is too long")
        yield line


def _unequal_rows(path: Path, shown: int = 5) -> str | None:
    """Names the lines of the rows that are longer or shorter than the header, or None."""
    try:
        rows = _numbered_rows(path)
        expected = len(next(rows, (0, []))[1])
        unequal = ((line, len(values)) for line, values in rows if len(values) != expected)
        texts = [f"line {line} has {count}" for line, count in islice(unequal, shown)]
        total = len(texts) + sum(1 for _ in unequal)
    except csv.Error:
        return None
    if not texts:
        return None
    return (
        f"every row must have as many values as the header, which has {expected}; "
        f"{', '.join(few(texts, shown, total))}"
    )


def lines_of(path: Path, rows: Sequence[int]) -> list[int]:
    """The line on which each row begins: blank lines and quoted newlines move it."""
    lines: dict[int, int] = {}
    with suppress(csv.Error, OSError):
        for row, (line, _) in enumerate(_numbered_rows(path), start=-1):  # the header is -1
            if row in rows:
                lines[row] = line
            if len(lines) == len(rows):
                break
    return [lines.get(row, row + 2) for row in rows]
