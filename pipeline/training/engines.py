"""Which way is faster for somebody's networks: many in one program, or one after the other.

It depends on the layers, their widths and the machine, by a factor of five in either direction, so
the first steps are timed both ways. The answer is kept, for this machine and with the search: the
two ways differ by rounding, and the same search shall have the same bits."""

import hashlib
import json
import math
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pipeline.common import files
from pipeline.common.errors import UserError
from pipeline.common.imports import reason_of
from pipeline.models.module import ModuleArchitecture, stackable_attention
from pipeline.training.batches import Batches, Rows
from pipeline.training.layouts import Layout, plan, threads

Places = npt.NDArray[np.intp]
Made = Callable[[str, Places], Any]
"""(engine, members' positions) -> a stack."""

Step = Callable[[Any, Any], torch.Tensor]
"""A step of a stack on a batch of each member; losses [K]."""

COMPILED, STACKED = "compiled program", "stacked"
ONE_BY_ONE, IN_THREADS = "one by one", "one by one, in threads"

TIMED_STEPS = 3
TOLERANCE = 1e-3
"""How far gradients of both ways may lie apart, as a part of the largest."""


def _tell_nobody(key: str, engine: str) -> None:
    pass


class Engines:
    """The engines of a search's architectures.

    Args:
        known: by key, what the search began with.
        note: called with the key and the engine of each that is new."""

    def __init__(
        self,
        known: Mapping[str, str] | None = None,
        note: Callable[[str, str], None] = _tell_nobody,
    ) -> None:
        self._known, self._note = dict(known or {}), note

    def __getstate__(self) -> dict[str, Any]:
        """For another process: what was chosen; nobody is told there."""
        return {"_known": self._known, "_note": _tell_nobody}

    def choose(
        self, rows: Rows, made: Made, architecture: ModuleArchitecture, places: Places, step: Step
    ) -> str:
        """`STACKED`, `ONE_BY_ONE` or `IN_THREADS`, for the members at these places [K]."""
        key = _key(architecture, rows)
        if len(places) == 1 and key not in self._known:
            return ONE_BY_ONE
        if key not in self._known:
            file = kept_in()
            engine = _read(file).get(key) or _fastest(rows, made, architecture, places, step)
            with suppress(OSError):  # of a home that cannot be written to: the search remembers it
                file.parent.mkdir(parents=True, exist_ok=True)
                with files.whole(file) as temporary:
                    temporary.write_text(json.dumps(_read(file) | {key: engine}, indent=1))
            self._known[key] = engine
            self._note(key, engine)
        return self._known[key]


def kept_in() -> Path:
    """Where this machine keeps what it found out."""
    return files.cache_folder() / f"engines-{platform.node()}-{os.cpu_count()}.json"


def _key(architecture: ModuleArchitecture, rows: Rows) -> str:
    """16 hexadecimal digits of what decides how fast both ways are, but for the machine: what one
    has chosen holds for all that train with it."""
    work = architecture.program, rows.batch_rows, str(rows.dtype), str(rows.x.device)
    return hashlib.sha256(repr((torch.__version__, work)).encode()).hexdigest()[:16]


def _read(file: Path) -> dict[str, str]:
    try:
        content = json.loads(file.read_text())
        return {str(key): str(engine) for key, engine in content.items()}
    except (OSError, ValueError, AttributeError):
        return {}


def _fastest(
    rows: Rows, made: Made, architecture: ModuleArchitecture, places: Places, step: Step
) -> str:
    """The fastest way for K members; not as one program where that does not work, or gives other
    gradients."""
    layout = plan(len(places), architecture, rows.batch_rows, rows.x.device)
    workers = torch.get_num_threads()
    alone = [made(ONE_BY_ONE, places[k : k + 1]) for k in range(workers)]
    try:
        in_turn, expected = _timed(rows, alone[:1], step, Layout(1, 1, 1))
    except RuntimeError as error:
        raise UserError(f"model: it fails in training: {reason_of(error)}") from error
    seconds = {ONE_BY_ONE: in_turn * len(places)}
    if 1 < workers <= len(places):
        in_threads, _ = _timed(rows, alone, step, Layout(workers, workers, 1))
        seconds[IN_THREADS] = in_threads * len(places) / workers
    try:
        stacks = [made(STACKED, k) for k in np.array_split(places, layout.stacks)]
        together, gradients = _timed(rows, stacks, step, layout)
        if (gradients - expected).abs().max() <= TOLERANCE * expected.abs().max():
            seconds[STACKED] = together
    except (RuntimeError, NotImplementedError, TypeError, ValueError):
        pass
    return min(seconds, key=lambda engine: seconds[engine])


def _timed(
    rows: Rows, stacks: Sequence[Any], step: Step, layout: Layout
) -> tuple[float, torch.Tensor]:
    """Seconds of a step of all stacks, the least of some, and the gradients [P] of the first step
    of the first member."""
    coming = []
    for stack in stacks:
        epoch = Batches(rows, stack.split, stack.random, stack.units, stack.rows_last)
        coming.append(chain.from_iterable(repeat(epoch)))
        stack.optimizer.start_epoch()

    @torch.no_grad()
    def make(place: int) -> None:
        step(stacks[place], next(coming[place])).sum().item()

    gradients, seconds = torch.empty(0), math.inf
    with threads(layout) as at_once, stackable_attention(stacks[0].engine == STACKED):
        for number in range(1 + TIMED_STEPS):
            started = time.perf_counter()
            list(at_once(make, range(len(stacks))))
            if number == 0:
                gradients = stacks[0].network.gradients[0].clone()
            else:
                seconds = min(seconds, time.perf_counter() - started)
    return seconds, gradients
