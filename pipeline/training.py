"""The loop: a stack of members trained together, each to its own best epoch.

`fit` is a pure function. Everything random in it is drawn for the splits of the study, from
generators of its own, and never for the members that happen to be there: members of one split share
initial weights, batches and dropout, and adding, removing or reordering members changes nothing for
the others beyond rounding.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torchmetrics.functional.classification import binary_accuracy

from pipeline.model import (
    Architecture,
    StackedMLP,
    initial_parameters,
    member_losses,
    predicted_labels,
)
from pipeline.optimizers import OptimizerSpec, StackedOptimizer, group_key

Floats = npt.NDArray[np.float64]
FitState = Literal["complete", "failed", "dropped"]
Watch = Callable[[int, Tensor, Tensor, Tensor], Collection[int]]

VALIDATION_ELEMENTS = 2**20
"""Activations of one layer that validation holds at once; more rows are taken in chunks."""

COMPACTION = 7 / 8
"""A stack is made smaller when no more than this part of its members is still running."""


class Part(Protocol):
    """One split of the rows (`folds.Split`)."""

    @property
    def training(self) -> npt.NDArray[np.int64]: ...
    @property
    def validation(self) -> npt.NDArray[np.int64]: ...


@dataclass(frozen=True)
class Member:
    """One network of a stack.

    split: position of its split in the study's.
    optimizer, arguments: a class of `torch.optim` and its keyword arguments.
    epochs: how many to run at most, >= 1.
    patience: stop after so many epochs without a lower validation loss; None = never.
    dropout: rate in [0, 1).
    """

    split: int
    optimizer: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    epochs: int = 100
    patience: int | None = None
    dropout: float = 0.0


@dataclass(frozen=True)
class Settings:
    """What the members of a stack have in common. device: auto, cpu, cuda or cuda:N."""

    hidden: tuple[int, ...]
    activation: str = "relu"
    batch_norm: bool = False
    batch_size: int = 64
    seed: int = 0
    device: str = "cpu"
    dtype: torch.dtype = torch.float32


@dataclass(frozen=True)
class Arrays:
    """A study's rows.

    x: [S, N, D], encoded by what was fitted on the training rows of each of the S splits.
    y: [N] int64, label ids.
    labels: how many labels there are.
    """

    x: Tensor
    y: Tensor
    splits: tuple[Part, ...]
    labels: int

    @staticmethod
    def build(
        encoder: nn.Module,
        raw: Floats,
        y: npt.NDArray[np.int64],
        splits: Sequence[Part],
        labels: int,
    ) -> "Arrays":
        """Encode the raw rows [N, F] once for each split."""
        with torch.no_grad():
            parts = [encoder(part) for part in torch.split(torch.from_numpy(raw), 2**13)]
        return Arrays(torch.cat(parts, dim=1), torch.from_numpy(y), tuple(splits), labels)

    def architecture(self, settings: Settings) -> Architecture:
        return Architecture(
            inputs=self.x.shape[2],
            hidden=settings.hidden,
            outputs=Architecture.outputs_for(self.labels),
            activation=settings.activation,
            batch_norm=settings.batch_norm,
        )


@dataclass(frozen=True)
class Fit:
    """One member's outcome.

    train_loss, val_loss, val_accuracy: [epochs run], finite. The training loss of an epoch is the
        mean of its batches' losses.
    best_epoch: the epoch of the lowest validation loss, from 1; 0 when no epoch was finite.
    loss, accuracy: on the validation rows after that epoch; NaN when there is none.
    state: failed when a loss, a gradient or a weight was not finite; dropped by `watch`.
    reason: why it failed, else None.
    weights: [P + Q], the member's parameters and running statistics after the best epoch, on the
        CPU (the initial ones when there is none).
    """

    train_loss: Floats
    val_loss: Floats
    val_accuracy: Floats
    best_epoch: int
    loss: float
    accuracy: float
    state: FitState
    reason: str | None
    weights: Tensor


def fit(
    arrays: Arrays, members: Sequence[Member], settings: Settings, watch: Watch | None = None
) -> list[Fit]:
    """Train the members together; the outcomes are in their order.

    Args:
        watch: called after each epoch with its number, the validation losses [A] and accuracies [A]
            of the members that ran it and the positions [A] of these in `members`, ascending;
            those it returns are dropped unless they are done.
    """
    if not members:
        return []
    stack = Stack(arrays, members, settings)
    record = Record(members, stack.state())
    for epoch in range(1, max(member.epochs for member in members) + 1):
        train_loss, trace = train(stack, stack.batches())
        val_loss, accuracy = validate(stack)
        record.add(epoch, stack, train_loss, trace, val_loss, accuracy)
        record.stop(epoch, watch)
        if not record.running.any():
            break
        staying = record.running[stack.members]
        if staying.mean() <= COMPACTION:
            stack.keep(np.flatnonzero(staying))
    return record.fits()


def train(stack: "Stack", batches: "Batches") -> tuple[Tensor, Tensor]:
    """One epoch.

    Returns the mean of each member's losses over the batches [K], and the sum of all elements of
    its gradients [K], which is finite as long as these are.
    """
    network, optimizer = stack.network, stack.optimizer
    total, trace = torch.zeros_like(stack.zeros), torch.zeros_like(stack.zeros)
    for x, y, draws in batches:
        network.zero_gradients()
        logits = network(x, training=True, draws=draws)
        losses = member_losses(logits, y).mean(dim=1)
        network.backward(losses)
        optimizer.step()

        total += losses.detach()
        trace += network.gradients.sum(dim=1)
    return total / len(batches), trace


@torch.no_grad()
def validate(stack: "Stack") -> tuple[Tensor, Tensor]:
    """The loss and the accuracy [K] of each member on the validation rows of its split."""
    loss, hits = torch.zeros_like(stack.zeros), []
    for x, y, weights in stack.validation():
        logits = stack.network(x)
        loss += (member_losses(logits, y) * weights).sum(dim=1)
        hits.append(predicted_labels(logits) == y)
    # A right answer counts as a positive, so one call scores all members and any number of labels
    # (multiclass_accuracy would spread every answer over a column for each label first).
    wanted = stack.wanted()
    accuracy = binary_accuracy(
        torch.cat(hits, dim=1).long(),
        wanted,
        multidim_average="samplewise",
        ignore_index=-1,
        validate_args=False,
    ).view(-1)
    # It is rounded to float32; the number of right answers is not.
    rows = (wanted > 0).sum(dim=1)
    return loss, (accuracy * rows).round().double() / rows


class Stack:
    """Members in training: their networks and optimizers, and the rows that they see.

    Attributes:
        members: [K] positions in the list that `fit` was given; neighbours share an update rule.
        network: K networks; optimizer: their K update rules, on the same buffers.
    """

    def __init__(self, arrays: Arrays, members: Sequence[Member], settings: Settings) -> None:
        device = _device(settings.device)
        architecture = arrays.architecture(settings)
        specs = [OptimizerSpec(member.optimizer, member.arguments) for member in members]
        order = sorted(range(len(members)), key=lambda k: group_key(specs[k]))
        self.members = np.array(order)
        self._split = torch.tensor([members[k].split for k in order], device=device)
        self._rows = Rows(arrays, device, settings.dtype)
        self._random = Random(settings.seed, device)
        self._batch_size = settings.batch_size

        initial = initial_parameters(architecture, len(arrays.splits), self._random.weights)
        self.network = StackedMLP(
            architecture,
            initial.to(device, settings.dtype).index_select(0, self._split),
            dropout=torch.tensor([members[k].dropout for k in order]),
        )
        self.optimizer = StackedOptimizer(
            [specs[k] for k in order],
            self.network.parameters,
            self.network.gradients,
            architecture.shapes,
        )

    @property
    def zeros(self) -> Tensor:
        """[K] zeros."""
        return self.network.parameters.new_zeros(len(self.members))

    def state(self) -> Tensor:
        """[K, P + Q] on the CPU, in the order of `fit`'s list."""
        order = torch.from_numpy(np.argsort(self.members)).to(self._split.device)
        return self.network.state(order).cpu()

    def batches(self) -> "Batches":
        """The batches of the next epoch."""
        return Batches(self._rows, self._split, self._random, self._batch_size, self.network.draws)

    def validation(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Chunks of the validation rows: x [K, D, V], y [K, V], weights [K, V] that sum to 1."""
        width = max(self.network.architecture.widths)
        step = max(1, VALIDATION_ELEMENTS // (len(self.members) * width))
        return self._rows.validation(self._split, step)

    def wanted(self) -> Tensor:
        """[K, V]: 1 for a validation row of the member's split, -1 for padding."""
        return self._rows.wanted.index_select(0, self._split)

    def keep(self, index: npt.NDArray[np.intp]) -> None:
        """Go on with the members at these positions of the stack; the others leave."""
        rows = torch.from_numpy(index).to(self._split.device)
        self.members = self.members[index]
        self._split = self._split.index_select(0, rows)
        self.network.keep(rows)
        self.optimizer.keep(index.tolist(), self.network.parameters, self.network.gradients)


class Random:
    """The generators of a stack. Nothing is drawn from any other, and none is drawn by a member.

    One for each purpose, so that whether anybody needs dropout changes no batch. Weights and
    batches are drawn on the CPU: they are the same on every device.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self.weights = self._generator(seed, 0, torch.device("cpu"))
        self.order = self._generator(seed, 1, torch.device("cpu"))
        self.dropout = self._generator(seed, 2, device)

    @staticmethod
    def _generator(seed: int, purpose: int, device: torch.device) -> torch.Generator:
        mixed = np.random.SeedSequence((seed, purpose)).generate_state(1, np.uint64)
        return torch.Generator(device).manual_seed(int(mixed[0]))


class Rows:
    """A study's rows on the device, those of all splits one after the other [S * N]."""

    def __init__(self, arrays: Arrays, device: torch.device, dtype: torch.dtype) -> None:
        splits, rows, _ = arrays.x.shape
        self.x = arrays.x.to(device, dtype).flatten(0, 1)
        self.y = arrays.y.to(device).repeat(splits)
        self.splits = splits
        offset = torch.arange(splits).unsqueeze(1) * rows

        self.training = [
            torch.from_numpy(split.training) + start
            for split, start in zip(arrays.splits, offset, strict=True)
        ]
        self.smallest = min(len(split.training) for split in arrays.splits)

        validation, is_padding = _padded([split.validation for split in arrays.splits])
        shape = validation.shape
        at = (validation + offset).flatten().to(device)
        self._held_x = self.x.index_select(0, at).view(*shape, -1).mT.contiguous()
        self._held_y = self.y.index_select(0, at).view(shape)
        counts = (~is_padding).sum(dim=1, keepdim=True)
        self._weights = torch.where(is_padding, 0.0, 1 / counts.double()).to(device, dtype)
        self.wanted = torch.where(is_padding, -1, 1).to(device)

    def validation(self, split: Tensor, step: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for start in range(0, self._held_y.shape[1], step):
            chunk = slice(start, start + step)
            yield (
                self._held_x[:, :, chunk].index_select(0, split),
                self._held_y[:, chunk].index_select(0, split),
                self._weights[:, chunk].index_select(0, split),
            )


class Batches:
    """One epoch's batches for the members of `split` [K], in an order drawn for each split.

    An epoch is ceil(n / batch_size) batches of n // that many rows, n being the smallest training
    part of all splits: no batch is tiny and all have one shape. Rows left over are others in the
    next epoch. Iterating gives x [K, D, B], y [K, B] and dropout's draws.
    """

    def __init__(
        self, rows: Rows, split: Tensor, random: Random, batch_size: int, widths: Sequence[int]
    ) -> None:
        self._rows, self._split, self._random, self._widths = rows, split, random, widths
        self._count = -(-rows.smallest // batch_size)
        size = rows.smallest // self._count
        order = [
            part[torch.randperm(len(part), generator=random.order)[: self._count * size]]
            for part in rows.training
        ]
        at = torch.stack(order, dim=1).view(self._count, size, rows.splits)
        self._at = at.mT.contiguous().to(rows.x.device)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, list[Tensor]]]:
        splits, size = self._at.shape[1:]
        for at in self._at:
            x = self._rows.x.index_select(0, at.view(-1)).view(splits, size, -1).mT.contiguous()
            y = self._rows.y.index_select(0, at.view(-1)).view(splits, size)
            draws = [
                torch.rand(
                    (splits, width, size),
                    generator=self._random.dropout,
                    dtype=x.dtype,
                    device=x.device,
                )
                for width in self._widths
            ]
            yield (
                x.index_select(0, self._split),
                y.index_select(0, self._split),
                [draw.index_select(0, self._split) for draw in draws],
            )


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

    def add(
        self,
        epoch: int,
        stack: Stack,
        train_loss: Tensor,
        trace: Tensor,
        val_loss: Tensor,
        accuracy: Tensor,
    ) -> None:
        """Enter an epoch: curves, failures, and the weights of those that were never better."""
        weights = stack.network.parameters.sum(dim=1)
        columns = (train_loss, val_loss, accuracy, trace, weights)
        values = np.full((5, len(self.running)), np.nan)
        # The one point of an epoch at which the host waits for the device.
        values[:, stack.members] = torch.stack([x.double() for x in columns]).cpu().numpy()

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
        at = np.flatnonzero(better[stack.members])
        rows = torch.from_numpy(at).to(train_loss.device)
        self._weights[stack.members[at]] = stack.network.state(rows).cpu()

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


def _padded(parts: Sequence[npt.NDArray[np.int64]]) -> tuple[Tensor, Tensor]:
    """Row numbers [S, longest] and which of them are padding: a part's first row again."""
    longest = max(len(part) for part in parts)
    rows = np.stack([np.pad(part, (0, longest - len(part)), mode="wrap") for part in parts])
    lengths = np.array([[len(part)] for part in parts])
    return torch.from_numpy(rows), torch.from_numpy(np.arange(longest) >= lengths)


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)
