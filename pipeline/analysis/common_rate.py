"""Learning rates over several tables: the one that serves all of them, and what tuning pays."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.analysis.across import FEWEST_TABLES, Searched
from pipeline.analysis.comparison import Floats
from pipeline.models.metrics import Metric

_STEP = 0.25
"""Decades between the rates that are looked at, and the width of the kernel that smooths the
trials around them."""


@dataclass(frozen=True)
class CommonRate:
    """What an optimizer loses if one learning rate must serve all tables.

    rates: looked at, ascending [R]. loss: at each, in units of the objective, the mean over the
    tables of what it is behind the best rate of the table [R]; NaN where fewer than half of the
    tables were tried near it. rate: where it is least. cost and error: of the rate that the other
    tables choose, on each table left out, the mean and its standard error. `best_low` and
    `best_high`: between which the middle half of the tables have their best rate."""

    optimizer: str
    rates: Floats
    loss: Floats
    rate: float
    cost: float
    error: float
    best_low: float
    best_high: float
    tables: int


def common_rates(searches: Sequence[Searched], metric: Metric) -> tuple[CommonRate, ...]:
    """Of each optimizer whose learning rate was searched, by the trials of the searches; a trial
    that failed counts as the worst that completed on its table."""
    curves: dict[str, dict[str, list[tuple[Floats, Floats]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for search in searches:
        for name, trials in _by_optimizer(search, metric).items():
            points = [(math.log10(lr), score) for lr, score in trials if lr > 0]
            if len({lr for lr, _ in points}) > 2:
                lr, score = np.array(points).T
                curves[name][search.table].append((lr, score))
    rates = (_common(name, of) for name, of in curves.items() if len(of) >= FEWEST_TABLES)
    return tuple(rate for rate in rates if rate is not None)


def _by_optimizer(search: Searched, metric: Metric) -> dict[str, list[tuple[float, float]]]:
    """Of each optimizer with a complete trial the learning rate and the score of every trial, of
    one that did not complete the worst of all that did; higher scores are better."""
    done = [trial for trial in search.trials if trial.is_complete and metric.name in trial.scores]
    scores = {trial.number: metric.sign * trial.scores[metric.name] for trial in done}
    found: dict[str, list[tuple[float, float]]] = {trial.optimizer: [] for trial in done}
    for trial in search.trials:
        if trial.optimizer in found and trial.state != "RUNNING":
            score = scores.get(trial.number, min(scores.values()))
            found[trial.optimizer].append((trial.lr, score))
    return found


def _common(name: str, curves: Mapping[str, Sequence[tuple[Floats, Floats]]]) -> CommonRate | None:
    every = np.concatenate([lr for each in curves.values() for lr, _ in each])
    ends = math.floor(every.min() / _STEP), math.ceil(every.max() / _STEP)
    grid = _STEP * np.arange(ends[0], ends[1] + 1)
    behind = np.stack(
        [np.mean([_behind(grid, *curve) for curve in each], axis=0) for each in curves.values()]
    )
    tried = np.isfinite(behind)
    enough = tried.mean(axis=0) >= 0.5
    if not enough.any():
        return None
    loss = np.where(enough, _mean(behind), np.nan)
    costs = []
    for table in range(len(behind)):
        others = np.where(enough, _mean(np.delete(behind, table, axis=0)), np.nan)
        chosen = np.where(tried[table], others, np.nan)
        if np.isfinite(chosen).any():
            costs.append(behind[table, int(np.nanargmin(chosen))])
    best = grid[np.nanargmin(behind, axis=1)]
    low, high = np.quantile(best, [0.25, 0.75])
    error = float(np.std(costs, ddof=1) / math.sqrt(len(costs))) if len(costs) > 1 else math.nan
    rate = float(10 ** grid[np.nanargmin(loss)])
    return CommonRate(name, 10**grid, loss, rate, float(np.mean(costs)), error,
                      float(10**low), float(10**high), len(behind))  # fmt: skip


def _mean(values: Floats) -> Floats:
    """Over the tables [T, R] that were tried near each rate; NaN where none was."""
    tried = np.isfinite(values)
    counts = tried.sum(axis=0)
    total = np.where(tried, values, 0.0).sum(axis=0)
    return np.where(counts > 0, total / np.maximum(counts, 1), np.nan)


def _behind(grid: Floats, lr: Floats, score: Floats) -> Floats:
    """How far the smoothed score at each rate is behind that at the best one [R], >= 0; NaN where
    no trial is within a step."""
    distance = np.abs(grid[:, None] - lr)
    weights = np.exp(-0.5 * (distance / _STEP) ** 2)
    smooth = weights @ score / weights.sum(axis=1)
    smooth[distance.min(axis=1) > _STEP] = np.nan
    return np.asarray(np.nanmax(smooth) - smooth)


def tuning_curve(searches: Sequence[Searched], metric: Metric, optimizer: str) -> Floats:
    """What is lost by trying n learning rates instead of all, n = 1, 2, ..., the mean over the
    tables: by the expected best of n of the N trials, drawn without repetition."""
    curves: dict[str, list[Floats]] = defaultdict(list)
    for search in searches:
        if trials := _by_optimizer(search, metric).get(optimizer):
            scores = np.sort([score for _, score in trials])
            curves[search.table].append(scores[-1] - _expected_best(scores))
    if not curves:
        return np.empty(0)
    length = min(len(curve) for each in curves.values() for curve in each)
    tables = [np.mean([curve[:length] for curve in each], axis=0) for each in curves.values()]
    return np.asarray(np.mean(tables, axis=0))


def _expected_best(ascending: Floats) -> Floats:
    """[N]: of 1 to N of these scores, drawn without repetition."""
    total = len(ascending)
    best = []
    for n in range(1, total + 1):
        ways = np.array([math.comb(i, n - 1) for i in range(total)], dtype=object)
        best.append(float((ways * ascending).sum() / math.comb(total, n)))
    return np.array(best)
