"""The space that is searched: for each optimizer entry, the ranges that exist when it is drawn.

A point is an entry's index and a value for every range of that entry: those of the model and of
the training, which all entries share, and those of the entry's own arguments. A space whose
every range has a grid is finite; its points can be counted and numbered.
"""

import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from pipeline.config import Choice, Config, FloatRange, IntRange, Range
from pipeline.config.ranges import plain
from pipeline.config.yaml_text import flow_text


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
        """The axis of a range of the configuration."""
        match leaf:
            case Choice(choice):
                return cls(path, choice, categorical=True)
            case IntRange(low, high, log, step):
                # A range object, not the grid itself: from 1 to a billion must cost nothing.
                whole = range(low, high + 1, step)
                return cls(path, whole, False, low, whole[-1], log, step)
            case FloatRange(low, high, log, step):
                grid = leaf.grid()
                if grid is None:  # or too fine a grid to be one: as good as an interval
                    return cls(path, None, False, low, high, log)
                return cls(path, grid, False, low, grid[-1], log, step)

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

    def decode(self, found: Any) -> Any:
        """The value that a sampler means by `found`."""
        if self.values is None or self.whole:
            return found
        if self.categorical:
            return self.values[self.labels.index(found)]
        # Steps added up in binary miss the grid by a bit: 0.1 + 2 * 0.1.
        return min(self.values, key=lambda value: abs(value - found))

    def read(self, text: str) -> Any:
        """The value that was written as `text`, as in `Config.flat`. Raises ValueError."""
        if self.categorical:
            for value in self.values or ():
                if text in (value, flow_text(plain(value))):
                    return value
            raise ValueError(f"{self.path} has no value {text!r}")
        return int(text) if self.whole else self.decode(float(text))

    def at(self, fraction: float) -> Any:
        """The value at `fraction`, in [0, 1), of the way along the axis."""
        if self.values is not None and not self.log:
            return self.values[int(fraction * len(self.values))]
        # A whole number stands for all that is rounded to it, so that the ends get their share.
        margin = 0.5 if self.whole else 0.0
        low, high = self.low - margin, self.high + margin
        if self.log:
            value = math.exp(math.log(low) + fraction * (math.log(high) - math.log(low)))
        else:
            value = low + fraction * (high - low)
        return min(max(round(value) if self.whole else value, self.low), self.high)


@dataclass(frozen=True)
class Branch:
    """What can be drawn together with one optimizer entry."""

    entry: int
    axes: tuple[Axis, ...]

    @property
    def size(self) -> int | None:
        """The number of points, or None when there is no end of them."""
        counts = [None if axis.values is None else len(axis.values) for axis in self.axes]
        return None if None in counts else math.prod(count for count in counts if count)

    def point(self, index: int) -> Point:
        """Point number `index`, from 0 to size - 1; the last axis turns fastest."""
        params = {}
        for axis in reversed(self.axes):
            assert axis.values is not None
            index, digit = divmod(index, len(axis.values))
            params[axis.path] = axis.values[digit]
        return Point(self.entry, {axis.path: params[axis.path] for axis in self.axes})


class Space:
    """The branches of a configuration, one for each entry of `optimizers`."""

    def __init__(self, config: Config) -> None:
        axes = [Axis.of(path, leaf) for path, leaf in config.ranges().items()]
        shared = [axis for axis in axes if not axis.path.startswith("optimizers.")]
        self.branches = tuple(
            Branch(
                entry,
                (*shared, *(a for a in axes if a.path.startswith(f"optimizers.{entry}."))),
            )
            for entry in range(len(config.optimizers))
        )
        self.names = _unique([optimizer.name for optimizer in config.optimizers])

    @cached_property
    def size(self) -> int | None:
        """The number of points, or None when there is no end of them."""
        sizes = [branch.size for branch in self.branches]
        return None if None in sizes else sum(size for size in sizes if size)

    def read(self, entry: int, texts: Mapping[str, str]) -> dict[str, Any]:
        """A trial's params from their texts, as they stand in a run; other keys are passed over.

        Raises KeyError when one is missing, ValueError when one is not a value of its range.
        """
        return {axis.path: axis.read(texts[axis.path]) for axis in self.branches[entry].axes}

    def key(self, point: Point) -> Key:
        """Equal for equal points, also where one was read back and holds lists for tuples."""
        axes = self.branches[point.entry].axes
        return point.entry, tuple(label(point.params[axis.path]) for axis in axes)

    def open(self, taken: Collection[Key]) -> list[int]:
        """The entries that have a point which is not `taken`."""
        found = []
        for branch in self.branches:
            size = branch.size
            if size is None or size > sum(entry == branch.entry for entry, _ in taken):
                found.append(branch.entry)
        return found

    def alternating(self) -> Iterator[Point]:
        """Every point of a finite space, the entries in turn."""
        sizes = [branch.size or 0 for branch in self.branches]
        for index in range(max(sizes)):
            for branch, size in zip(self.branches, sizes, strict=True):
                if index < size:
                    yield branch.point(index)

    def any_but(self, taken: Collection[Key], entry: int, rng: np.random.Generator) -> Point:
        """A random point of `entry`, which is finite and has one left, that is not taken."""
        branch = self.branches[entry]
        assert branch.size is not None
        start = int(rng.integers(branch.size))
        # Walking on from a random point ends after len(taken) steps, however large the space is.
        for offset in range(branch.size):
            point = branch.point((start + offset) % branch.size)
            if self.key(point) not in taken:
                return point
        raise ValueError(f"every point of entry {entry} is taken")


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    """The names, those that occur twice with their index, as in `Adam [2]`."""
    return tuple(
        f"{name} [{index}]" if names.count(name) > 1 else name for index, name in enumerate(names)
    )
