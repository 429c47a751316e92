"""A study for each entry of `optimizers`, over its own ranges; the entries take turns."""

from collections.abc import Callable, Sequence

from pipeline.search.optuna_study import Study
from pipeline.search.space import Point
from pipeline.training.proposals import Told


class InTurn:
    """A sampler (`samplers.Sampler`) whose entries know nothing of each other.

    Args:
        before: the trials before the batch.
        startup: how many of them an entry must have before it is drawn from its study.
        study: makes the study of an entry, which is done at its first use.
    """

    def __init__(
        self,
        before: Sequence[Told],
        startup: Callable[[int], int],
        study: Callable[[int], Study],
    ) -> None:
        self._before, self._startup, self._new_study = before, startup, study
        self._studies: dict[int, Study] = {}

    def ready(self, number: int, turn: int) -> bool:
        return sum(told.entry == turn for told in self._before) >= self._startup(turn)

    def draw(self, turn: int) -> Point:
        return self._study(turn).suggest()

    def running(self, point: Point) -> None:
        self._study(point.entry).add(point, "RUNNING")

    def _study(self, entry: int) -> Study:
        if entry not in self._studies:
            self._studies[entry] = self._new_study(entry)
        return self._studies[entry]
