"""The search itself: what waits to be told, what was, and what is left of the budget.

What a batch proposes is a function of the configuration and of the trials before the batch, and of
nothing else: each batch has a fresh study, holding those trials in the order of their numbers, and
a fresh sampler, seeded by (seed, first number). So a search that was killed goes on, given the
trials that were finished, as if nothing had happened; the order of telling does not matter; and a
batch that was cut short comes out again with the same points and the same numbers.

With `search.budget: equal` each entry of `optimizers` has a study of its own and the same number of
trials; the entries take turns, and a pruner compares a trial with those of its own entry.
"""

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence

from torch import Tensor

from pipeline.config import Config
from pipeline.search.budget import batch_size, quota
from pipeline.search.draw import Draw
from pipeline.search.optuna_study import OptunaStudy, finished_study
from pipeline.search.pruning import judge_of
from pipeline.search.space import Key, Space
from pipeline.search.spread import Spread
from pipeline.search.watch import Watch
from pipeline.training.proposals import Proposal, Told
from pipeline.training.trial import State


class Search:
    """A search over a configuration's ranges and optimizers, within its budget of trials.

    Args:
        config: the configuration; `search.trials` is the whole budget, `history` included.
        history: finished trials of the same search, in any order. Numbers may be missing, also in
            the middle: those are proposed again.
    """

    def __init__(self, config: Config, history: Sequence[Told] = ()) -> None:
        self._config = config
        self._trials: int = config.search.trials
        self._maximise = config.search.objective == "val_accuracy"
        self._space = Space(config)
        self._quota = quota(config, self._space)
        self._spread = Spread(self._space, config.seed)
        self._told: dict[int, Told] = {}
        self._batch: tuple[int, list[Proposal]] | None = None
        for told in history:
            self._keep(told)

    def ask(self) -> list[Proposal]:
        """The proposals of the current batch that wait to be told; [] when the search is done.

        Asking again before telling gives the same proposals.
        """
        return [proposal for proposal in self.batch if proposal.number not in self._told]

    @property
    def batch(self) -> list[Proposal]:
        """The whole current batch, with those proposals that were told already; [] when done.

        For training a batch again that was cut short: its stacks must be whole, since results
        depend on the size of a stack in the last bits, and halving on all its trials.
        """
        if self.remaining == 0:
            return []
        size = batch_size(self._config)
        start = self._first_missing() // size * size
        if self._batch is None or self._batch[0] != start:
            self._batch = start, self._propose(start)
        return self._batch[1]

    def tell(
        self,
        number: int,
        state: State,
        value: float | None = None,
        intermediate: Mapping[int, float] | None = None,
    ) -> None:
        """What became of a proposal of the current batch.

        Args:
            number: the proposal's number.
            state: COMPLETE, PRUNED, or FAIL, which the samplers take for worse than all others.
            value: the objective, finite, for COMPLETE; ignored otherwise.
            intermediate: the objective by epoch, from 1; values that are not finite are left out.

        Raises:
            ValueError: the number does not wait to be told, or the value is not finite.
        """
        proposal = next((p for p in self.ask() if p.number == number), None)
        if proposal is None:
            raise ValueError(f"trial {number} does not wait to be told")
        self._keep(Told(number, proposal.entry, proposal.params, state, value, intermediate or {}))

    @property
    def told(self) -> list[Told]:
        """The finished trials in the order of their numbers."""
        return [self._told[number] for number in sorted(self._told)]

    @property
    def best(self) -> Told | None:
        """The complete trial with the best value, of equal ones the first; None without any."""
        sign = -1.0 if self._maximise else 1.0
        complete = [(sign * t.value, t.number) for t in self.told if t.value is not None]
        return self._told[min(complete)[1]] if complete else None

    @property
    def remaining(self) -> int:
        """Trials still to be told: what is left of the budget, or of a finite space if less."""
        left = self._trials - sum(number < self._trials for number in self._told)
        if self._quota is not None:
            kept = Counter(told.entry for told in self._told.values())
            return min(left, sum(max(0, q - kept[e]) for e, q in enumerate(self._quota)))
        if self._space.size is None:
            return left
        return min(left, max(0, self._space.size - len(self._taken())))

    @property
    def exhausted(self) -> bool:
        """Whether every point that may be tried was tried before the budget was spent."""
        if self._quota is not None:
            return self.remaining == 0 and len(self._told) < self._trials
        return self._space.size is not None and len(self._taken()) >= self._space.size

    @property
    def study(self) -> OptunaStudy:
        """One study with all finished trials, for Optuna's plots; made anew at each call."""
        return finished_study(self._space, self._maximise, self._told)

    def watch(
        self, proposals: Sequence[Proposal], member_trial: Sequence[int]
    ) -> Callable[[int, Tensor, Tensor, Tensor], Collection[int]] | None:
        """What training asks after every epoch: which members to drop (see `watch.Watch`).

        Args:
            proposals: the trials of the stack, of the current batch; all of them, also those that
                were told before the batch was cut short.
            member_trial: for each member of the stack the number of its trial.

        Returns:
            None when nothing will be pruned.
        """
        entry_of = {proposal.number: proposal.entry for proposal in proposals}
        if unknown := set(member_trial) - entry_of.keys():
            raise ValueError(f"members of trials that are not proposed: {unknown}")
        size = batch_size(self._config)
        start = min(entry_of, default=0) // size * size
        before = [told for told in self.told if told.number < start]
        judge = judge_of(self._config, before, entry_of)
        return Watch(judge, member_trial, self._maximise) if judge is not None else None

    def _keep(self, told: Told) -> None:
        if told.number in self._told:
            raise ValueError(f"trial {told.number} was told twice")
        value = told.value if told.state == "COMPLETE" else None
        if told.state == "COMPLETE" and (value is None or not math.isfinite(value)):
            raise ValueError(f"a complete trial needs a finite value, but got {told.value}")
        course = {int(e): float(v) for e, v in told.intermediate.items() if math.isfinite(v)}
        course = dict(sorted(course.items()))
        self._told[told.number] = Told(
            told.number, told.entry, dict(told.params), told.state, value, course
        )

    def _first_missing(self) -> int:
        return next(number for number in range(self._trials) if number not in self._told)

    def _taken(self) -> Counter[Key]:
        return Counter(self._space.key(told.point) for told in self._told.values())

    def _propose(self, start: int) -> list[Proposal]:
        before = [told for told in self.told if told.number < start]
        draw = Draw(self._config, self._space, self._quota, self._spread, before, start)
        taken = self._taken()
        proposals = []
        for number in range(start, min(start + batch_size(self._config), self._trials)):
            # What was told is drawn again all the same: the points after it depend on it.
            told = self._told.get(number)
            if told is not None:
                taken[self._space.key(told.point)] -= 1
            drawn = draw.next(+taken)
            point = drawn if told is None else told.point
            if point is None:
                break
            taken[self._space.key(point)] += 1
            config = self._config.at(point.entry, point.params)
            proposals.append(Proposal(number, point.entry, point.params, config))
        return proposals
