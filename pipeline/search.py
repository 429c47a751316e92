"""The search: batches of trials asked of Optuna, and what became of them told back.

What a batch proposes is a function of the configuration and of the trials before the batch, and of
nothing else: each batch has a fresh study, holding those trials in the order of their numbers, and
a fresh sampler, seeded by (seed, first number). So a search that was killed goes on, given the
trials that were finished, as if nothing had happened; the order of telling does not matter; and a
batch that was cut short comes out again with the same points and the same numbers.

With `search.budget: equal` each entry of `optimizers` has a study of its own and the same number of
trials; the entries take turns. The pruners compare all trials with each other all the same.

This is the only file that imports optuna.
"""

import math
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState, create_trial
from torch import Tensor

from pipeline.config import Config
from pipeline.pruning import Halving, Judge, Median, Watch, halving_rungs, median_rungs
from pipeline.space import Axis, Key, Point, Space, Spread

State = Literal["COMPLETE", "PRUNED", "FAIL"]

OPTIMIZER = "optimizer"  # Optuna's name for the choice of the entry
ATTEMPTS = 4  # draws that may fall on points of a finite space that were had before
SPREAD_TRIALS = 5  # of each entry, evenly spread, before TPE begins
MEDIAN_STARTUP = 5  # complete trials before the median rule judges

# What a stream of random numbers is for; the second part of its seed.
_SPREAD, _LEFT_OVER = range(1, 3)

# Optuna reports every study and trial, and that a GP would be faster with greenlet; the pipeline
# has a progress display of its own.
optuna.logging.set_verbosity(optuna.logging.ERROR)


@dataclass(frozen=True)
class Proposal:
    """A trial to run: `config` is the search's with one optimizer and no ranges left.

    `params` holds the searched leaves by dotted path, with the values that the configuration's
    choices hold (a list stays a list); `entry` is the index into the configuration's `optimizers`.
    """

    number: int
    entry: int
    params: dict[str, Any]
    config: Config


@dataclass(frozen=True)
class Told:
    """A finished trial.

    `value` is the objective (COMPLETE only, else None), `intermediate` its course by epoch, from 1.
    """

    number: int
    entry: int
    params: Mapping[str, Any]
    state: State
    value: float | None = None
    intermediate: Mapping[int, float] = field(default_factory=dict)

    @property
    def point(self) -> Point:
        """Where in the space the trial was."""
        return Point(self.entry, dict(self.params))

    def at(self, epoch: int) -> float | None:
        """The value after `epoch` epochs; a complete trial that stopped earlier keeps its last."""
        if epoch in self.intermediate or not self.intermediate:
            return self.intermediate.get(epoch)
        last = max(self.intermediate)
        return self.intermediate[last] if self.state == "COMPLETE" and last < epoch else None


