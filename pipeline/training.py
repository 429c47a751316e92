"""The loop: a stack of members trained together, each to its own best epoch.

`fit` is a pure function. Everything random in it is drawn for the splits of the study, from
generators of its own, and never for the members that happen to be there: members of one split share
initial weights, batches and dropout, and adding, removing or reordering members changes nothing for
the others beyond rounding.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchmetrics.functional.classification import binary_accuracy

from pipeline.batches import Arrays, Batches, Part, Random, Rows
from pipeline.compiled import compiled, has_compiler
from pipeline.members import Fit, Floats, Member, Settings
from pipeline.model import (
    StackedMLP,
    initial_parameters,
    loss_gradients,
    member_losses,
    predicted_labels,
)
from pipeline.optimizers import OptimizerSpec, StackedOptimizer, group_key
from pipeline.record import Epoch, Record, Watch
from pipeline.threads import Threads, plan

__all__ = ["Arrays", "Fit", "Floats", "Member", "Part", "Settings", "Stack", "Watch", "fit"]

VALIDATION_ELEMENTS = 2**20
"""Activations of one layer that validation holds at once; more rows are taken in chunks."""

COMPACTION = 7 / 8
"""A stack is made smaller when no more than this part of its members is still running."""


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
    device = _device(settings.device)
    rows = Rows(arrays, device, settings.dtype)
    architecture = arrays.architecture(settings)
    size = rows.batch_size(settings.batch_size)
    layout = plan(len(members), architecture, size, device)
    is_compiled = settings.compiled and device.type == "cpu" and has_compiler()
    stacks = [
        Stack(arrays, rows, [members[k] for k in part], settings, part, is_compiled)
        for part in np.array_split(_by_rule(members), layout.stacks)
    ]
    record = Record(members, _initial_states(stacks))
    with Threads(layout) as threads:
        for epoch in range(1, max(member.epochs for member in members) + 1):
            # torch.compile is not safe in threads: they begin when the programs are there.
            each = map if is_compiled and epoch == 1 else threads.map
            record.add(epoch, list(each(run_epoch, stacks)))
            record.stop(epoch, watch)
            stacks = [stack for stack in stacks if stack.shrink(record.running)]
            if not stacks:
                break
    return record.fits()


def run_epoch(stack: "Stack") -> Epoch:
    """Train for an epoch, then validate."""
    train_loss, gradient_sum = train(stack, stack.batches())
    val_loss, accuracy = validate(stack)
    return Epoch(stack.members, stack.network, train_loss, gradient_sum, val_loss, accuracy)


@torch.no_grad()
def train(stack: "Stack", batches: Batches) -> tuple[Tensor, Tensor]:
    """One epoch.

    Returns the mean of each member's losses over the batches [K], and the sum of all elements of
    its gradients [K], which is finite as long as these are.
    """
    network, optimizer = stack.network, stack.optimizer
    total, gradient_sum = stack.zeros(), stack.zeros()
    for x, y, draws in batches:
        total += stack.step(network, optimizer, x, y, draws)
        gradient_sum += network.gradients.sum(dim=1)
    return total / len(batches), gradient_sum


def step(
    network: StackedMLP,
    optimizer: StackedOptimizer,
    x: Tensor,
    y: Tensor,
    draws: Sequence[Tensor],
) -> Tensor:
    """One step of all members on a batch each; their losses [K]."""
    network.zero_gradients()
    logits = network(x, training=True, draws=draws)
    losses = member_losses(logits, y).mean(dim=1)
    network.backward(loss_gradients(logits, y))
    optimizer.step()
    return losses


@torch.no_grad()
def validate(stack: "Stack") -> tuple[Tensor, Tensor]:
    """The loss and the accuracy [K] of each member on the validation rows of its split."""
    loss, hits = stack.zeros(), []
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

    def __init__(
        self,
        arrays: Arrays,
        rows: Rows,
        members: Sequence[Member],
        settings: Settings,
        positions: npt.NDArray[np.intp],
        is_compiled: bool = False,
    ) -> None:
        device = rows.x.device
        architecture = arrays.architecture(settings)
        specs = [OptimizerSpec(member.optimizer, member.arguments) for member in members]
        self.members = positions
        self._split = torch.tensor([member.split for member in members], device=device)
        self._rows = rows
        self._random = Random(settings.seed, device)
        self._batch_size = settings.batch_size

        initial = initial_parameters(architecture, len(arrays.splits), self._random.weights)
        self.network = StackedMLP(
            architecture,
            initial.to(device, settings.dtype).index_select(0, self._split),
            dropout=torch.tensor([member.dropout for member in members]),
        )
        self.optimizer = StackedOptimizer(
            specs,
            self.network.parameters,
            self.network.gradients,
            architecture.shapes,
        )
        self.step = compiled(step) if is_compiled else step

    def zeros(self) -> Tensor:
        """[K]"""
        return self.network.parameters.new_zeros(len(self.members))

    def state(self) -> Tensor:
        """[K, P + Q]"""
        return torch.cat((self.network.parameters, self.network.statistics), dim=1)

    def batches(self) -> Batches:
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

    def shrink(self, running: npt.NDArray[np.bool_]) -> bool:
        """Let members go that no longer run [M], if enough of them; False: none is left."""
        staying = running[self.members]
        if staying.any() and staying.mean() <= COMPACTION:
            self.keep(np.flatnonzero(staying))
        return bool(staying.any())

    def keep(self, index: npt.NDArray[np.intp]) -> None:
        """Go on with the members at these positions of the stack; the others leave."""
        rows = torch.from_numpy(index).to(self._split.device)
        self.members = self.members[index]
        self._split = self._split.index_select(0, rows)
        self.network.keep(rows)
        self.optimizer.keep(index.tolist(), self.network.parameters, self.network.gradients)


def _by_rule(members: Sequence[Member]) -> npt.NDArray[np.intp]:
    """Positions of the members, those of one update rule side by side."""
    keys = [group_key(OptimizerSpec(member.optimizer, member.arguments)) for member in members]
    return np.array(sorted(range(len(members)), key=lambda k: keys[k]))


def _initial_states(stacks: Sequence[Stack]) -> Tensor:
    """[M, P + Q], in the order of `fit`'s list."""
    order = np.argsort(np.concatenate([stack.members for stack in stacks]))
    states = torch.cat([stack.state() for stack in stacks])
    return states.index_select(0, torch.from_numpy(order).to(states.device))


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)
