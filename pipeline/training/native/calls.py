"""Calls of the compiled program on a stack's tensors. The interpreter is free meanwhile."""

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pipeline.models.mlp import ACTIVATIONS, Architecture
from pipeline.optimizers.stacked import StackedGroup
from pipeline.training.native import codegen as rules
from pipeline.training.native.build import library

MAX_LAYERS = 64
# The order of `Activation` in kernel.cpp.
_NUMBERS = ("relu", "leaky_relu", "elu", "gelu", "silu", "tanh", "sigmoid")
assert set(_NUMBERS) == set(ACTIVATIONS)


class Kernel:
    """The compiled program for one architecture; float32, contiguous tensors on the CPU.

    Attributes:
        width: columns of the rows that it is given: the inputs, padded with zeros.
    """

    @classmethod
    def get(cls, architecture: Architecture) -> "Kernel | None":
        """None where there is no compiler. For an architecture that `can_train`."""
        found = library()
        return None if found is None else cls(found, architecture)

    def __init__(self, found: ctypes.CDLL, architecture: Architecture) -> None:
        widths = architecture.widths
        lanes = found.lanes()
        self.width = -(-widths[0] // lanes) * lanes
        self._library = found
        self._outputs = widths[-1]
        self._shape = (
            ctypes.c_int64(len(widths) - 1),
            (ctypes.c_int64 * len(widths))(*widths),
            ctypes.c_int64(_NUMBERS.index(architecture.activation)),
        )
        self._variants = {variant: i for i, variant in enumerate(rules.variants())}

    def train(
        self,
        group: StackedGroup,
        split: Tensor,
        dropout: Tensor,
        batches: tuple[Tensor, Tensor, Sequence[Tensor]],
        losses: Tensor,
        gradient_sums: Tensor,
    ) -> None:
        """A step on each of n batches, for the k members of a group.

        Args:
            split: [k] int64, each member's split.
            dropout: [k] float32, rates.
            batches: x [n, S, B, width], y [n, S, B] int64 and dropout's draws, none or for each
                hidden layer [n, S, B, units].
            losses: [k] float64; each member's losses in the batches are added.
            gradient_sums: [k] float64; NaN is added if a gradient was not finite, else 0.
        """
        x, y, draws = batches
        variant = rules.Variant(group.name, group.flags, group.has_momentum)
        wanted = rules.inputs(variant)
        states = [state for name in wanted.states if (state := group.states[name]) is not None]
        hyper = group.columns(wanted.hyper)
        count, splits, rows, _ = x.shape
        failed = self._library.train(
            *self._shape,
            ctypes.c_int64(len(split)),
            ctypes.c_int64(count),
            ctypes.c_int64(rows),
            ctypes.c_int64(splits),
            _pointer(x),
            _pointer(y),
            _pointers(draws) if draws else None,
            _pointer(split),
            _pointer(dropout),
            ctypes.c_int64(self._variants[variant]),
            ctypes.c_double(group.steps),
            _pointer(group.parameters),
            _pointers(states),
            (ctypes.c_int64 * len(states))(*(s.stride(0) * s.element_size() for s in states)),
            ctypes.c_int64(len(states)),
            _pointer(hyper),
            ctypes.c_int64(hyper.shape[1]),
            _pointer(losses),
            _pointer(gradient_sums),
        )
        if failed:
            raise MemoryError("no memory for a stack's training")
        group.steps += count

    def logits(self, parameters: Tensor, split: Tensor, x: Tensor) -> Tensor:
        """Logits [K, outputs, V] of the rows x [S, V, width], each member those of its split."""
        members, rows = len(split), x.shape[1]
        out = torch.empty((members, rows, self._outputs), dtype=torch.float32)
        failed = self._library.score(
            *self._shape,
            ctypes.c_int64(members),
            ctypes.c_int64(rows),
            ctypes.c_int64(x.stride(0) // self.width),
            _pointer(x),
            _pointer(split),
            _pointer(parameters),
            _pointer(out),
        )
        if failed:
            raise MemoryError("no memory for a stack's validation")
        return out.view(members, 1, rows) if self._outputs == 1 else out.mT


def can_train(architecture: Architecture) -> bool:
    """Whether the program has all that the architecture needs: not yet batch norm."""
    return not architecture.batch_norm and len(architecture.widths) <= MAX_LAYERS


def _pointer(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def _pointers(tensors: Sequence[Tensor]) -> Any:
    return (ctypes.c_void_p * len(tensors))(*(tensor.data_ptr() for tensor in tensors))
