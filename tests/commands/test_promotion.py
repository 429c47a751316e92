"""Which alias a new version gets, and what is said of scores that nobody could expect: on a real
store, read back."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import precision_score, recall_score

from pipeline import __main__ as command_line

SETTINGS: dict[str, Any] = {
    "experiment": "truth",
    "data": {"source": "train.csv", "target": "target", "test": "good.csv"},
    "validation": {"folds": 2, "final": {"folds": 3, "repeats": 2}},
    "model": {"hidden": [4]},
    "training": {"epochs": 8, "patience": 3},
    "optimizers": [{"name": "Adam", "lr": {"low": 0.01, "high": 0.1, "log": True}}],
    "search": {"trials": 2},
}


@dataclass(frozen=True)
class Place:
    client: MlflowClient

    def start(self, command: str = "run", **changes: Any) -> int:
        """Runs with these sections in place of those of SETTINGS."""
        Path("truth.yaml").write_text(yaml.safe_dump(SETTINGS | changes))
        return command_line.main([command, "--config", "truth.yaml"])

    def runs(self, stage: str) -> list[Run]:
        """The latest first."""
        found = self.client.get_experiment_by_name("truth")
        condition = f"tags.`pipeline.stage` = '{stage}'"
        return list(self.client.search_runs([found.experiment_id], condition))

    def aliases(self, name: str = "truth") -> dict[str, int]:
        found = self.client.get_registered_model(name).aliases
        return {alias: int(version) for alias, version in found.items()}

    def description(self, version: int, name: str = "truth") -> str:
        return str(self.client.get_model_version(name, str(version)).description)


@pytest.fixture
def place(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    draw = np.random.default_rng(1)
    frame = load_breast_cancer(as_frame=True).frame.iloc[draw.permutation(569), [*range(8), -1]]
    frame["target"] = frame["target"].map({0: "malignant", 1: "benign"})
    train, good = frame[:420], frame[420:]
    train.to_csv("train.csv", index=False)
    good.to_csv("good.csv", index=False)
    good.assign(target=draw.permutation(good["target"])).to_csv("shuffled.csv", index=False)
    noise = pd.DataFrame(draw.normal(size=(300, 3)), columns=list("abc"))
    noise["target"] = draw.choice(["benign", "malignant"], 300, p=[0.7, 0.3])
    noise.to_csv("noise.csv", index=False)
    return Place(MlflowClient(f"sqlite:///{tmp_path}/mlflow.db"))


SHUFFLED = {"source": "train.csv", "target": "target", "test": "shuffled.csv"}
NOISE = {"source": "noise.csv", "target": "target"}


def test_a_test_score_that_nobody_could_expect(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert place.start(data=SHUFFLED) == 0
    said = capsys.readouterr()
    assert place.aliases() == {"challenger": 1}
    (warning,) = [line for line in said.err.splitlines() if "Do not rely on these scores" in line]
    assert warning.startswith("warning: ")
    (evaluate,), (pipeline,) = place.runs("evaluate"), place.runs("pipeline")
    folder = Path(place.client.download_artifacts(pipeline.info.run_id, "."))
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["answer"][0] == warning.removeprefix("warning: ")
    why = "its test accuracy is worse than cross-validation allows"
    assert why in summary["registered"]
    assert f"Version 1 of truth is @challenger: {why}" in said.out
    for run in (evaluate, pipeline):
        description = run.data.tags["mlflow.note.content"]
        assert "Do not rely on these scores" in description
        assert why in description
    assert "Do not rely on these scores" in place.description(1)
    assert why in place.description(1)
    assert 'role="alert"' in (folder / "report.html").read_text()
    (gap,) = json.loads((folder / "report.json").read_text())["test"]["gaps"]
    assert gap["test"] == pytest.approx(evaluate.data.metrics["test_accuracy"], abs=1e-6)
    assert gap["expected"] == pipeline.data.metrics["cross_fitted_accuracy"] or (
        gap["expected"] == place.runs("train")[0].data.metrics["ensemble_accuracy"]
    )
    # The inputs are those of the good rows.
    assert 0.4 < evaluate.data.metrics["test_shift_auc"] < 0.6

    assert place.start(data=SHUFFLED) == 0
    again = capsys.readouterr().out
    assert "Nothing to do" in again
    assert "Do not rely on these scores" in again
    assert place.start("evaluate", data=SHUFFLED) == 0
    assert place.aliases() == {"challenger": 1}


@pytest.mark.slow
def test_the_search_says_what_to_expect_where_there_is_no_final_round(place: Place) -> None:
    alone = {"folds": 5, "final": None}
    assert place.start(data=SHUFFLED, validation=alone) == 0
    assert place.aliases() == {"challenger": 1}
    assert "Do not rely" in place.description(1)
    assert place.start(validation=alone, registry={"name": "good"}) == 0
    assert place.aliases("good") == {"champion": 1}
    assert "Do not rely" not in place.description(1, "good")
    assert place.start(data=NOISE, validation=alone, registry={"name": "noise"}) == 0
    assert place.aliases("noise") == {"challenger": 1}


def test_a_draw_keeps_the_champion_and_what_says_nothing_never_is_one(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert place.start() == 0
    assert place.aliases() == {"champion": 1}
    assert "Version 1 of truth is @champion: there was no champion." in capsys.readouterr().out
    assert "Do not rely" not in place.description(1)
    assert place.start("evaluate") == 0
    assert place.aliases() == {"champion": 1}
    assert "Version 1 of truth is @champion: it was that already." in capsys.readouterr().out

    for _ in range(2):  # another seed, and once more
        assert place.start("run", seed=1) == 0
        assert place.start("evaluate", seed=1) == 0
        assert place.aliases() == {"champion": 1, "challenger": 2}
    said = capsys.readouterr().out
    assert "is @challenger: not told apart from version 1 on the same 149 test rows, which" in said
    assert "which stays" in place.description(2)

    assert place.start(data=NOISE, registry={"name": "truth"}) == 0
    assert place.aliases() == {"champion": 1, "challenger": 3}
    why = "it does not beat always answering the most frequent label; version 1 stays"
    assert f"Version 3 of truth is @challenger: {why}." in capsys.readouterr().out
    assert why in place.description(3)
    assert why in place.runs("evaluate")[0].data.tags["mlflow.note.content"]


@pytest.mark.slow
def test_a_champion_that_cannot_be_scored_vouches_for_nothing(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert place.start() == 0
    less = SHUFFLED | {"drop": ["mean radius"]}
    assert place.start(data=less) == 0
    assert place.aliases() == {"champion": 1, "challenger": 2}
    assert "is of another table" in (said := capsys.readouterr().out)
    assert "; but its test accuracy is worse than cross-validation allows" in said
    assert place.start(data=SETTINGS["data"] | {"drop": ["mean radius"]}) == 0
    assert place.aliases()["champion"] == 3


@pytest.mark.slow
def test_a_model_that_says_nothing_is_no_champion_of_an_empty_name(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert place.start(data=NOISE) == 0
    assert place.aliases() == {"challenger": 1}
    said = capsys.readouterr().out
    why = "it does not beat always answering the most frequent label, and there was no champion"
    assert f"Version 1 of truth is @challenger: {why}." in said
    assert "these columns may say nothing about the label" in said
    assert mlflow.pyfunc.load_model("models:/truth@challenger") is not None
    # A better one under the same name is the champion, and the challenger stays what it was.
    assert place.start() == 0
    assert place.aliases() == {"champion": 2, "challenger": 1}


def test_rare_labels_are_looked_at_one_by_one(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    draw = np.random.default_rng(2)
    frame = pd.DataFrame(draw.normal(size=(600, 2)), columns=["a", "b"])
    frame["target"] = np.where(frame["a"] + draw.normal(0, 0.3, 600) > 1.7, "<odd>?", "usual")
    assert (frame["target"] == "<odd>?").mean() < 0.1
    frame[:400].to_csv("train.csv", index=False)
    frame[400:].to_csv("good.csv", index=False)
    positive, longer = SETTINGS["data"] | {"positive": "<odd>?"}, {"epochs": 60, "batch_size": 16}
    assert place.start(data=positive, training=longer) == 0
    rows = frame[400:]
    model = mlflow.pyfunc.load_model("models:/truth@champion")
    predicted = model.predict(rows[["a", "b"]])["prediction"]
    (evaluate,) = place.runs("evaluate")
    metrics = evaluate.data.metrics
    for label, name in (("<odd>?", "_odd__"), ("usual", "usual")):
        precision, recall = (
            score(rows["target"], predicted, pos_label=label)
            for score in (precision_score, recall_score)
        )
        assert metrics[f"test_precision_{name}"] == pytest.approx(precision)
        assert metrics[f"test_recall_{name}"] == pytest.approx(recall)
    said = capsys.readouterr().out
    times = int((rows["target"] == "<odd>?").sum())
    assert f"Of the {times} test rows labelled '<odd>?', the positive label, the model" in said
