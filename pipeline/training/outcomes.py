"""What happened to each member: curves, the best epoch and its weights, and how it ended."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.models.mlp import StackedMLP
from pipeline.training.batches import PARTS
from pipeline.training.members import Fit, FitState, Floats, Member

Watch = Callable[[int, Tensor, Tensor, Tensor], Collection[int]]


@dataclass(frozen=True)
class Epoch:
    """What an epoch of a stack gave.

    members: [K] positions in `fit`'s list; network: theirs.
    train_loss, accuracy: [K].
    val_losses: [PARTS, K], what each part of the validation rows adds to the loss on all of them.
    gradient_sum: [K], the sum of all elements of all gradients.
    """

    members: npt.NDArray[np.intp]
    network: StackedMLP
    train_loss: Tensor
    gradient_sum: Tensor
    val_losses: Tensor
    accuracy: Tensor


class Best:
    """Each member's epoch of the lowest loss, of one kind of loss, and its weights after it.

    Attributes:
        epoch: [M], from 1; 0 where no loss was finite yet.
        weights: [M, P + Q], the initial ones where there is no epoch.
    """

    def __init__(self, initial: Tensor) -> None:
        self.epoch = np.zeros(len(initial), dtype=int)
        self.weights = initial
        self._loss = np.full(len(initial), np.inf)

    def add(
        self, epoch: int, losses: Floats, running: npt.NDArray[np.bool_], stacks: Sequence[Epoch]
    ) -> None:
        """Keep the weights of those running members [M] whose loss [M] was never lower."""
        better = running & (losses < self._loss)
        self._loss[better] = losses[better]
        self.epoch[better] = epoch
        for one in stacks:
            rows = np.flatnonzero(better[one.members])
            here, there = (
                torch.from_numpy(index).to(self.weights.device)
                for index in (rows, one.members[rows])
            )
            self.weights.index_copy_(0, there, one.network.state(here))


class Record:
    """What is known of all members, in the order of `fit`'s list, whether still running or not.

    Args:
        initial: [M, P + Q], weights before the first epoch.
        cross_fit: see `Settings`.

    Attributes:
        running: [M] bool.
    """

    def __init__(self, members: Sequence[Member], initial: Tensor, cross_fit: bool = False) -> None:
        count = len(members)
        self._epochs = np.array([member.epochs for member in members])
        self._patience = np.array(
            [np.inf if member.patience is None else member.patience for member in members]
        )
        self._curves: list[Floats] = []
        self._ran = np.zeros(count, dtype=int)
        self._best = Best(initial)
        self._cross_fitted = [Best(initial.clone()) for _ in range(PARTS if cross_fit else 0)]
        self._states: list[FitState] = ["complete"] * count
        self._reasons: list[str | None] = [None] * count
        self.running = np.ones(count, dtype=bool)

    def add(self, epoch: int, stacks: Sequence[Epoch]) -> None:
        """Enter an epoch: curves, failures, and the weights of those that were never better.

        Args:
            epoch: from 1.
            stacks: what it gave in each stack.
        """
        values = np.full((5 + PARTS, len(self.running)), np.nan)
        for one in stacks:
            weights = one.network.parameters.sum(dim=1)
            # In double, where the order of adding five does not show: it may change with K.
            val_loss = one.val_losses.double().sum(dim=0)
            columns = [one.train_loss, val_loss, one.accuracy, one.gradient_sum, weights]
            columns += one.val_losses
            # The host waits for the device here, and nowhere else in an epoch.
            values[:, one.members] = torch.stack([x.double() for x in columns]).cpu().numpy()

        for row, what in (
            (0, "the training loss"),
            (3, "a gradient"),
            (4, "a weight"),
            (1, "the validation loss"),
        ):
            for member in np.flatnonzero(self.running & ~np.isfinite(values[row])):
                self._fail(int(member), f"{what} was not finite in epoch {epoch}")
        self._curves.append(values[:3])
        self._ran[self.running] = epoch

        self._best.add(epoch, values[1], self.running, stacks)
        for part, best in enumerate(self._cross_fitted):
            others = np.delete(values[5:], part, axis=0)
            best.add(epoch, others.sum(axis=0), self.running, stacks)

    def stop(self, epoch: int, watch: Watch | None) -> None:
        """End the members that are done and those that `watch` drops."""
        ran = np.flatnonzero(self.running)
        done = (epoch >= self._epochs) | (epoch - self._best.epoch >= self._patience)
        self.running &= ~done
        if watch is not None and len(ran) > 0:
            _, losses, accuracies = torch.from_numpy(self._curves[-1][:, ran])
            for member in watch(epoch, losses, accuracies, torch.from_numpy(ran)):
                if self.running[member]:
                    self.running[member] = False
                    self._states[member] = "dropped"

    def fits(self) -> list[Fit]:
        kept = [best.weights.cpu() for best in (self._best, *self._cross_fitted)]
        return [self._fit(member, *kept) for member in range(len(self.running))]

    def _fail(self, member: int, reason: str) -> None:
        self.running[member] = False
        self._states[member], self._reasons[member] = "failed", reason

    def _fit(self, member: int, weights: Tensor, *by_part: Tensor) -> Fit:
        ran, best = int(self._ran[member]), int(self._best.epoch[member])
        curves = np.array([epoch[:, member] for epoch in self._curves[:ran]]).reshape(ran, 3)
        train_loss, val_loss, val_accuracy = curves.T.copy()
        return Fit(
            train_loss=train_loss,
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            best_epoch=best,
            loss=float(val_loss[best - 1]) if best else np.nan,
            accuracy=float(val_accuracy[best - 1]) if best else np.nan,
            state=self._states[member],
            reason=self._reasons[member],
            weights=weights[member],
            cross_fitted=torch.stack([part[member] for part in by_part]) if by_part else None,
        )
