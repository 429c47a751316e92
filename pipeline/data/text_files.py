"""CSV and TSV text, packed or not, as Arrow tables, and what is wrong with it where it is none."""

import csv
import gzip
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

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


def read_text(source: str, path: Path, text: Collection[str]) -> pa.Table:
    """The rows of a .csv, .tsv or packed file; the columns named in `text` stay strings. Raises
    UserError, and pyarrow's errors for what is no text at all."""
    check_memory(source, path.stat().st_size)
    try:
        # Blocks are cut at any newline first, which is faster; a quoted newline then shows as an
        # error, and the second reading respects it.
        try:
            table = _convert(source, path, text, newlines=False)
        except pa.ArrowInvalid:
            table = _convert(source, path, text, newlines=True)
    except pa.ArrowInvalid as error:
        if unequal := _unequal_rows(path):
            raise UserError(f"{source}: {unequal}") from error
        raise
    refuse(
        [
            f"{source}: column {field.name!r} is not UTF-8 text; save the file as UTF-8"
            for field in table.schema
            if pa.types.is_binary(field.type)
        ]
    )
    if table.num_columns == 1:
        only = table.column_names[0]
        delimiter = delimiter_of(path.name)
        if other := next((sign for sign in ";\t|," if sign in only and sign != delimiter), None):
            raise UserError(
                f"{source}: found a single column named {only!r}; values must be separated by "
                f"{delimiter!r}, but these seem to be by {other!r}"
            )
    return table


def _convert(source: str, path: Path, text: Collection[str], newlines: bool) -> pa.Table:
    """With types from the first block: pyarrow's own inference takes three times as long, and
    three times the memory. Only a column whose later values do not fit is left to it."""
    texts = {name: pa.string() for name in text}
    convert = pa.csv.ConvertOptions(
        column_types=texts,
        null_values=list(MISSING),
        true_values=["true", "True", "TRUE"],
        false_values=["false", "False", "FALSE"],
        strings_can_be_null=True,
    )
    parse = pa.csv.ParseOptions(delimiter=delimiter_of(path.name), newlines_in_values=newlines)

    def content() -> Any:
        return pa.input_stream(str(path), compression="gzip") if is_packed(path.name) else path

    block = pa.csv.ReadOptions(block_size=_SNIFFED_BYTES)
    types, names = {}, list[str]()
    # Not where a row is longer than a block, or a quoted newline stands at its end.
    with suppress(pa.ArrowInvalid), pa.csv.open_csv(content(), block, parse, convert) as reader:
        names = reader.schema.names
        types = {f.name: f.type for f in reader.schema if not pa.types.is_null(f.type)}
    check_width(source, len(names))
    for _ in range(3):
        convert.column_types = types | texts
        try:
            return pa.csv.read_csv(content(), parse_options=parse, convert_options=convert)
        except pa.ArrowInvalid as error:
            misfit = re.match(r"In CSV column #(\d+)", str(error))
            if misfit is None or not types:
                raise
            types.pop(names[int(misfit[1])], None)
    convert.column_types = texts
    return pa.csv.read_csv(content(), parse_options=parse, convert_options=convert)


@contextmanager
def explained(source: str) -> Iterator[None]:
    """Errors of pyarrow and of files as the user's."""
    try:
        yield
    except (pa.ArrowException, EOFError, OSError, UnicodeDecodeError) as error:
        text = first_line(error)
        if "Empty CSV" in text:
            text = "the file is empty, or its first row is longer than 1 MiB"
        elif "invalid UTF8" in text or isinstance(error, UnicodeDecodeError):
            text = "not UTF-8 text; save the file as UTF-8"
        elif "straddling" in text:
            text = "a row is longer than 1 MiB, or a quote is never closed"
        raise UserError(f"{source}: cannot be read: {text}") from error


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


def _numbered_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The values of each row that is not blank, the header too, and the line on which it begins.
    Raises csv.Error at a line that no table has."""
    opener = gzip.open if is_packed(path.name) else open
    with opener(path, "rt", encoding="utf-8-sig", newline="") as text:
        reader = csv.reader(text, delimiter=delimiter_of(path.name))
        line = 1
        for values in reader:
            if values:
                yield line, values
            line = reader.line_num + 1


def _unequal_rows(path: Path) -> str | None:
    """Names the lines of the rows that are longer or shorter than the header, or None."""
    rows = _numbered_rows(path)
    try:
        expected = len(next(rows, (0, []))[1])
        found = [f"line {line} has {len(row)}" for line, row in rows if len(row) != expected]
    except csv.Error:
        return None
    rule = f"every row must have as many values as the header, which has {expected}"
    return f"{rule}; {', '.join(few(found, 5))}" if found else None


def lines_of(path: Path, rows: Sequence[int]) -> list[int]:
    """The line on which each row begins: blank lines and quoted newlines move it."""
    lines: dict[int, int] = {}
    with suppress(csv.Error, OSError, UnicodeDecodeError):
        for row, (line, _) in enumerate(_numbered_rows(path), start=-1):  # the header is -1
            if row in rows:
                lines[row] = line
            if len(lines) == len(rows):
                break
    return [lines.get(row, row + 2) for row in rows]
