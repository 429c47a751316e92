"""How a group of members is cut into stacks, and the threads that train them side by side.

Small operations gain nothing from torch's own threads, and lose much where another process holds a
core: OpenMP's threads spin while they wait for each other in every operation. So each stack runs in
one thread, and as many stacks run at once as torch has threads. One stack alone has them all to
itself if its operations are large.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import TypeVar

import torch

from pipeline.models.mlp import Architecture

WORKING_SET = 2**23
"""Bytes that a stack touches in a step should be no more than this: a thread's share of the cache.
"""

LEAST_WORK = 2**25
"""Multiplications in a step below which a stack is not worth a thread of its own: what is saved is
less than what the threads take from each other while they dispatch the operations."""

LEAST_NATIVE_WORK = 2**25
"""Multiplications in an epoch from which a thread of the compiled program takes longer than what
Python does around it."""

LARGE_PRODUCT = 2**22
"""Multiplications in a step of one network from which torch's own threads help."""

HEAP = 31 * 2**20

In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True)
class Layout:
    """stacks: how many; workers: how many run at once; threads: torch's, within each."""

    stacks: int
    workers: int
    threads: int


def plan(
    members: int,
    architecture: Architecture,
    rows: int,
    device: torch.device,
) -> Layout:
    """The stacks for so many members, at batches of so many rows.

    It follows from the work and from the number of torch's threads, not from any measurement: the
    same work is done in the same way.
    """
    available = torch.get_num_threads()
    if device.type != "cpu":
        return Layout(1, 1, available)
    products = 3 * rows * architecture.products
    # Parameters, gradients and two states; activations, their gradients and a temporary.
    touched = 4 * (4 * architecture.size + 3 * rows * sum(architecture.widths))
    fitting = max(1, WORKING_SET // touched)
    useful = max(1, min(available, members, members * products // LEAST_WORK))
    stacks = max(useful, math.ceil(members / fitting))
    # No thread waits for another's last stack.
    stacks = min(members, math.ceil(stacks / useful) * useful)
    alone = useful == 1 and products >= LARGE_PRODUCT
    return Layout(stacks, useful, available if alone else 1)


def fills_the_threads(members: int, architecture: Architecture, rows: int) -> bool:
    """Whether members are too few for a thread each, and large enough for torch's own threads."""
    work = 3 * rows * architecture.products
    return members < torch.get_num_threads() and work >= LARGE_PRODUCT


def native_plan(members: int, architecture: Architecture, rows: int) -> Layout:
    """The same where the compiled program trains them, `rows` being those of an epoch.

    It takes a member after the other, so that only the number of threads matters.
    """
    work = members * rows * 3 * architecture.products
    stacks = max(1, min(torch.get_num_threads(), members, work // LEAST_NATIVE_WORK))
    return Layout(stacks, stacks, 1)


def together(layouts: Sequence[Layout]) -> Layout:
    """The layout of groups of stacks that run side by side."""
    if len(layouts) == 1:
        return layouts[0]
    stacks = sum(layout.stacks for layout in layouts)
    return Layout(stacks, min(stacks, torch.get_num_threads()), 1)


class Threads:
    """Runs a function on many stacks at once. torch's number of threads is set meanwhile."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> "Threads":
        self._before = torch.get_num_threads()
        if self._layout.threads != self._before:
            torch.set_num_threads(self._layout.threads)
        # The C library hands large blocks back to the system as soon as they are free, and a step
        # would fault their pages in again, at several times the cost of its arithmetic. Having seen
        # a block of this size freed, it keeps what is smaller (mallopt(3), M_MMAP_THRESHOLD).
        torch.empty(HEAP, dtype=torch.uint8)
        if self._layout.workers > 1:
            self._pool = ThreadPoolExecutor(self._layout.workers, "stack")
        return self

    def map(self, function: Callable[[In], Out], stacks: Iterable[In]) -> list[Out]:
        return list((self._pool.map if self._pool else map)(function, stacks))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        if self._layout.threads != self._before:
            torch.set_num_threads(self._before)
