"""Predictions for test rows: scores with their uncertainty, what probabilities are worth, and
whether a new model's are good enough for it to take the place of the one that serves."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats
from sklearn import metrics as sklearn_metrics
from sklearn.calibration import calibration_curve as sklearn_calibration_curve

from pipeline.analysis import baselines
from pipeline.analysis.bootstrap import intervals
from pipeline.analysis.clustered import Ageing, Integers, lowest_ahead, mean_error, share_interval
from pipeline.analysis.comparison import Floats, MeanDifference
from pipeline.analysis.plausibility import Gap, Shift
from pipeline.analysis.rare_labels import LabelScores
from pipeline.analysis.reliance import Reliance
from pipeline.inference import decide
from pipeline.models.metrics import ACCURACY, KNOWN, LOSS, METRICS, Metric
from pipeline.models.scores import certain, judges_labels

LEVEL = 0.05  # of the test by which one model is more often right than another
ROUNDING = 1e-4  # nats: no model is better by less
MOST_BINS, ROWS_OF_BIN = 10, 20  # of a calibration curve; with fewer rows a bin says nothing


@dataclass(frozen=True)
class Scores:
    """Scores of predicted probabilities on `n` rows."""

    n: int
    accuracy: float  # of torchmetrics: share of rows whose predicted label is the true one
    accuracy_low: float  # 95 % interval, by clusters where rows come in these
    accuracy_high: float
    loss: float  # mean cross entropy, nats
    confusion: Integers  # [C, C] rows: true label; columns: predicted label
    further: Mapping[str, float]  # of other metrics, by name; finite
    intervals: Mapping[str, tuple[float, float]]  # 95 %, by name, of all of them

    @property
    def by_metric(self) -> dict[str, float]:
        """Every metric's score by its name."""
        return {ACCURACY.name: self.accuracy, LOSS.name: self.loss, **self.further}

    @property
    def by_name(self) -> dict[str, float]:
        """Scores and intervals as MLflow has them: `auroc`, `auroc_low`, `auroc_high`."""
        values = self.by_metric
        for name, (low, high) in self.intervals.items():
            values |= {f"{name}_low": low, f"{name}_high": high}
        return values

    @property
    def baseline(self) -> float:
        """The accuracy of always answering the most frequent label."""
        return float(self.confusion.sum(axis=1).max() / self.n)


