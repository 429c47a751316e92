"""The stages on a real store: one run of everything, read back."""

import csv
import json
import math
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run
from sklearn.datasets import load_breast_cancer

from pipeline import __main__ as command_line
from pipeline import config as configuration
from pipeline.commands.predict import predict
from pipeline.models import export as ensemble
from pipeline.models import flavor
from pipeline.tracking.registry import model_name
from pipeline.tracking.trials import TrialLog
from tests.small_model import make_rows, make_schema, shared_program

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "mlflow.md").read_text()
SETTINGS = """
experiment: cells
seed: 3
data: {source: "sklearn:breast_cancer", target: target, positive: malignant}
validation: {folds: 3}
model: {hidden: [8], dropout: {choice: [0.0, 0.2]}}
training: {epochs: 6, batch_size: 64, patience: 3}
optimizers:
  - {name: Adam, lr: {low: 1e-3, high: 1e-1, log: true}}
  - {name: SGD, lr: {low: 1e-2, high: 1.0, log: true}, momentum: 0.9}
  - {name: SGD, lr: 1.0e+30}
search: {trials: 9}
"""


@dataclass(frozen=True)
class Finished:
    """A folder in which everything has run, and its store."""

    folder: Path
    client: MlflowClient

    def runs(self, stage: str) -> list[Run]:
        experiment = self.client.get_experiment_by_name("cells")
        return list(
            self.client.search_runs(
                [experiment.experiment_id],
                f"tags.`pipeline.stage` = '{stage}'",
                order_by=["attributes.start_time ASC"],
            )
        )

    def artifact(self, run: Run, path: str) -> Path:
        return Path(self.client.download_artifacts(run.info.run_id, path))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[Finished]:
    folder = tmp_path_factory.mktemp("finished")
    shutil.copy(empty_store, folder / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        patch.delenv("MLFLOW_RUN_ID", raising=False)
        Path("cells.yaml").write_text(SETTINGS)
        assert command_line.main(["run", "--config", "cells.yaml"]) == 0
        yield Finished(folder, MlflowClient(f"sqlite:///{folder}/mlflow.db"))


def test_every_stage_is_a_finished_child(finished: Finished) -> None:
    (pipeline,) = finished.runs("pipeline")
    assert pipeline.info.status == "FINISHED"
    for stage in ("prepare", "train", "evaluate"):
        (run,) = finished.runs(stage)
        assert run.info.status == "FINISHED"
        assert run.data.tags["mlflow.parentRunId"] == pipeline.info.run_id


def test_every_run_says_what_it_is_of(finished: Finished) -> None:
    """No page of the UI has an empty description, and the figures in it are those of the run."""
    for stage in ("pipeline", "prepare", "train", "trial", "final", "evaluate"):
        for run in finished.runs(stage):
            text = run.data.tags["mlflow.note.content"]
            figures = {
                "prepare": ["426 rows", "143 rows", "mean radius (number)"],
                "trial": [f"{run.data.metrics.get('accuracy', 0):.1%}".replace("%", " %")],
                "evaluate": [f"{run.data.metrics.get('test_accuracy', 0):.1%}".replace("%", " %")],
            }
            if run.info.status == "FINISHED":
                assert all(figure in text for figure in figures.get(stage, [])), text
            assert text


def test_the_pipeline_holds_configuration_summary_and_report(finished: Finished) -> None:
    (run,) = finished.runs("pipeline")
    assert run.data.params["training.epochs"] == "6"
    stored = configuration.loads(finished.artifact(run, "config.yaml").read_text(), "stored")
    assert stored == configuration.loads(SETTINGS, "given")
    summary = json.loads(finished.artifact(run, "summary.json").read_text())
    assert summary["model"] == "models:/cells@champion"
    assert "<html" in finished.artifact(run, "report.html").read_text()
    told = json.loads(finished.artifact(run, "report.json").read_text())
    assert told["answer"] == summary["answer"]
    assert len(told["trials"]) == len(finished.runs("trial"))
    plots = {
        one.path
        for one in finished.client.list_artifacts(finished.runs("train")[0].info.run_id, "plots")
    }
    assert {f"plots/{name}.svg" for name in ("landscape_accuracy", "final_scores")} == plots
    assert (
        "Test" in run.data.tags["mlflow.note.content"]
        or "test" in run.data.tags["mlflow.note.content"]
    )


def described(heading: str) -> re.Pattern[str]:
    """The names in one section of docs/mlflow.md; what is in capitals there stands for others."""
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    metric = "(loss|accuracy|auroc|balanced_accuracy|f1_score)"
    for_capitals = {"METRIC": metric, "accuracy": metric, "MODEL": "[a-z_]+", "LABEL": ".+"}
    for_capitals |= {"KEY": ".+", "NAME": "[^/]+", "N": "[0-9]+"}
    names = []
    for name in re.findall(r"`([^`\s]+)`", section):
        parts = re.split(r"(METRIC|accuracy|MODEL|LABEL|KEY|NAME|\bN\b)", name)
        pattern = "".join(for_capitals.get(part, re.escape(part)) for part in parts)
        names.append(pattern + ("(.*/)?[^/]+" if name.endswith("/") else ""))
    return re.compile("|".join(names))


def test_everything_that_is_written_is_described(finished: Finished) -> None:
    """docs/mlflow.md names all that a run leaves in MLflow and in the folder."""
    (experiment,) = finished.client.search_experiments(filter_string="name = 'cells'")
    (version,) = finished.client.search_model_versions("name = 'cells'")
    stages = "pipeline", "prepare", "train", "trial", "final", "evaluate"
    runs = [run for stage in stages for run in finished.runs(stage)]
    leaves = configuration.loads(SETTINGS, "given").flat()
    model = mlflow.artifacts.download_artifacts("models:/cells@champion")
    here = {path.name for path in finished.folder.iterdir() if path.is_file()} - {"cells.yaml"}
    written = {
        "Metrics": {name for run in runs for name in run.data.metrics},
        "Parameters": {name for run in runs for name in run.data.params} - leaves.keys(),
        "Tags": {name for run in runs for name in run.data.tags} | version.tags.keys(),
        "Files": {file for run in runs for file in _files(finished.client, run.info.run_id)},
        "Runs": {name for name in experiment.tags if "sharedViewState" in name},
    }
    written["Files"] |= here | {path.name for path in (finished.folder / "prepared").glob("*/*")}
    written["Files"] |= {path.name for path in Path(model).iterdir() if path.is_file()}
    written["Files"] -= MLFLOWS_OWN
    written["Tags"] = {n for n in written["Tags"] if not n.startswith("mlflow.")}
    assert all(written.values())
    for heading, names in written.items():
        known = described(heading)
        assert {name for name in names if not known.fullmatch(name)} == set(), heading
    documented = (ROOT / "docs" / "configuration.md").read_text()
    keys = re.findall(r"^\| `([a-z_0-9.]+)` \|", documented, re.MULTILINE)
    of_a_key = [rf"{re.escape(key)}(\..*)?" for key in keys]
    assert [leaf for leaf in leaves if not any(re.fullmatch(k, leaf) for k in of_a_key)] == []


MLFLOWS_OWN = {"python_env.yaml", "conda.yaml", "requirements.txt", "input_example.json"}
MLFLOWS_OWN |= {"serving_input_example.json", "registered_model_meta"}


def _files(client: MlflowClient, run_id: str, folder: str | None = None) -> Iterator[str]:
    for each in client.list_artifacts(run_id, folder):
        if each.is_dir:
            yield from _files(client, run_id, each.path)
        else:
            yield each.path


def test_prepare_names_the_rows(finished: Finished) -> None:
    (run,) = finished.runs("prepare")
    assert (run.data.metrics["rows_train"], run.data.metrics["rows_test"]) == (426, 143)
    contexts = {tag.value for one in run.inputs.dataset_inputs for tag in one.tags}
    assert contexts == {"training", "testing"}
    assert len({one.dataset.digest for one in run.inputs.dataset_inputs}) == 2
    schema = json.loads(finished.artifact(run, "schema.json").read_text())
    assert schema["labels"] == ["benign", "malignant"]


def test_every_trial_is_as_promised(finished: Finished) -> None:
    (train,) = finished.runs("train")
    trials = finished.runs("trial")
    assert sorted(int(run.data.tags["trial.number"]) for run in trials) == list(range(9))
    for run in trials:
        assert run.data.tags["mlflow.parentRunId"] == train.info.run_id
        assert float(run.data.params["lr"]) > 0
        assert run.data.params["model.dropout"] in ("0.0", "0.2")
        assert all(math.isfinite(value) for value in run.data.metrics.values())
        status = {"COMPLETE": "FINISHED", "FAIL": "FAILED"}[run.data.tags["trial.state"]]
        assert run.info.status == status
        if status == "FAILED":
            assert "not finite" in run.data.tags["trial.reason"]
            assert "accuracy" not in run.data.metrics
            continue
        folds = finished.client.get_metric_history(run.info.run_id, "fold_accuracy")
        assert run.data.metrics["accuracy"] == pytest.approx(np.mean([f.value for f in folds]))
        curve = finished.client.get_metric_history(run.info.run_id, "val_loss")
        assert [point.step for point in curve] == list(range(1, len(curve) + 1))
        (output,) = run.outputs.model_outputs
        model = finished.client.get_logged_model(output.model_id)
        assert model.name == model_name(run.info.run_name)
        assert model.status.value == "READY"
    counts = [train.data.metrics[f"trials_{state}"] for state in ("complete", "failed", "pruned")]
    assert sum(counts) == 9
    best = max(run.data.metrics.get("accuracy", 0.0) for run in trials)
    assert train.data.metrics["best_accuracy"] == best


def test_the_champion_scores_the_test_rows_as_recorded(finished: Finished) -> None:
    """Against scikit-learn's own table: the rows that were held out, by their position."""
    (evaluate,) = finished.runs("evaluate")
    model = mlflow.pyfunc.load_model("models:/cells@champion")
    (folder,) = (finished.folder / "prepared").iterdir()
    import pyarrow.ipc

    with pyarrow.ipc.open_file(folder / "test.arrow") as reader:
        test = reader.read_all().to_pandas()
    full = load_breast_cancer(as_frame=True).frame
    assert len(test) == 143
    assert set(test["mean radius"]) <= set(full["mean radius"])
    rows = test.drop(columns="target").sample(frac=1, axis=1, random_state=0)
    predicted = model.predict(rows)["prediction"]
    accuracy = float((predicted.to_numpy() == test["target"].to_numpy()).mean())
    assert evaluate.data.metrics["test_accuracy"] == pytest.approx(accuracy)
    low, high = (evaluate.data.metrics[f"test_accuracy_{end}"] for end in ("low", "high"))
    assert low < accuracy < high or accuracy == 1.0


def test_both_loaders_agree(finished: Finished) -> None:
    frame = load_breast_cancer(as_frame=True).data.head(7)
    frame.iloc[2, 4] = np.nan
    raw = frame.to_numpy(dtype=np.float64).copy()
    served = mlflow.pyfunc.load_model("models:/cells@champion").predict(frame)
    module = mlflow.pytorch.load_model("models:/cells@champion")
    assert isinstance(module, torch.nn.Module)
    probabilities = module(torch.from_numpy(raw))
    np.testing.assert_allclose(
        served["probability"], probabilities[:, 1].detach().numpy(), atol=1e-6
    )


def test_predict_writes_what_the_model_says(finished: Finished) -> None:
    frame = load_breast_cancer(as_frame=True).data.head(20)
    frame.to_csv("rows.csv", index=False)
    arguments = ["--model", "models:/cells@champion", "--input", "rows.csv"]
    for name in ("out.csv", "out.parquet"):
        assert command_line.main(["predict", *arguments, "--output", name]) == 0
    expected = mlflow.pyfunc.load_model("models:/cells@champion").predict(frame)
    written = pd.read_csv("out.csv")
    assert list(written["prediction"]) == list(expected["prediction"])
    np.testing.assert_allclose(written["probability"], expected["probability"], atol=1e-6)
    assert len(pd.read_parquet("out.parquet")) == 20


@pytest.mark.parametrize("labels", [[False, True], [0.0, 1.0], [3, 4], ["a", "b"]])
def test_predict_writes_the_label_as_it_stood_in_the_table(
    labels: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    flavor.save_model(
        "model",
        program=shared_program(),
        schema=make_schema(labels),
        input_example=make_rows(),
        requirements=["mlflow"],
    )
    make_rows().to_csv("rows.csv", index=False)
    predict("model", "rows.csv", Path("out.csv"))
    with Path("out.csv").open(newline="") as file:
        written = [row["prediction"] for row in csv.DictReader(file)]
    predict("model", "rows.csv", Path("out.parquet"))
    expected = pd.read_parquet("out.parquet")["prediction"].tolist()
    assert {type(label) for label in expected} == {type(labels[0])}
    assert written == [str(label) for label in expected]


def test_predict_tells_a_model_that_is_not_there_from_a_store_that_is_away(
    empty_store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(empty_store, "mlflow.db")
    arguments = ["--input", "rows.csv", "--output", "out.csv"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    assert command_line.main(["predict", "--model", "nowhere", *arguments]) == 2
    assert capsys.readouterr().err == "error: model nowhere: No such artifact: 'nowhere'\n"
    before = mlflow.get_tracking_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert command_line.main(["predict", "--model", "models:/cells@champion", *arguments]) == 1
    mlflow.set_tracking_uri(before)
    assert "127.0.0.1" in capsys.readouterr().err


def test_predict_sets_aside_rows_that_it_cannot_read(
    finished: Finished, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = load_breast_cancer(as_frame=True).data.head(6).assign(id=list("abcdef"))
    text = frame.to_csv(index=False).splitlines()
    text[2] = "wide," + text[2].partition(",")[2]
    text[5] = "1,2,3"
    Path("rows.csv").write_text("\n".join(text))
    arguments = ["--model", "models:/cells@champion", "--input", "rows.csv", "--keep", "id"]
    assert command_line.main(["predict", *arguments, "--output", "out.tsv"]) == 3
    captured = capsys.readouterr()
    assert "4 rows scored" in captured.out
    assert "2 rows could not be read" in captured.err
    written = pd.read_csv("out.tsv", sep="\t")
    good = frame.iloc[[0, 2, 3, 5]]
    expected = mlflow.pyfunc.load_model("models:/cells@champion").predict(good)
    assert list(written["id"]) == list(good["id"])
    assert list(written["prediction"]) == list(expected["prediction"])
    rejected = pd.read_csv("out.rejected.csv")
    assert list(rejected["row"]) == [2, 5]
    assert "column 'mean radius': expected a number; got 'wide'" in rejected["reason"][0]
    assert "expected 31 values, got 3" in rejected["reason"][1]
    assert rejected["id"][0] == "b"

    frame.to_csv("rows.csv", index=False)
    high = ["--threshold", "1"]
    assert command_line.main(["predict", *arguments, *high, "--output", "out.tsv"]) == 0
    assert set(pd.read_csv("out.tsv", sep="\t")["prediction"]) == {"benign"}
    assert not Path("out.rejected.csv").exists()


def test_predict_refuses_what_it_cannot_use(
    finished: Finished, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("few.csv").write_text("mean radius,other\n1,2\n")
    names = load_breast_cancer().feature_names
    Path("words.csv").write_text(",".join(names) + "\n" + ",".join(["word"] * len(names)) + "\n")
    model = ["--model", "models:/cells@champion"]
    for arguments, word in (
        ([*model, "--input", "few.csv", "--output", "o.csv"], "mean texture"),
        ([*model, "--input", "none.csv", "--output", "o.csv"], "none.csv"),
        ([*model, "--input", "few.csv", "--output", "o.xlsx"], ".parquet"),
        ([*model, "--input", "words.csv", "--output", "o.csv"], "row 1: column 'mean radius'"),
        ([*model, "--input", "few.csv", "--output", "o.csv", "--keep", "othre"], "'other'"),
        ([*model, "--input", "few.csv", "--output", "o.csv", "--threshold", "2"], "from 0 to 1"),
        ([*model, "--input", "few.csv", "--output", "o.csv", "--keep", "prediction"], "--keep"),
        (["--model", "models:/no@champion", "--input", "few.csv", "--output", "o.csv"], "no"),
    ):
        assert command_line.main(["predict", *arguments]) == 2
        message = capsys.readouterr().err
        assert message.startswith("error: ")
        assert word in message
        assert "Traceback" not in message
    assert not Path("o.csv").exists()


def test_the_same_seed_gives_the_same_trials(finished: Finished) -> None:
    def outcomes(seed: int) -> list[tuple[object, ...]]:
        name = f"again-{seed}"
        assert (
            command_line.main(
                ["run", "--config", "cells.yaml", "--set", f"experiment={name}", f"seed={seed}"]
            )
            == 0
        )
        experiment = finished.client.get_experiment_by_name(name)
        runs = finished.client.search_runs(
            [experiment.experiment_id], "tags.`pipeline.stage` = 'trial'"
        )
        return sorted(_outcome(run) for run in runs)

    first = sorted(_outcome(run) for run in finished.runs("trial"))
    assert outcomes(3) == first
    assert outcomes(4) != first


def _outcome(run: Run) -> tuple[object, ...]:
    return (
        int(run.data.tags["trial.number"]),
        sorted(run.data.params.items()),
        sorted(run.data.metrics.items()),
    )


def test_each_stage_works_alone_and_in_order(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    new_store: Callable[[Path], str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path))
    Path("cells.yaml").write_text(SETTINGS)
    arguments = ["--config", "cells.yaml", "--set", "search.trials=2"]

    assert command_line.main(["train", *arguments]) == 2
    assert "run prepare first" in capsys.readouterr().err
    assert command_line.main(["prepare", *arguments]) == 0
    assert command_line.main(["evaluate", *arguments]) == 2
    assert "run train first" in capsys.readouterr().err

    client = MlflowClient()
    before = {path: path.stat().st_mtime_ns for path in Path("prepared").rglob("*")}
    runs = len(_all_runs(client))
    assert command_line.main(["prepare", *arguments]) == 0
    assert {path: path.stat().st_mtime_ns for path in Path("prepared").rglob("*")} == before
    assert len(_all_runs(client)) == runs

    assert command_line.main(["train", *arguments]) == 0
    assert command_line.main(["evaluate", *arguments]) == 0
    stages = sorted(run.data.tags["pipeline.stage"] for run in _all_runs(client))
    finals = ["final"] * 2  # both entries that were tried
    assert stages == ["evaluate", *finals, "pipeline", "prepare", "train", "trial", "trial"]
    assert all(run.info.status == "FINISHED" for run in _all_runs(client))
    assert mlflow.pyfunc.load_model("models:/cells@champion") is not None


@pytest.mark.slow
def test_a_prepare_that_was_cut_short_goes_on_in_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new_store: Callable[[Path], str]
) -> None:
    """And of several networks each is exported while nothing is written."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path))
    Path("cells.yaml").write_text(SETTINGS)
    arguments = ["run", "--config", "cells.yaml", "--set", "search.trials=6", "training.epochs=2"]
    arguments += [
        "model.hidden={choice: [[8], [4], [2]]}",
        "model.batch_norm={choice: [true, false]}",
        "validation.final=null",
    ]
    writing, exports = threading.Event(), []
    export, log_trial = ensemble.export, TrialLog.log_trial

    def watched_export(*given: Any, **named: Any) -> Any:
        exports.append(writing.is_set())
        time.sleep(0.1)
        assert not writing.is_set()
        return export(*given, **named)

    def watched_log(*given: Any, **named: Any) -> Any:
        writing.set()
        try:
            return log_trial(*given, **named)
        finally:
            writing.clear()

    monkeypatch.setattr(ensemble, "export", watched_export)
    monkeypatch.setattr(TrialLog, "log_trial", watched_log)
    assert command_line.main(arguments) == 0
    assert 1 <= len(exports) <= 3
    assert not any(exports)

    client = MlflowClient()
    by_stage = {run.data.tags["pipeline.stage"]: run for run in _all_runs(client)}
    for stage in ("prepare", "pipeline"):
        client.set_terminated(by_stage[stage].info.run_id, "KILLED")
    runs = {run.info.run_id for run in _all_runs(client)}
    assert command_line.main(arguments) == 0
    assert {run.info.run_id for run in _all_runs(client)} == runs
    stages = [run for run in _all_runs(client) if run.data.tags["pipeline.stage"] != "trial"]
    assert [run.info.status for run in stages] == ["FINISHED"] * 4


def _all_runs(client: MlflowClient) -> list[Run]:
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_runs(experiments))


def test_wrong_input_leaves_no_run_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    Path("one.csv").write_text("a,y\n1,0\n2,0\n3,0\n")
    Path("one.yaml").write_text("data: {source: one.csv, target: y}\n")
    assert command_line.main(["run", "--config", "one.yaml"]) == 2
    assert "two labels" in capsys.readouterr().err
    assert command_line.main(["run", "--config", "one.yaml", "--set", "search.trails=3"]) == 2
    assert "did you mean 'trials'" in capsys.readouterr().err
    assert not Path("mlflow.db").exists()
    assert not Path("prepared").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    new_store: Callable[[Path], str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path))
    Path("cells.yaml").write_text(SETTINGS)
    assert (
        command_line.main(["run", "--config", "cells.yaml", "--set", "training.device=cuda"]) == 2
    )
    assert "training.device" in capsys.readouterr().err
    assert "RUNNING" not in {run.info.status for run in _all_runs(MlflowClient())}


def test_nothing_completed_is_said_and_fails(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    new_store: Callable[[Path], str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path))
    Path("cells.yaml").write_text(SETTINGS)
    only = "optimizers=[{name: SGD, lr: 1.0e+30}]"
    assert command_line.main(["run", "--config", "cells.yaml", "--set", only]) == 2
    assert "No trial completed" in capsys.readouterr().err
    statuses = {
        run.data.tags["pipeline.stage"]: run.info.status for run in _all_runs(MlflowClient())
    }
    assert statuses["pipeline"] == statuses["train"] == "FAILED"
    assert "RUNNING" not in statuses.values()


@pytest.mark.parametrize("experiment", [None, pytest.param("chosen", marks=pytest.mark.slow)])
def test_mlflow_run(
    tmp_path: Path, experiment: str | None, new_store: Callable[[Path], str]
) -> None:
    """With MLflow's launcher: its run is the pipeline's, or ends as it does and links to it."""
    for name in ("pipeline", "MLproject", "conda.yaml", "requirements.txt"):
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, tmp_path / name)
    (tmp_path / "cells.yaml").write_text(SETTINGS)
    uri = new_store(tmp_path)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, "-m", "mlflow", "run", ".", "--env-manager", "local"]
        + (["--experiment-name", experiment] if experiment else [])
        + ["-P", "config=cells.yaml", "-P", "set=search.trials=2 training.epochs=3"],
        cwd=tmp_path,
        env={**os.environ, "MLFLOW_TRACKING_URI": uri, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    client = MlflowClient(uri)
    runs = _all_runs(client)
    assert {run.info.status for run in runs} == {"FINISHED"}
    (pipeline,) = [run for run in runs if run.data.tags.get("pipeline.stage") == "pipeline"]
    name = client.get_experiment(pipeline.info.experiment_id).name
    assert name == (experiment or "cells")
    launched = [run for run in runs if "mlflow.project.entryPoint" in run.data.tags]
    assert len(launched) == 1
    if experiment:
        assert launched[0].info.run_id == pipeline.info.run_id
    else:
        assert pipeline.info.run_id in launched[0].data.tags["mlflow.note.content"]


def test_shipped_entry_points() -> None:
    project = yaml.safe_load((ROOT / "MLproject").read_text())
    assert set(project["entry_points"]) == {
        "main",
        "prepare",
        "train",
        "evaluate",
        "predict",
        "sweep",
    }
    assert project["conda_env"] == "conda.yaml"
    for entry in project["entry_points"].values():
        assert {"config", "set"} <= entry["parameters"].keys()
