"""Writing trials to MLflow: one run each, with its curves, its scores and its model.

The model is there before the metrics, so that the scores name the model and the data set that they
are of.
"""

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol
from urllib.parse import unquote, urlsplit

import numpy as np
from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from pipeline.common import signals as interrupts
from pipeline.common import text as formats
from pipeline.tracking.bulk import BulkMetrics
from pipeline.tracking.data_sets import DataSet
from pipeline.tracking.outage import is_outage
from pipeline.tracking.param_text import encode_param, lr_path
from pipeline.tracking.runs import (
    CURVES,
    DESCRIPTION,
    FOLD_SCORES,
    PARAM_LENGTH,
    Run,
    Stage,
    State,
    Status,
    cut,
    now_ms,
    outcome,
)
from pipeline.tracking.store import Store

MODEL_NAME = "model"

_STATUS: Mapping[State, Status] = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED"}


class TrialRecord(Protocol):
    """What is logged of a trial (trials.Trial is one)."""

    @property
    def number(self) -> int: ...
    @property
    def entry(self) -> int: ...
    @property
    def params(self) -> Mapping[str, Any]: ...
    @property
    def optimizer(self) -> str: ...
    @property
    def lr(self) -> float: ...
    @property
    def state(self) -> State: ...
    @property
    def reason(self) -> str | None: ...
    @property
    def curves(self) -> Mapping[str, np.ndarray]: ...
    @property
    def loss(self) -> float | None: ...
    @property
    def accuracy(self) -> float | None: ...
    @property
    def accuracy_std(self) -> float | None: ...
    @property
    def best_epoch(self) -> float | None: ...
    @property
    def seconds(self) -> float: ...
    @property
    def fits(self) -> Sequence["FoldScores"]: ...


class FoldScores(Protocol):
    """One member's validation scores at its kept epoch."""

    @property
    def loss(self) -> float | None: ...
    @property
    def accuracy(self) -> float | None: ...


class Flavor(Protocol):
    """What saves a model's folder (the module flavor is one)."""

    def save_model(self, *arguments: Any, **named: Any) -> None: ...


@dataclass(frozen=True)
class Logged:
    """Where a trial went: its run, and its model when it has one."""

    run_id: str
    model_id: str | None


@dataclass(frozen=True)
class TrialLog:
    """Writes the trials of one train run; `total` of them are expected (for their names).

    `data` is the data set that `loss` and `accuracy` were measured on.
    """

    store: Store
    train: Run
    total: int
    flavor: Flavor
    data: DataSet | None = None
    stage: ClassVar[Stage] = "trial"

    @cached_property
    def _bulk(self) -> BulkMetrics:
        return BulkMetrics(self.store.client)

    def log_trial(self, trial: TrialRecord, model_args: Mapping[str, Any] | None) -> Logged:
        """Write a whole trial. `model_args` go to the flavor's save_model; None: no model.

        Only a COMPLETE trial has a model and scores. When writing fails the run ends as FAILED,
        the trial counts as never run, and the error goes on.
        """
        complete = trial.state == "COMPLETE"
        end = now_ms()
        start = end - round(1000 * trial.seconds)
        params = _params(trial)
        run: Run | None = None
        model_id = None
        try:
            with interrupts.deferred():
                run = self.store.create(self.stage, self._name(trial), self._tags(trial), start)
            if complete and model_args is not None:
                model_id = self._log_model(run, trial, params, model_args)
            curves, scores = _curves(trial, start, end), []
            if complete:
                curves += _fold_scores(trial, end)
                scores = self._scores(trial, end, model_id)
            if self.data:
                run.inputs((self.data, "training"))
            if model_id:
                run.client.log_outputs(run.run_id, [LoggedModelOutput(model_id, step=0)])
                run.client.finalize_logged_model(model_id, LoggedModelStatus.READY)
            self._bulk.write(run.run_id, curves)
            # The client parts this into calls of 1,000 metrics and 100 parameters.
            run.client.log_batch(
                run.run_id, scores, [Param(k, v) for k, v in params.items()], synchronous=True
            )
            run.client.set_terminated(run.run_id, _STATUS[trial.state], end)
        except BaseException as error:
            # A store that is away would not be told either: `tidy` ends such runs when it is back.
            if run is not None and not is_outage(error, self.store.uri):
                _abandon(run, error)
            raise
        return Logged(run.run_id, model_id)

    def tidy(self) -> set[int]:
        """End the trials' runs that an outage cut short; the numbers of those that are whole.

        For the writer alone: what is RUNNING must not be in somebody's hands.
        """
        whole = set()
        for found in self.store.trials_under(self.train.run_id):
            if found.info.status == "RUNNING":
                run = Run(
                    self.store.client, found.info.run_id, self.store.experiment_id, "trial", ""
                )
                _abandon(run, ConnectionError("the tracking store went away"))
                self.store.fail_models(run)
            elif "pipeline.abandoned" not in found.data.tags:
                whole.add(int(found.data.tags["trial.number"]))
        return whole

    def _name(self, trial: TrialRecord) -> str:
        digits = max(2, len(str(self.total - 1)))
        return f"#{trial.number:0{digits}d} {trial.optimizer} lr={trial.lr:.2g}"

    def _tags(self, trial: TrialRecord) -> dict[str, str]:
        tags = {
            "mlflow.parentRunId": self.train.run_id,
            "trial.number": str(trial.number),
            "trial.state": trial.state,
            "trial.entry": str(trial.entry),
            # `lr` is a parameter of every trial: this tells whether it was searched.
            "trial.lr": "searched" if lr_path(trial.entry) in trial.params else "fixed",
            DESCRIPTION: _outcome(trial),
        }
        if trial.reason:
            tags["trial.reason"] = trial.reason
        return tags

    def _scores(self, trial: TrialRecord, end: int, model_id: str | None) -> list[Metric]:
        scores = {
            "loss": trial.loss,
            "accuracy": trial.accuracy,
            "accuracy_std": trial.accuracy_std,
            "best_epoch": trial.best_epoch,
        }
        # MLflow keeps the data set of a metric with the model, and only there.
        data = self.data if model_id else None
        return [
            Metric(
                key,
                float(value),
                end,
                0,
                model_id,
                data.short_name if data else None,
                data.short_digest if data else None,
            )
            for key, value in scores.items()
            if value is not None and math.isfinite(value)
        ]

    def _log_model(
        self,
        run: Run,
        trial: TrialRecord,
        params: Mapping[str, str],
        model_args: Mapping[str, Any],
    ) -> str:
        """What mlflow.models.Model.log does, without its globals and its trial prediction."""
        client = run.client
        model = client.create_logged_model(
            run.experiment_id,
            MODEL_NAME,
            run.run_id,
            {"trial.number": str(trial.number)},
            dict(params),
        )
        model_id: str = model.model_id
        description = Model(
            artifact_path=model.artifact_location,
            run_id=run.run_id,
            model_uuid=model_id,
            model_id=model_id,
        )
        try:
            with _model_folder(model.artifact_location) as (folder, is_final):
                self.flavor.save_model(path=str(folder), mlflow_model=description, **model_args)
                if not is_final:
                    client.log_model_artifacts(model_id, str(folder))
        except BaseException as error:
            if not is_outage(error, self.store.uri):
                client.finalize_logged_model(model_id, "FAILED")
            raise
        return model_id


