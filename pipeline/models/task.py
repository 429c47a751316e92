"""Tasks: what a target is, and so what networks put out for it and what their loss is."""

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.models.metrics import METRICS, Metric


class Task(Protocol):
    """What a target is. The second dimension of `outputs` is that of a network's outputs; `y` has
    the others. A stack's are [K, outputs, B] and [K, B], a network's [B, outputs] and [B].

    Attributes:
        outputs: how many a network has for a row.
        metrics: what is measured on validation rows after every epoch.
    """

    @property
    def outputs(self) -> int: ...
    @property
    def metrics(self) -> tuple[Metric, ...]: ...
    def losses(self, outputs: Tensor, y: Tensor) -> Tensor:
        """The loss of each row, as `y`."""

    def gradients(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Of each member's mean loss over its rows: [K, outputs, B] as `outputs`."""

    def logits(self, outputs: Tensor) -> Tensor:
        """[K, B, C] for C labels, as metrics take them."""

    def predictions(self, outputs: Tensor) -> Tensor:
        """What is predicted for each row, of the kind of `y`."""


@dataclass(frozen=True)
class Classification:
    """Cross entropy (nats) and accuracy of label ids, int64 from 0 to `labels` - 1.

    With two labels a network has one output: the logit of label 1 against label 0, whose own is 0.
    """

    labels: int
    metrics: tuple[Metric, ...] = tuple(METRICS.values())

    @property
    def outputs(self) -> int:
        return 1 if self.labels == 2 else self.labels

    def losses(self, outputs: Tensor, y: Tensor) -> Tensor:
        if self.outputs == 1:
            target = y.to(outputs.dtype)
            return F.binary_cross_entropy_with_logits(outputs.squeeze(1), target, reduction="none")
        return F.cross_entropy(outputs, y, reduction="none")

    def gradients(self, outputs: Tensor, y: Tensor) -> Tensor:
        rows = y.shape[1]
        if self.outputs == 1:
            return (torch.sigmoid(outputs) - y.unsqueeze(1)).div_(rows)
        one_hot = torch.zeros_like(outputs).scatter_(1, y.unsqueeze(1), 1)
        return (torch.softmax(outputs, dim=1) - one_hot).div_(rows)

    def logits(self, outputs: Tensor) -> Tensor:
        if self.outputs == 1:
            outputs = torch.cat([torch.zeros_like(outputs), outputs], dim=1)
        return outputs.mT

    def predictions(self, outputs: Tensor) -> Tensor:
        return (outputs.squeeze(1) > 0).long() if self.outputs == 1 else outputs.argmax(dim=1)
