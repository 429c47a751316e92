"""A table from anywhere: a file, a URL or scikit-learn, as Arrow columns with a digest."""

import csv
import gzip
import hashlib
import re
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from pipeline.errors import UserError, did_you_mean

ENDINGS = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")
SKLEARN = ("breast_cancer", "digits", "iris", "wine")
Index = Sequence[int] | np.ndarray
MISSING = (
    *("", "NA", "N/A", "n/a", "na", "#N/A", "<NA>", "NaN", "nan", "NAN", "-NaN", "-nan"),
    *("NULL", "Null", "null", "None", "none", "NaT", "?"),
)
"""Spellings that count as missing in CSV and TSV files."""

_SNIFFED_BYTES = 1 << 20
_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Source:
    """A table whose bytes are at hand: a local file, a downloaded copy, or scikit-learn's."""

    name: str
    digest: str
    path: Path | None
    shipped: pa.Table | None = None

    def table(self, text: Collection[str] = ()) -> pa.Table:
        """The rows, with types as found; the columns named in `text` stay strings.

        `text` acts on CSV and TSV only, where types are guessed from the values.

        Raises:
            UserError: unreadable, empty, no rows, rows of unequal length, two columns of one name.
        """
        table = self.shipped if self.path is None else _parse(self.name, self.path, text)
        assert table is not None
        pa.default_memory_pool().release_unused()  # what parsing held, a quarter of the table
        names = table.column_names
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise UserError(
                [
                    f"{self.name}: column names must differ; {name!r} stands "
                    f"{names.count(name)} times in the header"
                    for name in doubled
                ]
            )
        if not names:
            raise UserError(f"{self.name}: the table has no columns")
        if table.num_rows == 0:
            raise UserError(f"{self.name}: the table has no rows, only a header of {_list(names)}")
        return table

    def rows(self, index: Index, shown: int = 5) -> str:
        """Rows (counted from 0) as the user sees them: 'line 7' of a CSV file, 'row 7' otherwise.

        A CSV file's header is on line 1; a Parquet file's first row is row 1. The first `shown`
        are named and the others counted.
        """
        first = [int(row) for row in index[:shown]]
        if self.path is not None and not is_parquet(self.path.name):
            word, numbers = "line", _lines(self.path, first)
        else:
            word, numbers = "row", [row + 1 for row in first]
        return _enumerate(word, numbers, len(index))


def row_numbers(index: Index, shown: int = 5) -> str:
    """Rows (counted from 0) of a table of unknown origin: 'row 1' is the first."""
    return _enumerate("row", [int(row) + 1 for row in index[:shown]], len(index))


def is_url(source: str) -> bool:
    """Whether reading the source needs the network."""
    return urlsplit(source).scheme.lower() in ("http", "https")


@contextmanager
def opened(source: str, sha256: str | None = None) -> Iterator[Source]:
    """Bring the table's bytes here and digest them; a download is removed at the end.

    Args:
        source: a path or a http(s):// or file:// URL of one of `ENDINGS`, or sklearn:NAME.
        sha256: the digest that the bytes must have (of the content for sklearn:NAME), checked
            before anything is parsed.

    Raises:
        UserError: missing or unreadable file, unknown ending or name, another digest.
    """
    with located(source) as found:
        path, shipped = (found, None) if isinstance(found, Path) else (None, found)
        digest = _content_digest(shipped) if path is None else file_digest(path)
        _check_digest(source, sha256, digest)
        yield Source(source, digest, path, shipped)


@contextmanager
def located(source: str) -> Iterator[Path | pa.Table]:
    """The table's file, which can be read; a download is removed at the end. Of sklearn:NAME the
    table itself.

    Raises:
        UserError: missing or unreadable file, unknown ending or name.
    """
    if source.startswith("sklearn:"):
        yield _from_sklearn(source)
        return
    scheme = urlsplit(source).scheme.lower()
    if len(scheme) > 1 and "://" in source and scheme not in ("http", "https", "file"):
        raise UserError(
            f"{source}: a URL must begin with http://, https:// or file://; got {scheme}://"
        )
    with tempfile.TemporaryDirectory(prefix="table-") as folder:
        if is_url(source):
            path = _download(source, Path(folder))
        elif scheme == "file":
            path = Path(unquote(urlsplit(source).path))
        else:
            path = Path(source).expanduser()
        _check_ending(source, path.name)
        try:
            path.open("rb").close()
        except OSError as error:
            raise UserError(_why_unreadable(source, path, error)) from error
        yield path


