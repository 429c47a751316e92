"""Networks to be named in a configuration: `model: {name: examples/networks.py:Lecture}`.

Each is a class of `torch.nn.Module` as one writes it for oneself. `inputs` and `outputs` come from
the data, everything else from the configuration.
"""

import torch
from torch import Tensor, nn


class Lecture(nn.Module):
    """Three linear layers for two labels, with a sigmoid at the end: to be trained by BCELoss."""

    def __init__(self, inputs: int, hidden: int = 16) -> None:
        super().__init__()
        self.fc1 = nn.Linear(inputs, hidden)
        self.fc2 = nn.Linear(hidden, hidden // 2)
        self.fc3 = nn.Linear(hidden // 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.relu(self.fc1(x))
        x = nn.functional.relu(self.fc2(x))
        return torch.sigmoid(self.fc3(x))


class Convolutions(nn.Module):
    """Two convolutions for small images [channels, height, width]."""

    def __init__(self, inputs: tuple[int, int, int], outputs: int, channels: int = 16) -> None:
        super().__init__()
        wide = 2 * channels
        self.features = nn.Sequential(
            nn.Conv2d(inputs[0], channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(channels, wide, 3, padding=1, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
        )
        self.head = nn.Linear(4 * wide, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).flatten(1))


class Recurrent(nn.Module):
    """A GRU that reads sequences [steps, features] and answers after the last step."""

    def __init__(self, inputs: tuple[int, int], outputs: int, units: int = 16) -> None:
        super().__init__()
        self.cell = nn.GRU(inputs[1], units, batch_first=True)
        self.head = nn.Linear(units, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(x)[0][:, -1])


def tabm(inputs: int, outputs: int, **arguments: object) -> nn.Module:
    """TabM (Gorishniy et al., 2025), an ensemble of k in one network: `pip install tabm`."""
    from tabm import TabM  # type: ignore[import-not-found]

    return TabM.make(n_num_features=inputs, d_out=outputs, **arguments)
