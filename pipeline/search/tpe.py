"""TPE (Bergstra et al. 2011): over all entries at once, or over each by itself."""

from collections.abc import Sequence

from pipeline.common.seeds import Purpose, seed32
from pipeline.search.in_turn import InTurn
from pipeline.search.optuna_study import Study, tpe_sampler
from pipeline.search.space import Point, Space
from pipeline.training.proposals import Told

SPREAD_TRIALS = 5  # of each entry, evenly spread, before TPE begins


class Tpe:
    """TPE over all entries at once, the entry being one of its parameters.

    Measured on conditional toy spaces with four optimizers, 40 trials, 60 seeds: five evenly spread
    trials for each entry come before, not three; with fewer it settles on an optimizer that was
    merely lucky.
    """

    def __init__(
        self, space: Space, seed: int, start: int, before: Sequence[Told], maximise: bool
    ) -> None:
        self._startup = max(10, SPREAD_TRIALS * len(space.branches))
        self._study = Study(space, maximise, tpe_sampler(seed32(seed, Purpose.SAMPLER, start)))
        for told in before:
            _add(self._study, told)

    def ready(self, number: int, turn: int) -> bool:
        return number >= self._startup

    def draw(self, turn: int) -> Point:
        return self._study.suggest()

    def running(self, point: Point) -> None:
        self._study.add(point, "RUNNING")


def tpe_in_turn(
    space: Space, seed: int, start: int, before: Sequence[Told], maximise: bool
) -> InTurn:
    """TPE for each entry by itself."""

    def study(entry: int) -> Study:
        found = Study(
            space, maximise, tpe_sampler(seed32(seed, Purpose.SAMPLER, start, entry)), entry
        )
        for told in before:
            if told.entry == entry:
                _add(found, told)
        return found

    return InTurn(before, lambda entry: SPREAD_TRIALS, study)


def _add(study: Study, told: Told) -> None:
    """TPE passes failed trials over, and would go there again; as pruned before the first epoch
    they are the last of all. Of a pruned trial it reads the last epoch, no more."""
    state = "PRUNED" if told.state == "FAIL" else told.state
    course = told.intermediate if told.state == "PRUNED" else {}
    study.add(told.point, state, told.value, dict([*course.items()][-1:]))
