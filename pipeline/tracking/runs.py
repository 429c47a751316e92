"""Runs of MLflow from the inside: what is written to them, their data sets, and the launcher's run.

Nothing here is a global of MLflow."""

import json
import logging
import math
import os
import time
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mlflow import MlflowClient
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModelOutput,
    Metric,
    Param,
    RunTag,
)
from mlflow.environment_variables import MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING
from mlflow.exceptions import MlflowException
from mlflow.utils import git_utils, name_utils
from mlflow.utils.mlflow_tags import MLFLOW_PROJECT_ENTRY_POINT

from pipeline.common import signals
from pipeline.common.addresses import masked
from pipeline.common.errors import UserError, first_line
from pipeline.common.text import shorten
from pipeline.data.arrays import is_code
from pipeline.data.given import ARRAYS, TABLE

_log = logging.getLogger(__name__)

Context = Literal["training", "validation", "testing"]

_DIGEST_LENGTH = 36  # MLflow's limits
_SCHEMA_LENGTH = 1_048_575
_NAME_LENGTH = 500


@dataclass(frozen=True)
class DataSet:
    """One part of the data.

    `columns` gives each column's MLflow type: boolean, integer, long, float, double, datetime or
    string; arrays have none, but `tensors`: the dtype and the shape of a row of "features" and
    "targets". `source` is a path, a URL, sklearn:NAME or FILE.py:NAME, as in the configuration."""

    name: str
    digest: str  # hexadecimal, of the whole part, of any length
    source: str
    rows: int
    columns: Mapping[str, str] = field(default_factory=dict)
    tensors: Mapping[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)

    @property
    def short_name(self) -> str:
        """The name cut to what MLflow holds."""
        return self.name[:_NAME_LENGTH]

    @property
    def short_digest(self) -> str:
        """The digest cut to what MLflow holds: metrics name their data set by it."""
        return self.digest[:_DIGEST_LENGTH]

    def to_input(self, context: Context) -> DatasetInput:
        """The entity for `log_inputs`, tagged with what the run used the data for."""
        source_type, source = _source(self.source)
        profile: dict[str, object]
        if self.tensors:
            profile = {f"{n}_shape": [self.rows, *shape] for n, (_, shape) in self.tensors.items()}
        else:
            size = {"num_columns": len(self.columns), "num_elements": self.rows * len(self.columns)}
            profile = {"num_rows": self.rows, **size}
        texts = json.dumps(source), self._schema(), json.dumps(profile)
        entity = Dataset(self.short_name, self.short_digest, source_type, *texts)
        return DatasetInput(entity, tags=[InputTag("mlflow.data.context", context)])

    def _schema(self) -> str | None:
        if self.tensors:
            specs = {}
            for name, (dtype, shape) in self.tensors.items():
                spec = {"dtype": dtype, "shape": [-1, *shape]}
                specs[name] = json.dumps([{"type": "tensor", "tensor-spec": spec}])
            return json.dumps({"mlflow_tensorspec": specs})
        kinds = self.columns.items()
        columns = [{"type": kind, "name": name, "required": False} for name, kind in kinds]
        text = json.dumps({"mlflow_colspec": columns})
        return text if len(text) <= _SCHEMA_LENGTH else None


def _source(source: str) -> tuple[str, dict[str, Any]]:
    """MLflow's source type and content, so that `mlflow.data.get_source` understands them."""
    source = masked(source)
    scheme, _, name = source.partition(":")
    code = source if is_code(source) else ""
    if source in (TABLE, ARRAYS):
        code = f"{source} handed over in Python"
    elif scheme == "sklearn":
        code = f"sklearn.datasets.load_{name}"
    elif scheme.lower() in ("http", "https"):
        return "http", {"url": source}
    return ("code", {"tags": {"mlflow.source.name": code}}) if code else ("local", {"uri": source})


def commit() -> str:
    """That the working directory's repository is at; "" where there is none."""
    return git_utils.get_git_commit(str(Path.cwd())) or ""


Stage = Literal["sweep", "pipeline", "prepare", "train", "trial", "final", "evaluate"]
Status = Literal["FINISHED", "FAILED", "KILLED"]

DESCRIPTION = "mlflow.note.content"  # the tag that the UI shows as one

