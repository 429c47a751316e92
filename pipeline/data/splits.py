"""Splits of row numbers: test rows, folds and hold-outs, stratified; of rows that depend on each
other by whole groups or forward in time."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.common.errors import UserError, refuse
from pipeline.common.seeds import Purpose, seed32
from pipeline.common.text import few
from pipeline.data.dependence import (
    INDEPENDENT,
    Dependence,
    Pair,
    forward,
    group_folds,
    held_groups,
)

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.data.schema import Schema


@dataclass(frozen=True)
class Split:
    """One division of the prepared training rows, into those that train and those that validate.

    `repeat` and `fold` count from 0; `training` and `validation` are int64, ascending."""

    repeat: int
    fold: int
    training: np.ndarray
    validation: np.ndarray


@dataclass(frozen=True)
class Subset:
    """Some of the rows: their class ids `y` int64 [N], what writes them to a file, and how many
    groups or moments they are of."""

    y: np.ndarray
    write: Callable[[Path], None]
    groups: int = 0


@dataclass(frozen=True)
class Division:
    """`left_out`: columns that cannot inform, with the reason. `warnings`: what else is to be said
    of the rows."""

    schema: "Schema"
    train: Subset
    test: Subset
    left_out: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def held_out(rows: int, fraction: float) -> int:
    """How many of so many rows a fraction of them is: rounded up, as scikit-learn does it."""
    return math.ceil(fraction * rows)


def make_splits(
    y: np.ndarray,
    folds: int,
    repeats: int,
    fraction: float,
    seed: int,
    labels: Sequence[Any] | None = None,
    dependence: Dependence = INDEPENDENT,
) -> tuple[Split, ...]:
    """`repeats * folds` splits, stratified and each repeat shuffled anew; forward ones are the same
    in each repeat.

    Args:
        y: class ids, int64 [N], at least 0.
        folds: 1 = one hold-out of `fraction` of the rows, in (0, 1), per repeat.
        labels: names of the class ids in messages.
        dependence: of the N rows.

    Raises UserError: a label with fewer rows or groups than folds, or none in one side of a
        hold-out; fewer moments than it takes."""
    names = labels or range(int(y.max()) + 1)
    why = f"for validation.folds = {folds}" if folds > 1 else "to train and to validate"
    _refuse_few(y, max(folds, 2), "training ", why, names, dependence)
    return tuple(
        Split(repeat, fold, np.sort(training), np.sort(validation))
        for repeat in range(repeats)
        for random_state in [seed32(seed, Purpose.FOLDS, repeat)]
        for fold, (training, validation) in enumerate(
            _divided(y, folds, fraction, random_state, "validation.fraction", names, dependence)
        )
    )


def holdout(
    y: np.ndarray,
    fraction: float,
    seed: int,
    labels: Sequence[Any] | None = None,
    dependence: Dependence = INDEPENDENT,
) -> Pair:
    """Row numbers that train and that test, int64, ascending: stratified, or that fraction of the
    groups, or the latest rows. Raises UserError: a label with too few rows to be in both."""
    names = labels or range(int(y.max()) + 1)
    _refuse_few(y, 2, "", "to train and to test", names, dependence)
    random_state = seed32(seed, Purpose.TEST_SPLIT)
    ((training, test),) = _divided(y, 1, fraction, random_state, "data.test", names, dependence)
    return np.sort(training), np.sort(test)


def check_splits(
    config: "Config", y: np.ndarray, labels: Sequence[Any], dependence: Dependence = INDEPENDENT
) -> None:
    """Whether `make_splits` will do with training rows of these class ids, int64 [N]; of
    independent rows their order is the same. Raises UserError: names each label that has too few.
    """
    how = config.validation
    make_splits(y, how.folds, how.repeats, how.fraction, config.seed, labels, dependence)


def rare_labels(
    config: "Config", y: np.ndarray, dependence: Dependence, is_divided: bool
) -> list[int]:
    """The class ids that have too few rows, or groups, for the folds of a configuration, and for
    the test part where rows are divided into that too."""
    how = config.validation
    least = max(how.folds, 2, how.final.folds if how.final else 0)
    if dependence.groups is not None:
        y = np.unique(np.stack([dependence.groups, y]), axis=1)[1]
    counts = np.bincount(y)
    held = np.ceil(counts * float(config.data.test)) if is_divided else np.zeros(len(counts))
    return [int(label) for label in np.flatnonzero(counts - held < least)]


def _divided(
    y: np.ndarray,
    folds: int,
    fraction: float,
    random_state: int,
    key: str,
    labels: Sequence[Any],
    dependence: Dependence,
) -> list[Pair]:
    """Folds, or with one fold a hold-out, of which `key` says the fraction."""
    from sklearn.model_selection import StratifiedKFold, StratifiedShuffleSplit

    column = dependence.column
    how, sides = f"split by {column!r}", ["trains"]
    if dependence.order is not None:
        pairs = forward(dependence.order, folds, fraction, column)
    elif dependence.groups is not None and folds > 1:
        pairs = group_folds(y, dependence.groups, folds, random_state)
    elif dependence.groups is not None:
        pairs = [held_groups(y, dependence.groups, fraction, random_state)]
    elif folds > 1:
        return list(StratifiedKFold(folds, shuffle=True, random_state=random_state).split(y, y))
    else:
        how, sides = f"{key} = {fraction}", ["trains", "is held out"]
        held = held_out(len(y), fraction)
        if min(held, len(y) - held) < len(labels):
            raise UserError(
                f"{key} must leave at least one row of each of the {len(labels)} labels in both "
                f"parts; got {fraction}, which is {held:,} of {len(y):,} rows"
            )
        divider = StratifiedShuffleSplit(1, test_size=fraction, random_state=random_state)
        pairs = list(divider.split(y, y))
    _refuse_labels(
        f"every label must have rows in the part that {side} ({how}); label {labels[index]!r} "
        "has none"
        for side, rows in zip(sides, pairs[0], strict=False)
        for index in np.setdiff1d(np.arange(len(labels)), y[rows]).tolist()
    )
    return pairs


def _refuse_few(
    y: np.ndarray, needed: int, part: str, why: str, labels: Sequence[Any], dependence: Dependence
) -> None:
    """UserError for each label that has too few rows, or is in too few groups."""
    units = f"{part}rows"
    if dependence.groups is not None:
        y = np.unique(np.stack([dependence.groups, y]), axis=1)[1]
        units = f"{part}groups of {dependence.column!r}"
    counts = np.bincount(y, minlength=len(labels))
    folds = f"validation.folds: {counts.min()}, " if counts.min() > 1 and part else ""
    ways = f"; set {folds}data.rare_labels: drop, or leave these rows out"
    _refuse_labels(
        f"every label must have at least {needed} {units} {why}; label {name!r} has {count:,}{ways}"
        for name, count in zip(labels, counts, strict=True)
        if count < needed
    )


def _refuse_labels(problems: Iterable[str]) -> None:
    texts = few(list(problems), shown=5)
    if len(texts) > 5:
        texts[-1] += " labels; is the target a column of labels?"
    refuse(texts)
