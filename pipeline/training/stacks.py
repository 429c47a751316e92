"""Stacks: members that are trained together, by whatever is fastest for them.

A *member* is one network, a *stack* is K members of one architecture."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.config.component import Component
from pipeline.config.sections import Training
from pipeline.models.architecture import Architecture
from pipeline.models.mlp import MLP, StackedMLP
from pipeline.models.module import ModuleArchitecture, ModuleStack
from pipeline.models.task import Task
from pipeline.optimizers.classes import wants_closure
from pipeline.optimizers.schedules import by_batch
from pipeline.optimizers.stacked import StackedGroup, StackedOptimizer, group_key, has_rule
from pipeline.training.batches import Arrays, Batch, Batches, Random, Rows
from pipeline.training.engines import COMPILED, IN_THREADS, ONE_BY_ONE, STACKED, Places
from pipeline.training.layouts import (
    LARGE_NETWORK,
    LEAST_WORK,
    SHARD_WORK,
    Layout,
    apart,
    native_plan,
    plan,
    whole_trials,
)
from pipeline.training.members import Member, Settings
from pipeline.training.native.kernel import Kernel, can_train, library

Step = Callable[["Stack", Batch], Tensor]
"""One step of all members on a batch each; their losses [K]."""


class Stack:
    """By operations of torch, on all members at once where the network can. A class of optimizer
    that has no stacked rule updates one member after the other.

    Args:
        members: neighbours share an update rule.
        positions: [K], theirs in the list that `fit` was given.
        initial: [S, P + Q], the weights that members start with in each split.
        batches: of an epoch.
        engine: what trains them, of `engines`.

    Attributes:
        members: their positions; split: [K] int64, their splits.
        random: the generators of their batches and of their dropout.
        units, rows_last: what the batches need, see `Batches`.
        width: the numbers that the widest layer makes of a row.
        engine: as given."""

    def __init__(
        self,
        members: Sequence[Member],
        positions: Places,
        architecture: Architecture,
        task: Task,
        initial: Tensor,
        random: Random,
        batches: int,
        engine: str = STACKED,
    ) -> None:
        self.members, self.random = positions, random
        self.task, self.engine = task, engine
        self.split = torch.tensor([member.split for member in members], device=initial.device)
        weights = initial.index_select(0, self.split)
        self.units: tuple[int, ...] = ()
        self.width = architecture.widest
        self.rows_last = isinstance(architecture, MLP)
        self.network: StackedMLP | ModuleStack
        if isinstance(architecture, MLP):
            rates = torch.tensor([getattr(member.model, "dropout", 0.0) for member in members])
            self.units = architecture.hidden if rates.any() else ()
            self.network = StackedMLP(architecture, weights, rates)
        else:
            self.network = ModuleStack(architecture, weights, random.dropout, engine == STACKED)
        self.clip_norm = members[0].training.clip_norm
        self.optimizer = StackedOptimizer(
            [member.optimizer for member in members],
            self.network.parameters,
            self.network.gradients,
            architecture.shapes,
            [member.training.epochs for member in members],
            batches,
        )

    @property
    def counted(self) -> int:
        """How many members validation reckons with when it chooses how many rows to take at once:
        the bits of a sum over rows depend on how it is parted."""
        return len(self.members)

    @torch.no_grad()
    def train(self, batches: Batches, step: Step) -> Tensor:
        """Train for an epoch, by `step` on each batch where it has no steps of its own.

        Returns [3, K]: the mean of each member's losses over the batches; then two sums, of all
        elements of its gradients and of its weights after the last batch, which are not finite if
        any of these was not."""
        network = self.network
        loss, gradient_sum = network.parameters.new_zeros(2, len(self.members))
        self.optimizer.start_epoch()
        for batch in batches:
            loss += step(self, batch)
            gradient_sum += network.gradients.sum(dim=1)
        self.optimizer.eval()
        return torch.stack((loss / len(batches), gradient_sum, network.parameters.sum(dim=1)))

    def end_epoch(self, losses: Tensor) -> Tensor:
        """Let the schedules go forward, by the validation losses [K] too; the learning rates of the
        epoch's last batch [K] float64."""
        rates = self.optimizer.rates
        self.optimizer.end_epoch(losses)
        return rates

    def outputs(self, x: Tensor) -> Tensor:
        """[K, outputs, V] for rows [S, V, width], each member those of its split."""
        if isinstance(self.network, StackedMLP):
            x = x[..., : self.network.architecture.inputs].mT
        return self.network(x.index_select(0, self.split))

    def keep(self, index: Tensor) -> None:
        """Go on with the members at these places [k], ascending; the others leave."""
        self.members = self.members[index.cpu().numpy()]
        self.split = self.split.index_select(0, index)
        self.network.keep(index)
        self.optimizer.keep(index.tolist(), self.network.parameters, self.network.gradients)


