"""The final round and the registry on a real store, read back."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from sklearn.datasets import load_breast_cancer

from pipeline import __main__ as command_line
from pipeline.analysis.evidence import Evidence
from pipeline.models.metrics import ACCURACY, LOSS

SETTINGS = """
experiment: cells
seed: 3
data: {source: "sklearn:breast_cancer", target: target, positive: malignant}
validation: {folds: 2, final: {folds: 3, repeats: 2}}
model: {hidden: [8]}
training: {epochs: 8, patience: 3}
optimizers:
  - {name: SGD, lr: {low: 1e-2, high: 1.0, log: true}}
  - {name: Adam, lr: {low: 1e-3, high: 1e-1, log: true}}
  - {name: Adagrad, lr: 1.0e+30}
search: {trials: 5}
"""


@dataclass(frozen=True)
class Place:
    client: MlflowClient

    def start(self, *changes: str, command: str = "run") -> int:
        arguments = [item for change in changes for item in ("--set", change)]
        return command_line.main([command, "--config", "cells.yaml", *arguments])

    def runs(self, stage: str) -> list[Run]:
        """The latest first."""
        found = self.client.get_experiment_by_name("cells")
        condition = f"tags.`pipeline.stage` = '{stage}'"
        return list(self.client.search_runs([found.experiment_id], condition))

    def text(self, run: Run, path: str) -> str:
        return Path(self.client.download_artifacts(run.info.run_id, path)).read_text()

    def history(self, run: Run, metric: str) -> list[float]:
        found = self.client.get_metric_history(run.info.run_id, metric)
        return [point.value for point in sorted(found, key=lambda point: point.step)]

    @property
    def champion(self) -> int:
        return int(self.client.get_model_version_by_alias("cells", "champion").version)


@pytest.fixture
def place(tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A copy of a folder in which everything has run once."""
    shutil.copytree(finished, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    # Where artifacts are is in the store: the copy shares those of the first run.
    uri = f"sqlite:///{tmp_path}/here/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return Place(MlflowClient(uri))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    shutil.copy(empty_store, folder / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        patch.delenv("MLFLOW_RUN_ID", raising=False)
        Path("cells.yaml").write_text(SETTINGS)
        assert command_line.main(["run", "--config", "cells.yaml"]) == 0
    return folder


def test_each_optimizer_has_a_run_that_is_no_trial(place: Place) -> None:
    (train,) = place.runs("train")
    assert len(place.runs("trial")) == 5
    finals = {run.data.params["optimizer"]: run for run in place.runs("final")}
    assert finals.keys() == {"SGD", "Adam"}  # Adagrad diverged in the search: it has no best trial
    for run in finals.values():
        assert run.info.status == "FINISHED"
        assert run.data.tags["final.train"] == train.info.run_id
        (trial,) = (
            t for t in place.runs("trial") if t.info.run_id == run.data.tags["mlflow.parentRunId"]
        )
        assert trial.data.tags["trial.number"] == run.data.tags["final.trial"]
        assert trial.data.tags["mlflow.parentRunId"] == train.info.run_id
        assert "trial.number" not in run.data.tags
        accuracies = place.history(run, "fold_accuracy")
        assert len(accuracies) == 6
        metrics = run.data.metrics
        assert metrics["accuracy"] == pytest.approx(np.mean(accuracies))
        assert metrics["accuracy_std"] == pytest.approx(np.std(accuracies, ddof=1))
        selection = metrics["search_accuracy"] - metrics["accuracy"]
        stopping = metrics["accuracy"] - metrics["cross_fitted_accuracy"]
        assert metrics["optimism_accuracy"] == pytest.approx(selection + stopping)
        # Alike, but for rounding, where all parts of the rows choose the same epoch.
        assert metrics["cross_fitted_accuracy"] < metrics["accuracy"] + 1e-6
        number = run.data.tags["final.trial"]
        (trial,) = [t for t in place.runs("trial") if t.data.tags["trial.number"] == number]
        assert trial.data.metrics["accuracy"] == metrics["search_accuracy"]
        assert trial.data.params == run.data.params
    flattered = [
        run.data.metrics["cross_fitted_loss"] - run.data.metrics["loss"] for run in finals.values()
    ]
    assert max(flattered) > 0.001


def test_the_evidence_is_that_of_the_runs(place: Place) -> None:
    (train,), (pipeline,) = place.runs("train"), place.runs("pipeline")
    evidence = Evidence.from_plain(json.loads(place.text(train, "evidence.json")))
    finals = {run.data.params["optimizer"]: run for run in place.runs("final")}
    for finalist in evidence.finalists:
        metrics = finals[finalist.optimizer].data.metrics
        assert finalist.mean(ACCURACY) == metrics["cross_fitted_accuracy"]
        assert finalist.mean(LOSS) == metrics["cross_fitted_loss"]
        assert finalist.deviation(LOSS) == pytest.approx(metrics["cross_fitted_loss_std"])
        # By Jensen's inequality, where the mean is over the same number of rows in each fold.
        assert finalist.ensemble["loss"] < finalist.mean(LOSS)
    tags = train.data.tags
    best = max(finals, key=lambda name: finals[name].data.metrics["cross_fitted_accuracy"])
    metrics = finals[best].data.metrics
    for name in ("cross_fitted_accuracy", "ensemble_accuracy", "optimism_loss"):
        assert train.data.metrics[name] == metrics[name]  # one number, one name
    assert pipeline.data.metrics["cross_fitted_accuracy"] == metrics["cross_fitted_accuracy"]
    assert "val_accuracy" not in pipeline.data.metrics.keys() | train.data.metrics.keys()
    assert tags["optimizer.winner"] == best
    assert tags["optimizer.winner_is_clear"] == str(evidence.winner_is_clear).lower()
    summary = json.loads(place.text(pipeline, "summary.json"))
    assert summary["evidence"]["winner"] == best
    names = [one["name"] for one in summary["evidence"]["baselines"]]
    assert names == ["majority label", "logistic regression", "gradient boosting"]
    assert all(one["test_scores"]["accuracy"] > 0.5 for one in summary["evidence"]["baselines"])


def test_a_final_round_that_was_cut_short_is_completed(place: Place) -> None:
    (train,) = place.runs("train")
    before = json.loads(place.text(train, "evidence.json"))
    lost, kept = place.runs("final")
    place.client.delete_run(lost.info.run_id)
    place.client.delete_tag(train.info.run_id, "final.round")
    place.client.set_terminated(train.info.run_id, "KILLED")

    assert place.start() == 0
    (again,) = place.runs("train")
    assert (again.info.run_id, again.info.status) == (train.info.run_id, "FINISHED")
    assert len(place.runs("trial")) == 5
    found = {run.info.run_id for run in place.runs("final")}
    assert kept.info.run_id in found
    assert len(found) == 2
    after = json.loads(place.text(again, "evidence.json"))
    for content in (before, after):  # times differ
        for one in content["finalists"]:
            del one["seconds"]
    assert after == before


def test_the_evidence_of_a_larger_budget_is_of_its_best_trials(place: Place) -> None:
    assert place.start("search.trials=6", command="train") == 0
    (train,) = place.runs("train")
    evidence = Evidence.from_plain(json.loads(place.text(train, "evidence.json")))
    assert len(place.runs("trial")) == 6
    best = {run.data.tags["final.trial"] for run in place.runs("final")}
    assert {str(one.trial) for one in evidence.finalists} <= best


def test_what_is_registered_can_be_changed_after_the_search(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert place.start() == 0
    assert "Nothing to do" in capsys.readouterr().out
    changes = ("registry.model=single", "registry.threshold=youden")
    assert place.start(*changes) == 0
    assert len(place.runs("trial")) == 5
    assert len(place.runs("train")) == 1
    version = max(place.client.search_model_versions("name='cells'"), key=lambda v: int(v.version))
    assert int(version.version) == 2
    model = mlflow.pyfunc.load_model("models:/cells/2")
    threshold = model.metadata.signature.params.params[0].default
    assert threshold != 0.5
    frame = load_breast_cancer(as_frame=True).data
    served = model.predict(frame)
    above = served["probability"].to_numpy().astype(float) > threshold
    assert ((served["prediction"] == "malignant").to_numpy() == above).all()
    half = model.predict(frame, params={"threshold": 0.5})
    assert ((half["prediction"] == "malignant") == (half["probability"] > 0.5)).all()
    weights = mlflow.pytorch.load_model("models:/cells/2").state_dict()
    assert {tuple(value.shape) for name, value in weights.items() if "weights" in name} == {
        (1, 30, 8),
        (1, 8, 1),
    }
    capsys.readouterr()
    assert place.start(*changes) == 0
    assert "Nothing to do" in capsys.readouterr().out


@pytest.mark.slow
def test_a_worse_model_is_a_challenger_and_a_better_one_the_champion(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    worse = ("training.epochs=1", "model.hidden=[1]", "registry.calibrate=false")
    assert place.start(*worse) == 0
    assert place.champion == 1
    challenger = place.client.get_model_version_by_alias("cells", "challenger")
    assert int(challenger.version) == 2
    said = capsys.readouterr().out
    assert "Version 2 of cells is @challenger: " in said
    assert "McNemar" in said
    assert "McNemar" in challenger.description
    # Now the worse one serves, and the better one comes.
    place.client.set_registered_model_alias("cells", "champion", "2")
    assert place.start("registry.threshold=0.45") == 0
    assert place.champion == 3
    assert "better than version 2 on the same 143 test rows" in capsys.readouterr().out
    assert mlflow.pyfunc.load_model("models:/cells@champion") is not None


@pytest.mark.slow
def test_a_champion_that_does_not_load_or_fit_is_replaced(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    # Of another table:
    Path("iris.yaml").write_text(
        SETTINGS.replace("breast_cancer", "iris").replace(", positive: malignant", "")
    )
    assert command_line.main(["run", "--config", "iris.yaml"]) == 0
    said = capsys.readouterr().out
    assert "Version 2 of cells is @champion: version 1, the one before, is of another table" in said
    # Gone:
    version = place.client.get_model_version("cells", "2")
    model = place.client.get_logged_model(version.source.removeprefix("models:/"))
    folder = Path(model.artifact_location.removeprefix("file://"))
    shutil.move(folder / "model.pt2", folder / "gone")
    assert place.start("registry.threshold=0.45") == 0
    assert "version 2, the one before, does not load: " in capsys.readouterr().out
    assert place.champion == 3


def test_without_a_final_round_the_best_trial_is_registered(place: Place) -> None:
    assert place.start("validation.final=null") == 0
    (evaluate, *_) = place.runs("evaluate")
    (best,) = [r for r in place.runs("trial") if r.info.run_id == evaluate.data.tags["best.run_id"]]
    complete = [run.data.metrics.get("accuracy", 0.0) for run in place.runs("trial")]
    assert best.data.metrics["accuracy"] == max(complete)
    assert len(place.runs("final")) == 2  # those of before


def test_a_threshold_needs_two_labels(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    changed = SETTINGS.replace("breast_cancer", "iris").replace(", positive: malignant", "")
    Path("cells.yaml").write_text(changed)
    assert place.start("registry.threshold=f1") == 2
    assert "registry.threshold: must be 0.5 for a table of more than two labels" in (
        capsys.readouterr().err
    )


def test_two_entries_of_one_class_are_two_optimizers(
    tmp_path: Path,
    empty_store: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    Path("cells.yaml").write_text(
        SETTINGS[: SETTINGS.index("optimizers:")]
        + """
optimizers:
  - {name: SGD, lr: {low: 1e-2, high: 1.0, log: true}}
  - {name: SGD, lr: {low: 1e-2, high: 1.0, log: true}, momentum: 0.9}
  - {name: SGD, lr: 0.1, nesterov: true, momentum: 0.5, label: my own}
search: {trials: 6}
"""
    )
    place = Place(MlflowClient(f"sqlite:///{tmp_path}/mlflow.db"))
    assert place.start() == 0
    labels = {"SGD", "SGD momentum=0.9", "my own"}
    assert {run.data.params["optimizer"] for run in place.runs("trial")} == labels
    assert {run.data.params["optimizer"] for run in place.runs("final")} == labels
    (train,), (pipeline,) = place.runs("train"), place.runs("pipeline")
    assert train.data.tags["optimizer.winner"] in labels
    evidence = Evidence.from_plain(json.loads(place.text(train, "evidence.json")))
    assert {finalist.optimizer for finalist in evidence.finalists} == labels
    assert {name for pair in evidence.pairs for name in (pair.better, pair.worse)} == labels
    assert len(evidence.pairs) == 3
    summary = json.loads(place.text(pipeline, "summary.json"))
    assert {row["Optimizer"] for row in summary["optimizers"]} == labels
    printed = capsys.readouterr().out
    assert all(label in printed for label in labels)
    assert place.start("search.trials=8") == 0  # read back by their labels, and gone on with
    assert {run.data.params["optimizer"] for run in place.runs("trial")} == labels
    assert len(place.runs("trial")) == 8
