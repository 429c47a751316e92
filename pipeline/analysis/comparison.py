"""Optimizers against each other, on the same folds.

The training parts of folds overlap, so scores of different folds are correlated, and the usual
t-test takes noise for differences. Nadeau and Bengio's correction adds the overlap to the variance
of the mean; Benavoli et al. show that the Bayesian answer is the same t distribution."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
from scipy import stats

from pipeline.config import Config
from pipeline.data.prepared import PreparedData, load_training
from pipeline.data.splits import Split
from pipeline.training.trainer import search_splits

Floats = npt.NDArray[np.float64]


def overlap_of(splits: Iterable[Split]) -> float:
    """Validation rows by training rows, the mean over the splits."""
    return float(np.mean([len(split.validation) / len(split.training) for split in splits]))


def search_overlap(config: Config, parts: PreparedData) -> float:
    """The same of the search's splits."""
    return overlap_of(search_splits(config, parts, load_training(parts)))


@dataclass(frozen=True)
class MeanDifference:
    """A mean of k correlated differences, as a t distribution around it.

    `error` is its corrected standard error, >= 0: the standard deviation of the differences times
    sqrt(1/k + overlap). Nadeau and Bengio (2003), Machine Learning 52, 239-281."""

    mean: float
    error: float
    degrees: int  # of freedom, k - 1

    @classmethod
    def of(cls, differences: Sequence[float] | Floats, overlap: float) -> "MeanDifference":
        """Of the differences [k], k >= 2, one for each fold; `overlap` as `overlap_of` gives it.

        Raises:
            ValueError: fewer than two differences, or one that is not finite."""
        values = np.asarray(differences, dtype=np.float64)
        if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
            raise ValueError("two differences or more are needed, and all of them finite")
        k = len(values)
        variance = float(values.var(ddof=1))
        return cls(float(values.mean()), math.sqrt(variance * (1 / k + overlap)), k - 1)

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """The two-sided interval of the mean; `confidence` in (0, 1)."""
        half = float(stats.t.ppf((1 + confidence) / 2, self.degrees)) * self.error
        return self.mean - half, self.mean + half

    @property
    def p_value(self) -> float:
        """Of the two-sided test that the mean is 0."""
        if self.error == 0:
            return 1.0 if self.mean == 0 else 0.0
        return float(2 * stats.t.sf(abs(self.mean) / self.error, self.degrees))

    def probability_above(self, margin: float) -> float:
        """The posterior probability that the mean is above `margin`.

        The Bayesian correlated t-test with its noninformative prior and the correlation 1 / folds:
        then its t distribution is the one of the corrected test. Corani and Benavoli (2015),
        Machine Learning 100, 285-304; Benavoli et al. (2017), JMLR 18(77), section 4."""
        if self.error == 0:
            return float(self.mean > margin)
        return float(stats.t.sf((margin - self.mean) / self.error, self.degrees))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted for their number, in their order: the chance of one false claim stays below each.

    Holm (1979), Scandinavian Journal of Statistics 6, 65-70."""
    order = np.argsort(p_values, kind="stable")
    steps = np.arange(len(p_values), 0, -1) * np.asarray(p_values, float)[order]
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.maximum.accumulate(np.minimum(steps, 1.0))
    return [float(p) for p in adjusted]


def simultaneous(comparisons: int, confidence: float = 0.95) -> float:
    """The confidence of each interval with which all of them hold together (Bonferroni).

    With Holm's p-values: an interval of this width that leaves 0 out is always one of a difference
    that Holm's test finds too, so the two never contradict each other."""
    return 1 - (1 - confidence) / max(comparisons, 1)


MARGIN = 0.01
"""Differences below a point of accuracy (or 0.01 nats) matter to nobody."""


@dataclass(frozen=True)
class Pair:
    """One optimizer against another, on the same folds: `better` has the better mean.

    Differences are in the objective, > 0 where `better` is better: of accuracies, or of losses
    turned round."""

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
        overlap: validation by training rows of a fold (`overlap_of`)."""
    couples = list(combinations(scores, 2))
    means = [MeanDifference.of(ours - theirs, overlap) for (_, ours), (_, theirs) in couples]
    adjusted = holm([mean.p_value for mean in means])
    confidence = simultaneous(len(couples))
    compared = []
    for ((better, _), (worse, _)), mean, adjusted_p in zip(couples, means, adjusted, strict=True):
        intervals = *mean.interval(), *mean.interval(confidence)
        chances = mean.probability_above(margin), 1 - mean.probability_above(-margin)
        p_values = mean.p_value, adjusted_p
        compared.append(Pair(better, worse, mean.mean, *intervals, *p_values, *chances, margin))
    return tuple(compared)


def by_fold(scores: Floats, folds: int, is_forward: bool) -> Floats:
    """Scores repeat by repeat, fold by fold [repeats * folds], of which each is of other rows:
    of forward folds, the same in every repeat, the means over the repeats [folds]."""
    return np.asarray(scores.reshape(-1, folds).mean(axis=0)) if is_forward else scores