def read(source: str, sha256: str | None = None) -> tuple[pa.Table, str]:
    """A table and the SHA-256 of the source's bytes (for sklearn:NAME of the table's content).

    Raises:
        UserError: see `opened` and `Source.table`.
    """
    with opened(source, sha256) as table:
        return table.table(), table.digest


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_digest(source: str, expected: str | None, found: str) -> None:
    if expected is not None and expected.strip().lower() != found:
        raise UserError(
            f"{source}: data.sha256 must be the file's digest; expected {expected}, found {found}"
        )


def _check_ending(source: str, name: str) -> None:
    if not name.lower().endswith(ENDINGS):
        raise UserError(
            f"{source}: the name must end with one of {', '.join(ENDINGS)}"
            f"{did_you_mean(Path(name).suffix, ENDINGS) if Path(name).suffix else ''}"
        )


def _why_unreadable(source: str, path: Path, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        folder = path.parent
        if not folder.is_dir():
            return f"{source}: the file does not exist, nor does its folder {folder}"
        siblings = [entry.name for entry in folder.iterdir() if entry.is_file()]
        return f"{source}: the file does not exist{did_you_mean(path.name, siblings)}"
    if isinstance(error, IsADirectoryError):
        return f"{source}: must be a file, but is a folder"
    return f"{source}: cannot be read: {error.strerror or error}"


def _download(source: str, folder: Path) -> Path:
    name = unquote(urlsplit(source).path).rsplit("/", 1)[-1]
    _check_ending(source, name)
    path = folder / ("table" + next(end for end in ENDINGS[::-1] if name.lower().endswith(end)))
    try:
        with (
            urllib.request.urlopen(source, timeout=_TIMEOUT_S) as answer,
            path.open("wb") as file,
        ):
            shutil.copyfileobj(answer, file)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        status = f"HTTP {error.code} " if isinstance(error, urllib.error.HTTPError) else ""
        raise UserError(f"{source}: cannot be fetched: {status}{reason}") from error
    return path


def _parse(source: str, path: Path, text: Collection[str]) -> pa.Table:
    try:
        if path.stat().st_size == 0:
            raise UserError(f"{source}: the file is empty")
        if is_parquet(path.name):
            # Not read_table: it would add a column for a folder named like 'year=2024'.
            with pa.parquet.ParquetFile(path) as file:
                return file.read()
        return _parse_text(source, path, text)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{source}: the header is not UTF-8 text; save the file as UTF-8"
        ) from error
    except (pa.ArrowException, EOFError) as error:
        raise UserError(f"{source}: cannot be read: {first_line(error)}") from error
    except OSError as error:
        raise UserError(f"{source}: cannot be read: {first_line(error)}") from error


