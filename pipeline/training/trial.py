"""A trial: one configuration, from its proposal to the report.

It is estimated by its members, one network for each repeat and fold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from pipeline.config import Config
from pipeline.config.measures import PREFIX
from pipeline.data.splits import Split
from pipeline.models.metrics import METRICS, Metric
from pipeline.optimizers.classes import learning_rate
from pipeline.training.outcomes import TRAIN_LOSS, Fit, Floats

State = Literal["RUNNING", "COMPLETE", "PRUNED", "FAIL"]

FOLDS_RUNNING = "folds_running"
CURVES = (TRAIN_LOSS, *(metric.curve for metric in METRICS.values()))
"""What a member's fit has for each epoch, beside the objective; a trial has `FOLDS_RUNNING` too."""


@dataclass(frozen=True)
class Trial:
    """One trial; what is not known yet, or was not read from the store, is empty or None.

    Attributes:
        number: from 0, in the order of the proposals.
        optimizer: the label of its entry of `optimizers`.
        params: the searched leaves by their dotted path in the configuration.
        lr: the learning rate, searched or not.
        config: the trial's own, with one optimizer entry and no ranges.
        state: RUNNING until it has ended; FAIL when a member failed, PRUNED when one was dropped.
        reason: why it failed.
        scores: by the metric's name, on the validation rows after each member's best epoch, the
            mean over the members; of a complete trial only, and of a metric that is a finite number
            for each of them.
        deviations: their sample standard deviations over the members, 0 for one member.
        fold_scores: by the metric's name [members], repeat by repeat, fold by fold.
        best_epoch: mean over the members.
        curves: of `CURVES`, the objective and `FOLDS_RUNNING`, by epoch [epochs]: the mean over the
            members, of which one that has stopped stays at its last value, and how many have not
            stopped. From the epoch in which a member failed or was dropped on there is nothing.
            NaN: not read.
        seconds: wall time of its share of the training.
        fits: the members' outcomes, while the trial is in the memory.
        run_id, model_id, name: of its run in MLflow, once it is there."""

    number: int
    optimizer: str
    params: Mapping[str, Any]
    lr: float
    config: Config | None = None
    state: State = "RUNNING"
    reason: str | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    deviations: Mapping[str, float] = field(default_factory=dict)
    fold_scores: Mapping[str, Floats] = field(default_factory=dict)
    best_epoch: float | None = None
    curves: Mapping[str, Floats] = field(default_factory=dict)
    seconds: float = 0.0
    fits: tuple[Fit, ...] = ()
    run_id: str = ""
    model_id: str | None = None
    name: str = ""

    @property
    def is_complete(self) -> bool:
        """Whether it ran to its end and has scores."""
        return self.state == "COMPLETE" and METRICS.keys() <= self.scores.keys()

    @property
    def settings(self) -> Config:
        """Its own configuration, of a trial that has it."""
        assert self.config is not None
        return self.config

    def score(self, metric: Metric) -> float | None:
        return self.scores.get(metric.name)

    def deviation(self, metric: Metric) -> float | None:
        return self.deviations.get(metric.name)

    def value_at(self, metric: Metric, epoch: int) -> float | None:
        """The curve's value at an epoch, from 1; after its end the last one of a complete trial."""
        curve = self.curves.get(metric.curve, np.empty(0))
        if 0 < epoch <= len(curve):
            return float(curve[epoch - 1]) if np.isfinite(curve[epoch - 1]) else None
        return float(curve[-1]) if len(curve) and self.state == "COMPLETE" else None


def proposed(number: int, label: str, params: Mapping[str, Any], config: Config) -> Trial:
    """A trial of `config`, the search's, that waits to be run.

    Args:
        label: of one of its `optimizers`.
        params: a value for each range outside of `optimizers` and of that entry."""
    settings = config.at(label, params)
    (optimizer,) = settings.optimizers
    return Trial(number, label, dict(params), learning_rate(optimizer), settings)


def ended(trial: Trial, fits: Sequence[Fit], splits: Sequence[Split], seconds: float) -> Trial:
    """The trial with its members' outcomes; `splits[i]` is where `fits[i]` was validated."""
    reasons = [
        f"repeat {split.repeat + 1}, fold {split.fold + 1}: {reason}"
        for fit, split in zip(fits, splits, strict=True)
        if (reason := fit.reason or _undefined(fit))
    ]
    dropped = any(fit.state == "dropped" for fit in fits)
    state: State = "FAIL" if reasons else "PRUNED" if dropped else "COMPLETE"
    trial = replace(
        trial,
        state=state,
        reason="; ".join(reasons) or None,
        curves=mean_curves(fits),
        seconds=seconds,
        fits=tuple(fits),
    )
    if state != "COMPLETE":
        return trial
    fold_scores = {name: np.array([fit.scores[name] for fit in fits]) for name in fits[0].scores}
    fold_scores = {name: v for name, v in fold_scores.items() if np.isfinite(v).all()}
    ddof = 1 if len(fits) > 1 else 0
    return replace(
        trial,
        scores={name: float(values.mean()) for name, values in fold_scores.items()},
        deviations={name: float(values.std(ddof=ddof)) for name, values in fold_scores.items()},
        fold_scores=fold_scores,
        best_epoch=float(np.mean([fit.best_epoch for fit in fits])),
    )


def _undefined(fit: Fit) -> str:
    """What is said of an objective that is no finite number at the best epoch."""
    measured = fit.scores.items() if fit.state == "complete" else ()
    names = [n for n, v in measured if not np.isfinite(v) and PREFIX + n in fit.curves]
    return f"{names[0]} is no finite number on these rows" if names else ""


def mean_curves(fits: Sequence[Fit]) -> dict[str, Floats]:
    """The members' curves as `Trial.curves` says."""
    lengths = np.array([len(fit.curves["train_loss"]) for fit in fits])
    cut = [length for fit, length in zip(fits, lengths, strict=True) if fit.state != "complete"]
    epochs = int(min(cut) if cut else lengths.max())
    steps = np.arange(epochs)
    places = [np.minimum(steps, length - 1) for length in lengths]
    curves = {
        name: np.mean([fit.curves[name][at] for fit, at in zip(fits, places, strict=True)], axis=0)
        for name in fits[0].curves
    }
    running = lengths[:, None] > steps
    return curves | {FOLDS_RUNNING: running.sum(axis=0).astype(np.float64)}
