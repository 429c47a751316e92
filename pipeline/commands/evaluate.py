"""The last stage: the test rows, opened for the model that was chosen, and the registry."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from pipeline import inference
from pipeline.analysis import baselines, evaluation
from pipeline.analysis.evaluation import Evaluation
from pipeline.analysis.evidence import Evidence
from pipeline.analysis.promotion import Said
from pipeline.analysis.ranking import best_trial
from pipeline.commands.job import Job
from pipeline.commands.registration import Standing, standing
from pipeline.commands.train import Trained
from pipeline.common import text as formats
from pipeline.common.errors import UserError
from pipeline.data import dataset as data
from pipeline.data.encoding import Encoder
from pipeline.models import onnx_file
from pipeline.report import descriptions
from pipeline.tracking.registry import Version, downloaded, register
from pipeline.tracking.runs import Run


@dataclass(frozen=True)
class Candidate:
    """The model that is scored: of the final round's winner, else of the search's best trial."""

    name: str
    optimizer: str
    lr: float
    params: Mapping[str, Any]
    run_id: str
    model_id: str
    val_accuracy: float | None

    @classmethod
    def of(cls, job: Job, trained: Trained) -> "Candidate":
        """Raises UserError when no trial completed."""
        best = best_trial(trained.trials, job.config.search.objective)
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
                best.accuracy,
            )
        return cls(
            f"{winner.optimizer} lr={winner.lr:.2g}",
            winner.optimizer,
            winner.lr,
            winner.params,
            final.run_id,
            final.model_id,
            winner.accuracy_mean,
        )


@dataclass(frozen=True)
class Evaluated:
    """The scores on the test rows, and the version that was registered."""

    candidate: Candidate
    evaluation: Evaluation
    evidence: Evidence | None
    metrics: dict[str, float | None]
    version: Version
    standing: Standing

    @property
    def uri(self) -> str:
        """What people load: the alias, which follows the best version."""
        return f"models:/{self.version.name}@{self.standing.alias}"

    @property
    def sentence(self) -> str:
        """What became of the model, and why."""
        return (
            f"Version {self.version.version} of {self.version.name} is @{self.standing.alias}: "
            f"{self.standing.why}."
        )


def evaluate(job: Job, parent: Run, trained: Trained) -> Evaluated:
    """Score the chosen model on the test rows and register it, as a child of the pipeline's run.

    An evaluation that was cut short, or whose outcome the pipeline's run did not get any more, is
    taken up again in its run.

    Raises UserError when no trial completed.
    """
    from pipeline.report import figures as plots  # slow to import

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
        rows = data.load_test(job.parts)
        found, said = _score(job, candidate.model_id, rows)
        metrics = _metrics(found)
        run.metrics(metrics, model_id=candidate.model_id, data=test)
        beside = _baselines(job, rows)
        run.metrics({f"test_{key}": value for key, value in beside.items()})
        for file, figure in plots.evaluation_figures(found, job.parts.schema.labels).items():
            run.figure(figure, f"plots/{file}.png")
        stands = standing(job, candidate.model_id, said, rows)
        run.metrics(_contest(stands))
        if job.config.registry.onnx:
            _add_onnx(job, candidate.model_id)
        description = descriptions.markdown(_outcome(job, candidate, found, stands))
        version = _register(job, candidate, found, stands, description)
        run.describe(description)
        run.tags(
            {
                "model.version": str(version.version),
                "model.uri": version.uri,
                "model.alias": stands.alias,
                "best.run_id": candidate.run_id,
            }
        )
    evidence = _with_test(trained.evidence, beside)
    return Evaluated(candidate, found, evidence, metrics, version, stands)


def evaluated_alias(job: Job, parent: Run, trained: Trained) -> str | None:
    """The alias of the chosen model; None unless it was scored and registered under this name."""
    candidate = Candidate.of(job, trained)
    found = job.store.child(parent, "evaluate")
    if found is None or found.info.status != "FINISHED":
        return None
    tags = found.data.tags
    uri = f"models:/{job.config.registry.name}/{tags.get('model.version')}"
    known = (tags.get("best.run_id"), tags.get("model.uri")) == (candidate.run_id, uri)
    return tags.get("model.alias") if known else None


def _score(job: Job, model_id: str, rows: data.Rows) -> tuple[Evaluation, Said]:
    with downloaded(job.store.client, f"models:/{model_id}") as folder:
        model = inference.load(folder)
    with torch.inference_mode():
        probabilities = model.module(torch.from_numpy(rows.raw)).numpy()
    threshold = model.schema.get("threshold", inference.DEFAULT_THRESHOLD)
    labels = evaluation.predicted_labels(probabilities, threshold)
    return evaluation.evaluate(probabilities, rows.y, threshold), Said(labels, probabilities)


def _add_onnx(job: Job, model_id: str) -> None:
    """Put the model as an ONNX file into its folder in the store."""
    rows = data.load_test(job.parts)
    with (
        downloaded(job.store.client, f"models:/{model_id}") as folder,
        tempfile.TemporaryDirectory(prefix="onnx-") as temporary,
    ):
        onnx_file.write(folder / inference.PROGRAM_FILE, rows.raw, Path(temporary))
        job.store.client.log_model_artifacts(model_id, temporary)


def _metrics(found: Evaluation) -> dict[str, float | None]:
    scores = found.scores
    return {
        "test_accuracy": scores.accuracy,
        "test_accuracy_low": scores.accuracy_low,
        "test_accuracy_high": scores.accuracy_high,
        "test_loss": scores.loss,
        "test_roc_auc": scores.roc_auc,
        "test_rows": scores.n,
    }


def _baselines(job: Job, rows: data.Rows) -> dict[str, float]:
    """Test scores of the models that are no networks, trained on all training rows."""
    schema = job.parts.schema
    training = data.load_training(job.parts)
    raw = torch.from_numpy(training.raw)
    encoder = Encoder.fit(raw, schema, [torch.arange(len(raw))])
    x, x_test = (encoder.encode(part)[0].numpy() for part in (raw, torch.from_numpy(rows.raw)))
    found = {}
    for name in baselines.NAMES:
        if not baselines.affordable(name, len(x), x.shape[1], schema.classes):
            continue
        said = baselines.probabilities(name, x, training.y, x_test, schema.classes)
        key = baselines.key(name)
        found[f"{key}_accuracy"], found[f"{key}_loss"] = baselines.score(said, rows.y)
    return found


def _with_test(evidence: Evidence | None, scores: Mapping[str, float]) -> Evidence | None:
    if evidence is None:
        return None
    known = tuple(
        replace(
            one,
            test_accuracy=scores[f"{baselines.key(one.name)}_accuracy"],
            test_loss=scores[f"{baselines.key(one.name)}_loss"],
        )
        for one in evidence.baselines
    )
    return replace(evidence, baselines=known)


def _contest(stands: Standing) -> dict[str, float | None]:
    found = stands.contest
    if found is None:
        return {}
    return {
        "champion_accuracy": found.old_accuracy,
        "champion_mcnemar_p": found.p_value,
        "champion_loss_difference": found.loss_difference,
        "champion_loss_difference_low": found.low,
        "champion_loss_difference_high": found.high,
    }


def _outcome(job: Job, candidate: Candidate, found: Evaluation, stands: Standing) -> str:
    """What the model is, how it did and what became of it."""
    scores = found.scores
    return (
        f"{candidate.optimizer} with learning rate {formats.number(candidate.lr)}, the best of "
        f"{formats.count(job.config.search.trials, 'trial')} on {job.config.data.source}. "
        f"Test accuracy {formats.percent(scores.accuracy)} (95 % interval "
        f"{formats.percent(scores.accuracy_low)} to {formats.percent(scores.accuracy_high)}, "
        f"{formats.count(scores.n, 'row')}). "
        f"@{stands.alias}: {stands.why}."
    )


def _register(
    job: Job, candidate: Candidate, found: Evaluation, stands: Standing, description: str
) -> Version:
    return register(
        job.store,
        candidate.model_id,
        job.config.registry.name,
        description=f"{description}\n\n{_columns(job)}",
        tags={
            "optimizer": candidate.optimizer,
            "lr": candidate.lr,
            "test_accuracy": found.scores.accuracy,
            "val_accuracy": candidate.val_accuracy,
            "fingerprint": job.fingerprint,
            "train.sha256": job.parts.digests["train"],
        },
        model_description=descriptions.markdown(
            f"Predicts {job.config.data.target} from rows like those of {job.config.data.source}."
        ),
        alias=stands.alias,
        once=True,
    )


def _columns(job: Job) -> str:
    return descriptions.columns_text({c.name: c.kind for c in job.parts.schema.columns})
