"""A table from anywhere: a path, a URL or scikit-learn, as Arrow columns with a digest."""

import hashlib
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import requests
from urllib3.exceptions import HTTPError

from pipeline.common.errors import UserError, did_you_mean, first_line, refuse
from pipeline.common.files import file_digest, nearest_file
from pipeline.common.text import few, some
from pipeline.data.text_files import check_memory, check_width, explained, lines_of, read_text

ENDINGS = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")
SKLEARN = ("breast_cancer", "digits", "iris", "wine")

TIMEOUT_S = 60.0  # without a byte

Index = Sequence[int] | np.ndarray


@dataclass(frozen=True)
class Source:
    """A table that is at hand: a local file, a downloaded copy, that of scikit-learn itself, or one
    that Python code has."""

    name: str
    place: Path | pa.Table

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file's bytes; of the content where there is no file."""
        if isinstance(self.place, Path):
            return file_digest(self.place)
        digest = hashlib.sha256()
        for position in range(self.place.num_columns):
            column = self.place.select([position]).combine_chunks()
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, column.schema) as writer:
                writer.write_table(column)
            digest.update(sink.getvalue())
        return digest.hexdigest()

    def table(self, text: Collection[str] = ()) -> pa.Table:
        """The rows, with types as found; in CSV and TSV the columns named in `text` stay strings.
        Raises UserError: unreadable, no rows, rows of unequal length, two columns of one name."""
        path = self.place
        table = _parse(self.name, path, text) if isinstance(path, Path) else path
        pa.default_memory_pool().release_unused()  # what parsing held, a quarter of the table
        names = table.column_names
        rule = f"{self.name}: column names must differ"
        counted = sorted(Counter(names).items())
        refuse([f"{rule}; {name!r} stands {n} times" for name, n in counted if n > 1])
        if not names:
            raise UserError(f"{self.name}: the table has no columns")
        if table.num_rows == 0:
            raise UserError(f"{self.name}: the table has no rows, only a header of {some(names)}")
        return table

    def rows(self, index: Index, shown: int = 5) -> str:
        """Rows (counted from 0) as the user sees them: 'line 7' of a CSV file, whose header is on
        line 1, 'row 7' (counted from 1) otherwise. The first `shown`, and how many others."""
        if not isinstance(self.place, Path) or is_parquet(self.place.name):
            return row_numbers(index, shown)
        return _numbered("line", lines_of(self.place, [int(row) for row in index[:shown]]), index)


def row_numbers(index: Index, shown: int = 5) -> str:
    """Rows (counted from 0) of a table of unknown origin: 'row 1' is the first."""
    return _numbered("row", [int(row) + 1 for row in index[:shown]], index)


def _numbered(word: str, numbers: Sequence[int], index: Index) -> str:
    """`numbers` are of the first rows of the index."""
    texts = few([str(number) for number in numbers], len(numbers), len(index))
    return f"{word if len(index) == 1 else f'{word}s'} {', '.join(texts)}"


@contextmanager
def opened(source: str, sha256: str | None = None) -> Iterator[Source]:
    """Bring the table here; a download is removed at the end.

    Args:
        source: a path or a http(s):// or file:// URL of one of `ENDINGS`, or sklearn:NAME.
        sha256: the digest that it must have, checked before anything is parsed.

    Raises UserError: missing or unreadable file, unknown ending or name, another digest."""
    scheme, separator, _ = source.partition("://")
    if separator and scheme.lower() not in ("http", "https", "file"):
        raise UserError(
            f"{source}: a URL must begin with http://, https:// or file://; got {scheme}://"
        )
    with tempfile.TemporaryDirectory(prefix="table-") as folder:
        is_shipped = source.startswith("sklearn:")
        place = _shipped(source) if is_shipped else local_file(source, Path(folder), ENDINGS)
        table = Source(source, place)
        check_digest(source, sha256, lambda: table.digest)
        yield table


def check_digest(source: str, sha256: str | None, digest: Callable[[], str]) -> None:
    """UserError unless the digest is the one that was asked for, if one was."""
    if sha256 is not None and sha256.strip().lower() != digest():
        raise UserError(
            f"{source}: data.sha256 must be the file's digest; expected {sha256}, found {digest()}"
        )


def is_url(source: str) -> bool:
    """Whether reading the source needs the network."""
    return source.lower().startswith(("http://", "https://"))


def is_parquet(name: str) -> bool:
    """Whether a file of this name is read as Parquet."""
    return name.lower().endswith(".parquet")


def local_file(source: str, folder: Path, endings: Sequence[str]) -> Path:
    """The file that the source names, which can be read; a URL's is fetched into `folder`. Raises
    UserError: no such file, another ending than these."""
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
    if not Path(name).name.lower().endswith(tuple(endings)):
        suffix = Path(name).suffix
        raise UserError(
            f"{source}: the name must end with one of {', '.join(endings)}"
            f"{did_you_mean(suffix, endings) if suffix else ''}"
        )
    path = Path(name)
    if is_url(source):
        path = folder / f"table{next(e for e in endings[::-1] if name.lower().endswith(e))}"
        fetch(source, path)
    _check_readable(source, path)
    return path


def _check_readable(source: str, path: Path) -> None:
    """UserError unless it is a regular file to read: a pipe or a device might never end."""
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{source}: must be a file, but is a folder, a pipe or a device")
        path.open("rb").close()
    except FileNotFoundError:
        raise UserError(f"{source}: the file does not exist{nearest_file(path)}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{source}: cannot be read: {first_line(error)}") from error


def _parse(source: str, path: Path, text: Collection[str]) -> pa.Table:
    with explained(source):
        if is_parquet(path.name):
            # Not read_table: it would add a column for a folder named like 'year=2024'.
            with pa.parquet.ParquetFile(path) as file:
                check_width(source, file.metadata.num_columns)
                check_memory(source, file.metadata.num_rows * file.metadata.num_columns * 8)
                table = file.read()
            table.validate(full=True)  # text that is no UTF-8 would fail wherever it is first read
        else:
            table = read_text(source, path, text)
        _ = table.column_names  # decoded here, at first
        return table


def _shipped(source: str) -> pa.Table:
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


def fetch(url: str, path: Path) -> None:
    """Write what is behind a http(s) URL to `path`, its bytes as the server has them.

    Raises UserError: no answer, a status that is no success, an end before the announced length."""
    as_it_is = {"Accept-Encoding": "identity"}
    try:
        with (
            requests.get(url, stream=True, timeout=TIMEOUT_S, headers=as_it_is) as answer,
            path.open("wb") as file,
        ):
            if answer.status_code // 100 != 2:
                raise ValueError(f"HTTP {answer.status_code} {answer.reason}")
            shutil.copyfileobj(answer.raw, file)
    except (OSError, ValueError, HTTPError) as error:
        reason: BaseException = error  # requests and urllib3 wrap it in texts of their own
        while cause := reason.__cause__ or reason.__context__:
            reason = cause
        raise UserError(f"{url}: cannot be fetched: {first_line(reason)}") from error
