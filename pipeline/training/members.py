"""What goes into a stack, and what comes out of it: members, their settings and their fits."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Floats = npt.NDArray[np.float64]
FitState = Literal["complete", "failed", "dropped"]


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
    """What the members of a stack have in common.

    device: auto, cpu, cuda or cuda:N.
    native: whether compiled code may train the members, where there is a C++ compiler
        (`native.calls.Kernel`); else all of it is operations of torch.
    cross_fit: whether each member also keeps the weights for `Fit.cross_fitted`.
    """

    hidden: tuple[int, ...]
    activation: str = "relu"
    batch_norm: bool = False
    batch_size: int = 64
    seed: int = 0
    device: str = "cpu"
    dtype: torch.dtype = torch.float32
    native: bool = True
    cross_fit: bool = False


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
    cross_fitted: [PARTS, P + Q] with `Settings.cross_fit`: for each part of the validation rows
        (`batches.validation_parts`) the weights after the epoch of the lowest loss on all other
        parts. `loss` and `accuracy` are flattered by rows that chose the epoch themselves; a part
        did not choose these.
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
    cross_fitted: Tensor | None = None
