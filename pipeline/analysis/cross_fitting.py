"""Predictions for the rows that networks were validated on, each by a network it did not choose.

A member trains on its fold's training rows, but stops at the epoch that its validation rows like
best, so its scores on these are flattered, the more the more these go up and down: on 80 rows whose
accuracy chooses by three points at low learning rates and by five at high ones. Here every share of
the validation rows is predicted with the weights of the epoch that the other shares chose
(`Fit.cross_fitted`)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from pipeline.models.architecture import Architecture
from pipeline.models.calibration import SMALLEST
from pipeline.models.export import ensemble_of
from pipeline.models.metrics import METRICS, Metric
from pipeline.training.batches import CROSS_FIT_SHARES, Arrays, validation_shares
from pipeline.training.outcomes import Fit, Floats


@dataclass(frozen=True)
class Predictions:
    """What was predicted for some rows."""

    rows: npt.NDArray[np.int64]  # [V] no row twice
    logits: Tensor  # [V, labels] float64, finite
    y: Tensor  # [V] int64, the true label ids

    @property
    def probabilities(self) -> Floats:
        """[V, labels]"""
        return np.asarray(torch.softmax(self.logits, dim=1).numpy())

    def scores(self, metrics: Iterable[Metric] = METRICS.values()) -> dict[str, float]:
        """By the metric's name."""
        return {metric.name: float(metric.score(self.logits, self.y)) for metric in metrics}


def cross_fitted(
    fits: Sequence[Fit], arrays: Arrays, architecture: Architecture
) -> list[Predictions]:
    """For each split the predictions of its network for its validation rows.

    Args:
        fits: [S], one for each split, trained with `Settings.cross_fit`."""
    weights = [fit.cross_fitted for fit in fits if fit.cross_fitted is not None]
    networks = ensemble_of(architecture, nn.Identity(), torch.cat(weights))
    predictions = []
    # Of shares in an order nothing came before the first, which could choose its epoch.
    first = 1 if arrays.dependence.order is not None else 0
    for position, split in enumerate(arrays.splits):
        shares = validation_shares(split, arrays)[first:]
        with torch.no_grad():
            logits = [
                networks.logits(network, arrays.rows(position, torch.from_numpy(rows)))
                for network, rows in enumerate(shares, start=CROSS_FIT_SHARES * position + first)
            ]
        rows = np.concatenate(shares)
        predictions.append(Predictions(rows, torch.cat(logits), arrays.y[torch.from_numpy(rows)]))
    return predictions


def together(predictions: Sequence[Predictions], y: Tensor) -> Predictions:
    """The mean of the probabilities that were given for each row of `y` [N] that has any."""
    total = np.zeros((len(y), predictions[0].logits.shape[1]))
    count = np.zeros((len(y), 1))
    for each in predictions:
        total[each.rows] += each.probabilities
        count[each.rows] += 1
    rows = np.flatnonzero(count)
    mean = torch.from_numpy(total[rows] / count[rows]).clamp(min=SMALLEST)
    return Predictions(rows, mean.log(), y[torch.from_numpy(rows)])
