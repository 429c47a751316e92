"""Learning-rate tolerance: how much of its learning rate's range an optimizer does well in."""

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from pipeline.analysis.comparison import Floats
from pipeline.analysis.evidence import Tolerance
from pipeline.analysis.ranking import OptimizerSummary, completed, summarize
from pipeline.models.metrics import Metric
from pipeline.training.trial import Trial


def expected_best(scores: Sequence[float] | Floats) -> Floats:
    """The expected maximum [N] of n = 1..N draws, with replacement, from N scores.

    E = sum over the scores in ascending order of v_i ((i / N)^n - ((i - 1) / N)^n).
    Dodge et al. (2019), Show Your Work, section 3."""
    ascending = np.sort(np.asarray(scores, dtype=np.float64))
    count = len(ascending)
    n = np.arange(1, count + 1)[:, None]
    share = np.arange(count + 1) / max(count, 1)
    return np.asarray((np.diff(share**n, axis=1) * ascending).sum(axis=1))


def within(
    lr: Sequence[float], scores: Sequence[float | None], margin: float
) -> tuple[float, float]:
    """The ends of the range of learning rates around the best one that score within `margin` of it.

    Higher scores are better. A lone trial within twice the margin, with both neighbours within
    it, is taken for noise and does not end the range; one without a score (None) always does."""
    order = sorted(range(len(lr)), key=lambda place: lr[place])
    values = np.array([-math.inf if (score := scores[place]) is None else score for place in order])
    best = int(values.argmax())
    inside = values >= values[best] - margin
    inside[1:-1] |= inside[:-2] & inside[2:] & (values[1:-1] >= values[best] - 2 * margin)
    outside = np.flatnonzero(~inside)
    low = max(outside[outside < best], default=-1) + 1
    high = min(outside[outside > best], default=len(lr)) - 1
    return lr[order[low]], lr[order[high]]


def first_epoch(curve: Floats, target: float, metric: Metric) -> int | None:
    """The first epoch, from 1, in which the curve [epochs] reaches the target; None: never."""
    reached = np.flatnonzero(metric.sign * curve >= metric.sign * target)
    return int(reached[0]) + 1 if len(reached) else None


def tolerances(
    trials: Sequence[Trial], metric: Metric, members: int, validation_rows: int | None = None
) -> tuple[Tolerance, ...]:
    """Of each optimizer that was tried, in the order of `ranking.summarize`.

    The best trials must have their curves. In `expected_best` a trial without a score counts as the
    worst that any trial of the search had: it was spent, and gave nothing.

    Args:
        members: folds times repeats of the search.
        validation_rows: for one member, whose accuracy has a binomial standard error."""
    summaries = summarize(trials, metric)
    # What the curves of the best trials of all optimizers reach.
    reached = [
        float(np.nanmax(metric.sign * curve))
        for summary in summaries
        if len(curve := _curve(summary.best, metric))
    ]
    target = metric.sign * min(reached) if reached else None
    values = [metric.sign * trial.scores[metric.name] for trial in completed(trials)]
    worst = min(values, default=math.nan)
    by_optimizer = []
    for summary in summaries:
        of_it = [trial for trial in trials if trial.optimizer == summary.optimizer]
        error = _standard_error(summary.best, metric, members, validation_rows)
        by_optimizer.append(_tolerance(summary, of_it, metric, error, target, worst))
    return tuple(by_optimizer)


def _curve(trial: Trial | None, metric: Metric) -> Floats:
    return trial.curves.get(metric.curve, np.empty(0)) if trial else np.empty(0)


def _tolerance(
    summary: OptimizerSummary,
    trials: Sequence[Trial],
    metric: Metric,
    error: float | None,
    target: float | None,
    worst: float,
) -> Tolerance:
    """Of one optimizer, from its trials; `worst` is what a trial without a score counts as."""
    best, curve = summary.best, _curve(summary.best, metric)
    scores = [metric.sign * t.scores[metric.name] if t.is_complete else None for t in trials]
    rates = [trial.lr for trial in trials]
    low = high = None
    if error is not None and len(set(rates)) > 1:
        low, high = within(rates, scores, error)
    epoch = first_epoch(curve, target, metric) if target is not None else None
    spent = [worst if score is None else score for score in scores] if best else []
    return Tolerance(
        optimizer=summary.optimizer,
        trials=summary.trials,
        diverged=summary.failed / summary.trials,
        lr_low=low,
        lr_high=high,
        decades=math.log10(high / low) if low and high else None,
        standard_error=error,
        target=target,
        epochs_to_target=epoch,
        seconds_to_target=best.seconds * epoch / len(curve) if best and epoch else None,
        expected_best=metric.sign * expected_best(spent),
    )


def _standard_error(
    trial: Trial | None, metric: Metric, members: int, validation_rows: int | None
) -> float | None:
    """Of the trial's score over its folds; of a single hold-out, binomial; None: unknown."""
    if trial is None:
        return None
    folds = trial.fold_scores.get(metric.name, ())
    if members > 1 and len(folds) == members:
        return float(stats.sem(folds))
    share = trial.scores[metric.name]
    if members == 1 and metric.is_share and validation_rows and share:
        return math.sqrt(share * (1 - share) / validation_rows)
    return None
