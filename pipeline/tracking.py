"""Runs in MLflow: the store, the experiment, and the runs of the pipeline and its stages.

With trial_log.py, registry.py, lineage.py, launcher.py and inference.py the only code that knows
MLflow. Nothing here touches MLflow's active run.
"""

import logging
import math
import os
import sqlite3
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking.context.registry import resolve_tags

from pipeline import interrupts, owner
from pipeline.errors import UserError
from pipeline.launcher import Launcher, take_run_id
from pipeline.lineage import Context, DataSet

Stage = Literal["pipeline", "prepare", "train", "trial", "evaluate"]
Status = Literal["FINISHED", "FAILED", "KILLED"]

PARAM_LENGTH = 6000  # MLflow's limits
TAG_LENGTH = 8000
PAGE = 1000

# `mlflow run` logs the entry point's own parameters on its run under these names.
_LAUNCHER_PARAMS = frozenset({"config", "set"})
_INITIALISATION_SECONDS = 300.0
_REASON_LENGTH = 500

_log = logging.getLogger(__name__)


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

    def metrics(self, values: Mapping[str, float | None], step: int = 0) -> None:
        """Log metrics; None and values that are not finite are left out."""
        now = now_ms()
        metrics = [
            Metric(key, float(value), now, step)
            for key, value in values.items()
            if value is not None and math.isfinite(value)
        ]
        self.client.log_batch(self.run_id, metrics=metrics, synchronous=True)

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags, cut to MLflow's 8,000 characters."""
        self.client.log_batch(self.run_id, tags=_run_tags(values), synchronous=True)

    def describe(self, markdown: str) -> None:
        """Set the description that the UI shows at the top of the run's page."""
        self.tags({"mlflow.note.content": markdown})

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


