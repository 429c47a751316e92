"""From a table to its prepared parts: read, checked, split and written, once."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pipeline.common.errors import UserError, did_you_mean
from pipeline.data import encoding as features
from pipeline.data import sources as tables
from pipeline.data import splits as folds
from pipeline.data.encoding import Schema
from pipeline.data.prepared import (
    MANIFEST,
    Parts,
    Rows,
    existing,
    load_test,
    load_training,
    read_manifest,
    write,
)

if TYPE_CHECKING:
    from pipeline.config import Config

__all__ = ["Parts", "Rows", "fingerprint", "load_test", "load_training", "open_parts", "prepare"]

FORMAT_VERSION = 2
"""Part of the fingerprint: raise it when the prepared files change their meaning."""


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
        found = existing(root / fingerprint(config, pinned.strip().lower(), None))
        if found is not None:
            return _checked(found, config)
    with ExitStack() as stack:
        source = stack.enter_context(tables.opened(config.data.source, pinned))
        path = _test_path(config)
        test = None if path is None else stack.enter_context(tables.opened(path))
        directory = root / fingerprint(config, source.digest, test.digest if test else None)
        found = existing(directory)
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
        found = existing(directory, open_test=False)
    if found is None:
        raise UserError(
            f"{config.data.source}: there are no prepared parts of this table with these data "
            f"settings and this seed in {root}; run prepare first"
        )
    return _checked(found, config)


def _newest(config: "Config", root: Path) -> Parts | None:
    manifests = [file for file in root.glob(f"[!.]*/{MANIFEST}") if file.is_file()]
    for manifest in sorted(manifests, key=lambda file: file.stat().st_mtime, reverse=True):
        if read_manifest(manifest.parent).get("settings") == _settings(config):
            found = existing(manifest.parent, open_test=False)
            if found and config.data.sha256 in (None, found.digests["source"]):
                return found
    return None


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
    return write(directory, _settings(config), schema, about, counts, (used, mask), (used, ~mask))


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
    return write(directory, _settings(config), schema, about, counts, train_rows, test_rows)


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
