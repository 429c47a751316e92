"""Stacks: members that are trained together, by whatever is fastest for them.

A *member* is one network, a *stack* is K members of one architecture.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.models.mlp import Architecture, StackedMLP, initial_parameters
from pipeline.models.task import Task
from pipeline.optimizers.stacked import StackedGroup, StackedOptimizer, group_key
from pipeline.training.batches import Arrays, Batch, Batches, Random, Rows
from pipeline.training.executors import Layout, fills_the_threads, native_plan, plan, together
from pipeline.training.members import PER_MEMBER, Member, Settings, stack_key
from pipeline.training.native.kernel import Kernel, can_train

Positions = npt.NDArray[np.intp]
Step = Callable[[StackedMLP, StackedOptimizer, Task, Batch], Tensor]
"""One step of all members on a batch each; their losses [K]."""


class Stack(Protocol):
    """Members that are trained together. Whatever trains them, each has its own numbers.

    Attributes:
        members: [K] positions in the list that `fit` was given.
        split: [K] int64, their splits.
        random: the generators of their batches and of their dropout.
        units: of the layers that dropout needs draws for, none without dropout.
        width: the units of the widest layer.
    """

    members: Positions
    split: Tensor
    random: Random
    units: tuple[int, ...]
    width: int

    def train(self, batches: Batches, step: Step) -> Tensor:
        """Train for an epoch, by `step` on each batch where it has no steps of its own.

        Returns [3, K]: the mean of each member's losses over the batches; then two sums, of all
        elements of its gradients and of its weights after the last batch, which are not finite if
        any of these was not.
        """

    def outputs(self, x: Tensor) -> Tensor:
        """[K, outputs, V] for rows [S, V, width], each member those of its split."""

    def state(self, index: Tensor) -> Tensor:
        """[k, P + Q]: the parameters and running statistics of the members at these places."""

    def keep(self, index: Tensor) -> None:
        """Go on with the members at these places [k], ascending; the others leave."""


class TorchStack:
    """By operations of torch on all members at once. A class of `torch.optim` that has no stacked
    rule updates one member after the other.

    Args:
        members: neighbours share an update rule; positions: see `Stack`.
        initial: [S, P], the parameters that members start with in each split.
    """

    def __init__(
        self,
        members: Sequence[Member],
        positions: Positions,
        architecture: Architecture,
        task: Task,
        initial: Tensor,
        random: Random,
    ) -> None:
        self.members, self.random, self.task = positions, random, task
        self.split = torch.tensor([member.split for member in members], device=initial.device)
        rates = torch.tensor([member.model.dropout for member in members])
        self.units = architecture.hidden if rates.any() else ()
        self.width = max(architecture.widths)
        self.network = StackedMLP(architecture, initial.index_select(0, self.split), rates)
        self.optimizer = StackedOptimizer(
            [member.optimizer for member in members],
            self.network.parameters,
            self.network.gradients,
            architecture.shapes,
        )

    @torch.no_grad()
    def train(self, batches: Batches, step: Step) -> Tensor:
        network = self.network
        loss, gradient_sum = network.parameters.new_zeros(2, len(self.members))
        for batch in batches:
            loss += step(network, self.optimizer, self.task, batch)
            gradient_sum += network.gradients.sum(dim=1)
        return torch.stack((loss / len(batches), gradient_sum, network.parameters.sum(dim=1)))

    def outputs(self, x: Tensor) -> Tensor:
        x = x[..., : self.network.architecture.inputs].mT
        return self.network(x.index_select(0, self.split))

    def state(self, index: Tensor) -> Tensor:
        return self.network.state(index)

    def keep(self, index: Tensor) -> None:
        self.members = self.members[index.cpu().numpy()]
        self.split = self.split.index_select(0, index)
        self.network.keep(index)
        self.optimizer.keep(index.tolist(), self.network.parameters, self.network.gradients)


class NativeStack(TorchStack):
    """By the compiled program, which takes many batches in a call, and one member after the other:
    a member's numbers do not depend on the others."""

    def __init__(self, kernel: Kernel, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._kernel = kernel

    @torch.no_grad()
    def train(self, batches: Batches, step: Step) -> Tensor:
        network = self.network
        loss, gradient_sum = torch.zeros(2, len(self.members), dtype=torch.float64)
        for x, y, draws in batches.segments():
            segment = x, y, [draw.mT.contiguous() for draw in draws]
            for k, group in self.optimizer.groups:
                assert isinstance(group, StackedGroup)
                self._kernel.train(
                    group, self.split[k], network.dropout[k], segment, loss[k], gradient_sum[k]
                )
        weight_sum = network.parameters.sum(dim=1).double()
        return torch.stack((loss / len(batches), gradient_sum, weight_sum))

    def outputs(self, x: Tensor) -> Tensor:
        return self._kernel.outputs(self.network.parameters, self.split, x)


def build(
    arrays: Arrays, members: Sequence[Member], settings: Settings
) -> tuple[Rows, list[Stack], Layout]:
    """The rows, the members in stacks, and the threads that these shall have.

    The stacks follow from the work and the number of torch's threads, not from any measurement.
    Members of one update rule stand side by side; the compiled program has those that it can.
    """
    if len({stack_key(member.model, member.training) for member in members}) > 1:
        raise ValueError(f"members of a stack can differ in {', '.join(PER_MEMBER)} only")
    model, training = members[0].model, members[0].training
    gpu = training.device == "auto" and torch.cuda.is_available()
    device = torch.device("cuda" if gpu else training.device.replace("auto", "cpu"))
    architecture = arrays.architecture(model)
    compiled = device.type == "cpu" and settings.dtype == torch.float32 and settings.native
    # Fewer networks than threads, and large ones, are faster with torch's own threads.
    compiled &= not fills_the_threads(len(members), architecture, training.batch_size)
    compiled &= can_train(architecture, arrays.task)
    kernel = Kernel.get(architecture) if compiled else None
    width = kernel.width if kernel else None
    rows = Rows(arrays, training.batch_size, device, settings.dtype, width)
    weights = Random(settings.seed, device).weights
    initial = initial_parameters(architecture, rows.splits, weights).to(device, settings.dtype)

    order = sorted(range(len(members)), key=lambda k: group_key(members[k].optimizer))
    is_native = [kernel is not None and members[k].optimizer.name in kernel.rules for k in order]
    stacks: list[Stack] = []
    layouts = []
    for program, places in ((kernel, is_native), (None, np.invert(is_native))):
        positions = np.array(order)[places]
        if not len(positions):
            continue
        if program:
            layout = native_plan(len(positions), architecture, rows.smallest)
        else:
            layout = plan(len(positions), architecture, rows.batch_rows, device)
        layouts.append(layout)
        for stacked in np.array_split(positions, layout.stacks):
            those, random = [members[k] for k in stacked], Random(settings.seed, device)
            arguments = those, stacked, architecture, arrays.task, initial, random
            stacks.append(NativeStack(program, *arguments) if program else TorchStack(*arguments))
    return rows, stacks, together(layouts)
