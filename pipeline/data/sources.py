"""A table from anywhere: a path, a URL or scikit-learn, as Arrow columns with a digest."""

import glob
import hashlib
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pyarrow as pa
import requests
from urllib3.exceptions import HTTPError

from pipeline.common.errors import UserError, did_you_mean, first_line, refuse
from pipeline.common.files import file_digest, nearest_file
from pipeline.common.text import few, some
from pipeline.data import values
from pipeline.data.dialect import NOTHING_TOLD, Dialect, Told
from pipeline.data.table_files import ENDINGS, read_table
from pipeline.data.text_files import lines_of, repeated_headers

SKLEARN = ("breast_cancer", "digits", "iris", "wine")

_NOTES = (".txt", ".data")  # beside images these are no tables
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"

TIMEOUT_S = 60.0  # without a byte

Index = Sequence[int] | np.ndarray


@dataclass
class Part:
    """A file of a source, or a table that is at hand.

    constants: values that its folders say of all its rows, as those of `year=2024/`; None: missing.
    rows, dialect, repeated: how many rows it has, how a text file is written, and whether some of
    its rows repeat the header; known when it has been read."""

    name: str
    place: Path | pa.Table
    constants: Mapping[str, str | None] = field(default_factory=dict)
    rows: int = 0
    dialect: Dialect | None = None
    repeated: bool = False

    @property
    def digest(self) -> str:
        """SHA-256 of the file's bytes, or of a table's content."""
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

    def table(self, wanted: Collection[str], told: Told, text: Collection[str]) -> pa.Table:
        """Its rows, as `Source.table` has them."""
        table = self.place
        if isinstance(table, Path):
            asked = [name for name in wanted if name not in self.constants]
            table, self.dialect = read_table(self.name, table, asked, told, text)
        self.rows = table.num_rows
        self.repeated = b"repeated" in (table.schema.metadata or {})
        return self.completed(table)

    def completed(self, table: pa.Table) -> pa.Table:
        """Rows of it with what its folders say."""
        for name, value in self.constants.items():
            values = pa.repeat(pa.scalar(value, pa.string()), table.num_rows)
            table = table.append_column(name, values)
        return table


