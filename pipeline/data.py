"""The prepared parts: training and test rows on disk, each in a file of its own, with digests."""

import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pipeline import features, folds, tables
from pipeline.errors import UserError, did_you_mean
from pipeline.features import Schema

if TYPE_CHECKING:
    from pipeline.config import Config

FORMAT_VERSION = 1
"""Part of the fingerprint: raise it when the prepared files change their meaning."""

_TRAIN, _TEST, _SCHEMA, _MANIFEST = "train.arrow", "test.arrow", "schema.json", "manifest.json"
_ROWS_AT_ONCE = 65_536
_STALE_S = 24 * 3600.0


@dataclass(frozen=True)
class Parts:
    """Prepared rows on disk.

    `digests`: SHA-256 of "source" (its bytes), "train" and "test" (the prepared files).
    `rows`: number of rows of "train" and "test"; `counts`: the same per class id.
    `left_out`: columns that cannot inform, with the reason. `reused`: nothing had to be written.
    """

    directory: Path
    schema: Schema
    digests: dict[str, str]
    rows: dict[str, int]
    counts: dict[str, tuple[int, ...]]
    left_out: dict[str, str]
    reused: bool

    @property
    def training_path(self) -> Path:
        return self.directory / _TRAIN

    @property
    def test_path(self) -> Path:
        return self.directory / _TEST

    @property
    def schema_path(self) -> Path:
        return self.directory / _SCHEMA


@dataclass(frozen=True)
class Rows:
    """N rows: `raw` float64 [N, F] (see `features.to_raw`), `y` class ids int64 [N], `table` the
    original columns and the target.
    """

    raw: np.ndarray
    y: np.ndarray
    table: pa.Table


def prepare(config: "Config", root: Path = Path("prepared")) -> Parts:
    """Read, check and split the table, and write both parts under `root`; once.

    When the parts of this source, these data settings and this seed are already there and
    intact, no file is touched. New parts are written to a folder beside and renamed, so that
    none are ever seen half-written; of two processes at once, one finds the other's.

    Raises:
        UserError: the table cannot be read, or cannot be learned from; each problem names the
            column, the label or the row.
    """
    pinned = config.data.sha256
    if pinned is not None and tables.is_url(config.data.source) and _test_path(config) is None:
        found = _existing(root / fingerprint(config, pinned.strip().lower(), None))
        if found is not None:
            return _checked(found, config)
    with ExitStack() as stack:
        source = stack.enter_context(tables.opened(config.data.source, pinned))
        path = _test_path(config)
        test = None if path is None else stack.enter_context(tables.opened(path))
        directory = root / fingerprint(config, source.digest, test.digest if test else None)
        found = _existing(directory)
        if found is not None:
            return _checked(found, config)
        if test is None:
            return _split(config, source, directory)
        if test.digest == source.digest:
            raise UserError(
                f"data.test must hold other rows than data.source; got {test.name}, whose content "
                "is the same"
            )
        return _pair(config, source, test, directory)


def open_parts(config: "Config", root: Path = Path("prepared")) -> Parts:
    """The parts that `prepare` wrote for this configuration and the source as it is now.

    A source or test file behind a URL is not fetched again: its newest parts serve. The prepared
    test rows are not opened: only their file's size is looked at, and `load_test` does the rest.

    Raises:
        UserError: there are none, or they were altered.
    """
    found: Parts | None = None
    path = _test_path(config)
    if tables.is_url(config.data.source) or (path is not None and tables.is_url(path)):
        found = _newest(config, root)
    else:
        with ExitStack() as stack:
            source = stack.enter_context(tables.opened(config.data.source, config.data.sha256))
            test = None if path is None else stack.enter_context(tables.opened(path))
            digest = test.digest if test else None
            directory = root / fingerprint(config, source.digest, digest)
        found = _existing(directory, open_test=False)
    if found is None:
        raise UserError(
            f"{config.data.source}: there are no prepared parts of this table with these data "
            f"settings and this seed in {root}; run prepare first"
        )
    return _checked(found, config)


def _newest(config: "Config", root: Path) -> Parts | None:
    manifests = [file for file in root.glob(f"[!.]*/{_MANIFEST}") if file.is_file()]
    for manifest in sorted(manifests, key=lambda file: file.stat().st_mtime, reverse=True):
        if _read_manifest(manifest.parent).get("settings") == _settings(config):
            found = _existing(manifest.parent, open_test=False)
            if found and config.data.sha256 in (None, found.digests["source"]):
                return found
    return None


