"""What the pruning rules say, from the courses of trials and nothing else, by counting."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.training.trial import Trial

BATCH = 8


@dataclass(frozen=True)
class Course:
    """A finished trial; `intermediate` has its values by epoch, as far as it was let run."""

    number: int
    optimizer: str
    state: str
    intermediate: Mapping[int, float]

    @classmethod
    def of(cls, trial: Trial, curve: str = "val_accuracy") -> "Course":
        by_epoch = enumerate(trial.curves[curve].tolist(), start=1)
        return cls(trial.number, trial.optimizer, trial.state, dict(by_epoch))


def cut(
    rule: str, rungs: Sequence[int], trials: Sequence[Course], maximise: bool = True
) -> dict[int, int]:
    """The epoch in which each trial that is to be pruned is pruned, with equal budgets.

    The trials of a batch are one stack, and none stops by itself.
    """
    found: dict[int, int] = {}
    for trial in trials:
        own = [other for other in trials if other.optimizer == trial.optimizer]
        start = trial.number // BATCH * BATCH
        before = [other for other in own if other.number < start]
        mates = [other for other in own if start <= other.number < start + BATCH]
        says = _halving if rule == "halving" else _median
        for rung in rungs:
            if says(rung, rungs, trial, mates, before, 1.0 if maximise else -1.0):
                found[trial.number] = rung
                break
    return found


def _halving(
    rung: int,
    rungs: Sequence[int],
    trial: Course,
    mates: Sequence[Course],
    before: Sequence[Course],
    sign: float,
) -> bool:
    here = [sign * mate.intermediate[rung] for mate in mates if rung in mate.intermediate]
    there = [sign * one.intermediate[rung] for one in before if rung in one.intermediate]
    mine = sign * trial.intermediate[rung]
    better = sum(value > mine for value in here + there)
    if len(mates) >= 3 and mine == max(here):
        return False
    return better >= math.ceil(len(here + there) / 3)


def _median(
    rung: int,
    rungs: Sequence[int],
    trial: Course,
    mates: Sequence[Course],
    before: Sequence[Course],
    sign: float,
) -> bool:
    complete = [sign * one.intermediate[rung] for one in before if one.state == "COMPLETE"]
    best = max(sign * trial.intermediate[one] for one in rungs if one <= rung)
    return len(complete) >= 5 and best < statistics.median(complete)
