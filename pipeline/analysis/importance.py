"""Which setting mattered: how much of the score's variance each one explains by itself (fANOVA).

Hutter, Hoos and Leyton-Brown (2014), An Efficient Approach for Assessing Hyperparameter Importance.
A random forest predicts the score from the settings; the variance of its predictions over the whole
space is parted into what each setting explains alone, and the rest.

Not by `optuna.importance`, whose fANOVA a test holds this to: there a range with `log` counts
linearly, and one forest of 200 trials takes seconds, while the chance level needs a hundred. Nor by
its default, PED-ANOVA, which compares where the best trials lie with where all do: TPE puts most
trials where the best are. `benchmarks/importance.py` has the figures."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.tree import DecisionTreeRegressor

from pipeline.analysis.comparison import Floats
from pipeline.analysis.ranking import completed, ranking
from pipeline.common.seeds import Purpose, generator
from pipeline.models.metrics import Metric
from pipeline.search.draw import fenced
from pipeline.search.settings import LEARNING_RATE, OPTIMIZER, Setting
from pipeline.training.trial import Trial

LEAST_TRIALS = 20  # completed ones; with fewer even a strong effect is often missed
SHUFFLES = 19  # one in twenty: the chance level is passed by luck in 5 % of cases
_LEAST_BEST = 5
_TREES = 64
_CHANCE_TREES = 4
_MOST_LEAVES = 256  # thousands of trials would make trees of thousands of leaves


@dataclass(frozen=True)
class Importance:
    """How much one setting mattered."""

    setting: Setting
    optimizer: str | None  # within its trials alone; None: over all trials
    share: float  # of the variance of the score over the whole space, what it explains by itself
    chance: float  # what its values reached at most when shuffled among the trials, in 19 tries
    trials: int  # that it was estimated from, those that failed included

    @property
    def stands_out(self) -> bool:
        """Whether it is more than a setting without any effect shows in 19 of 20 cases."""
        return self.share > self.chance


@dataclass(frozen=True)
class Searched:
    """The settings of a search, its trials, and which of the settings mattered."""

    settings: Sequence[Setting]
    trials: Sequence[Trial]
    metric: Metric

    @property
    def others(self) -> list[Setting]:
        """The settings beside the optimizer and its learning rate."""
        return [s for s in self.settings if s.name not in (OPTIMIZER, LEARNING_RATE)]

    @cached_property
    def importances(self) -> tuple[Importance, ...]:
        """Over all trials, the greatest share first, then the same for each optimizer; those with
        fewer than `LEAST_TRIALS` completed trials are left out.

        Nothing where only the optimizer and its learning rate were searched: the width of the
        range then decides which of the two explains more."""
        if not self.others:
            return ()
        importances = self.over_all()
        for label in (label for s in self.settings if s.name == OPTIMIZER for label in s.axes):
            settings = [s for s in self.settings if label in s.axes and s.name != OPTIMIZER]
            trials = [trial for trial in self.trials if trial.optimizer == label]
            importances += self._of(settings, trials, label)
        return tuple(importances)

    @cached_property
    def best(self) -> list[Trial]:
        """The best tenth of the completed trials, the best first; five, but at most half of them,
        where that is less."""
        done = sorted(completed(self.trials), key=lambda t: ranking(t, self.metric))
        few = min(_LEAST_BEST, max(1, len(done) // 2))
        return done[: max(few, math.ceil(len(done) / 10))]

    def over_all(self, least: int = LEAST_TRIALS) -> list[Importance]:
        """Over all trials only; none with fewer than `least` completed ones."""
        return self._of(self.settings, self.trials, None, least)

    def _of(
        self,
        settings: Sequence[Setting],
        trials: Sequence[Trial],
        optimizer: str | None,
        least: int = LEAST_TRIALS,
    ) -> list[Importance]:
        used = [trial for trial in trials if trial.state == "FAIL" or trial.is_complete]
        used.sort(key=lambda trial: trial.number)
        if len(completed(used)) < least or len(settings) < 2:
            return []
        y = scores(used, self.metric)
        rng = generator(0, Purpose.IMPORTANCE)
        columns = [_columns(setting, used, rng) for setting in settings]
        shares = main_effects(columns, y, _TREES, rng)
        if shares is None:
            return []
        chances = [_chance(columns, place, y, rng) for place in range(len(columns))]
        importances = [
            Importance(setting, optimizer, float(share), chance, len(used))
            for setting, share, chance in zip(settings, shares, chances, strict=True)
        ]
        return sorted(importances, key=lambda importance: -importance.share)


def scores(trials: Sequence[Trial], metric: Metric) -> Floats:
    """The metric of each trial [N], higher is better; one that failed has the worst.

    None is further below than Tukey's fence: a network that all but diverged would make up the
    whole variance."""
    values = [metric.sign * t.scores[metric.name] if t.is_complete else None for t in trials]
    return np.array(fenced(values))


def main_effects(
    columns: Sequence[Floats], y: Floats, trees: int, rng: np.random.Generator
) -> Floats | None:
    """The share [S] of the variance over the whole space that each setting explains alone.

    Args:
        columns: for each setting [N, 1], numbers from 0 to 1, or [N, C], C >= 2, one of them 1 and
            the others 0.
        y: the scores [N].
        trees: of the forest, each grown on as many rows drawn with replacement.

    Returns:
        None when the scores are all alike."""
    x = np.hstack(columns).astype(np.float32)  # as scikit-learn's trees take it
    widths = [column.shape[1] for column in columns]
    by_tree = []
    for _ in range(trees):
        rows = rng.integers(len(y), size=len(y))
        seed = int(rng.integers(2**31))
        tree = DecisionTreeRegressor(max_leaf_nodes=_MOST_LEAVES, random_state=seed)
        tree.fit(x[rows], y[rows], check_input=False)
        by_tree.append(_shares(tree.tree_, widths))
    varied = [shares for shares in by_tree if shares is not None]
    return np.mean(varied, axis=0) if varied else None


def _shares(tree: Any, widths: Sequence[int]) -> Floats | None:
    """The shares [S] by a tree of scikit-learn whose S settings have so many columns.

    None when it predicts the same everywhere."""
    leaves = tree.feature < 0
    value = tree.value[leaves, 0, 0]  # [L]
    if len(value) == 1:  # whose variance is 0 but for rounding
        return None
    low, high = (ends[leaves] for ends in _boxes(tree, sum(widths)))
    settings = []  # of each: which parts a leaf holds [L, P], how large each is [P]
    for end, width in zip(np.cumsum(widths), widths, strict=True):
        columns = slice(end - width, end)
        parts_of = _number_parts if width == 1 else _choice_parts
        settings.append(parts_of(low[:, columns], high[:, columns]))
    extent = np.array([held @ sizes for held, sizes in settings])  # [S, L]
    volume = extent.prod(axis=0)
    mean = volume @ value
    variance = volume @ (value - mean) ** 2
    if variance <= 0:
        return None
    shares = []
    for place, (held, sizes) in enumerate(settings):
        others = np.delete(extent, place, axis=0).prod(axis=0)
        marginal = (others * value) @ held  # [P], mean over all other settings
        shares.append(sizes @ (marginal - mean) ** 2 / variance)
    return np.array(shares)


def _boxes(tree: Any, columns: int) -> tuple[Floats, Floats]:
    """Where the box of each node of a tree begins and where it ends [nodes, columns]."""
    low = np.full((tree.node_count, columns), -np.inf)
    high = np.full_like(low, np.inf)
    level = np.array([0])
    while len(level := level[tree.feature[level] >= 0]):
        left, right = tree.children_left[level], tree.children_right[level]
        low[left] = low[right] = low[level]
        high[left] = high[right] = high[level]
        column, border = tree.feature[level], tree.threshold[level]
        high[left, column] = low[right, column] = border
        level = np.concatenate([left, right])
    return low, high


def _number_parts(low: Floats, high: Floats) -> tuple[npt.NDArray[np.bool_], Floats]:
    """Of boxes from low [L, 1] to high [L, 1]: the parts of [0, 1] between all their borders."""
    edges = np.unique(np.clip(np.concatenate([low.ravel(), high.ravel(), [0.0, 1.0]]), 0, 1))
    middles = (edges[:-1] + edges[1:]) / 2
    return (low < middles) & (middles <= high), np.diff(edges)


def _choice_parts(low: Floats, high: Floats) -> tuple[npt.NDArray[np.bool_], Floats]:
    """Of boxes over columns [L, C] of which one is 1 and the others are 0: each column's choice."""
    count = low.shape[1]
    chosen, zero = (low < 1) & (high >= 1), (low < 0) & (high >= 0)
    others = zero.sum(axis=1, keepdims=True) - zero
    return chosen & (others == count - 1), np.full(count, 1 / count)


def _chance(columns: Sequence[Floats], place: int, y: Floats, rng: np.random.Generator) -> float:
    """The greatest share of the setting when its values are shuffled among the trials."""
    shuffled = list(columns)
    highest = 0.0
    for _ in range(SHUFFLES):
        shuffled[place] = rng.permutation(columns[place])
        shares = main_effects(shuffled, y, _CHANCE_TREES, rng)
        highest = max(highest, float(shares[place]) if shares is not None else 0.0)
    return highest


def _columns(setting: Setting, trials: Sequence[Trial], rng: np.random.Generator) -> Floats:
    """The setting's values as the forest takes them (see `main_effects`).

    A trial whose optimizer has no such setting gets one at random: a fixed one would tell the
    forest which optimizer it is."""
    if not setting.categorical:
        positions = [setting.position(t) if setting.has(t) else rng.random() for t in trials]
        return np.array(positions)[:, None]
    count = len(setting.axis.labels)
    places = [setting.category(t) if setting.has(t) else int(rng.integers(count)) for t in trials]
    return np.eye(count)[places]
