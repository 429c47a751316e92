"""Tasks: what a target is, and so what networks put out for it and what their loss is."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.common.errors import UserError, did_you_mean, refuse
from pipeline.common.text import some
from pipeline.config.sections import Training
from pipeline.models.losses import Loss, loss_of
from pipeline.models.metrics import METRICS, Metric

LEAST_PROBABILITY = 1e-7
"""What a probability that a network puts out is taken for where it is less, such as 0."""


@dataclass(frozen=True)
class Classification:
    """Cross entropy (nats) and accuracy of label ids, int64 from 0 to `labels` - 1.

    With two labels one logit is enough: that of label 1 against label 0, whose own is 0. A stack's
    outputs are [K, C, B] and its `y` [K, B], of implicit ensembles of k the outputs [K, C, B, k]; a
    network's are [B, C] and [B].

    metrics: what is measured on validation rows after every epoch.
    names, counts: the labels as text, and how many training rows each has.
    loss: what networks are trained with; None: the cross entropy.
    weights: of each label's rows in training; None: all alike.
    smoothing: the share of a label that training deals out evenly to all labels, where `loss` is
        None (Szegedy et al. 2016)."""

    labels: int
    metrics: tuple[Metric, ...] = tuple(METRICS.values())
    names: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()
    loss: Loss | None = None
    weights: tuple[float, ...] | None = None
    smoothing: float = 0.0

    def trained_by(self, training: Training) -> "Classification":
        """With the loss and the weights of a trial's configuration. Raises UserError."""
        weights = self._weights(training.class_weight)
        if training.loss is None:
            return replace(self, weights=weights, smoothing=training.label_smoothing)
        if training.label_smoothing:
            raise UserError(
                "training.label_smoothing: is of the loss auto; CrossEntropyLoss has a "
                f"label_smoothing among its own arguments; got {training.loss.path}"
            )
        loss = loss_of(training.loss, None if weights is None else torch.tensor(weights))
        if weights is not None and loss.of_labels is None:
            raise UserError(
                "training.class_weight: weighs the rows of losses of torch.nn; give "
                f"{training.loss.path} its weights as an argument"
            )
        if loss.of_labels is False and self.labels > 2:
            raise UserError(
                f"training.loss: {loss.name} is for two labels, and there are {self.labels}; "
                "CrossEntropyLoss takes any number"
            )
        return replace(self, weights=weights, loss=loss)

    def _weights(self, given: Mapping[Any, float] | str | None) -> tuple[float, ...] | None:
        if given is None:
            return None
        if given == "balanced":
            return tuple(sum(self.counts) / (self.labels * count) for count in self.counts)
        assert isinstance(given, Mapping)
        weights = {str(label): weight for label, weight in given.items()}
        refuse(
            [
                f"training.class_weight: must name labels ({some(self.names)}); got {name!r}"
                f"{did_you_mean(name, self.names)}"
                for name in weights
                if name not in self.names
            ]
        )
        return tuple(weights.get(name, 1.0) for name in self.names)

    @property
    def outputs(self) -> int:
        """How many logits tell what is predicted for a row."""
        return 1 if self.labels == 2 else self.labels

    @property
    def is_plain(self) -> bool:
        """Whether what is trained is the mean of `losses`."""
        return self.loss is None and self.weights is None

    @property
    def forms(self) -> tuple[int, ...]:
        """How many outputs C a network may have for a row, the usual one first."""
        if self.loss is not None and self.loss.of_labels is False:
            return (1,)
        # Of log-probabilities one does not tell the other, as of logits.
        is_of_each = self.loss is not None and self.loss.name == "NLLLoss"
        return (self.labels,) if is_of_each or self.labels > 2 else (1, 2)

    @property
    def of_probabilities(self) -> bool:
        """Whether networks put out probabilities, and not logits."""
        return self.loss is not None and self.loss.of_probabilities

    def objective(self, outputs: Tensor, y: Tensor) -> Tensor:
        """[K], what each member's training makes smaller."""
        if outputs.dim() == 4:
            y = y.unsqueeze(2).expand(-1, -1, outputs.shape[3])
        rows = self._rows(outputs, y)
        if rows.dim() == 1:
            return rows
        if self.weights is None:
            return rows.flatten(1).mean(dim=1)
        weights = torch.tensor(self.weights, dtype=rows.dtype, device=y.device)[y]
        if self.loss is None or not self.loss.of_labels:
            rows = rows * weights
        return rows.flatten(1).sum(dim=1) / weights.flatten(1).sum(dim=1)

    def _rows(self, outputs: Tensor, y: Tensor) -> Tensor:
        if self.loss is None:
            return self._smoothed(self.losses(outputs, y), outputs)
        if self.loss.of_labels and outputs.shape[1] == 1:
            outputs = torch.cat([torch.zeros_like(outputs), outputs], dim=1)
        return self.loss.rows(outputs, y)

    def _smoothed(self, losses: Tensor, outputs: Tensor) -> Tensor:
        """The losses of rows, `smoothing` of each being the mean of those of all labels."""
        if not self.smoothing:
            return losses
        if outputs.shape[1] == 1:
            of_all = F.softplus(outputs.squeeze(1)) - outputs.squeeze(1) / 2
        else:
            of_all = -F.log_softmax(outputs, dim=1).mean(dim=1)
        return (1 - self.smoothing) * losses + self.smoothing * of_all

    def gradients(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Of each member's objective: as `outputs`."""
        rows = y.shape[1]
        if not self.is_plain or outputs.dim() == 4:
            with torch.enable_grad():
                leaf = outputs.detach().requires_grad_()
                (gradient,) = torch.autograd.grad(self.objective(leaf, y).sum(), leaf)
            return gradient
        sure, each = 1 - self.smoothing, self.smoothing / self.labels
        if outputs.shape[1] == 1:
            return (torch.sigmoid(outputs) - (each + sure * y.unsqueeze(1))).div_(rows)
        target = torch.full_like(outputs, each).scatter_(1, y.unsqueeze(1), each + sure)
        return (torch.softmax(outputs, dim=1) - target).div_(rows)

    def combined(self, outputs: Tensor) -> Tensor:
        """Logits [K, outputs, B] of whatever the networks put out and train with."""
        if self.of_probabilities:
            outputs = torch.logit(outputs, eps=LEAST_PROBABILITY)
        if self.labels == 2 and outputs.shape[1] == 2:
            outputs = outputs[:, 1:] - outputs[:, :1]
        if outputs.dim() < 4:
            return outputs
        # The mean of the probabilities, by their logarithms: log k falls out of the differences.
        if self.outputs > 1:
            return F.log_softmax(outputs, dim=1).logsumexp(dim=3)
        return F.logsigmoid(outputs).logsumexp(dim=3) - F.logsigmoid(-outputs).logsumexp(dim=3)

    def losses(self, outputs: Tensor, y: Tensor) -> Tensor:
        """The loss of each row by its logits, as `y`."""
        if outputs.shape[1] == 1:
            target = y.to(outputs.dtype)
            return F.binary_cross_entropy_with_logits(outputs.squeeze(1), target, reduction="none")
        return F.cross_entropy(outputs, y, reduction="none")

    def logits(self, outputs: Tensor) -> Tensor:
        """[K, B, labels], as metrics take them."""
        if self.outputs == 1:
            outputs = torch.cat([torch.zeros_like(outputs), outputs], dim=1)
        return outputs.mT

    def predictions(self, outputs: Tensor) -> Tensor:
        """The label ids that are predicted by logits, as `y`."""
        return (outputs.squeeze(1) > 0).long() if self.outputs == 1 else outputs.argmax(dim=1)


Task = Classification
"""What a target is, for all that trains and measures: of its kinds there is one."""