@dataclass(frozen=True)
class Source:
    """A table that is at hand: files of one form, a downloaded copy, that of scikit-learn itself,
    or one that Python code has."""

    name: str
    parts: tuple[Part, ...]
    told: Told = NOTHING_TOLD

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file's bytes; of several files' digests and what their folders say; of the
        content where there is no file."""
        if len(self.parts) == 1 and not self.parts[0].constants:
            return self.parts[0].digest
        lines = (f"{part.digest} {sorted(part.constants.items())}" for part in self.parts)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def table(self, wanted: Collection[str] = (), text: Collection[str] = ()) -> pa.Table:
        """The rows, with types as found. Its metadata has the decimal sign of text files as
        `decimal`, and the columns of a data frame's index as a JSON list, `index`.

        Args:
            wanted: columns that it should have, by which a header is known.
            text: columns of text files that stay as they stand.

        Raises UserError: unreadable, no rows, rows of unequal length, two columns of one name,
            files that are not of one form."""
        table = self._joined(wanted, set(text))
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

    def _joined(self, wanted: Collection[str], text: set[str]) -> pa.Table:
        """The rows of all parts. Columns that are numbers in some of them only are text in all."""
        tables = [part.table(wanted, self.told, text) for part in self.parts]
        if len(tables) == 1:
            return tables[0]
        names = tables[0].column_names
        refuse(
            [
                f"{part.name}: must have the columns of {self.parts[0].name}; it lacks "
                f"{some(sorted(set(names) - has)) or 'none'}, and these are others: "
                f"{some(sorted(has - set(names))) or 'none'}"
                for part, table in zip(self.parts, tables, strict=True)
                if (has := set(table.column_names)) != set(names)
            ]
        )
        types = {name: {str(table.schema.field(name).type) for table in tables} for name in names}
        numbers = {"int64", "double", "float"}
        unlike = {name for name, kinds in types.items() if len(kinds) > 1 and not kinds <= numbers}
        if unlike - text:
            return self._joined(wanted, text | unlike)
        columns = [{name: table.column(name) for name in names} for table in tables]
        for name in unlike:
            for each in columns:
                each[name] = values.plain(each[name]).cast(pa.string())
        return pa.concat_tables(map(pa.table, columns), promote_options="permissive")

    def notes(self) -> list[str]:
        """How text files are written, where that is not as usual; known when they are read."""
        notes = [note for part in self.parts if part.dialect for note in part.dialect.notes]
        return list(dict.fromkeys(notes))

    def warnings(self) -> list[str]:
        """What may be meant otherwise in text files, and what was left out."""
        found = []
        for part in self.parts:
            if part.dialect and part.dialect.doubt:
                found.append(f"{part.name}: {part.dialect.doubt}")
            if part.dialect and part.repeated:
                lines = repeated_headers(part.place, part.dialect)
                shown = _numbered("line", lines[:5], lines)
                found.append(f"{part.name}: {shown} of the file repeat the header: left out")
        return found

    def rows(self, index: Index, shown: int = 5) -> str:
        """Rows (counted from 0) as the user sees them: 'line 7' of a CSV file, whose header is on
        line 1, 'row 7' (counted from 1) otherwise. The first `shown`, and how many others."""
        starts = np.cumsum([0, *(part.rows for part in self.parts)])
        of_part = np.searchsorted(starts[1:-1], index, side="right")
        part = self.parts[of_part[0]]
        inside = np.asarray(index)[of_part == of_part[0]] - starts[of_part[0]]
        name = f"{part.name}: " if len(self.parts) > 1 else ""
        more = len(index) - len(inside)
        others = f", and {more:,} more in other files" if more else ""
        if part.dialect is None:
            return name + row_numbers(inside, shown) + others
        lines = lines_of(part.place, part.dialect, inside[:shown].tolist())
        return name + _numbered("line", lines, inside) + others


def row_numbers(index: Index, shown: int = 5) -> str:
    """Rows (counted from 0) of a table of unknown origin: 'row 1' is the first."""
    return _numbered("row", [int(row) + 1 for row in index[:shown]], index)


def _numbered(word: str, numbers: Sequence[int], index: Index) -> str:
    """`numbers` are of the first rows of the index."""
    texts = few([str(number) for number in numbers], len(numbers), len(index))
    return f"{word if len(index) == 1 else f'{word}s'} {', '.join(texts)}"


@contextmanager
def opened(source: str, sha256: str | None = None, told: Told = NOTHING_TOLD) -> Iterator[Source]:
    """Bring the table here; a download is removed at the end.

    Args:
        source: a path or a http(s):// or file:// URL of one of `ENDINGS`, a folder or a glob of
            such files, or sklearn:NAME.
        sha256: the digest that it must have, checked before anything is parsed.

    Raises UserError: missing or unreadable file, unknown ending or name, another digest."""
    scheme, separator, _ = source.partition("://")
    if separator and scheme.lower() not in ("http", "https", "file"):
        raise UserError(
            f"{source}: a URL must begin with http://, https:// or file://; got {scheme}://"
        )
    with tempfile.TemporaryDirectory(prefix="table-") as folder:
        if source.startswith("sklearn:"):
            parts = [Part(source, _shipped(source))]
        elif is_many(source):
            parts = _parts(source)
        else:
            parts = [Part(source, local_file(source, Path(folder), ENDINGS))]
        table = Source(source, tuple(parts), told)
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


def is_many(source: str) -> bool:
    """Whether it is a folder with tables, or a pattern for files."""
    with suppress(OSError, ValueError, RuntimeError):
        path = Path(source).expanduser()
        if "://" in source or source.startswith("sklearn:"):
            return False
        if path.is_dir():
            return any(not path.name.lower().endswith(_NOTES) for path in _tables_below(path))
        return not path.exists() and glob.has_magic(source) and source.lower().endswith(ENDINGS)
    return False


def _tables_below(folder: Path) -> Iterator[Path]:
    """Those that no writer hides by a first `_` or `.`."""
    for path in folder.rglob("*"):
        names = path.relative_to(folder).parts
        if path.name.lower().endswith(ENDINGS) and not any(name[0] in "_." for name in names):
            yield path


def _parts(source: str) -> list[Part]:
    """The files in the order of their names, and what their folders say, as Hive names them. Raises
    UserError: there are none, or files of several forms."""
    folder = Path(source).expanduser()
    if folder.is_dir():
        root, paths = folder, list(_tables_below(folder))
    else:
        steps = folder.parts
        root = Path(*steps[: next(i for i, step in enumerate(steps) if glob.has_magic(step))])
        paths = [Path(name) for name in glob.glob(str(folder), recursive=True)]
    parts = []
    for path in sorted(paths):
        _check_readable(str(path), path)
        pairs = [n.partition("=") for n in path.relative_to(root).parts[:-1] if "=" in n]
        values = {unquote(key): unquote(value) for key, _, value in pairs}
        absent = dict.fromkeys(key for key, value in values.items() if value == _NO_VALUE)
        parts.append(Part(str(path), path, values | absent))
    if not parts:
        rule = "the file does not exist, and as a pattern it matches none"
        raise UserError(f"{source}: {rule}{nearest_file(folder)}")
    return parts


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
