"""Optimizers against each other, on the same folds."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from scipy import stats

from pipeline.analysis.ranking import Objective, TrialResult, best_per_optimizer
from pipeline.analysis.resampled import Floats, MeanDifference, holm, overlap, simultaneous

MARGIN = 0.01
"""Differences below a point of accuracy (or 0.01 nats) matter to nobody."""


@dataclass(frozen=True)
class Pair:
    """One optimizer against another over the final round: `better` has the better mean.

    Differences are in the objective, > 0 where `better` is better: of accuracies, or of losses
    turned round.
    """

    better: str
    worse: str
    difference: float  # mean over the folds, >= 0
    low: float  # 95 % interval of this pair alone
    high: float
    low_all: float  # intervals that hold for all pairs together with 95 % (Bonferroni)
    high_all: float
    p_value: float  # of this pair alone
    p_adjusted: float  # for all pairs (Holm)
    probability_better: float  # that it is better by more than `margin`
    probability_worse: float  # that `worse` is better by more than `margin`
    margin: float

    @property
    def is_clear(self) -> bool:
        """Whether the difference is more than luck: the interval for all pairs leaves 0 out."""
        return self.low_all > 0


def pairs(
    scores: Sequence[tuple[str, Floats]], overlap: float, margin: float = MARGIN
) -> tuple[Pair, ...]:
    """Every optimizer against every other one, in the order given.

    Args:
        scores: names with their objectives [k], higher is better, the best mean first; fold j of
            each is the same rows, k >= 2.
        overlap: validation by training rows of a fold (`resampled.overlap`).
    """
    found = list(combinations(scores, 2))
    means = [MeanDifference.of(ours - theirs, overlap) for (_, ours), (_, theirs) in found]
    adjusted = holm([mean.p_value for mean in means])
    confidence = simultaneous(len(found))
    return tuple(
        Pair(
            better,
            worse,
            mean.mean,
            *mean.interval(),
            *mean.interval(confidence),
            mean.p_value,
            p_adjusted,
            mean.probability_above(margin),
            1 - mean.probability_above(-margin),
            margin,
        )
        for ((better, _), (worse, _)), mean, p_adjusted in zip(found, means, adjusted, strict=True)
    )


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
    members, share = folds * repeats, overlap(folds, fraction)
    best, *others = ranked
    return [_compare(best, other, objective, members, share, validation_rows) for other in others]


def _compare(
    best: TrialResult,
    other: TrialResult,
    objective: Objective,
    members: int,
    share: float,
    validation_rows: int | None,
) -> Comparison:
    sign, name = (1.0, "accuracy") if objective == "val_accuracy" else (-1.0, "loss")
    difference = sign * (getattr(best, name) - getattr(other, name))
    half: float | None = None
    basis: Literal["paired", "unpaired", "rows", "none"] = "none"
    if members > 1 and len(best.fits) == len(other.fits) == members:
        ours, theirs = (np.array([getattr(f, name) for f in t.fits]) for t in (best, other))
        basis, half = "paired", _half_width(float(np.var(ours - theirs, ddof=1)), members, share)
    elif name == "accuracy" and members > 1 and best.accuracy_std and other.accuracy_std:
        variance = best.accuracy_std**2 + other.accuracy_std**2
        basis, half = "unpaired", _half_width(variance, members, share)
    elif name == "accuracy" and members == 1 and validation_rows:
        shares = [trial.accuracy for trial in (best, other) if trial.accuracy is not None]
        spread = math.sqrt(sum(share * (1 - share) for share in shares) / validation_rows)
        basis, half = "rows", float(stats.norm.ppf(0.975)) * spread
    if half is None:
        return Comparison(best.optimizer, other.optimizer, difference, None, None, basis)
    low, high = difference - half, difference + half
    return Comparison(best.optimizer, other.optimizer, difference, low, high, basis)


def _half_width(variance: float, members: int, share: float) -> float:
    return float(stats.t.ppf(0.975, members - 1)) * math.sqrt(variance * (1 / members + share))
