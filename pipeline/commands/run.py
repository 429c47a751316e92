"""All stages in one command, and each of them alone."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from pipeline.commands.evaluate import Evaluated, evaluate, evaluated_alias
from pipeline.commands.final_round import check_threshold
from pipeline.commands.job import Job
from pipeline.commands.prepare import record
from pipeline.commands.searches import keep_models
from pipeline.commands.train import Trained, read_finished, read_trained, train
from pipeline.common.errors import UserError
from pipeline.common.text import count
from pipeline.config import Config
from pipeline.data.prepared import PreparedData, open_prepared
from pipeline.data.prepared import prepare as prepare_data
from pipeline.models.export import check_onnx_packages
from pipeline.report import descriptions, numbers
from pipeline.report.console import Console
from pipeline.report.report import Report
from pipeline.report.tables import optimizer_table
from pipeline.report.words import loading_code, ui_command, verdict
from pipeline.tracking.runs import Run
from pipeline.tracking.store import Store
from pipeline.training.trainer import check_device


def run_all(config: Config, command: str, fresh: bool = False) -> None:
    """Prepare, train and evaluate as children of one pipeline run.

    A search that an earlier start left unfinished, or that got a larger budget, goes on in its
    runs; one that is finished is only read. Then the run that `mlflow run` made, in whatever
    experiment, is described by a link to the pipeline's run that is there: MLflow cannot move what
    a run holds to another. With `fresh` everything is done anew, and in the launcher's run.
    """
    console = Console()
    check_device(config)
    if config.registry.onnx:
        check_onnx_packages()
    parts = _prepare(config, console)
    job = Job(config, parts, Store.open(config.experiment), console, command)
    with job.store.lease(job.fingerprint) as lease:
        before = None if fresh else job.store.latest("pipeline", job.fingerprint)
        if before is not None and _is_finished(job, before):
            return
        with _pipeline_run(job, before) as run:
            prepared = job.store.child(run, "prepare")
            if prepared is None or prepared.info.status != "FINISHED":
                record(job, run)
            trained = train(job, run, lease)
            evaluated = evaluate(job, run, trained)
            _publish(job, run, trained, evaluated)
            keep_models(config, job.store, trained.trials)
    _close(job, trained, evaluated)


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
    check_device(config)
    store = Store.open(config.experiment, launched="train")
    job = Job(config, open_prepared(config), store, Console(), command)
    with job.store.lease(job.fingerprint) as lease:
        before = store.latest("pipeline", job.fingerprint)
        if fresh and before is not None and store.child(_as_run(job, before), "train"):
            before = None
        with _pipeline_run(job, before) as run:
            trained = train(job, run, lease)
            keep_models(config, store, trained.trials)
    _close(job, trained, None)


def evaluate_alone(config: Config, command: str) -> None:
    """Score and register the best trial of the latest search with this configuration."""
    store = Store.open(config.experiment, launched="evaluate")
    job = Job(config, open_prepared(config), store, Console(), command)
    with job.store.lease(job.fingerprint):
        search = store.find_stage("train", job.fingerprint)
        if search is None:
            raise UserError(
                f"there is no finished search with this configuration in the experiment "
                f"{store.experiment!r} of {store.uri}; run train first"
            )
        trained = read_trained(job, search)
        if config.validation.final is not None and trained.final is None:
            raise UserError(
                "the search with this configuration has no final round with these settings of "
                "validation.final and registry; run train first"
            )
        with _pipeline_run(job, store.parent(search)) as run:
            evaluated = evaluate(job, run, trained)
            _publish(job, run, trained, evaluated)
            keep_models(config, job.store, trained.trials)
    _close(job, trained, evaluated)


def _is_finished(job: Job, before: Any) -> bool:
    """Whether the pipeline's run has all that is asked for; then says so."""
    run = _as_run(job, before)
    search = job.store.child(run, "train")
    if before.info.status != "FINISHED" or search is None or search.info.status != "FINISHED":
        return False
    trained = read_finished(job, search.info.run_id)
    alias = evaluated_alias(job, run, trained) if trained is not None else None
    if trained is None or alias is None:
        return False
    ended = datetime.fromtimestamp(search.info.end_time / 1000)
    job.store.conclude_launcher(run)
    job.console.say(
        f"Nothing to do: this search finished on {ended:%Y-%m-%d at %H:%M} with "
        f"{count(len(trained.trials), 'trial')}. More trials: --set search.trials=N; "
        "all of it again: --fresh."
    )
    _close(job, trained, None, f"models:/{job.config.registry.name}@{alias}")
    return True


def _as_run(job: Job, entity: Any) -> Run:
    info = entity.info
    return Run(job.store.client, info.run_id, info.experiment_id, "pipeline", info.run_name)


def _prepare(config: Config, console: Console) -> PreparedData:
    """The parts on disk. Before any run is opened, so that a wrong table leaves none."""
    parts = prepare_data(config)
    check_threshold(config, parts)
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


def _publish(job: Job, run: Run, trained: Trained, evaluated: Evaluated) -> None:
    """The answer on the pipeline's run: description, metrics, summary and report."""
    from pipeline.report import page  # slow to import

    report = _report(job, trained, evaluated, evaluated.uri)
    run.describe(descriptions.search_description(report))
    run.metrics(evaluated.metrics | dict(evaluated.candidate.expected))
    run.text(json.dumps(_summary(report, evaluated), indent=2), "summary.json")
    with tempfile.TemporaryDirectory() as folder:
        run.file(page.write(report, Path(folder) / "report.html"))
        for path in numbers.write(report, Path(folder)):
            run.file(path, "tables" if path.suffix == ".csv" else None)


def _summary(report: Report, evaluated: Evaluated) -> dict[str, Any]:
    return {
        "answer": verdict(report),
        "optimizer": evaluated.candidate.optimizer,
        "lr": evaluated.candidate.lr,
        "params": dict(evaluated.candidate.params),
        "test": evaluated.metrics,
        "model": evaluated.uri,
        "registered": evaluated.sentence,
        "optimizers": optimizer_table(report).records(),
        "evidence": report.evidence.to_plain() if report.evidence else None,
    }


def _report(job: Job, trained: Trained, evaluated: Evaluated | None, uri: str) -> Report:
    evaluation = evaluated.evaluation if evaluated else None
    evidence = evaluated.evidence if evaluated else trained.evidence
    registered = evaluated.sentence if evaluated else ""
    return Report(
        job.facts(uri), trained.trials, evaluation, evidence, registered, trained.searched
    )


def _close(job: Job, trained: Trained, evaluated: Evaluated | None, uri: str = "") -> None:
    """The closing table, the answer and the next commands."""
    uri = evaluated.uri if evaluated else uri
    report = _report(job, trained, evaluated, uri)
    commands = [("See every trial", ui_command(job.store.uri))]
    if uri:
        commands.append(("Load the model", loading_code(uri)))
    answer = verdict(report) + ([evaluated.sentence] if evaluated else [])
    job.console.closing(optimizer_table(report), answer, commands)
