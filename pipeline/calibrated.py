"""Calibration inside the graph, and what members say of rows that they were not trained on."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from pipeline.batches import Arrays
from pipeline.decision import SMALLEST
from pipeline.model import ACTIVATIONS, Architecture, Ensemble


class CalibratedEnsemble(Ensemble):
    """An ensemble whose probabilities are tempered (`decision.tempered`), in the same graph."""

    temperature: Tensor

    def __init__(
        self, encoder: nn.Module, architecture: Architecture, states: Tensor, temperature: float
    ) -> None:
        super().__init__(encoder, architecture, states)
        self.register_buffer("temperature", torch.tensor(temperature, dtype=torch.float32))

    def forward(self, raw: Tensor) -> Tensor:
        """Probabilities [B, labels] float32 of raw rows [B, F] float64."""
        # The logarithm of 0 has no gradient: one such row would make all weights NaN in training.
        probabilities = super().forward(raw).clamp(min=SMALLEST)
        return torch.softmax(probabilities.log() / self.temperature, dim=1)


def out_of_fold(
    ensemble: Ensemble, arrays: Arrays
) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[Any]]]:
    """For each member k, one for each split: its validation rows [V] and what it says of them,
    probabilities [V, labels] float64."""
    found = []
    with torch.no_grad():
        for k, split in enumerate(arrays.splits):
            x = arrays.x[k].index_select(0, torch.from_numpy(split.validation))
            for i, (weight, bias) in enumerate(zip(ensemble.weights, ensemble.biases, strict=True)):
                x = ACTIVATIONS[ensemble.activation](x) if i > 0 else x
                x = torch.addmm(bias[k], x, weight[k])
            if x.shape[1] == 1:
                x = torch.cat((torch.zeros_like(x), x), dim=1)
            found.append((split.validation, torch.softmax(x.double(), dim=1).numpy()))
    return found


def mean_by_row(
    said: list[tuple[npt.NDArray[np.int64], npt.NDArray[Any]]], rows: int
) -> npt.NDArray[np.float64]:
    """The mean [rows, labels] of what was said of each row; every row was spoken of."""
    total = np.zeros((rows, said[0][1].shape[1]))
    count = np.zeros((rows, 1))
    for at, values in said:
        total[at] += values
        count[at] += 1
    return np.asarray(total / count)
