"""The space that is searched: for each optimizer entry, the ranges that exist when it is drawn.

A point is an entry's index and a value for every range of that entry: those of the model and of
the training, which all entries share, and those of the entry's own arguments. A space whose
every range has a grid is finite; its points can be counted."""

import json
import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product, zip_longest
from typing import Any, NamedTuple

from pipeline.config import Choice, Config, Range
from pipeline.training.trial import Trial


class Point(NamedTuple):
    """A place in the space: an entry of `optimizers` and a value for each of its ranges."""

    entry: int
    params: dict[str, Any]


Key = tuple[int, tuple[str, ...]]


def label(value: object) -> str:
    """A stable text for a value of a choice: lists and tuples alike, `null`, `true`, `0.1`."""
    return json.dumps(value)


@dataclass(frozen=True)
class Axis:
    """One range as the samplers see it.

    `values` numbers the values of a grid (a choice, whole numbers, steps) and is None for an
    interval. Numbers run from `low` to `high`, both inclusive, evenly in the logarithm with `log`.
    """

    path: str
    values: Sequence[Any] | None
    categorical: bool = False
    low: Any = None
    high: Any = None
    log: bool = False
    step: Any = None

    @classmethod
    def of(cls, path: str, leaf: Range) -> "Axis":
        """The axis of a range of the configuration; too fine a grid is as good as an interval."""
        values = leaf.grid()
        if isinstance(leaf, Choice):
            return cls(path, values, categorical=True)
        high, step = (leaf.high, None) if values is None else (values[-1], leaf.step)
        return cls(path, values, False, leaf.low, high, leaf.log, step)

    @property
    def whole(self) -> bool:
        """Whether the values are whole numbers."""
        return isinstance(self.values, range)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The texts that stand for the values of a choice."""
        return tuple(label(value) for value in self.values or ())

    def encode(self, value: Any) -> Any:
        """The value as a sampler has it: a choice by its text, a number as it is."""
        return label(value) if self.categorical else value

    def decode(self, drawn: Any) -> Any:
        """The value that a sampler means by `drawn`."""
        if self.values is None or self.whole:
            return drawn
        if self.categorical:
            return self.values[self.labels.index(drawn)]
        # Steps added up in binary miss the grid by a bit: 0.1 + 2 * 0.1.
        return min(self.values, key=lambda value: abs(value - drawn))

    def at(self, fraction: float) -> Any:
        """The value at `fraction`, in [0, 1), of the way along the axis."""
        if self.values is not None and not self.log:
            return self.values[int(fraction * len(self.values))]
        # A whole number stands for all that is rounded to it, so that the ends get their share.
        margin = 0.5 if self.whole else 0.0
        low, high = self.low - margin, self.high + margin
        value = low + fraction * (high - low)
        if self.log:
            value = math.exp(math.log(low) + fraction * (math.log(high) - math.log(low)))
        return min(max(round(value) if self.whole else value, self.low), self.high)


class Space:
    """What a configuration searches.

    Attributes:
        labels: of the entries of `optimizers`.
        axes: for each entry those that can be drawn together with it.
        sizes: the number of each entry's points, infinite where an axis is an interval."""

    def __init__(self, config: Config) -> None:
        self.labels: tuple[str, ...] = config.labels
        axes = [Axis.of(path, leaf) for path, leaf in config.ranges().items()]
        others = [re.compile(rf"optimizers\.(?!{entry}\.)") for entry in range(len(self.labels))]
        self.axes = [[a for a in axes if not other.match(a.path)] for other in others]
        counts = [
            [math.inf if a.values is None else len(a.values) for a in own] for own in self.axes
        ]
        self.sizes = list(map(math.prod, counts))

    @property
    def size(self) -> float:
        """The number of points."""
        return sum(self.sizes)

    def entry(self, trial: Trial) -> int:
        """The position of the trial's entry in `optimizers`."""
        return self.labels.index(trial.optimizer)

    def point(self, trial: Trial) -> Point:
        """Where in the space the trial is."""
        return Point(self.entry(trial), dict(trial.params))

    def at(self, entry: int, fractions: Iterable[float]) -> Point:
        """The point at these fractions of the way along an entry's axes."""
        along = zip(self.axes[entry], fractions, strict=True)
        return Point(entry, {axis.path: axis.at(fraction) for axis, fraction in along})

    def key(self, point: Point) -> Key:
        """Equal for equal points, also where one was read back and holds lists for tuples."""
        axes = self.axes[point.entry]
        return point.entry, tuple(label(point.params[axis.path]) for axis in axes)

    def open(self, taken: Collection[Key]) -> list[int]:
        """The entries that have a point which is not `taken`."""
        counts = Counter(entry for entry, _ in taken)
        return [entry for entry, size in enumerate(self.sizes) if size > counts[entry]]

    def alternating(self) -> Iterator[Point]:
        """Every point of a finite space, the entries in turn; the last axis turns fastest."""
        grids = [product(*(axis.values or () for axis in axes)) for axes in self.axes]
        for turn in zip_longest(*grids):
            for entry, values in enumerate(turn):
                if values is not None:
                    paths = (axis.path for axis in self.axes[entry])
                    yield Point(entry, dict(zip(paths, values, strict=True)))