class Store:
    """One experiment of a tracking store, opened with `Store.open`."""

    def __init__(self, client: MlflowClient, experiment_id: str, experiment: str) -> None:
        self.client = client
        self.uri: str = client.tracking_uri
        self.experiment_id = experiment_id
        self.experiment = experiment
        self.context_tags: dict[str, str] = resolve_tags()
        self.context_tags["pipeline.process"] = owner.this_process()
        self._launcher: Launcher | None = None

    @classmethod
    def open(cls, experiment: str) -> "Store":
        """The store at MLFLOW_TRACKING_URI, or MLflow's default, ready for runs in `experiment`.

        Creates what is missing; several processes may do so at once. Started by `mlflow run` with
        an experiment, that one takes the place of the configured. Runs that a process of this
        machine left RUNNING when it ended are closed. MLflow's own functions use this store from
        here on. Raises UserError when the store or the experiment can't be used.
        """
        _quiet()
        run_id = take_run_id()
        client = connect()
        launcher = Launcher.find(client, run_id) if run_id else None
        if launcher and launcher.chose_experiment(experiment):
            store = cls(client, launcher.experiment_id, launcher.experiment)
        else:
            store = cls(client, _experiment_id(client, experiment), experiment)
        store._launcher = launcher
        store._close_abandoned()
        return store

    @contextmanager
    def run(
        self,
        stage: Stage,
        name: str,
        *,
        parent: Run | None = None,
        fingerprint: str | None = None,
        tags: Mapping[str, str] | None = None,
        resume: str | None = None,
    ) -> Iterator[Run]:
        """Open a run, or open `resume` again, and close it: FINISHED, FAILED or KILLED.

        The first run without a parent is the one that `mlflow run` is about: the launcher's run
        becomes this one when it is in the right experiment, else it ends as this one ends and its
        description links here.
        """
        launcher = None
        if parent is None:
            launcher, self._launcher = self._launcher, None
        all_tags = {**(tags or {}), "pipeline.stage": stage}
        if fingerprint is not None:
            all_tags["pipeline.fingerprint"] = fingerprint
        if parent is not None:
            all_tags["mlflow.parentRunId"] = parent.run_id
        with interrupts.deferred():
            if resume is not None:
                run = self._reopen(resume, stage, name, all_tags)
            elif launcher and launcher.experiment_id == self.experiment_id:
                run = self._adopt(launcher, stage, name, all_tags)
            else:
                run = self.create(stage, name, all_tags)
            linked = self._link(launcher, run) if launcher else None
        status: Status
        try:
            yield run
        except BaseException as error:
            status, reason = outcome(error)
            if launcher and status == "KILLED":
                status = "FAILED"  # the only other status that the launcher will set
            try:
                with interrupts.deferred():
                    _close(status, reason, run, linked)
            except MlflowException as failure:
                error.add_note(f"The run {run.run_id} could not be closed: {failure}")
            raise
        with interrupts.deferred():
            _close("FINISHED", None, run, linked)

    def create(
        self, stage: Stage, name: str, tags: Mapping[str, str], start: int | None = None
    ) -> Run:
        """A new run that the caller closes; `start` is in milliseconds since the epoch (now)."""
        all_tags = {**self.context_tags, **tags, "pipeline.stage": stage}
        all_tags = {key: cut(value, TAG_LENGTH) for key, value in all_tags.items()}
        created = self.client.create_run(self.experiment_id, start, all_tags, name)
        return Run(self.client, created.info.run_id, self.experiment_id, stage, name)

    def find_stage(self, stage: Stage, fingerprint: str) -> str | None:
        """The latest FINISHED run of a stage with this fingerprint, or None."""
        return self._latest(stage, fingerprint, ("FINISHED",))

    def find_pipeline(self, fingerprint: str) -> str | None:
        """The latest FINISHED pipeline run with this fingerprint, or None."""
        return self.find_stage("pipeline", fingerprint)

    def find_interrupted(self, stage: Stage, fingerprint: str) -> str | None:
        """The latest FAILED or KILLED run of a stage with this fingerprint, or None.

        A run whose process is gone counts: opening the store has closed it.
        """
        return self._latest(stage, fingerprint, ("FAILED", "KILLED"))

    def search(
        self, *conditions: str, order: Sequence[str] = (), experiments: Sequence[str] | None = None
    ) -> Iterator[Any]:
        """All runs (mlflow.entities.Run) for which every condition of MLflow's search holds."""
        token = None
        while True:
            page = self.client.search_runs(
                list(experiments or (self.experiment_id,)),
                " AND ".join(conditions),
                ViewType.ACTIVE_ONLY,
                PAGE,
                list(order),
                token,
            )
            yield from page
            token = page.token
            if not token:
                return

    def _latest(self, stage: Stage, fingerprint: str, statuses: Collection[str]) -> str | None:
        for run in self.search(
            f"tags.`pipeline.stage` = '{stage}'",
            f"tags.`pipeline.fingerprint` = '{fingerprint}'",
            order=["attributes.start_time DESC"],
        ):
            if run.info.status in statuses:
                return str(run.info.run_id)
        return None

    def _reopen(self, run_id: str, stage: Stage, name: str, tags: Mapping[str, str]) -> Run:
        self.client.update_run(run_id, status="RUNNING", name=name)
        run = Run(self.client, run_id, self.experiment_id, stage, name)
        run.tags({**tags, "pipeline.process": self.context_tags["pipeline.process"]})
        known = self.client.get_run(run_id).data.tags
        for key in ("pipeline.reason", "pipeline.abandoned"):
            if key in known:
                self.client.delete_tag(run_id, key)
        return run

    def _adopt(self, launcher: Launcher, stage: Stage, name: str, tags: Mapping[str, str]) -> Run:
        if launcher.given_name:
            name = launcher.given_name
        else:
            self.client.update_run(launcher.run_id, name=name)
        run = Run(self.client, launcher.run_id, self.experiment_id, stage, name)
        run.tags({**tags, "pipeline.process": self.context_tags["pipeline.process"]})
        return run

    def _link(self, launcher: Launcher, run: Run) -> Run | None:
        """The launcher's run, described by a link to `run`; None when it is that run."""
        if launcher.run_id == run.run_id:
            return None
        linked = Run(self.client, launcher.run_id, launcher.experiment_id, run.stage, "")
        linked.tags(
            {
                "mlflow.note.content": f"Everything is in the run [{run.name}]({run.link}) "
                f"(`{run.run_id}`) of the experiment "
                f"[{self.experiment}](#/experiments/{self.experiment_id}).",
                "pipeline.process": self.context_tags["pipeline.process"],
            }
        )
        return linked

    def _close_abandoned(self) -> None:
        """Close the runs that are RUNNING although their process is gone, as KILLED.

        A trial that was being written is FAILED and counts as never run (`pipeline.abandoned`).
        """
        experiments = {self.experiment_id}
        if self._launcher:
            experiments.add(self._launcher.experiment_id)
        # Deciding first and closing afterwards keeps the pages of the search from shifting.
        abandoned = [
            run
            for run in self.search("attributes.status = 'RUNNING'", experiments=sorted(experiments))
            if owner.is_gone(run.data.tags.get("pipeline.process", ""))
        ]
        for found in abandoned:
            stage = found.data.tags.get("pipeline.stage", "pipeline")
            run = Run(self.client, found.info.run_id, found.info.experiment_id, stage, "")
            reason = "the process ended without closing the run"
            run.tags({"pipeline.abandoned": "true"})
            if stage == "trial":
                run.tags({"trial.state": "FAIL", "trial.reason": reason})
            run.close("FAILED" if stage == "trial" else "KILLED", reason)
            _log.info("closed run %s: %s", run.run_id, reason)


