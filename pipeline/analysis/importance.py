"""Which setting mattered: how much of the score's variance each one explains by itself (fANOVA).

Hutter, Hoos and Leyton-Brown (2014), An Efficient Approach for Assessing Hyperparameter Importance.
A random forest predicts the score from the settings; the variance of its predictions over the whole
space is parted into what each setting explains alone (SciPy's Sobol' indices) and the rest.

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
from scipy.stats import sobol_indices, uniform
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
_POINTS = 1024  # of the space, for an index; a power of two
_MOST_LEAVES = 256  # thousands of trials would make trees of thousands of leaves


@dataclass(frozen=True)
class Importance:
    """How much one setting mattered."""

    setting: Setting
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
    def best(self) -> list[Trial]:
        """The best tenth of the completed trials, the best first; five, but at most half of them,
        where that is less."""
        done = sorted(completed(self.trials), key=lambda t: ranking(t, self.metric))
        few = min(_LEAST_BEST, max(1, len(done) // 2))
        return done[: max(few, math.ceil(len(done) / 10))]

    @cached_property
    def importances(self) -> tuple[Importance, ...]:
        """The greatest share first; none with fewer than `LEAST_TRIALS` completed trials.

        Nothing where only the optimizer and its learning rate were searched: the width of the
        range then decides which of the two explains more."""
        used = [trial for trial in self.trials if trial.state == "FAIL" or trial.is_complete]
        used.sort(key=lambda trial: trial.number)
        if len(completed(used)) < LEAST_TRIALS or len(self.settings) < 2 or not self.others:
            return ()
        name, sign = self.metric.name, self.metric.sign
        y = fenced([sign * trial.scores[name] if trial.is_complete else None for trial in used])
        rng = generator(0, Purpose.IMPORTANCE)
        columns = [_columns(setting, used, rng) for setting in self.settings]
        shares = main_effects(columns, y, _TREES, rng)
        if shares is None:
            return ()
        chances = [_chance(columns, place, y, rng) for place in range(len(columns))]
        importances = [
            Importance(setting, float(share), chance, len(used))
            for setting, share, chance in zip(self.settings, shares, chances, strict=True)
        ]
        return tuple(sorted(importances, key=lambda importance: -importance.share))


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
    return _shares([columns] * trees, y, rng).mean(axis=0) if np.ptp(y) else None


def _shares(designs: Sequence[Sequence[Floats]], y: Floats, rng: np.random.Generator) -> Floats:
    """The shares [T, S] by a tree grown on each design, columns as of `main_effects`: its Sobol'
    indices of the first order (Saltelli et al. 2010). The scores are not all alike."""
    widths = [column.shape[1] for column in designs[0]]
    trees: list[Any] = []
    for columns in designs:
        rows, seed = rng.integers(len(y), size=len(y)), int(rng.integers(2**31))
        while not np.ptp(y[rows]):  # a tree that predicts the same everywhere has no shares
            rows = rng.integers(len(y), size=len(y))
        x = np.hstack(columns).astype(np.float32)  # as scikit-learn's trees take it
        tree = DecisionTreeRegressor(max_leaf_nodes=_MOST_LEAVES, random_state=seed)
        trees.append(tree.fit(x[rows], y[rows], check_input=False).tree_)

    def predictions(points: Floats) -> Floats:
        """[T, M] at points [S, M] of the unit cube, where each value of a choice has its part."""
        parts = [
            np.eye(width)[(width * at).astype(int)] if width > 1 else at[:, None]
            for at, width in zip(points, widths, strict=True)
        ]
        x = np.hstack(parts).astype(np.float32)
        return np.array([tree.predict(x)[:, 0] for tree in trees])

    cube = [uniform()] * len(widths)
    found = sobol_indices(func=predictions, n=_POINTS, dists=cube, rng=rng)
    shares: Floats = found.first_order.reshape(len(trees), -1).clip(0, 1)
    return shares


def _chance(columns: Sequence[Floats], place: int, y: Floats, rng: np.random.Generator) -> float:
    """The greatest share of the setting when its values are shuffled among the trials."""
    designs = []
    for _ in range(SHUFFLES):
        shuffled = rng.permutation(columns[place])
        designs += [[*columns[:place], shuffled, *columns[place + 1 :]]] * _CHANCE_TREES
    shares = _shares(designs, y, rng)[:, place].reshape(SHUFFLES, _CHANCE_TREES)
    return float(shares.mean(axis=1).max())


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
