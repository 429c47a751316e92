"""One experiment of a tracking store: opening it, its runs, and finding them again."""

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus
from mlflow.environment_variables import MLFLOW_EXPERIMENT_ID, MLFLOW_EXPERIMENT_NAME
from mlflow.exceptions import MlflowException
from mlflow.tracking.context.registry import resolve_tags

from pipeline.common import signals
from pipeline.common.addresses import masked
from pipeline.common.errors import UserError, first_line
from pipeline.common.text import shorten
from pipeline.tracking import processes, runs
from pipeline.tracking.connection import connect, hurry, paged, quiet, sqlite_path, store_uri
from pipeline.tracking.places import artifact_place, is_missing, make_folder, mend
from pipeline.tracking.processes import Lease
from pipeline.tracking.runs import Launcher, Run, Stage, Status

PAGE = 1000  # MLflow returns no more runs at once

# The UI opens the experiment with runs and metrics first, not with traces of prompts.
_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}

FINISHED = "attributes.status = 'FINISHED'"  # a condition of searches

_PIPELINES = "tags.`pipeline.stage` = 'pipeline'"

_log = logging.getLogger(__name__)


class Store:
    """One experiment of a tracking store, opened with `Store.open`."""

    def __init__(self, client: MlflowClient, experiment_id: str, experiment: str) -> None:
        self.client = client
        self.uri: str = client.tracking_uri
        self.experiment_id = experiment_id
        self.experiment = experiment
        self.context_tags: dict[str, str] = resolve_tags()
        self.context_tags["pipeline.process"] = processes.this_process()
        self.launcher: Launcher | None = None
        self._launched: Stage | None = "pipeline"
        self._outer: str | None = None  # somebody's own run around this search

    @classmethod
    def open(cls, experiment: str, launched: Stage | None = "pipeline") -> "Store":
        """The store that MLflow's own functions use, ready for runs in `experiment`.

        Creates what is missing; several processes may do so at once. Started by `mlflow run` with
        an experiment, that one takes the place of the configured. Runs that a process left RUNNING
        when it ended are closed: a process of this host that is no more, or one of another host
        that has not renewed its lease for minutes. `launched` is the stage that this command is
        for: its run takes the place of the launcher's, or is a child of somebody's own run that is
        open around it; None: a launcher's run, and the experiment of the environment, are others'.
        Raises UserError when the store or the experiment can't be used."""
        quiet()
        run_id = runs.take_run_id() if launched is not None else None
        _check_relative(run_id)
        client = connect()
        launcher = Launcher.find(client, run_id) if run_id else None
        if launched is not None and launcher is None:
            experiment = _asked_for(client, experiment)
        # A launcher that is told no experiment makes its run in Default.
        if launcher and (launcher.experiment != "Default" or experiment == "Default"):
            store = cls(client, launcher.experiment_id, launcher.experiment)
        else:
            store = cls(client, _experiment_id(client, experiment), experiment)
        store._launched = launched
        if launcher and launcher.is_outer:
            store._outer = launcher.run_id if launcher.experiment == store.experiment else None
        else:
            store.launcher = launcher
        store._check_artifacts()
        store._close_abandoned()
        return store

    @property
    def artifact_location(self) -> str:
        """Where the artifacts of new runs go."""
        return str(self.client.get_experiment(self.experiment_id).artifact_location)

    def _check_artifacts(self) -> None:
        """UserError where the experiment's folder is gone: the project was moved, or is mounted
        elsewhere. Whoever went on would make the old folder again, and find nothing in it."""
        location = self.artifact_location
        if is_missing(location) and next(self.search(_PIPELINES, FINISHED), None):
            raise UserError(
                f"the artifacts of the experiment {self.experiment!r} are not at {location}, where "
                f"its runs have them; {mend(self.uri, location)}, or choose another experiment"
            )

    def describe(self, markdown: str, links: str) -> None:
        """Set the experiment's description, with links to its pages at the end, unless somebody has
        written another: one without such a link."""
        before = self.client.get_experiment(self.experiment_id).tags.get(runs.DESCRIPTION, "")
        if not before or f"(#/experiments/{self.experiment_id}/runs" in before:
            ending = f"\n\n{links}"
            text = masked(markdown, self.uri)
            text = shorten(text, runs.EXPERIMENT_TAG_LENGTH - len(ending)) + ending
            self.client.set_experiment_tag(self.experiment_id, runs.DESCRIPTION, text)

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

        The first run of the stage that `mlflow run` is about takes the launcher's place: the
        launcher's run becomes this one when it is in the right experiment, else it ends as this one
        ends and its description links here."""
        launcher = None
        if stage == self._launched:
            launcher, self.launcher = self.launcher, None
        all_tags = {**(tags or {}), "pipeline.stage": stage}
        if fingerprint is not None:
            all_tags["pipeline.fingerprint"] = fingerprint
        if above := parent.run_id if parent is not None else self._outer:
            all_tags["mlflow.parentRunId"] = above
        run: Run | None = None
        linked: Run | None = None
        before = self.client.get_run(resume).info.status if resume is not None else None
        try:
            with signals.deferred():
                if resume is not None:
                    run = self._reopen(resume, stage, name, all_tags)
                elif launcher and launcher.experiment_id == self.experiment_id:
                    run = self._adopt(launcher, stage, name, all_tags)
                else:
                    run = self.create(stage, name, all_tags)
                linked = self._link(launcher, run) if launcher else None
            yield run
        except BaseException as error:
            status, reason = runs.outcome(error)
            if before == "FINISHED" and isinstance(error, UserError):
                status, reason = "FINISHED", None  # what it holds is as true as it was
            if signals.ended_by_signal(error):
                hurry()
            if launcher and status == "KILLED":
                status = "FAILED"  # the only other status that the launcher will set
            try:
                _close(status, reason, run, linked)
            except MlflowException as failure:
                error.add_note(f"A run could not be closed: {failure}")
            raise
        _close("FINISHED", None, run, linked)

    def conclude_launcher(self, run: Run) -> None:
        """End the launcher's run, if there is one, by a link to a run that was there before."""
        launcher, self.launcher = self.launcher, None
        if launcher is not None:
            with signals.deferred():
                _close("FINISHED", None, self._link(launcher, run))

    def create(
        self, stage: Stage, name: str, tags: Mapping[str, str], start: int | None = None
    ) -> Run:
        """A new run that the caller closes; `start` is in milliseconds since the epoch (now)."""
        all_tags = {**self.context_tags, **tags, "pipeline.stage": stage}
        all_tags = {key: shorten(value, runs.TAG_LENGTH) for key, value in all_tags.items()}
        created = self.client.create_run(self.experiment_id, start, all_tags, name)
        return Run(self.client, created.info.run_id, self.experiment_id, stage, name)

    def latest(self, stage: Stage, fingerprint: str, *conditions: str) -> Any | None:
        """The latest run (mlflow.entities.Run) of a stage with this fingerprint, in any state
        unless the conditions say more."""
        return self._latest(stage, f"tags.`pipeline.fingerprint` = '{fingerprint}'", *conditions)

    def child(self, parent: Run, stage: Stage) -> Any | None:
        """The latest run of a stage under `parent`, in any state."""
        return self._latest(stage, f"tags.`mlflow.parentRunId` = '{parent.run_id}'")

    def _latest(self, stage: Stage, *conditions: str) -> Any | None:
        of_stage = f"tags.`pipeline.stage` = '{stage}'"
        found = self.search(of_stage, *conditions, order=["attributes.start_time DESC"])
        return next(found, None)

    def parent(self, run: Any) -> Any | None:
        """The run (mlflow.entities.Run) that this one is a child of; None when it was deleted."""
        parent_id = run.data.tags.get("mlflow.parentRunId")
        parent = self.client.get_run(parent_id) if parent_id else None
        return parent if parent and parent.info.lifecycle_stage == "active" else None

    def trials_under(self, train_run_id: str) -> Iterator[Any]:
        """All runs of trials (mlflow.entities.Run) of a train run, the first first."""
        of_train = f"tags.`mlflow.parentRunId` = '{train_run_id}'"
        order = ["attributes.start_time ASC"]
        return self.search(of_train, "tags.`pipeline.stage` = 'trial'", order=order)

    def text(self, run_id: str, path: str) -> str | None:
        """A text artifact of a run; None when it is not there or cannot be had."""
        with tempfile.TemporaryDirectory(prefix="artifact-") as folder:
            try:
                local = self.client.download_artifacts(run_id, path, folder)
                return Path(local).read_text(encoding="utf-8")
            except (MlflowException, OSError) as error:
                _log.debug("%s of run %s: %s", path, run_id, error)
                return None

    def needed(self, run_id: str, path: str) -> str:
        """A text artifact that the run must have; UserError says where it was looked for."""
        text = self.text(run_id, path)
        if text is None:
            address = f"{self.client.get_run(run_id).info.artifact_uri}/{path}"
            raise UserError(
                f"{path} of the run {run_id} is not at {address}; {mend(self.uri, address)}, or "
                "search anew with --fresh, in Python fresh=True"
            )
        return text

    @contextmanager
    def lease(self, fingerprint: str) -> Iterator[Lease]:
        """The right to work on the search with this fingerprint, for the block.

        Raises RunError when a living process has it, on this host or another."""
        with Lease(self.client, self.experiment_id, fingerprint) as lease:
            # Whoever had it may have ended since the store was opened.
            self._close_abandoned()
            yield lease

    def search(
        self, *conditions: str, order: Sequence[str] = (), experiments: Sequence[str] | None = None
    ) -> Iterator[Any]:
        """All runs (mlflow.entities.Run) for which every condition of MLflow's search holds."""
        return paged(
            self.client.search_runs,
            experiment_ids=list(experiments or (self.experiment_id,)),
            filter_string=" AND ".join(conditions),
            max_results=PAGE,
            order_by=list(order),
        )

    def _reopen(self, run_id: str, stage: Stage, name: str, tags: Mapping[str, str]) -> Run:
        self.client.update_run(run_id, status="RUNNING", name=name)
        run = self._taken(run_id, stage, name, tags)
        tags_there = self.client.get_run(run_id).data.tags
        for key in ("pipeline.reason", "pipeline.abandoned"):
            if key in tags_there:
                self.client.delete_tag(run_id, key)
        return run

    def _adopt(self, launcher: Launcher, stage: Stage, name: str, tags: Mapping[str, str]) -> Run:
        if launcher.given_name:
            name = launcher.given_name
        else:
            self.client.update_run(launcher.run_id, name=name)
        return self._taken(launcher.run_id, stage, name, tags)

    def _taken(self, run_id: str, stage: Stage, name: str, tags: Mapping[str, str]) -> Run:
        """A run that was there, now this process's."""
        run = Run(self.client, run_id, self.experiment_id, stage, name)
        run.tags({**tags, "pipeline.process": self.context_tags["pipeline.process"]})
        return run

    def _link(self, launcher: Launcher, run: Run) -> Run | None:
        """The launcher's run, described by a link to `run`; None when it is that run."""
        if launcher.run_id == run.run_id:
            return None
        place = f"[{self.experiment}](#/experiments/{self.experiment_id})"
        link = f"[{run.name}]({run.link}) (`{run.run_id}`) of the experiment {place}"
        linked = Run(self.client, launcher.run_id, launcher.experiment_id, run.stage, "")
        process = {"pipeline.process": self.context_tags["pipeline.process"]}
        linked.tags({runs.DESCRIPTION: f"Everything is in the run {link}.", **process})
        return linked

    def _close_abandoned(self) -> None:
        """Close the runs that are RUNNING although their process is gone, as KILLED.

        A trial that was being written is FAILED and counts as never run (`pipeline.abandoned`)."""
        of_launcher = {self.launcher.experiment_id} if self.launcher else set()
        experiments = sorted({self.experiment_id} | of_launcher)
        leases = {e: processes.claims(self.client, e) for e in experiments}
        silent = processes.silent_identities(c for claims in leases.values() for c in claims)
        # Deciding first and closing afterwards keeps the pages of the search from shifting.
        abandoned = [
            run
            for run in self.search("attributes.status = 'RUNNING'", experiments=experiments)
            if processes.is_left(run.data.tags.get("pipeline.process", ""), silent)
        ]
        for entity in abandoned:
            stage = entity.data.tags.get("pipeline.stage", "pipeline")
            run = Run(self.client, entity.info.run_id, entity.info.experiment_id, stage, "")
            reason = "the process ended without closing the run"
            run.tags({"pipeline.abandoned": "true"})
            of_a_trial = stage in ("trial", "final")
            if of_a_trial:
                run.tags({f"{stage}.state": "FAIL", f"{stage}.reason": reason})
                self.fail_models(run)
            run.close("FAILED" if of_a_trial else "KILLED", reason)
            _log.info("closed run %s: %s", run.run_id, reason)
        for experiment_id, claims in leases.items():
            for claim in claims:
                if claim.gone:
                    processes.drop(self.client, experiment_id, claim.key)

    def fail_models(self, run: Run) -> None:
        """No model of the run stays one that is still being written."""
        condition = f"source_run_id = '{run.run_id}'"
        for model in self.client.search_logged_models([run.experiment_id], condition):
            if model.status == LoggedModelStatus.PENDING:
                self.client.finalize_logged_model(model.model_id, LoggedModelStatus.FAILED)


