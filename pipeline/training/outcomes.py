"""What came of each member: its curves, the weights of its best epoch, and how it ended."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.models.metrics import ACCURACY, LOSS, Metric
from pipeline.training.batches import CROSS_FIT_SHARES
from pipeline.training.members import Member
from pipeline.training.stacks import Stack

Floats = npt.NDArray[np.float64]
FitState = Literal["complete", "failed", "dropped"]
TRAIN_LOSS, RATE = "train_loss", "lr"

Watch = Callable[[int, Mapping[str, Floats], npt.NDArray[np.intp]], Collection[int]]
"""Called after each epoch with its number, the scores of the A members that ran it by the metric's
name ([A] each) and their positions [A] in the list of members, ascending; those it returns are
dropped unless they are done."""


@dataclass(frozen=True)
class Fit:
    """One member's outcome.

    curves: `train_loss`, the mean of the losses of an epoch's batches, and each metric's `curve` on
        the validation rows: [epochs run], finite; with a schedule `lr`, that of the last batch.
    scores: by the metric's name, after the best epoch; NaN when there is none.
    best_epoch: that of the highest validation accuracy, of equal ones of the lowest loss, or that
        of the lowest loss (`Settings.criterion`), from 1; 0 when no epoch was finite.
    state: failed when a loss, a gradient or a weight was not finite; dropped by a `Watch`.
    reason: why it failed, else None.
    weights: [P + Q], the member's parameters and running statistics after the best epoch, on the
        CPU (the initial ones when there is none).
    cross_fitted: [CROSS_FIT_SHARES, P + Q] with `Settings.cross_fit`: for each share of the
        validation rows (`batches.validation_shares`) the weights after the epoch that is best on
        all other shares, or on those before it (`Outcomes`). `scores` are flattered by rows that
        chose the epoch themselves; a share did not choose these.
    engine: what trained it, of `engines`."""

    curves: Mapping[str, Floats]
    scores: Mapping[str, float]
    best_epoch: int
    state: FitState
    reason: str | None
    weights: Tensor
    cross_fitted: Tensor | None = None
    engine: str = ""


@dataclass(frozen=True)
class Epoch:
    """What an epoch of a stack of K members gave.

    trained: [3, K], see `Stack.train`.
    scores: on the validation rows [K] by the metric's name.
    share_losses: [CROSS_FIT_SHARES, K], what each share of these rows adds to the loss.
    share_hits: as many, how many rows of each share are right.
    rates: [K], the learning rates of the last batch."""

    stack: Stack
    trained: Tensor
    scores: Mapping[str, Tensor]
    share_losses: Tensor
    share_hits: Tensor
    rates: Tensor


class Best:
    """Each member's epoch of the most hits, of equally many that of the lowest loss, on some rows,
    and its weights after it.

    Attributes:
        epoch: [M], from 1; 0 where no loss was finite yet.
        weights: [M, P + Q], the initial ones where there is no epoch."""

    def __init__(self, initial: Tensor) -> None:
        self.epoch = np.zeros(len(initial), dtype=int)
        self.weights = initial
        self._hits, self._loss = np.full((2, len(initial)), [[-np.inf], [np.inf]])

    def add(
        self,
        number: int,
        hits: Floats,
        losses: Floats,
        running: npt.NDArray[np.bool_],
        epochs: Sequence[Epoch],
    ) -> None:
        """Keep the weights of those running members [M] that were never better."""
        is_equal = hits == self._hits
        better = running & ((hits > self._hits) | (is_equal & (losses < self._loss)))
        self._hits[better], self._loss[better] = hits[better], losses[better]
        self.epoch[better] = number
        for epoch in epochs:
            members = epoch.stack.members
            places = np.flatnonzero(better[members])
            positions = torch.as_tensor(members[places], device=self.weights.device)
            weights = epoch.stack.network.state(torch.as_tensor(places, device=self.weights.device))
            self.weights.index_copy_(0, positions, weights)


class Outcomes:
    """What became of all members, in their order, whether still running or not.

    Args:
        metrics: what is measured, `LOSS` among it.
        initial: [M, P + Q], weights before the first epoch.
        cross_fit: see `Settings`.
        is_forward: whether shares are in an order: then those before a share choose its epoch, and
            no epoch is chosen for the first.
        criterion: see `Settings`.

    Attributes:
        running: [M] bool."""

    def __init__(
        self,
        members: Sequence[Member],
        metrics: Sequence[Metric],
        initial: Tensor,
        cross_fit: bool = False,
        is_forward: bool = False,
        criterion: Metric = LOSS,
    ) -> None:
        count = len(members)
        patience = [member.training.patience for member in members]
        self._epochs = np.array([member.training.epochs for member in members])
        self._patience = np.array([np.inf if value is None else value for value in patience])
        self._metrics, self._is_forward = metrics, is_forward
        self._by_accuracy = criterion == ACCURACY
        self._curves: list[Floats] = []
        self._ran = np.zeros(count, dtype=int)
        # On all validation rows, then on all but those of each share.
        clones = CROSS_FIT_SHARES if cross_fit else 0
        self._best = [Best(initial), *(Best(initial.clone()) for _ in range(clones))]
        self._states: list[FitState] = ["complete"] * count
        self._reasons: list[str | None] = [None] * count
        self._engines = [""] * count
        self._scheduled = [bool(member.optimizer.arguments.get("schedule")) for member in members]
        self.running = np.ones(count, dtype=bool)

    def add(self, number: int, epochs: Sequence[Epoch]) -> None:
        """Enter an epoch: curves, failures, and the weights of those that were never better.

        Args:
            number: from 1.
            epochs: what it gave in each stack."""
        measured = 4 + len(self._metrics)
        values = np.full((measured + 2 * CROSS_FIT_SHARES, len(self.running)), np.nan)
        for epoch in epochs:
            scored = [epoch.scores[metric.name] for metric in self._metrics]
            shares = *epoch.share_losses, *epoch.share_hits
            rows = [*epoch.trained, *scored, epoch.rates, *shares]
            members = epoch.stack.members
            # The host waits for the device here, and nowhere else in an epoch.
            values[:, members] = torch.stack([row.double() for row in rows]).cpu().numpy()
            for member in members if number == 1 else ():
                self._engines[member] = epoch.stack.engine
        train_loss, gradients, weights, *scores, rates = values[:measured]
        losses, hits = np.split(values[measured:], 2)
        if not self._by_accuracy:
            hits = np.zeros_like(hits)
        loss = scores[self._metrics.index(LOSS)]
        names = "the training loss", "a gradient", "a weight", "the validation loss"
        for what, row in zip(names, (train_loss, gradients, weights, loss), strict=True):
            diverged = np.flatnonzero(self.running & ~np.isfinite(row))
            self.fail(diverged, f"{what} was not finite in epoch {number}")
        self._curves.append(np.stack([train_loss, *scores, rates]))
        self._ran[self.running] = number

        choosing = [
            slice(share) if self._is_forward else np.arange(CROSS_FIT_SHARES) != share
            for share in range(CROSS_FIT_SHARES)
        ]
        on_all = hits.sum(axis=0), loss
        on_others = ((hits[chosen].sum(axis=0), losses[chosen].sum(axis=0)) for chosen in choosing)
        for best, scored_on in zip(self._best, (on_all, *on_others), strict=False):
            best.add(number, *scored_on, self.running, epochs)

    def fail(self, members: Iterable[int], reason: str) -> None:
        """End members that have no result."""
        for member in members:
            self.running[member], self._states[member] = False, "failed"
            self._reasons[member] = reason

    def stop(self, number: int, watch: Watch | None) -> None:
        """End the members that are done with this epoch and those that `watch` drops."""
        ran = np.flatnonzero(self.running)
        done = (number >= self._epochs) | (number - self._best[0].epoch >= self._patience)
        self.running &= ~done
        if watch is not None and len(ran) > 0:
            scores = self._curves[-1][1:-1, ran]
            by_name = {m.name: row for m, row in zip(self._metrics, scores, strict=True)}
            for member in watch(number, by_name, ran):
                if self.running[member]:
                    self.running[member], self._states[member] = False, "dropped"

    def fits(self) -> list[Fit]:
        """Each member's own; none holds the weights of the others."""
        weights, *shares = [best.weights.cpu() for best in self._best]
        own: list[Tensor | None] = [None] * len(weights)
        if shares:
            own = [each.clone() for each in torch.stack(shares, dim=1)]
        return [self._fit(k, weights[k].clone(), own[k]) for k in range(len(weights))]

    def _fit(self, member: int, weights: Tensor, cross_fitted: Tensor | None) -> Fit:
        ran, best = int(self._ran[member]), int(self._best[0].epoch[member])
        names = (TRAIN_LOSS, *(metric.curve for metric in self._metrics), RATE)
        values = np.array([epoch[:, member] for epoch in self._curves[:ran]])
        curves = dict(zip(names, values.reshape(ran, len(names)).T.copy(), strict=True))
        if not self._scheduled[member]:
            del curves[RATE]
        scores = {
            m.name: float(curves[m.curve][best - 1]) if best else np.nan for m in self._metrics
        }
        state, reason = self._states[member], self._reasons[member]
        engine = self._engines[member]
        return Fit(curves, scores, best, state, reason, weights, cross_fitted, engine)
