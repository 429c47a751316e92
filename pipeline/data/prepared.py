"""Prepared rows: a table read, checked, split and written once, and read again from disk.

Training and test rows lie in a file each, whose digests show whether they were altered.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pipeline.common.errors import UserError, refuse
from pipeline.common.files import beside, file_digest
from pipeline.data.encoding import check_readable, label_ids, to_raw
from pipeline.data.schema import Schema, check_columns, infer_columns, infer_labels, missing_columns
from pipeline.data.sources import Source, is_url, opened
from pipeline.data.splits import check_counts, holdout, make_splits

if TYPE_CHECKING:
    from pipeline.config import Config

FORMAT_VERSION = 2
"""Part of the fingerprint: raise it when the prepared files change their meaning."""

_TRAIN, _TEST, _SCHEMA, _MANIFEST = "train.arrow", "test.arrow", "schema.json", "manifest.json"
_ROWS_AT_ONCE = 65_536
_STALE_S = 24 * 3600.0


@dataclass(frozen=True)
class PreparedData:
    """Prepared rows on disk.

    `digests`: SHA-256 of "source" (its bytes), "train" and "test" (the prepared files).
    `counts`: number of rows of "train" and "test" per class id.
    `left_out`: columns that cannot inform, with the reason. `reused`: nothing had to be written.
    """

    directory: Path
    schema: Schema
    digests: dict[str, str]
    counts: dict[str, tuple[int, ...]]
    left_out: dict[str, str]
    reused: bool

    @property
    def rows(self) -> dict[str, int]:
        """The number of rows of "train" and "test"."""
        return {subset: sum(counts) for subset, counts in self.counts.items()}

    @property
    def schema_path(self) -> Path:
        return self.directory / _SCHEMA


@dataclass(frozen=True)
class Rows:
    """N rows: `raw` float64 [N, F] (see `to_raw`), `y` class ids int64 [N], `table` the original
    columns and the target.
    """

    raw: np.ndarray
    y: np.ndarray
    table: pa.Table


def prepare(config: "Config", root: Path = Path("prepared")) -> PreparedData:
    """Read, check and split the table, and write its training and test rows under `root`; once.

    When the rows of this source, these data settings and this seed are already there and intact,
    no file is touched. New ones are written to a folder beside and renamed, so that none are ever
    seen half-written; of two processes at once, one finds the other's.

    Raises:
        UserError: the table cannot be read, or cannot be learned from; each problem names the
            column, the label or the row.
    """
    pinned, data = config.data.sha256, None
    if pinned is not None and is_url(config.data.source) and _test_path(config) is None:
        data = _existing(root / _fingerprint(config, pinned.strip().lower(), None))
    if data is None:
        with _opened(config) as (source, test):
            directory = root / _fingerprint(config, source.digest, test)
            data = _existing(directory)
            if data is None:
                return _prepare_new(config, source, test, directory)
    # The validation may be another than when the rows were written.
    _check_splits(config, data.counts["train"], data.schema.labels)
    return data


def open_prepared(config: "Config", root: Path = Path("prepared")) -> PreparedData:
    """The rows that `prepare` wrote for this configuration and the source as it is now.

    A source or test file behind a URL is not fetched again: its newest rows serve. The prepared
    test rows are not opened: only their file's size is looked at, and `load_test` does the rest.

    Raises:
        UserError: there are none, or they were altered.
    """
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
    _check_splits(config, data.counts["train"], data.schema.labels)
    return data


def _newest(config: "Config", root: Path) -> PreparedData | None:
    manifests = [file for file in root.glob(f"[!.]*/{_MANIFEST}") if file.is_file()]
    for manifest in sorted(manifests, key=lambda file: file.stat().st_mtime, reverse=True):
        data = _existing(manifest.parent, open_test=False, settings=_settings(config))
        if data and config.data.sha256 in (None, data.digests["source"]):
            return data
    return None


def _fingerprint(config: "Config", source: str, test: Source | None) -> str:
    """12 hexadecimal digits that name the rows: sources' digests, data settings, seed, format."""
    digests = {"source": source, "test": test.digest if test else None}
    content = {"settings": _settings(config), **digests}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def _settings(config: "Config") -> dict[str, Any]:
    """What decides the rows besides the sources' bytes; `data.sha256` only checks them."""
    data = config.data
    return {
        "format": FORMAT_VERSION,
        "seed": config.seed,
        "source": data.source,
        "target": data.target,
        "positive": data.positive,
        "drop": list(data.drop),
        "test": data.test,
    }


