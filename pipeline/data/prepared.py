"""Prepared parts on disk: training and test rows, each in a file of its own, with digests."""

import json
import os
import shutil
import time
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.common.errors import UserError
from pipeline.data import encoding as features
from pipeline.data import sources as tables
from pipeline.data.encoding import Schema

_TRAIN, _TEST, _SCHEMA, MANIFEST = "train.arrow", "test.arrow", "schema.json", "manifest.json"
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


def write(
    directory: Path,
    settings: dict[str, Any],
    schema: Schema,
    about: dict[str, Any],
    counts: dict[str, tuple[int, ...]],
    train: tuple[pa.Table, np.ndarray | None],
    test: tuple[pa.Table, np.ndarray | None],
) -> Parts:
    """Write the parts to a folder beside `directory` and rename it.

    Args:
        settings, about: go into the manifest: what the parts are of.
        counts: rows per class id, of "train" and "test".
        train, test: a table and which of its rows are meant; None: all.
    """
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
            "settings": settings,
            **about,
            "files": {
                name: tables.file_digest(temporary / name) for name in (_TRAIN, _TEST, _SCHEMA)
            },
            "bytes": {name: (temporary / name).stat().st_size for name in (_TRAIN, _TEST)},
            "counts": counts,
        }
        _write_json(temporary / MANIFEST, manifest)
        _publish(temporary, directory)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    written = existing(directory)
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
        if existing(directory) is not None:
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


def read_manifest(directory: Path) -> dict[str, Any]:
    """What a folder says of itself; empty where it says nothing that can be read."""
    try:
        content = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def existing(directory: Path, open_test: bool = True) -> Parts | None:
    """The parts in a folder, or None unless every file is there with the digest it was given.

    Without `open_test` the size of the test rows' file has to do.
    """
    manifest = read_manifest(directory)
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
