"""Predictions for test rows: scores with their uncertainty, the curves that are shown of them, and
whether a new model's are good enough for it to take the place of the one that serves."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats
from sklearn import metrics
from sklearn.calibration import calibration_curve as sklearn_calibration_curve

from pipeline.analysis import baselines
from pipeline.models.metrics import ACCURACY, LOSS, METRICS

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

LEVEL = 0.05  # of McNemar's test, by which one model is better than another


@dataclass(frozen=True)
class Scores:
    """Scores of predicted probabilities on `n` rows."""

    n: int
    accuracy: float  # of torchmetrics: share of rows whose predicted label is the true one
    accuracy_low: float  # 95 % Wilson interval, Wilson (1927), JASA 22(158), 209-212
    accuracy_high: float
    loss: float  # mean cross entropy, nats
    roc_auc: float | None  # several labels: macro mean of one-vs-rest; None: a label is absent
    confusion: Integers  # [C, C] rows: true label; columns: predicted label
    further: Mapping[str, float] = field(default_factory=dict)  # of METRICS, by name

    @property
    def by_metric(self) -> dict[str, float]:
        """Every metric's score by its name."""
        return {ACCURACY.name: self.accuracy, LOSS.name: self.loss, **self.further}

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

    The predicted labels are those of `predicted_labels`. A probability of 0 counts in the loss as
    the smallest step of the dtype given, so that the loss is finite.

    Raises:
        ValueError: no rows, shapes that don't fit, ids outside 0..C-1, or values that are no
            probabilities."""
    # It brings Matplotlib with it, and a search that is only read back needs neither.
    from torchmetrics import Accuracy

    probabilities, y = _checked(probabilities, y)
    n, classes = probabilities.shape
    labels = np.arange(classes)
    predicted = predicted_labels(probabilities, threshold)
    accuracy = Accuracy(task="multiclass", num_classes=classes, average="micro")
    accuracy.update(torch.from_numpy(predicted), torch.from_numpy(y))
    interval = stats.binomtest(int((predicted == y).sum()), n).proportion_ci(method="wilson")
    roc_auc = None
    if len(np.unique(y)) == classes:
        values = probabilities[:, 1] if classes == 2 else probabilities
        roc_auc = float(metrics.roc_auc_score(y, values, multi_class="ovr", labels=labels))
    further = [metric for metric in METRICS.values() if metric not in (ACCURACY, LOSS)]
    return Scores(
        n=n,
        accuracy=float(accuracy.compute()),
        accuracy_low=float(interval.low),
        accuracy_high=float(interval.high),
        loss=float(metrics.log_loss(y, probabilities, labels=labels)),
        roc_auc=roc_auc,
        confusion=metrics.confusion_matrix(y, predicted, labels=labels).astype(np.int64),
        further=baselines.score(probabilities, y, further),
    )


def _checked(
    probabilities: npt.NDArray[Any], y: npt.NDArray[Any]
) -> tuple[npt.NDArray[Any], Integers]:
    probabilities = np.asarray(probabilities)
    y = np.asarray(y).astype(np.int64)
    sums = probabilities.sum(axis=1, keepdims=True)
    if not ((probabilities >= 0).all() and (abs(sums - 1) < 1e-3).all()):
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


def curves(
    probabilities: npt.NDArray[Any], y: npt.NDArray[Any], threshold: float = 0.5
) -> tuple[tuple[RocCurve, ...], tuple[PrecisionRecallCurve, ...]]:
    """Both curves: of two labels for label 1, of several for each label against the rest.

    A label without both positives and negatives in `y` has no curve and is left out."""
    probabilities, y = _checked(probabilities, y)
    predicted = predicted_labels(probabilities, threshold)
    classes = probabilities.shape[1]
    roc, precision_recall = [], []
    for label in [1] if classes == 2 else range(classes):
        values, truth, chosen = probabilities[:, label], y == label, predicted == label
        if truth.all() or not truth.any():
            continue
        hits = float(chosen[truth].mean())
        fpr, tpr, _ = metrics.roc_curve(truth, values)
        point = float(chosen[~truth].mean()), hits
        roc.append(RocCurve(label, fpr, tpr, float(metrics.auc(fpr, tpr)), point))
        precision, recall, _ = metrics.precision_recall_curve(truth, values)
        average = float(metrics.average_precision_score(truth, values))
        at = (hits, float(truth[chosen].mean())) if chosen.any() else None
        precision_recall.append(
            PrecisionRecallCurve(label, recall, precision, average, float(truth.mean()), at)
        )
    return tuple(roc), tuple(precision_recall)


@dataclass(frozen=True)
class Calibration:
    """Predicted probability against observed frequency in bins of equal width, empty ones left out.

    Two labels: the probability of label 1 and how often it was true. Several: the probability of
    the predicted label and how often it was the true one."""

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
    binomial distribution at the bin's mean probability in place of resampling."""
    probabilities, y = _checked(probabilities, y)
    several = probabilities.shape[1] > 2
    values = probabilities.max(axis=1) if several else probabilities[:, 1]
    values = values.astype(np.float64).clip(0, 1)
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
        *curves(probabilities, y, threshold),
        calibration(probabilities, y),
    )


