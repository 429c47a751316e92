"""How much an optimizer forgives: what the trials of a search say beside which one was best."""

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from pipeline.analysis.evidence import Forgiveness
from pipeline.analysis.ranking import (
    Objective,
    TrialResult,
    best_per_optimizer,
    completed,
    summarize,
)
from pipeline.analysis.resampled import Floats


def expected_best(scores: Sequence[float] | Floats) -> Floats:
    """The expected maximum [N] of n = 1..N draws, with replacement, from N scores.

    E = sum over the scores in ascending order of v_i ((i / N)^n - ((i - 1) / N)^n).
    Dodge et al. (2019), Show Your Work, section 3.
    """
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
    it, is taken for noise and does not end the range; one without a score (None) always does.
    """
    order = sorted(range(len(lr)), key=lambda place: lr[place])
    known = [-math.inf if scores[place] is None else float(scores[place] or 0) for place in order]
    best = max(range(len(known)), key=lambda place: known[place])
    inside = [value >= known[best] - margin for value in known]
    noisy = [
        place
        for place in range(1, len(known) - 1)
        if inside[place - 1] and inside[place + 1] and known[place] >= known[best] - 2 * margin
    ]
    for place in noisy:
        inside[place] = True
    low = high = best
    while low > 0 and inside[low - 1]:
        low -= 1
    while high + 1 < len(order) and inside[high + 1]:
        high += 1
    return lr[order[low]], lr[order[high]]


def first_epoch(curve: Floats, target: float, maximise: bool) -> int | None:
    """The first epoch, from 1, in which the curve [epochs] reaches the target; None: never."""
    reached = np.flatnonzero(curve >= target if maximise else curve <= target)
    return int(reached[0]) + 1 if len(reached) else None


def forgiveness(
    trials: Sequence[TrialResult],
    objective: Objective,
    members: int,
    validation_rows: int | None = None,
) -> tuple[Forgiveness, ...]:
    """Of each optimizer that was tried, in the order of `ranking.summarize`.

    The best trials must have their curves. In `expected_best` a trial without a score counts as the
    worst that any trial of the search had: it was spent, and gave nothing.

    Args:
        members: folds times repeats of the search.
        validation_rows: for one member, whose accuracy has a binomial standard error.
    """
    maximise = objective == "val_accuracy"
    sign = 1.0 if maximise else -1.0
    best = {trial.optimizer: trial for trial in best_per_optimizer(trials, objective)}
    reached = [_extreme(trial, objective) for trial in best.values()]
    known = [one for one in reached if one is not None]
    target = sign * min(sign * one for one in known) if known else None
    values = [_score(trial, objective) for trial in completed(trials)]
    worst = sign * min((sign * value for value in values), default=math.nan)
    found = []
    for summary in summarize(trials, objective):
        own = [trial for trial in trials if trial.optimizer == summary.optimizer]
        scores = {trial.number: _score(trial, objective) for trial in completed(own)}
        top = best.get(summary.optimizer)
        error = _standard_error(top, objective, members, validation_rows) if top else None
        ends: tuple[float, float] | None = None
        if error is not None and len({trial.lr for trial in own}) > 1:
            signed = [sign * s if (s := scores.get(t.number)) is not None else None for t in own]
            ends = within([trial.lr for trial in own], signed, error)
        epoch = None
        if top is not None and target is not None and len(top.curves.get(objective, ())):
            epoch = first_epoch(top.curves[objective], target, maximise)
        spent = [sign * scores.get(trial.number, worst) for trial in own] if scores else []
        found.append(
            Forgiveness(
                optimizer=summary.optimizer,
                trials=len(own),
                diverged=summary.failed / len(own),
                lr_low=ends[0] if ends else None,
                lr_high=ends[1] if ends else None,
                decades=math.log10(ends[1] / ends[0]) if ends and ends[0] > 0 else None,
                standard_error=error,
                target=target,
                epochs_to_target=epoch,
                seconds_to_target=(
                    top.seconds * epoch / len(top.curves[objective]) if top and epoch else None
                ),
                expected_best=sign * expected_best(spent),
            )
        )
    return tuple(found)


def _score(trial: TrialResult, objective: Objective) -> float:
    value = trial.accuracy if objective == "val_accuracy" else trial.loss
    assert value is not None
    return value


def _extreme(trial: TrialResult, objective: Objective) -> float | None:
    """The best value that the trial's curve has."""
    curve = trial.curves.get(objective, ())
    if not len(curve):
        return None
    return float(np.max(curve) if objective == "val_accuracy" else np.min(curve))


def _standard_error(
    trial: TrialResult, objective: Objective, members: int, validation_rows: int | None
) -> float | None:
    """Of the trial's score over its folds; of a single hold-out, binomial."""
    if members > 1 and len(trial.fits) == members:
        name = "accuracy" if objective == "val_accuracy" else "loss"
        return float(stats.sem([getattr(one, name) for one in trial.fits]))
    if members == 1 and objective == "val_accuracy" and validation_rows and trial.accuracy:
        return math.sqrt(trial.accuracy * (1 - trial.accuracy) / validation_rows)
    return None
