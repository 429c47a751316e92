"""Which setting mattered: how much of the score's variance each one explains by itself (fANOVA).

Hutter, Hoos and Leyton-Brown (2014), An Efficient Approach for Assessing Hyperparameter Importance.
A random forest predicts the score from the settings; the variance of its predictions over the whole
space is parted into what each setting explains alone, and the rest.

Not by `optuna.importance`, whose fANOVA a test holds this to: there a range with `log` counts
linearly, and one forest of 200 trials takes seconds, while the chance level needs a hundred. Nor by
its default, PED-ANOVA, which compares where the best trials lie with where all do: TPE puts most
trials where the best are. `benchmarks/importance.py` has the figures.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.tree import DecisionTreeRegressor

from pipeline.analysis.ranking import Objective, TrialResult, completed, ranking
from pipeline.analysis.resampled import Floats
from pipeline.common.seeds import Purpose, generator
from pipeline.search.settings import LEARNING_RATE, OPTIMIZER, Setting

LEAST_TRIALS = 20  # completed ones; with fewer even a strong effect is often missed
SHUFFLES = 19  # one in twenty: the chance level is passed by luck in 5 % of cases
_LEAST_BEST = 5
_TREES = 64
_CHANCE_TREES = 4
_MOST_LEAVES = 256  # thousands of trials would make trees of thousands of leaves


@dataclass(frozen=True)
class Importance:
    """How much one setting mattered.

    optimizer: within the trials of this entry alone; None: over all trials.
    share: of the variance of the score over the whole space, 0 to 1, what it explains by itself.
    chance: what the same values reached at most when shuffled among the trials, in 19 tries.
    trials: that it was estimated from, those that failed included.
    """

    setting: Setting
    optimizer: str | None
    share: float
    chance: float
    trials: int

    @property
    def stands_out(self) -> bool:
        """Whether it is more than a setting without any effect shows in 19 of 20 cases."""
        return self.share > self.chance


@dataclass(frozen=True)
class Searched:
    """The settings of a search, its trials, and which of the settings mattered."""

    settings: Sequence[Setting]
    trials: Sequence[TrialResult]
    objective: Objective

    @property
    def others(self) -> list[Setting]:
        """The settings beside the optimizer and its learning rate."""
        return [one for one in self.settings if one.name not in (OPTIMIZER, LEARNING_RATE)]

    @cached_property
    def importances(self) -> tuple[Importance, ...]:
        """Over all trials, the greatest share first, then the same for each optimizer; those with
        fewer than `LEAST_TRIALS` completed trials are left out.

        Nothing where only the optimizer and its learning rate were searched: the width of the
        range then decides which of the two explains more.
        """
        if not self.others:
            return ()
        found = self.over_all()
        choice = next((one for one in self.settings if one.name == OPTIMIZER), None)
        for entry, name in enumerate(choice.axis.values or () if choice is not None else ()):
            own = [one for one in self.settings if entry in one.axes and one is not choice]
            trials = [trial for trial in self.trials if trial.entry == entry]
            found += _importances(own, trials, self.objective, name)
        return tuple(found)

    @cached_property
    def best(self) -> list[TrialResult]:
        """The best tenth of the completed trials, the best first; five, but at most half of them,
        where that is less."""
        done = sorted(completed(self.trials), key=lambda t: ranking(t, self.objective))
        few = min(_LEAST_BEST, max(1, len(done) // 2))
        return done[: max(few, math.ceil(len(done) / 10))]

    def over_all(self, least: int = LEAST_TRIALS) -> list[Importance]:
        """Over all trials only; none with fewer than `least` completed ones."""
        return _importances(self.settings, self.trials, self.objective, None, least)


def _importances(
    settings: Sequence[Setting],
    trials: Sequence[TrialResult],
    objective: Objective,
    optimizer: str | None,
    least: int = LEAST_TRIALS,
) -> list[Importance]:
    used = [trial for trial in trials if trial.state == "FAIL"] + completed(trials)
    used.sort(key=lambda trial: trial.number)
    if len(completed(used)) < least or len(settings) < 2:
        return []
    y = scores(used, objective)
    rng = generator(0, Purpose.IMPORTANCE)
    columns = [_columns(setting, used, rng) for setting in settings]
    shares = main_effects(columns, y, _TREES, rng)
    if shares is None:
        return []
    chance = [_chance(columns, place, y, rng) for place in range(len(columns))]
    found = [
        Importance(setting, optimizer, float(share), level, len(used))
        for setting, share, level in zip(settings, shares, chance, strict=True)
    ]
    return sorted(found, key=lambda one: -one.share)


def scores(trials: Sequence[TrialResult], objective: Objective) -> Floats:
    """The objective of each trial [N], higher is better; one that failed has the worst.

    None is further below than Tukey's fence: a network that all but diverged would make up the
    whole variance.
    """
    sign = 1.0 if objective == "val_accuracy" else -1.0
    known = {t.number: sign * (_score(t, objective) or 0.0) for t in completed(trials)}
    values = np.array(list(known.values()))
    low, high = np.quantile(values, [0.25, 0.75])
    worst = max(float(values.min()), float(low - 1.5 * (high - low)))
    return np.array([max(known.get(trial.number, worst), worst) for trial in trials])


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
        None when the scores are all alike.
    """
    x = np.hstack(columns).astype(np.float32)  # as scikit-learn's trees take it
    widths = [column.shape[1] for column in columns]
    found = []
    for _ in range(trees):
        rows = rng.integers(len(y), size=len(y))
        seed = int(rng.integers(2**31))
        tree = DecisionTreeRegressor(max_leaf_nodes=_MOST_LEAVES, random_state=seed)
        tree.fit(x[rows], y[rows], check_input=False)
        found.append(_parted(_Leaves.of(tree.tree_, widths)))
    known = [shares for shares in found if shares is not None]
    return np.mean(known, axis=0) if known else None


