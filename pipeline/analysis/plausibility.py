"""Whether the test rows are like the training rows: by the model's scores on them, which
cross-validation should have foretold, and by the inputs alone, which nothing should tell apart."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats

from pipeline.analysis.comparison import MeanDifference
from pipeline.common.seeds import Purpose, generator
from pipeline.data.dependence import group_folds
from pipeline.data.encoding import Encoder, encoded, encoder_for
from pipeline.data.prepared import Rows
from pipeline.data.schema import Schema
from pipeline.models.metrics import ACCURACY, LOSS, Metric

LEVEL = 0.01
"""Of the tests here: what they find on clean tables must be rare."""

_BLOCKS = 50  # of rows, of which the jackknife leaves out one at a time
_MOST_ROWS = 2_000  # of either side, that the classifier sees
_MOST_NUMBERS = 200_000  # encoded, in these rows: below a second
_LEAST_ROWS = 20  # of either side, without which nothing could be said


@dataclass(frozen=True)
class Gap:
    """A test score that cross-validation does not allow."""

    metric: Metric
    expected: float
    test: float
    low: float  # 99 % interval of the difference, test minus expected; 0 is not in it
    high: float
    is_worse: bool  # than expected


def gap(
    metric: Metric,
    estimate: MeanDifference,
    training_rows: int,
    probabilities: npt.NDArray[np.floating],
    y: npt.NDArray[np.int64],
    clusters: npt.NDArray[np.int64] | None = None,
    estimates: int = 1,
) -> Gap | None:
    """A test score beside its estimate, by a two-sided test at 1 % with the uncertainty of both.

    That of the test score is a jackknife's over blocks of rows, or of whole clusters. An accuracy
    counts as no surer than that of so many rows of one probability, or else a few rows that are all
    right would be certain. Degrees of freedom as Welch (1947), Biometrika 34, 28-35. A loss that is
    better than expected is no gap: networks that answer together, calibrated, have a lower one than
    each alone.

    Args:
        estimate: of this model by cross-validation, with its corrected standard error.
        probabilities: of the test rows [N, C], without a threshold; y: their class ids [N].
        clusters: [N], which rows are right or wrong together; None: each by itself.
        estimates: how many this one was the best of; a worse test score must stand out of all."""
    if len(y) < 2:
        return None
    logits = torch.from_numpy(np.log(probabilities.astype(np.float64).clip(1e-7, 1.0)))
    truth, place = torch.from_numpy(y), np.arange(len(y))
    if clusters is not None:
        place = np.unique(clusters, return_inverse=True)[1]
    block = place % _BLOCKS
    if not block.any():
        return None
    kept = [block >= 0, *(block != each for each in range(block.max() + 1))]
    scores = [metric.score(logits[rows], truth[rows]) for rows in map(np.flatnonzero, kept)]
    test, *others = map(float, scores)
    degrees = np.array([estimate.degrees, len(others) - 1])
    variances = np.array([estimate.error**2, degrees[1] * np.var(others)])
    if metric is ACCURACY:
        share = (place.max() + 1) / len(y)  # of rows that say something by themselves
        rows = np.array([training_rows * share, place.max() + 1])
        right = (rows @ [estimate.mean, test] + 1) / (rows.sum() + 2)
        variances = np.maximum(variances, right * (1 - right) / rows)
    difference, total = test - estimate.mean, float(variances.sum())
    is_worse = metric.sign * difference < 0
    if not total > 0 or (metric is LOSS and not is_worse):
        return None
    freedom = total**2 / float((variances**2 / degrees).sum())
    level = LEVEL / (estimates if is_worse else 1)
    half = float(stats.t.ppf(1 - level / 2, freedom)) * math.sqrt(total)
    if abs(difference) <= half:
        return None
    ends = difference - half, difference + half
    return Gap(metric, estimate.mean, test, *ends, is_worse)


@dataclass(frozen=True)
class Shift:
    """How well a classifier tells test rows from training rows by their inputs.

    auc: the area under its ROC curve, cross-validated; `low` and `high`: its 99 % interval.
    columns: the one or two that tell most by themselves, beyond luck; arrays name none."""

    auc: float
    low: float
    high: float
    columns: tuple[str, ...]

    @property
    def is_clear(self) -> bool:
        """Whether the rows can be told apart by more than luck."""
        return self.low > 0.5


def shift(training: Rows, test: Rows, schema: Schema, seed: int) -> Shift | None:
    """Train a small classifier between the two sides, 2,000 rows of each at most, on one thread.

    Rows of one group stand in one of its folds. None: too few rows or groups, or rows too wide for
    it to take no time."""
    # Slow to import, and a search that is only read back needs neither.
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from threadpoolctl import threadpool_limits

    draw = generator(seed, Purpose.TEST_SHIFT)
    most = min(_MOST_ROWS, _MOST_NUMBERS // (2 * max(schema.width, 1)))
    taken = [np.sort(draw.permutation(len(side.y))[:most]) for side in (training, test)]
    pairs = list(zip((training, test), taken, strict=True))
    sides = [torch.from_numpy(side.take(rows)) for side, rows in pairs]
    groups = [rows if (g := side.dependence.groups) is None else g[rows] for side, rows in pairs]
    positives, negatives = (len(np.unique(group)) for group in reversed(groups))
    if min(positives, negatives) < _LEAST_ROWS:
        return None
    encoder = encoder_for(sides[0], schema, [torch.arange(len(sides[0]))], as_columns=True)
    x = np.concatenate([encoded(encoder, [side], len(side))[0].numpy() for side in sides])
    is_test = np.repeat([0, 1], [len(side) for side in sides])
    trees = HistGradientBoostingClassifier(
        max_iter=15, max_leaf_nodes=8, max_bins=63, early_stopping=False, random_state=0
    )
    folds: Any = StratifiedKFold(3, shuffle=True, random_state=0)
    if training.dependence.groups is not None:
        folds = group_folds(is_test, np.concatenate(groups), 3, 0)
    with threadpool_limits(limits=1):
        auc = float(cross_val_score(trees, x, is_test, scoring="roc_auc", cv=folds).mean())
    columns = _telling(x, is_test, encoder, schema) if isinstance(encoder, Encoder) else ()
    return Shift(auc, *auc_interval(auc, positives, negatives, 1 - LEVEL), columns)


def auc_interval(
    auc: float, positives: int, negatives: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Of an area under the ROC curve over so many rows of either side, both at least 1, cut at 0
    and 1. Hanley and McNeil (1982), Radiology 143, 29-36, formula 2."""
    first, second = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = auc * (1 - auc) + (positives - 1) * (first - auc**2)
    variance += (negatives - 1) * (second - auc**2)
    error = math.sqrt(max(variance, 0.0) / (positives * negatives))
    half = float(stats.norm.ppf((1 + confidence) / 2)) * error
    return max(0.0, auc - half), min(1.0, auc + half)


def _telling(
    x: npt.NDArray[np.float32], is_test: npt.NDArray[np.int64], encoder: Encoder, schema: Schema
) -> tuple[str, ...]:
    """The one or two columns of the table whose values alone, or gaps, tell the sides apart best.

    The area under a column's ROC curve is Mann and Whitney's U as a share; each must stand out
    beside all others (Bonferroni)."""
    positives = int(is_test.sum())
    negatives = len(is_test) - positives
    wins = stats.mannwhitneyu(x[is_test == 1], x[is_test == 0], method="asymptotic").statistic
    aucs = wins / (positives * negatives)
    order = [encoder.numeric, encoder.category_column, encoder.missing_column]
    best = np.zeros(len(schema.columns))
    np.maximum.at(best, torch.cat(order).numpy(), abs(aucs - 0.5))
    noise = auc_interval(0.5, positives, negatives, 1 - LEVEL / max(x.shape[1], 1))[1] - 0.5
    told = [schema.columns[place].name for place in np.argsort(-best) if best[place] > noise]
    return tuple(told[:2])
