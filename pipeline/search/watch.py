"""What training asks after every epoch: which members of a stack to drop.

A stack is looked at in a few epochs only, the *rungs*, and no tensor is read in between. A trial's
value at an epoch is the mean over its members; a member that has stopped counts with the score of
its kept epoch, the one of its lowest loss, as in the trial's curves.
"""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from pipeline.search.pruning import Judge

Array = npt.NDArray[Any]


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
