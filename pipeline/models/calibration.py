"""From probabilities to decisions: a temperature that makes them honest, and a threshold.

Both are fitted on validation rows, with probabilities from networks that did not see these."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy import optimize, special

from pipeline.models.metrics import ACCURACY, KNOWN, Metric
from pipeline.models.scores import certain

Floats = npt.NDArray[np.float64]
Goal = Literal["accuracy", "f1", "youden"]

SHARPEST, FLATTEST = 0.05, 20.0
"""Temperatures lie between these; without bounds rows that are all right would ask for 0."""

MOST_CUTS = 500
"""Thresholds, evenly over the rows, at which a metric of somebody's is computed."""

GOALS: Mapping[Goal, Metric] = {
    "accuracy": ACCURACY,
    "f1": KNOWN["f1_score"],
    "youden": KNOWN["balanced_accuracy"],  # half of it, and a half
}

SMALLEST = 1e-30
"""What a probability of less, such as 0, counts as where its logarithm is taken."""


def tempered(probabilities: npt.NDArray[Any], temperature: float) -> Floats:
    """Probabilities [N, C] whose logits are divided by a temperature > 0: above 1 less certain.

    Order and most probable label stay. Guo et al. (2017), On Calibration of Modern Neural Networks.
    """
    probabilities = special.softmax(_logits(probabilities) / temperature, axis=1)
    return np.asarray(probabilities, dtype=np.float64)


def fit_temperature(probabilities: npt.NDArray[Any], y: npt.NDArray[np.int64]) -> float:
    """The temperature with the lowest mean cross entropy on rows [N, C] with class ids [N].

    The loss is convex in its inverse, so the search over [0.05, 20] finds the only minimum."""
    logits = _logits(probabilities)
    rows = np.arange(len(y))

    def loss(inverse: float) -> float:
        return float(-special.log_softmax(logits * inverse, axis=1)[rows, y].mean())

    optimum = optimize.minimize_scalar(
        loss, bounds=(1 / FLATTEST, 1 / SHARPEST), method="bounded", options={"xatol": 1e-9}
    )
    return float(1 / optimum.x)


def choose_threshold(positive: npt.NDArray[Any], y: npt.NDArray[Any], goal: Goal | Metric) -> float:
    """The threshold in [0, 1] that is best for `goal`, `positive > threshold` meaning label 1.

    Args:
        positive: probabilities [N] of label 1; y: [N], 0 or 1, both of them present.
        goal: accuracy; f1 of label 1; youden, the true minus the false positive rate; or a metric
            that judges predicted labels.

    Of equally good ones 0.5, else the middle of the stretch that is nearest to it."""
    values, place = np.unique(np.asarray(positive, dtype=np.float64), return_inverse=True)
    labels = np.asarray(y) == 1
    at_values = [np.bincount(place, weights=labels == label) for label in (False, True)]
    # A cut is below all values, or above one of them.
    below = np.pad(np.cumsum(at_values, axis=1), ((0, 0), (1, 0)))
    above = below[:, -1:] - below
    rows = np.stack([below[0], above[0], below[1], above[1]], axis=1)
    value = _at_cuts(rows, goal if isinstance(goal, Metric) else GOALS[goal])
    edges = np.concatenate([[0.0], values, [1.0]])
    low, high = edges[:-1], edges[1:]
    middle = (low + high) / 2
    # No threshold is below a probability of 0; one of 1 is above all of them.
    possible = low < high
    possible[-1] = True
    best = np.flatnonzero(possible & (value >= value[possible].max() - 1e-12))
    if ((low[best] <= 0.5) & (high[best] > 0.5)).any():
        return 0.5
    return float(min(middle[best], key=lambda cut: abs(cut - 0.5)))


def _at_cuts(table: Floats, metric: Metric) -> Floats:
    """The metric, higher is better, by the rows [K, 4] of each label and prediction: 0 and 0, 0 and
    1, 1 and 0, 1 and 1; -inf where it is not computed."""
    value = np.full(len(table), -np.inf)
    cuts = np.arange(len(table))
    if metric not in KNOWN.values():  # computed for one cut after the other
        cuts = np.linspace(0, len(table) - 1, MOST_CUTS).astype(int)
    predicted, y = torch.tensor([[0, 1, 0, 1], [0, 0, 1, 1]])
    weights = torch.from_numpy(table[cuts])
    scores = metric.score(certain(predicted, 2), y, weights).numpy()
    value[cuts] = np.where(np.isfinite(scores), metric.sign * scores, -np.inf)
    return value


def _logits(probabilities: npt.NDArray[Any]) -> Floats:
    logits: Floats = np.log(np.asarray(probabilities, dtype=np.float64).clip(SMALLEST, 1.0))
    return logits
