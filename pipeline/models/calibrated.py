"""Calibration inside the graph."""

import torch
from torch import Tensor, nn

from pipeline.models.calibration import SMALLEST
from pipeline.models.export import Ensemble
from pipeline.models.mlp import Architecture


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
