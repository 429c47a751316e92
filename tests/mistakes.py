"""What people get wrong, named by its path in tests: networks, data, losses, optimizers."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tests.networks import perceptron

NUMBER = 3


def too_wide(inputs: int, outputs: int, width: int) -> nn.Module:
    return nn.Linear(inputs, outputs + width)


class Raises(nn.Module):
    def __init__(self, hidden: int = 3) -> None:
        super().__init__()
        raise ValueError("hidden must be even")


def no_module() -> int:
    return 7


class Weightless(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, :3]


class Wrapping(nn.Module):
    """Does something to the outputs of a network that is right."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.network = perceptron(inputs, outputs)


class Fails(Wrapping):
    def forward(self, x: Tensor) -> Tensor:
        return self.network(x) @ x


class NumberForAll(Wrapping):
    def forward(self, x: Tensor) -> Tensor:
        return self.network(x).sum()


class AlwaysDrops(Wrapping):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(self.network(x), 0.5, training=True)


class Squeezes(Wrapping):
    def forward(self, x: Tensor) -> Tensor:
        return self.network(x).squeeze()


class Pair(Wrapping):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.network(x), x


class Integers(Wrapping):
    def forward(self, x: Tensor) -> Tensor:
        return self.network(x).argmax(1)


class Changes(Wrapping):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.network[0].weight.add_(1)
        return self.network(x)


class Probabilities(Wrapping):
    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(self.network(x), dim=1)


class Complex(Wrapping):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.wave = nn.Parameter(torch.randn(2, dtype=torch.cfloat))

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)


def parallel(inputs: int, outputs: int) -> nn.Module:
    return nn.DataParallel(nn.Linear(inputs, outputs))


def odd_or_even(inputs: int, outputs: int, hidden: int) -> nn.Module:
    """Right at both ends of a range, and wrong between them."""
    if hidden == 3:
        raise ValueError("hidden must be even")
    return perceptron(inputs, outputs, hidden)


def of_all_pairs(outputs: Tensor, y: Tensor) -> Tensor:
    return (outputs[:, None, 0] - y[None, :]) ** 2


def constant(outputs: Tensor, y: Tensor) -> Tensor:
    return torch.ones(len(y))


class NoOptimizer:
    def __init__(self, params: Any, lr: float = 0.1) -> None: ...


class NoStep(torch.optim.Optimizer):
    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, {"lr": lr})

    def step(self, closure: Any = None) -> None:
        raise RuntimeError("not written yet")


class NoRate(torch.optim.Optimizer):
    def __init__(self, params: Any) -> None:
        super().__init__(params, {})

    def step(self, closure: Any = None) -> None: ...


def negative(step: int) -> float:
    """For LambdaLR."""
    return -1.0


def number() -> int:
    return 3


def unequal() -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((10, 3)), np.arange(9) % 2


def texts() -> tuple[np.ndarray, np.ndarray]:
    return np.array([["a"]] * 10), np.arange(10) % 2


def gaps() -> tuple[np.ndarray, np.ndarray]:
    return np.full((40, 3), np.nan), np.arange(40) % 2


def one_label() -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((40, 3)), np.zeros(40, int)


def without_disk() -> tuple[np.ndarray, np.ndarray]:
    raise OSError("the disk is away")


def rows(count: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Nothing wrong with these."""
    return np.random.default_rng(0).normal(size=(count, 3)), np.arange(count) % 2