def load_training(parts: Parts) -> Rows:
    """The training rows. The table is mapped from the file, not held in memory."""
    return _load(parts.training_path, parts.schema, parts.rows["train"])


def load_test(parts: Parts) -> Rows:
    """The test rows; nothing but this and `prepare` opens their file.

    Raises:
        UserError: the file is gone or was altered since it was prepared.
    """
    try:
        intact = tables.file_digest(parts.test_path) == parts.digests["test"]
    except OSError:
        intact = False
    if not intact:
        raise UserError(f"{parts.test_path}: gone or altered since it was prepared; run prepare")
    return _load(parts.test_path, parts.schema, parts.rows["test"])


def fingerprint(config: "Config", source: str, test: str | None) -> str:
    """12 hexadecimal digits that name the parts: sources' digests, data settings, seed, format."""
    content = {"settings": _settings(config), "source": source, "test": test}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def _settings(config: "Config") -> dict[str, Any]:
    """What decides the parts besides the sources' bytes; `data.sha256` only checks them."""
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


def _split(config: "Config", source: tables.Source, directory: Path) -> Parts:
    """Test rows are drawn from the source's."""
    data, table = config.data, source.table()
    with _naming(source):
        features.check_columns(table, data.target, data.drop)
        labels = features.infer_labels(table, data.target, data.positive, source.rows)
        y = features.label_ids(table, Schema((), data.target, labels))
        training, test = folds.holdout(y, float(data.test), config.seed, labels)
        counts = _counts(y[training], y[test], len(labels))
        _check_splits(config, counts, labels)
        mask = np.zeros(table.num_rows, dtype=bool)
        mask[training] = True
        schema, left_out = features.infer_schema(
            table, data.target, data.positive, data.drop, mask, source.rows
        )
    used = _used(table, schema)
    del table
    about = {"source": source.digest, "test_source": None, "left_out": left_out}
    return _write(directory, config, schema, about, counts, (used, mask), (used, ~mask))


def _pair(config: "Config", source: tables.Source, test: tables.Source, directory: Path) -> Parts:
    """Test rows come from a file of their own, which teaches nothing."""
    data, table = config.data, source.table()
    with _naming(source):
        schema, left_out = features.infer_schema(
            table, data.target, data.positive, data.drop, rows=source.rows
        )
        y = features.label_ids(table, schema)
        _check_splits(config, {"train": tuple(np.bincount(y).tolist())}, schema.labels)
    text = [column.name for column in schema.columns if column.kind == "category"]
    if isinstance(schema.labels[0], str):
        text.append(data.target)
    test_table = test.table(text)
    with _naming(test):
        _check_has_columns(test_table, schema, source.name)
        features.check_readable(test_table, schema)
        test_y = features.label_ids(test_table, schema, test.rows)
    counts = _counts(y, test_y, schema.classes)
    train_rows, test_rows = (_used(table, schema), None), (_used(test_table, schema), None)
    del table, test_table
    about = {"source": source.digest, "test_source": test.digest, "left_out": left_out}
    return _write(directory, config, schema, about, counts, train_rows, test_rows)


@contextmanager
def _naming(source: tables.Source) -> Iterator[None]:
    """Problems found inside begin with the source's name."""
    try:
        yield
    except UserError as error:
        raise UserError([f"{source.name}: {problem}" for problem in error.problems]) from None


def _check_has_columns(table: pa.Table, schema: Schema, model: str) -> None:
    names = [*(column.name for column in schema.columns), schema.target]
    problems = [
        f"the test rows must have a column {name!r} as {model} has"
        f"{did_you_mean(name, table.column_names)}"
        for name in names
        if name not in table.column_names
    ]
    if problems:
        raise UserError(problems)


def _used(table: pa.Table, schema: Schema) -> pa.Table:
    """The columns that inform and the target; one dictionary per column, as the format asks."""
    names = [*(column.name for column in schema.columns), schema.target]
    return table.select(names).unify_dictionaries()


def _counts(train: np.ndarray, test: np.ndarray, classes: int) -> dict[str, tuple[int, ...]]:
    return {
        "train": tuple(np.bincount(train, minlength=classes).tolist()),
        "test": tuple(np.bincount(test, minlength=classes).tolist()),
    }


