"""Pruning: which members of a stack to drop at the epochs where trials are judged, the *rungs*.

What a trial is compared with is fixed when its batch begins: trials of earlier batches, and
(halving) those of its own stack; so the order in which stacks are trained changes nothing, and a
batch that was cut short is judged as if it had not been.

With `search.budget: equal` these are the trials of its own entry of `optimizers` only: an optimizer
that is slow at first is not cut by what the others have at that epoch. The rungs are the same for
all entries."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pipeline.config import Config
from pipeline.config.ranges import ends
from pipeline.models.metrics import Metric, metric_of
from pipeline.search.batch_sizes import smallest_batch
from pipeline.search.optuna_study import MedianRule
from pipeline.training.trial import Trial

MEDIAN_STARTUP = 5  # complete trials before the median rule judges


@dataclass
class Halving:
    """Synchronous successive halving (Jamieson & Talwalkar 2016), rung by rung.

    At each rung a third of all that came so far goes on: the stack's trials that were not dropped
    before, together with what earlier ones had there. Ties stay. Of a stack of three trials or more
    the best that came stays too; one or two could never be dropped that way.

    `earlier` holds for each earlier trial its values at the rungs that it reached."""

    earlier: Sequence[Mapping[int, float]]
    factor: int = 3
    _gone: set[int] = field(default_factory=set)

    def dropped(self, rung: int, values: Mapping[int, float], running: Collection[int]) -> set[int]:
        """The running trials to drop at a rung, where `values` holds all that the rule judges."""
        here = [value for trial, value in values.items() if trial not in self._gone]
        before = [reached[rung] for reached in self.earlier if rung in reached]
        pool = sorted([*before, *here], reverse=True)
        bound = pool[math.ceil(len(pool) / self.factor) - 1]
        if len(values) >= self.factor:
            bound = min(bound, max(here))
        dropped = {trial for trial in running if values[trial] < bound}
        self._gone |= dropped
        return dropped


Rule = Halving | MedianRule
"""Bound to the earlier trials. Larger values are better."""


def rules_of(
    config: Config, before: Sequence[Trial], stack: Sequence[Trial]
) -> list[tuple[Rule, set[int]]]:
    """The rules that judge a stack of a batch, each with the numbers of the trials that it judges.

    With equal budgets there is one for each optimizer, which knows nothing of the others' trials.
    An optimizer that has too few trials to be judged by has none.

    Args:
        before: all trials of earlier batches.
        stack: the trials of the stack."""
    metric, rungs = metric_of(config), rungs_of(config)
    is_median, is_shared = config.search.pruner == "median", config.search.budget == "shared"
    labels = {trial.optimizer for trial in stack}
    rules: list[tuple[Rule, set[int]]] = []
    for group in [labels] if is_shared else [{label} for label in labels]:
        earlier = []
        for trial in before:
            of_group = is_shared or trial.optimizer in group
            if of_group and (trial.state == "COMPLETE" or not is_median):
                values = {rung: trial.value_at(metric, rung) for rung in rungs}
                earlier.append({r: metric.sign * v for r, v in values.items() if v is not None})
        if rungs and (len(earlier) >= MEDIAN_STARTUP or not is_median):
            judged = {trial.number for trial in stack if trial.optimizer in group}
            rules.append((MedianRule(earlier) if is_median else Halving(earlier), judged))
    return rules


def rungs_of(config: Config) -> tuple[int, ...]:
    """The epochs at which trials are judged, from 1, ascending; none without a pruner."""
    if config.search.pruner == "none":
        return ()
    # Where they are searched too, the upper end.
    epochs = max(ends(config.ranges().get("training.epochs", config.training.epochs)))
    is_median = config.search.pruner == "median"
    return median_rungs(epochs) if is_median else halving_rungs(epochs, smallest_batch(config))


def halving_rungs(epochs: int, batch: int, factor: int = 3) -> tuple[int, ...]:
    """Epochs // factor**k, ..., epochs // factor: as many as it takes to bring a batch down to one.

    At most three, since the first of more would come before anything can be told apart."""
    depth = min(3, max(1, round(math.log(batch, factor))))
    rungs = {max(1, epochs // factor**k) for k in range(1, depth + 1)}
    return tuple(sorted(rung for rung in rungs if rung < epochs))


def median_rungs(epochs: int, judged: int = 8) -> tuple[int, ...]:
    """At most `judged` epochs, evenly spaced, after a warm-up of a tenth of all epochs."""
    warm_up = max(1, epochs // 10)
    rungs = np.linspace(warm_up, epochs, judged, endpoint=False).astype(int).tolist()
    return tuple(sorted({rung for rung in rungs if rung < epochs}))


class StackPruning:
    """Called by training after every epoch; answers with the members to drop.

    A stack is looked at in its rungs only. A trial's value at an epoch is the mean over its
    members; one that has stopped counts with its last score, as in the trial's curves.

    Args:
        rungs: the epochs at which trials are judged, ascending.
        rules: each with the numbers of the trials that it judges.
        trial_of: the trial's number for each member of the stack, by the member's position.
        metric: what is judged."""

    def __init__(
        self,
        rungs: Sequence[int],
        rules: Sequence[tuple[Rule, Collection[int]]],
        trial_of: Sequence[int],
        metric: Metric,
    ) -> None:
        self._rungs, self._rules, self._metric = rungs, rules, metric
        self._trial_of = np.asarray(trial_of, dtype=np.int64)
        self._last = np.full(len(self._trial_of), math.nan)  # each member's last score

    def __call__(
        self,
        epoch: int,
        scores: Mapping[str, npt.NDArray[np.float64]],
        members: npt.NDArray[np.intp],
    ) -> Collection[int]:
        """The positions of the members that shall stop now.

        Args:
            epoch: epochs done, from 1.
            scores: by the metric's name [K], of the members that were trained in this epoch.
            members: [K], their positions."""
        if epoch > self._rungs[-1]:
            return ()
        self._last[members] = self._metric.sign * scores[self._metric.name]
        if epoch not in self._rungs:
            return ()
        ran = ~np.isnan(self._last)
        ran[members] = True
        last = np.where(np.isfinite(self._last), self._last, -np.inf)
        by_trial = {
            int(trial): float(last[ran & (self._trial_of == trial)].mean())
            for trial in np.unique(self._trial_of[ran])
        }
        running = set(self._trial_of[members].tolist())
        dropped: set[int] = set()
        for rule, numbers in self._rules:
            judged = {trial: value for trial, value in by_trial.items() if trial in numbers}
            if judged.keys() & running:
                dropped |= rule.dropped(epoch, judged, judged.keys() & running)
        return [int(member) for member in members if int(self._trial_of[member]) in dropped]
