"""Runs and experiments, read back from real SQLite stores."""

import contextlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.data.schema import TensorDatasetSchema

from pipeline.common import signals
from pipeline.common.errors import UserError
from pipeline.tracking import processes
from pipeline.tracking.connection import sqlite_path
from pipeline.tracking.runs import DataSet, Run
from pipeline.tracking.store import FINISHED, Store
from pipeline.tracking.trials import trials_of
from tests.tracking.conftest import DATA
from tests.tracking.made import statuses

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_four_processes_at_once_on_a_new_file(
    four_at_once: tuple[Path, tuple[int, str, str]], client: MlflowClient
) -> None:
    _, (status, output, errors) = four_at_once
    assert (status, output, errors) == (0, "", "")
    assert [e.name for e in client.search_experiments()].count("together") == 1
    assert statuses(client, "Default") == {}
    found = client.get_experiment_by_name("together")
    runs = client.search_runs([found.experiment_id])
    assert [run.info.status for run in runs] == ["FINISHED"] * 4


@pytest.mark.slow  # a process makes the database
def test_default_store_is_mlflows_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Store, database: Path
) -> None:
    """And MLflow's own stays what it is."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(database, tmp_path / "elsewhere" / "mlflow.db")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert sqlite_path(Store.open("x").uri) == tmp_path / "elsewhere" / "mlflow.db"
    monkeypatch.chdir(tmp_path)
    assert mlflow.get_tracking_uri() == f"sqlite:///{tmp_path}/mlflow.db"


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("sqlite:///mlflow.db", "mlflow.db"),
        ("sqlite:////a/b c.db?timeout=3", "/a/b c.db"),
        ("sqlite+pysqlite:////a/b.db", "/a/b.db"),
        ("sqlite:///:memory:", None),
        ("sqlite://", None),
        ("postgresql://host/db", None),
        ("https://host/", None),
        ("file:///a/mlruns", None),
    ],
)
def test_sqlite_path(uri: str, path: str | None) -> None:
    assert sqlite_path(uri) == (None if path is None else Path(path))


def test_experiment_is_created_once(store: Store, client: MlflowClient, name: str) -> None:
    assert Store.open(name).experiment_id == store.experiment_id
    assert client.get_experiment(store.experiment_id).name == name


def test_deleted_experiment(store: Store, client: MlflowClient, name: str) -> None:
    client.delete_experiment(store.experiment_id)
    with pytest.raises(UserError, match=rf"'{name}' was deleted in .* experiments restore --exp"):
        Store.open(name)


def test_experiment_name_that_mlflow_refuses() -> None:
    with pytest.raises(UserError, match="experiment: "):
        Store.open("x" * 600)


@pytest.mark.parametrize("uri", ["sqlite://", "sqlite:///:memory:", "sqlite:////tmp"])
def test_databases_that_are_no_files(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(UserError, match=r"MLFLOW_TRACKING_URI: .* must name a file"):
        Store.open("x")


@pytest.mark.parametrize("uri", ["sqlite:////proc/no/such.db", "nonsense://x", "http://["])
def test_store_that_cannot_be_used(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(UserError, match=r"MLFLOW_TRACKING_URI: .* can't be used: "):
        Store.open("x")


# Runs


def test_runs_and_their_tags(store: Store, client: MlflowClient) -> None:
    with (
        store.run("pipeline", "pipeline · water", fingerprint="abc", tags={"k": "v"}) as pipeline,
        store.run("prepare", "prepare", parent=pipeline) as prepare,
    ):
        assert client.get_run(prepare.run_id).info.status == "RUNNING"
        assert mlflow.active_run() is None
    run = client.get_run(pipeline.run_id)
    assert run.info.status == "FINISHED"
    assert run.info.end_time >= run.info.start_time
    assert run.info.run_name == "pipeline · water"
    assert run.data.tags["pipeline.stage"] == "pipeline"
    assert run.data.tags["pipeline.fingerprint"] == "abc"
    assert run.data.tags["k"] == "v"
    assert run.data.tags["mlflow.user"]
    assert run.data.tags["mlflow.source.type"] == "LOCAL"
    assert run.data.tags["mlflow.source.name"]
    child = client.get_run(prepare.run_id)
    assert child.data.tags["mlflow.parentRunId"] == pipeline.run_id
    assert child.data.tags["pipeline.stage"] == "prepare"
    assert pipeline.link == f"#/experiments/{store.experiment_id}/runs/{pipeline.run_id}"


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (ValueError("wrong\nmore"), "FAILED", "ValueError: wrong"),
        (UserError("data.target: no"), "FAILED", "data.target: no"),
        (KeyboardInterrupt(), "KILLED", "interrupted"),
        (SystemExit(143), "KILLED", "interrupted"),
        (SystemExit(2), "FAILED", "SystemExit: 2"),
        (SystemExit(0), "FINISHED", None),
        (RuntimeError("x" * 10_000), "FAILED", "RuntimeError: " + "x" * 485 + "…"),
    ],
)
def test_status_when_left_by_an_error(
    store: Store, client: MlflowClient, error: BaseException, status: str, reason: str | None
) -> None:
    runs: list[Run] = []

    def fail() -> None:
        with store.run("pipeline", "p") as parent:
            runs.append(parent)
            with store.run("train", "t", parent=parent) as child:
                runs.append(child)
                raise error

    with pytest.raises(type(error)):
        fail()
    for run in runs:
        stored = client.get_run(run.run_id)
        assert stored.info.status == status
        assert stored.data.tags.get("pipeline.reason") == reason


def test_sigterm_closes_the_runs(store: Store, client: MlflowClient) -> None:
    before = signal.getsignal(signal.SIGTERM)
    signals.end_in_good_order()
    try:
        with pytest.raises(SystemExit) as error, store.run("pipeline", "p"):
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert error.value.code == 143
    assert statuses(client, store.experiment) == {"p": "KILLED"}


def test_params_metrics_and_artifacts(store: Store, client: MlflowClient) -> None:
    values = {f"data.{i}": i for i in range(250)} | {"long": "x" * 7000, "empty": ""}
    with store.run("pipeline", "p") as run:
        run.params(values)
        run.params({"data.0": "other", "late": 1.5})
        run.metrics({"a": 1.0, "none": None, "nan": math.nan, "inf": math.inf})
        run.describe("**bold** " + "x" * 9000)
        run.text("a: 1\n", "config.yaml")
        run.figures({"a": "<svg/>"})
        Path("local.md").write_text("summary")
        run.file("local.md", "notes")
        run.inputs((DATA, "training"), (DATA, "testing"))
    stored = client.get_run(run.run_id)
    assert len(stored.data.params) == 253
    assert stored.data.params["data.0"] == "0"
    assert stored.data.params["late"] == "1.5"
    assert len(stored.data.params["long"]) == 6000
    assert stored.data.metrics == {"a": 1.0}
    assert stored.data.tags["mlflow.note.content"].startswith("**bold** x")
    folder = Path(client.download_artifacts(run.run_id, "", str(Path.cwd())))
    assert (folder / "config.yaml").read_text() == "a: 1\n"
    assert (folder / "plots" / "a.svg").read_text() == "<svg/>"
    assert (folder / "notes" / "local.md").read_text() == "summary"


def test_data_sets(store: Store, client: MlflowClient) -> None:
    test = DataSet("test", "c" * 64, "https://host/t.csv", 1, {"x": "long"})
    bundled = DataSet("iris", "d" * 64, "sklearn:iris", 1, {"x": "long"})
    with store.run("prepare", "prepare") as run:
        run.inputs((DATA, "training"), (test, "testing"), (bundled, "validation"))
    inputs = client.get_run(run.run_id).inputs.dataset_inputs
    found = {i.dataset.name: i for i in inputs}
    training = found["water · training rows"].dataset
    assert training.digest == "ab" * 18
    assert training.profile == '{"num_rows": 2, "num_columns": 4, "num_elements": 8}'
    assert [tag.value for tag in found["test"].tags] == ["testing"]
    schema = mlflow.types.Schema.from_json(
        json.dumps(json.loads(training.schema)["mlflow_colspec"])
    )
    assert [str(kind) for kind in schema.input_types()] == [
        "DataType.double",
        "DataType.string",
        "DataType.boolean",
        "DataType.long",
    ]
    assert mlflow.data.get_source(training).uri == "data/water.csv"
    assert mlflow.data.get_source(found["test"].dataset).url == "https://host/t.csv"
    mlflow.data.get_source(found["iris"].dataset)


def test_data_sets_of_arrays(store: Store, client: MlflowClient) -> None:
    tensors = {"features": ("uint8", (1, 8, 8)), "targets": ("int64", ())}
    images = DataSet("images", "e" * 64, "my.py:Digits", 5, tensors=tensors)
    with store.run("prepare", "prepare") as run:
        run.inputs((images, "training"))
    (logged,) = client.get_run(run.run_id).inputs.dataset_inputs
    schema = TensorDatasetSchema.from_dict(json.loads(logged.dataset.schema))
    array = mlflow.data.from_numpy(np.zeros((5, 1, 8, 8), np.uint8), targets=np.arange(5))
    assert schema == array.schema
    profile = json.loads(logged.dataset.profile)
    assert profile == {"features_shape": [5, 1, 8, 8], "targets_shape": [5]}
    source = mlflow.data.get_source(logged.dataset).to_dict()
    assert source["tags"]["mlflow.source.name"] == "my.py:Digits"


# Finding


def test_the_latest_of_a_stage(store: Store) -> None:
    assert store.latest("train", "f", FINISHED) is None
    with store.run("train", "first", fingerprint="f"):
        pass
    time.sleep(0.002)
    with store.run("train", "second", fingerprint="f") as second:
        assert store.latest("train", "f").info.run_id == second.run_id
    with pytest.raises(ValueError, match="x"), store.run("train", "third", fingerprint="f") as bad:
        raise ValueError("x")
    with store.run("pipeline", "p", fingerprint="f") as pipeline:
        pass
    assert store.latest("train", "f", FINISHED).info.run_id == second.run_id
    assert store.latest("train", "g", FINISHED) is None
    assert store.latest("pipeline", "f", FINISHED).info.run_id == pipeline.run_id
    assert store.latest("train", "f").info.run_id == bad.run_id


def test_resume(store: Store, client: MlflowClient) -> None:
    with (
        contextlib.suppress(KeyboardInterrupt),
        store.run("train", "train", fingerprint="f") as first,
    ):
        first.params({"search.trials": 8})
        raise KeyboardInterrupt
    with (
        store.run("pipeline", "new") as parent,
        store.run("train", "train", resume=first.run_id, parent=parent) as again,
    ):
        assert again.run_id == first.run_id
        again.params({"search.trials": 16})
        assert client.get_run(first.run_id).info.status == "RUNNING"
    stored = client.get_run(first.run_id)
    assert stored.info.status == "FINISHED"
    assert "pipeline.reason" not in stored.data.tags
    assert stored.data.tags["mlflow.parentRunId"] == parent.run_id
    assert stored.data.params["search.trials"] == "8"


def test_runs_of_a_process_that_is_gone_are_closed(store: Store, client: MlflowClient) -> None:
    code = "from pipeline.tracking.processes import this_process; print(this_process())"
    command = [sys.executable, "-c", code]
    gone = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout
    tags = {"pipeline.process": gone.strip()}
    left = store.create("pipeline", "left", tags)
    tags |= {"trial.number": "0", "trial.state": "COMPLETE", "mlflow.parentRunId": left.run_id}
    store.create("trial", "left trial", tags)
    with store.run("pipeline", "alive") as alive:
        opened = Store.open(store.experiment)
        assert statuses(client, store.experiment) == {
            "left": "KILLED",
            "left trial": "FAILED",
            "alive": "RUNNING",
        }
    assert "ended without" in client.get_run(left.run_id).data.tags["pipeline.reason"]
    assert trials_of(opened, left.run_id) == []
    assert client.get_run(alive.run_id).info.status == "FINISHED"


def test_owner() -> None:
    assert not processes.is_gone(processes.this_process())
    host, pid, _ = processes.this_process().split()
    assert processes.is_gone(f"{host} {pid} 1")  # the pid is in use again
    assert not processes.is_gone(f"other {pid} 1")
    assert not processes.is_gone("")
    assert not processes.is_gone(f"{host} {pid}")


# `mlflow run`

JOB = """
import os, signal, sys
from pipeline.common import signals
from pipeline.tracking.store import FINISHED, Store
signals.end_in_good_order()
store = Store.open("water")
assert not {"MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID"} & os.environ.keys()
with store.run("pipeline", "pipeline · water") as run, store.run("train", "t", parent=run) as train:
    train.params({"seed": 0})
    os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.mark.slow