def _test_path(config: "Config") -> str | None:
    return config.data.test if isinstance(config.data.test, str) else None


@contextmanager
def _opened(config: "Config") -> Iterator[tuple[Source, Source | None]]:
    """The source, and the file of the test rows where they have one of their own."""
    path = _test_path(config)
    with (
        opened(config.data.source, config.data.sha256) as source,
        nullcontext() if path is None else opened(path) as test,
    ):
        yield source, test


def _prepare_new(
    config: "Config", source: Source, test: Source | None, directory: Path
) -> PreparedData:
    """Read, check and write the rows; without a `test` file, test rows are drawn from the source.

    A test file teaches nothing: it is read as the schema of the training rows says.
    """
    if test is not None and test.digest == source.digest:
        raise UserError(
            f"data.test must hold other rows than data.source; got {test.name}, whose content is "
            "the same"
        )
    data, table = config.data, source.table()
    with _naming(source):
        check_columns(table, data.target, data.drop)
        labels = infer_labels(table, data.target, data.positive, source.rows)
        y = label_ids(table, Schema((), data.target, labels))
        mask, train_y = None, y
        if test is None:
            training, testing = holdout(y, float(data.test), config.seed, labels)
            mask = np.zeros(len(y), dtype=bool)
            mask[training] = True
            train_y, test_y = y[training], y[testing]
        _check_splits(config, np.bincount(train_y).tolist(), labels)
        columns, left_out = infer_columns(table, data.target, data.drop, mask)
    schema = Schema(columns, data.target, labels)
    table = test_table = _used(table, schema)
    if test is not None:
        test_table, test_y = _read_test(test, source, schema)
    about = {
        "settings": _settings(config),
        "source": source.digest,
        "test_source": test and test.digest,
        "counts": {
            subset: np.bincount(ids, minlength=len(labels)).tolist()
            for subset, ids in (("train", train_y), ("test", test_y))
        },
        "left_out": left_out,
    }
    test_mask = None if mask is None else ~mask
    return _write(directory, schema, about, (table, mask), (test_table, test_mask))


def _read_test(test: Source, source: Source, schema: Schema) -> tuple[pa.Table, np.ndarray]:
    """The rows of a test file and their class ids."""
    text = [column.name for column in schema.columns if column.kind == "category"]
    if isinstance(schema.labels[0], str):
        text.append(schema.target)
    table = test.table(text)
    with _naming(test):
        why = f" as {source.name} has"
        refuse(missing_columns(table.column_names, schema.names, "the test rows", why))
        check_readable(table, schema)
        return _used(table, schema), label_ids(table, schema, test.rows)


@contextmanager
def _naming(source: Source) -> Iterator[None]:
    """Problems found inside begin with the source's name."""
    try:
        yield
    except UserError as error:
        raise UserError([f"{source.name}: {problem}" for problem in error.problems]) from None


def _used(table: pa.Table, schema: Schema) -> pa.Table:
    """The columns that inform and the target; one dictionary per column, as the format asks."""
    return table.select(schema.names).unify_dictionaries()


def _check_splits(config: "Config", counts: Sequence[int], labels: Sequence[Any]) -> None:
    """Whether `make_splits` will do with so many training rows per class id."""
    validation = config.validation
    check_counts(np.array(counts), validation.folds, labels)
    if validation.folds == 1:
        # How many rows of a label are held out depends on their number and not on their order.
        y = np.repeat(np.arange(len(counts)), counts)
        make_splits(y, 1, validation.repeats, validation.fraction, config.seed, labels)


# The files --------------------------------------------------------------------------------------


def load_training(data: PreparedData) -> Rows:
    """The training rows. The table is mapped from the file, not held in memory."""
    return _load(data.directory / _TRAIN, data.schema, data.rows["train"])


def load_test(data: PreparedData) -> Rows:
    """The test rows; nothing but this and `prepare` opens their file.

    Raises:
        UserError: the file is gone or was altered since it was prepared.
    """
    path = data.directory / _TEST
    try:
        intact = file_digest(path) == data.digests["test"]
    except OSError:
        intact = False
    if not intact:
        raise UserError(f"{path}: gone or altered since it was prepared; run prepare")
    return _load(path, data.schema, data.rows["test"])


