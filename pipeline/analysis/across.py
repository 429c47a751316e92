"""Optimizers over several tables: which one is better on a table that nobody has tried yet.

A table is one draw from all tables that there might be, so the tables are what is counted; the
folds of each say how sure its own difference is. Both go into a random-effects model, as in the
meta-analysis of clinical trials."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from scipy import optimize, stats

from pipeline.analysis.comparison import Floats
from pipeline.analysis.evidence import Evidence
from pipeline.models.metrics import Metric
from pipeline.training.trial import Trial

FEWEST_TABLES = 3
"""Of fewer nothing is said of other tables."""

MARGIN = 0.01
"""Differences below a point of accuracy (or 0.01 of loss) matter to nobody."""


@dataclass(frozen=True)
class Searched:
    """One finished search: the table's name, what it was one of, and what it found.

    rows_and_label: the same where the rows and what is told of them are the same.
    settings: what told it apart from the sweep's other searches, by dotted path."""

    table: str
    rows_and_label: str
    run_id: str
    settings: Mapping[str, Any]
    rows: int
    labels: int
    evidence: Evidence
    trials: Sequence[Trial]


@dataclass(frozen=True)
class Effect:
    """A mean over tables by a random-effects model.

    The mean weighs each table by the inverse of its own variance and that between tables (Paule and
    Mandel 1982, Journal of Research of the NBS 87, 377-385). Its standard error is that of Hartung
    and Knapp (2001, Statistics in Medicine 20, 3875-3889), which holds with few tables, and never
    below that of the weights alone. `between` is the standard deviation between tables, >= 0."""

    mean: float
    error: float
    between: float
    tables: int

    @classmethod
    def of(cls, means: Floats, variances: Floats) -> "Effect":
        """Of tables' means [T] and the variances of these [T], >= 0; T >= 2."""
        n = len(means)
        floor = max(1e-12, 1e-6 * float(means.var()))
        variances = np.maximum(variances, floor)

        def excess(between: float) -> float:
            weights = 1 / (variances + between)
            centre = float(np.average(means, weights=weights))
            return float(weights @ (means - centre) ** 2) - (n - 1)

        between = 0.0
        if excess(0.0) > 0:
            between = float(optimize.brentq(excess, 0.0, 2 * n * float(np.ptp(means)) ** 2))
        weights = 1 / (variances + between)
        centre = float(np.average(means, weights=weights))
        inflation = max(1.0, float(weights @ (means - centre) ** 2) / (n - 1))
        return cls(centre, math.sqrt(inflation / weights.sum()), math.sqrt(between), n)

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Of the mean over all tables that there might be."""
        half = float(stats.t.ppf((1 + confidence) / 2, self.tables - 1)) * self.error
        return self.mean - half, self.mean + half

    @property
    def p_value(self) -> float:
        """Of the two-sided test that the mean is 0."""
        return float(2 * stats.t.sf(abs(self.mean) / self.error, self.tables - 1))

    def chance_above(self, margin: float) -> float:
        """That the difference on a new table is above `margin`: by the predictive distribution of
        Higgins, Thompson and Spiegelhalter (2009), JRSS A 172, 137-159."""
        spread = math.hypot(self.error, self.between)
        return float(stats.t.sf((margin - self.mean) / spread, max(1, self.tables - 2)))


@dataclass(frozen=True)
class AcrossPair:
    """One optimizer against another over the tables that both completed; `better` has the better
    mean. `low` and `high` hold for all pairs together with 95 % (Bonferroni). `wins` of `tables`:
    where it was ahead. `wilcoxon` is the signed-rank test of the tables' differences, which does
    not depend on the other optimizers (Benavoli, Corani and Mangili 2016, JMLR 17(5)); both
    p-values are adjusted for all pairs too. `chance`: that it is better by more than `MARGIN` on
    a new table, `chance_worse` that the other one is."""

    better: str
    worse: str
    effect: Effect
    low: float
    high: float
    p_adjusted: float
    wilcoxon: float
    wins: int
    chance: float
    chance_worse: float

    @property
    def is_clear(self) -> bool:
        return self.low > 0


@dataclass(frozen=True)
class Ranks:
    """Mean ranks over tables, 1 for the best; `critical`: the difference that Nemenyi's test calls
    one (Demsar 2006, JMLR 7, 1-30); `p_value` of Friedman's test in Iman and Davenport's form."""

    means: Mapping[str, float]
    critical: float
    p_value: float
    tables: int


@dataclass(frozen=True)
class Across:
    """All of it. `scores`: by table, by optimizer, the mean of the finalist's cross-fitted
    objective; an optimizer that diverged on a table is not there."""

    metric: Metric
    scores: Mapping[str, Mapping[str, float]]
    pairs: tuple[AcrossPair, ...]
    ranks: Ranks | None

    @property
    def optimizers(self) -> list[str]:
        """The best mean rank first."""
        return sorted(self.ranks.means, key=self.ranks.means.__getitem__) if self.ranks else []

    @property
    def winner(self) -> str | None:
        """The optimizer that is clearly ahead of each other one; None: nobody is."""
        wins = dict.fromkeys(self.optimizers, 0)
        for pair in self.pairs:
            wins[pair.better] += pair.is_clear
        return next((name for name, n in wins.items() if n == len(wins) - 1 > 0), None)


def across(searches: Sequence[Searched], metric: Metric) -> Across:
    """Compare the optimizers over the tables of these searches. A table counts once, however many
    searches it had: their differences are averaged, and their variances too, since other seeds are
    of the same rows."""
    by_table: dict[str, list[Searched]] = defaultdict(list)
    for search in searches:
        by_table[search.table].append(search)
    scores = {table: _mean_scores(each, metric) for table, each in by_table.items()}
    ranks = _ranks(scores, metric)
    names = sorted(ranks.means, key=ranks.means.__getitem__) if ranks is not None else []
    couples = []
    for a, b in combinations(names, 2):
        means, variances = _differences(by_table, a, b, metric)
        if len(means) >= FEWEST_TABLES:
            sign = 1 if Effect.of(means, variances).mean >= 0 else -1
            couples.append((*((a, b) if sign > 0 else (b, a)), sign * means, variances))
    return Across(metric, scores, _pairs(couples), ranks)


def _mean_scores(searches: Sequence[Searched], metric: Metric) -> dict[str, float]:
    found: dict[str, list[float]] = defaultdict(list)
    for search in searches:
        for finalist in search.evidence.finalists:
            if finalist.completed:
                found[finalist.optimizer].append(finalist.mean(metric))
    return {name: float(np.mean(each)) for name, each in found.items()}


def _differences(
    by_table: Mapping[str, Sequence[Searched]], a: str, b: str, metric: Metric
) -> tuple[Floats, Floats]:
    """Of each table that has both: how far `a` is ahead, and the variance of that."""
    means, variances = [], []
    for searches in by_table.values():
        of_table = []
        for search in searches:
            done = {f.optimizer: f for f in search.evidence.finalists if f.completed}
            if a in done and b in done:
                ours, theirs = (done[name].scores[metric.name] for name in (a, b))
                of_table.append(search.evidence.of_mean(metric.sign * (ours - theirs)))
        if of_table:
            means.append(float(np.mean([each.mean for each in of_table])))
            variances.append(float(np.mean([each.error**2 for each in of_table])))
    return np.array(means), np.array(variances)


def _pairs(couples: Sequence[tuple[str, str, Floats, Floats]]) -> tuple[AcrossPair, ...]:
    effects = [Effect.of(means, variances) for _, _, means, variances in couples]
    count = max(len(couples), 1)
    return tuple(
        AcrossPair(
            better,
            worse,
            effect,
            *effect.interval(1 - 0.05 / count),
            min(1.0, count * effect.p_value),
            min(1.0, count * _wilcoxon(means)),
            int((means > 0).sum()),
            effect.chance_above(MARGIN),
            1 - effect.chance_above(-MARGIN),
        )
        for (better, worse, means, _), effect in zip(couples, effects, strict=True)
    )


def _wilcoxon(differences: Floats) -> float:
    return float(stats.wilcoxon(differences).pvalue) if differences.any() else 1.0


def _ranks(scores: Mapping[str, Mapping[str, float]], metric: Metric) -> Ranks | None:
    """An optimizer that diverged on a table has the last rank there; None: one table, or one
    optimizer."""
    names = sorted({name for each in scores.values() for name in each})
    n, k = len(scores), len(names)
    if n < 2 or k < 2:
        return None
    worst = -math.inf
    values = [
        [metric.sign * each[m] if m in each else worst for m in names] for each in scores.values()
    ]
    ranks = stats.rankdata(-np.array(values), axis=1)
    means = ranks.mean(axis=0)
    friedman = 12 * n / (k * (k + 1)) * float(np.sum((means - (k + 1) / 2) ** 2))
    rest = n * (k - 1) - friedman
    f = (n - 1) * friedman / rest if rest > 0 else math.inf
    quantile = float(stats.studentized_range.ppf(0.95, k, np.inf)) / math.sqrt(2)
    return Ranks(
        dict(zip(names, means.tolist(), strict=True)),
        quantile * math.sqrt(k * (k + 1) / (6 * n)),
        float(stats.f.sf(f, k - 1, (k - 1) * (n - 1))),
        n,
    )
