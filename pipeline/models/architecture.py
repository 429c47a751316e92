"""What networks have in common, whoever wrote their class."""

from collections.abc import Hashable
from typing import Protocol

from torch import Tensor


class Architecture(Protocol):
    """A network without its weights: what K of them in a stack share.

    Attributes:
        size: P, the number of one network's parameters.
        shapes: those of its parameters, in their order in P.
        products: multiplications of one row's forward pass.
        activations: numbers that a row's forward pass makes, and `widest` of them in one layer.
        program: equal for architectures whose ensembles are one exported graph."""

    @property
    def size(self) -> int: ...
    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]: ...
    @property
    def products(self) -> int: ...
    @property
    def activations(self) -> int: ...
    @property
    def widest(self) -> int: ...
    @property
    def program(self) -> Hashable: ...
    def initial(self, count: int, seed: int) -> Tensor:
        """Weights to start from [count, P + Q] float64: parameters, then running statistics."""
