"""The last stage: the test rows, opened for the model that was chosen, and the registry, where it
takes the champion's place or not."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from pipeline import inference
from pipeline.analysis import baselines, evaluation
from pipeline.analysis.evaluation import Evaluation, ModelComparison, ModelPredictions
from pipeline.analysis.evidence import Evidence
from pipeline.commands.candidate import Candidate
from pipeline.commands.job import Job
from pipeline.commands.train import Trained
from pipeline.common.errors import UserError
from pipeline.common.text import count, listing, number, percent
from pipeline.data.encoding import encoded, encoder_for
from pipeline.data.prepared import Rows, load_test, load_training
from pipeline.inference import InputError, ModelError, TabularModel
from pipeline.models.export import write_onnx
from pipeline.report import descriptions
from pipeline.report.words import NOT_KEPT
from pipeline.tracking.registry import Version, downloaded, find_version, register
from pipeline.tracking.runs import Run

Alias = Literal["champion", "challenger"]


@dataclass(frozen=True)
class Promotion:
    """Which alias the new version gets, and why, as the end of a sentence."""

    alias: Alias
    why: str
    comparison: ModelComparison | None = None


@dataclass(frozen=True)
class Evaluated:
    """The scores on the test rows, and what was registered; None: no model is kept."""

    candidate: Candidate
    evaluation: Evaluation
    evidence: Evidence | None
    metrics: dict[str, float | None]
    registered: tuple[Version, Promotion] | None

    @property
    def uri(self) -> str:
        """What people load: the alias, which follows the best version; "": nothing."""
        if self.registered is None:
            return ""
        version, promotion = self.registered
        return f"models:/{version.name}@{promotion.alias}"

    @property
    def sentence(self) -> str:
        """What became of the model, and why."""
        if self.registered is None:
            return NOT_KEPT
        version, promotion = self.registered
        return (
            f"Version {version.version} of {version.name} is @{promotion.alias}: {promotion.why}."
        )


def evaluate(job: Job, parent: Run, trained: Trained) -> Evaluated:
    """Score the chosen model on the test rows and register it, as a child of the pipeline's run.

    An evaluation that was cut short, or whose outcome the pipeline's run did not get any more, is
    taken up again in its run.

    Raises UserError when no trial completed."""
    from pipeline.report import figures  # slow to import

    candidate = Candidate.of(job, trained)
    before = job.store.child(parent, "evaluate")
    if before is not None and before.info.status == "FINISHED":
        same = before.data.tags.get("best.run_id") == candidate.run_id and not job.store.launcher
        before = before if same else None
    with job.stage("evaluate", candidate.name, before, parent) as run:
        test = job.data_set("test")
        run.inputs((test, "testing"))
        rows = load_test(job.parts)
        evaluation, predictions = _score(job, candidate, trained, rows)
        scored = evaluation.scores
        others = {n: getattr(scored, n) for n in ("accuracy_low", "accuracy_high", "roc_auc")}
        values = scored.by_metric | others | {"rows": scored.n}
        metrics = {f"test_{name}": value for name, value in values.items()}
        run.metrics(metrics, model_id=candidate.model_id, data=test)
        baseline_scores = _baselines(job, rows)
        for model, scores in baseline_scores.items():
            run.metrics({f"test_{baselines.key(model)}_{key}": v for key, v in scores.items()})
        for file, figure in figures.evaluation_figures(evaluation, job.parts.schema.labels).items():
            run.figure(figure, f"plots/{file}.png")
        registered = _promoted(job, run, candidate, evaluation, predictions, rows)
        run.tags({"best.run_id": candidate.run_id})
    evidence = trained.evidence
    if evidence is not None:
        models = (replace(m, test_scores=baseline_scores[m.name]) for m in evidence.baselines)
        evidence = replace(evidence, baselines=tuple(models))
    return Evaluated(candidate, evaluation, evidence, metrics, registered)


def evaluated_uris(job: Job, parent: Run, trained: Trained) -> tuple[str, str] | None:
    """The URIs of the chosen model, by its alias and by its version, both "" where none is kept;
    None unless it was scored, and registered under this name."""
    candidate = Candidate.of(job, trained)
    evaluated = job.store.child(parent, "evaluate")
    if evaluated is None or evaluated.info.status != "FINISHED":
        return None
    tags, name = evaluated.data.tags, job.config.registry.name
    if tags.get("best.run_id") != candidate.run_id:
        return None
    if not job.keeps_models and not tags.get("model.uri"):
        return "", ""
    uri = f"models:/{name}/{tags.get('model.version')}"
    return (f"models:/{name}@{tags['model.alias']}", uri) if tags.get("model.uri") == uri else None


def _promoted(
    job: Job,
    run: Run,
    candidate: Candidate,
    evaluation: Evaluation,
    predictions: ModelPredictions,
    rows: Rows,
) -> tuple[Version, Promotion] | None:
    """Register the candidate and say so on the run; None where no model is kept."""
    if candidate.model_id is None:
        run.describe(descriptions.markdown(_outcome(job, candidate, evaluation, NOT_KEPT)))
        return None
    promotion = promote(job, candidate.model_id, predictions, rows)
    if (comparison := promotion.comparison) is not None:
        values = {"accuracy": comparison.old_accuracy, "mcnemar_p": comparison.p_value}
        values |= {"loss_difference": comparison.loss_difference}
        values |= {"loss_difference_low": comparison.low, "loss_difference_high": comparison.high}
        run.metrics({f"champion_{name}": value for name, value in values.items()})
    if job.config.registry.onnx:
        _add_onnx(job, candidate.model_id)
    ending = f"@{promotion.alias}: {promotion.why}."
    description = descriptions.markdown(_outcome(job, candidate, evaluation, ending))
    schema = job.parts.schema
    about = f"Predicts {schema.target} from rows like those of {job.config.data.source}."
    version = register(
        job.store,
        candidate.model_id,
        job.config.registry.name,
        description=f"{description}\n\n{descriptions.inputs_text(schema)}",
        tags={
            "optimizer": candidate.optimizer,
            "lr": candidate.lr,
            "test_accuracy": evaluation.scores.accuracy,
            **candidate.expected,
            "fingerprint": job.fingerprint,
            "train.sha256": job.parts.digests["train"],
        },
        model_description=descriptions.markdown(about),
        alias=promotion.alias,
    )
    run.describe(description)
    tags = {"version": str(version.version), "uri": version.uri, "alias": promotion.alias}
    run.tags({f"model.{name}": text for name, text in tags.items()})
    return version, promotion


def promote(job: Job, model_id: str, predictions: ModelPredictions, rows: Rows) -> Promotion:
    """The candidate's, by its predictions for the test rows beside the champion's for the same.

    A champion that cannot be scored on these rows, because there is none, it does not load, or the
    table has other columns or labels by now, is replaced: `@champion` is what serves this table."""
    name = job.config.registry.name
    old = find_version(job.store, name)
    if old is None:
        return Promotion("champion", "there was no champion")
    if old.model_id == model_id:
        return Promotion("champion", "it was that already")
    failure = "does not load"
    try:
        with downloaded(job.store.client, old.uri) as folder:
            model = inference.load(folder)
        failure = "is of another table"
        others = predictions_of(model, rows, job.parts.schema.labels)
    except (UserError, ModelError, InputError, OSError) as error:
        reason = f"{failure}: {str(error).splitlines()[0]}"
        return Promotion("champion", f"version {old.version}, the one before, {reason}")
    comparison = evaluation.compare_models(predictions, others, rows.y)
    alias: Alias = "champion" if comparison.takes_over else "challenger"
    why = _why(comparison, old)
    if old.tags.get("train.sha256") not in (None, job.parts.digests["train"]):
        why += "; that one was trained on other rows, perhaps on some of these"
    return Promotion(alias, why, comparison)


def predictions_of(model: TabularModel, rows: Rows, labels: Sequence[Any]) -> ModelPredictions:
    """A model's for raw test rows, with its own threshold; label ids are those of `labels`.

    Raises:
        InputError: the rows lack a column, or one is of another kind.
        UserError: the model knows other labels."""
    others = list(model.schema["labels"])
    if {(type(label), label) for label in others} != {(type(label), label) for label in labels}:
        ours, theirs = (listing([str(label) for label in each]) for each in (labels, others))
        raise UserError(f"its labels are {theirs}, those of the table {ours}")
    given = rows.given()
    probabilities = model.probabilities(given)
    predicted = model.predict(given)["prediction"].tolist()
    ids = {label: place for place, label in enumerate(labels)}
    label_ids = np.array([ids[label] for label in predicted])
    return ModelPredictions(label_ids, probabilities[:, [others.index(label) for label in labels]])


def _score(
    job: Job, candidate: Candidate, trained: Trained, rows: Rows
) -> tuple[Evaluation, ModelPredictions]:
    if candidate.model_id is None:
        model = candidate.trained_again(job, trained)
    else:
        with downloaded(job.store.client, f"models:/{candidate.model_id}") as folder:
            model = inference.load(folder)
    probabilities = model.scores(rows.raw)
    threshold = inference.default_threshold(model.schema)
    labels = evaluation.predicted_labels(probabilities, threshold)
    scored = evaluation.evaluate(probabilities, rows.y, threshold)
    return scored, ModelPredictions(labels, probabilities)


def _add_onnx(job: Job, model_id: str) -> None:
    """Put the model as an ONNX file into its folder in the store."""
    rows = load_test(job.parts)
    with (
        downloaded(job.store.client, f"models:/{model_id}") as folder,
        tempfile.TemporaryDirectory(prefix="onnx-") as temporary,
    ):
        write_onnx(folder / inference.PROGRAM_FILE, rows.raw, Path(temporary))
        job.store.client.log_model_artifacts(model_id, temporary)


def _baselines(job: Job, rows: Rows) -> dict[baselines.Name, dict[str, float]]:
    """Test scores of the models that are no networks, trained on all training rows."""
    schema = job.parts.schema
    training = load_training(job.parts)
    shape = len(training.y), schema.width, schema.classes
    names = [name for name in baselines.NAMES if baselines.affordable(name, *shape)]
    x, x_test = (np.empty((len(y), 0)) for y in (training.y, rows.y))
    if len(names) > 1:  # the majority label needs no inputs
        raw, raw_test = (torch.from_numpy(part.raw) for part in (training, rows))
        encoder = encoder_for(raw, schema, [torch.arange(len(raw))], as_columns=True)
        x, x_test = (encoded(encoder, part)[0].numpy() for part in (raw, raw_test))
    data = x, training.y, x_test, schema.classes
    return {name: baselines.score(baselines.probabilities(name, *data), rows.y) for name in names}


def _outcome(job: Job, candidate: Candidate, evaluation: Evaluation, ending: str) -> str:
    """What the model is, how it did and what became of it."""
    scores = evaluation.scores
    return (
        f"{candidate.optimizer} with learning rate {number(candidate.lr)}, the best of "
        f"{count(job.config.search.trials, 'trial')} on {job.config.data.source}. "
        f"Test accuracy {percent(scores.accuracy)} (95 % interval {percent(scores.accuracy_low)} "
        f"to {percent(scores.accuracy_high)}, {count(scores.n, 'row')}). {ending}"
    )


def _why(comparison: ModelComparison, old: Version) -> str:
    verdict = {
        "better": "better than",
        "worse": "worse than",
        "open": "not told apart from" if comparison.takes_over else "behind (within the noise)",
    }[comparison.outcome]
    return (
        f"{verdict} version {old.version} on the same {count(comparison.rows, 'test row')}: "
        f"accuracy {percent(comparison.new_accuracy)} against "
        f"{percent(comparison.old_accuracy)} (McNemar p = {comparison.p_value:.2g}), log loss "
        f"{comparison.loss_difference:+.3f} (95 %: {comparison.low:+.3f} to "
        f"{comparison.high:+.3f})"
    )
