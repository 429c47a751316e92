"""A small training for tests: one network by a plain loop of torch, and many in a stack."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from pipeline.config.component import Component
from pipeline.optimizers.stacked import StackedOptimizer

SHAPES = ((3, 4), (4,), (4, 2), (2,))
SIZES = [12, 4, 8, 2]
EPOCHS, BATCHES = 40, 5

_GENERATOR = torch.Generator().manual_seed(0)
_X = torch.randn(BATCHES + 1, 16, sum(SIZES), generator=_GENERATOR, dtype=torch.float64)
_Y = torch.sign(torch.randn(BATCHES + 1, 16, generator=_GENERATOR, dtype=torch.float64))
VALIDATION = BATCHES  # the batch that nobody trains on


def entry(name: str, schedule: Any = None, **arguments: Any) -> Component:
    return Component(name, arguments | ({"schedule": schedule} if schedule else {}), "")


def schedule(name: str, **arguments: Any) -> Component:
    return Component(name, arguments, "")


def loss(weights: Tensor, batch: int) -> Tensor:
    """Logistic loss with a quadratic term, for weights [K, P]; [K]."""
    margins = _Y[batch] * (weights @ _X[batch].T)
    return F.softplus(-margins).mean(dim=1) + 0.05 * (weights - 0.3).square().sum(dim=1)


def draw(count: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, sum(SIZES), generator=generator, dtype=torch.float64)


def plain(
    start: Tensor,
    made: Callable[[list[Tensor]], Sequence[Optimizer]],
    scheduled: Callable[[Optimizer], Any] | None = None,
    by_batch: bool = False,
    by_loss: bool = False,
    epochs: int = EPOCHS,
) -> tuple[Tensor, list[float]]:
    """Weights after a plain loop, and the learning rate of each epoch's last update."""
    parts = zip(start.split(SIZES), SHAPES, strict=True)
    leaves = [part.view(shape).clone().requires_grad_() for part, shape in parts]

    def value(batch: int) -> Tensor:
        return loss(torch.cat([leaf.flatten() for leaf in leaves])[None], batch)[0]

    optimizers = made(leaves)
    schedulers = [scheduled(optimizer) for optimizer in optimizers] if scheduled else []
    rates = []
    for _ in range(epochs):
        for optimizer in optimizers:
            if hasattr(optimizer, "train"):
                optimizer.train()
        for batch in range(BATCHES):

            def closure(batch: int = batch) -> Tensor:
                for optimizer in optimizers:
                    optimizer.zero_grad()
                error = value(batch)
                error.backward()
                return error

            if isinstance(optimizers[0], torch.optim.LBFGS):
                optimizers[0].step(closure)
            else:
                closure()
                for optimizer in optimizers:
                    optimizer.step()
            rate = optimizers[0].param_groups[0]["lr"]
            if by_batch:
                for scheduler in schedulers:
                    scheduler.step()
        rates.append(rate)
        for optimizer in optimizers:
            if hasattr(optimizer, "eval"):
                optimizer.eval()
        if not by_batch:
            for scheduler in schedulers:
                scheduler.step(*[value(VALIDATION).item()] if by_loss else [])
    return torch.cat([leaf.detach().flatten() for leaf in leaves]), rates


def in_a_stack(
    components: Sequence[Component],
    start: Tensor,
    epochs: Sequence[int] | None = None,
    leave: Mapping[int, list[int]] | None = None,
) -> tuple[list[Tensor], list[Tensor]]:
    """The weights after each epoch and the learning rates of its last update, [K] each.

    leave: after an epoch, the members that stay.
    """
    parameters, gradients = start.clone(), torch.zeros_like(start)
    lengths = epochs or [EPOCHS] * len(components)
    optimizer = StackedOptimizer(components, parameters, gradients, SHAPES, lengths, BATCHES)
    weights, rates = [], []
    for epoch in range(1, max(lengths) + 1):
        optimizer.start_epoch()
        for batch in range(BATCHES):
            values = fill(gradients, parameters, batch)
            optimizer.step(closure_of(values, gradients, parameters, batch))
        optimizer.eval()
        weights.append(parameters.clone())
        rates.append(optimizer.rates)
        optimizer.end_epoch(loss(parameters, VALIDATION))
        assert torch.equal(optimizer.rates, rates[-1])
        if leave and epoch in leave:
            index = leave[epoch]
            parameters, gradients = parameters[index].clone(), gradients[index].clone()
            optimizer.keep(index, parameters, gradients)
    return weights, rates


def closure_of(
    values: Tensor, gradients: Tensor, parameters: Tensor, batch: int
) -> Callable[[], Tensor]:
    """A closure whose first call gives the losses that are there."""
    there = iter([values])

    def closure() -> Tensor:
        found = next(there, None)
        return (fill(gradients, parameters, batch) if found is None else found).sum()

    return closure


def fill(gradients: Tensor, parameters: Tensor, batch: int) -> Tensor:
    """Write each member's gradients; their losses [K]."""
    with torch.enable_grad():
        leaf = parameters.detach().clone().requires_grad_()
        values = loss(leaf, batch)
        (made,) = torch.autograd.grad(values.sum(), leaf)
    gradients.copy_(made)
    return values.detach()
