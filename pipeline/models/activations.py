"""The activations, declared once: a further one is an entry here, and where the compiled program
shall train it too, in `training/native/kernel.cpp`.

Nothing here loads torch before it is used: a configuration that names one is checked without."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Activation:
    """A function of every number by itself.

    Attributes:
        name: that of `torch.nn.functional`, which computes it.
        slope: (torch.ops.aten, d, value) -> the gradient before the activation, from the one after
            it, d, and from the activation's output or input.
        by_output: whether `slope` wants the output. The input is then needed no more, so the
            forward pass overwrites it: `torch.ops.aten` must have the name with a `_`."""

    name: str
    slope: Callable[[Any, Tensor, Tensor], Tensor]
    by_output: bool = True

    def __call__(self, x: Tensor) -> Tensor:
        """The activation of x, in a new tensor."""
        from torch.nn import functional

        result: Tensor = getattr(functional, self.name)(x)
        return result

    def for_training(self) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]:
        """The forward pass, which may overwrite its input, and (d, value) -> the gradient before
        it."""
        import torch

        aten = torch.ops.aten
        forward = getattr(aten, f"{self.name}_" if self.by_output else self.name)
        return forward, lambda d, value: self.slope(aten, d, value)


ACTIVATIONS: Mapping[str, Activation] = {
    activation.name: activation
    for activation in (
        Activation("relu", lambda aten, d, out: aten.threshold_backward(d, out, 0)),
        Activation("leaky_relu", lambda aten, d, out: aten.leaky_relu_backward(d, out, 0.01, True)),
        Activation("elu", lambda aten, d, out: aten.elu_backward(d, 1, 1, 1, True, out)),
        Activation("gelu", lambda aten, d, x: aten.gelu_backward(d, x), by_output=False),
        Activation("silu", lambda aten, d, x: aten.silu_backward(d, x), by_output=False),
        Activation("tanh", lambda aten, d, out: aten.tanh_backward(d, out)),
        Activation("sigmoid", lambda aten, d, out: aten.sigmoid_backward(d, out)),
    )
}
