"""A trial: one configuration, estimated by its members, one for each repeat and fold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from pipeline.config import Config
from pipeline.optimizers.stacked import default_arguments
from pipeline.training.members import Fit, Floats

State = Literal["COMPLETE", "PRUNED", "FAIL"]
CURVES = ("train_loss", "val_loss", "val_accuracy")


class Place(Protocol):
    """Where a member's validation rows come from (`folds.Split`); both count from 0."""

    @property
    def repeat(self) -> int: ...
    @property
    def fold(self) -> int: ...


@dataclass(frozen=True)
class Trial:
    """One trial's outcome.

    config: the trial's own, with one optimizer entry and no ranges.
    entry: position of that entry in the searched configuration.
    params: the searched leaves by their dotted path there.
    reason: why it failed, else None.
    curves: train_loss, val_loss, val_accuracy: [epochs], each the mean over the members. A member
        that has stopped counts with the values of its kept epoch; from the epoch in which one
        failed or was dropped on there is nothing.
    loss, accuracy: on the validation rows, at each member's kept epoch, mean over the members; None
        unless complete.
    accuracy_std: sample standard deviation over the members, 0 for one member.
    best_epoch: mean over the members.
    seconds: wall time of its share of the training.
    fits: the members' outcomes.
    """

    number: int
    config: Config
    entry: int
    params: Mapping[str, Any]
    optimizer: str
    lr: float
    state: State
    reason: str | None
    curves: Mapping[str, Floats]
    loss: float | None
    accuracy: float | None
    accuracy_std: float | None
    best_epoch: float | None
    seconds: float
    fits: tuple[Fit, ...]


def combine(
    *,
    number: int,
    config: Config,
    entry: int,
    params: Mapping[str, Any],
    fits: Sequence[Fit],
    splits: Sequence[Place],
    seconds: float,
) -> Trial:
    """The members' outcomes -> the trial. `splits[i]` is where `fits[i]` was validated.

    FAIL when any member failed, PRUNED when any was dropped, else COMPLETE.
    """
    reasons = [
        f"repeat {split.repeat + 1}, fold {split.fold + 1}: {one.reason}"
        for one, split in zip(fits, splits, strict=True)
        if one.state == "failed"
    ]
    dropped = any(one.state == "dropped" for one in fits)
    state: State = "FAIL" if reasons else "PRUNED" if dropped else "COMPLETE"
    optimizer = config.optimizers[0]
    lr = optimizer.arguments.get("lr", default_arguments(optimizer.name)["lr"])
    accuracies = np.array([one.accuracy for one in fits])
    complete = state == "COMPLETE"
    return Trial(
        number=number,
        config=config,
        entry=entry,
        params=dict(params),
        optimizer=optimizer.name,
        lr=float(lr),
        state=state,
        reason="; ".join(reasons) or None,
        curves=mean_curves(fits),
        loss=float(np.mean([one.loss for one in fits])) if complete else None,
        accuracy=float(accuracies.mean()) if complete else None,
        accuracy_std=_sample_deviation(accuracies) if complete else None,
        best_epoch=float(np.mean([one.best_epoch for one in fits])) if complete else None,
        seconds=seconds,
        fits=tuple(fits),
    )


def mean_curves(fits: Sequence[Fit]) -> dict[str, Floats]:
    """The mean over the members in each epoch, as `Trial.curves` says."""
    cut = [len(one.val_loss) for one in fits if one.state != "complete"]
    epochs = min(cut) if cut else max(len(one.val_loss) for one in fits)
    return {
        name: np.mean([_extended(getattr(one, name), one.best_epoch, epochs) for one in fits], 0)
        for name in CURVES
    }


def _extended(curve: Floats, best_epoch: int, epochs: int) -> Floats:
    rest = max(0, epochs - len(curve))
    return np.concatenate([curve[:epochs], np.full(rest, curve[best_epoch - 1] if rest else 0.0)])


def _sample_deviation(values: Floats) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0
