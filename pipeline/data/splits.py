"""Stratified splits of row numbers: test rows, folds and hold-outs."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.common.errors import UserError, refuse
from pipeline.common.seeds import Purpose, seed32
from pipeline.common.text import few

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
    """Some of the rows: their class ids `y` int64 [N], and what writes them to a file."""

    y: np.ndarray
    write: Callable[[Path], None]


@dataclass(frozen=True)
class Division:
    """`left_out`: columns that cannot inform, with the reason."""

    schema: "Schema"
    train: Subset
    test: Subset
    left_out: dict[str, str] = field(default_factory=dict)


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
) -> tuple[Split, ...]:
    """`repeats * folds` stratified splits, each repeat shuffled anew.

    Args:
        y: class ids, int64 [N], at least 0.
        folds: 1 = one hold-out of `fraction` of the rows, in (0, 1), per repeat.
        labels: names of the class ids in messages.

    Raises UserError: a label with fewer rows than folds, or none in one side of a hold-out."""
    from sklearn.model_selection import StratifiedKFold

    check_counts(np.bincount(y), folds, labels)
    splits = []
    for repeat in range(repeats):
        random_state = seed32(seed, Purpose.FOLDS, repeat)
        if folds == 1:
            pairs = [_hold_out(y, fraction, random_state, "validation.fraction", labels)]
        else:
            divider = StratifiedKFold(folds, shuffle=True, random_state=random_state)
            pairs = list(divider.split(np.zeros(len(y)), y))
        splits += [
            Split(repeat, fold, np.sort(training), np.sort(validation))
            for fold, (training, validation) in enumerate(pairs)
        ]
    return tuple(splits)


def holdout(
    y: np.ndarray, fraction: float, seed: int, labels: Sequence[Any] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers that train and that test, int64, ascending; stratified. Raises UserError: a label
    with too few rows to be in both."""
    return _hold_out(y, fraction, seed32(seed, Purpose.TEST_SPLIT), "data.test", labels)


def check_counts(counts: np.ndarray, folds: int, labels: Sequence[Any] | None = None) -> None:
    """Whether training rows per class id, int [C], suffice for the folds. Raises UserError: names
    each label that has too few."""
    needed = max(folds, 2)
    why = f"for validation.folds = {folds}" if folds > 1 else "to train and to validate"
    _refuse_labels(
        f"every label must have at least {needed} training rows {why}; "
        f"{_name(index, labels)} has {count:,}"
        for index, count in enumerate(counts)
        if count < needed
    )


def check_splits(config: "Config", counts: Sequence[int], labels: Sequence[Any]) -> None:
    """Whether `make_splits` will do with so many training rows per class id. Raises UserError:
    names each label that has too few."""
    validation = config.validation
    check_counts(np.array(counts), validation.folds, labels)
    if validation.folds == 1:
        # How many rows of a label are held out depends on their number and not on their order.
        y = np.repeat(np.arange(len(counts)), counts)
        make_splits(y, 1, validation.repeats, validation.fraction, config.seed, labels)


def _hold_out(
    y: np.ndarray, fraction: float, random_state: int, key: str, labels: Sequence[Any] | None
) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.model_selection import StratifiedShuffleSplit

    counts = np.bincount(y)
    other = "test" if key == "data.test" else "validation"
    _refuse_labels(
        f"every label must have at least 2 rows to be in the training and the {other} part; "
        f"{_name(index, labels)} has {count:,}"
        for index, count in enumerate(counts)
        if count < 2
    )
    held = held_out(len(y), fraction)
    if held < len(counts) or len(y) - held < len(counts):
        raise UserError(
            f"{key} must leave at least one row of each of the {len(counts)} labels in both parts; "
            f"got {fraction}, which is {held:,} of {len(y):,} rows"
        )
    divider = StratifiedShuffleSplit(1, test_size=fraction, random_state=random_state)
    training, held_rows = next(divider.split(np.zeros(len(y)), y))
    _refuse_labels(
        f"every label must have a row in the {name} part; {_name(index, labels)} with "
        f"{counts[index]:,} rows has none there ({key} = {fraction})"
        for name, rows in (("training", training), (other, held_rows))
        for index in np.setdiff1d(np.arange(len(counts)), y[rows]).tolist()
    )
    return np.sort(training), np.sort(held_rows)


def _name(index: int, labels: Sequence[Any] | None) -> str:
    return f"label {labels[index]!r}" if labels is not None else f"class {index}"


def _refuse_labels(problems: Iterable[str]) -> None:
    texts = few(list(problems), shown=5)
    if len(texts) > 5:
        texts[-1] += " labels; is the target a column of labels?"
    refuse(texts)
