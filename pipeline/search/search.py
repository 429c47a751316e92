"""The search itself: what waits to be told, what was, and what is left of the budget.

What a batch proposes is a function of the configuration and of the trials before the batch, and of
nothing else: each batch has a fresh study, holding those trials in the order of their numbers, and
a fresh sampler, seeded by (seed, first number). So a search that was killed goes on, given the
trials that were finished, as if nothing had happened; the order of telling does not matter; and a
batch that was cut short comes out again with the same points and the same numbers.

With `search.budget: equal` each entry of `optimizers` has a study of its own and the same number of
trials; the entries take turns, and a pruner compares a trial with those of its own entry."""

import math
from collections import Counter
from collections.abc import Sequence

from pipeline.config import Config
from pipeline.models.metrics import metric_of
from pipeline.search.batch_sizes import batch_around
from pipeline.search.draw import Draw, quotas
from pipeline.search.pruning import StackPruning, rules_of, rungs_of
from pipeline.search.space import Space
from pipeline.training.trial import Trial, proposed


class Search:
    """A search over a configuration's ranges and optimizers, within its budget of trials.

    Args:
        config: the configuration; `search.trials` is the whole budget, `history` included.
        history: finished trials of the same search, in any order. Numbers may be missing, also in
            the middle: those are proposed again."""

    def __init__(self, config: Config, history: Sequence[Trial] = ()) -> None:
        self._config, self._space = config, Space(config)
        self._trials: int = config.search.trials
        self._metric = metric_of(config)
        self._quotas = quotas(config, self._space)
        self._told: dict[int, Trial] = {}
        self._tried: Counter[int] = Counter()  # trials told, by entry
        self._in_budget = 0  # trials told whose numbers are within the budget
        self._first = 0  # no number before this one waits to be told
        self._batch: list[Trial] = []
        self._waiting: set[int] = set()  # numbers of the batch
        for trial in history:
            self._add(trial)

    def ask(self) -> list[Trial]:
        """The proposals of the current batch that wait to be told; [] when the search is done.

        Asking again before telling gives the same proposals."""
        return [proposal for proposal in self.batch if proposal.number in self._waiting]

    @property
    def batch(self) -> list[Trial]:
        """The whole current batch, with those proposals that were told already; [] when done.

        For training a batch again that was cut short: its stacks must be whole, since results
        depend on the size of a stack in the last bits, and halving on all its trials."""
        if self.remaining == 0:
            return []
        if not self._waiting:
            while self._first in self._told:
                self._first += 1
            self._batch = self._propose(batch_around(self._config, self._space, self._first))
            self._waiting = {trial.number for trial in self._batch} - self._told.keys()
        return self._batch

    def tell(self, trial: Trial) -> None:
        """What became of a proposal of the current batch.

        A trial that failed is taken for worse than all others by the samplers.

        Raises:
            ValueError: its number does not wait to be told, or it is complete and its objective is
                not finite."""
        if not self.batch or trial.number not in self._waiting:
            raise ValueError(f"trial {trial.number} does not wait to be told")
        self._add(trial)

    @property
    def told(self) -> list[Trial]:
        """The finished trials in the order of their numbers."""
        return [self._told[number] for number in sorted(self._told)]

    @property
    def remaining(self) -> int:
        """Trials still to be told: what is left of the budget, or of a finite space if less."""
        left = self._trials - self._in_budget
        may_be_tried = sum(max(0, quota - self._tried[e]) for e, quota in enumerate(self._quotas))
        return int(min(left, may_be_tried))

    @property
    def exhausted(self) -> bool:
        """Whether every point that may be tried was tried before the budget was spent."""
        tried = len(self._told)
        return self.remaining == 0 and (tried < self._trials or tried >= self._space.size)

    def watch(self, stack: Sequence[Trial], trial_of: Sequence[int]) -> StackPruning | None:
        """What training asks after every epoch: which members to drop.

        Args:
            stack: the trials of the stack, of the current batch; all of them, also those that were
                told before the batch was cut short.
            trial_of: for each member of the stack the number of its trial.

        Returns:
            None when nothing will be pruned."""
        batch = batch_around(self._config, self._space, min(trial.number for trial in stack))
        before = self._before(batch.start)
        rules = rules_of(self._config, before, stack)
        rungs = rungs_of(self._config)
        return StackPruning(rungs, rules, trial_of, self._metric) if rules else None

    def _add(self, trial: Trial) -> None:
        score = trial.score(self._metric)
        if trial.state == "COMPLETE" and (score is None or not math.isfinite(score)):
            raise ValueError(f"a complete trial needs a finite value, but got {score}")
        self._in_budget += trial.number < self._trials and trial.number not in self._told
        self._told[trial.number] = trial
        self._waiting.discard(trial.number)
        self._tried[self._space.entry(trial)] += 1

    def _before(self, start: int) -> list[Trial]:
        return [trial for trial in self.told if trial.number < start]

    def _propose(self, numbers: range) -> list[Trial]:
        draw = Draw(self._config, self._space, self._before(numbers.start), numbers.start)
        told = {number: self._space.point(trial) for number, trial in self._told.items()}
        taken = Counter(self._space.key(point) for point in told.values())
        proposals = []
        for number in range(numbers.start, min(numbers.stop, self._trials)):
            # What was told is drawn again all the same: the points after it depend on it.
            if number in told:
                taken[self._space.key(told[number])] -= 1
            drawn = draw.next(+taken)
            point = told.get(number, drawn)
            if point is None:
                break
            taken[self._space.key(point)] += 1
            label = self._space.labels[point.entry]
            proposals.append(proposed(number, label, point.params, self._config))
        return proposals
