"""The last stage: the test rows, opened for the model that was chosen, and the registry, where it
takes the champion's place or not.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from pipeline import inference
from pipeline.analysis import baselines, evaluation
from pipeline.analysis.evaluation import (
    Evaluation,
    ModelComparison,
    ModelPredictions,
    compare_models,
)
from pipeline.analysis.evidence import Evidence
from pipeline.analysis.ranking import best_trial
from pipeline.commands.job import Job
from pipeline.commands.train import Trained
from pipeline.common.errors import UserError
from pipeline.common.text import count, listing, number, percent
from pipeline.data.encoding import Encoder
from pipeline.data.prepared import Rows, load_test, load_training
from pipeline.inference import InputError, ModelError, TabularModel
from pipeline.models.export import write_onnx
from pipeline.models.metrics import METRICS
from pipeline.report import descriptions
from pipeline.tracking.registry import Version, downloaded, find_version, register
from pipeline.tracking.runs import Run


@dataclass(frozen=True)
class Candidate:
    """The model that is scored: of the final round's winner, else of the search's best trial.

    `expected` is its estimate before the test by the metric's name in MLflow: cross-fitted, or of
    the search.
    """

    name: str
    optimizer: str
    lr: float
    params: Mapping[str, Any]
    run_id: str
    model_id: str
    expected: Mapping[str, float]

    @classmethod
    def of(cls, job: Job, trained: Trained) -> "Candidate":
        """Raises UserError when no trial completed."""
        best = best_trial(trained.trials, job.metric)
        if best is None or best.model_id is None:
            raise UserError("evaluate needs a trial that completed; the search has none")
        final = trained.final
        winner = final.evidence.winner if final is not None else None
        if final is None or winner is None or final.run_id is None or final.model_id is None:
            return cls(
                best.name,
                best.optimizer,
                best.lr,
                best.params,
                best.run_id,
                best.model_id,
                {f"best_{name}": score for name, score in best.scores.items()},
            )
        return cls(
            f"{winner.optimizer} lr={winner.lr:.2g}",
            winner.optimizer,
            winner.lr,
            winner.params,
            final.run_id,
            final.model_id,
            {f"cross_fitted_{name}": winner.mean(metric) for name, metric in METRICS.items()},
        )


Alias = Literal["champion", "challenger"]


@dataclass(frozen=True)
class Promotion:
    """Which alias the new version gets, and why, as the end of a sentence."""

    alias: Alias
    why: str
    comparison: ModelComparison | None = None


@dataclass(frozen=True)
class Evaluated:
    """The scores on the test rows, and the version that was registered."""

    candidate: Candidate
    evaluation: Evaluation
    evidence: Evidence | None
    metrics: dict[str, float | None]
    version: Version
    promotion: Promotion

    @property
    def uri(self) -> str:
        """What people load: the alias, which follows the best version."""
        return f"models:/{self.version.name}@{self.promotion.alias}"

    @property
    def sentence(self) -> str:
        """What became of the model, and why."""
        return (
            f"Version {self.version.version} of {self.version.name} is @{self.promotion.alias}: "
            f"{self.promotion.why}."
        )


def evaluate(job: Job, parent: Run, trained: Trained) -> Evaluated:
    """Score the chosen model on the test rows and register it, as a child of the pipeline's run.

    An evaluation that was cut short, or whose outcome the pipeline's run did not get any more, is
    taken up again in its run.

    Raises UserError when no trial completed.
    """
    from pipeline.report import figures  # slow to import

    candidate = Candidate.of(job, trained)
    name = f"evaluate · {candidate.name}"
    before = job.store.child(parent, "evaluate")
    if before is not None and before.info.status == "FINISHED":
        same = before.data.tags.get("best.run_id") == candidate.run_id and not job.store.launcher
        before = before if same else None
    resume = before.info.run_id if before is not None else None
    with job.store.run(
        "evaluate", name, parent=parent, fingerprint=job.fingerprint, resume=resume
    ) as run:
        test = job.data_set("test")
        run.inputs((test, "testing"))
        rows = load_test(job.parts)
        evaluation, predictions = _score(job, candidate.model_id, rows)
        metrics = _metrics(evaluation)
        run.metrics(metrics, model_id=candidate.model_id, data=test)
        baseline_scores = _baselines(job, rows)
        for model, scores in baseline_scores.items():
            run.metrics({f"test_{baselines.key(model)}_{key}": v for key, v in scores.items()})
        for file, figure in figures.evaluation_figures(evaluation, job.parts.schema.labels).items():
            run.figure(figure, f"plots/{file}.png")
        promotion = promote(job, candidate.model_id, predictions, rows)
        run.metrics(_comparison(promotion))
        if job.config.registry.onnx:
            _add_onnx(job, candidate.model_id)
        description = descriptions.markdown(_outcome(job, candidate, evaluation, promotion))
        version = _register(job, candidate, evaluation, promotion, description)
        run.describe(description)
        run.tags(
            {
                "model.version": str(version.version),
                "model.uri": version.uri,
                "model.alias": promotion.alias,
                "best.run_id": candidate.run_id,
            }
        )
    evidence = _with_test(trained.evidence, baseline_scores)
    return Evaluated(candidate, evaluation, evidence, metrics, version, promotion)


def evaluated_alias(job: Job, parent: Run, trained: Trained) -> str | None:
    """The alias of the chosen model; None unless it was scored and registered under this name."""
    candidate = Candidate.of(job, trained)
    evaluated = job.store.child(parent, "evaluate")
    if evaluated is None or evaluated.info.status != "FINISHED":
        return None
    tags = evaluated.data.tags
    uri = f"models:/{job.config.registry.name}/{tags.get('model.version')}"
    is_same = (tags.get("best.run_id"), tags.get("model.uri")) == (candidate.run_id, uri)
    return tags.get("model.alias") if is_same else None


def promote(job: Job, model_id: str, predictions: ModelPredictions, rows: Rows) -> Promotion:
    """The candidate's, by its predictions for the test rows beside the champion's for the same.

    A champion that cannot be scored on these rows, because there is none, it does not load, or the
    table has other columns or labels by now, is replaced: `@champion` is what serves this table.
    """
    name = job.config.registry.name
    old = find_version(job.store, name)
    if old is None:
        return Promotion("champion", "there was no champion")
    if old.model_id == model_id:
        return Promotion("champion", "it was that already")
    try:
        with downloaded(job.store.client, old.uri) as folder:
            model = inference.load(folder)
    except (UserError, ModelError, OSError) as error:
        reason = str(error).splitlines()[0]
        return Promotion(
            "champion", f"version {old.version}, the one before, does not load: {reason}"
        )
    try:
        others = predictions_of(model, rows, job.parts.schema.labels)
    except (InputError, UserError) as error:
        reason = str(error).splitlines()[0]
        return Promotion(
            "champion", f"version {old.version}, the one before, is of another table: {reason}"
        )
    comparison = compare_models(predictions, others, rows.y)
    alias: Alias = "champion" if comparison.takes_over else "challenger"
    return Promotion(alias, _why(comparison, old, _note(job, old)), comparison)


def predictions_of(model: TabularModel, rows: Rows, labels: Sequence[Any]) -> ModelPredictions:
    """A model's for raw test rows, with its own threshold; label ids are those of `labels`.

    Raises:
        InputError: the rows lack a column, or one is of another kind.
        UserError: the model knows other labels.
    """
    model_labels = list(model.schema["labels"])
    if {(type(label), label) for label in model_labels} != {
        (type(label), label) for label in labels
    }:
        raise UserError(
            f"its labels are {listing([str(label) for label in model_labels])}, those of the table "
            f"{listing([str(label) for label in labels])}"
        )
    frame = rows.table.to_pandas()
    probabilities = model.probabilities(frame)
    predicted = model.predict(frame)["prediction"].to_numpy()
    ids = {label: place for place, label in enumerate(labels)}
    order = [model_labels.index(label) for label in labels]
    label_ids = np.array([ids[label] for label in predicted.tolist()])
    return ModelPredictions(label_ids, probabilities[:, order])


def _score(job: Job, model_id: str, rows: Rows) -> tuple[Evaluation, ModelPredictions]:
    with downloaded(job.store.client, f"models:/{model_id}") as folder:
        model = inference.load(folder)
    with torch.no_grad():
        probabilities = model.module(torch.from_numpy(rows.raw)).numpy()
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


def _metrics(evaluation: Evaluation) -> dict[str, float | None]:
    scores = evaluation.scores
    return {
        **{f"test_{name}": value for name, value in scores.by_metric.items()},
        "test_accuracy_low": scores.accuracy_low,
        "test_accuracy_high": scores.accuracy_high,
        "test_roc_auc": scores.roc_auc,
        "test_rows": scores.n,
    }


def _baselines(job: Job, rows: Rows) -> dict[baselines.Name, dict[str, float]]:
    """Test scores of the models that are no networks, trained on all training rows."""
    schema = job.parts.schema
    training = load_training(job.parts)
    raw = torch.from_numpy(training.raw)
    encoder = Encoder.fit(raw, schema, [torch.arange(len(raw))])
    x, x_test = (encoder.encode(part)[0].numpy() for part in (raw, torch.from_numpy(rows.raw)))
    scores = {}
    for name in baselines.NAMES:
        if baselines.affordable(name, len(x), x.shape[1], schema.classes):
            predicted = baselines.probabilities(name, x, training.y, x_test, schema.classes)
            scores[name] = baselines.score(predicted, rows.y)
    return scores


def _with_test(
    evidence: Evidence | None, scores: Mapping[baselines.Name, Mapping[str, float]]
) -> Evidence | None:
    if evidence is None:
        return None
    models = (replace(model, test_scores=scores[model.name]) for model in evidence.baselines)
    return replace(evidence, baselines=tuple(models))


def _comparison(promotion: Promotion) -> dict[str, float | None]:
    """How the model compares with the champion, where there is one."""
    comparison = promotion.comparison
    if comparison is None:
        return {}
    return {
        "champion_accuracy": comparison.old_accuracy,
        "champion_mcnemar_p": comparison.p_value,
        "champion_loss_difference": comparison.loss_difference,
        "champion_loss_difference_low": comparison.low,
        "champion_loss_difference_high": comparison.high,
    }


def _outcome(job: Job, candidate: Candidate, evaluation: Evaluation, promotion: Promotion) -> str:
    """What the model is, how it did and what became of it."""
    scores = evaluation.scores
    return (
        f"{candidate.optimizer} with learning rate {number(candidate.lr)}, the best of "
        f"{count(job.config.search.trials, 'trial')} on {job.config.data.source}. "
        f"Test accuracy {percent(scores.accuracy)} (95 % interval "
        f"{percent(scores.accuracy_low)} to {percent(scores.accuracy_high)}, "
        f"{count(scores.n, 'row')}). "
        f"@{promotion.alias}: {promotion.why}."
    )


def _register(
    job: Job,
    candidate: Candidate,
    evaluation: Evaluation,
    promotion: Promotion,
    description: str,
) -> Version:
    columns = descriptions.columns_text({c.name: c.kind for c in job.parts.schema.columns})
    return register(
        job.store,
        candidate.model_id,
        job.config.registry.name,
        description=f"{description}\n\n{columns}",
        tags={
            "optimizer": candidate.optimizer,
            "lr": candidate.lr,
            "test_accuracy": evaluation.scores.accuracy,
            **candidate.expected,
            "fingerprint": job.fingerprint,
            "train.sha256": job.parts.digests["train"],
        },
        model_description=descriptions.markdown(
            f"Predicts {job.config.data.target} from rows like those of {job.config.data.source}."
        ),
        alias=promotion.alias,
    )


def _why(comparison: ModelComparison, old: Version, note: str) -> str:
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
        f"{comparison.high:+.3f}){note}"
    )


def _note(job: Job, old: Version) -> str:
    trained_on = old.tags.get("train.sha256")
    if trained_on in (None, job.parts.digests["train"]):
        return ""
    return "; that one was trained on other rows, perhaps on some of these"
