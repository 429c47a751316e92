"""A member whose optimizer has no stacked rule: the real class, in a stack."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pipeline.config.component import Component
from pipeline.optimizers.classes import make, set_mode, wants_closure
from pipeline.optimizers.schedules import Schedule

Closure = Callable[[], Tensor]
"""Makes the gradients anew, in place, and returns the loss."""


class SeparateMember:
    """One network's optimizers, whose leaves lie in the stack's buffers; a group of one, whose
    methods are a `StackedGroup`'s.

    A class may put a tensor of its own in place of a leaf's data or gradient: it is brought back.
    """

    def __init__(
        self,
        component: Component,
        parameters: Tensor,
        gradients: Tensor,
        shapes: Sequence[tuple[int, ...]],
        epochs: int,
        batches: int,
    ) -> None:
        self._shapes = shapes
        self._parameters, self._gradients = self._views(parameters), self._views(gradients)
        self._leaves = [view.detach().requires_grad_() for view in self._parameters]
        self._attach()
        self._wants_closure = wants_closure(component)
        self._optimizers = make(component, self._leaves)
        schedule = component.arguments.get("schedule")
        scheduled = self._optimizers if schedule else []
        self._schedules = [Schedule(schedule, each, epochs, batches) for each in scheduled]
        self.by_batch = any(each.by_batch for each in self._schedules)
        self.rates = self.rates_now()

    def rates_now(self) -> Tensor:
        lr = self._optimizers[0].param_groups[0]["lr"]
        return torch.tensor([lr], dtype=torch.float64, device=self._leaves[0].device)

    def set_mode(self, is_training: bool) -> None:
        for optimizer in self._optimizers:
            set_mode(optimizer, is_training)
        self._gather()

    def step(self, closure: Closure | None = None) -> None:
        def renewed() -> Tensor:
            assert closure is not None
            self._gather()
            loss = closure()
            self._attach()
            return loss

        self._attach()
        for optimizer in self._optimizers:
            optimizer.step(*[renewed] if self._wants_closure else [])  # type: ignore[arg-type]
        self._gather()

    def advance(self, of_batches: bool, losses: Sequence[float]) -> None:
        for schedule in self._schedules:
            if schedule.by_batch == of_batches:
                schedule.advance(*losses)

    def keep(self, index: Sequence[int], parameters: Tensor, gradients: Tensor) -> None:
        """Go on with the same values elsewhere: an optimizer's state belongs to the leaf."""
        self._parameters, self._gradients = self._views(parameters), self._views(gradients)
        for leaf, view in zip(self._leaves, self._parameters, strict=True):
            leaf.data = view
        self._attach()

    def _views(self, rows: Tensor) -> list[Tensor]:
        """Of one row [1, P], a view for each shape."""
        sizes = [torch.Size(shape).numel() for shape in self._shapes]
        parts = zip(torch.split(rows[0].detach(), sizes), self._shapes, strict=True)
        return [part.view(shape) for part, shape in parts]

    def _attach(self) -> None:
        for leaf, gradient in zip(self._leaves, self._gradients, strict=True):
            if leaf.grad is not gradient:
                leaf.grad = gradient

    def _gather(self) -> None:
        for leaf, view in zip(self._leaves, self._parameters, strict=True):
            if leaf.data_ptr() != view.data_ptr():
                view.copy_(leaf.detach())
                leaf.data = view
