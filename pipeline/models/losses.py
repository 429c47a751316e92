"""Losses that a configuration names, of the outputs of many networks at once."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap

from pipeline.common import imports
from pipeline.common.errors import UserError
from pipeline.config.component import OF_LABELS, Component
from pipeline.config.ranges import plain

KEY = "training.loss"


@dataclass(frozen=True)
class Loss:
    """A loss of a network's outputs and the rows' labels.

    Attributes:
        name: for messages.
        rows: outputs [K, C, ...] and label ids [K, ...] -> the loss of each row [K, ...], or of
            each network [K].
        of_labels: whether it takes an output for each label, of two labels too: True; one output:
            False; whatever the network has: None.
        of_probabilities: whether it takes probabilities and not logits."""

    name: str
    rows: Callable[[Tensor, Tensor], Tensor]
    of_labels: bool | None = None
    of_probabilities: bool = False


def loss_of(component: Component, weights: Tensor | None = None) -> Loss:
    """The loss that a component names: one of torch.nn, or a class or function by its path.

    One by its path is called for each network with its outputs [rows] and labels 0.0 and 1.0 where
    it has one output, else with outputs [rows, C] and label ids; it returns a loss for each row or
    for all of them. An attribute `of_probabilities` that is true says that it takes these.

    Args:
        weights: [C] float, of the labels.

    Raises UserError: it is not there, or cannot be made with the arguments."""
    made = _made(component, weights)
    if imports.is_path(component.path):
        takes = isinstance(made, nn.BCELoss) or bool(getattr(made, "of_probabilities", False))
        return Loss(component.name, _Each(made), of_probabilities=takes)
    assert isinstance(made, nn.Module)
    is_of_labels = component.name in OF_LABELS

    def rows(outputs: Tensor, y: Tensor) -> Tensor:
        made.to(outputs.device, outputs.dtype)  # it may have tensors of its own, such as weights
        losses: Tensor
        if is_of_labels:
            flat = outputs.movedim(1, -1).reshape(-1, outputs.shape[1])
            losses = made(flat, y.reshape(-1)).view(y.shape)
        else:
            target = 2 * y - 1 if component.name == "SoftMarginLoss" else y
            losses = made(outputs.squeeze(1), target.to(outputs.dtype))
        return losses

    return Loss(component.name, rows, is_of_labels, component.name == "BCELoss")


def _made(component: Component, weights: Tensor | None) -> Callable[..., Tensor]:
    arguments: dict[str, Any] = plain(component.arguments)
    if imports.is_path(component.path):
        loss = imports.load(component.path, f"{KEY}.name")
        if not callable(loss):
            raise UserError(f"{KEY}.name: must be a class or a function; got {loss!r}")
        if loss.__module__ == "torch.nn.functional":  # they cannot tell what outputs mean
            raise UserError(f"{KEY}.name: must be a class of torch.nn, or your own; got a function")
        imports.check_arguments(loss, arguments, KEY, passed=0 if inspect.isclass(loss) else 2)
        if not inspect.isclass(loss):
            return functools.update_wrapper(functools.partial(loss, **arguments), loss)
    else:
        loss = getattr(torch.nn, component.name)
        imports.check_arguments(loss, arguments, KEY)
        arguments |= {"reduction": "none"}
        if weights is not None and component.name in OF_LABELS:
            arguments |= {"weight": weights}
    try:
        made: Callable[..., Tensor] = loss(**arguments)
    except Exception as error:
        reason = imports.reason_of(error)
        raise UserError(f"{KEY}: {component.path} cannot be made: {reason}") from error
    return made


class _Each:
    """A loss that knows one network, called for many: at once where that works."""

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        self._loss, self._at_once = loss, True

    def __call__(self, outputs: Tensor, y: Tensor) -> Tensor:
        if outputs.dim() == 4:  # implicit ensembles: a network of each
            rows = [self(outputs[..., i], y[..., i]) for i in range(outputs.shape[3])]
            return torch.stack(rows, dim=-1) if rows[0].dim() > 1 else torch.stack(rows).mean(dim=0)
        outputs = outputs.squeeze(1) if outputs.shape[1] == 1 else outputs.mT
        target = y.to(outputs.dtype) if outputs.dim() == 2 else y
        losses = self._of_each(outputs, target)
        if losses.shape not in (y.shape, y.shape[:1]):
            found = f"{list(losses.shape[1:])} for {y.shape[1]} rows"
            raise ValueError(f"it must give a number, or one for each row; got {found}")
        return losses

    def _of_each(self, outputs: Tensor, target: Tensor) -> Tensor:
        if isinstance(self._loss, nn.Module):
            self._loss.to(outputs.device, outputs.dtype)
        if self._at_once:
            try:
                return vmap(self._loss)(outputs, target)
            except (RuntimeError, ValueError):
                self._at_once = False
        return torch.stack([self._loss(*one) for one in zip(outputs, target, strict=True)])
