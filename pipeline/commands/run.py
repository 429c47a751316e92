"""All stages in one command, and each of them alone."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pipeline.commands.evaluate import Candidate, Evaluated, evaluate
from pipeline.commands.final_round import check as check_final
from pipeline.commands.job import Job
from pipeline.commands.prepare import record
from pipeline.commands.searches import keep_models
from pipeline.commands.served import served_as
from pipeline.commands.train import Trained, read_finished, read_trained, train
from pipeline.common.addresses import masked
from pipeline.common.errors import UserError
from pipeline.common.text import count, some
from pipeline.config import Config
from pipeline.data.given import Given
from pipeline.data.prepared import PreparedData, open_prepared
from pipeline.data.prepared import prepare as prepare_data
from pipeline.report import descriptions, numbers
from pipeline.report.console import Console
from pipeline.report.report import Report
from pipeline.report.tables import optimizer_table
from pipeline.report.words import loading_code, ui_command, verdict
from pipeline.tracking.places import check_model, place_warning
from pipeline.tracking.registry import ensure_registered_model
from pipeline.tracking.runs import Run, Stage
from pipeline.tracking.store import FINISHED, Store
from pipeline.tracking.views import address, pages_of
from pipeline.training.checks import check, check_paths
from pipeline.training.executors import check_compute

SUMMARY = "summary.json"  # of the pipeline's run


@dataclass(frozen=True)
class Conclusion:
    """What a command found out, and where it is."""

    job: Job
    run_id: str  # the pipeline's
    report: Report
    answer: list[str]  # in sentences, with what became of the model
    test: Mapping[str, float | None]  # scores by their names in MLflow; {} before `evaluate`
    uri: str = ""  # what people load, the alias; "": nothing is registered
    version_uri: str = ""  # the version that was registered, which never changes
    ended: datetime | None = None  # when, where the search had been finished before

    def show(self) -> None:
        """On the console: the closing table, the answer and the next commands."""
        if self.ended is not None:
            self.job.console.say(
                f"Nothing to do: this search finished on {self.ended:%Y-%m-%d at %H:%M} with "
                f"{count(len(self.report.trials), 'trial')}. More trials: --set search.trials=N; "
                "all of it again: --fresh."
            )
        facts, page = self.report.facts, address(self.job.store.experiment_id)
        commands = [("See every trial", ui_command(facts.tracking_uri, page))]
        if self.uri:
            commands.append(("Load the model", loading_code(facts)))
        self.job.console.closing(optimizer_table(self.report), self.answer, commands)


def run_all(
    config: Config,
    command: str,
    fresh: bool = False,
    *,
    given: Given | None = None,
    launched: Stage | None = "pipeline",
) -> Conclusion:
    """Prepare, train and evaluate as children of one pipeline run.

    A search that an earlier start left unfinished, or that got a larger budget, goes on in its
    runs; one that is finished is only read. Then the run that `mlflow run` made, in whatever
    experiment, is described by a link to the pipeline's run that is there: MLflow cannot move what
    a run holds to another. With `fresh` everything is done anew, and in the launcher's run.

    Args:
        given: the rows where `data.source` is no place to read them from.
        launched: as `Store.open` has it."""
    console = Console()
    check_compute(config)
    parts = _prepare(config, console, given)
    job = Job(config, parts, Store.open(config.experiment, launched), console, command)
    with job.store.lease(job.fingerprint) as lease:
        before = None if fresh else job.store.latest("pipeline", job.fingerprint)
        if before is not None and (finished := _finished(job, before)) is not None:
            return finished
        with _pipeline_run(job, before) as run:
            prepared = job.store.child(run, "prepare")
            if prepared is None or prepared.info.status != "FINISHED":
                record(job, run)
            trained = train(job, run, lease)
            evaluated = evaluate(job, run, trained)
            _publish(job, run, trained, evaluated)
            keep_models(config, job.store, trained.trials, job.console)
    return _concluded(job, run, trained, evaluated)


def prepare_alone(config: Config, command: str) -> None:
    """Write the parts and log them, unless that was done."""
    console = Console()
    parts = _prepare(config, console)
    store = Store.open(config.experiment, launched="prepare")
    job = Job(config, parts, store, console, command)
    done = store.latest("prepare", job.fingerprint, FINISHED)
    if parts.reused and not store.launcher and done is not None:
        return
    with (
        job.store.lease(job.fingerprint),
        _pipeline_run(job, store.latest("pipeline", job.fingerprint)) as run,
    ):
        record(job, run)


def train_alone(config: Config, command: str, fresh: bool = False) -> Conclusion:
    """Search on the prepared parts."""
    check_compute(config)
    store = Store.open(config.experiment, launched="train")
    job = Job(config, open_prepared(config), store, Console(), command)
    check_final(config, job.parts)
    check(config, job.parts)
    with job.store.lease(job.fingerprint) as lease:
        before = store.latest("pipeline", job.fingerprint)
        if fresh and before is not None and store.child(_as_run(job, before), "train"):
            before = None
        with _pipeline_run(job, before) as run:
            trained = train(job, run, lease)
            keep_models(config, store, trained.trials, job.console)
    report = _report(job, trained, None, "")
    return Conclusion(job, run.run_id, report, verdict(report), {})


def evaluate_alone(config: Config, command: str) -> Conclusion:
    """Score and register the best trial of the latest search with this configuration."""
    store = Store.open(config.experiment, launched="evaluate")
    job = Job(config, open_prepared(config), store, Console(), command)
    with job.store.lease(job.fingerprint):
        search = store.latest("train", job.fingerprint, FINISHED)
        if search is None:
            raise UserError(
                f"there is no finished search with this configuration in the experiment "
                f"{store.experiment!r} of {store.uri}; run train first"
            )
        trained = read_trained(job, search.info.run_id)
        if config.validation.final is not None and trained.final is None:
            raise UserError(
                "the search with this configuration has no final round with these settings of "
                "validation.final and registry; run train first"
            )
        if (model_id := Candidate.of(job, trained).model_id) is not None:
            check_model(store.client, model_id)
        with _pipeline_run(job, store.parent(search)) as run:
            evaluated = evaluate(job, run, trained)
            _publish(job, run, trained, evaluated)
            keep_models(config, job.store, trained.trials, job.console)
    return _concluded(job, run, trained, evaluated)


def _finished(job: Job, before: Any) -> Conclusion | None:
    """What the pipeline's run says, where it has all that is asked for."""
    run = _as_run(job, before)
    search = job.store.child(run, "train")
    if before.info.status != "FINISHED" or search is None or search.info.status != "FINISHED":
        return None
    trained = read_finished(job, search.info.run_id)
    served = served_as(job, run, trained) if trained is not None else None
    if trained is None or served is None:
        return None
    summary = json.loads(job.store.needed(run.run_id, SUMMARY))
    ended = datetime.fromtimestamp(search.info.end_time / 1000)
    job.store.conclude_launcher(run)
    answer = [*summary["answer"], served.note or summary["registered"]]
    report = _report(job, trained, None, served.uri)
    uris = served.uri, served.version_uri
    return Conclusion(job, run.run_id, report, answer, summary["test"], *uris, ended)


