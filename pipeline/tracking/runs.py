"""A run of MLflow, from the inside: what the stages write to. Nothing here is a global."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from pipeline.common import signals as interrupts
from pipeline.common.errors import UserError
from pipeline.tracking.data_sets import Context, DataSet

Stage = Literal["pipeline", "prepare", "train", "trial", "final", "evaluate"]
Status = Literal["FINISHED", "FAILED", "KILLED"]
State = Literal["COMPLETE", "PRUNED", "FAIL"]  # of a trial, as Optuna calls them

CURVES = ("train_loss", "val_loss", "val_accuracy")  # a trial's metrics with a value per epoch
FOLD_SCORES = ("fold_loss", "fold_accuracy")  # and with a value per member

DESCRIPTION = "mlflow.note.content"  # the tag that the UI shows as one

PARAM_LENGTH = 6000  # MLflow's limits
TAG_LENGTH = 8000

# `mlflow run` logs the entry point's own parameters on its run under these names.
_LAUNCHER_PARAMS = frozenset({"config", "set"})
_REASON_LENGTH = 500


@dataclass(frozen=True)
class Run:
    """An open run: what the stages write to. All paths are inside the run's artifacts."""

    client: MlflowClient = field(repr=False)
    run_id: str
    experiment_id: str
    stage: Stage
    name: str

    @property
    def link(self) -> str:
        """The run's page, relative to where MLflow's UI is served."""
        return f"#/experiments/{self.experiment_id}/runs/{self.run_id}"

    def params(self, values: Mapping[str, object]) -> None:
        """Log parameters as text, cut to MLflow's 6,000 characters.

        A resumed run keeps the values that it has: MLflow's parameters never change.
        """
        if reserved := _LAUNCHER_PARAMS & values.keys():
            raise ValueError(f"mlflow run logs these itself: {sorted(reserved)}")
        known = self.client.get_run(self.run_id).data.params
        params = [Param(k, cut(str(v), PARAM_LENGTH)) for k, v in values.items() if k not in known]
        self.client.log_batch(self.run_id, params=params, synchronous=True)

    def metrics(
        self,
        values: Mapping[str, float | None],
        *,
        model_id: str | None = None,
        data: DataSet | None = None,
    ) -> None:
        """Log metrics; None and values that are not finite are left out.

        With `model_id` they are the model's as well, measured on `data`.
        """
        now = now_ms()
        name, digest = (data.short_name, data.short_digest) if data else (None, None)
        metrics = [
            Metric(key, float(value), now, 0, model_id, name, digest)
            for key, value in values.items()
            if value is not None and math.isfinite(value)
        ]
        self.client.log_batch(self.run_id, metrics=metrics, synchronous=True)

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags, cut to MLflow's 8,000 characters."""
        self.client.log_batch(self.run_id, tags=_run_tags(values), synchronous=True)

    def describe(self, markdown: str) -> None:
        """Set the description that the UI shows at the top of the run's page."""
        self.tags({DESCRIPTION: markdown})

    def inputs(self, *data_sets: tuple[DataSet, Context]) -> None:
        """Log the data sets that the run used, each with what it was used for."""
        entities = [data_set.to_input(context) for data_set, context in data_sets]
        self.client.log_inputs(self.run_id, entities)

    def text(self, text: str, path: str) -> None:
        """Write a text file."""
        self.client.log_text(self.run_id, text, path)

    def file(self, local: str | Path, folder: str | None = None) -> None:
        """Copy a local file, under its own name."""
        self.client.log_artifact(self.run_id, str(local), folder)

    def figure(self, figure: Any, path: str) -> None:
        """Write a Matplotlib figure (path ends in .png or .svg) or a Plotly one (.html)."""
        self.client.log_figure(self.run_id, figure, path)

    def close(self, status: Status, reason: str | None = None, end: int | None = None) -> None:
        """End the run at `end` (milliseconds since the epoch; now), with a reason as a tag."""
        if reason:
            self.tags({"pipeline.reason": cut(reason, _REASON_LENGTH)})
        self.client.set_terminated(self.run_id, status, end)


def outcome(error: BaseException) -> tuple[Status, str | None]:
    """The status of a run that ended with `error`, and a short reason."""
    if isinstance(error, SystemExit) and error.code in (None, 0):
        return "FINISHED", None
    if interrupts.ended_by_signal(error):
        return "KILLED", "interrupted"
    text = first_line(error)
    return "FAILED", text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"


def cut(text: str, length: int) -> str:
    """`text`, or its beginning with an ellipsis, in at most `length` characters."""
    return text if len(text) <= length else text[: length - 1] + "…"


def now_ms() -> int:
    """Milliseconds since the epoch, as MLflow counts time."""
    return int(time.time() * 1000)


def has_code(error: MlflowException, *codes: str) -> bool:
    """Whether MLflow's error has one of these codes (RESOURCE_ALREADY_EXISTS, ...)."""
    return error.error_code in codes


def first_line(error: BaseException) -> str:
    """The first line of the error's message, or its type where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _run_tags(values: Mapping[str, str]) -> list[RunTag]:
    return [RunTag(key, cut(value, TAG_LENGTH)) for key, value in values.items()]
