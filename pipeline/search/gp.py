"""A Gaussian process for each entry, over its own ranges."""

from collections.abc import Sequence

import numpy as np

from pipeline.common.seeds import Purpose, seed32
from pipeline.search.in_turn import InTurn
from pipeline.search.optuna_study import Study, gp_sampler
from pipeline.search.space import Space
from pipeline.training.proposals import Told


def gp_in_turn(
    space: Space, seed: int, start: int, before: Sequence[Told], maximise: bool
) -> InTurn:
    """A Gaussian process for each entry; three trials and one for each range come before.

    GPSampler reads complete trials, and running ones, but neither pruned nor failed ones: the
    former count with their last value, the latter with the worst. Values far off, as the loss of a
    network that all but diverged, are drawn in to Tukey's fence, since they would flatten all
    others.
    """
    values = _drawn_in(before, maximise)

    def startup(entry: int) -> int:
        return 3 + len(space.branches[entry].axes)

    def study(entry: int) -> Study:
        found = Study(
            space, maximise, gp_sampler(seed32(seed, Purpose.SAMPLER, start, entry)), entry
        )
        for told in before:
            if told.entry == entry:
                found.add(told.point, "COMPLETE", values[told.number])
        return found

    return InTurn(before, startup, study)


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
