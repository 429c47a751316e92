"""The searched settings as a reader has them: one for each name, whichever optimizers have it.

`optimizers.0.lr` and `optimizers.3.lr` are two ranges and one setting, `lr`: a trial has one value
of it, which lies somewhere in the range of its own optimizer."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.common import text as formats
from pipeline.config import Choice, Config
from pipeline.search.space import Axis, Space, label
from pipeline.training.trial import Trial

OPTIMIZER, LEARNING_RATE = "optimizer", "lr"


@dataclass(frozen=True)
class Setting:
    """One searched setting.

    name: `optimizer`, `lr`, another argument of optimizers (`weight_decay`), or the path of a leaf
        that all trials have (`model.dropout`).
    axes: label of an entry of `optimizers` -> its range; all of numbers, or all the same choice."""

    name: str
    label: str  # for people; it names the optimizers where not all have it
    axes: Mapping[str, Axis]

    @property
    def axis(self) -> Axis:
        """The range of the first entry that has it."""
        return next(iter(self.axes.values()))

    @property
    def categorical(self) -> bool:
        return self.axis.categorical

    @property
    def log(self) -> bool:
        """Whether its numbers are spread evenly in the logarithm, in every entry."""
        return all(axis.log for axis in self.axes.values())

    def value(self, trial: Trial) -> Any:
        """The trial's value; None where its optimizer has no such setting."""
        if self.name == OPTIMIZER:
            return trial.optimizer
        axis = self.axes.get(trial.optimizer)
        return trial.params.get(axis.path) if axis is not None else None

    def has(self, trial: Trial) -> bool:
        """Whether the trial's optimizer has the setting. (`null` is a value that it may have.)"""
        axis = self.axes.get(trial.optimizer)
        return axis is not None and (self.name == OPTIMIZER or axis.path in trial.params)

    def category(self, trial: Trial) -> int:
        """The position of the trial's value in the choice."""
        return self.axis.labels.index(label(self.value(trial)))

    def position(self, trial: Trial) -> float:
        """Where the trial's number is in the range of its optimizer: 0 at the low end, 1 at the
        high end."""
        axis, value = self.axes[trial.optimizer], float(self.value(trial))
        low, high = float(axis.low), float(axis.high)
        if axis.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return min(max((value - low) / (high - low), 0.0), 1.0) if high > low else 0.5


def settings_of(config: Config) -> tuple[Setting, ...]:
    """What the configuration searches: the optimizer first where there are several, the learning
    rate, then in the order of the file. Ranges of a single value are none."""
    space = Space(config)
    settings: list[Setting] = []
    if len(space.labels) > 1:
        axis = Axis.of(OPTIMIZER, Choice(space.labels))
        settings.append(Setting(OPTIMIZER, OPTIMIZER, dict.fromkeys(space.labels, axis)))
    groups: dict[tuple[str, tuple[str, ...] | None], dict[str, Axis]] = {}
    for owner, axes_of_entry in zip(space.labels, space.axes, strict=True):
        for axis in axes_of_entry:
            if axis.values is None or len(axis.values) > 1:
                # Choices of other values are other settings; ranges of numbers are one.
                key = argument(axis.path), axis.labels if axis.categorical else None
                groups.setdefault(key, {})[owner] = axis
    for (name, _), axes in groups.items():
        owners = [*axes] if len(axes) == 1 else [f"{len(axes)} optimizers"]
        of_some = f" ({owners[0]})" if len(axes) < len(space.labels) else ""
        settings.append(Setting(name, plain_name(name) + of_some, axes))
    first = (OPTIMIZER, LEARNING_RATE)
    return tuple(sorted(settings, key=lambda s: first.index(s.name) if s.name in first else 2))


def argument(path: str) -> str:
    """The name of the setting that a leaf is: `optimizers.3.lr` is `lr`."""
    return path.split(".", 2)[2] if path.startswith("optimizers.") else path


def plain_name(name: str) -> str:
    """A setting's name for people: without its section, and `lr` in words."""
    if name == LEARNING_RATE:
        return "learning rate"
    return name.removeprefix("model.").removeprefix("training.")


def value_text(value: Any) -> str:
    """A value for people: `0.00284`, `[64, 32]`, `true`, `relu`."""
    if isinstance(value, str):
        return value
    return formats.number(value) if isinstance(value, float) else json.dumps(value)


def others_text(params: Mapping[str, Any], most: int = 5) -> str:
    """The params of a trial but its learning rate: `dropout 0.2, hidden [64, 32]`; may be empty."""
    named = {argument(path): value for path, value in params.items()}
    named.pop(LEARNING_RATE, None)
    shown = [f"{plain_name(name)} {value_text(value)}" for name, value in named.items()]
    if len(shown) > most:
        shown[most:] = [formats.count(len(shown) - most, "other setting")]
    return ", ".join(shown)