def _asked_for(client: MlflowClient, configured: str) -> str:
    """The experiment that MLflow's variables name, else the configured one."""
    name, number = MLFLOW_EXPERIMENT_NAME.get(), MLFLOW_EXPERIMENT_ID.get()
    if not name and number:
        try:
            name = client.get_experiment(number).name
        except MlflowException as error:
            raise UserError(f"MLFLOW_EXPERIMENT_ID={number}: {first_line(error)}") from error
    if name and name != configured:
        _log.warning(
            "experiment %s, as MLFLOW_EXPERIMENT_NAME or _ID says, not %s", name, configured
        )
    return name or configured


def _check_relative(run_id: str | None) -> None:
    """UserError where `mlflow run`, started in another folder, made its run in another database."""
    path = sqlite_path(uri := store_uri())
    if run_id and path is not None and not path.is_absolute() and not path.exists():
        raise UserError(
            f"MLFLOW_TRACKING_URI: {uri} is a path within the folder of each process, and the "
            f"project runs in {Path.cwd()}; give the whole path: sqlite:////PATH/{path.name}"
        )


def _close(status: Status, reason: str | None, *opened: Run | None) -> None:
    with signals.deferred():
        for run in filter(None, opened):
            run.close(status, reason)


def _experiment_id(client: MlflowClient, name: str) -> str:
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            made = str(client.create_experiment(name, artifact_place(client), _EXPERIMENT_TAGS))
            make_folder(client, made)
            return made
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise UserError(f"experiment: {first_line(error)}") from error
            experiment = client.get_experiment_by_name(name)  # another process was faster
    if experiment.lifecycle_stage != "active":
        raise UserError(
            f"experiment: {name!r} was deleted in {client.tracking_uri}; restore it with "
            f"`mlflow experiments restore --experiment-id {experiment.experiment_id}`, "
            "or choose another name"
        )
    return str(experiment.experiment_id)
