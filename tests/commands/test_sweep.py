"""A sweep on a real store: one run around its searches, killed, resumed, with one that fails."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from pipeline import __main__ as command_line

ROOT = Path(__file__).parents[2]
TEXT = """
experiment: many
data: {{source: "{source}", target: target}}
validation: {{folds: 2, final: {{folds: 2, repeats: 1}}}}
model: {{hidden: [4]}}
training: {{epochs: {epochs}}}
optimizers:
  - {{name: Adam, lr: {{low: 1e-3, high: 1e-1, log: true}}}}
  - {{name: SGD, lr: {{low: 1e-2, high: 1.0, log: true}}}}
search: {{trials: 6, sampler: qmc}}
tracking: {{keep_models: none}}
"""


@pytest.fixture
def client(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name in ("iris", "wine", "breast_cancer"):
        Path(f"{name}.yaml").write_text(TEXT.format(source=f"sklearn:{name}", epochs=3))
    return MlflowClient(uri)


def runs(client: MlflowClient, stage: str) -> list[Any]:
    experiment = client.get_experiment_by_name("many")
    found = client.search_runs([experiment.experiment_id], f"tags.`pipeline.stage` = '{stage}'")
    return list(found)


def summary(client: MlflowClient, run: Any) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(
        Path(client.download_artifacts(run.info.run_id, "sweep.json")).read_text()
    )
    return content


@pytest.mark.slow  # three searches in processes of their own, twice
def test_searches_are_children_of_one_run_which_compares_them(client, capsys):
    Path("broken.yaml").write_text(TEXT.format(source="gone.csv", epochs=3))
    arguments = ["sweep", "iris.yaml wine.yaml", "b*.yaml", "--jobs", "2"]
    assert command_line.main(arguments) == 1
    said = capsys.readouterr()
    assert "gone.csv: the file does not exist" in said.err
    (run,) = runs(client, "sweep")
    pipelines = runs(client, "pipeline")
    assert len(pipelines) == 3
    assert {p.data.tags["mlflow.parentRunId"] for p in pipelines} == {run.info.run_id}
    assert {p.info.status for p in [run, *pipelines]} == {"FINISHED"}
    content = summary(client, run)
    assert {each["run_id"] for each in content["searches"]} == {p.info.run_id for p in pipelines}
    for search in pipelines:
        run_id = search.info.run_id
        trains = runs(client, "train")
        (train,) = (t for t in trains if t.data.tags["mlflow.parentRunId"] == run_id)
        path = client.download_artifacts(train.info.run_id, "evidence.json")
        table = next(e["table"] for e in content["searches"] if e["run_id"] == run_id)
        for finalist in json.loads(Path(path).read_text())["finalists"]:
            score = sum(finalist["scores"]["accuracy"]) / len(finalist["scores"]["accuracy"])
            assert content["scores"][table][finalist["optimizer"]] == pytest.approx(score)
    assert len(content["failed"]) == 1
    assert len(content["pairs"]) == 1
    assert len(content["rates"]) == 2
    artifacts = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"sweep.html", "sweep.json", "optimizers.csv", "pairs.csv", "tables.csv"} <= artifacts

    assert command_line.main(arguments) == 1  # nothing is searched again
    assert "3 searches had finished before" in capsys.readouterr().out
    assert [r.info.run_id for r in runs(client, "sweep")] == [run.info.run_id]
    assert len(runs(client, "pipeline")) == 3
    assert command_line.main(["status", "--json"]) == 0
    (line,) = json.loads(capsys.readouterr().out)
    assert (line["trials"], line["searches"], line["state"]) == (18, 3, "finished")


@pytest.mark.slow  # two searches
def test_tables_of_one_name_are_two_and_warnings_are_heard(client, capsys):
    """The same words in the file's name, other rows: one of them with a column that says it all."""
    from sklearn.datasets import load_iris

    frame = load_iris(as_frame=True).frame
    for folder, each in (("a", frame), ("b", frame.assign(copy=frame["target"]))):
        Path(folder).mkdir()
        each.to_csv(f"{folder}/train.csv", index=False)
        Path(f"{folder}.yaml").write_text(TEXT.format(source=f"{folder}/train.csv", epochs=3))
    assert command_line.main(["sweep", "a.yaml", "b.yaml", "--jobs", "1"]) == 0
    said = capsys.readouterr()
    assert "· b: column 'copy'" in said.err
    (run,) = runs(client, "sweep")
    names = sorted(summary(client, run)["scores"])
    assert len(names) == 2
    assert all(name.startswith("train ") for name in names)
    about = client.get_experiment_by_name("many").tags["mlflow.note.content"]
    assert run.info.run_id in about
    client.set_experiment_tag(run.info.experiment_id, "mlflow.note.content", "mine")
    assert command_line.main(["sweep", "a.yaml", "b.yaml", "--jobs", "1"]) == 0
    assert client.get_experiment_by_name("many").tags["mlflow.note.content"] == "mine"


@pytest.mark.slow  # whole processes that are killed
@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM])
def test_killed_and_resumed_it_ends_in_the_same_trials(client, sign):
    for name in ("iris", "wine", "breast_cancer"):
        Path(f"{name}.yaml").write_text(TEXT.format(source=f"sklearn:{name}", epochs=60))
    command = [sys.executable, "-m", "pipeline", "sweep", "*.yaml", "--jobs", "2"]
    process = subprocess.Popen(command, start_new_session=True)
    _wait(lambda: client.get_experiment_by_name("many") and len(runs(client, "trial")) > 1)
    os.kill(process.pid, sign)
    assert process.wait(60) in (-sign, 128 + sign)
    _wait(lambda: not _group(process.pid))  # the workers do not outlive it
    assert subprocess.run(command, check=False).returncode == 0
    assert not [r for r in client.search_runs(["1"]) if r.info.status == "RUNNING"]
    assert len(runs(client, "pipeline")) == 3
    trials = [t for t in runs(client, "trial") if "pipeline.abandoned" not in t.data.tags]
    assert len(trials) == 18
    (run,) = runs(client, "sweep")
    before = summary(client, run)
    other = ["--experiment", "again", "--set", "tracking.keep_models=none"]
    assert subprocess.run([*command, *other], check=False).returncode == 0
    experiment = client.get_experiment_by_name("again").experiment_id
    (again,) = client.search_runs([experiment], "tags.`pipeline.stage` = 'sweep'")
    assert summary(client, again)["scores"] == before["scores"]


def _group(leader: int) -> bool:
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return False
    return True


def _wait(is_so: Any) -> None:
    for _ in range(600):
        if is_so():
            return
        time.sleep(0.1)
    raise AssertionError("it never came so far")


def test_what_cannot_be_compared_leaves_nothing(client, capsys):
    both = "search.objective=[val_loss, val_accuracy]"
    assert command_line.main(["sweep", "iris.yaml", "--set", both]) == 2
    assert command_line.main(["sweep", "iris.yaml", "--set", "validation.final=null"]) == 2
    assert command_line.main(["sweep", "irs.yaml"]) == 2
    assert command_line.main(["sweep", "iris.yaml", "--jobs", "0"]) == 2
    assert "iris.yaml" in capsys.readouterr().err
    assert client.get_experiment_by_name("many") is None
