"""Metrics: what a score is called, which way is better, and how its value is written."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from torch import Tensor

from pipeline.common import text
from pipeline.common.imports import is_path, load
from pipeline.config import Component, Config
from pipeline.config.measures import LESS_IS_BETTER, PREFIX, metric_name
from pipeline.models import scores


@dataclass(frozen=True)
class Metric:
    """A score of predictions.

    Attributes:
        name: in MLflow `accuracy` of a trial, `val_accuracy` by epoch, `test_accuracy` at last.
        greater_is_better: whether 1 beats 0.
        is_share: whether it is a share of rows, which is written in per cent.
        score: what computes it, of logits, label ids and weights as in `scores`.
        lowest, highest: the ends of what there can be."""

    name: str
    greater_is_better: bool
    is_share: bool
    score: Callable[..., Tensor] = field(compare=False)
    lowest: float = 0.0
    highest: float = math.inf

    @property
    def curve(self) -> str:
        """Its name by epoch, which is what `search.objective` calls it."""
        return PREFIX + self.name

    @property
    def sign(self) -> float:
        """What makes greater values better: 1.0 or -1.0."""
        return 1.0 if self.greater_is_better else -1.0

    @property
    def scale(self) -> float:
        """What values are multiplied by on the axis of a figure: 100 where it is in per cent."""
        return 100.0 if self.is_share else 1.0

    @property
    def axis(self) -> str:
        """The label of such an axis: `Validation accuracy (%)`, `Validation loss`."""
        return f"Validation {self.words}{' (%)' if self.is_share else ''}"

    @property
    def words(self) -> str:
        """What people read: `accuracy`, `balanced accuracy`, `AUROC`."""
        words = self.name.replace("_", " ")
        return re.sub(r"\b(auc|auroc|eer|f1)\b", lambda match: match.group().upper(), words)

    @property
    def heading(self) -> str:
        return self.words[0].upper() + self.words[1:]

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

    def difference(self, value: float) -> str:
        """A difference of values: `1.5 points`, `0.012`."""
        return self.amount(value) + (" points" if self.is_share else "")


ACCURACY = Metric("accuracy", True, True, scores.accuracy, highest=1.0)
LOSS = Metric("loss", False, False, scores.loss)
_FURTHER = scores.auroc, scores.balanced_accuracy, scores.f1_score

METRICS: Mapping[str, Metric] = {metric.name: metric for metric in (ACCURACY, LOSS)}
"""What every trial has, by name, in the order in which they break ties."""
KNOWN: Mapping[str, Metric] = {
    **METRICS,
    **{score.__name__: Metric(score.__name__, True, False, score, highest=1) for score in _FURTHER},
}
"""What every model's test rows have, and what may be an objective without being listed."""


def _listed(component: Component, key: str) -> Metric:
    """The metric of an entry under `metrics`. Raises UserError for what cannot be imported."""
    name, score = metric_name(component), partial(scores.of_component, component)
    if name in KNOWN and component == Component(component.path, {}):
        return KNOWN[name]
    if is_path(component.path):
        higher = getattr(load(component.path, key), "higher_is_better", None)
        return Metric(name, higher is not False, False, score, lowest=-math.inf)
    lowest = -1.0 if component.path in ("CohenKappa", "MatthewsCorrCoef") else 0.0
    highest = math.inf if component.path == "HingeLoss" else 1.0
    return Metric(name, component.path not in LESS_IS_BETTER, False, score, lowest, highest)


def metrics_of(config: Config) -> tuple[Metric, ...]:
    """Accuracy, loss, the objective and each of `metrics`, in this order.

    Raises UserError for what cannot be imported."""
    listed = [_listed(each, f"metrics.{place}.name") for place, each in enumerate(config.metrics)]
    known = {**KNOWN, **{metric.name: metric for metric in listed}}
    objective = known[config.search.objective.removeprefix(PREFIX)]
    return tuple({m.name: m for m in (ACCURACY, LOSS, objective, *listed)}.values())


def metric_of(config: Config) -> Metric:
    """What `search.objective` names. Raises UserError for what cannot be imported."""
    return next(m for m in metrics_of(config) if m.curve == config.search.objective)


def with_objective(objective: Metric) -> tuple[Metric, ...]:
    """What is measured after every epoch: accuracy, loss and the objective."""
    return tuple({**METRICS, objective.name: objective}.values())


def on_test_rows(config: Config) -> tuple[Metric, ...]:
    """What is measured on test rows; an entry takes the place of what has its name here."""
    return tuple({**KNOWN, **{metric.name: metric for metric in metrics_of(config)}}.values())
