"""Trials read back from MLflow: what a resumed search and the report know of the past."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pipeline.tracking.param_text import decode_param, lr_path
from pipeline.tracking.runs import CURVES, FOLD_SCORES, State
from pipeline.tracking.store import Store


@dataclass(frozen=True)
class LoggedFold:
    """One member's validation scores as the store has them."""

    loss: float
    accuracy: float


@dataclass(frozen=True)
class LoggedTrial:
    """A trial as the store has it; the fields are those of trials.Trial.

    `curves` and `fits` are empty until `with_history` has read them.
    """

    run_id: str
    model_id: str | None
    name: str
    number: int
    entry: int
    params: dict[str, Any]
    optimizer: str
    lr: float
    state: State
    reason: str | None
    loss: float | None
    accuracy: float | None
    accuracy_std: float | None
    best_epoch: float | None
    seconds: float
    curves: Mapping[str, np.ndarray] = field(default_factory=dict)
    fits: tuple[LoggedFold, ...] = ()


def trials_of(store: Store, train_run_id: str) -> list[LoggedTrial]:
    """All trials of a train run by number; those whose writing was cut short are left out."""
    found: dict[int, LoggedTrial] = {}
    for run in store.trials_under(train_run_id):
        tags = run.data.tags
        if "pipeline.abandoned" in tags or run.info.status == "RUNNING":
            continue
        trial = _read(run)
        found.setdefault(trial.number, trial)
    return [found[number] for number in sorted(found)]


def with_history(store: Store, trial: LoggedTrial) -> LoggedTrial:
    """The trial with its curves and the scores of its folds."""
    scores = curves_of(store, trial.run_id, FOLD_SCORES)
    pairs = zip(*(scores[name].tolist() for name in FOLD_SCORES), strict=True)
    fits = tuple(LoggedFold(loss, accuracy) for loss, accuracy in pairs)
    if not fits and trial.loss is not None and trial.accuracy is not None:
        fits = (LoggedFold(trial.loss, trial.accuracy),)
    return replace(trial, curves=curves_of(store, trial.run_id), fits=fits)


def curves_of(store: Store, run_id: str, names: Iterable[str] = CURVES) -> dict[str, np.ndarray]:
    """A trial's metrics by step, from 1: float64 [steps], NaN where a value was not finite."""
    curves = {}
    for name in names:
        history = store.client.get_metric_history(run_id, name)
        curve = np.full(max((point.step for point in history), default=0), np.nan)
        for point in history:
            curve[point.step - 1] = point.value
        curves[name] = curve
    return curves


def _read(run: Any) -> LoggedTrial:
    tags, params, metrics = run.data.tags, run.data.params, run.data.metrics
    entry = int(tags["trial.entry"])
    values = {key: decode_param(text) for key, text in params.items()}
    optimizer, lr = values.pop("optimizer"), float(values.pop("lr"))
    if tags["trial.lr"] == "searched":
        values[lr_path(entry)] = lr
    outputs = run.outputs.model_outputs if run.outputs else []
    return LoggedTrial(
        run_id=run.info.run_id,
        model_id=outputs[0].model_id if outputs else None,
        name=run.info.run_name,
        number=int(tags["trial.number"]),
        entry=entry,
        params=values,
        optimizer=optimizer,
        lr=lr,
        state=tags["trial.state"],
        reason=tags.get("trial.reason"),
        loss=metrics.get("loss"),
        accuracy=metrics.get("accuracy"),
        accuracy_std=metrics.get("accuracy_std"),
        best_epoch=metrics.get("best_epoch"),
        seconds=(run.info.end_time - run.info.start_time) / 1000,
    )
