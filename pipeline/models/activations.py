"""The activations: a further one is an entry here, its name in `config/sections.py`, and where the
compiled program shall train it too, in `training/native/kernel.cpp`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

aten = torch.ops.aten


@dataclass(frozen=True)
class Activation:
    """A function of every number by itself.

    Attributes:
        name: that of `torch.nn.functional`, which computes it.
        slope: (d, value) -> the gradient before the activation, from the one after it, d, and from
            the activation's output or input.
        by_output: whether `slope` wants the output. The input is then needed no more, so the
            forward pass overwrites it: `torch.ops.aten` must have the name with a `_`."""

    name: str
    slope: Callable[[Tensor, Tensor], Tensor]
    by_output: bool = True

    def __call__(self, x: Tensor) -> Tensor:
        """The activation of x, in a new tensor."""
        result: Tensor = getattr(functional, self.name)(x)
        return result

    @property
    def in_training(self) -> Callable[[Tensor], Tensor]:
        """The activation of x, which it may overwrite."""
        function: Callable[[Tensor], Tensor]
        function = getattr(aten, f"{self.name}_" if self.by_output else self.name)
        return function


ACTIVATIONS: Mapping[str, Activation] = {
    activation.name: activation
    for activation in (
        Activation("relu", lambda d, out: aten.threshold_backward(d, out, 0)),
        Activation("leaky_relu", lambda d, out: aten.leaky_relu_backward(d, out, 0.01, True)),
        Activation("elu", lambda d, out: aten.elu_backward(d, 1, 1, 1, True, out)),
        Activation("gelu", lambda d, x: aten.gelu_backward(d, x), by_output=False),
        Activation("silu", lambda d, x: aten.silu_backward(d, x), by_output=False),
        Activation("tanh", lambda d, out: aten.tanh_backward(d, out)),
        Activation("sigmoid", lambda d, out: aten.sigmoid_backward(d, out)),
    )
}
