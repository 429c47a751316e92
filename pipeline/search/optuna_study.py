"""The bridge to Optuna: a space and its trials as one of its studies, and its samplers.

This is the only file that imports optuna.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.trial import TrialState, create_trial

from pipeline.search.space import Axis, Point, Space
from pipeline.training.proposals import Told

OptunaStudy = optuna.Study

OPTIMIZER = "optimizer"  # Optuna's name for the choice of the entry

# Optuna reports every study and trial, and that a GP would be faster with greenlet; the pipeline
# has a progress display of its own.
optuna.logging.set_verbosity(optuna.logging.ERROR)


class Study:
    """A study of Optuna over a space, or over the ranges of one entry by themselves.

    Args:
        sampler: what `suggest` asks.
        entry: the only one that the study has, without the choice of it; None: all of them.

    Attributes:
        optuna: the study itself.
    """

    def __init__(
        self,
        space: Space,
        maximise: bool = True,
        sampler: BaseSampler | None = None,
        entry: int | None = None,
    ) -> None:
        self._space = space
        self._entry = entry
        self.optuna = optuna.create_study(
            direction="maximize" if maximise else "minimize", sampler=sampler
        )

    def suggest(self, entry: int | None = None) -> Point:
        """Asks the sampler for a point, of `entry` if given. The trial itself is discarded.

        A trial that runs in Optuna carries what was drawn for the ranges of all entries, also of
        those that it does not have, and TPE would keep away from these. A copy without them runs
        instead.
        """
        trial = self.optuna.ask()
        entry = self._entry if entry is None else entry
        if entry is None:
            names = self._space.names
            entry = names.index(trial.suggest_categorical(OPTIMIZER, names))
        params = {}
        for axis in self._space.branches[entry].axes:
            match _distribution(axis):
                case CategoricalDistribution(choices=choices):
                    found: Any = trial.suggest_categorical(axis.path, choices)
                case IntDistribution(low=low, high=high, step=step, log=log):
                    found = trial.suggest_int(axis.path, low, high, step=step, log=log)
                case FloatDistribution(low=low, high=high, step=step, log=log):
                    found = trial.suggest_float(axis.path, low, high, step=step, log=log)
            params[axis.path] = axis.decode(found)
        self.optuna.tell(trial, state=TrialState.FAIL)
        return Point(entry, params)

    def add(
        self,
        point: Point,
        state: str,
        value: float | None = None,
        intermediate: Mapping[int, float] | None = None,
    ) -> None:
        """Adds a trial; `state` is the name of one of Optuna's, as COMPLETE or RUNNING."""
        params: dict[str, Any] = {}
        distributions: dict[str, BaseDistribution] = {}
        if self._entry is None:
            params[OPTIMIZER] = self._space.names[point.entry]
            distributions[OPTIMIZER] = CategoricalDistribution(self._space.names)
        for axis in self._space.branches[point.entry].axes:
            params[axis.path] = axis.encode(point.params[axis.path])
            distributions[axis.path] = _distribution(axis)
        self.optuna.add_trial(
            create_trial(
                state=TrialState[state],
                value=value,
                params=params,
                distributions=distributions,
                intermediate_values=dict(intermediate or {}),
            )
        )


def finished_study(space: Space, maximise: bool, told: Mapping[int, Told]) -> OptunaStudy:
    """A study of finished trials by their numbers, which are Optuna's too."""
    study = Study(space, maximise)
    for number in range(max(told, default=-1) + 1):
        one = told.get(number)
        if one is None:
            study.optuna.add_trial(create_trial(state=TrialState.RUNNING))
        else:
            study.add(one.point, one.state, one.value, one.intermediate)
    return study.optuna


def random_sampler(seed: int) -> BaseSampler:
    """Uniform over each range, in the logarithm for a range with `log`."""
    return RandomSampler(seed)


def tpe_sampler(seed: int) -> BaseSampler:
    """Multivariate and grouped: the arguments of one optimizer go together and exist together.

    Measured on conditional toy spaces with four optimizers, 40 trials, 60 seeds: group is as good
    as the alternatives or better everywhere.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "Argument ``group``", optuna.exceptions.ExperimentalWarning
        )
        return TPESampler(
            n_startup_trials=1, seed=seed, multivariate=True, group=True, constant_liar=True
        )


def gp_sampler(seed: int) -> BaseSampler:
    """Expected improvement over a Gaussian process, for several points at once (q-batch)."""
    return GPSampler(seed=seed, n_startup_trials=1, warn_independent_sampling=False)


def _distribution(
    axis: Axis,
) -> CategoricalDistribution | IntDistribution | FloatDistribution:
    if axis.categorical:
        return CategoricalDistribution(axis.labels)
    if axis.whole:
        return IntDistribution(axis.low, axis.high, log=axis.log, step=axis.step)
    return FloatDistribution(axis.low, axis.high, log=axis.log, step=axis.step)
