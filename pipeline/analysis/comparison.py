"""Optimizers against each other, on the same folds.

The training parts of folds overlap, so scores of different folds are correlated, and the usual
t-test takes noise for differences. Nadeau and Bengio's correction adds the overlap to the variance
of the mean."""

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


_ROUNDING = 1e-12  # of differences that are equal but for it


@dataclass(frozen=True)
class MeanDifference:
    """A mean of k correlated differences, as a t distribution around it.

    `error` is its corrected standard error, >= 0: the standard deviation of the differences times
    sqrt(1/k + overlap). Nadeau and Bengio (2003), Machine Learning 52, 239-281. Differences that
    are all equal have no deviation to go by: their error is the one by which the t test is as sure
    as the sign test, which says that k of one sign are luck with probability 2^(1 - k)."""

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
        k, mean = len(values), float(values.mean())
        error = math.sqrt(float(values.var(ddof=1)) * (1 / k + overlap))
        if np.ptp(values) <= _ROUNDING * abs(mean):
            error = abs(mean) / float(stats.t.isf(0.5**k, k - 1))
        return cls(mean, error, k - 1)

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

    @property
    def is_clear(self) -> bool:
        """Whether the difference is more than luck: the interval for all pairs leaves 0 out."""
        return self.low_all > 0


def pairs(scores: Sequence[tuple[str, Floats]], overlap: float) -> tuple[Pair, ...]:
    """Every optimizer against every other one, in the order given.

    Args:
        scores: names with their objectives [k], higher is better, the best mean first; fold j of
            each is the same rows, k >= 2.
        overlap: validation by training rows of a fold (`overlap_of`)."""
    couples = list(combinations(scores, 2))
    confidence = 1 - 0.05 / max(len(couples), 1)
    compared = []
    for (better, ours), (worse, theirs) in couples:
        mean = MeanDifference.of(ours - theirs, overlap)
        compared.append(
            Pair(better, worse, mean.mean, *mean.interval(), *mean.interval(confidence))
        )
    return tuple(compared)


def by_fold(scores: Floats, folds: int, is_forward: bool) -> Floats:
    """Scores repeat by repeat, fold by fold [repeats * folds], of which each is of other rows:
    of forward folds, the same in every repeat, the means over the repeats [folds]."""
    return np.asarray(scores.reshape(-1, folds).mean(axis=0)) if is_forward else scores
