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

from pipeline.models.mlp import (
    Architecture,
    StackedMLP,
    initial_parameters,
    loss_gradients,
    member_losses,
    predicted_labels,
)
from pipeline.optimizers.stacked import (
    OptimizerSpec,
    StackedGroup,
    StackedOptimizer,
    group_key,
    is_stacked,
)
from pipeline.training.batches import PARTS, Arrays, Batches, Part, Random, Rows, by_part
from pipeline.training.executors import Threads, fills_the_threads, native_plan, plan, together
from pipeline.training.members import Fit, Floats, Member, Settings
from pipeline.training.native import Kernel, can_train
from pipeline.training.outcomes import Epoch, Record, Watch

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
    architecture = arrays.architecture(settings)
    kernel = _kernel(architecture, len(members), settings, device)
    rows = Rows(arrays, device, settings.dtype, kernel.width if kernel else None)
    size = rows.batch_size(settings.batch_size)
    stacks, layouts = [], []
    for program, positions in _by_rule(members, kernel):
        if program is None:
            layout = plan(len(positions), architecture, size, device)
        else:
            layout = native_plan(len(positions), architecture, rows.smallest)
        layouts.append(layout)
        for part in np.array_split(positions, layout.stacks):
            own = [members[k] for k in part]
            stacks.append(Stack(arrays, rows, own, settings, part, program))
    record = Record(members, _initial_states(stacks), settings.cross_fit)
    with Threads(together(layouts)) as threads:
        for epoch in range(1, max(member.epochs for member in members) + 1):
            record.add(epoch, threads.map(run_epoch, stacks))
            record.stop(epoch, watch)
            stacks = [stack for stack in stacks if stack.shrink(record.running)]
            if not stacks:
                break
    return record.fits()


def run_epoch(stack: "Stack") -> Epoch:
    """Train for an epoch, then validate."""
    train_loss, gradient_sum = (train if stack.kernel is None else train_natively)(stack)
    val_losses, accuracy = validate(stack)
    return Epoch(stack.members, stack.network, train_loss, gradient_sum, val_losses, accuracy)


@torch.no_grad()
def train(stack: "Stack") -> tuple[Tensor, Tensor]:
    """One epoch.

    Returns the mean of each member's losses over the batches [K], and the sum of all elements of
    its gradients [K], which is finite as long as these are.
    """
    network, optimizer, batches = stack.network, stack.optimizer, stack.batches()
    total, gradient_sum = stack.zeros(), stack.zeros()
    for x, y, draws in batches:
        total += step(network, optimizer, x, y, draws)
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
def train_natively(stack: "Stack") -> tuple[Tensor, Tensor]:
    """The same epoch by the compiled program, which takes many batches and any number of members
    in a call: a member's numbers do not depend on the others."""
    assert stack.kernel is not None
    network, batches = stack.network, stack.batches()
    total, gradient_sum = stack.zeros().double(), stack.zeros().double()
    for x, y, draws in batches.segments():
        batch = x, y, [draw.mT.contiguous() for draw in draws]
        for k, group in stack.optimizer.groups:
            assert isinstance(group, StackedGroup)
            stack.kernel.train(
                group, stack.split[k], network.dropout[k], batch, total[k], gradient_sum[k]
            )
    return total / len(batches), gradient_sum


@torch.no_grad()
def validate(stack: "Stack") -> tuple[Tensor, Tensor]:
    """Each member's loss on its validation rows, by what their parts add to it [PARTS, K], and the
    accuracy [K]."""
    losses, hits = stack.zeros(PARTS), stack.zeros().long()
    for x, y, weights in stack.validation():
        logits = stack.logits(x)
        losses += by_part(member_losses(logits, y) * weights)
        hits += ((predicted_labels(logits) == y) & (weights > 0)).sum(dim=1)
    return losses, hits.double() / stack.validation_rows()


