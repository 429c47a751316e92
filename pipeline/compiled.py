"""A step of a stack under torch.compile: one program for any number of members.

The program depends on the architecture and on the rows of a batch, not on how many members there
are or on what optimizers they have, so that a search needs one for each shape of network, and one
for each update rule. Compiling takes seconds the first time; torch keeps the result on disk.
"""

import functools
import os
import shutil
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from pipeline.model import Architecture, StackedMLP

START_UP = 60.0
"""Seconds of work, as estimated, from which compiling pays: it saves a third or more of them and
costs 5 to 20."""

LEAST_MEMBERS = 2
"""torch makes a program of its own for one."""

Step = Callable[[StackedMLP, Any, Tensor, Tensor, Sequence[Tensor]], Tensor]


def seconds(
    architecture: Architecture, members: int, rows: int, batches: int, epochs: int, threads: int
) -> float:
    """What the work would take without compiling, roughly: a function of the work alone."""
    pairs = zip(architecture.widths, architecture.widths[1:], strict=False)
    products = 3 * rows * sum(before * after for before, after in pairs)
    step = 5e-4 + members * (products / 2e10 + 4 * architecture.size / 2e9 + 4e-6) / threads
    return epochs * batches * step


def pays(estimate: float, architecture: Architecture, device: torch.device) -> bool:
    """Whether to compile. Wide networks spend their time in products that it does not touch."""
    small = max(architecture.widths) <= 64
    return device.type == "cpu" and small and estimate >= START_UP and has_compiler()


@functools.cache
def has_compiler() -> bool:
    """Whether there is a C++ compiler; says so once if there is none."""
    found = shutil.which(os.environ.get("CXX", "g++")) or shutil.which("clang++")
    if found is None:
        warnings.warn(
            "no C++ compiler was found: the training steps run uncompiled, about half as fast",
            stacklevel=2,
        )
    return found is not None


class Nothing:
    """An optimizer that leaves the weights alone."""

    def step(self) -> None:
        pass


def compiled(step: Step) -> Step:
    """The same step with its gradients computed by a compiled program.

    The optimizer runs after it: it compiles its update rules itself (`compiled_rule`).
    """
    program, first = _program(step), True

    def run(
        network: StackedMLP, optimizer: Any, x: Tensor, y: Tensor, draws: Sequence[Tensor]
    ) -> Tensor:
        nonlocal first
        if len(network) < LEAST_MEMBERS:
            return step(network, optimizer, x, y, draws)
        tensors = (network.parameters, network.gradients, network.statistics, network.dropout, x, y)
        if first:  # A program that is there takes unmarked tensors, and marking costs time.
            for tensor in (*tensors, *draws):
                torch._dynamo.mark_dynamic(tensor, 0)
            first = False
        losses: Tensor = program(network.architecture, *tensors, list(draws))
        optimizer.step()
        return losses

    return run


@functools.cache
def _program(step: Step) -> Callable[..., Tensor]:
    def gradients(
        architecture: Architecture,
        parameters: Tensor,
        total: Tensor,
        statistics: Tensor,
        dropout: Tensor,
        x: Tensor,
        y: Tensor,
        draws: list[Tensor],
    ) -> Tensor:
        network = StackedMLP(architecture, parameters, dropout, statistics, total)
        return step(network, Nothing(), x, y, draws)

    return _compile(gradients)


def compiled_rule(update: Callable[..., None]) -> Callable[..., None]:
    """An update rule as one program for any number of members and parameters."""
    program, first = _rule_program(update), True

    def run(p: Tensor, g: Tensor, t: Tensor, **rows: Any) -> None:
        nonlocal first
        if len(p) < LEAST_MEMBERS:
            update(p, g, t, **rows)
            return
        if first:
            for value in (p, g, *rows.values()):
                if isinstance(value, Tensor):
                    torch._dynamo.mark_dynamic(value, 0)
            first = False
        program(p, g, t, **rows)

    return run


@functools.cache
def _rule_program(update: Callable[..., None]) -> Callable[..., None]:
    return _compile(update)


def _compile(function: Callable[..., Any]) -> Callable[..., Any]:
    # One program for each architecture and each combination of a rule's terms.
    torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)
    program: Callable[..., Any] = torch.compile(function, dynamic=False)
    return program
