"""Prepared rows: read, checked, divided and written once, and read again from disk.

Training and test rows lie in a file each, whose digests show whether they were altered."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch

from pipeline.common.addresses import masked
from pipeline.common.errors import RunError, UserError, naming
from pipeline.common.files import beside, file_digest
from pipeline.config.ranges import plain
from pipeline.data import arrays, arrow_tables
from pipeline.data.arrays import ArraySource, Kind, check_settings, kind_of
from pipeline.data.dependence import INDEPENDENT, Dependence
from pipeline.data.dialect import Told
from pipeline.data.encoding import encoded, rows_at_once, to_raw
from pipeline.data.examples import checked
from pipeline.data.given import Given
from pipeline.data.schema import Schema
from pipeline.data.sources import Part, Source, is_url, opened
from pipeline.data.splits import Division, check_splits

if TYPE_CHECKING:
    from pipeline.config import Config

AnySource = Source | ArraySource

FORMAT_VERSION = 4
"""Part of the fingerprint: raise it when the prepared files change their meaning."""

_SCHEMA, _MANIFEST = "schema.json", "manifest.json"


@dataclass(frozen=True)
class PreparedData:
    """Prepared rows on disk.

    `digests`: SHA-256 of "source" (its bytes), "train" and "test" (the prepared files).
    `counts`: number of rows of "train" and "test" per class id; `groups`: of groups, or moments,
        that they are of, 0 where rows are independent.
    `left_out`: columns that cannot inform, with the reason. `warnings`: what else is to be said.
    `notes`: how a text file is written.
    `reused`: nothing had to be written."""

    directory: Path
    schema: Schema
    digests: dict[str, str]
    counts: dict[str, tuple[int, ...]]
    left_out: dict[str, str]
    reused: bool
    groups: dict[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> dict[str, int]:
        """The number of rows of "train" and "test"."""
        return {subset: sum(counts) for subset, counts in self.counts.items()}

    @property
    def schema_path(self) -> Path:
        return self.directory / _SCHEMA


@dataclass(frozen=True)
class Rows:
    """N rows. Those of a table are not held: whenever they are asked for its file is read.

    array: [N, *shape] in its dtype; None for a table.
    y: class ids int64 [N].
    table: the original columns and, as the last one, the target; None for arrays.
    dependence: what makes the rows depend on each other.
    schema: of a table."""

    array: np.ndarray | None
    y: np.ndarray
    table: pa.Table | None = None
    dependence: Dependence = INDEPENDENT
    schema: Schema | None = None

    @property
    def raw(self) -> np.ndarray:
        """Of a table float64 [N, F] (see `to_raw`); of arrays [N, *shape] in their dtype."""
        return self.take(slice(None))

    def take(self, rows: slice | np.ndarray) -> np.ndarray:
        """Some rows of `raw`."""
        if self.array is not None:
            return self.array[rows]
        assert self.table is not None
        assert self.schema is not None
        some = self.table[rows] if isinstance(rows, slice) else self.table.take(rows)
        return to_raw(some, self.schema)

    def encoded(self, encoder: torch.nn.Module) -> torch.Tensor:
        """The inputs [S, N, ...] of all rows (`encoding.encoded`)."""
        step = rows_at_once(self.take(slice(1)).size)
        starts = range(0, len(self.y), step)
        blocks = (torch.from_numpy(self.take(slice(at, at + step))) for at in starts)
        return encoded(encoder, blocks, len(self.y))

    def given(self, rows: slice = slice(None)) -> Any:
        """Some rows as people give them to a model: a DataFrame, or an array [rows, *shape]."""
        if self.table is None:
            return self.raw[rows]
        return self.table[rows].drop_columns(self.table.column_names[-1:]).to_pandas()


def prepare(
    config: "Config", root: Path = Path("prepared"), given: Given | None = None
) -> PreparedData:
    """Read, check and split the data, and write its training and test rows under `root`; once.

    Rows of this source, these data settings and this seed that are there and intact stay. New ones
    are written to a folder beside, which is renamed; of two processes, one finds the other's.

    given: the rows themselves, where `data.source` only names them.

    Raises UserError that names the column, the label or the row."""
    pinned, data = config.data.sha256, None
    is_remote = given is None and is_url(config.data.source)
    if pinned is not None and is_remote and _test_path(config) is None:
        data = _existing(root / _fingerprint(config, pinned.strip().lower(), None))
    if data is None:
        with _opened(config, given) as (source, test):
            directory = root / _fingerprint(config, source.digest, test)
            data = _existing(directory)
            if data is None:
                return _prepare_new(config, source, test, directory)
    _check_splits(config, data)
    return data


def _check_splits(config: "Config", data: PreparedData) -> None:
    """The validation may be another than when the rows were written."""
    y, dependence = np.repeat(np.arange(data.schema.classes), data.counts["train"]), INDEPENDENT
    if data.groups["train"]:
        rows = load_training(data)
        y, dependence = rows.y, rows.dependence
    check_splits(config, y, data.schema.labels, dependence)


def open_prepared(config: "Config", root: Path = Path("prepared")) -> PreparedData:
    """The rows that `prepare` wrote for this configuration and the source as it is now.

    A source or test file behind a URL is not fetched again: its newest rows serve. The prepared
    test rows are not opened: `load_test` does that.

    Raises UserError: there are none, or they were altered."""
    if is_url(config.data.source) or is_url(_test_path(config) or ""):
        data = _newest(config, root)
    else:
        with _opened(config) as (source, test):
            data = _existing(root / _fingerprint(config, source.digest, test), open_test=False)
    if data is None:
        raise UserError(
            f"{config.data.source}: there are no prepared rows of this table with these data "
            f"settings and this seed in {root}; run prepare first"
        )
    _check_splits(config, data)
    return data


def _newest(config: "Config", root: Path) -> PreparedData | None:
    manifests = sorted(root.glob(f"[!.]*/{_MANIFEST}"), key=lambda file: -file.stat().st_mtime)
    found = (_existing(m.parent, open_test=False, settings=_settings(config)) for m in manifests)
    pinned = config.data.sha256
    return next((data for data in found if data and pinned in (None, data.digests["source"])), None)


def _fingerprint(config: "Config", source: str, test: AnySource | None) -> str:
    """12 hexadecimal digits that name the rows: sources' digests, data settings, seed, format."""
    digests = {"source": source, "test": test.digest if test else None}
    content = {"settings": _settings(config), **digests}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def _settings(config: "Config") -> dict[str, Any]:
    """What decides the rows besides the sources' bytes; `data.sha256` only checks them."""
    chosen = {key: _without_secrets(plain(value)) for key, value in config.data if key != "sha256"}
    chosen |= {key: getattr(config.validation, key) for key in ("groups", "order")}
    if config.data.rare_labels == "drop":
        chosen["folds"] = [config.validation.folds, plain(config.validation.final)]
    return {"format": FORMAT_VERSION, "seed": config.seed, **chosen}


