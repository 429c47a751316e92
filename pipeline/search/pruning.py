"""Pruning: which members of a stack to drop at the epochs where trials are judged, the *rungs*.

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
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

from pipeline.config import Config
from pipeline.models.metrics import Metric, metric_of
from pipeline.search.draw import batch_size
from pipeline.search.optuna_study import MedianRule
from pipeline.search.space import Axis
from pipeline.training.trial import Trial

MEDIAN_STARTUP = 5  # complete trials before the median rule judges


class Rule(Protocol):
    """A pruning rule, bound to the earlier trials. Larger values are better."""

    def dropped(self, rung: int, values: Mapping[int, float], running: Collection[int]) -> set[int]:
        """The running trials to drop at a rung, where `values` holds all that the rule judges."""


@dataclass
class Halving:
    """Synchronous successive halving (Jamieson & Talwalkar 2016), rung by rung.

    At each rung a third of all that came so far goes on: the stack's trials that were not dropped
    before, together with what earlier ones had there. Ties stay. Of a stack of three trials or more
    the best that came stays too; one or two could never be dropped that way.

    `earlier` holds for each earlier trial its values at the rungs that it reached.
    """

    earlier: Sequence[Mapping[int, float]]
    factor: int = 3
    _gone: set[int] = field(default_factory=set)

    def dropped(self, rung: int, values: Mapping[int, float], running: Collection[int]) -> set[int]:
        here = [value for trial, value in values.items() if trial not in self._gone]
        before = [reached[rung] for reached in self.earlier if rung in reached]
        pool = sorted([*before, *here], reverse=True)
        bound = pool[math.ceil(len(pool) / self.factor) - 1]
        if len(values) >= self.factor:
            bound = min(bound, max(here))
        dropped = {trial for trial in running if values[trial] < bound}
        self._gone |= dropped
        return dropped


def rules_of(
    config: Config, before: Sequence[Trial], stack: Sequence[Trial]
) -> list[tuple[Rule, set[int]]]:
    """The rules that judge a stack of a batch, each with the numbers of the trials that it judges.

    With equal budgets there is one for each optimizer, which knows nothing of the others' trials.
    An optimizer that has too few trials to be judged by has none.

    Args:
        before: all trials of earlier batches.
        stack: the trials of the stack.
    """
    if config.search.budget == "shared":
        groups = [(before, stack)]
    else:
        labels = {trial.optimizer for trial in stack}
        groups = [(_of(label, before), _of(label, stack)) for label in labels]
    rules = [(_rule(config, earlier), {t.number for t in judged}) for earlier, judged in groups]
    return [(rule, numbers) for rule, numbers in rules if rule is not None]


def _of(label: str, trials: Sequence[Trial]) -> list[Trial]:
    return [trial for trial in trials if trial.optimizer == label]


def _rule(config: Config, before: Sequence[Trial]) -> Rule | None:
    """The rule that compares with all trials of `before`.

    None: there is no epoch to judge them at, or they are too few.
    """
    metric = metric_of(config.search.objective)
    rungs = rungs_of(config)
    is_median = config.search.pruner == "median"
    earlier = [
        {
            rung: metric.sign * value
            for rung in rungs
            if (value := trial.value_at(metric, rung)) is not None
        }
        for trial in before
        if trial.state == "COMPLETE" or not is_median
    ]
    if not rungs or (is_median and len(earlier) < MEDIAN_STARTUP):
        return None
    return MedianRule(earlier) if is_median else Halving(earlier)


def rungs_of(config: Config) -> tuple[int, ...]:
    """The epochs at which trials are judged, from 1, ascending; none without a pruner."""
    match config.search.pruner:
        case "halving":
            return halving_rungs(_most_epochs(config), batch_size(config))
        case "median":
            return median_rungs(_most_epochs(config))
        case _:
            return ()


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


def _most_epochs(config: Config) -> int:
    """The epochs that a trial may run: the upper end, when they are searched too."""
    leaf = config.ranges().get("training.epochs")
    if leaf is None:
        return config.training.epochs
    axis = Axis.of("training.epochs", leaf)
    return int(max(axis.values or ()) if axis.categorical else axis.high)


class StackPruning:
    """Called by training after every epoch; answers with the members to drop.

    A stack is looked at in its rungs only, and no tensor is read in between. A trial's value at an
    epoch is the mean over its members; one that has stopped counts with its last score, as in the
    trial's curves.

    Args:
        rungs: the epochs at which trials are judged, ascending.
        rules: each with the numbers of the trials that it judges.
        trial_of: the trial's number for each member of the stack, by the member's position.
        metric: what is judged.
    """

    def __init__(
        self,
        rungs: Sequence[int],
        rules: Sequence[tuple[Rule, Collection[int]]],
        trial_of: Sequence[int],
        metric: Metric,
    ) -> None:
        self._rungs = rungs
        self._rules = rules
        self._trial_of = np.asarray(trial_of, dtype=np.int64)
        self._metric = metric
        self._last = np.full(len(self._trial_of), np.nan)  # each member's last score
        self._unread: list[tuple[Tensor, Tensor]] = []

    def __call__(
        self, epoch: int, scores: Mapping[str, Tensor], members: Tensor
    ) -> Collection[int]:
        """The positions of the members that shall stop now.

        The tensors are kept until the next rung, and must not be written to until then.

        Args:
            epoch: epochs done, from 1.
            scores: by the metric's name [K] float, of the members that were trained in this epoch.
            members: [K] int64, their positions.
        """
        if epoch > self._rungs[-1]:
            return ()
        self._unread.append((scores[self._metric.name], members))
        if epoch not in self._rungs:
            return ()
        for values, positions in self._unread:
            members_now = positions.cpu().numpy()
            self._last[members_now] = self._metric.sign * values.detach().cpu().numpy()
        self._unread.clear()
        return self._judged(epoch, members_now)

    def _judged(self, epoch: int, members: npt.NDArray[Any]) -> list[int]:
        scores = np.where(np.isfinite(self._last), self._last, -np.inf)
        ran = ~np.isnan(self._last)
        ran[members] = True
        values = {
            int(trial): float(scores[ran & (self._trial_of == trial)].mean())
            for trial in np.unique(self._trial_of[ran])
        }
        running = set(self._trial_of[members].tolist())
        dropped: set[int] = set()
        for rule, numbers in self._rules:
            judged = {trial: value for trial, value in values.items() if trial in numbers}
            if judged.keys() & running:
                dropped |= rule.dropped(epoch, judged, judged.keys() & running)
        return [int(member) for member in members if int(self._trial_of[member]) in dropped]
