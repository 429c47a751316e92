"""The last stage: the test rows, opened for the model that the search chose, and the registry."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline import data, evaluation, formats, inference
from pipeline.errors import UserError
from pipeline.evaluation import Evaluation, best_trial
from pipeline.report import descriptions, plots
from pipeline.stages import onnx_file
from pipeline.stages.job import Job
from pipeline.tracking import LoggedTrial, Run, Version, downloaded, register


@dataclass(frozen=True)
class Evaluated:
    """The scores on the test rows, and the version that was registered."""

    trial: LoggedTrial
    evaluation: Evaluation
    metrics: dict[str, float | None]
    version: Version

    @property
    def uri(self) -> str:
        """What people load: the alias, which follows the best version."""
        return f"models:/{self.version.name}@champion"


def evaluate(job: Job, parent: Run, trials: list[LoggedTrial]) -> Evaluated:
    """Score the best trial's model on the test rows and register it, as a child of the pipeline's.

    An evaluation that was cut short is taken up again in its run.

    Raises UserError when no trial completed.
    """
    best = best_trial(trials, job.config.search.objective)
    if best is None or best.model_id is None:
        raise UserError("evaluate needs a trial that completed; the search has none")
    name = f"evaluate · {best.name}"
    found = job.store.child(parent, "evaluate")
    resume = found.info.run_id if found is not None and found.info.status != "FINISHED" else None
    with job.store.run(
        "evaluate", name, parent=parent, fingerprint=job.fingerprint, resume=resume
    ) as run:
        test = job.data_set("test")
        run.inputs((test, "testing"))
        found = _score(job, best.model_id)
        metrics = _metrics(found)
        run.metrics(metrics, model_id=best.model_id, data=test)
        for file, figure in plots.evaluation_figures(found, job.parts.schema.labels).items():
            run.figure(figure, f"plots/{file}.png")
        if job.config.registry.onnx:
            _add_onnx(job, best.model_id)
        version = _register(job, best, found)
        run.tags(
            {
                "model.version": str(version.version),
                "model.uri": version.uri,
                "best.run_id": best.run_id,
            }
        )
    return Evaluated(best, found, metrics, version)


def is_evaluated(job: Job, parent: Run, trials: list[LoggedTrial]) -> bool:
    """Whether the best trial is the one that was scored and registered under this name."""
    best = best_trial(trials, job.config.search.objective)
    found = job.store.child(parent, "evaluate")
    if best is None or found is None or found.info.status != "FINISHED":
        return False
    tags = found.data.tags
    uri = f"models:/{job.config.registry.name}/{tags.get('model.version')}"
    return (tags.get("best.run_id"), tags.get("model.uri")) == (best.run_id, uri)


def _score(job: Job, model_id: str) -> Evaluation:
    rows = data.load_test(job.parts)
    with downloaded(job.store.client, f"models:/{model_id}") as folder:
        model = inference.load(folder)
    with torch.inference_mode():
        probabilities = model.module(torch.from_numpy(rows.raw)).numpy()
    return evaluation.evaluate(probabilities, rows.y)


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


def _register(job: Job, best: LoggedTrial, found: Evaluation) -> Version:
    scores = found.scores
    text = (
        f"{best.optimizer} with learning rate {formats.number(best.lr)}, the best of "
        f"{formats.count(job.config.search.trials, 'trial')} on {job.config.data.source}. "
        f"Test accuracy {formats.percent(scores.accuracy)} (95 % interval "
        f"{formats.percent(scores.accuracy_low)} to {formats.percent(scores.accuracy_high)}, "
        f"{formats.count(scores.n, 'row')})."
    )
    return register(
        job.store,
        best.model_id or "",
        job.config.registry.name,
        description=f"{descriptions.markdown(text)}\n\n{_columns(job)}",
        tags={
            "optimizer": best.optimizer,
            "lr": best.lr,
            "test_accuracy": scores.accuracy,
            "val_accuracy": best.accuracy,
            "fingerprint": job.fingerprint,
        },
        model_description=descriptions.markdown(
            f"Predicts {job.config.data.target} from rows like those of {job.config.data.source}."
        ),
        once=True,
    )


def _columns(job: Job) -> str:
    return descriptions.columns_text({c.name: c.kind for c in job.parts.schema.columns})
