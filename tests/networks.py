"""Networks as people bring them, each of another kind of layer, named by their path in tests."""

from pathlib import Path

import torch
from torch import Tensor, nn


def path(name: str) -> str:
    """The path of a network of this file."""
    return f"{Path(__file__).resolve()}:{name}"


def perceptron(inputs: int, outputs: int, hidden: int = 6) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


def normalised(inputs: int, outputs: int, hidden: int = 6) -> nn.Module:
    return nn.Sequential(
        nn.Linear(inputs, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.Tanh(),
        nn.Linear(hidden, outputs),
    )


def layer_normalised(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 6), nn.LayerNorm(6), nn.GELU(), nn.Linear(6, outputs))


def dropping(inputs: int, outputs: int, dropout: float = 0.3) -> nn.Module:
    return nn.Sequential(
        nn.Linear(inputs, 8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, outputs)
    )


def regularised(inputs: int, outputs: int, hidden: int = 6) -> nn.Module:
    """With batch norm and dropout."""
    return nn.Sequential(
        nn.Linear(inputs, hidden),
        nn.BatchNorm1d(hidden),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(hidden, outputs),
    )


def logarithms(inputs: int, outputs: int) -> nn.Module:
    """Of probabilities, for NLLLoss."""
    return nn.Sequential(nn.Linear(inputs, outputs), nn.LogSoftmax(dim=1))


class Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, blocks: int = 2) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(inputs, inputs) for _ in range(blocks))
        self.head = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = x + torch.tanh(block(x))
        return self.head(x)


class Lecture(nn.Module):
    """Ends with a sigmoid, for BCELoss."""

    def __init__(self, inputs: int, hidden: int = 8) -> None:
        super().__init__()
        self.fc1 = nn.Linear(inputs, 2 * hidden)
        self.fc2 = nn.Linear(2 * hidden, hidden)
        self.fc3 = nn.Linear(hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.relu(self.fc1(x))
        x = nn.functional.relu(self.fc2(x))
        return torch.sigmoid(self.fc3(x))


def convolution1d(inputs: tuple[int, ...], outputs: int) -> nn.Module:
    channels, length = inputs
    return nn.Sequential(
        nn.Conv1d(channels, 4, 3, padding=1),
        nn.ReLU(),
        nn.AvgPool1d(2),
        nn.Flatten(),
        nn.Linear(4 * (length // 2), outputs),
    )


def convolution2d(inputs: tuple[int, ...], outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs[0], 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, padding=1),
        nn.SiLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, outputs),
    )


class Words(nn.Module):
    """Rows of ids, from 0 to 19."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 4)
        self.head = nn.Linear(4, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.embedding(x).mean(dim=1))


class Recurrent(nn.Module):
    """Rows [steps, features]."""

    def __init__(self, inputs: tuple[int, ...], outputs: int, cell: str = "GRU") -> None:
        super().__init__()
        self.cell = getattr(nn, cell)(inputs[1], 5, batch_first=True)
        self.head = nn.Linear(5, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(x)[0][:, -1])


class Attention(nn.Module):
    def __init__(self, inputs: tuple[int, ...], outputs: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(inputs[1], 2, dropout, batch_first=True)
        self.head = nn.Linear(inputs[1], outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.attention(x, x, x, need_weights=False)[0].mean(dim=1))


class Transformer(nn.Module):
    def __init__(self, inputs: tuple[int, ...], outputs: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(inputs[1], 2, 8, dropout, batch_first=True)
        self.head = nn.Linear(inputs[1], outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x).mean(dim=1))


class Implicit(nn.Module):
    """An ensemble of k in one network: outputs [rows, k, outputs]."""

    def __init__(self, inputs: int, outputs: int, k: int = 3) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(k, inputs, outputs) / inputs**0.5)

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("bi,kio->bko", x, self.weight)


class Noisy(nn.Module):
    """Draws in another way than dropout."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.head = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            x = x + 0.1 * torch.randn_like(x)
        return self.head(x)


class Branching(nn.Module):
    """Whose way depends on what stands in the rows."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.head = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        outputs = self.head(x)
        if outputs.sum() > 0:
            return outputs
        return -outputs


def brier(outputs: Tensor, y: Tensor) -> Tensor:
    """A loss of somebody's own: the squared error of the probabilities."""
    if outputs.dim() == 1:
        return (torch.sigmoid(outputs) - y) ** 2
    one_hot = nn.functional.one_hot(y, outputs.shape[1])
    return ((outputs.softmax(dim=1) - one_hot) ** 2).sum(dim=1)