def test_mlflow_run_without_an_experiment_interrupted(
    tmp_path: Path, database_of_its_own: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = MlflowClient(database_of_its_own)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "job.py").write_text(JOB)
    (tmp_path / "MLproject").write_text(
        "name: job\nentry_points:\n  main:\n    parameters: {config: {type: string, default: a}}\n"
        f"    command: {sys.executable} job.py {{config}}\n"
    )
    mlflow.set_tracking_uri(database_of_its_own)
    with pytest.raises(mlflow.exceptions.ExecutionException):
        mlflow.projects.run(str(tmp_path), env_manager="local")
    (outer,) = client.search_runs(["0"])
    assert outer.info.status == "FAILED"
    assert outer.data.params == {"config": "a"}
    assert statuses(client, "water") == {"pipeline · water": "FAILED", "t": "KILLED"}
    assert "pipeline.stage" not in outer.data.tags


def launched(client: MlflowClient, monkeypatch: pytest.MonkeyPatch, experiment: str) -> str:
    """A run as the launcher makes it, and the environment that it hands on."""
    run = client.create_run(experiment, tags={"mlflow.project.entryPoint": "main"})
    monkeypatch.setenv("MLFLOW_RUN_ID", run.info.run_id)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment)
    return str(run.info.run_id)


