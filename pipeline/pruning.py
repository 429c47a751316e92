"""Pruning inside a stack: which members to drop at the epochs where a trial is judged.

Both rules look at a stack at a few epochs only, the *rungs*, and read no tensor in between.
A trial's value at an epoch is the mean over its members; a member that has stopped counts with the
score of its kept epoch, the one of its lowest loss, as in the trial's curves. What a trial is
compared with is fixed when its batch begins: trials of earlier batches, and (halving) those of its
own stack; so the order in which stacks are trained changes nothing.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

Array = npt.NDArray[Any]


class Judge(Protocol):
    """A pruning rule, bound to the earlier trials. Larger values are better."""

    rungs: tuple[int, ...]

    def losers(self, rung: int, values: Mapping[int, float], running: Collection[int]) -> set[int]:
        """The running trials to drop at a rung, where `values` holds all trials of the stack."""


@dataclass
class Halving:
    """Synchronous successive halving (Jamieson & Talwalkar 2016), rung by rung.

    At each rung a third of all that came so far goes on: the stack's trials together with what
    earlier ones had there. Ties stay, and the best trial of a stack always does.

    `earlier[rung]` holds the values of earlier trials that reached the rung.
    """

    rungs: tuple[int, ...]
    earlier: Mapping[int, Sequence[float]]
    factor: int = 3

    def losers(self, rung: int, values: Mapping[int, float], running: Collection[int]) -> set[int]:
        pool = sorted([*self.earlier.get(rung, ()), *values.values()], reverse=True)
        best = max(values.values(), default=-math.inf)
        bound = min(best, pool[math.ceil(len(pool) / self.factor) - 1])
        return {trial for trial in running if values[trial] < bound}


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


class Watch:
    """Called by training after every epoch; answers with the members to drop.

    Args:
        judge: the rule and its rungs.
        trial_of: the trial's number for each member of the stack, by the member's original index.
        maximise: the values to judge are accuracies when True, losses (less is better) when False.
    """

    def __init__(self, judge: Judge, trial_of: Sequence[int], maximise: bool) -> None:
        self._judge = judge
        self._rungs = frozenset(judge.rungs)
        self._last = max(judge.rungs, default=0)
        self._trial_of = np.asarray(trial_of, dtype=np.int64)
        self._maximise = maximise
        # By member: the lowest loss so far and the score of that epoch, the one that is kept.
        self._lowest = np.full(len(self._trial_of), np.inf)
        self._kept = np.full(len(self._trial_of), np.nan)
        self._unread: list[tuple[Tensor, Tensor, Tensor]] = []

    def __call__(
        self, epoch: int, losses: Tensor, accuracies: Tensor, members: Tensor
    ) -> Collection[int]:
        """The original indices of the members that shall stop now.

        The tensors are kept until the next rung, and must not be written to until then.

        Args:
            epoch: epochs done, from 1.
            losses: [K] float, validation losses of the members that were trained in this epoch.
            accuracies: [K] float, their validation accuracies, from 0 to 1.
            members: [K] int64, their original indices.
        """
        if epoch > self._last:
            return ()
        self._unread.append((losses, accuracies, members))
        if epoch not in self._rungs:
            return ()
        for tensors in self._unread:
            loss, accuracy, who = (tensor.detach().cpu().numpy() for tensor in tensors)
            score = accuracy if self._maximise else -loss
            better = loss < self._lowest[who]
            self._lowest[who[better]] = loss[better]
            self._kept[who[better]] = score[better]
        self._unread.clear()
        return self._judged(epoch, who, score)

    def _judged(self, epoch: int, members: Array, scores: Array) -> list[int]:
        now = self._kept.copy()
        now[members] = np.where(np.isfinite(scores), scores, -np.inf)
        known = ~np.isnan(now)
        values = {
            int(trial): float(now[known & (self._trial_of == trial)].mean())
            for trial in np.unique(self._trial_of[known])
        }
        running = set(self._trial_of[members].tolist())
        losers = self._judge.losers(epoch, values, running)
        return [int(member) for member in members if int(self._trial_of[member]) in losers]


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