def _without_secrets(value: Any) -> Any:
    """The same, where an address holds secrets with a digest of these in their place."""
    if isinstance(value, dict):
        return {key: _without_secrets(each) for key, each in value.items()}
    if not isinstance(value, str) or (shown := masked(value)) == value:
        return value
    return f"{shown} {hashlib.sha256(value.encode()).hexdigest()[:16]}"


def _test_path(config: "Config") -> str | None:
    return config.data.test if isinstance(config.data.test, str) else None


@contextmanager
def _opened(
    config: "Config", given: Given | None = None
) -> Iterator[tuple[AnySource, AnySource | None]]:
    """The source, and that of the test rows where they have one of their own."""
    data, path = config.data, _test_path(config)
    kind: Kind = "table" if isinstance(given, pa.Table) else "given"
    if given is None:
        kind = kind_of(data.source)
    test_kind = kind if path is None else kind_of(path)
    if (kind == "table") != (test_kind == "table"):
        wanted, other = ("a table", "arrays") if kind == "table" else ("arrays", "a table")
        raise UserError(
            f"data.test: must be {wanted}, as {data.source} is; got {path}, which is {other}"
        )
    check_settings(config, {kind, test_kind})
    with ExitStack() as stack:

        def reach(kind: Kind, place: str, key: str, sha256: str | None) -> AnySource:
            if kind == "table":
                told = Told(data.encoding, data.separator, data.decimal, data.header)
                return stack.enter_context(opened(place, sha256, told))
            reached = arrays.opened(place, data.arguments, data.size, sha256, key)
            return stack.enter_context(reached)

        source: AnySource
        if given is None:
            source = reach(kind, data.source, "data.source", data.sha256)
        elif isinstance(given, pa.Table):
            source = Source(data.source, (Part(data.source, given),))
        else:
            x, y = given
            with naming(data.source):
                source = ArraySource(data.source, checked(x, y, data.size), data.size)
        yield source, None if path is None else reach(test_kind, path, "data.test", None)


