"""What happened to each member: curves, the best epoch and its weights, and how it ended."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.members import Fit, FitState, Floats, Member
from pipeline.model import StackedMLP

Watch = Callable[[int, Tensor, Tensor, Tensor], Collection[int]]


@dataclass(frozen=True)
class Epoch:
    """What an epoch of a stack gave.

    members: [K] positions in `fit`'s list; network: theirs.
    train_loss, val_loss, accuracy: [K].
    gradient_sum: [K], the sum of all elements of all gradients.
    """

    members: npt.NDArray[np.intp]
    network: StackedMLP
    train_loss: Tensor
    gradient_sum: Tensor
    val_loss: Tensor
    accuracy: Tensor


class Record:
    """What is known of all members, in the order of `fit`'s list, whether still running or not.

    Attributes:
        running: [M] bool.
    """

    def __init__(self, members: Sequence[Member], initial: Tensor) -> None:
        count = len(members)
        self._epochs = np.array([member.epochs for member in members])
        self._patience = np.array(
            [np.inf if member.patience is None else member.patience for member in members]
        )
        self._curves: list[Floats] = []
        self._ran = np.zeros(count, dtype=int)
        self._best_epoch = np.zeros(count, dtype=int)
        self._best_loss = np.full(count, np.inf)
        self._weights = initial
        self._states: list[FitState] = ["complete"] * count
        self._reasons: list[str | None] = [None] * count
        self.running = np.ones(count, dtype=bool)

    def add(self, epoch: int, stacks: Sequence[Epoch]) -> None:
        """Enter an epoch: curves, failures, and the weights of those that were never better.

        Args:
            epoch: from 1.
            stacks: what it gave in each stack.
        """
        values = np.full((5, len(self.running)), np.nan)
        for one in stacks:
            weights = one.network.parameters.sum(dim=1)
            columns = (one.train_loss, one.val_loss, one.accuracy, one.gradient_sum, weights)
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

        better = self.running & (values[1] < self._best_loss)
        self._best_loss[better] = values[1][better]
        self._best_epoch[better] = epoch
        for one in stacks:
            rows = np.flatnonzero(better[one.members])
            here, there = (
                torch.from_numpy(index).to(self._weights.device)
                for index in (rows, one.members[rows])
            )
            self._weights.index_copy_(0, there, one.network.state(here))

    def stop(self, epoch: int, watch: Watch | None) -> None:
        """End the members that are done and those that `watch` drops."""
        ran = np.flatnonzero(self.running)
        done = (epoch >= self._epochs) | (epoch - self._best_epoch >= self._patience)
        self.running &= ~done
        if watch is not None and len(ran) > 0:
            _, losses, accuracies = torch.from_numpy(self._curves[-1][:, ran])
            for member in watch(epoch, losses, accuracies, torch.from_numpy(ran)):
                if self.running[member]:
                    self.running[member] = False
                    self._states[member] = "dropped"

    def fits(self) -> list[Fit]:
        self._weights = self._weights.cpu()
        return [self._fit(member) for member in range(len(self.running))]

    def _fail(self, member: int, reason: str) -> None:
        self.running[member] = False
        self._states[member], self._reasons[member] = "failed", reason

    def _fit(self, member: int) -> Fit:
        ran, best = int(self._ran[member]), int(self._best_epoch[member])
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
            weights=self._weights[member],
        )