def batch_size(config: Config) -> int:
    """Trials that are asked at once: with five folds 8, or 40 members."""
    members: int = config.validation.folds * config.validation.repeats
    return max(8, 32 // members)


def _most_epochs(config: Config) -> int:
    """The epochs that a trial may run: the upper end, when they are searched too."""
    leaf = config.ranges().get("training.epochs")
    if leaf is None:
        return config.training.epochs
    return int(max(Axis.of("training.epochs", leaf).values or ()))


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
        self._quota = _quota(config, self._space)
        self._spread = Spread(self._space, (config.seed, _SPREAD))
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
    def study(self) -> optuna.Study:
        """One study with all finished trials, for Optuna's plots; made anew at each call."""
        study = _new_study(self._maximise)
        for number in range(max(self._told, default=-1) + 1):
            told = self._told.get(number)
            if told is None:  # keeps Optuna's numbers equal to ours
                study.add_trial(create_trial(state=TrialState.RUNNING))
            else:
                _add(study, self._space, told.point, told.state, told.value, told.intermediate)
        return study

    def watch(
        self, proposals: Sequence[Proposal], member_trial: Sequence[int]
    ) -> Callable[[int, Tensor, Tensor, Tensor], Collection[int]] | None:
        """What training asks after every epoch: which members to drop (see `pruning.Watch`).

        Args:
            proposals: the trials of the stack, of the current batch; all of them, also those that
                were told before the batch was cut short.
            member_trial: for each member of the stack the number of its trial.

        Returns:
            None when nothing will be pruned.
        """
        numbers = {proposal.number for proposal in proposals}
        if not numbers.issuperset(member_trial):
            raise ValueError(
                f"members of trials that are not proposed: {set(member_trial) - numbers}"
            )
        size = batch_size(self._config)
        before = [
            told for told in self.told if told.number < min(numbers, default=0) // size * size
        ]
        judge = self._judge(before)
        return Watch(judge, member_trial, self._maximise) if judge and judge.rungs else None

    def _judge(self, before: Sequence[Told]) -> Judge | None:
        epochs = _most_epochs(self._config)
        if self._config.search.pruner == "halving":
            rungs = halving_rungs(epochs, batch_size(self._config))
            return Halving(rungs, self._values_at(rungs, before))
        complete = [told for told in before if told.state == "COMPLETE"]
        if self._config.search.pruner == "median" and len(complete) >= MEDIAN_STARTUP:
            rungs = median_rungs(epochs)
            return Median(rungs, self._values_at(rungs, complete))
        return None

    def _values_at(self, rungs: Sequence[int], trials: Sequence[Told]) -> dict[int, list[float]]:
        sign = 1.0 if self._maximise else -1.0
        return {
            rung: [sign * value for told in trials if (value := told.at(rung)) is not None]
            for rung in rungs
        }

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
        draw = _Draw(self._config, self._space, self._quota, self._spread, before, start)
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


class _Draw:
    """The points of one batch, drawn one after the other."""

    def __init__(
        self,
        config: Config,
        space: Space,
        quota: Sequence[int] | None,
        spread: Spread,
        before: Sequence[Told],
        start: int,
    ) -> None:
        self._space = space
        self._quota = quota
        self._spread = spread
        self._number = start
        self._kept = Counter(told.entry for told in before)
        self._spread_drawn = self._kept.copy()
        self._rng = np.random.default_rng((config.seed, _LEFT_OVER, start))
        self._enumerate = space.size is not None and space.size <= config.search.trials
        self._sampler = _Qmc() if self._enumerate else _sampler(config, space, before, start)

    def next(self, taken: Collection[Key]) -> Point | None:
        """The batch's next point, not one of `taken` where that can be; None when all are."""
        entries = self._space.open(taken)
        if self._quota is not None:
            entries = [e for e in entries if self._kept[e] < self._quota[e]]
        if not entries:
            return None
        point = self._fresh(entries, taken)
        self._number += 1
        self._kept[point.entry] += 1
        return point

    def _fresh(self, entries: Sequence[int], taken: Collection[Key]) -> Point:
        turn = min(entries, key=lambda entry: (self._kept[entry], entry))
        if self._enumerate:
            left = (p for p in self._space.alternating() if self._space.key(p) not in taken)
            return next(p for p in left if self._quota is None or p.entry == turn)
        for _ in range(ATTEMPTS):
            point = self._draw(turn)
            # Also a point that is had already: the samplers keep away from what is running.
            self._sampler.running(point)
            if self._space.key(point) not in taken:
                return point
        # The sampler insists on what was had. The entry whose turn it is has something left.
        if self._space.branches[turn].size is not None:
            point = self._space.any_but(taken, turn, self._rng)
        else:
            point = self._next_spread(turn)
        self._sampler.running(point)
        return point

    def _draw(self, turn: int) -> Point:
        if self._sampler.ready(self._number, turn):
            return self._sampler.draw(turn)
        return self._next_spread(turn)

    def _next_spread(self, turn: int) -> Point:
        index = self._spread_drawn[turn]
        self._spread_drawn[turn] += 1
        return self._spread.point(turn, index)


def _quota(config: Config, space: Space) -> tuple[int, ...] | None:
    """How many trials each entry may have, with equal budgets; None where they share one.

    What the budget leaves over goes to the first entries, one each. An entry with fewer points than
    its share has a trial for each of them; the others get no more for that.
    """
    if config.search.budget == "shared":
        return None
    share, rest = divmod(config.search.trials, len(space.branches))
    shares = [share + (branch.entry < rest) for branch in space.branches]
    return tuple(
        one if branch.size is None else min(one, branch.size)
        for one, branch in zip(shares, space.branches, strict=True)
    )


class _Sampler(Protocol):
    """Draws a batch's points, from the trials before the batch and the points that are running."""

    def ready(self, number: int, turn: int) -> bool:
        """Whether to draw trial `number`, when it is entry `turn`'s turn; if not it is spread."""

    def draw(self, turn: int) -> Point:
        """A point; of entry `turn` where the sampler takes the entries in turn."""

    def running(self, point: Point) -> None:
        """Takes the point for one whose outcome is awaited."""


class _Qmc:
    """Leaves everything to `Spread`; Optuna's QMCSampler draws its first trial at random and
    knows no ranges that come and go with the optimizer."""

    def ready(self, number: int, turn: int) -> bool:
        return False

    def draw(self, turn: int) -> Point:
        raise NotImplementedError

    def running(self, point: Point) -> None:
        pass


class _Random:
    """Uniform over the entries, unless these take turns, and over each range, in the logarithm for
    a range with `log`."""

    def __init__(self, space: Space, seed: int, in_turn: bool) -> None:
        self._space = space
        self._in_turn = in_turn
        self._study = _new_study(sampler=optuna.samplers.RandomSampler(seed))

    def ready(self, number: int, turn: int) -> bool:
        return True

    def draw(self, turn: int) -> Point:
        return _suggest(self._study, self._space, turn if self._in_turn else None)

    def running(self, point: Point) -> None:
        pass


class _Tpe:
    """TPE over all entries at once, the entry being one of its parameters.

    Multivariate and grouped, since the arguments of one optimizer go together and exist together.
    Measured on conditional toy spaces with four optimizers, 40 trials, 60 seeds: group is as good
    as the alternatives or better everywhere, and five evenly spread trials for each entry come
    before, not three: with fewer it settles on an optimizer that was merely lucky.
    """

    def __init__(self, space: Space, seed: int, before: Sequence[Told], maximise: bool) -> None:
        self._space = space
        self._startup = max(10, SPREAD_TRIALS * len(space.branches))
        self._study = _new_study(maximise, _tpe_sampler(seed))
        for told in before:
            _add_for_tpe(self._study, space, told)

    def ready(self, number: int, turn: int) -> bool:
        return number >= self._startup

    def draw(self, turn: int) -> Point:
        return _suggest(self._study, self._space)

    def running(self, point: Point) -> None:
        _add(self._study, self._space, point, "RUNNING")


class _TpeInTurn:
    """TPE for each entry by itself, over its own ranges; the entries take turns."""

    def __init__(self, space: Space, seed: int, before: Sequence[Told], maximise: bool) -> None:
        self._space, self._seed, self._before, self._maximise = space, seed, before, maximise
        self._studies: dict[int, optuna.Study] = {}

    def ready(self, number: int, turn: int) -> bool:
        return sum(told.entry == turn for told in self._before) >= SPREAD_TRIALS

    def draw(self, turn: int) -> Point:
        return _suggest(self._study(turn), self._space, turn)

    def running(self, point: Point) -> None:
        _add(self._study(point.entry), self._space, point, "RUNNING", branch=True)

    def _study(self, entry: int) -> optuna.Study:
        if entry not in self._studies:
            sampler = _tpe_sampler(_seed(self._seed, entry))
            study = self._studies[entry] = _new_study(self._maximise, sampler)
            for told in self._before:
                if told.entry == entry:
                    _add_for_tpe(study, self._space, told, branch=True)
        return self._studies[entry]


def _tpe_sampler(seed: int) -> optuna.samplers.TPESampler:
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "Argument ``group``", optuna.exceptions.ExperimentalWarning
        )
        return optuna.samplers.TPESampler(
            n_startup_trials=1, seed=seed, multivariate=True, group=True, constant_liar=True
        )


