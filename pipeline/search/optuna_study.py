"""The bridge to Optuna: a space as one of its studies, its samplers, its pruner.

This is the only file that imports optuna."""

import threading
import warnings
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial

from pipeline.common.errors import UserError, first_line
from pipeline.search.space import Axis, Point, Space

OPTIMIZER = "optimizer"  # Optuna's name for the choice of the entry

_verbosity = threading.Lock()


@contextmanager
def _silent() -> Iterator[None]:
    """Optuna reports every study, and that a GP would be faster with greenlet; the pipeline has a
    progress display of its own."""
    with _verbosity:
        before = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            yield
        finally:
            optuna.logging.set_verbosity(before)


class Study:
    """A study of Optuna over a space, or over the ranges of one entry by themselves.

    Larger values are better.

    Args:
        sampler: the name of the one that `suggest` asks, `tpe`, `gp` or `random`.
        entry: the only one that the study has, without the choice of it; None: all of them."""

    @_silent()
    def __init__(self, space: Space, sampler: str, seed: int, entry: int | None = None) -> None:
        self._space = space
        self._entry = entry
        self._study = optuna.create_study(direction="maximize", sampler=_sampler(sampler, seed))

    @_silent()
    def suggest(self, entry: int | None) -> Point:
        """Asks the sampler for a point, of `entry` if given. The trial itself is discarded.

        A trial that runs in Optuna carries what was drawn for the ranges of all entries, also of
        those that it does not have, and TPE would keep away from these. A copy without them runs
        instead."""
        trial = self._study.ask()
        if entry is None:
            labels = self._space.labels
            entry = labels.index(trial.suggest_categorical(OPTIMIZER, labels))
        params: dict[str, Any] = {}
        for axis in self._space.axes[entry]:
            if axis.categorical:
                drawn: Any = trial.suggest_categorical(axis.path, axis.labels)
            else:
                suggest: Any = trial.suggest_int if axis.whole else trial.suggest_float
                drawn = suggest(axis.path, axis.low, axis.high, step=axis.step, log=axis.log)
            params[axis.path] = axis.decode(drawn)
        self._study.tell(trial, state=TrialState.FAIL)
        return Point(entry, params)

    def add(
        self,
        point: Point,
        state: str,
        value: float | None = None,
        intermediate: Mapping[int, float] = MappingProxyType({}),
        about: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """Adds a trial; `state` is the name of one of Optuna's, as COMPLETE or RUNNING. `about`:
        what its user attributes say."""
        params: dict[str, Any] = {}
        distributions: dict[str, BaseDistribution] = {}
        if self._entry is None:
            params[OPTIMIZER] = self._space.labels[point.entry]
            distributions[OPTIMIZER] = CategoricalDistribution(self._space.labels)
        for axis in self._space.axes[point.entry]:
            params[axis.path] = axis.encode(point.params[axis.path])
            distributions[axis.path] = _distribution(axis)
        place: Any = {"params": params, "distributions": distributions}
        place |= {"state": TrialState[state], "intermediate_values": dict(intermediate)}
        self._study.add_trial(create_trial(value=value, user_attrs=dict(about), **place))

    def __len__(self) -> int:
        return len(self._study.trials)

    @_silent()
    def write(self, storage: str, name: str, greater_is_better: bool) -> None:
        """Writes the trials to a storage of Optuna, as a study of its own. Raises UserError: the
        storage cannot be used, or has a study of that name."""
        direction = StudyDirection.MAXIMIZE if greater_is_better else StudyDirection.MINIMIZE
        try:
            study = optuna.create_study(storage=storage, study_name=name, direction=direction)
        except optuna.exceptions.DuplicatedStudyError:
            rule = "has a study of that name already; give another by --name"
            raise UserError(f"{storage}: {rule}, not {name!r}") from None
        except Exception as error:  # of whatever database it is
            raise UserError(f"--storage: {storage} can't be used: {first_line(error)}") from error
        study.add_trials(self._study.trials)


class MedianRule:
    """Optuna's MedianPruner (Golovin et al. 2017) for the trials of a stack, at a few epochs.

    A trial is dropped when its best value so far is worse than the median of what earlier complete
    trials had at the same epoch.

    Args:
        earlier: for each complete trial to compare with its values by epoch."""

    @_silent()
    def __init__(self, earlier: Sequence[Mapping[int, float]]) -> None:
        self._study = optuna.create_study(direction="maximize")
        self._pruner = optuna.pruners.MedianPruner(n_startup_trials=1)
        self._reached: dict[int, dict[int, float]] = defaultdict(dict)
        for values in earlier:
            self._study.add_trial(create_trial(value=0.0, intermediate_values=dict(values)))

    def dropped(self, rung: int, values: Mapping[int, float], running: Collection[int]) -> set[int]:
        """As `pruning.Halving.dropped`."""
        for number, value in values.items():
            self._reached[number][rung] = value
        return {number for number in running if self._is_worse(self._reached[number])}

    def _is_worse(self, reached: dict[int, float]) -> bool:
        trial = create_trial(state=TrialState.RUNNING, intermediate_values=reached)
        return bool(self._pruner.prune(self._study, trial))


def _sampler(name: str, seed: int) -> BaseSampler:
    match name:
        case "random":
            return RandomSampler(seed)
        case "gp":
            # Expected improvement, for several points at once (q-batch).
            return GPSampler(seed=seed, n_startup_trials=1, warn_independent_sampling=False)
    # Multivariate and grouped: the arguments of one optimizer go together and exist together.
    # Measured on conditional toy spaces with four optimizers, 40 trials, 60 seeds: group is as
    # good as the alternatives or better everywhere.
    with warnings.catch_warnings():
        experimental = optuna.exceptions.ExperimentalWarning
        warnings.filterwarnings("ignore", "Argument ``group``", experimental)
        return TPESampler(
            n_startup_trials=1, seed=seed, multivariate=True, group=True, constant_liar=True
        )


def _distribution(axis: Axis) -> BaseDistribution:
    if axis.categorical:
        return CategoricalDistribution(axis.labels)
    kinds = optuna.distributions.FloatDistribution, optuna.distributions.IntDistribution
    return kinds[axis.whole](axis.low, axis.high, log=axis.log, step=axis.step)
