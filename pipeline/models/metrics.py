"""Metrics: what a score is called, which way is better, and how its value is written.

Nothing here loads torch: a configuration that names a metric is checked before that."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pipeline.common import text

if TYPE_CHECKING:
    from torch import Tensor

PREFIX = "val_"
"""What a metric is called where it is measured on validation rows after every epoch."""


@dataclass(frozen=True)
class Metric:
    """A score of predictions.

    Attributes:
        name: in MLflow `accuracy` of a trial, `val_accuracy` by epoch, `test_accuracy` at last.
        greater_is_better: whether 1 beats 0.
        is_share: whether values lie in [0, 1] and are written in per cent.
        measured_in: the unit of other values, such as nats.
        score: logits or log-probabilities [..., N, C] and label ids [..., N] -> [...], the score of
            the N rows."""

    name: str
    greater_is_better: bool
    is_share: bool
    score: Callable[[Tensor, Tensor], Tensor]
    measured_in: str = ""

    @property
    def curve(self) -> str:
        """Its name by epoch, which is what `search.objective` calls it."""
        return PREFIX + self.name

    @property
    def sign(self) -> float:
        """What makes greater values better: 1.0 or -1.0."""
        return 1.0 if self.greater_is_better else -1.0

    @property
    def highest(self) -> float:
        """The greatest value that there can be."""
        return 1.0 if self.is_share else math.inf

    @property
    def scale(self) -> float:
        """What values are multiplied by on the axis of a figure: 100 where it is in per cent."""
        return 100.0 if self.is_share else 1.0

    @property
    def axis(self) -> str:
        """The label of such an axis: `Validation accuracy (%)`, `Validation loss (nats)`."""
        unit = "%" if self.is_share else self.unit
        return f"Validation {self.name} ({unit})".removesuffix(" ()")

    def best(self, values: Iterable[float]) -> float | None:
        """The best of some values; None without any."""
        return max(values, key=lambda value: self.sign * value, default=None)

    def text(self, value: float | None) -> str:
        """The value for people: `97.9 %`, `0.0569`; None as an en dash."""
        return text.percent(value) if self.is_share else text.number(value)

    def spread(self, deviation: float) -> str:
        """A standard deviation beside such a value, without its unit: `± 1.7`, `± 0.012`."""
        return f"± {100 * deviation:.1f}" if self.is_share else f"± {text.number(deviation, 2)}"

    def text_with(self, value: float | None, deviation: float | None) -> str:
        """`70.0 % ± 1.6`; of a single split, which has no deviation, `70.0 %`."""
        return f"{self.text(value)} {self.spread(deviation)}" if deviation else self.text(value)

    def amount(self, value: float, sign: Literal["", "+"] = "") -> str:
        """A difference of values as a number without its unit: `1.5`, `0.012`; `+1.5`."""
        return f"{100 * value:{sign}.1f}" if self.is_share else f"{value:{sign}.3f}"

    @property
    def unit(self) -> str:
        """What differences are counted in."""
        return "points" if self.is_share else self.measured_in

    def difference(self, value: float) -> str:
        """A difference of values: `1.5 points`, `0.012 nats`."""
        return f"{self.amount(value)} {self.unit}".rstrip()


def _accuracy(logits: Tensor, y: Tensor) -> Tensor:
    """The share of rows whose most probable label, the first of equals, is the true one."""
    return (logits.argmax(dim=-1) == y).double().mean(dim=-1)


def _loss(logits: Tensor, y: Tensor) -> Tensor:
    """The mean cross entropy, nats."""
    right = logits.log_softmax(dim=-1).gather(-1, y.unsqueeze(-1))
    return -right.squeeze(-1).mean(dim=-1)


ACCURACY = Metric("accuracy", greater_is_better=True, is_share=True, score=_accuracy)
LOSS = Metric("loss", greater_is_better=False, is_share=False, score=_loss, measured_in="nats")

METRICS: Mapping[str, Metric] = {metric.name: metric for metric in (ACCURACY, LOSS)}
"""By name, in the order in which they break ties."""


def metric_of(objective: str) -> Metric:
    """The metric that `search.objective` names. Raises KeyError for one that is not there."""
    return METRICS[objective.removeprefix(PREFIX)]
