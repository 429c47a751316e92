"""Learning-rate tolerance: how much of its learning rate's range an optimizer does well in."""

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from pipeline.analysis.evidence import Tolerance
from pipeline.analysis.ranking import summarize
from pipeline.models.metrics import Metric
from pipeline.training.trial import Trial


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


def tolerances(
    trials: Sequence[Trial], metric: Metric, members: int, validation_rows: int | None = None
) -> tuple[Tolerance, ...]:
    """Of each optimizer that was tried, in the order of `ranking.summarize`.

    Args:
        members: folds times repeats of the search.
        validation_rows: for one member, whose accuracy has a binomial standard error."""
    by_optimizer = []
    for summary in summarize(trials, metric):
        of_it = [trial for trial in trials if trial.optimizer == summary.optimizer]
        scores = [metric.sign * t.scores[metric.name] if t.is_complete else None for t in of_it]
        rates = [trial.lr for trial in of_it]
        error = _standard_error(summary.best, metric, members, validation_rows)
        low = high = None
        if error is not None and len(set(rates)) > 1:
            low, high = within(rates, scores, error)
        by_optimizer.append(
            Tolerance(
                optimizer=summary.optimizer,
                trials=summary.trials,
                diverged=summary.failed / summary.trials,
                lr_low=low,
                lr_high=high,
                decades=math.log10(high / low) if low and high else None,
            )
        )
    return tuple(by_optimizer)


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
