"""Where members are trained: in this process, or as shards elsewhere."""

import importlib.util
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch

from pipeline.common import files
from pipeline.common.errors import UserError
from pipeline.common.imports import is_path, reason_of
from pipeline.config import Component, Config
from pipeline.config.ranges import ends
from pipeline.optimizers.schedules import parts_of
from pipeline.training.batches import CROSS_FIT_SHARES, Arrays
from pipeline.training.loop import fit
from pipeline.training.members import Member, Settings
from pipeline.training.outcomes import Fit, Outcomes, Watch

Shared = TypeVar("Shared")
Own = TypeVar("Own")
Given = TypeVar("Given")


@dataclass(frozen=True)
class Shard:
    """Members of whole trials that can share a stack, and what drops some of them."""

    members: Sequence[Member]
    settings: Settings
    watch: Watch | None = None


class Executor(Protocol):
    """What runs pure functions, and says where members can be trained apart.

    Attributes:
        is_here: whether in this process, so that functions may tell it something."""

    is_here: bool

    def device(self, asked: str) -> str:
        """`training.device` as the members shall have it."""

    def shards(
        self, arrays: Arrays, members: Sequence[Member], settings: Settings
    ) -> Sequence[range]:
        """Positions of members that can share a stack, in shards."""

    def run(
        self, function: Callable[[Shared, Own], Given], work: Iterable[tuple[Shared, Own]]
    ) -> Iterator[tuple[int, Given]]:
        """The function's value for each pair and the pair's position, in any order; many pairs may
        share what they have in front."""


class Local:
    """In this process, one after the other; a shard is all that can share a stack."""

    is_here = True

    def device(self, asked: str) -> str:
        return asked

    def shards(
        self, arrays: Arrays, members: Sequence[Member], settings: Settings
    ) -> Sequence[range]:
        return [range(len(members))]

    def run(
        self, function: Callable[[Shared, Own], Given], work: Iterable[tuple[Shared, Own]]
    ) -> Iterator[tuple[int, Given]]:
        for number, (shared, own) in enumerate(work):
            yield number, function(shared, own)


LOCAL = Local()


def check_compute(config: Config) -> None:
    """Raise UserError where Ray is asked for and is not installed, or where torch has no such GPU
    here."""
    if config.compute.engine == "ray":
        if importlib.util.find_spec("ray") is None:
            raise UserError(
                'compute.engine: ray is not installed here: pip install ".[ray]", or '
                'pip install "optimizer-search[ray]"'
            )
        return
    count = torch.cuda.device_count()
    for value in ends(config.training.device):
        if value.startswith("cuda") and int(value.partition(":")[2] or 0) >= count:
            raise UserError(
                f"training.device: must be a device that torch finds here; got {value!r}, and "
                f"torch finds {count} GPUs; auto takes one where there is one"
            )


def fit_shard(arrays: Arrays, shard: Shard) -> tuple[list[Fit], float]:
    """The outcomes of a shard's members, in their order, and the seconds that it took."""
    started = time.perf_counter()
    fits = _fit(arrays, shard.members, shard.settings, shard.watch)
    return fits, time.perf_counter() - started


def _fit(
    arrays: Arrays, members: Sequence[Member], settings: Settings, watch: Watch | None = None
) -> list[Fit]:
    """As `loop.fit`; members have failed whose networks the memory does not hold, or of which what
    people brought fails: those of other trials are trained without them."""
    model, training = members[0].model, members[0].training
    weights = 0
    try:
        weights = arrays.architecture(model, training).size
        # In 32 bits, at least: a network at work, with its gradients, and what members keep.
        copies = 1 + CROSS_FIT_SHARES if settings.cross_fit else 1
        if 4 * weights * (copies * len(members) + 2) > files.memory_limit():
            raise MemoryError
        return fit(arrays, members, settings, watch)
    except Exception as error:
        reason = f"networks of {weights:,} weights do not fit into the memory"
        if not _is_out_of_memory(error):
            if not isinstance(error, UserError) and not any(map(_is_brought, members)):
                raise
            reason = str(error) if isinstance(error, UserError) else reason_of(error)
            count = len(arrays.splits)
            if len(members) > count:
                trials = [members[i : i + count] for i in range(0, len(members), count)]
                return [one for trial in trials for one in _fit(arrays, trial, settings)]
    outcomes = Outcomes(members, arrays.task.metrics, torch.empty(len(members), 0))
    outcomes.fail(range(len(members)), reason)
    return outcomes.fits()


def _is_brought(member: Member) -> bool:
    """Whether code that is not this program's or torch's own trains it."""
    schedules = parts_of(member.optimizer.arguments.get("schedule"))
    brought = (member.model, member.optimizer, member.training.loss, *schedules)
    return any(isinstance(each, Component) and is_path(each.path) for each in brought)


def _is_out_of_memory(error: Exception) -> bool:
    """torch has a class of error for GPUs only."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(words in str(error) for words in ("can't allocate memory", "not enough memory"))
