"""A network whose numbers are sines and cosines of learned frequencies (Gorishniy et al. 2022)."""

import math

import torch
from torch import Tensor, nn


class Periodic(nn.Module):
    """[rows, inputs] -> logits [rows, outputs]: of each input its sine and cosine at `frequencies`
    learned frequencies, which begin at a scale of `sigma`, a layer of `width` units of its own, and
    then a perceptron over all of them."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        hidden: tuple[int, ...] = (64, 32),
        frequencies: int = 24,
        width: int = 8,
        sigma: float = 0.1,
    ) -> None:
        super().__init__()
        self.frequencies = nn.Parameter(sigma * torch.randn(inputs, frequencies))
        bound = (2 * frequencies) ** -0.5
        self.weight = nn.Parameter(
            torch.empty(inputs, 2 * frequencies, width).uniform_(-bound, bound)
        )
        self.bias = nn.Parameter(torch.zeros(inputs, width))
        layers: list[nn.Module] = []
        before = inputs * width
        for units in hidden:
            layers += [nn.Linear(before, units), nn.ReLU()]
            before = units
        self.perceptron = nn.Sequential(*layers, nn.Linear(before, outputs))

    def forward(self, x: Tensor) -> Tensor:
        angles = 2 * math.pi * x.unsqueeze(-1) * self.frequencies
        waves = torch.cat([angles.sin(), angles.cos()], dim=-1)
        each = torch.relu(torch.einsum("bif,ifw->biw", waves, self.weight) + self.bias)
        return self.perceptron(each.flatten(1))
