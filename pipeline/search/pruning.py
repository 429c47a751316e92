"""The pruning rules: which trials to drop at the epochs where they are judged, the *rungs*.

What a trial is compared with is fixed when its batch begins: trials of earlier batches, and
(halving) those of its own stack; so the order in which stacks are trained changes nothing, and a
batch that was cut short is judged as if it had not been.

With `search.budget: equal` these are the trials of its own entry of `optimizers` only: an optimizer
that is slow at first is not cut by what the others have at that epoch. The rungs are the same for
all entries.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from pipeline.config import Config
from pipeline.search.budget import batch_size
from pipeline.search.space import Axis
from pipeline.training.proposals import Told

MEDIAN_STARTUP = 5  # complete trials before the median rule judges


class Judge(Protocol):
    """A pruning rule, bound to the earlier trials. Larger values are better."""

    rungs: tuple[int, ...]

    def losers(self, rung: int, values: Mapping[int, float], running: Collection[int]) -> set[int]:
        """The running trials to drop at a rung, where `values` holds all trials of the stack."""


@dataclass
class Halving:
    """Synchronous successive halving (Jamieson & Talwalkar 2016), rung by rung.

    At each rung a third of all that came so far goes on: the stack's trials that were not dropped
    before, together with what earlier ones had there. Ties stay. Of a stack of three trials or more
    the best that came stays too; one or two could never be dropped that way.

    `earlier[rung]` holds the values of earlier trials that reached the rung.
    """

    rungs: tuple[int, ...]
    earlier: Mapping[int, Sequence[float]]
    factor: int = 3
    _dropped: set[int] = field(default_factory=set)

    def losers(self, rung: int, values: Mapping[int, float], running: Collection[int]) -> set[int]:
        here = [value for trial, value in values.items() if trial not in self._dropped]
        pool = sorted([*self.earlier.get(rung, ()), *here], reverse=True)
        bound = pool[math.ceil(len(pool) / self.factor) - 1]
        if len(values) >= self.factor:
            bound = min(bound, max(here))
        losers = {trial for trial in running if values[trial] < bound}
        self._dropped |= losers
        return losers


@dataclass
class Median:
    """The median rule (Golovin et al. 2017), with the meaning of Optuna's MedianPruner.

    A trial is dropped when its best value so far is worse than the median of what earlier complete
    trials had at the same epoch.
    """

    rungs: tuple[int, ...]
    earlier: Mapping[int, Sequence[float]]
    _best: dict[int, float] = field(default_factory=dict)

    def losers(self, rung: int, values: Mapping[int, float], running: Collection[int]) -> set[int]:
        for trial, value in values.items():
            self._best[trial] = max(self._best.get(trial, -math.inf), value)
        earlier = self.earlier.get(rung, ())
        if not earlier:
            return set()
        bound = float(np.median(earlier))
        return {trial for trial in running if self._best[trial] < bound}


@dataclass
class ByEntry:
    """A rule for each entry of `optimizers`, which knows nothing of the other entries' trials.

    `judges` has the rules by entry, none for an entry that is not judged yet; `entry_of` the entry
    of each trial of the stack.
    """

    rungs: tuple[int, ...]
    judges: Mapping[int, Judge]
    entry_of: Mapping[int, int]

    def losers(self, rung: int, values: Mapping[int, float], running: Collection[int]) -> set[int]:
        dropped = set()
        for entry, judge in self.judges.items():
            own = {trial: value for trial, value in values.items() if self.entry_of[trial] == entry}
            if still := own.keys() & running:
                dropped |= judge.losers(rung, own, still)
        return dropped


def judge_of(config: Config, before: Sequence[Told], entry_of: Mapping[int, int]) -> Judge | None:
    """The configuration's rule for a stack of a batch, None when it judges nothing there.

    Args:
        before: all trials of earlier batches.
        entry_of: the entry of each trial of the stack.
    """
    if config.search.budget == "shared":
        return _rule(config, before)
    judges = {}
    for entry in sorted(set(entry_of.values())):
        judge = _rule(config, [told for told in before if told.entry == entry])
        if judge is not None:
            judges[entry] = judge
    rungs = {judge.rungs for judge in judges.values()}
    return ByEntry(rungs.pop(), judges, entry_of) if rungs else None


def _rule(config: Config, before: Sequence[Told]) -> Judge | None:
    """The rule that compares with all trials of `before`."""
    epochs = _most_epochs(config)
    maximise = config.search.objective == "val_accuracy"
    if config.search.pruner == "halving":
        rungs = halving_rungs(epochs, batch_size(config))
        return Halving(rungs, _values_at(rungs, before, maximise)) if rungs else None
    complete = [told for told in before if told.state == "COMPLETE"]
    if config.search.pruner == "median" and len(complete) >= MEDIAN_STARTUP:
        rungs = median_rungs(epochs)
        return Median(rungs, _values_at(rungs, complete, maximise)) if rungs else None
    return None


def halving_rungs(epochs: int, batch: int, factor: int = 3) -> tuple[int, ...]:
    """Epochs // factor**k, ..., epochs // factor: as many as it takes to bring a batch down to one.

    At most three, since the first of more would come before anything can be told apart.
    """
    depth = min(3, max(1, round(math.log(batch, factor))))
    rungs = {max(1, epochs // factor**k) for k in range(1, depth + 1)}
    return tuple(sorted(rung for rung in rungs if rung < epochs))


def median_rungs(epochs: int, judged: int = 8) -> tuple[int, ...]:
    """At most `judged` epochs, evenly spaced, after a warm-up of a tenth of all epochs."""
    warm_up = max(1, epochs // 10)
    rungs = np.linspace(warm_up, epochs, judged, endpoint=False).astype(int).tolist()
    return tuple(sorted({rung for rung in rungs if rung < epochs}))


def _values_at(
    rungs: Sequence[int], trials: Sequence[Told], maximise: bool
) -> dict[int, list[float]]:
    sign = 1.0 if maximise else -1.0
    return {
        rung: [sign * value for told in trials if (value := told.at(rung)) is not None]
        for rung in rungs
    }


def _most_epochs(config: Config) -> int:
    """The epochs that a trial may run: the upper end, when they are searched too."""
    leaf = config.ranges().get("training.epochs")
    if leaf is None:
        return config.training.epochs
    return int(max(Axis.of("training.epochs", leaf).values or ()))
