"""Statistics of scores that were measured again and again on resampled rows, such as folds.

The training parts of folds overlap, so scores of different folds are correlated, and the usual
t-test takes noise for differences. Nadeau and Bengio's correction adds the overlap to the variance
of the mean; Benavoli et al. show that the Bayesian answer is the same t distribution.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.float64]


def overlap(folds: int, fraction: float = 0.0) -> float:
    """Validation rows by training rows: of `folds` folds, or of hold-outs of `fraction` (folds 1).

    Raises:
        ValueError: unless folds > 1, or folds = 1 and 0 < fraction < 1.
    """
    if folds > 1:
        return 1 / (folds - 1)
    if folds == 1 and 0 < fraction < 1:
        return fraction / (1 - fraction)
    raise ValueError(f"`folds > 1 or 0 < fraction < 1` must hold, but got ({folds=}, {fraction=})")


@dataclass(frozen=True)
class MeanDifference:
    """A mean of k correlated differences, as a t distribution around it.

    Attributes:
        mean: of the differences.
        error: its corrected standard error, >= 0: the standard deviation of the differences times
            sqrt(1/k + overlap). Nadeau and Bengio (2003), Machine Learning 52, 239-281.
        degrees: k - 1, of freedom.
    """

    mean: float
    error: float
    degrees: int

    @classmethod
    def of(cls, differences: Sequence[float] | Floats, overlap: float) -> "MeanDifference":
        """Of the differences [k], k >= 2, one for each fold; `overlap` as the function gives it.

        Raises:
            ValueError: fewer than two differences, or one that is not finite.
        """
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
        Machine Learning 100, 285-304; Benavoli et al. (2017), JMLR 18(77), section 4.
        """
        if self.error == 0:
            return float(self.mean > margin)
        return float(stats.t.sf((margin - self.mean) / self.error, self.degrees))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted for their number, in their order: the chance of one false claim stays below each.

    Holm (1979), Scandinavian Journal of Statistics 6, 65-70.
    """
    count = len(p_values)
    adjusted = [0.0] * count
    largest = 0.0
    for rank, place in enumerate(sorted(range(count), key=lambda place: p_values[place])):
        largest = max(largest, min(1.0, (count - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def simultaneous(comparisons: int, confidence: float = 0.95) -> float:
    """The confidence of each interval with which all of them hold together (Bonferroni).

    With Holm's p-values: an interval of this width that leaves 0 out is always one of a difference
    that Holm's test finds too, so the two never contradict each other.
    """
    return 1 - (1 - confidence) / max(comparisons, 1)
