"""Many networks of one shape as one: a stack of K members.

A *member* is one network, a *stack* is K members of one architecture. The parameters of a stack are
one tensor [K, P], a row for each member; layers are views of it.

While they train, activations are [K, units, rows]: the inner loops of the products then run over
the rows of a batch, which takes half the time where layers are narrow."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from pipeline.common.seeds import Purpose, seed64
from pipeline.models.activations import ACTIVATIONS

# Those of torch.nn.BatchNorm1d.
MOMENTUM, EPSILON = 0.1, 1e-5


@dataclass(frozen=True)
class MLP:
    """The shape of a network: linear layers with an activation between them.

    inputs: encoded columns D.
    hidden: the widths of the hidden layers; none is a linear model.
    outputs: how many there are (`Task.outputs`).
    activation: a key of `ACTIVATIONS`.
    batch_norm: normalise each hidden layer before its activation."""

    inputs: int
    hidden: tuple[int, ...]
    outputs: int
    activation: str = "relu"
    batch_norm: bool = False

    @property
    def widths(self) -> tuple[int, ...]:
        return (self.inputs, *self.hidden, self.outputs)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of one member's parameters in their order in P: for each layer a weight (out, in)
        and a bias (out,); with batch norm then a scale (out,) and a shift (out,), but for the last.
        """
        shapes: list[tuple[int, ...]] = []
        for layer, (before, after) in enumerate(pairwise(self.widths)):
            shapes += [(after, before), (after,)]
            if self.batch_norm and layer < len(self.hidden):
                shapes += [(after,), (after,)]
        return tuple(shapes)

    @property
    def size(self) -> int:
        """P, the number of one member's parameters."""
        return sum(math.prod(shape) for shape in self.shapes)

    @property
    def products(self) -> int:
        """Multiplications of one row's forward pass."""
        return sum(before * after for before, after in pairwise(self.widths))

    @property
    def activations(self) -> int:
        """Numbers that one row's forward pass makes."""
        return sum(self.widths)

    @property
    def widest(self) -> int:
        """The most of them in a layer."""
        return max(self.widths)

    @property
    def program(self) -> "MLP":
        """Ensembles are one graph with batch norm or without: it is folded into the layers."""
        return replace(self, batch_norm=False)

    def initial(self, count: int, seed: int) -> Tensor:
        """`count` rows of initial parameters [count, P], float64.

        Those of `torch.nn.Linear`: weights (kaiming_uniform_ with a = sqrt 5) and biases are
        uniform in +-1 / sqrt(fan in). Batch norm starts with scale 1 and shift 0."""
        generator = torch.Generator().manual_seed(seed64(seed, Purpose.INITIAL_WEIGHTS))
        draws = torch.rand((count, self.size), generator=generator, dtype=torch.float64)
        flat = draws.mul_(2).sub_(1)
        for layer in self.views(flat):
            bound = layer.weight.shape[2] ** -0.5
            layer.weight.mul_(bound)
            layer.bias.mul_(bound)
            if layer.scale is not None and layer.shift is not None:
                layer.scale.fill_(1)
                layer.shift.fill_(0)
        return flat

    @property
    def statistics(self) -> tuple[int, ...]:
        """Widths of a member's running statistics in their order in Q: mean, variance per layer."""
        return tuple(width for width in self.hidden for _ in range(2)) if self.batch_norm else ()

    def views(self, flat: Tensor) -> "list[Layer]":
        """The layers of a [K, P] tensor, as views of it."""
        parts = torch.split(flat, [math.prod(shape) for shape in self.shapes], dim=1)
        views = [
            part.view(len(flat), *shape) if len(shape) == 2 else part.unsqueeze(2)
            for part, shape in zip(parts, self.shapes, strict=True)
        ]
        each = 4 if self.batch_norm else 2  # and two of the last layer
        return [Layer(*views[i : i + each]) for i in range(0, len(views), each)]


@dataclass(frozen=True)
class Layer:
    """weight [K, out, in] and bias [K, out, 1]; batch norm's scale and shift [K, out, 1] if any."""

    weight: Tensor
    bias: Tensor
    scale: Tensor | None = None
    shift: Tensor | None = None


@dataclass
class Pass:
    """What the backward pass of a layer needs of the forward pass.

    x: what the layer was given; value: the activation's output, or its input where its slope needs
        that; mask: dropout's factors; norm: with batch norm what its backward pass is given after
        the gradient."""

    x: Tensor
    value: Tensor | None = None
    mask: Tensor | None = None
    norm: tuple[Any, ...] = ()