PARAM_LENGTH = 6000  # MLflow's limits
TAG_LENGTH = 8000
EXPERIMENT_TAG_LENGTH = 5000

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
        """Log parameters as text without secrets, cut to MLflow's 6,000 characters.

        A resumed run keeps the values that it has: MLflow's parameters never change."""
        logged = self.client.get_run(self.run_id).data.params
        texts = {k: shorten(masked(str(v)), PARAM_LENGTH) for k, v in values.items()}
        params = [Param(key, text) for key, text in texts.items() if key not in logged]
        self.client.log_batch(self.run_id, params=params, synchronous=True)

    def metrics(
        self,
        values: Mapping[str, float | None],
        *,
        model_id: str | None = None,
        data: DataSet | None = None,
    ) -> None:
        """Log metrics; None and values that are not finite are left out.

        With `model_id` they are the model's as well, measured on `data`."""
        metrics = list(finite(values, now_ms(), model_id, data))
        self.client.log_batch(self.run_id, metrics=metrics, synchronous=True)

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags, without secrets and cut to MLflow's 8,000 characters."""
        texts = {key: masked(value, self.client.tracking_uri) for key, value in values.items()}
        tags = [RunTag(key, shorten(text, TAG_LENGTH)) for key, text in texts.items()]
        self.client.log_batch(self.run_id, tags=tags, synchronous=True)

    def describe(self, markdown: str) -> None:
        """Set the description that the UI shows at the top of the run's page."""
        self.tags({DESCRIPTION: markdown})

    def inputs(self, *data_sets: tuple[DataSet, Context]) -> None:
        """Log the data sets that the run used, each with what it was used for."""
        entities = [data_set.to_input(context) for data_set, context in data_sets]
        self.client.log_inputs(self.run_id, entities)

    def outputs(self, model_id: str) -> None:
        """Show a model, and the versions that it is registered as, on the run's page."""
        there = self.client.get_run(self.run_id).outputs
        if there is None or model_id not in {each.model_id for each in there.model_outputs}:
            self.client.log_outputs(self.run_id, [LoggedModelOutput(model_id, step=0)])

    @contextmanager
    def monitored(self) -> Iterator[None]:
        """Log the machine's load during the block, where MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING asks
        for it and psutil, without which MLflow comes, is there."""
        monitor = None
        if MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING.get():
            try:
                from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

                about: Any = {"resume_logging": True, "tracking_uri": self.client.tracking_uri}
                monitor = SystemMetricsMonitor(self.run_id, **about)
                monitor.start()
            except ImportError:
                _log.warning("the machine's load is not logged: pip install psutil")
        try:
            yield
        finally:
            if monitor is not None:
                monitor.finish()

    def text(self, text: str, path: str) -> None:
        """Write a text file."""
        self.client.log_text(self.run_id, text, path)

    def file(self, local: str | Path, folder: str | None = None) -> None:
        """Copy a local file, under its own name."""
        self.client.log_artifact(self.run_id, str(local), folder)

    def figures(self, drawings: Mapping[str, str]) -> None:
        """Write figures, SVG by name, as `plots/NAME.svg`."""
        for name, drawing in drawings.items():
            self.text(drawing, f"plots/{name}.svg")

    def close(self, status: Status, reason: str | None = None, end: int | None = None) -> None:
        """End the run at `end` (milliseconds since the epoch; now), with a reason as a tag."""
        if reason:
            self.tags({"pipeline.reason": shorten(reason, _REASON_LENGTH)})
        self.client.set_terminated(self.run_id, status, end)


def finite(
    values: Mapping[str, float | None],
    time: int,
    model_id: str | None = None,
    data: DataSet | None = None,
) -> Iterator[Metric]:
    """Metrics of these values, without None and those that are not finite."""
    of_data = (data.short_name, data.short_digest) if data else (None, None)
    for key, value in values.items():
        if value is not None and math.isfinite(value):
            yield Metric(key, float(value), time, 0, model_id, *of_data)


def outcome(error: BaseException) -> tuple[Status, str | None]:
    """The status of a run that ended with `error`, and a short reason."""
    if isinstance(error, SystemExit) and error.code in (None, 0):
        return "FINISHED", None
    if signals.ended_by_signal(error):
        return "KILLED", "interrupted"
    text = first_line(error)
    return "FAILED", text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"


def now_ms() -> int:
    """Milliseconds since the epoch, as MLflow counts time."""
    return int(time.time() * 1000)


def _is_generated(name: str) -> bool:
    """Whether MLflow made the name, as of a run that got none: `stylish-crab-123`."""
    adjective, noun, *rest = [*name.split("-"), ""]
    of_mlflow = name_utils._GENERATOR_PREDICATES, name_utils._GENERATOR_NOUNS
    known = all(w in map(str.lower, m) for w, m in zip((adjective, noun), of_mlflow, strict=True))
    return known and len(rest) == 2 and rest[0].isdigit()


def take_run_id(environment: MutableMapping[str, str] = os.environ) -> str | None:
    """The launcher's run, removed from the environment so that no child process takes it again.

    MLFLOW_TRACKING_URI stays: everything that loads a model reads it."""
    run_id = environment.pop("MLFLOW_RUN_ID", None)
    if run_id:
        environment.pop("MLFLOW_EXPERIMENT_ID", None)
    return run_id or None


@dataclass(frozen=True)
class Launcher:
    """The launcher's run and the experiment that it is in."""

    run_id: str
    experiment_id: str
    experiment: str
    given_name: str | None
    is_outer: bool = False  # of somebody's own script, which may hold several searches

    @classmethod
    def find(cls, client: Any, run_id: str) -> "Launcher":
        """Read the run from the store; UserError when it isn't there or has ended long ago."""
        try:
            run = client.get_run(run_id)
        except MlflowException as error:
            raise _not_usable(run_id, f"no such run in {client.tracking_uri}") from error
        info, tags = run.info, run.data.tags
        status = info.status if info.lifecycle_stage == "active" else "deleted"
        is_taken = "pipeline.process" in tags  # by another search, within the same outer run
        if status not in ("RUNNING", "SCHEDULED") and not (is_taken and status != "deleted"):
            raise _not_usable(run_id, f"the run must be running; it is {status}")
        experiment = client.get_experiment(info.experiment_id)
        name = None if _is_generated(info.run_name or "") else info.run_name
        is_outer = is_taken or MLFLOW_PROJECT_ENTRY_POINT not in tags
        return cls(run_id, info.experiment_id, experiment.name, name, is_outer)


def _not_usable(run_id: str, why: str) -> UserError:
    return UserError(f"MLFLOW_RUN_ID={run_id}: {why}; unset MLFLOW_RUN_ID to make a new one")
