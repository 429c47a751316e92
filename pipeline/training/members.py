"""What goes into training: members, and the settings of all of them."""

from dataclasses import dataclass, field, replace

import torch

from pipeline.config.component import Component
from pipeline.config.sections import Model, Training
from pipeline.models.metrics import LOSS, Metric
from pipeline.training.engines import Engines

PER_MEMBER = ("model.dropout", "training.epochs", "training.patience", "training.schedule")
"""The keys in which the members of a stack may differ."""


@dataclass(frozen=True)
class Member:
    """One network of a stack.

    split: position of its split in the study's.
    model, training: those of a trial's configuration, without ranges."""

    split: int
    optimizer: Component
    model: Model | Component
    training: Training


@dataclass(frozen=True)
class Settings:
    """How members are trained, whatever they are.

    seed: of initial weights, batches and dropout.
    native: whether compiled code may train the members, where there is a C++ compiler
        (`native.kernel.Kernel`); else all of it is operations of torch.
    engines: which way somebody's networks are trained.
    criterion: where it is accuracy a member's best epoch is that of the highest validation
        accuracy, of equal ones that of the lowest loss; else that of the lowest validation loss.
    cross_fit: whether each member also keeps the weights for `Fit.cross_fitted`."""

    seed: int = 0
    dtype: torch.dtype = torch.float32
    native: bool = True
    cross_fit: bool = False
    criterion: Metric = LOSS
    engines: Engines = field(default_factory=Engines, repr=False)


def scheduled(optimizer: Component, training: Training) -> Component:
    """The optimizer, with the schedule of all where it has none of its own."""
    if training.schedule is None or "schedule" in optimizer.arguments:
        return optimizer
    return replace(optimizer, arguments={**optimizer.arguments, "schedule": training.schedule})


def stack_key(model: Model | Component, training: Training) -> str:
    """Equal for members that can share a stack: every key but those `PER_MEMBER`.

    Of somebody's network every argument is one: another is another network."""
    keys: dict[str, object] = {"model": repr(model)}
    if isinstance(model, Model):
        keys = {f"model.{key}": value for key, value in model}
    keys |= {f"training.{key}": value for key, value in training}
    return repr({key: value for key, value in keys.items() if key not in PER_MEMBER})