class StackedMLP:
    """K networks of one architecture, trained together.

    Attributes:
        parameters: [K, P]. The layers are views of it.
        gradients: [K, P]. `backward` adds to it.
        statistics: [K, Q], batch norm's running means and variances.
        dropout: [K, 1, 1], each member's rate in [0, 1)."""

    def __init__(self, architecture: MLP, parameters: Tensor, dropout: Tensor) -> None:
        # Running means start at 0, running variances at 1.
        start = [torch.full((w,), i % 2) for i, w in enumerate(architecture.statistics)]
        row = torch.cat([torch.empty(0), *start]).to(parameters)
        self.architecture = architecture
        self.parameters = parameters
        self.gradients = torch.zeros_like(parameters)
        self.statistics = row.repeat(len(parameters), 1)
        self.dropout = dropout.to(parameters).view(-1, 1, 1)
        self._activation = ACTIVATIONS[architecture.activation]
        self._activate = self._activation.in_training
        self._passes: list[Pass] = []
        self._bind()

    def _bind(self) -> None:
        self._layers = self.architecture.views(self.parameters)
        widths = list(self.architecture.statistics)
        parts = torch.split(self.statistics.unsqueeze(2), widths, dim=1)
        self._running = list(zip(parts[::2], parts[1::2], strict=True))

    def __call__(
        self, x: Tensor, *, training: bool = False, draws: Sequence[Tensor] = ()
    ) -> Tensor:
        """Logits [K, outputs, B] of inputs [K, D, B].

        Args:
            training: normalise by the batch and update the running statistics, drop units, and
                remember what `backward` needs.
            draws: when training, uniform draws in [0, 1), none or for each hidden layer
                [K, units, B]; a unit whose draw is below its member's rate is dropped."""
        passes = []
        for i, layer in enumerate(self._layers):
            forward = Pass(x)
            passes.append(forward)
            x = torch.baddbmm(layer.bias, layer.weight, x)
            if i == len(self._layers) - 1:
                break
            if layer.scale is not None and layer.shift is not None:
                x, forward.norm = self._normalised(x, i, layer.scale, layer.shift, training)
            before, x = x, self._activate(x)
            forward.value = x if self._activation.by_output else before
            if training and draws:
                forward.mask = (draws[i] >= self.dropout) / (1 - self.dropout)
                x = x * forward.mask
        if training:
            self._passes = passes
        return x

    def _normalised(
        self, x: Tensor, layer: int, scale: Tensor, shift: Tensor, training: bool
    ) -> tuple[Tensor, tuple[Any, ...]]:
        """Each unit [K, H, B] of each member as a channel of torch's batch norm; what that keeps
        for its backward pass."""
        rows = x.view(1, -1, x.shape[2])
        mean, variance = (running.flatten().clone() for running in self._running[layer])
        given = rows, scale.flatten(), shift.flatten(), mean, variance, training
        y, *saved = torch.native_batch_norm(*given, MOMENTUM, EPSILON)
        if training and x.shape[2] > 1:  # one row alone has no variance of the unbiased kind
            for running, new in zip(self._running[layer], (mean, variance), strict=True):
                running.copy_(new.view_as(running))
        kept = rows, scale.flatten(), mean, variance, *saved, True, EPSILON, [True] * 3
        return y.view_as(x), kept

    def backward(self, d: Tensor) -> None:
        """Add the members' gradients to `gradients`, after a call with `training`.

        Args:
            d: [K, outputs, B], the gradient of each member's loss with respect to its logits
                (`Task.gradients`)."""
        parts: list[Tensor] = []
        for i in reversed(range(len(self._layers))):
            forward, layer = self._passes[i], self._layers[i]
            if forward.value is not None:
                if forward.mask is not None:
                    d = d * forward.mask
                d = self._activation.slope(d, forward.value)
            if forward.norm:
                members, shape = len(d), d.shape
                given = d.reshape(1, -1, shape[2]), *forward.norm
                d, *norm = torch.ops.aten.native_batch_norm_backward(*given)
                d, parts = d.view(shape), [*(each.view(members, -1) for each in norm), *parts]
            # Both are the same product; the one whose rows are long is up to three times faster.
            if layer.weight.shape[1] > layer.weight.shape[2]:
                weight = torch.bmm(forward.x, d.mT).mT
            else:
                weight = torch.bmm(d, forward.x.mT)
            parts = [weight.flatten(1), d.sum(dim=2), *parts]
            if i > 0:
                d = torch.bmm(layer.weight.mT, d)
        self.gradients.add_(torch.cat(parts, dim=1))
        self._passes = []

    def state(self, index: Tensor) -> Tensor:
        """[k, P + Q]: the parameters and running statistics of the members at these positions."""
        parts = (self.parameters.index_select(0, index), self.statistics.index_select(0, index))
        return torch.cat(parts, dim=1)

    def keep(self, index: Tensor) -> None:
        """Go on with the members of these positions [k]; the others leave."""
        self.parameters = self.parameters.index_select(0, index)
        self.gradients = self.gradients.index_select(0, index)
        self.statistics = self.statistics.index_select(0, index)
        self.dropout = self.dropout.index_select(0, index)
        self._bind()