def _parse_text(source: str, path: Path, text: Collection[str]) -> pa.Table:
    delimiter = delimiter_of(path.name)
    try:
        # Blocks are cut at any newline first, which is faster; a quoted newline then shows as an
        # error, and the second reading respects it.
        try:
            table = _convert(path, delimiter, text, newlines=False)
        except pa.ArrowInvalid:
            table = _convert(path, delimiter, text, newlines=True)
    except pa.ArrowInvalid as error:
        if "Empty CSV" in str(error):
            raise UserError(f"{source}: the file is empty") from error
        raise UserError(_unequal_rows(source, path) or f"{source}: {first_line(error)}") from error
    binary = [field.name for field in table.schema if pa.types.is_binary(field.type)]
    if binary:
        raise UserError(
            [
                f"{source}: column {name!r} is not UTF-8 text; save the file as UTF-8"
                for name in binary
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


def _convert(path: Path, delimiter: str, text: Collection[str], newlines: bool) -> pa.Table:
    """Types come from the first block: one pass over the rest then needs a third of the time and
    of the memory that pyarrow's own inference takes. A column whose later values do not fit is
    left to that inference.
    """

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

    block = pa.csv.ReadOptions(block_size=_SNIFFED_BYTES)
    try:
        with pa.csv.open_csv(path, read_options=block, **options({})) as reader:
            schema = reader.schema
    except pa.ArrowInvalid:  # a row longer than a block, or a quoted newline at its end
        return pa.csv.read_csv(path, **options({}))
    types = {field.name: field.type for field in schema if not pa.types.is_null(field.type)}
    for _ in range(3):
        try:
            return pa.csv.read_csv(path, **options(types))
        except pa.ArrowInvalid as error:
            misfit = re.match(r"In CSV column #(\d+)", str(error))
            if misfit is None:
                raise
            types.pop(schema.names[int(misfit[1])], None)
    return pa.csv.read_csv(path, **options({}))


def delimiter_of(name: str) -> str:
    """What separates the values of a text file of this name."""
    return "\t" if name.lower().endswith((".tsv", ".tsv.gz")) else ","


def is_parquet(name: str) -> bool:
    """Whether a file of this name is read as Parquet."""
    return name.lower().endswith(".parquet")


def _open_text(path: Path) -> IO[str]:
    if path.name.lower().endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8-sig", errors="replace", newline="")
    return path.open(encoding="utf-8-sig", errors="replace", newline="")


def _unequal_rows(source: str, path: Path, shown: int = 5) -> str | None:
    """Names the lines of the rows that are longer or shorter than the header, or None."""
    found: list[tuple[int, int]] = []
    count = expected = 0
    try:
        with _open_text(path) as file:
            reader = csv.reader(file, delimiter=delimiter_of(path.name))
            line = 1
            for row in reader:
                if row and not expected:
                    expected = len(row)
                elif row and len(row) != expected:
                    count += 1
                    if len(found) < shown:
                        found.append((line, len(row)))
                line = reader.line_num + 1
    except csv.Error:
        return None
    if not found:
        return None
    named = ", ".join(f"line {line} has {length}" for line, length in found)
    rest = f", and {count - shown:,} more" if count > shown else ""
    return (
        f"{source}: every row must have as many values as the header, which has {expected}; "
        f"{named}{rest}"
    )


def _lines(path: Path, rows: Sequence[int]) -> list[int]:
    """The line on which each row begins: blank lines and quoted newlines move it."""
    wanted = set(rows)
    found: dict[int, int] = {}
    try:
        with _open_text(path) as file:
            reader = csv.reader(file, delimiter=delimiter_of(path.name))
            row, line = -2, 1
            for values in reader:
                if values:
                    row += 1
                    if row in wanted:
                        found[row] = line
                    if len(found) == len(wanted):
                        break
                line = reader.line_num + 1
    except (csv.Error, OSError):
        pass
    return [found.get(row, row + 2) for row in rows]


def _enumerate(word: str, numbers: Sequence[int], count: int) -> str:
    if count == 1:
        return f"{word} {numbers[0]}"
    named = ", ".join(map(str, numbers))
    rest = f" and {count - len(numbers):,} more" if count > len(numbers) else ""
    return f"{word}s {named}{rest}"


def _list(names: Sequence[str], shown: int = 8) -> str:
    rest = f" and {len(names) - shown:,} more" if len(names) > shown else ""
    return ", ".join(repr(name) for name in names[:shown]) + rest


def first_line(error: BaseException) -> str:
    """The first line of the error's message, or its type where it has none."""
    return str(error).strip().split("\n", 1)[0] or type(error).__name__


def _from_sklearn(source: str) -> pa.Table:
    import sklearn.datasets

    name = source.removeprefix("sklearn:")
    if name not in SKLEARN:
        raise UserError(
            f"{source}: the name after sklearn: must be one of {', '.join(SKLEARN)}"
            f"{did_you_mean(name, SKLEARN)}"
        )
    bunch = getattr(sklearn.datasets, f"load_{name}")()
    names = np.asarray(bunch.target_names)
    labels = names[bunch.target] if names.dtype.kind == "U" else bunch.target
    columns = {str(name): bunch.data[:, i] for i, name in enumerate(bunch.feature_names)}
    return pa.table(columns | {"target": labels.tolist()})


def _content_digest(table: pa.Table) -> str:
    found = hashlib.sha256()
    for field in table.schema:
        values = table.column(field.name).to_pylist()
        found.update(repr((field.name, str(field.type), values)).encode())
    return found.hexdigest()