def _add_for_tpe(study: optuna.Study, space: Space, told: Told, branch: bool = False) -> None:
    """TPE passes failed trials over, and would go there again; as pruned before the first epoch
    they are the last of all. Of a pruned trial it reads the last epoch, no more."""
    state = "PRUNED" if told.state == "FAIL" else told.state
    course = told.intermediate if told.state == "PRUNED" else {}
    _add(study, space, told.point, state, told.value, dict([*course.items()][-1:]), branch)


class _Gp:
    """A Gaussian process for each entry, over its own ranges; the entries take turns.

    GPSampler reads complete trials, and running ones (by a q-batch expected improvement), but
    neither pruned nor failed ones: the former count with their last value, the latter with the
    worst. Values far off, as the loss of a network that all but diverged, are drawn in to Tukey's
    fence, since they would flatten all others.
    """

    def __init__(self, space: Space, seed: int, before: Sequence[Told], maximise: bool) -> None:
        self._space = space
        self._seed = seed
        self._values = _drawn_in(before, maximise)
        self._before = before
        self._maximise = maximise
        self._studies: dict[int, optuna.Study] = {}

    def ready(self, number: int, turn: int) -> bool:
        axes = self._space.branches[turn].axes
        return sum(told.entry == turn for told in self._before) >= 3 + len(axes)

    def draw(self, turn: int) -> Point:
        return _suggest(self._study(turn), self._space, turn)

    def running(self, point: Point) -> None:
        _add(self._study(point.entry), self._space, point, "RUNNING", branch=True)

    def _study(self, entry: int) -> optuna.Study:
        if entry not in self._studies:
            sampler = optuna.samplers.GPSampler(
                seed=_seed(self._seed, entry), n_startup_trials=1, warn_independent_sampling=False
            )
            study = self._studies[entry] = _new_study(self._maximise, sampler)
            for told in self._before:
                if told.entry == entry:
                    value = self._values[told.number]
                    _add(study, self._space, told.point, "COMPLETE", value, branch=True)
        return self._studies[entry]