def _as_run(job: Job, entity: Any) -> Run:
    info = entity.info
    return Run(job.store.client, info.run_id, info.experiment_id, "pipeline", info.run_name)


def _prepare(config: Config, console: Console, given: Given | None = None) -> PreparedData:
    """The parts on disk. Before any run is opened, so that a wrong table leaves none."""
    check_paths(config)
    parts = prepare_data(config, given=given)
    check_final(config, parts)
    check(config, parts)
    for column, reason in parts.left_out.items():
        console.warn(f"column {column!r} is left out: {reason}")
    for warning in parts.warnings:
        console.warn(warning)
    what = "nothing changed" if parts.reused else "written"
    unit = "groups" if config.validation.groups else "moments"
    train, test = parts.groups.get("train"), parts.groups.get("test")
    of = f" of {train:,} and {test:,} {unit}" if train else ""
    read = f"; read {', '.join(parts.notes)}" if parts.notes else ""
    console.say(
        f"prepare: {parts.rows['train']} training and {parts.rows['test']} test rows{of}, "
        f"{parts.schema.form}, in {parts.directory} ({what}){read}"
    )
    labels = parts.schema.labels
    other = (
        f"; {positive} (data.positive: {labels[0]})" if (positive := parts.schema.positive) else ""
    )
    console.say(f"labels: {some(labels)}{other}")
    return parts


@contextmanager
def _pipeline_run(job: Job, before: Any | None = None) -> Iterator[Run]:
    """The run that the stages' runs are children of, with the configuration; `before` reopened.

    Whether a model can be registered in the end is tried first."""
    if job.keeps_models:
        name = job.config.registry.name
        ensure_registered_model(job.store.client, name, job.model_description)
    if warning := place_warning(job.store.uri, job.store.artifact_location):
        job.console.warn(warning)
    with job.stage("pipeline", job.table, before) as run:
        run.params(job.config.flat())
        run.text(masked(job.config.to_yaml()), "config.yaml")
        for path in job.config.paths().values():
            if ":" in path:  # a file of somebody's own, not a package
                run.file(path.rpartition(":")[0], "code")
        run.inputs((job.data_set("train"), "training"), (job.data_set("test"), "testing"))
        with run.monitored():
            yield run


def _publish(job: Job, run: Run, trained: Trained, evaluated: Evaluated) -> None:
    """The answer on the pipeline's run: description, metrics, summary and report."""
    from pipeline.report.page import page  # slow to import

    report = _report(job, trained, evaluated, evaluated.uri)
    description = descriptions.search_description(report)
    run.describe(description)
    pages = {"This search": run.link, **pages_of(job.store.experiment_id)}
    job.store.describe(description, descriptions.links(pages))
    candidate, evidence = evaluated.candidate, report.evidence
    if candidate.model_id is not None:
        run.outputs(candidate.model_id)
    run.metrics(evaluated.metrics | dict(candidate.expected))
    summary = {
        "answer": verdict(report),
        "optimizer": candidate.optimizer,
        "lr": candidate.lr,
        "params": dict(candidate.params),
        "test": evaluated.metrics,
        "model": evaluated.uri,
        "registered": evaluated.sentence,
        "optimizers": optimizer_table(report).records(),
        "evidence": evidence.to_plain() if evidence else None,
    }
    run.text(json.dumps(summary, indent=2), SUMMARY)
    everything = json.dumps(numbers.content(report), indent=1, ensure_ascii=False, allow_nan=False)
    run.text(everything, "report.json")
    run.text(page(report), "report.html")


def _report(job: Job, trained: Trained, evaluated: Evaluated | None, uri: str) -> Report:
    if evaluated is None:
        return Report(job.facts(uri), trained.trials, None, trained.evidence, drawn=job.drawn)
    outcome = evaluated.evaluation, evaluated.evidence, evaluated.sentence
    return Report(job.facts(uri), trained.trials, *outcome, drawn=job.drawn)


def _concluded(job: Job, run: Run, trained: Trained, evaluated: Evaluated) -> Conclusion:
    report = _report(job, trained, evaluated, evaluated.uri)
    answer = [*verdict(report), evaluated.sentence]
    version = evaluated.registered[0].uri if evaluated.registered is not None else ""
    return Conclusion(job, run.run_id, report, answer, evaluated.metrics, evaluated.uri, version)
