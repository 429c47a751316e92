"""What networks say of the rows that they were validated on, each row's network not chosen by it.

A member trains on its fold's training rows, but stops at the epoch that its validation rows like
best, so its scores on these are flattered, the more the more its losses go up and down: by a point
of accuracy at high learning rates and hardly at low ones. Here every part of the validation rows is
answered with the weights of the epoch that the other parts chose (`members.Fit.cross_fitted`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.models.calibration import SMALLEST
from pipeline.models.export import Ensemble
from pipeline.models.mlp import Architecture
from pipeline.training.batches import PARTS, Arrays, validation_parts
from pipeline.training.members import Fit

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Answers:
    """What was said of some rows.

    rows: [V] int64, no row twice.
    logits: [V, labels] float64, finite.
    y: [V] int64, what is true.
    """

    rows: npt.NDArray[np.int64]
    logits: Tensor
    y: Tensor

    @property
    def probabilities(self) -> Floats:
        """[V, labels]"""
        return np.asarray(torch.softmax(self.logits, dim=1).numpy())

    @property
    def accuracy(self) -> float:
        return float((self.logits.argmax(dim=1) == self.y).double().mean())

    @property
    def loss(self) -> float:
        """The mean cross entropy, nats."""
        return float(F.cross_entropy(self.logits, self.y))


def cross_fitted(fits: Sequence[Fit], arrays: Arrays, architecture: Architecture) -> list[Answers]:
    """For each split the answers of its network on its validation rows.

    Args:
        fits: [S], one for each split, trained with `Settings.cross_fit`.
    """
    networks = Ensemble(nn.Identity(), architecture, torch.cat([_weights(one) for one in fits]))
    found = []
    for place, (x, split) in enumerate(zip(arrays.x, arrays.splits, strict=True)):
        parts = validation_parts(split, arrays.y)
        with torch.no_grad():
            logits = [
                networks.logits(PARTS * place + part, x.index_select(0, torch.from_numpy(rows)))
                for part, rows in enumerate(parts)
            ]
        every = np.concatenate(parts)
        found.append(Answers(every, torch.cat(logits), arrays.y[torch.from_numpy(every)]))
    return found


def _weights(one: Fit) -> Tensor:
    assert one.cross_fitted is not None
    return one.cross_fitted


def together(answers: Sequence[Answers], y: Tensor) -> Answers:
    """The mean of the probabilities that were given for each row [N] of `y`; none was left out."""
    total = np.zeros((len(y), answers[0].logits.shape[1]))
    count = np.zeros((len(y), 1))
    for one in answers:
        total[one.rows] += one.probabilities
        count[one.rows] += 1
    mean = torch.from_numpy(total / count).clamp(min=SMALLEST)
    return Answers(np.arange(len(y)), mean.log(), y)