@pytest.mark.parametrize(
    ("error", "status"),
    [(None, "FINISHED"), (UserError("no"), "FAILED"), (KeyboardInterrupt(), "FAILED")],
)
def test_launchers_run_in_default_ends_alike_and_links(
    client: MlflowClient,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    error: BaseException | None,
    status: str,
) -> None:
    outer_id = launched(client, monkeypatch, "0")
    store = Store.open(name, launched="prepare")
    with (
        contextlib.suppress(UserError, KeyboardInterrupt),
        store.run("prepare", "prepare · water") as run,
    ):
        note = client.get_run(outer_id).data.tags["mlflow.note.content"]
        if error:
            raise error
    outer, inner = client.get_run(outer_id), client.get_run(run.run_id)
    assert (outer.info.status, inner.info.status) == (status, status)
    assert f"[prepare · water](#/experiments/{store.experiment_id}/runs/{run.run_id})" in note
    assert f"`{run.run_id}`" in note
    with store.run("prepare", "another") as another:  # only the first run is the launcher's
        pass
    assert "another" not in client.get_run(outer_id).data.tags["mlflow.note.content"]
    assert another.run_id != outer_id


@pytest.mark.parametrize("given_name", [None, "mine"])
def test_launchers_run_elsewhere_is_taken_over(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch, given_name: str | None, name: str
) -> None:
    outer_id = launched(client, monkeypatch, client.create_experiment(name))
    if given_name:
        client.set_tag(outer_id, "mlflow.runName", given_name)
    store = Store.open("water", launched="train")
    assert store.experiment == name
    with store.run("train", "train · 40 trials") as run:
        pass
    assert run.run_id == outer_id
    assert statuses(client, name) == {given_name or "train · 40 trials": "FINISHED"}


def test_launchers_run_in_default_is_taken_over_when_default_is_configured(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    outer_id = launched(client, monkeypatch, "0")
    with Store.open("Default").run("pipeline", "p") as run:
        pass
    assert run.run_id == outer_id


@pytest.mark.parametrize("end", ["missing", "finished", "deleted"])
def test_launchers_run_must_be_running(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch, end: str, name: str
) -> None:
    run_id = client.create_run("0").info.run_id if end != "missing" else "f" * 32
    if end == "finished":
        client.set_terminated(run_id)
    if end == "deleted":
        client.delete_run(run_id)
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    with pytest.raises(UserError, match="MLFLOW_RUN_ID"):
        Store.open(name)
    assert "MLFLOW_RUN_ID" not in os.environ
