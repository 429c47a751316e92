"""The loop: members trained together in stacks, each to its own best epoch.

`fit` is a pure function. Everything random in it is drawn for the splits of the study, from
generators of its own, and never for the members that happen to be there: members of one split share
initial weights, batches and dropout, and adding, removing or reordering members changes nothing for
the others beyond rounding."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.models.metrics import ACCURACY, LOSS
from pipeline.models.module import stackable_attention
from pipeline.training.batches import CROSS_FIT_SHARES, Arrays, Batch, Batches, Rows, by_share
from pipeline.training.engines import STACKED
from pipeline.training.layouts import threads
from pipeline.training.members import Member, Settings
from pipeline.training.outcomes import Epoch, Fit, Outcomes, Watch
from pipeline.training.stacks import Stack, build

VALIDATION_ELEMENTS = 2**20
"""Activations of one layer that validation holds at once; more rows are taken in chunks."""

COMPACTION = 7 / 8
"""A stack is made smaller when no more than this part of its members is still running."""


def fit(
    arrays: Arrays, members: Sequence[Member], settings: Settings, watch: Watch | None = None
) -> list[Fit]:
    """Train the members, which can share a stack (`members.stack_key`), together; the outcomes are
    in their order."""
    if not members:
        return []
    rows, stacks, layout = build(arrays, members, settings, step)
    is_forward = arrays.dependence.order is not None
    how = settings.cross_fit, is_forward, settings.criterion
    outcomes = Outcomes(members, arrays.task.metrics, _states(stacks), *how)
    is_stacked = any(stack.engine == STACKED for stack in stacks)
    own_state = torch.random.fork_rng(devices=[])
    with threads(layout) as at_once, stackable_attention(is_stacked), own_state:
        for epoch in range(1, max(member.training.epochs for member in members) + 1):
            outcomes.add(epoch, list(at_once(partial(run_epoch, rows), stacks)))
            outcomes.stop(epoch, watch)
            stacks = [stack for stack in stacks if shrink(stack, outcomes.running)]
            if not stacks:
                break
    return outcomes.fits()


def run_epoch(rows: Rows, stack: Stack) -> Epoch:
    """Train for an epoch, then validate."""
    batches = Batches(rows, stack.split, stack.random, stack.units, stack.rows_last)
    trained = stack.train(batches, step)
    scores, share_losses, share_hits = validate(rows, stack)
    rates = stack.end_epoch(scores[LOSS.name])
    return Epoch(stack, trained, scores, share_losses, share_hits, rates)


def step(stack: Stack, batch: Batch) -> Tensor:
    """One step of all members, a batch each; losses [K]. `native/kernel.cpp` has its own steps."""
    network, optimizer, task = stack.network, stack.optimizer, stack.task

    def losses_and_gradients() -> Tensor:
        network.gradients.zero_()
        outputs = network(batch.x, training=True, draws=batch.draws)
        network.backward(task.gradients(outputs, batch.y))
        clip(network.gradients, stack.clip_norm)
        return task.objective(outputs, batch.y)

    losses = losses_and_gradients()
    first = [losses]

    def closure() -> Tensor:
        """For an optimizer that asks for the loss again within a step, of one member."""
        return (first.pop() if first else losses_and_gradients()).sum()

    optimizer.step(closure)
    return losses


def clip(gradients: Tensor, norm: float | None) -> None:
    """Scale each member's gradients [K, P] to this norm at most, as
    `torch.nn.utils.clip_grad_norm_` does."""
    if norm is not None:
        lengths = gradients.norm(dim=1, keepdim=True)
        gradients.mul_((norm / (lengths + 1e-6)).clamp(max=1.0))


@torch.no_grad()
def validate(rows: Rows, stack: Stack) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Each member's scores on its validation rows [K] by the metric's name; what each share of
    these rows adds to the loss [CROSS_FIT_SHARES, K], and how many of them are right, as many."""
    task, count = rows.task, len(stack.members)
    share_losses = torch.zeros(CROSS_FIT_SHARES, count, dtype=rows.dtype, device=rows.y.device)
    share_hits = torch.zeros_like(share_losses, dtype=torch.int64)
    at_once = VALIDATION_ELEMENTS // (stack.counted * stack.width)
    others = [metric for metric in task.metrics if metric not in (LOSS, ACCURACY)]
    chunks: list[tuple[Tensor, Tensor, Tensor]] = []
    for x, y, weights in rows.validation(stack.split, at_once):
        outputs = stack.outputs(x)
        if others:
            chunks.append((task.logits(outputs), y, (weights > 0).double()))
        share_losses += by_share(task.losses(outputs, y) * weights)
        share_hits += by_share((task.predictions(outputs) == y) & (weights > 0))
    scores = {
        # In double, where the order of adding five does not show: it may change with K.
        LOSS.name: share_losses.double().sum(dim=0),
        ACCURACY.name: share_hits.sum(dim=0).double()
        / rows.validation_counts.index_select(0, stack.split),
    }
    if others:
        logits, y, real = (torch.cat(parts, dim=1) for parts in zip(*chunks, strict=True))
        for metric in others:
            scores[metric.name] = metric.score(logits, y, real)
    return scores, share_losses, share_hits


def shrink(stack: Stack, running: npt.NDArray[np.bool_]) -> bool:
    """Let members go that no longer run [M], if enough of them; False: none is left."""
    staying = running[stack.members]
    if staying.any() and staying.mean() <= COMPACTION:
        stack.keep(torch.from_numpy(np.flatnonzero(staying)).to(stack.split.device))
    return bool(staying.any())


def _states(stacks: Sequence[Stack]) -> Tensor:
    """[M, P + Q], in the order of `fit`'s list."""
    order = torch.from_numpy(np.argsort(np.concatenate([stack.members for stack in stacks])))
    states = [
        stack.network.state(torch.arange(len(stack.members)).to(stack.split)) for stack in stacks
    ]
    return torch.cat(states).index_select(0, order.to(states[0].device))