def connect() -> MlflowClient:
    """A client of the store at MLFLOW_TRACKING_URI, or of MLflow's default.

    A database is created under a lock between processes: MLflow's own creation of tables races.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        mlflow.set_tracking_uri(None)
        uri = mlflow.get_tracking_uri()
    try:
        with _initialisation_lock(uri):
            client = MlflowClient(uri)
    except (MlflowException, OSError, sqlite3.Error) as error:
        raise UserError(
            f"MLFLOW_TRACKING_URI: {uri} can't be used: {_first_line(error)}"
        ) from error
    # Fixed for the process, so that `models:/` means this store even after a change of folder.
    mlflow.set_tracking_uri(uri)
    return client


@contextmanager
def _initialisation_lock(uri: str) -> Iterator[None]:
    """Hold an exclusive lock for the SQLite file of `uri`; do nothing for other stores.

    The lock is a transaction on an empty SQLite file of its own: known to every platform, and gone
    with its process. The file lies beside the database, where every process that shares it looks,
    and stays: SQLite reports an error to those who wait for a file that is removed.
    """
    path = sqlite_path(uri)
    if path is None:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(path.name + ".lock")
    connection = sqlite3.connect(lock, timeout=_INITIALISATION_SECONDS, isolation_level=None)
    with closing(connection):
        connection.execute("BEGIN EXCLUSIVE")
        yield


def sqlite_path(uri: str) -> Path | None:
    """The file of an SQLite tracking URI; None for other stores and for databases in memory."""
    prefix, separator, name = uri.partition(":///")
    name = name.partition("?")[0]
    if not separator or prefix.partition("+")[0] != "sqlite" or name in ("", ":memory:"):
        return None
    return Path(name)


def outcome(error: BaseException) -> tuple[Status, str | None]:
    """The status of a run that ended with `error`, and a short reason."""
    if isinstance(error, SystemExit) and error.code in (None, 0):
        return "FINISHED", None
    if interrupts.ended_by_signal(error):
        return "KILLED", "interrupted"
    text = _first_line(error)
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


def _close(status: Status, reason: str | None, *runs: Run | None) -> None:
    for run in runs:
        if run is not None:
            run.close(status, reason)


def _run_tags(values: Mapping[str, str]) -> list[RunTag]:
    return [RunTag(key, cut(value, TAG_LENGTH)) for key, value in values.items()]


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _experiment_id(client: MlflowClient, name: str) -> str:
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name))
        except MlflowException as error:
            if not has_code(error, "RESOURCE_ALREADY_EXISTS"):
                raise UserError(f"experiment: {_first_line(error)}") from error
            found = client.get_experiment_by_name(name)  # another process was faster
    if found.lifecycle_stage != "active":
        raise UserError(
            f"experiment: {name!r} was deleted in {client.tracking_uri}; restore it with "
            f"`mlflow experiments restore --experiment-id {found.experiment_id}`, "
            "or choose another name"
        )
    return str(found.experiment_id)


def _quiet() -> None:
    """Silence MLflow's running commentary, unless the user asks for it."""
    if "MLFLOW_LOGGING_LEVEL" not in os.environ:
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
