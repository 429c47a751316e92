"""A table from anywhere: a file, a URL or scikit-learn, as Arrow columns with a digest."""

import hashlib
import stat
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from pipeline.common.errors import UserError, did_you_mean
from pipeline.data.download import fetch, is_url
from pipeline.data.text_files import (
    MISSING,
    check_columns,
    check_memory,
    first_line,
    lines_of,
    read_text,
)

__all__ = [
    "ENDINGS",
    "MISSING",
    "SKLEARN",
    "Source",
    "file_digest",
    "is_url",
    "opened",
    "read",
    "row_numbers",
]

ENDINGS = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")
SKLEARN = ("breast_cancer", "digits", "iris", "wine")
Index = Sequence[int] | np.ndarray


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
        doubled = sorted((name, n) for name, n in Counter(names).items() if n > 1)
        if doubled:
            raise UserError(
                [
                    f"{self.name}: column names must differ; {name!r} stands {times} times"
                    for name, times in doubled
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
            word, numbers = "line", lines_of(self.path, first)
        else:
            word, numbers = "row", [row + 1 for row in first]
        return _enumerate(word, numbers, len(index))


def row_numbers(index: Index, shown: int = 5) -> str:
    """Rows (counted from 0) of a table of unknown origin: 'row 1' is the first."""
    return _enumerate("row", [int(row) + 1 for row in index[:shown]], len(index))


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
    scheme, separator, _ = source.partition("://")
    if separator and scheme.lower() not in ("http", "https", "file"):
        raise UserError(
            f"{source}: a URL must begin with http://, https:// or file://; got {scheme}://"
        )
    with tempfile.TemporaryDirectory(prefix="table-") as folder:
        path = _local(source, Path(folder))
        try:
            _check_readable(path)
        except OSError as error:
            raise UserError(_why_unreadable(source, path, error)) from error
        yield path


def _local(source: str, folder: Path) -> Path:
    """The file that the source names; what is behind a URL is fetched into `folder`."""
    try:
        parts = urlsplit(source)
        if is_url(source):
            name = unquote(parts.path).rpartition("/")[2]
        elif parts.scheme == "file":
            name = unquote(parts.path)
        else:
            name = str(Path(source).expanduser())
    except (ValueError, RuntimeError) as error:
        raise UserError(f"{source}: must be a path or a URL; {error}") from error
    if "\0" in name:
        raise UserError(f"{source}: a path cannot hold the character U+0000")
    _check_ending(source, Path(name).name)
    if not is_url(source):
        return Path(name)
    path = folder / ("table" + next(end for end in ENDINGS[::-1] if name.lower().endswith(end)))
    fetch(source, path)
    return path


def _check_readable(path: Path) -> None:
    """Raises OSError unless it is a regular file to read: a pipe or a device might never end."""
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError
    if not stat.S_ISREG(mode):
        raise OSError("it is no regular file but a pipe, a socket or a device")
    path.open("rb").close()


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
        try:
            siblings = [entry.name for entry in folder.iterdir() if entry.is_file()]
        except OSError:
            siblings = []
        return f"{source}: the file does not exist{did_you_mean(path.name, siblings)}"
    if isinstance(error, IsADirectoryError):
        return f"{source}: must be a file, but is a folder"
    return f"{source}: cannot be read: {error.strerror or error}"


def _parse(source: str, path: Path, text: Collection[str]) -> pa.Table:
    try:
        if path.stat().st_size == 0:
            raise UserError(f"{source}: the file is empty")
        if is_parquet(path.name):
            # Not read_table: it would add a column for a folder named like 'year=2024'.
            with pa.parquet.ParquetFile(path) as file:
                check_columns(source, file.metadata.num_columns)
                check_memory(source, file.metadata.num_rows * file.metadata.num_columns * 8)
                table = file.read()
        else:
            table = read_text(source, path, text)
        _ = table.column_names  # decoded here, at first
        return table
    except UnicodeDecodeError as error:
        raise UserError(
            f"{source}: the header is not UTF-8 text; save the file as UTF-8"
        ) from error
    except (pa.ArrowException, EOFError) as error:
        raise UserError(f"{source}: cannot be read: {first_line(error)}") from error
    except OSError as error:
        raise UserError(f"{source}: cannot be read: {first_line(error)}") from error


def is_parquet(name: str) -> bool:
    """Whether a file of this name is read as Parquet."""
    return name.lower().endswith(".parquet")


def _enumerate(word: str, numbers: Sequence[int], count: int) -> str:
    if count == 1:
        return f"{word} {numbers[0]}"
    named = ", ".join(map(str, numbers))
    rest = f" and {count - len(numbers):,} more" if count > len(numbers) else ""
    return f"{word}s {named}{rest}"


def _list(names: Sequence[str], shown: int = 8) -> str:
    rest = f" and {len(names) - shown:,} more" if len(names) > shown else ""
    return ", ".join(repr(name) for name in names[:shown]) + rest


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
