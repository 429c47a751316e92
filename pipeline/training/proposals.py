"""What the search proposes, and what it is told of a proposal."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.config import Config
from pipeline.search.space import Point
from pipeline.training.trial import State


@dataclass(frozen=True)
class Proposal:
    """A trial to run: `config` is the search's with one optimizer and no ranges left.

    `params` holds the searched leaves by dotted path, with the values that the configuration's
    choices hold (a list stays a list); `entry` is the index into the configuration's `optimizers`.
    """

    number: int
    entry: int
    params: dict[str, Any]
    config: Config


@dataclass(frozen=True)
class Told:
    """A finished trial.

    `value` is the objective (COMPLETE only, else None), `intermediate` its course by epoch, from 1.
    """

    number: int
    entry: int
    params: Mapping[str, Any]
    state: State
    value: float | None = None
    intermediate: Mapping[int, float] = field(default_factory=dict)

    @property
    def point(self) -> Point:
        """Where in the space the trial was."""
        return Point(self.entry, dict(self.params))

    def at(self, epoch: int) -> float | None:
        """The value after `epoch` epochs; a complete trial that stopped earlier keeps its last."""
        if epoch in self.intermediate or not self.intermediate:
            return self.intermediate.get(epoch)
        last = max(self.intermediate)
        return self.intermediate[last] if self.state == "COMPLETE" and last < epoch else None