@dataclass(frozen=True)
class _Leaves:
    """A regression tree as the boxes of its L leaves.

    value: [L], what it predicts there.
    inside: for each setting [L, P], bool: which parts of its range the box holds.
    parts: for each setting [P], how much of the range each part is; the sum is 1.
    """

    value: Floats
    inside: list[npt.NDArray[np.bool_]]
    parts: list[Floats]

    @classmethod
    def of(cls, tree: Any, widths: Sequence[int]) -> "_Leaves":
        """Of a tree of scikit-learn whose settings have so many columns."""
        low = np.full((tree.node_count, sum(widths)), -np.inf)
        high = np.full_like(low, np.inf)
        level = np.array([0])
        while len(level := level[tree.feature[level] >= 0]):
            left, right = tree.children_left[level], tree.children_right[level]
            low[left] = low[right] = low[level]
            high[left] = high[right] = high[level]
            column, border = tree.feature[level], tree.threshold[level]
            high[left, column] = low[right, column] = border
            level = np.concatenate([left, right])
        ends = tree.feature < 0
        low, high = low[ends], high[ends]
        inside, parts, start = [], [], 0
        for width in widths:
            own = slice(start, start + width)
            found = (_number_parts if width == 1 else _choice_parts)(low[:, own], high[:, own])
            inside.append(found[0])
            parts.append(found[1])
            start += width
        return cls(tree.value[ends, 0, 0], inside, parts)


def _number_parts(low: Floats, high: Floats) -> tuple[npt.NDArray[np.bool_], Floats]:
    """Of boxes from low [L, 1] to high [L, 1]: the parts of [0, 1] between all their borders."""
    edges = np.unique(np.clip(np.concatenate([low.ravel(), high.ravel(), [0.0, 1.0]]), 0, 1))
    middles = (edges[:-1] + edges[1:]) / 2
    return (low < middles) & (middles <= high), np.diff(edges)


def _choice_parts(low: Floats, high: Floats) -> tuple[npt.NDArray[np.bool_], Floats]:
    """Of boxes over columns [L, C] of which one is 1 and the others are 0: each column's choice."""
    count = low.shape[1]
    one, zero = (low < 1) & (high >= 1), (low < 0) & (high >= 0)
    others = zero.sum(axis=1, keepdims=True) - zero
    return one & (others == count - 1), np.full(count, 1 / count)


def _parted(leaves: _Leaves) -> Floats | None:
    """The shares of the settings [S]; None when the tree predicts the same everywhere."""
    if len(leaves.value) == 1:  # whose variance is 0 but for rounding
        return None
    extent = np.array([i @ p for i, p in zip(leaves.inside, leaves.parts, strict=True)])  # [S, L]
    volume = extent.prod(axis=0)
    mean = volume @ leaves.value
    variance = volume @ (leaves.value - mean) ** 2
    if variance <= 0:
        return None
    shares = []
    for place, (inside, parts) in enumerate(zip(leaves.inside, leaves.parts, strict=True)):
        others = np.delete(extent, place, axis=0).prod(axis=0)
        marginal = (others * leaves.value) @ inside  # [P], mean over all other settings
        shares.append(parts @ (marginal - mean) ** 2 / variance)
    return np.array(shares)


def _chance(columns: Sequence[Floats], place: int, y: Floats, rng: np.random.Generator) -> float:
    """The greatest share of the setting when its values are shuffled among the trials."""
    shuffled = list(columns)
    highest = 0.0
    for _ in range(SHUFFLES):
        shuffled[place] = rng.permutation(columns[place])
        shares = main_effects(shuffled, y, _CHANCE_TREES, rng)
        highest = max(highest, float(shares[place]) if shares is not None else 0.0)
    return highest


def _columns(setting: Setting, trials: Sequence[TrialResult], rng: np.random.Generator) -> Floats:
    """The setting's values as the forest takes them (see `main_effects`).

    A trial whose optimizer has no such setting gets one at random: a fixed one would tell the
    forest which optimizer it is.
    """
    if not setting.categorical:
        positions = [setting.position(t) if setting.has(t) else rng.random() for t in trials]
        return np.array(positions)[:, None]
    count = len(setting.axis.labels)
    places = [setting.category(t) if setting.has(t) else int(rng.integers(count)) for t in trials]
    return np.eye(count)[places]


def _score(trial: TrialResult, objective: Objective) -> float | None:
    return trial.accuracy if objective == "val_accuracy" else trial.loss