def _write(
    directory: Path,
    schema: Schema,
    about: dict[str, Any],
    train: tuple[pa.Table, np.ndarray | None],
    test: tuple[pa.Table, np.ndarray | None],
) -> PreparedData:
    """Write the rows to a folder beside `directory` and rename it.

    Args:
        about: goes into the manifest, what the rows are of: "settings", the digest of the
            "source", the rows of "train" and "test" per class id as "counts", columns "left_out".
        train, test: a table and which of its rows are meant; None: all.
    """
    root = directory.parent
    root.mkdir(parents=True, exist_ok=True)
    _sweep(root)
    temporary = beside(directory)
    temporary.mkdir()
    try:
        _write_rows(temporary / _TRAIN, *train)
        _write_rows(temporary / _TEST, *test)
        _write_json(temporary / _SCHEMA, schema.to_dict())
        manifest = {
            **about,
            "files": {name: file_digest(temporary / name) for name in (_TRAIN, _TEST, _SCHEMA)},
            "bytes": {name: (temporary / name).stat().st_size for name in (_TRAIN, _TEST)},
        }
        _write_json(temporary / _MANIFEST, manifest)
        return replace(_published(temporary, directory), reused=False)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_rows(path: Path, table: pa.Table, mask: np.ndarray | None) -> None:
    """Block by block, so that a subset is never held beside the whole table."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        for start in range(0, table.num_rows, _ROWS_AT_ONCE):
            block = table.slice(start, _ROWS_AT_ONCE)
            if mask is not None:
                block = block.filter(pa.array(mask[start : start + _ROWS_AT_ONCE]))
            if block.num_rows:
                writer.write_table(block.combine_chunks())


def _write_json(path: Path, content: dict[str, Any]) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def _published(temporary: Path, directory: Path) -> PreparedData:
    """Rename into place; another process's intact rows are as good, altered ones make way."""
    while True:
        try:
            os.replace(temporary, directory)
        except OSError:
            if not directory.is_dir():
                raise
        if (data := _existing(directory)) is not None:
            return data
        altered = beside(directory)
        try:
            os.replace(directory, altered)
        except FileNotFoundError:
            continue
        shutil.rmtree(altered, ignore_errors=True)


def _sweep(root: Path) -> None:
    """Remove what processes that were killed left behind, a day later."""
    for folder in root.glob(f".*.{'[0-9a-f]' * 8}"):
        try:
            if folder.is_dir() and time.time() - folder.stat().st_mtime > _STALE_S:
                shutil.rmtree(folder, ignore_errors=True)
        except FileNotFoundError:
            continue


def _existing(
    directory: Path, open_test: bool = True, settings: dict[str, Any] | None = None
) -> PreparedData | None:
    """The rows in a folder, or None unless every file is there with the digest it was given.

    Without `open_test` the size of the test rows' file has to do. With `settings` the rows must
    have been prepared with these.
    """
    try:
        manifest = json.loads((directory / _MANIFEST).read_text(encoding="utf-8"))
        if settings not in (None, manifest["settings"]):
            return None
        files: dict[str, str] = manifest["files"]
        for name, digest in files.items():
            path = directory / name
            if path.stat().st_size != manifest["bytes"].get(name, path.stat().st_size):
                return None
            if (open_test or name != _TEST) and file_digest(path) != digest:
                return None
        return PreparedData(
            directory=directory,
            schema=Schema.from_dict(json.loads((directory / _SCHEMA).read_text(encoding="utf-8"))),
            digests={"source": manifest["source"], "train": files[_TRAIN], "test": files[_TEST]},
            counts={subset: tuple(counts) for subset, counts in manifest["counts"].items()},
            left_out=manifest["left_out"],
            reused=True,
        )
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None


def _load(path: Path, schema: Schema, total: int) -> Rows:
    """Block by block: beside the result, one block is held at a time."""
    raw = np.empty((total, len(schema.columns)), dtype=np.float64)
    y = np.empty(total, dtype=np.int64)
    start = 0
    with pa.OSFile(str(path)) as file:
        reader = pa.ipc.open_file(file)
        for index in range(reader.num_record_batches):
            block = pa.Table.from_batches([reader.get_batch(index)])
            rows = slice(start, start + block.num_rows)
            raw[rows], y[rows] = to_raw(block, schema), label_ids(block, schema)
            start = rows.stop
    assert start == total
    return Rows(raw, y, pa.ipc.open_file(pa.memory_map(str(path))).read_all())
