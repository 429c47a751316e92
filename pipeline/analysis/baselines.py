"""Models that are no networks, on the same rows: whether a network is worth having at all."""

import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Literal, TypeVar, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.analysis.comparison import Floats
from pipeline.data.splits import Split
from pipeline.models.metrics import METRICS, Metric

Work = TypeVar("Work")
Value = TypeVar("Value")
Name = Literal["majority label", "logistic regression", "gradient boosting"]
NAMES: tuple[Name, ...] = get_args(Name)

MOST_WORK = 3e9
"""For one fit: about ten seconds of a processor. Larger tables and images go without."""

_TREES, _LEAVES, _BINS, _DEPTH = 100, 31, 256, 5  # scikit-learn's defaults; the depth as a rule
_STEPS = 30  # 250 iterations of logistic regression, each of which costs an eighth


def affordable(name: Name, rows: int, columns: int, labels: int) -> bool:
    """Whether the model costs seconds and not minutes with so many numbers in so many rows."""
    if name == "majority label":
        return True
    outputs = 1 if labels == 2 else labels
    if name == "logistic regression":
        return _STEPS * outputs * columns * rows <= MOST_WORK
    return _TREES * outputs * columns * (_LEAVES * _BINS + _DEPTH * rows) <= MOST_WORK


def key(name: Name) -> str:
    """As it stands in the names of metrics."""
    return f"baseline_{name.replace(' ', '_')}"


def probabilities(
    name: Name, x: npt.NDArray[Any], y: npt.NDArray[np.int64], x_new: npt.NDArray[Any], labels: int
) -> Floats:
    """Probabilities [M, labels] of new rows [M, D], by the model trained on rows [N, D], ids [N].

    The majority label's are the frequencies of the labels in `y`. The others are scikit-learn's
    with their defaults; a label that `y` lacks has probability 0."""
    present, counts = np.unique(y, return_counts=True)
    predicted = np.zeros((len(x_new), labels))
    if name == "majority label" or len(present) == 1:
        predicted[:, present] = counts / len(y)
        return predicted
    # Slow to import, and a search that is only read back needs neither.
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression

    is_linear = name == "logistic regression"
    trees = HistGradientBoostingClassifier(random_state=0)
    model = LogisticRegression(max_iter=1000) if is_linear else trees
    predicted[:, present] = model.fit(x, y).predict_proba(x_new)
    return predicted


def in_threads(function: Callable[[Work], Value], work: Iterable[Work]) -> list[Value]:
    """The value of each, in its order, as many at once as torch has threads, each in one thread.

    On small tables the threads that OpenMP has for one model wait for each other longer than they
    work, and where another program holds a core fifty times as long."""
    from threadpoolctl import threadpool_limits

    # OpenMP's limit is each thread's own, that of BLAS the whole process's.
    one, count = partial(threadpool_limits, 1), torch.get_num_threads()
    with one(), ThreadPoolExecutor(count, initializer=one) as pool:
        return list(pool.map(function, work))


def scores(
    name: Name,
    inputs: Callable[[Split], npt.NDArray[Any]],
    y: npt.NDArray[np.int64],
    splits: Sequence[Split],
    labels: int,
    metrics: Iterable[Metric] = tuple(METRICS.values()),
) -> dict[str, Floats]:
    """By the metric's name [S], on the validation rows of each split; of metrics that are finite
    numbers on all of them.

    Args:
        inputs: of a split, all rows [N, D], encoded by what was fitted on its training rows."""

    def of_split(split: Split) -> dict[str, float]:
        x, train, held = inputs(split), split.training, split.validation
        predicted = probabilities(name, x[train], y[train], x[held], labels)
        return score(predicted, y[held], metrics)

    by_split = in_threads(of_split, splits)
    of_all = set(by_split[0]).intersection(*by_split)
    return {
        name: np.array([each[name] for each in by_split]) for name in by_split[0] if name in of_all
    }


def score(
    probabilities: Floats,
    y: npt.NDArray[np.int64],
    metrics: Iterable[Metric] = tuple(METRICS.values()),
) -> dict[str, float]:
    """By the name of each metric that is a finite number, of probabilities [M, C]; one of 0 counts
    as the smallest step of its dtype, so that the loss is finite."""
    logits, truth = log(probabilities), torch.from_numpy(y)
    found = {metric.name: float(metric.score(logits, truth)) for metric in metrics}
    return {name: value for name, value in found.items() if math.isfinite(value)}


def log(probabilities: npt.NDArray[Any]) -> Tensor:
    """Their logarithms; one of 0 counts as the smallest step of its dtype."""
    return torch.from_numpy(np.log(probabilities.clip(np.finfo(probabilities.dtype).eps, 1.0)))
