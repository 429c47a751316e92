"""Models that are no networks, on the same rows: whether a network is worth having at all."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from pipeline.analysis.resampled import Floats
from pipeline.data.splits import Split

Name = Literal["majority label", "logistic regression", "gradient boosting"]
NAMES: tuple[Name, ...] = get_args(Name)


MOST_WORK = 3e9
"""Of gradient boosting, for one fit: about ten seconds of a processor. Larger tables go without."""

_TREES, _LEAVES, _BINS, _DEPTH = 100, 31, 256, 5  # scikit-learn's defaults; the depth as a rule


def affordable(name: Name, rows: int, columns: int, labels: int) -> bool:
    """Whether the model costs seconds and not minutes on a table of this size."""
    if name != "gradient boosting":
        return True
    trees = _TREES * (1 if labels == 2 else labels)
    return trees * columns * (_LEAVES * _BINS + _DEPTH * rows) <= MOST_WORK


def key(name: Name) -> str:
    """As it stands in the names of metrics."""
    return f"baseline_{name.replace(' ', '_')}"


def probabilities(
    name: Name,
    x: npt.NDArray[Any],
    y: npt.NDArray[np.int64],
    x_new: npt.NDArray[Any],
    labels: int,
    seed: int = 0,
) -> Floats:
    """Probabilities [M, labels] of new rows [M, D], by the model trained on rows [N, D], ids [N].

    The majority label's are the frequencies of the labels in `y`. The others are scikit-learn's
    with their defaults; a label that `y` lacks has probability 0.
    """
    found = np.zeros((len(x_new), labels))
    if name == "majority label":
        found[:] = np.bincount(y, minlength=labels) / len(y)
        return found
    model = _model(name, seed)
    with _one_thread():
        known = np.unique(y)
        found[:, known] = model.fit(x, y).predict_proba(x_new) if len(known) > 1 else 1.0
    return found


def _one_thread() -> AbstractContextManager[Any]:
    """On small tables OpenMP's threads wait for each other longer than they work, and where another
    program holds a core fifty times as long."""
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[Any] = threadpool_limits(limits=1)
    return limits


def _model(name: Name, seed: int) -> Any:
    # Slow to import, and a search that is only read back needs neither.
    if name == "logistic regression":
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(max_iter=1000)
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(random_state=seed)


def scores(
    name: Name,
    x: npt.NDArray[Any],
    y: npt.NDArray[np.int64],
    splits: Sequence[Split],
    labels: int,
    seed: int = 0,
) -> tuple[Floats, Floats]:
    """Accuracies [S] and losses [S] (nats) on the validation rows of each split.

    Args:
        x: [S, N, D], encoded by what was fitted on the training rows of each split.
    """
    accuracies, losses = [], []
    for rows, split in zip(x, splits, strict=True):
        train, held = split.training, split.validation
        said = probabilities(name, rows[train], y[train], rows[held], labels, seed)
        accuracy, loss = score(said, y[held])
        accuracies.append(accuracy)
        losses.append(loss)
    return np.array(accuracies), np.array(losses)


def score(said: Floats, y: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Accuracy and mean cross entropy of probabilities [M, C]; a probability of 0 counts as the
    smallest step of its dtype, so that the loss is finite."""
    right = said[np.arange(len(y)), y].clip(np.finfo(said.dtype).eps, 1.0)
    return float((said.argmax(axis=1) == y).mean()), float(-np.log(right).mean())
