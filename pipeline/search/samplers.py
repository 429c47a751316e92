"""The samplers that a search can have, and which one it has."""

from collections.abc import Sequence
from typing import Protocol

from pipeline.common.seeds import Purpose, seed32
from pipeline.config import Config
from pipeline.search.gp import gp_in_turn
from pipeline.search.optuna_study import Study, random_sampler
from pipeline.search.space import Point, Space
from pipeline.search.tpe import Tpe, tpe_in_turn
from pipeline.training.proposals import Told


class Sampler(Protocol):
    """Draws a batch's points, from the trials before the batch and the points that are running."""

    def ready(self, number: int, turn: int) -> bool:
        """Whether to draw trial `number`, when it is entry `turn`'s turn; if not it is spread."""

    def draw(self, turn: int) -> Point:
        """A point; of entry `turn` where the sampler takes the entries in turn."""

    def running(self, point: Point) -> None:
        """Takes the point for one whose outcome is awaited."""


class Qmc:
    """Leaves everything to `Spread`; Optuna's QMCSampler draws its first trial at random and
    knows no ranges that come and go with the optimizer."""

    def ready(self, number: int, turn: int) -> bool:
        return False

    def draw(self, turn: int) -> Point:
        raise NotImplementedError

    def running(self, point: Point) -> None:
        pass


class Random:
    """Uniform over the entries, unless these take turns, and over each range."""

    def __init__(self, space: Space, seed: int, in_turn: bool) -> None:
        self._in_turn = in_turn
        self._study = Study(space, sampler=random_sampler(seed))

    def ready(self, number: int, turn: int) -> bool:
        return True

    def draw(self, turn: int) -> Point:
        return self._study.suggest(turn if self._in_turn else None)

    def running(self, point: Point) -> None:
        pass


def sampler_of(config: Config, space: Space, before: Sequence[Told], start: int) -> Sampler:
    """A new sampler for the batch whose first trial has the number `start`."""
    seed = config.seed
    maximise = config.search.objective == "val_accuracy"
    in_turn = config.search.budget == "equal"
    match config.search.sampler:
        case "tpe" if in_turn:
            return tpe_in_turn(space, seed, start, before, maximise)
        case "tpe":
            return Tpe(space, seed, start, before, maximise)
        case "gp":
            return gp_in_turn(space, seed, start, before, maximise)
        case "random":
            return Random(space, seed32(seed, Purpose.SAMPLER, start), in_turn)
        case "qmc":
            return Qmc()
        case other:
            raise ValueError(f"no sampler is called {other!r}")
