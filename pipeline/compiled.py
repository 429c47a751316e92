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

LEAST_MEMBERS = 2
"""torch makes a program of its own for one."""

Step = Callable[[StackedMLP, Any, Tensor, Tensor, Sequence[Tensor]], Tensor]


@functools.cache
def has_compiler() -> bool:
    """Whether there is a C++ compiler; says so once if there is none."""
    found = shutil.which(os.environ.get("CXX", "g++")) or shutil.which("clang++")
    if found is None:
        warnings.warn(
            "no C++ compiler was found: the training steps run uncompiled",
            stacklevel=2,
        )
    return found is not None


class Nothing:
    """An optimizer that leaves the weights alone."""

    def step(self) -> None:
        pass


def compiled(step: Step) -> Step:
    """The same step with its gradients computed by a compiled program.

    The optimizer runs after it, uncompiled: its rules were slower as programs.
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


def _compile(function: Callable[..., Any]) -> Callable[..., Any]:
    # One program for each architecture.
    torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)
    program: Callable[..., Any] = torch.compile(function, dynamic=False)
    return program
