"""Scores of predictions on rows, with their uncertainty, and the curves that are shown of them."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats
from sklearn import metrics
from sklearn.calibration import calibration_curve as sklearn_calibration_curve

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def wilson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval for a proportion, within [0, 1]; `confidence` in (0, 1).

    Its coverage stays near `confidence` at 0, at n and for small n, where the normal
    approximation fails. Wilson (1927), JASA 22(158), 209-212.

    Raises:
        ValueError: unless 0 <= successes <= n, n >= 1 and 0 < confidence < 1.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"`0 <= successes <= n, n >= 1` must hold, but got ({successes=}, {n=})")
    if not 0 < confidence < 1:
        raise ValueError(f"`0 < confidence < 1` must hold, but got {confidence}")
    z = float(stats.norm.ppf((1 + confidence) / 2))
    share = successes / n
    center = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low = 0.0 if successes == 0 else max(0.0, center - half)
    high = 1.0 if successes == n else min(1.0, center + half)
    return low, high


@dataclass(frozen=True)
class Scores:
    """Scores of predicted probabilities on `n` rows."""

    n: int
    accuracy: float  # share of rows whose most probable label is the true one
    accuracy_low: float  # 95 % Wilson interval
    accuracy_high: float
    loss: float  # mean cross entropy, nats
    roc_auc: float | None  # several labels: macro mean of one-vs-rest; None: a label is absent
    confusion: Integers  # [C, C] rows: true label; columns: predicted label

    @property
    def baseline(self) -> float:
        """The accuracy of always answering the most frequent label."""
        return float(self.confusion.sum(axis=1).max() / self.n)


def predicted_labels(probabilities: npt.NDArray[Any], threshold: float = 0.5) -> Integers:
    """Class ids [N]: the most probable, the first of equals; of two labels the one with id 1 where
    its probability is above `threshold`."""
    if probabilities.shape[1] == 2 and threshold != 0.5:
        return (probabilities[:, 1].astype(np.float64) > threshold).astype(np.int64)
    return np.asarray(probabilities.argmax(axis=1), dtype=np.int64)


def score(probabilities: npt.NDArray[Any], y: npt.NDArray[Any], threshold: float = 0.5) -> Scores:
    """Scores of `probabilities` [N, C], float, rows summing to 1, against class ids `y` [N].

    The predicted labels are those of `predicted_labels`. A probability of 0 counts
    in the loss as the smallest step of the dtype given, so that the loss is finite.

    Raises:
        ValueError: no rows, shapes that don't fit, ids outside 0..C-1, or values that are no
            probabilities.
    """
    # It brings Matplotlib with it, and a search that is only read back needs neither.
    from torchmetrics.functional.classification import multiclass_accuracy

    probabilities, y = _checked(probabilities, y)
    n, classes = probabilities.shape
    labels = np.arange(classes)
    predicted = predicted_labels(probabilities, threshold)
    accuracy = multiclass_accuracy(
        torch.from_numpy(predicted), torch.from_numpy(y), num_classes=classes, average="micro"
    )
    right = round(float(accuracy) * n)  # it is rounded to float32
    low, high = wilson(right, n)
    roc_auc = None
    if len(np.unique(y)) == classes:
        roc_auc = float(
            metrics.roc_auc_score(y, probabilities[:, 1])
            if classes == 2
            else metrics.roc_auc_score(
                y, probabilities, multi_class="ovr", average="macro", labels=labels
            )
        )
    return Scores(
        n=n,
        accuracy=right / n,
        accuracy_low=low,
        accuracy_high=high,
        loss=float(metrics.log_loss(y, probabilities, labels=labels)),
        roc_auc=roc_auc,
        confusion=metrics.confusion_matrix(y, predicted, labels=labels).astype(np.int64),
    )


def _checked(
    probabilities: npt.NDArray[Any], y: npt.NDArray[Any]
) -> tuple[npt.NDArray[Any], Integers]:
    probabilities = np.asarray(probabilities)
    y = np.asarray(y).astype(np.int64)
    if probabilities.ndim != 2 or probabilities.shape[1] < 2 or y.shape != probabilities.shape[:1]:
        raise ValueError(
            "`probabilities [N, C >= 2], y [N]` must hold, "
            f"but got {list(probabilities.shape)} and {list(y.shape)}"
        )
    if not len(y):
        raise ValueError("there are no rows to score")
    if y.min() < 0 or y.max() >= probabilities.shape[1]:
        raise ValueError(
            f"`0 <= y < {probabilities.shape[1]}` must hold, but got {y.min()} to {y.max()}"
        )
    sums = probabilities.sum(axis=1, keepdims=True)
    if not (
        np.isfinite(sums).all() and (probabilities >= 0).all() and (abs(sums - 1) < 1e-3).all()
    ):
        raise ValueError("probabilities must be finite, >= 0 and sum to 1 in each row")
    return probabilities / sums, y


@dataclass(frozen=True)
class RocCurve:
    """One label against the rest: true against false positive rate over all thresholds."""

    label: int
    false_positive_rate: Floats  # [T] from 0 to 1
    true_positive_rate: Floats  # [T]
    auc: float
    operating_point: tuple[float, float]  # (false, true positive rate) of the predicted labels


@dataclass(frozen=True)
class PrecisionRecallCurve:
    """One label against the rest: precision against recall over all thresholds."""

    label: int
    recall: Floats  # [T] from 1 to 0
    precision: Floats  # [T]
    average_precision: float
    prevalence: float  # share of rows with the label: the precision of guessing
    operating_point: tuple[float, float] | None  # (recall, precision); None: never predicted


def roc_curves(
    probabilities: npt.NDArray[Any], y: npt.NDArray[Any], threshold: float = 0.5
) -> tuple[RocCurve, ...]:
    """ROC curves: two labels: one, for label 1; several: one per label against the rest.

    A label without both positives and negatives in `y` has no curve and is left out.
    """
    probabilities, y = _checked(probabilities, y)
    predicted = predicted_labels(probabilities, threshold)
    curves = []
    for label in _one_against_rest(probabilities, y):
        truth, chosen = y == label, predicted == label
        fpr, tpr, _ = metrics.roc_curve(truth, probabilities[:, label])
        point = float(chosen[~truth].mean()), float(chosen[truth].mean())
        curves.append(RocCurve(label, fpr, tpr, float(metrics.auc(fpr, tpr)), point))
    return tuple(curves)


def precision_recall_curves(
    probabilities: npt.NDArray[Any], y: npt.NDArray[Any], threshold: float = 0.5
) -> tuple[PrecisionRecallCurve, ...]:
    """Precision-recall curves for the same labels as `roc_curves`."""
    probabilities, y = _checked(probabilities, y)
    predicted = predicted_labels(probabilities, threshold)
    curves = []
    for label in _one_against_rest(probabilities, y):
        truth, chosen = y == label, predicted == label
        values = probabilities[:, label]
        precision, recall, _ = metrics.precision_recall_curve(truth, values)
        point = (float(chosen[truth].mean()), float(truth[chosen].mean())) if chosen.any() else None
        average = float(metrics.average_precision_score(truth, values))
        curves.append(
            PrecisionRecallCurve(label, recall, precision, average, float(truth.mean()), point)
        )
    return tuple(curves)


def _one_against_rest(probabilities: npt.NDArray[Any], y: Integers) -> list[int]:
    classes = probabilities.shape[1]
    counts = np.bincount(y, minlength=classes)
    return [k for k in ([1] if classes == 2 else range(classes)) if 0 < counts[k] < len(y)]


@dataclass(frozen=True)
class Calibration:
    """Predicted probability against observed frequency in bins of equal width, empty ones left out.

    Two labels: the probability of label 1 and how often it was true. Several: the probability of
    the predicted label and how often it was the true one.
    """

    of_predicted_label: bool  # several labels
    low_edge: Floats  # [B]
    high_edge: Floats  # [B]
    predicted: Floats  # [B] mean predicted probability
    observed: Floats  # [B] share of rows in which it came true
    count: Integers  # [B] rows
    band_low: Floats  # [B] 95 % of calibrated models would be observed between these
    band_high: Floats  # [B]
    error: float  # expected calibration error: mean over rows of |observed - predicted|


def calibration(
    probabilities: npt.NDArray[Any], y: npt.NDArray[Any], bins: int = 10
) -> Calibration:
    """The calibration curve with, per bin, the binomial band of a perfectly calibrated model.

    The band follows Broecker and Smith (2007), Weather and Forecasting 22(3), 651-661, with the
    binomial distribution at the bin's mean probability in place of resampling.
    """
    probabilities, y = _checked(probabilities, y)
    several = probabilities.shape[1] > 2
    values = (probabilities.max(axis=1) if several else probabilities[:, 1]).astype(np.float64)
    values = values.clip(0, 1)
    came_true = probabilities.argmax(axis=1) == y if several else y == 1
    observed, predicted = sklearn_calibration_curve(
        came_true.astype(np.int64), values, n_bins=bins, strategy="uniform", pos_label=1
    )
    edges = np.linspace(0, 1, bins + 1)
    counts = np.bincount(np.searchsorted(edges[1:-1], values), minlength=bins)  # sklearn's bins
    filled = counts > 0
    count = counts[filled].astype(np.int64)
    low, high = stats.binom.interval(0.95, count, predicted)
    return Calibration(
        of_predicted_label=several,
        low_edge=edges[:-1][filled],
        high_edge=edges[1:][filled],
        predicted=predicted,
        observed=observed,
        count=count,
        band_low=np.maximum(low, 0) / count,  # scipy says -1 for a probability of exactly 0
        band_high=np.minimum(high, count) / count,
        error=float(np.average(np.abs(observed - predicted), weights=count)),
    )


@dataclass(frozen=True)
class Evaluation:
    """Everything that is shown of a model's predictions on held-out rows."""

    scores: Scores
    roc: tuple[RocCurve, ...]
    precision_recall: tuple[PrecisionRecallCurve, ...]
    calibration: Calibration


def evaluate(
    probabilities: npt.NDArray[Any], y: npt.NDArray[Any], threshold: float = 0.5
) -> Evaluation:
    """Scores and curves of `probabilities` [N, C] against class ids `y` [N]; errors as `score`."""
    return Evaluation(
        score(probabilities, y, threshold),
        roc_curves(probabilities, y, threshold),
        precision_recall_curves(probabilities, y, threshold),
        calibration(probabilities, y),
    )