def _checked(parts: Parts, config: "Config") -> Parts:
    """The validation may be another than when the parts were written."""
    _check_splits(config, parts.counts, parts.schema.labels)
    return parts


def _check_splits(
    config: "Config", counts: dict[str, tuple[int, ...]], labels: Sequence[Any]
) -> None:
    wanted = config.validation
    folds.check_splits(
        counts["train"], wanted.folds, wanted.repeats, wanted.fraction, config.seed, labels
    )


def _write(
    directory: Path,
    config: "Config",
    schema: Schema,
    about: dict[str, Any],
    counts: dict[str, tuple[int, ...]],
    train: tuple[pa.Table, np.ndarray | None],
    test: tuple[pa.Table, np.ndarray | None],
) -> Parts:
    root = directory.parent
    root.mkdir(parents=True, exist_ok=True)
    _sweep(root)
    temporary = root / f".{directory.name}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    temporary.mkdir()
    try:
        _write_rows(temporary / _TRAIN, *train)
        _write_rows(temporary / _TEST, *test)
        _write_json(temporary / _SCHEMA, schema.to_dict())
        manifest = {
            "settings": _settings(config),
            **about,
            "files": {
                name: tables.file_digest(temporary / name) for name in (_TRAIN, _TEST, _SCHEMA)
            },
            "bytes": {name: (temporary / name).stat().st_size for name in (_TRAIN, _TEST)},
            "counts": counts,
        }
        _write_json(temporary / _MANIFEST, manifest)
        _publish(temporary, directory)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    written = _existing(directory)
    assert written is not None
    return replace(written, reused=False)


def _write_rows(path: Path, table: pa.Table, mask: np.ndarray | None) -> None:
    """Block by block, so that a part is never held beside the whole table."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        for start in range(0, table.num_rows, _ROWS_AT_ONCE):
            block = table.slice(start, _ROWS_AT_ONCE)
            if mask is not None:
                block = block.filter(pa.array(mask[start : start + _ROWS_AT_ONCE]))
            if block.num_rows:
                writer.write_table(block.combine_chunks())


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(
        json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
    )


def _publish(temporary: Path, directory: Path) -> None:
    """Rename into place; another process's intact parts are as good, altered ones make way."""
    while True:
        try:
            os.replace(temporary, directory)
            return
        except OSError:
            if not directory.is_dir():
                raise
        if _existing(directory) is not None:
            return
        aside = temporary.with_name(f"{temporary.name}-aside")
        try:
            os.replace(directory, aside)
        except FileNotFoundError:
            continue
        shutil.rmtree(aside, ignore_errors=True)


def _sweep(root: Path) -> None:
    """Remove what processes that were killed left behind, a day later."""
    for folder in root.glob(".*-*-*"):
        try:
            if folder.is_dir() and time.time() - folder.stat().st_mtime > _STALE_S:
                shutil.rmtree(folder, ignore_errors=True)
        except FileNotFoundError:
            continue


def _read_manifest(directory: Path) -> dict[str, Any]:
    try:
        content = json.loads((directory / _MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _existing(directory: Path, open_test: bool = True) -> Parts | None:
    """The parts in a folder, or None unless every file is there with the digest it was given.

    Without `open_test` the size of the test rows' file has to do.
    """
    manifest = _read_manifest(directory)
    try:
        for name, digest in manifest["files"].items():
            path = directory / name
            if path.stat().st_size != manifest["bytes"].get(name, path.stat().st_size):
                return None
            if (open_test or name != _TEST) and tables.file_digest(path) != digest:
                return None
        schema = Schema.from_dict(json.loads((directory / _SCHEMA).read_text(encoding="utf-8")))
        counts = {part: tuple(found) for part, found in manifest["counts"].items()}
        return Parts(
            directory=directory,
            schema=schema,
            digests={
                "source": manifest["source"],
                "train": manifest["files"][_TRAIN],
                "test": manifest["files"][_TEST],
            },
            rows={part: sum(found) for part, found in counts.items()},
            counts=counts,
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
            raw[rows] = features.to_raw(block, schema)
            y[rows] = features.label_ids(block, schema)
            start = rows.stop
    assert start == total
    return Rows(raw, y, pa.ipc.open_file(pa.memory_map(str(path))).read_all())
