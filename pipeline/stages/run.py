"""All stages in one command, and each of them alone."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from pipeline import data, formats
from pipeline.config import Config
from pipeline.console import Console
from pipeline.data import Parts
from pipeline.errors import UserError
from pipeline.report import (
    Report,
    descriptions,
    loading_code,
    optimizer_rows,
    page,
    ui_command,
    verdict,
)
from pipeline.stages import onnx_file
from pipeline.stages.evaluate import Evaluated, evaluate, is_evaluated
from pipeline.stages.job import Job
from pipeline.stages.prepare import record
from pipeline.stages.retention import keep_models
from pipeline.stages.train import finished_trials, read_trials, train
from pipeline.tracking import LoggedTrial, Run, Stage, Store


def run_all(config: Config, command: str, fresh: bool = False) -> None:
    """Prepare, train and evaluate as children of one pipeline run.

    A search that an earlier start left unfinished, or that got a larger budget, goes on in its
    runs; one that is finished is only read. With `fresh` everything is done anew.
    """
    console = Console()
    if config.registry.onnx:
        onnx_file.check_packages()
    parts = _prepare(config, console)
    job = Job(config, parts, Store.open(config.experiment), console, command)
    with job.store.lease(job.fingerprint) as lease:
        before = None if fresh else job.store.latest("pipeline", job.fingerprint)
        if before is not None and _is_finished(job, before):
            return
        with _pipeline_run(job, before) as run:
            if not _has(job, run, "prepare"):
                record(job, run)
            trials = train(job, run, lease)
            evaluated = evaluate(job, run, trials)
            _publish(job, run, trials, evaluated)
            keep_models(config, job.store, trials)
    _close(job, trials, evaluated)


def prepare_alone(config: Config, command: str) -> None:
    """Write the parts and log them, unless that was done."""
    console = Console()
    parts = _prepare(config, console)
    store = Store.open(config.experiment, launched="prepare")
    job = Job(config, parts, store, console, command)
    if job.parts.reused and not store.launcher and store.find_stage("prepare", job.fingerprint):
        return
    with (
        job.store.lease(job.fingerprint),
        _pipeline_run(job, store.latest("pipeline", job.fingerprint)) as run,
    ):
        record(job, run)


def train_alone(config: Config, command: str, fresh: bool = False) -> None:
    """Search on the prepared parts."""
    store = Store.open(config.experiment, launched="train")
    job = Job(config, data.open_parts(config), store, Console(), command)
    with job.store.lease(job.fingerprint) as lease:
        before = store.latest("pipeline", job.fingerprint)
        if fresh and before is not None and store.child(_as_run(job, before), "train"):
            before = None
        with _pipeline_run(job, before) as run:
            trials = train(job, run, lease)
            keep_models(config, store, trials)
    _close(job, trials, None)


def evaluate_alone(config: Config, command: str) -> None:
    """Score and register the best trial of the latest search with this configuration."""
    store = Store.open(config.experiment, launched="evaluate")
    job = Job(config, data.open_parts(config), store, Console(), command)
    with job.store.lease(job.fingerprint):
        found = store.find_stage("train", job.fingerprint)
        if found is None:
            raise UserError(
                f"there is no finished search with this configuration in the experiment "
                f"{store.experiment!r} of {store.uri}; run train first"
            )
        trials = read_trials(job, found)
        with _pipeline_run(job, store.parent(found)) as run:
            evaluated = evaluate(job, run, trials)
            _publish(job, run, trials, evaluated)
            keep_models(config, job.store, trials)
    _close(job, trials, evaluated)


def _is_finished(job: Job, before: Any) -> bool:
    """Whether the pipeline's run has all that is asked for; then says so."""
    run = _as_run(job, before)
    found = job.store.child(run, "train")
    if before.info.status != "FINISHED" or found is None or found.info.status != "FINISHED":
        return False
    trials = finished_trials(job, found.info.run_id)
    if trials is None or not is_evaluated(job, run, trials):
        return False
    ended = datetime.fromtimestamp(found.info.end_time / 1000)
    job.store.conclude_launcher(run)
    job.console.say(
        f"Nothing to do: this search finished on {ended:%Y-%m-%d at %H:%M} with "
        f"{formats.count(len(trials), 'trial')}. More trials: --set search.trials=N; "
        "all of it again: --fresh."
    )
    _close(job, trials, None, f"models:/{job.config.registry.name}@champion")
    return True


def _as_run(job: Job, found: Any) -> Run:
    info = found.info
    return Run(job.store.client, info.run_id, info.experiment_id, "pipeline", info.run_name)


def _has(job: Job, run: Run, stage: Stage) -> bool:
    found = job.store.child(run, stage)
    return found is not None and found.info.status == "FINISHED"


def _prepare(config: Config, console: Console) -> Parts:
    """The parts on disk. Before any run is opened, so that a wrong table leaves none."""
    parts = data.prepare(config)
    for column, reason in parts.left_out.items():
        console.warn(f"column {column!r} is left out: {reason}")
    what = "nothing changed" if parts.reused else "written"
    console.say(
        f"prepare: {parts.rows['train']} training and {parts.rows['test']} test rows, "
        f"{len(parts.schema.columns)} columns, in {parts.directory} ({what})"
    )
    return parts


@contextmanager
def _pipeline_run(job: Job, before: Any | None = None) -> Iterator[Run]:
    """The run that the stages' runs are children of, with the configuration; `before` reopened."""
    name = f"pipeline · {job.table}"
    resume = before.info.run_id if before is not None else None
    with job.store.run("pipeline", name, fingerprint=job.fingerprint, resume=resume) as run:
        run.params(job.config.flat())
        run.text(job.config.to_yaml(), "config.yaml")
        yield run


def _publish(job: Job, run: Run, trials: list[LoggedTrial], evaluated: Evaluated) -> None:
    """The answer on the pipeline's run: description, metrics, summary and report."""
    report = Report(job.facts(evaluated.uri), trials, evaluated.evaluation)
    run.describe(descriptions.pipeline_description(report))
    run.metrics(evaluated.metrics | {"val_accuracy": evaluated.trial.accuracy})
    run.text(json.dumps(_summary(report, evaluated), indent=2), "summary.json")
    with tempfile.TemporaryDirectory() as folder:
        run.file(page.write(report, Path(folder) / "report.html"))


def _summary(report: Report, evaluated: Evaluated) -> dict[str, Any]:
    head, rows = optimizer_rows(report)
    return {
        "answer": verdict(report),
        "optimizer": evaluated.trial.optimizer,
        "lr": evaluated.trial.lr,
        "params": evaluated.trial.params,
        "test": evaluated.metrics,
        "model": evaluated.uri,
        "optimizers": [dict(zip(head, row, strict=True)) for row in rows],
    }


def _close(job: Job, trials: list[LoggedTrial], evaluated: Evaluated | None, uri: str = "") -> None:
    """The closing table, the answer and the next commands."""
    uri = evaluated.uri if evaluated else uri
    report = Report(job.facts(uri), trials, evaluated.evaluation if evaluated else None)
    commands = [("See every trial", ui_command(job.store.uri))]
    if uri:
        commands.append(("Load the model", loading_code(uri)))
    job.console.closing(report.summaries, verdict(report), commands, job.config.search.objective)