def score(
    probabilities: npt.NDArray[Any],
    y: npt.NDArray[Any],
    threshold: float = 0.5,
    clusters: Integers | None = None,
    ageing: Ageing | None = None,
    metrics: Sequence[Metric] = tuple(KNOWN.values()),
) -> Scores:
    """Scores of `probabilities` [N, C], float, rows summing to 1, against class ids `y` [N].

    The predicted labels are those of `inference.decide`. A probability of 0 counts in the loss as
    the smallest step of the dtype given, so that the loss is finite. A metric that is not defined
    on these rows is left out. The interval of accuracy is `clustered.share_interval`; all others
    are bootstrapped.

    Args:
        clusters: [N], which rows are right or wrong together; None: each by itself.
        ageing: what the accuracy loses until the next period.
        metrics: accuracy and loss among them.

    Raises:
        ValueError: no rows, shapes that don't fit, ids outside 0..C-1, or values that are no
            probabilities."""
    # It brings Matplotlib with it, and a search that is only read back needs neither.
    from torchmetrics.functional import accuracy

    probabilities, y = _checked(probabilities, y)
    n, classes = probabilities.shape
    labels = np.arange(classes)
    predicted = decide(probabilities, threshold)
    low, high = share_interval(predicted == y, clusters)
    if ageing is not None and clusters is not None:
        low = min(low, lowest_ahead(predicted == y, clusters, ageing))
    logits, truth = baselines.log(probabilities), torch.from_numpy(y)
    labelled = torch.from_numpy(predicted)
    decided = certain(labelled, classes)
    is_moved = classes == 2 and threshold != 0.5
    seen = {m: decided if is_moved and judges_labels(m.score) else logits for m in metrics}
    found = {metric.name: float(metric.score(own, truth)) for metric, own in seen.items()}
    found = {name: value for name, value in found.items() if math.isfinite(value)}
    del seen[ACCURACY]
    ends = intervals({m: own for m, own in seen.items() if m.name in found}, truth, clusters)
    ends[ACCURACY.name] = low, high
    return Scores(
        n=n,
        accuracy=float(accuracy(labelled, truth, "multiclass", num_classes=classes)),
        accuracy_low=low,
        accuracy_high=high,
        loss=float(sklearn_metrics.log_loss(y, probabilities, labels=labels)),
        confusion=sklearn_metrics.confusion_matrix(y, predicted, labels=labels).astype(np.int64),
        further={name: value for name, value in found.items() if name not in METRICS},
        intervals=ends,
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
class Calibration:
    """Predicted probability against observed frequency in bins of as many rows each.

    Two labels: the probability of label 1 and how often it was true. Several: the probability of
    the predicted label and how often it was the true one."""

    predicted: Floats  # [B] mean predicted probability
    observed: Floats  # [B] share of rows in which it came true
    count: Integers  # [B] rows
    band_low: Floats  # [B] 95 % of calibrated models would be observed between these
    band_high: Floats  # [B]
    error: float  # expected calibration error: mean over rows of |observed - predicted|

    @property
    def off(self) -> int:
        """Bins that are outside of their band."""
        return int(((self.observed < self.band_low) | (self.observed > self.band_high)).sum())


def calibration(probabilities: npt.NDArray[Any], y: npt.NDArray[Any]) -> Calibration:
    """The calibration curve with, per bin, the binomial band of a perfectly calibrated model.

    The band follows Broecker and Smith (2007), Weather and Forecasting 22(3), 651-661, with the
    binomial distribution at the bin's mean probability in place of resampling."""
    probabilities, y = _checked(probabilities, y)
    several = probabilities.shape[1] > 2
    values = probabilities.max(axis=1) if several else probabilities[:, 1]
    values = values.astype(np.float64).clip(0, 1)
    came_true = (probabilities.argmax(axis=1) == y).astype(int) if several else y
    bins = int(np.clip(len(y) // ROWS_OF_BIN, 1, MOST_BINS))
    how: Any = {"n_bins": bins, "pos_label": 1, "strategy": "quantile"}
    observed, predicted = sklearn_calibration_curve(came_true, values, **how)
    edges = np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1])  # as scikit-learn has them
    place = np.searchsorted(edges, values)
    count = np.unique(place, return_counts=True)[1]
    low, high = stats.binom.interval(0.95, count, predicted)
    return Calibration(
        predicted=predicted,
        observed=observed,
        count=count,
        band_low=np.maximum(low, 0) / count,  # scipy says -1 for a probability of exactly 0
        band_high=np.minimum(high, count) / count,
        error=float(np.average(np.abs(observed - predicted), weights=count)),
    )


@dataclass(frozen=True)
class ModelPredictions:
    """What a model predicts for the test rows: label ids [N], and probabilities [N, C]."""

    labels: npt.NDArray[np.int64]
    probabilities: npt.NDArray[Any]


Outcome = Literal["better", "worse", "open"]


@dataclass(frozen=True)
class ModelComparison:
    """The new model against the old one, row by row.

    `p_value` is of the difference in accuracy: by McNemar's exact test; where rows come in groups
    by Student's t of the groups (`groups` of them), as the interval of the loss is."""

    rows: int
    new_accuracy: float
    old_accuracy: float
    only_new: int  # rows that the new one alone gets right
    only_old: int
    p_value: float
    loss_difference: float  # mean over the rows of new minus old cross entropy, nats
    low: float  # its 95 % interval (Student's t)
    high: float
    groups: int | None = None

    @property
    def by_accuracy(self) -> Outcome:
        """Which is more often right, by more than luck."""
        if self.p_value >= LEVEL or self.only_new == self.only_old:
            return "open"
        return "better" if self.only_new > self.only_old else "worse"

    @property
    def by_loss(self) -> Outcome:
        """Which has the lower log loss, by more than luck and by more than rounding."""
        if abs(self.loss_difference) <= ROUNDING or self.low <= 0 <= self.high:
            return "open"
        return "better" if self.loss_difference < 0 else "worse"

    @property
    def outcome(self) -> Outcome:
        """Whether the new one is better by more than luck: by accuracy, else by log loss.

        Only one that is takes over. A draw keeps the model that serves: nothing is gained by
        another one, and of a series of models that cannot be told apart, each a little worse by
        luck, the last could be a bad one."""
        return self.by_loss if self.by_accuracy == "open" else self.by_accuracy


def compare_models(
    new: ModelPredictions,
    old: ModelPredictions,
    y: npt.NDArray[np.int64],
    groups: npt.NDArray[np.int64] | None = None,
) -> ModelComparison:
    """Both on the rows with class ids `y` [N], N >= 1; a probability of 0 counts as 1e-7.

    McNemar (1947), Psychometrika 12, 153-157, exact: binomial with probability 1/2.

    Args:
        groups: int64 [N]; rows of one group are one observation, since they are alike."""
    right_new, right_old = new.labels == y, old.labels == y
    only_new, only_old = int((right_new & ~right_old).sum()), int((right_old & ~right_new).sum())
    differing = only_new + only_old
    n = len(y)
    of_truth = [model.probabilities[np.arange(n), y].clip(1e-7, 1.0) for model in (old, new)]
    loss = _paired(np.subtract(*np.log(np.array(of_truth, float))), groups)
    p_value = float(stats.binomtest(only_new, differing).pvalue) if differing else 1.0
    if groups is not None:
        p_value = _paired(right_new.astype(float) - right_old, groups).p_value
    low, high = loss.interval()
    return ModelComparison(
        rows=n,
        new_accuracy=float(right_new.mean()),
        old_accuracy=float(right_old.mean()),
        only_new=only_new,
        only_old=only_old,
        p_value=p_value,
        loss_difference=loss.mean,
        low=low,
        high=high,
        groups=None if groups is None else len(np.unique(groups)),
    )


def _paired(differences: Floats, groups: Integers | None) -> MeanDifference:
    """The mean of differences [N] by row; without groups each row is one."""
    of_row = np.arange(len(differences)) if groups is None else groups
    return MeanDifference(float(differences.mean()), *mean_error(differences, of_row))


@dataclass(frozen=True)
class Evaluation:
    """Everything that is shown of a model's predictions on held-out rows.

    gaps: scores that cross-validation does not allow.
    shift: whether these rows can be told from those that trained; None: not looked at.
    majority: the model against always answering the most frequent label.
    by_label: how many rows of each label are found, the rarest first.
    reliance: how much the model relies on each column, the most first; empty: not looked at."""

    scores: Scores
    calibration: Calibration
    gaps: tuple[Gap, ...] = ()
    shift: Shift | None = None
    majority: ModelComparison | None = None
    by_label: tuple[LabelScores, ...] = ()
    reliance: tuple[Reliance, ...] = ()


def evaluate(
    probabilities: npt.NDArray[Any], y: npt.NDArray[Any], scores: Scores | None = None
) -> Evaluation:
    """Scores and calibration of `probabilities` [N, C] against ids `y` [N].

    Args:
        scores: of `score`, where it is to be told more than these."""
    return Evaluation(scores or score(probabilities, y), calibration(probabilities, y))
