"""Uncertainty of rows that come in clusters: groups, or stretches of time.

Rows of one cluster are right or wrong together, so what counts as an observation is the cluster."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

Integers = npt.NDArray[np.int64]


def mean_error(values: npt.NDArray[np.generic], clusters: Integers) -> tuple[float, int]:
    """The cluster-robust standard error of the mean of values [N], a ratio of sums over clusters
    [N], and its degrees of freedom, one less than there are clusters; of a single one infinite and
    1: nothing says how sure it is.

    Cochran (1977), Sampling Techniques, section 6.3, for clusters of unequal size."""
    numbers = np.asarray(values, dtype=np.float64)
    _, place = np.unique(clusters, return_inverse=True)
    sums = np.bincount(place, numbers - numbers.mean())
    count = len(sums)
    if count < 2:
        return math.inf, 1
    variance = count / (count - 1) * float((sums**2).sum()) / len(numbers) ** 2
    return float(np.sqrt(variance)), count - 1


@dataclass(frozen=True)
class Ageing:
    """How much accuracy networks lose that are older by as much as the next period is later than
    the test rows: the mean, > 0 where they get worse, and its standard error."""

    loss: float
    error: float


def lowest_ahead(right: npt.NDArray[np.bool_], clusters: Integers, ageing: Ageing) -> float:
    """The lower end of the 95 % interval of the accuracy on the period after these test rows [N],
    on which the networks will be older than on these by as much as `ageing` is of."""
    error, degrees = mean_error(right, clusters)
    half = float(stats.t.ppf(0.975, degrees)) * float(np.hypot(error, ageing.error))
    return max(0.0, float(right.mean()) - max(0.0, ageing.loss) - half)


def share_interval(right: npt.NDArray[np.bool_], clusters: Integers | None) -> tuple[float, float]:
    """The 95 % interval of a share of rows [N]: Wilson's, at as many independent rows as say as
    much as these do together.

    With clusters [N] this effective number is share * (1 - share) / variance of the cluster-robust
    mean, as many as there are clusters where that is 0, and Student's t takes the place of the
    normal distribution. Dean and Pagano (2015), J. Surv. Stat. Methodol. 3(4), 484-503; Wilson
    (1927), JASA 22(158), 209-212."""
    share, rows = float(right.mean()), float(len(right))
    z = float(stats.norm.ppf(0.975))
    if clusters is not None:
        error, degrees = mean_error(right, clusters)
        if error == math.inf:
            return 0.0, 1.0
        z = float(stats.t.ppf(0.975, degrees))
        rows = min(rows, share * (1 - share) / error**2) if error > 0 else degrees + 1.0
    centre = (share + z**2 / (2 * rows)) / (1 + z**2 / rows)
    half = z / (1 + z**2 / rows) * np.sqrt(share * (1 - share) / rows + z**2 / (4 * rows**2))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))
