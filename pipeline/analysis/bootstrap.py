"""Intervals of scores for which there is no formula, by drawing the rows again and again."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.models.metrics import KNOWN, Metric
from pipeline.training.layouts import Layout, threads

RESAMPLES, FEW = 1000, 200
"""Samples; few of many rows, and of metrics that are computed one sample after the other."""
_MOST_ROWS = 200_000
_ELEMENTS, _AT_ONCE = 5_000_000, 500_000  # numbers of all samples, and of those at one time


def intervals(
    logits: Mapping[Metric, Tensor], y: Tensor, groups: npt.NDArray[np.int64] | None = None
) -> dict[str, tuple[float, float]]:
    """The 95 % interval of each metric by its name: the percentile bootstrap, Efron and Tibshirani
    (1993), An Introduction to the Bootstrap, chapter 13. Of more than 200,000 rows so many are
    drawn once; their interval is made narrower by the square root of the part that they are of all
    rows: Politis and Romano (1994), Annals of Statistics 22(4), 2031-2050.

    Samples for which a metric is not defined, as without a row of a label, are left out. Rows of a
    single group have no intervals.

    Args:
        logits: of each metric [N, C]; y: [N] int64.
        groups: [N]; rows of one group are drawn together. None: each row by itself."""
    values: dict[Metric, list[Tensor]] = {metric: [] for metric in logits}
    unit = np.arange(len(y)) if groups is None else np.unique(groups, return_inverse=True)[1]
    units, rng = int(unit.max()) + 1, np.random.default_rng(0)
    if units < 2:
        return {}
    if groups is None and units > _MOST_ROWS:
        return _of_a_part(logits, y, torch.from_numpy(rng.permutation(units)[:_MOST_ROWS]))
    labels = next(iter(logits.values())).shape[-1]
    count = int(np.clip(_ELEMENTS // (len(y) * (labels - 1)), FEW, RESAMPLES))
    step = max(1, min(FEW, _AT_ONCE // len(y)))
    with threads(Layout(1, 1, 1)):
        for drawn in range(0, count, step):
            samples = range(min(step, count - drawn))
            times = [np.bincount(rng.integers(units, size=units), minlength=units) for _ in samples]
            weights = torch.from_numpy(np.stack(times)[:, unit].astype(np.float32))
            for metric, own in logits.items():
                if drawn < FEW or KNOWN.get(metric.name) is metric:
                    values[metric].append(metric.score(own, y, weights))
    scores = {metric.name: torch.cat(parts).numpy() for metric, parts in values.items()}
    ends = {n: np.nanpercentile(v, [2.5, 97.5]) for n, v in scores.items() if np.isfinite(v).any()}
    return {name: (float(low), float(high)) for name, (low, high) in ends.items()}


def _of_a_part(
    logits: Mapping[Metric, Tensor], y: Tensor, rows: Tensor
) -> dict[str, tuple[float, float]]:
    """The intervals of some rows [M], moved to the scores of all and made narrower."""
    part = {metric: own[rows] for metric, own in logits.items()}
    ends, scale = intervals(part, y[rows]), (len(rows) / len(y)) ** 0.5
    for metric in [metric for metric in logits if metric.name in ends]:
        center, score = (
            float(metric.score(part[metric], y[rows])),
            float(metric.score(logits[metric], y)),
        )
        low, high = (score + scale * (end - center) for end in ends[metric.name])
        ends[metric.name] = low, high
    return ends