def _abandon(run: Run, error: BaseException) -> None:
    reason = outcome(error)[1] or "ended"
    tags = {f"{run.stage}.state": "FAIL", f"{run.stage}.reason": reason}
    try:
        with interrupts.deferred():
            run.tags({"pipeline.abandoned": "true", **tags})
            run.close("FAILED", reason)
    except MlflowException as failure:
        error.add_note(f"The run {run.run_id} could not be closed: {failure}")


@contextmanager
def _model_folder(location: str) -> Iterator[tuple[Path, bool]]:
    """Where to save a model, a folder that is not there yet; and whether that is its final place.

    A store on this machine gets the files where they stay.
    """
    parts = urlsplit(location)
    if parts.scheme in ("", "file") and not parts.netloc:
        folder = Path(unquote(parts.path) if parts.scheme else location)
        folder.parent.mkdir(parents=True, exist_ok=True)
        yield folder, True
        return
    with tempfile.TemporaryDirectory(prefix="model-") as temporary:
        yield Path(temporary, MODEL_NAME), False


def _outcome(trial: TrialRecord) -> str:
    """What became of a trial, in a sentence."""
    if trial.state == "FAIL":
        return f"Failed: {trial.reason}."
    if trial.state == "PRUNED":
        epochs = max((len(curve) for curve in trial.curves.values()), default=0)
        return f"Dropped after {formats.count(epochs, 'epoch')}: other trials were better there."
    networks = formats.count(len(trial.fits), "network")
    spread = formats.percent(trial.accuracy_std)
    return (
        f"{formats.percent(trial.accuracy)} validation accuracy (standard deviation {spread}) and "
        f"loss {formats.number(trial.loss)}, the mean of {networks}, each after its kept epoch "
        f"({formats.number(trial.best_epoch)} on average). The model is their mean answer."
    )


def _params(trial: TrialRecord) -> dict[str, str]:
    values = {"optimizer": trial.optimizer, "lr": trial.lr}
    values |= {k: v for k, v in trial.params.items() if k != lr_path(trial.entry)}
    return {key: cut(encode_param(value), PARAM_LENGTH) for key, value in values.items()}


def _curves(trial: TrialRecord, start: int, end: int) -> list[Metric]:
    """Each epoch's values, their times spread evenly over the trial's; finite ones only."""
    metrics = []
    for name in CURVES:
        curve = np.asarray(trial.curves.get(name, ()), dtype=np.float64)
        for index in np.flatnonzero(np.isfinite(curve)).tolist():
            time = start + round((end - start) * (index + 1) / len(curve))
            metrics.append(Metric(name, float(curve[index]), time, index + 1))
    return metrics


def _fold_scores(trial: TrialRecord, end: int) -> list[Metric]:
    """Each member's scores, with its place (repeat by repeat, fold by fold, from 1) as the step."""
    if len(trial.fits) < 2:
        return []
    return [
        Metric(name, float(value), end, place)
        for place, one in enumerate(trial.fits, start=1)
        for name, value in zip(FOLD_SCORES, (one.loss, one.accuracy), strict=True)
        if value is not None and math.isfinite(value)
    ]
