"""Where members are trained: in this process, or on other machines."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pipeline.training.members import Member, Settings
from pipeline.training.outcomes import Fit, Watch


@dataclass(frozen=True)
class Shard:
    """Members that are trained by one call of `loop.fit`."""

    members: Sequence[Member]
    settings: Settings
    watch: Watch | None = None


Fitting = Callable[[Shard], list[Fit]]
Executor = Callable[[Sequence[Shard], Fitting], Iterator[tuple[int, list[Fit]]]]
"""Trains shards: the position of each with its members' fits, as soon as these are there."""


def local(shards: Sequence[Shard], fit: Fitting) -> Iterator[tuple[int, list[Fit]]]:
    """One shard after the other, in this process."""
    yield from enumerate(map(fit, shards))
