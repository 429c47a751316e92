"""Scores with their uncertainty: of predictions on rows, and of optimizers against each other."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats
from sklearn import metrics
from sklearn.calibration import calibration_curve as sklearn_calibration_curve
from torchmetrics.functional.classification import multiclass_accuracy

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Objective = Literal["val_accuracy", "val_loss"]


class FoldFit(Protocol):
    """What is read of one member: its validation scores at the kept epoch."""

    @property
    def accuracy(self) -> float: ...
    @property
    def loss(self) -> float: ...


class TrialResult(Protocol):
    """What is read of a trial here and in plots, report and console; `trials.Trial` has it."""

    @property
    def number(self) -> int: ...
    @property
    def optimizer(self) -> str: ...
    @property
    def lr(self) -> float: ...
    @property
    def params(self) -> Mapping[str, Any]: ...
    @property
    def state(self) -> Literal["COMPLETE", "PRUNED", "FAIL"]: ...
    @property
    def reason(self) -> str | None: ...
    @property
    def curves(self) -> Mapping[str, npt.NDArray[Any]]: ...
    @property
    def loss(self) -> float | None: ...
    @property
    def accuracy(self) -> float | None: ...
    @property
    def accuracy_std(self) -> float | None: ...
    @property
    def best_epoch(self) -> float | None: ...
    @property
    def seconds(self) -> float: ...
    @property
    def fits(self) -> Sequence[FoldFit]: ...


AnyTrial = TypeVar("AnyTrial", bound=TrialResult)


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


def score(probabilities: npt.NDArray[Any], y: npt.NDArray[Any]) -> Scores:
    """Scores of `probabilities` [N, C], float, rows summing to 1, against class ids `y` [N].

    The predicted label is the most probable one, the first of equals. A probability of 0 counts
    in the loss as the smallest step of the dtype given, so that the loss is finite.

    Raises:
        ValueError: no rows, shapes that don't fit, ids outside 0..C-1, or values that are no
            probabilities.
    """
    probabilities, y = _checked(probabilities, y)
    n, classes = probabilities.shape
    labels = np.arange(classes)
    predicted = probabilities.argmax(axis=1)
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


def roc_curves(probabilities: npt.NDArray[Any], y: npt.NDArray[Any]) -> tuple[RocCurve, ...]:
    """ROC curves: two labels: one, for label 1; several: one per label against the rest.

    A label without both positives and negatives in `y` has no curve and is left out.
    """
    probabilities, y = _checked(probabilities, y)
    predicted = probabilities.argmax(axis=1)
    curves = []
    for label in _one_against_rest(probabilities, y):
        truth, chosen = y == label, predicted == label
        fpr, tpr, _ = metrics.roc_curve(truth, probabilities[:, label])
        point = float(chosen[~truth].mean()), float(chosen[truth].mean())
        curves.append(RocCurve(label, fpr, tpr, float(metrics.auc(fpr, tpr)), point))
    return tuple(curves)


def precision_recall_curves(
    probabilities: npt.NDArray[Any], y: npt.NDArray[Any]
) -> tuple[PrecisionRecallCurve, ...]:
    """Precision-recall curves for the same labels as `roc_curves`."""
    probabilities, y = _checked(probabilities, y)
    predicted = probabilities.argmax(axis=1)
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


def evaluate(probabilities: npt.NDArray[Any], y: npt.NDArray[Any]) -> Evaluation:
    """Scores and curves of `probabilities` [N, C] against class ids `y` [N]; errors as `score`."""
    return Evaluation(
        score(probabilities, y),
        roc_curves(probabilities, y),
        precision_recall_curves(probabilities, y),
        calibration(probabilities, y),
    )


def ranking(trial: TrialResult, objective: Objective = "val_accuracy") -> tuple[float, float, int]:
    """Sort key of a completed trial, the best first: the objective, the other score, the number."""
    accuracy, loss = trial.accuracy, trial.loss
    if accuracy is None or loss is None:
        raise ValueError(f"trial {trial.number} has no scores ({trial.state})")
    if objective == "val_accuracy":
        return -accuracy, loss, trial.number
    return loss, -accuracy, trial.number


def completed(trials: Iterable[AnyTrial]) -> list[AnyTrial]:
    """The trials that ran to their end and have scores."""
    return [
        trial
        for trial in trials
        if trial.state == "COMPLETE" and trial.accuracy is not None and trial.loss is not None
    ]


def best_trial(
    trials: Iterable[AnyTrial], objective: Objective = "val_accuracy"
) -> AnyTrial | None:
    """The best completed trial; of equals the one with the better other score, then the first."""
    return min(completed(trials), key=lambda trial: ranking(trial, objective), default=None)


def best_per_optimizer(
    trials: Iterable[AnyTrial], objective: Objective = "val_accuracy"
) -> list[AnyTrial]:
    """The best completed trial of each optimizer, the best first."""
    best: dict[str, AnyTrial] = {}
    for trial in sorted(completed(trials), key=lambda trial: ranking(trial, objective)):
        best.setdefault(trial.optimizer, trial)
    return list(best.values())


@dataclass(frozen=True)
class OptimizerSummary:
    """What a search found out about one optimizer. Scores are validation scores."""

    optimizer: str
    trials: int
    complete: int
    failed: int
    pruned: int
    best: int | None  # number of the best trial; None, as all below: no trial completed
    accuracy: float | None  # of the best trial
    accuracy_std: float | None
    loss: float | None
    lr: float | None
    median_accuracy: float | None  # over completed trials
    median_loss: float | None
    seconds: float  # training time of all its trials


def summarize(
    trials: Iterable[TrialResult], objective: Objective = "val_accuracy"
) -> list[OptimizerSummary]:
    """One summary per optimizer, the best first; those without a completed trial last, by name."""
    groups: dict[str, list[TrialResult]] = {}
    for trial in trials:
        groups.setdefault(trial.optimizer, []).append(trial)
    keyed = []
    for optimizer, members in groups.items():
        done = completed(members)
        best = best_trial(done, objective)
        summary = OptimizerSummary(
            optimizer=optimizer,
            trials=len(members),
            complete=len(done),
            failed=sum(trial.state == "FAIL" for trial in members),
            pruned=sum(trial.state == "PRUNED" for trial in members),
            best=best.number if best else None,
            accuracy=best.accuracy if best else None,
            accuracy_std=best.accuracy_std if best else None,
            loss=best.loss if best else None,
            lr=best.lr if best else None,
            median_accuracy=_median(trial.accuracy for trial in done),
            median_loss=_median(trial.loss for trial in done),
            seconds=sum(trial.seconds for trial in members),
        )
        order = ranking(best, objective) if best else (math.inf, math.inf, 0)
        keyed.append((order, optimizer, summary))
    return [summary for _, _, summary in sorted(keyed, key=lambda item: item[:2])]


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(median(known)) if known else None


@dataclass(frozen=True)
class Comparison:
    """The best trial of all against the best trial of another optimizer."""

    best: str
    other: str
    difference: float  # in the objective, > 0: `best` is better
    low: float | None  # 95 % interval; None: there is nothing to estimate the noise from
    high: float | None
    basis: Literal["paired", "unpaired", "rows", "none"]

    @property
    def within_noise(self) -> bool:
        """Whether the difference could be chance: the interval holds 0, or there is none."""
        return self.low is None or self.low <= 0


def compare(
    trials: Iterable[TrialResult],
    objective: Objective = "val_accuracy",
    *,
    folds: int,
    repeats: int = 1,
    fraction: float = 0.2,
    validation_rows: int | None = None,
) -> list[Comparison]:
    """The best trial against the best one of each other optimizer, in the order of `summarize`.

    All trials are validated on the same folds, so their scores are compared fold by fold ("paired")
    with the corrected resampled t interval: training parts overlap, so the variance of the mean is
    (1/k + validation share / training share) times that of the k differences, k - 1 degrees of
    freedom. Nadeau and Bengio (2003), Machine Learning 52, 239-281.
    Without scores per fold: the same from each trial's `accuracy_std` ("unpaired", wider). With a
    single hold-out of `validation_rows`: binomial, rows taken as independent ("rows", wider).
    The interval knows nothing of the selection of the best among many trials.
    """
    ranked = best_per_optimizer(trials, objective)
    if not ranked:
        return []
    members = folds * repeats
    overlap = 1 / (folds - 1) if folds > 1 else fraction / (1 - fraction)
    best, *others = ranked
    return [_compare(best, other, objective, members, overlap, validation_rows) for other in others]


def _compare(
    best: TrialResult,
    other: TrialResult,
    objective: Objective,
    members: int,
    overlap: float,
    validation_rows: int | None,
) -> Comparison:
    sign, name = (1.0, "accuracy") if objective == "val_accuracy" else (-1.0, "loss")
    difference = sign * (getattr(best, name) - getattr(other, name))
    half: float | None = None
    basis: Literal["paired", "unpaired", "rows", "none"] = "none"
    if members > 1 and len(best.fits) == len(other.fits) == members:
        ours, theirs = (np.array([getattr(f, name) for f in t.fits]) for t in (best, other))
        basis, half = "paired", _half_width(float(np.var(ours - theirs, ddof=1)), members, overlap)
    elif name == "accuracy" and members > 1 and best.accuracy_std and other.accuracy_std:
        variance = best.accuracy_std**2 + other.accuracy_std**2
        basis, half = "unpaired", _half_width(variance, members, overlap)
    elif name == "accuracy" and members == 1 and validation_rows:
        shares = [trial.accuracy for trial in (best, other) if trial.accuracy is not None]
        spread = math.sqrt(sum(share * (1 - share) for share in shares) / validation_rows)
        basis, half = "rows", float(stats.norm.ppf(0.975)) * spread
    if half is None:
        return Comparison(best.optimizer, other.optimizer, difference, None, None, basis)
    low, high = difference - half, difference + half
    return Comparison(best.optimizer, other.optimizer, difference, low, high, basis)


def _half_width(variance: float, members: int, overlap: float) -> float:
    return float(stats.t.ppf(0.975, members - 1)) * math.sqrt(variance * (1 / members + overlap))
