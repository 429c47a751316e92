"""How many trials are asked together."""

import math

from pipeline.config import Config
from pipeline.search.space import Space
from pipeline.training.layouts import trials_together

MOST = 1024
"""Trials of a batch."""

SOBOL_TRIALS = 5
"""Trials of each entry, evenly spread, before TPE begins. Measured on conditional toy spaces with
four optimizers, 40 trials, 60 seeds: with three it settles on an optimizer that was just lucky."""


def batch_around(config: Config, space: Space, number: int) -> range:
    """The numbers of the trials that are asked together with this one; the budget may end within.

    Trials of which none reads another's score are one batch: those before a sampler begins, and all
    that are drawn at random or evenly spread. Later batches are an eighth of the trials before
    them: a sampler then knows eight ninths of what it knew were it asked trial by trial, and the
    more trials there are, the more machines have something to do. A pruner compares a trial with
    those before its batch; with one, batches stay as small as what is trained together."""
    least = smallest_batch(config)
    start, size = 0, least
    while True:
        if config.search.pruner == "none":
            free = _first_of_all(config, space) - start
            size = int(min(MOST, max(free, start / 8))) // least * least or least
        if number < start + size:
            return range(start, start + size)
        start += size


def smallest_batch(config: Config) -> int:
    """With five folds 8 trials."""
    return trials_together(config.validation.folds * config.validation.repeats)


def takes_turns(config: Config) -> bool:
    """Whether each entry of `optimizers` is searched by itself (`draw.Draw`)."""
    return config.search.budget == "equal" or config.search.sampler == "gp"


def first_trials(config: Config, space: Space, entry: int) -> float:
    """Trials, evenly spread, before the sampler draws one: of the entry, where they take turns,
    else of all."""
    if config.search.sampler == "tpe" and not takes_turns(config):
        return max(10, SOBOL_TRIALS * len(space.axes))
    first = {"random": 0, "gp": 3 + len(space.axes[entry]), "tpe": SOBOL_TRIALS}
    return first.get(config.search.sampler, math.inf)


def _first_of_all(config: Config, space: Space) -> float:
    """Trials before any that reads the score of another."""
    if config.search.sampler in ("random", "qmc"):
        return math.inf
    if not takes_turns(config):
        return first_trials(config, space, 0)
    return sum(first_trials(config, space, entry) for entry in range(len(space.axes)))