class NativeStack(Stack):
    """By the compiled program, which takes many batches in a call, and one member after the other:
    a member's numbers do not depend on the others."""

    network: StackedMLP
    counted = 8  # however many there are

    def __init__(self, kernel: Kernel, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._kernel = kernel

    @torch.no_grad()
    def train(self, batches: Batches, step: Step) -> Tensor:
        network = self.network
        loss, gradient_sum = torch.zeros(2, len(self.members), dtype=torch.float64)
        self.optimizer.start_epoch()
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


@dataclass(frozen=True)
class Assigned:
    """Members that can share a stack, and what trains which of them.

    made: (engine, members' positions) -> a stack.
    engines: by the engine its members' positions, those of one update rule side by side.
    in_threads: whether members that are trained one by one gain from threads."""

    rows: Rows
    architecture: Architecture
    made: Callable[[str, Places], Stack]
    engines: Mapping[str, list[int]]
    in_threads: bool


def build(
    arrays: Arrays, members: Sequence[Member], settings: Settings, step: Step
) -> tuple[Rows, list[Stack], Layout]:
    """The rows, the members in stacks, and the threads that these shall have.

    Which members share a stack follows from the work alone; only the compiled program's stacks, in
    which members do not depend on each other, follow from the number of torch's threads too."""
    assigned = _assigned(arrays, members, settings, step)
    rows, architecture, device = assigned.rows, assigned.architecture, assigned.rows.x.device
    stacks: list[Stack] = []
    layouts: list[Layout] = []
    for engine, places in assigned.engines.items():
        parts = [places]
        if engine == STACKED and device.type == "cpu":
            work = 3 * rows.batch_rows * architecture.products
            together = whole_trials(len(members), rows.splits, work, LEAST_WORK)
            parts = [[k for k in places if k in run] for run in together]
        for part in filter(None, parts):
            if engine == ONE_BY_ONE:
                how = architecture, rows.batch_rows, device, assigned.in_threads
                layouts.append(apart(len(part), *how))
            elif engine == COMPILED:
                layouts.append(native_plan(len(part), architecture, rows.smallest))
            else:
                layouts.append(plan(len(part), architecture, rows.batch_rows, device))
            split = np.array_split(np.array(part), layouts[-1].stacks)
            stacks += [assigned.made(engine, k) for k in split]
    if len(layouts) > 1:
        layouts = [Layout(len(stacks), min(len(stacks), torch.get_num_threads()), 1)]
    return rows, stacks, layouts[0]


def shards(
    arrays: Arrays, members: Sequence[Member], settings: Settings, step: Step
) -> list[range]:
    """Positions of members that may be trained apart from the others, elsewhere: whole trials.

    They follow from the work. Members of the compiled program, and those that are trained one by
    one, are the same wherever they are, and a shard is worth `SHARD_WORK`; where members are
    trained together a shard is what `build` keeps together."""
    model, training = members[0].model, members[0].training
    architecture = arrays.architecture(model, training)
    smallest, batches = arrays.batches(training.batch_size)
    if isinstance(architecture, MLP):
        kernel = _kernel(architecture, arrays.task.trained_by(training), members, settings)
        is_stacked = any(_engine(member.optimizer, kernel) == STACKED for member in members)
    else:
        is_stacked = STACKED in _assigned(arrays, members, settings, step).engines
    work, least = 3 * (smallest // batches) * architecture.products, LEAST_WORK
    if not is_stacked or device_of(training).type != "cpu":
        epochs = max(member.training.epochs for member in members)
        work, least = 3 * smallest * architecture.products * epochs, SHARD_WORK
    return whole_trials(len(members), len(arrays.splits), work, least)


def device_of(training: Training) -> torch.device:
    gpu = training.device == "auto" and torch.cuda.is_available()
    return torch.device("cuda" if gpu else training.device.replace("auto", "cpu"))


def _assigned(
    arrays: Arrays, members: Sequence[Member], settings: Settings, step: Step
) -> Assigned:
    """The compiled program has those that it can."""
    model, training = members[0].model, members[0].training
    device = device_of(training)
    architecture, task = arrays.architecture(model, training), arrays.task.trained_by(training)
    kernel = _kernel(architecture, task, members, settings)
    width = kernel.width if kernel else None
    rows = Rows(arrays, training.batch_size, device, settings.dtype, width)
    initial = architecture.initial(rows.splits, settings.seed).to(device, settings.dtype)

    def made(engine: str, places: Places) -> Stack:
        those, random = [members[k] for k in places], Random(settings.seed, device)
        arguments = those, places, architecture, task, initial, random, rows.batches, engine
        if kernel and engine == COMPILED:
            return NativeStack(kernel, *arguments)
        return Stack(*arguments)

    order = sorted(range(len(members)), key=lambda k: group_key(members[k].optimizer))
    engines: dict[str, list[int]] = {}
    for k in order:
        engines.setdefault(_engine(members[k].optimizer, kernel), []).append(k)
    in_threads = True
    if isinstance(architecture, ModuleArchitecture) and STACKED in engines:
        places = np.array(engines[STACKED])
        chosen = settings.engines.choose(rows, made, architecture, places, step)
        in_threads = chosen == IN_THREADS
        if chosen != STACKED:
            engines = {ONE_BY_ONE: order}
    return Assigned(rows, architecture, made, engines, in_threads)


def _engine(optimizer: Component, kernel: Kernel | None) -> str:
    """What can train members of an optimizer; one with closures steps whenever it wants."""
    if kernel and optimizer.path in kernel.rules and has_rule(optimizer):
        return STACKED if by_batch(optimizer) else COMPILED
    return ONE_BY_ONE if wants_closure(optimizer) else STACKED


def _kernel(
    architecture: Architecture, task: Task, members: Sequence[Member], settings: Settings
) -> Kernel | None:
    """The compiled program, where it can train such members and is faster."""
    training = members[0].training
    is_possible = settings.dtype == torch.float32 and settings.native
    is_possible = is_possible and device_of(training).type == "cpu" and training.clip_norm is None
    if not is_possible or not isinstance(architecture, MLP):
        return None
    is_faster = architecture.products < LARGE_NETWORK
    program = library() if is_faster and can_train(architecture, task) else None
    return Kernel(program, architecture, task.smoothing) if program else None
