"""Stratified splits of row numbers: the test part, folds and hold-outs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.common.errors import UserError
from pipeline.common.seeds import Purpose, seed32


@dataclass(frozen=True)
class Split:
    """One division of the training part's rows; `training` and `validation` are int64, ascending.

    `repeat` and `fold` count from 0.
    """

    repeat: int
    fold: int
    training: np.ndarray
    validation: np.ndarray


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
        folds: 1 = one hold-out of `fraction` of the rows per repeat.
        fraction: of the rows, for folds = 1 only; in (0, 1).
        seed: at least 0; the same seed gives the same splits.
        labels: names of the class ids in messages.

    Raises:
        UserError: a label with fewer rows than folds, or none in one side of a hold-out.
    """
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
    """Row numbers of the training and of the test part, int64, ascending; stratified.

    Raises:
        UserError: a label with too few rows to be in both parts.
    """
    return _hold_out(y, fraction, seed32(seed, Purpose.TEST_SPLIT), "data.test", labels)


def check_splits(
    counts: Sequence[int],
    folds: int,
    repeats: int,
    fraction: float,
    seed: int,
    labels: Sequence[Any] | None = None,
) -> None:
    """Whether `make_splits` will do with so many training rows per class id.

    Raises:
        UserError: see `make_splits`.
    """
    check_counts(np.array(counts), folds, labels)
    if folds == 1:
        # How many rows of a label are held out depends on their number and not on their order.
        make_splits(np.repeat(np.arange(len(counts)), counts), 1, repeats, fraction, seed, labels)


def check_counts(counts: np.ndarray, folds: int, labels: Sequence[Any] | None = None) -> None:
    """Whether training rows per class id, int [C], suffice for the folds.

    Raises:
        UserError: names each label that has too few.
    """
    needed = max(folds, 2)
    few = [index for index, count in enumerate(counts) if count < needed]
    why = f"for validation.folds = {folds}" if folds > 1 else "to train and to validate"
    _refuse(
        [
            f"every label must have at least {needed} training rows {why}; "
            f"{_name(index, labels)} has {counts[index]:,}"
            for index in few
        ]
    )


def _hold_out(
    y: np.ndarray, fraction: float, random_state: int, key: str, labels: Sequence[Any] | None
) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.model_selection import StratifiedShuffleSplit

    counts = np.bincount(y)
    part = "test" if key == "data.test" else "validation"
    _refuse(
        [
            f"every label must have at least 2 rows to be in the training and the {part} part; "
            f"{_name(index, labels)} has {count:,}"
            for index, count in enumerate(counts)
            if count < 2
        ]
    )
    held = int(np.ceil(fraction * len(y)))
    if held < len(counts) or len(y) - held < len(counts):
        raise UserError(
            f"{key} must leave at least one row of each of the {len(counts)} labels in both parts; "
            f"got {fraction}, which is {held:,} of {len(y):,} rows"
        )
    divider = StratifiedShuffleSplit(1, test_size=fraction, random_state=random_state)
    training, held_out = next(divider.split(np.zeros(len(y)), y))
    problems = []
    for name, rows in (("training", training), (part, held_out)):
        found = np.bincount(y[rows], minlength=len(counts))
        problems += [
            f"every label must have a row in the {name} part; {_name(index, labels)} with "
            f"{counts[index]:,} rows has none there ({key} = {fraction})"
            for index in np.flatnonzero(found == 0).tolist()
        ]
    _refuse(problems)
    return np.sort(training), np.sort(held_out)


def _name(index: int, labels: Sequence[Any] | None) -> str:
    return f"label {labels[index]!r}" if labels is not None else f"class {index}"


def _refuse(problems: Sequence[str], shown: int = 5) -> None:
    if not problems:
        return
    if len(problems) > shown:
        more = f"... and {len(problems) - shown:,} more labels; is the target a column of labels?"
        problems = [*problems[:shown], more]
    raise UserError(problems)