class Stack:
    """Members in training: their networks and optimizers, and the rows that they see.

    Attributes:
        members: [K] positions in the list that `fit` was given; neighbours share an update rule.
        split: [K] int64, their splits.
        network: K networks; optimizer: their K update rules, on the same buffers.
        kernel: what trains them, None: operations of torch.
    """

    def __init__(
        self,
        arrays: Arrays,
        rows: Rows,
        members: Sequence[Member],
        settings: Settings,
        positions: npt.NDArray[np.intp],
        kernel: Kernel | None = None,
    ) -> None:
        device = rows.x.device
        architecture = arrays.architecture(settings)
        specs = [OptimizerSpec(member.optimizer, member.arguments) for member in members]
        self.members = positions
        self.split = torch.tensor([member.split for member in members], device=device)
        self._rows = rows
        self._random = Random(settings.seed, device)
        self._batch_size = settings.batch_size

        initial = initial_parameters(architecture, len(arrays.splits), self._random.weights)
        self.network = StackedMLP(
            architecture,
            initial.to(device, settings.dtype).index_select(0, self.split),
            dropout=torch.tensor([member.dropout for member in members]),
        )
        self.optimizer = StackedOptimizer(
            specs,
            self.network.parameters,
            self.network.gradients,
            architecture.shapes,
        )
        self.kernel = kernel

    def zeros(self, *shape: int) -> Tensor:
        """[..., K]"""
        return self.network.parameters.new_zeros(*shape, len(self.members))

    def state(self) -> Tensor:
        """[K, P + Q]"""
        return torch.cat((self.network.parameters, self.network.statistics), dim=1)

    def batches(self) -> Batches:
        """The batches of the next epoch."""
        return Batches(self._rows, self.split, self._random, self._batch_size, self.network.draws)

    def validation(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Chunks of the validation rows: x [S, V, width] for `logits`, y [K, V] and weights [K, V]
        that sum to 1; see `Rows.validation`."""
        width = max(self.network.architecture.widths)
        step = max(1, VALIDATION_ELEMENTS // (len(self.members) * width))
        return self._rows.validation(self.split, step)

    def logits(self, x: Tensor) -> Tensor:
        """[K, outputs, V] of rows [S, V, width], each member those of its split."""
        if self.kernel is not None:
            return self.kernel.logits(self.network.parameters, self.split, x)
        x = x[..., : self.network.architecture.inputs].mT
        return self.network(x.index_select(0, self.split))

    def validation_rows(self) -> Tensor:
        """[K]: how many there are in the member's split."""
        return self._rows.held_counts.index_select(0, self.split)

    def shrink(self, running: npt.NDArray[np.bool_]) -> bool:
        """Let members go that no longer run [M], if enough of them; False: none is left."""
        staying = running[self.members]
        if staying.any() and staying.mean() <= COMPACTION:
            self.keep(np.flatnonzero(staying))
        return bool(staying.any())

    def keep(self, index: npt.NDArray[np.intp]) -> None:
        """Go on with the members at these positions of the stack; the others leave."""
        rows = torch.from_numpy(index).to(self.split.device)
        self.members = self.members[index]
        self.split = self.split.index_select(0, rows)
        self.network.keep(rows)
        self.optimizer.keep(index.tolist(), self.network.parameters, self.network.gradients)


def _by_rule(
    members: Sequence[Member], kernel: Kernel | None
) -> list[tuple[Kernel | None, npt.NDArray[np.intp]]]:
    """Positions of the members, those of one update rule side by side, with what trains them:
    the compiled program has the stacked rules and no others."""
    specs = [OptimizerSpec(member.optimizer, member.arguments) for member in members]
    order = np.array(sorted(range(len(members)), key=lambda k: group_key(specs[k])))
    stacked = np.array([is_stacked(specs[k]) for k in order])
    if kernel is None:
        return [(None, order)]
    parts = [(kernel, order[stacked]), (None, order[~stacked])]
    return [(program, positions) for program, positions in parts if len(positions)]


def _initial_states(stacks: Sequence[Stack]) -> Tensor:
    """[M, P + Q], in the order of `fit`'s list."""
    order = np.argsort(np.concatenate([stack.members for stack in stacks]))
    states = torch.cat([stack.state() for stack in stacks])
    return states.index_select(0, torch.from_numpy(order).to(states.device))


def _kernel(
    architecture: Architecture, members: int, settings: Settings, device: torch.device
) -> Kernel | None:
    """The compiled program for an architecture, where there is one and it is the faster way."""
    possible = device.type == "cpu" and settings.dtype == torch.float32
    if not (settings.native and possible and can_train(architecture)):
        return None
    if fills_the_threads(members, architecture, settings.batch_size):
        return None
    return Kernel.get(architecture)


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)