def _drawn_in(trials: Sequence[Told], maximise: bool) -> dict[int, float]:
    """A value for each trial, complete or not, none of them far worse than all others."""
    known = {
        told.number: told.value if told.value is not None else [*told.intermediate.values()][-1]
        for told in trials
        if told.value is not None or (told.state == "PRUNED" and told.intermediate)
    }
    sign = 1.0 if maximise else -1.0
    scores = sign * np.array(list(known.values()) or [0.0])
    low, high = np.quantile(scores, [0.25, 0.75])
    worst = max(float(scores.min()), float(low - 1.5 * (high - low)))
    return {
        told.number: sign * max(sign * known[told.number], worst)
        if told.number in known
        else sign * worst
        for told in trials
    }


def _sampler(config: Config, space: Space, before: Sequence[Told], start: int) -> _Sampler:
    seed = _seed(config.seed, start)
    maximise = config.search.objective == "val_accuracy"
    in_turn = config.search.budget == "equal"
    match config.search.sampler:
        case "tpe" if in_turn:
            return _TpeInTurn(space, seed, before, maximise)
        case "tpe":
            return _Tpe(space, seed, before, maximise)
        case "gp":
            return _Gp(space, seed, before, maximise)
        case "random":
            return _Random(space, seed, in_turn)
        case "qmc":
            return _Qmc()
        case other:
            raise ValueError(f"no sampler is called {other!r}")


def _seed(*key: int) -> int:
    """A seed for Optuna's samplers, from 0 to 2**32 - 1, another one for each key."""
    return int(np.random.SeedSequence(key).generate_state(1)[0])


def _new_study(
    maximise: bool = True, sampler: optuna.samplers.BaseSampler | None = None
) -> optuna.Study:
    return optuna.create_study(direction="maximize" if maximise else "minimize", sampler=sampler)


def _suggest(study: optuna.Study, space: Space, entry: int | None = None) -> Point:
    """Asks the study for a point, of `entry` if given. The trial itself is discarded.

    A trial that runs in Optuna carries what was drawn for the ranges of all entries, also of those
    that it does not have, and TPE would keep away from these. A copy without them runs instead.
    """
    trial = study.ask()
    if entry is None:
        entry = space.names.index(trial.suggest_categorical(OPTIMIZER, space.names))
    params = {}
    for axis in space.branches[entry].axes:
        match _distribution(axis):
            case CategoricalDistribution(choices=choices):
                found: Any = trial.suggest_categorical(axis.path, choices)
            case IntDistribution(low=low, high=high, step=step, log=log):
                found = trial.suggest_int(axis.path, low, high, step=step, log=log)
            case FloatDistribution(low=low, high=high, step=step, log=log):
                found = trial.suggest_float(axis.path, low, high, step=step, log=log)
        params[axis.path] = axis.decode(found)
    study.tell(trial, state=TrialState.FAIL)
    return Point(entry, params)


def _distribution(
    axis: Axis,
) -> CategoricalDistribution | IntDistribution | FloatDistribution:
    if axis.categorical:
        return CategoricalDistribution(axis.labels)
    if axis.whole:
        return IntDistribution(axis.low, axis.high, log=axis.log, step=axis.step)
    return FloatDistribution(axis.low, axis.high, log=axis.log, step=axis.step)


def _add(
    study: optuna.Study,
    space: Space,
    point: Point,
    state: str,
    value: float | None = None,
    intermediate: Mapping[int, float] | None = None,
    branch: bool = False,
) -> None:
    """Adds a trial to the study; to one of a single branch without the choice of the entry."""
    params: dict[str, Any] = {} if branch else {OPTIMIZER: space.names[point.entry]}
    distributions: dict[str, BaseDistribution] = (
        {} if branch else {OPTIMIZER: CategoricalDistribution(space.names)}
    )
    for axis in space.branches[point.entry].axes:
        params[axis.path] = axis.encode(point.params[axis.path])
        distributions[axis.path] = _distribution(axis)
    study.add_trial(
        create_trial(
            state=TrialState[state],
            value=value,
            params=params,
            distributions=distributions,
            intermediate_values=dict(intermediate or {}),
        )
    )
