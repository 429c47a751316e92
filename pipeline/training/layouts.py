"""How members are trained on one machine: in how many stacks, and in how many threads.

Which members make a stack follows from the work alone, so that they have the same bits on every
number of threads, and as a shard on another machine. Small operations gain nothing from torch's own
threads, and lose much where another process holds a core: OpenMP's threads spin while they wait for
each other in every operation. So each stack runs in one thread, and as many stacks run at once as
torch has threads. One network alone has them all to itself if its operations are large."""

import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pipeline.models.architecture import Architecture

WORKING_SET = 2**23
"""A stack should touch no more bytes in a step than these: a thread's share of the cache."""

LEAST_WORK = 2**25
"""Multiplications in a step below which a stack is not worth a thread of its own: what is saved is
less than what the threads take from each other while they dispatch the operations."""

LEAST_NATIVE_WORK = 2**25
"""Multiplications in an epoch from which a thread of the compiled program takes longer than what
Python does around it."""

LARGE_PRODUCT = 2**22
"""Multiplications in a step of one network from which torch's own threads help."""

LARGE_NETWORK = 2**19
"""Multiplications for a row from which torch's products are faster than the compiled program's."""

SHARD_WORK = 2**33
"""Multiplications that a shard is worth at least: a quarter of a second, many times what it costs
to hand it to another process, and to have fewer members in a stack."""

HEAP = 31 * 2**20


@dataclass(frozen=True)
class Layout:
    """stacks: how many; workers: how many run at once; threads: torch's, within each."""

    stacks: int
    workers: int
    threads: int


def trials_together(splits: int) -> int:
    """Trials, a member for each split, that are trained at once: what is lost at most where they
    are cut short. With five splits 8, or 40 members."""
    return max(8, 32 // splits)


def whole_trials(members: int, splits: int, work: int, least: int) -> list[range]:
    """Members' positions in runs of whole trials, a member for each split, each run worth `least`;
    `work` is that of a member. A run that is taken by itself is one run again."""
    trials = -(-members // splits)
    count = max(1, min(trials, members * work // least))
    parts = np.array_split(np.arange(trials), count)
    return [range(part[0] * splits, min(members, (part[-1] + 1) * splits)) for part in parts]


def plan(members: int, architecture: Architecture, rows: int, device: torch.device) -> Layout:
    """The stacks for so many members, at batches of so many rows."""
    available = torch.get_num_threads()
    if device.type != "cpu":
        return Layout(1, 1, available)
    products = 3 * rows * architecture.products
    # Parameters, gradients and two states; activations, their gradients and a temporary.
    touched = 4 * (4 * architecture.size + 3 * rows * architecture.activations)
    fitting = max(1, WORKING_SET // touched)
    useful = max(1, min(members, members * products // LEAST_WORK))
    stacks = max(useful, math.ceil(members / fitting))
    alone = members == 1 and products >= LARGE_PRODUCT
    return Layout(stacks, min(available, useful), available if alone else 1)


def native_plan(members: int, architecture: Architecture, rows: int) -> Layout:
    """The same where the compiled program trains them, `rows` being those of an epoch.

    It takes a member after the other, so that only the number of threads matters."""
    work = members * rows * 3 * architecture.products
    stacks = max(1, min(torch.get_num_threads(), members, work // LEAST_NATIVE_WORK))
    return Layout(stacks, stacks, 1)


def apart(
    members: int, architecture: Architecture, rows: int, device: torch.device, in_threads: bool
) -> Layout:
    """The same where each member is a stack of its own."""
    alone = plan(1, architecture, rows, device)
    at_once = in_threads and device.type == "cpu"
    workers = min(members, torch.get_num_threads()) if at_once else 1
    return Layout(members, workers, alone.threads if members == 1 else 1)


@contextmanager
def threads(layout: Layout) -> Iterator[Callable[..., Iterable[Any]]]:
    """A `map` that runs a function on many stacks at once. torch's number of threads is set
    meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(layout.threads)
    # The C library hands large blocks back to the system as soon as they are free, and a step would
    # fault their pages in again, at several times the cost of its arithmetic. Having seen a block
    # of this size freed, it keeps what is smaller (mallopt(3), M_MMAP_THRESHOLD).
    torch.empty(HEAP, dtype=torch.uint8)
    pool = ThreadPoolExecutor(layout.workers, "stack") if layout.workers > 1 else None
    try:
        yield pool.map if pool else map
    finally:
        if pool:
            pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)