def _prepare_new(
    config: "Config", source: AnySource, test: AnySource | None, directory: Path
) -> PreparedData:
    """Read, check and write the rows; without a `test` source, test rows are drawn."""
    if test is not None and test.digest == source.digest:
        raise UserError(
            f"data.test must hold other rows than data.source; got {test.name}, whose content is "
            "the same"
        )
    divided: Any = arrow_tables.divided if isinstance(source, Source) else arrays.divided
    division: Division = divided(config, source, test)
    about = {
        "settings": _settings(config),
        "digests": {"source": source.digest},
        "counts": {
            subset: np.bincount(rows.y, minlength=division.schema.classes).tolist()
            for subset, rows in (("train", division.train), ("test", division.test))
        },
        "groups": {"train": division.train.groups, "test": division.test.groups},
        "left_out": division.left_out,
        "warnings": division.warnings,
        "notes": division.notes,
    }
    return _write(directory, division, about)


def load_training(data: PreparedData) -> Rows:
    """The training rows. A table is mapped from the file, not held in memory."""
    return _load(data, "train")


def load_test(data: PreparedData) -> Rows:
    """The test rows; nothing but this and `prepare` opens their file. Raises UserError: the file is
    gone or was altered since it was prepared."""
    path = data.directory / _file("test", data.schema)
    intact = False
    with suppress(OSError):
        intact = file_digest(path) == data.digests["test"]
    if not intact:
        raise UserError(f"{path}: gone or altered since it was prepared; run prepare")
    return _load(data, "test")


def _load(data: PreparedData, subset: str) -> Rows:
    path = data.directory / _file(subset, data.schema)
    if data.schema.inputs is not None:
        return Rows(*arrays.load(path))
    return Rows(None, *arrow_tables.load(path, data.schema), data.schema)


def _file(subset: str, schema: Schema) -> str:
    return f"{subset}.arrow" if schema.inputs is None else f"{subset}{arrays.NPZ}"


def _write(directory: Path, division: Division, about: dict[str, Any]) -> PreparedData:
    """Write the rows, and what they are `about` into the manifest, to a folder beside `directory`
    and rename it."""
    root = directory.parent
    root.mkdir(parents=True, exist_ok=True)
    temporary = beside(directory)
    temporary.mkdir()
    subsets = {"train": division.train, "test": division.test}
    try:
        _write_json(temporary / _SCHEMA, division.schema.to_dict())
        about["files"] = {_SCHEMA: file_digest(temporary / _SCHEMA)}
        for subset, rows in subsets.items():
            name = _file(subset, division.schema)
            rows.write(temporary / name)
            about["digests"][subset] = about["files"][name] = file_digest(temporary / name)
        _write_json(temporary / _MANIFEST, about)
        return replace(_published(temporary, directory), reused=False)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def _published(temporary: Path, directory: Path) -> PreparedData:
    """Rename into place; another process's intact rows are as good, altered ones make way."""
    if directory.is_dir() and _existing(directory) is None:
        shutil.rmtree(directory, ignore_errors=True)
    try:
        os.replace(temporary, directory)
    except OSError:
        if not directory.is_dir():
            raise
    if (data := _existing(directory)) is None:
        raise RunError(f"{directory}: altered while it was written; run it again")
    return data


def _existing(
    directory: Path, open_test: bool = True, settings: dict[str, Any] | None = None
) -> PreparedData | None:
    """The rows in a folder, or None unless every file is there with the digest it was given.

    Without `open_test` the test rows' file has only to be there. With `settings` the rows must have
    been prepared with these."""
    try:
        about = json.loads((directory / _MANIFEST).read_text(encoding="utf-8"))
        if settings not in (None, about["settings"]):
            return None
        for name, digest in about["files"].items():
            if not open_test and name.startswith("test."):
                (directory / name).stat()
            elif file_digest(directory / name) != digest:
                return None
        return PreparedData(
            directory=directory,
            schema=Schema.from_dict(json.loads((directory / _SCHEMA).read_text(encoding="utf-8"))),
            digests=about["digests"],
            counts={subset: tuple(counts) for subset, counts in about["counts"].items()},
            left_out=about["left_out"],
            reused=True,
            groups=about["groups"],
            warnings=tuple(about["warnings"]),
            notes=tuple(about["notes"]),
        )
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None