@dataclass(frozen=True)
class ModelPredictions:
    """What a model predicts for the test rows: label ids [N], and probabilities [N, C]."""

    labels: npt.NDArray[np.int64]
    probabilities: npt.NDArray[Any]


@dataclass(frozen=True)
class ModelComparison:
    """The new model against the old one, row by row."""

    rows: int
    new_accuracy: float
    old_accuracy: float
    only_new: int  # rows that the new one alone gets right
    only_old: int
    p_value: float  # McNemar's exact test, of these two
    loss_difference: float  # mean over the rows of new minus old cross entropy, nats
    low: float  # its 95 % interval (Student's t)
    high: float

    @property
    def outcome(self) -> Literal["better", "worse", "open"]:
        """Whether the new one is better by more than luck: by accuracy, else by log loss."""
        if self.p_value < LEVEL:
            return "better" if self.only_new > self.only_old else "worse"
        if self.high < 0:
            return "better"
        return "worse" if self.low > 0 else "open"

    @property
    def takes_over(self) -> bool:
        """Whether the new one is not worse.

        Where the rows do not tell, one that is behind in both accuracy and log loss stays behind:
        or else a series of models, each a little worse by luck, could each take the place."""
        if self.outcome != "open":
            return self.outcome == "better"
        return self.new_accuracy >= self.old_accuracy or self.loss_difference <= 0


def compare_models(
    new: ModelPredictions, old: ModelPredictions, y: npt.NDArray[np.int64]
) -> ModelComparison:
    """Both on the rows with class ids `y` [N], N >= 1; a probability of 0 counts as 1e-7.

    McNemar (1947), Psychometrika 12, 153-157, exact: binomial with probability 1/2."""
    right_new, right_old = new.labels == y, old.labels == y
    only_new, only_old = int((right_new & ~right_old).sum()), int((right_old & ~right_new).sum())
    differing = only_new + only_old
    n = len(y)
    of_truth = [model.probabilities[np.arange(n), y].clip(1e-7, 1.0) for model in (old, new)]
    difference = np.subtract(*np.log(np.array(of_truth, float)))
    mean = float(difference.mean())
    half = float(stats.t.ppf(0.975, n - 1) * stats.sem(difference)) if n > 1 else math.inf
    return ModelComparison(
        rows=n,
        new_accuracy=float(right_new.mean()),
        old_accuracy=float(right_old.mean()),
        only_new=only_new,
        only_old=only_old,
        p_value=float(stats.binomtest(only_new, differing).pvalue) if differing else 1.0,
        loss_difference=mean,
        low=mean - half,
        high=mean + half,
    )
