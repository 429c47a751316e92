"""Runs, trials, models and the registry, read back from real SQLite stores."""

import contextlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import mlflow
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient

from pipeline.common import signals as interrupts
from pipeline.common.errors import RunError, UserError
from pipeline.tracking import owner
from pipeline.tracking.connection import sqlite_path
from pipeline.tracking.data_sets import DataSet
from pipeline.tracking.history import curves_of, trials_of
from pipeline.tracking.param_text import decode_param, encode_param
from pipeline.tracking.registry import find_version, register, set_alias
from pipeline.tracking.runs import Run
from pipeline.tracking.store import Store
from pipeline.tracking.trials import TrialLog
from pipeline.tracking.writer import Writer

ROOT = Path(__file__).parents[2]
ENVIRONMENT = ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID")


FOUR_AT_ONCE = """
import os, sys
from pipeline.tracking.store import Store

def open_and_write():
    os.read(start, 1)
    store = Store.open("together")
    with store.run("pipeline", "p") as run:
        run.params({"a": 1})

start, go = os.pipe()
children = []
for _ in range(4):
    if not (child := os.fork()):
        os.close(go)
        open_and_write()
        sys.exit(0)
    children.append(child)
os.close(go)  # all four start now
sys.exit(any(os.waitpid(child, 0)[1] for child in children))
"""


@pytest.fixture(scope="session")
def four_at_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[int, str, str]]:
    """A database that four processes created at once, and their exit status and output."""
    path = tmp_path_factory.mktemp("database") / "new folder" / "mlflow.db"
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "MLFLOW_TRACKING_URI": f"sqlite:///{path}",
    }
    done = subprocess.run(
        [sys.executable, "-c", FOUR_AT_ONCE],
        env=environment,
        cwd=path.parents[1],
        capture_output=True,
        text=True,
    )
    return path, (done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def database(four_at_once: tuple[Path, tuple[int, str, str]]) -> Path:
    """One for all tests, which have an experiment each: MLflow takes seconds to create one."""
    return four_at_once[0]


@pytest.fixture(autouse=True)
def uri(database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The store, named by the environment as users do."""
    for name in ENVIRONMENT:
        monkeypatch.setenv(name, "")
    uri = f"sqlite:///{database}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.chdir(tmp_path)
    yield uri
    mlflow.set_tracking_uri(None)


@pytest.fixture
def database_of_its_own(database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """For what happens in Default."""
    shutil.copy(database, tmp_path / "own.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/own.db")
    return os.environ["MLFLOW_TRACKING_URI"]


@pytest.fixture
def name() -> str:
    """An experiment, or a registered model, that no other test knows."""
    return f"water {uuid.uuid4().hex}"


@pytest.fixture
def store(name: str) -> Store:
    return Store.open(name)


@pytest.fixture
def client(uri: str) -> MlflowClient:
    return MlflowClient(uri)


@dataclass(frozen=True)
class Trial:
    """As trials.Trial has it."""

    number: int = 0
    entry: int = 3
    optimizer: str = "Adam"
    lr: float = 0.0032
    params: dict[str, Any] = field(default_factory=lambda: {"optimizers.3.lr": 0.0032})
    state: Any = "COMPLETE"
    reason: str | None = None
    curves: dict[str, np.ndarray] = field(
        default_factory=lambda: {
            "train_loss": np.linspace(0.9, 0.5, 5),
            "val_loss": np.linspace(0.9, 0.6, 5),
            "val_accuracy": np.linspace(0.5, 0.7, 5),
        }
    )
    loss: float | None = 0.6
    accuracy: float | None = 0.7
    accuracy_std: float | None = 0.01
    best_epoch: float | None = 4.2
    seconds: float = 2.0
    fits: tuple[Any, ...] = ()


LOADER = """
class Model:
    def __init__(self, text): self.text = text
    def predict(self, frame, params=None): return [self.text] * len(frame)
def _load_pyfunc(path):
    with open(path) as file: return Model(file.read())
"""


def save_model(path: str, mlflow_model: Any, *, text: str) -> None:
    """A flavor whose models answer `text` for each row."""
    code = Path(path, "code")
    code.mkdir(parents=True)
    (code / "tracking_test_loader.py").write_text(LOADER)
    Path(path, "text").write_text(text)
    mlflow.pyfunc.add_to_model(
        mlflow_model, "tracking_test_loader", data="text", code="code", python_version="3.11.0"
    )
    mlflow_model.save(str(Path(path, "MLmodel")))


FLAVOR: Any = SimpleNamespace(save_model=save_model)
DATA = DataSet(
    "water · training rows",
    "ab" * 32,
    "data/water.csv",
    2,
    {"ph": "double", "kind": "string", "ok": "boolean", "n": "long"},
)


@pytest.fixture
def log(store: Store) -> Iterator[TrialLog]:
    with store.run("train", "train · 40 trials", fingerprint="f") as train:
        yield TrialLog(store, train, 40, FLAVOR, DATA)


def statuses(client: MlflowClient, experiment: str) -> dict[str, str]:
    found = client.get_experiment_by_name(experiment)
    runs = client.search_runs([found.experiment_id])
    return {run.info.run_name: run.info.status for run in runs}


# The store and the experiment


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


def test_default_store_is_mlflows_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Store, database: Path
) -> None:
    """Also after another store was opened in this process."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(database, tmp_path / "elsewhere" / "mlflow.db")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert sqlite_path(Store.open("x").uri) == tmp_path / "elsewhere" / "mlflow.db"
    monkeypatch.chdir(tmp_path)
    assert mlflow.get_tracking_uri() == f"sqlite:///{tmp_path}/elsewhere/mlflow.db"


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
    assert run.data.tags["pipeline.commands.fingerprint"] == "abc"
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
    interrupts.end_in_good_order()
    try:
        with pytest.raises(SystemExit) as error, store.run("pipeline", "p"):
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert error.value.code == 143
    assert statuses(client, store.experiment) == {"p": "KILLED"}


def test_params_metrics_and_artifacts(store: Store, client: MlflowClient) -> None:
    import matplotlib.figure

    figure = matplotlib.figure.Figure()
    figure.subplots().plot([1, 2])
    values = {f"data.{i}": i for i in range(250)} | {"long": "x" * 7000, "empty": ""}
    with store.run("pipeline", "p") as run:
        run.params(values)
        run.params({"data.0": "other", "late": 1.5})
        run.metrics({"a": 1.0, "none": None, "nan": math.nan, "inf": math.inf})
        run.describe("**bold** " + "x" * 9000)
        run.text("a: 1\n", "config.yaml")
        run.figure(figure, "plots/a.png")
        Path("local.md").write_text("summary")
        run.file("local.md", "notes")
        run.inputs((DATA, "training"), (DATA, "testing"))
        with pytest.raises(ValueError, match="config"):
            run.params({"config": "x"})
    stored = client.get_run(run.run_id)
    assert len(stored.data.params) == 253
    assert stored.data.params["data.0"] == "0"
    assert stored.data.params["late"] == "1.5"
    assert len(stored.data.params["long"]) == 6000
    assert stored.data.metrics == {"a": 1.0}
    assert stored.data.tags["mlflow.note.content"].startswith("**bold** x")
    folder = Path(client.download_artifacts(run.run_id, "", str(Path.cwd())))
    assert (folder / "config.yaml").read_text() == "a: 1\n"
    assert (folder / "plots" / "a.png").read_bytes().startswith(b"\x89PNG")
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


# Finding


def test_find_stage_and_pipeline(store: Store) -> None:
    assert store.find_stage("train", "f") is None
    with store.run("train", "first", fingerprint="f"):
        pass
    time.sleep(0.002)
    with store.run("train", "second", fingerprint="f") as second:
        assert store.latest("train", "f").info.run_id == second.run_id
    with pytest.raises(ValueError, match="x"), store.run("train", "third", fingerprint="f") as bad:
        raise ValueError("x")
    with store.run("pipeline", "p", fingerprint="f") as pipeline:
        pass
    assert store.find_stage("train", "f") == second.run_id
    assert store.find_stage("train", "g") is None
    assert store.find_stage("pipeline", "f") == pipeline.run_id
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
    code = f"import runpy; print(runpy.run_path({owner.__file__!r})['this_process']())"
    gone = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
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
    assert not owner.is_gone(owner.this_process())
    host, pid, _ = owner.this_process().split()
    assert owner.is_gone(f"{host} {pid} 1")  # the pid is in use again
    assert not owner.is_gone(f"other {pid} 1")
    assert not owner.is_gone("")
    assert not owner.is_gone(f"{host} {pid}")


# `mlflow run`

JOB = """
import os, signal, sys
from pipeline.common import signals as interrupts
from pipeline.tracking.store import Store
interrupts.end_in_good_order()
store = Store.open("water")
assert not {"MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID"} & os.environ.keys()
with store.run("pipeline", "pipeline · water") as run, store.run("train", "t", parent=run) as train:
    train.params({"seed": 0})
    os.kill(os.getpid(), signal.SIGTERM)
"""


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
    run = client.create_run(experiment)
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


# Trials


def test_complete_trial(log: TrialLog, client: MlflowClient) -> None:
    trial = Trial(number=7, params={"optimizers.3.lr": 0.0032, "model.dropout": 0.1})
    before = time.time()
    logged = log.log_trial(trial, {"text": "hello"})
    run = client.get_run(logged.run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "#07 Adam lr=0.0032"
    assert run.info.end_time - run.info.start_time == 2000
    assert before - 0.1 <= run.info.end_time / 1000 <= time.time()
    assert run.data.params == {"optimizer": "Adam", "lr": "0.0032", "model.dropout": "0.1"}
    assert run.data.metrics["loss"] == 0.6
    assert run.data.metrics["accuracy"] == 0.7
    assert run.data.metrics["accuracy_std"] == 0.01
    assert run.data.metrics["best_epoch"] == 4.2
    assert run.data.tags["trial.number"] == "7"
    assert run.data.tags["trial.state"] == "COMPLETE"
    assert run.data.tags["pipeline.stage"] == "trial"
    assert run.data.tags["mlflow.parentRunId"] == log.train.run_id
    history = client.get_metric_history(logged.run_id, "val_accuracy")
    assert [point.step for point in history] == [1, 2, 3, 4, 5]
    assert [point.value for point in history] == trial.curves["val_accuracy"].tolist()
    times = [point.timestamp for point in history]
    assert times == sorted(set(times))
    assert run.info.start_time < times[0]
    assert times[-1] == run.info.end_time


def test_model_of_a_trial(log: TrialLog, client: MlflowClient) -> None:
    logged = log.log_trial(Trial(number=7), {"text": "hello"})
    assert logged.model_id
    model = client.get_logged_model(logged.model_id)
    assert model.name == "model"
    assert model.status == "READY"
    assert model.source_run_id == logged.run_id
    assert model.experiment_id == log.store.experiment_id
    assert model.params == {"optimizer": "Adam", "lr": "0.0032"}
    scores = {m.key: m for m in model.metrics}
    assert scores.keys() == {"loss", "accuracy", "accuracy_std", "best_epoch"}
    assert scores["accuracy"].value == 0.7
    assert scores["accuracy"].dataset_name == DATA.name
    assert scores["accuracy"].dataset_digest == DATA.short_digest
    run = client.get_run(logged.run_id)
    (output,) = run.outputs.model_outputs
    assert output.model_id == logged.model_id
    assert output.step == 0
    assert model.last_updated_timestamp >= model.creation_timestamp
    for uri in (f"models:/{logged.model_id}", f"runs:/{logged.run_id}/model"):
        loaded = mlflow.pyfunc.load_model(uri)
        assert loaded.predict(pd.DataFrame({"x": [1, 2]})) == ["hello", "hello"]
    assert loaded.metadata.run_id == logged.run_id
    assert loaded.metadata.model_id == logged.model_id


def test_data_set_of_each_trial(log: TrialLog, client: MlflowClient) -> None:
    for number in range(3):
        logged = log.log_trial(Trial(number=number), {"text": ""})
        (found,) = client.get_run(logged.run_id).inputs.dataset_inputs
        assert (found.dataset.name, found.dataset.digest) == (DATA.name, DATA.short_digest)
        assert [(tag.key, tag.value) for tag in found.tags] == [("mlflow.data.context", "training")]
    by_data = client.search_runs(
        [log.store.experiment_id], f"datasets.digest = '{DATA.short_digest}'"
    )
    assert len(by_data) == 3


def test_model_in_a_store_elsewhere(
    log: TrialLog, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files go through MLflow when the store is not a folder of this machine."""
    monkeypatch.setattr("pipeline.tracking.trials.urlsplit", lambda _: urlsplit("s3://bucket/x"))
    logged = log.log_trial(Trial(), {"text": "hello"})
    folder = Path(client.get_logged_model(logged.model_id).artifact_location)
    assert sorted(p.name for p in folder.iterdir()) == ["MLmodel", "code", "text"]


def test_pruned_and_failed_trials(log: TrialLog, client: MlflowClient) -> None:
    nan = {"train_loss": np.array([0.5, np.nan]), "val_loss": np.array([np.inf, 0.4])}
    pruned = log.log_trial(Trial(number=1, state="PRUNED"), None)
    failed = log.log_trial(
        Trial(
            number=2, state="FAIL", reason="loss is nan in epoch 2", curves=nan, loss=None, lr=10.0
        ),
        None,
    )
    run = client.get_run(pruned.run_id)
    assert run.info.status == "KILLED"
    assert run.data.tags["trial.state"] == "PRUNED"
    assert run.data.metrics.keys() == {"train_loss", "val_loss", "val_accuracy"}
    run = client.get_run(failed.run_id)
    assert run.info.status == "FAILED"
    assert run.info.run_name == "#02 Adam lr=10"
    assert run.data.tags["trial.state"] == "FAIL"
    assert run.data.tags["trial.reason"] == "loss is nan in epoch 2"
    assert run.data.metrics == {"train_loss": 0.5, "val_loss": 0.4}
    assert client.search_logged_models([log.store.experiment_id]) == []
    curves = curves_of(log.store, failed.run_id)
    np.testing.assert_array_equal(curves["train_loss"], [0.5])
    np.testing.assert_array_equal(curves["val_loss"], [np.nan, 0.4])
    assert curves["val_accuracy"].size == 0


def test_many_epochs_and_parameters(log: TrialLog, client: MlflowClient) -> None:
    params = {f"model.{i}": i / 7 for i in range(230)}
    curves = {name: np.linspace(0, 1, 1200) for name in Trial().curves}
    logged = log.log_trial(Trial(params=params, curves=curves), {"text": ""})
    for name, curve in curves_of(log.store, logged.run_id).items():
        np.testing.assert_array_equal(curve, curves[name])
    (read,) = trials_of(log.store, log.train.run_id)
    assert read.params == params
    assert client.get_run(logged.run_id).data.metrics["accuracy"] == 0.7


def test_a_trial_that_cannot_be_written(log: TrialLog, client: MlflowClient) -> None:
    with pytest.raises(TypeError, match="wrong"):
        log.log_trial(Trial(number=3), {"wrong": "argument"})
    (run,) = log.store.search("tags.`pipeline.stage` = 'trial'")
    assert run.info.status == "FAILED"
    assert "TypeError" in run.data.tags["trial.reason"]
    assert run.data.tags["trial.state"] == "FAIL"
    assert trials_of(log.store, log.train.run_id) == []
    (model,) = client.search_logged_models([log.store.experiment_id])
    assert model.status == "FAILED"


def test_trials_are_read_back(log: TrialLog) -> None:
    params = {
        "optimizers.3.lr": 1e-5 / 3,
        "model.hidden": (64, 32),
        "model.activation": "relu",
        "model.batch_norm": True,
        "training.batch_size": np.int64(64),
    }
    log.log_trial(Trial(number=1, state="PRUNED", params={}, lr=0.5), None)
    first = log.log_trial(Trial(number=0, params=params, lr=1e-5 / 3), {"text": ""})
    log.log_trial(Trial(number=2, state="FAIL", reason="nan"), None)
    complete, pruned, failed = trials_of(log.store, log.train.run_id)
    assert complete.params == {**params, "training.batch_size": 64}
    assert complete.lr == 1e-5 / 3
    assert complete.entry == 3
    assert complete.model_id == first.model_id
    assert (complete.loss, complete.accuracy, complete.accuracy_std) == (0.6, 0.7, 0.01)
    assert complete.best_epoch == 4.2
    assert complete.seconds == 2.0
    assert (pruned.state, pruned.params, pruned.accuracy) == ("PRUNED", {}, None)
    assert (failed.state, failed.reason, failed.model_id) == ("FAIL", "nan", None)


def test_searches_past_one_page(
    log: TrialLog, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.tracking.store.PAGE", 2)
    for number in range(5):
        log.log_trial(Trial(number=number, state="PRUNED", curves={}), None)
    assert [t.number for t in trials_of(store, log.train.run_id)] == [0, 1, 2, 3, 4]


leaf = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()


@given(leaf | st.lists(leaf).map(tuple))
def test_parameters_survive_as_text(value: Any) -> None:
    back = decode_param(encode_param(value))
    assert back == value
    assert type(back) is type(value)


def test_plain_strings_stay_plain() -> None:
    assert encode_param("relu") == "relu"
    assert encode_param("1") == '"1"'
    assert encode_param((64, 32)) == "[64, 32]"


def test_nothing_is_printed(
    log: TrialLog, store: Store, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    logged = log.log_trial(Trial(), {"text": ""})
    assert logged.model_id
    for _ in range(2):
        register(store, logged.model_id, name, description="d")
    assert capfd.readouterr() == ("", "")


# The writer


class Memory(dict[int, Any]):
    """A journal that forgets."""

    def add(self, trial: Any) -> None:
        self[trial.number] = trial

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self.values()))

    def remove(self, number: int) -> None:
        del self[number]


def test_the_writer_has_written_all_at_its_end(log: TrialLog) -> None:
    threads = set()

    def model(trial: Trial) -> dict[str, str] | None:
        threads.add(threading.current_thread())
        return {"text": ""} if trial.number == 1 else None

    with Writer(log, model, Memory(), capacity=2) as writer:
        for number in range(5):
            writer.put(Trial(number=number, state="COMPLETE" if number == 1 else "PRUNED"))
    assert [trial.number for trial in trials_of(log.store, log.train.run_id)] == list(range(5))
    assert threading.current_thread() not in threads
    assert len(threads) == 1


def test_nothing_is_written_while_the_writer_is_paused(log: TrialLog) -> None:
    with Writer(log, lambda _: None, Memory()) as writer, writer.paused():
        writer.put(Trial(number=0, state="PRUNED"))
        time.sleep(0.3)
        assert trials_of(log.store, log.train.run_id) == []
    assert [trial.number for trial in trials_of(log.store, log.train.run_id)] == [0]


def test_what_waits_is_written_first_and_once(log: TrialLog) -> None:
    log.log_trial(Trial(number=0, state="PRUNED"), None)
    half = log.store.create("trial", "#01", {"mlflow.parentRunId": log.train.run_id})
    memory = Memory({n: Trial(number=n, state="PRUNED") for n in (0, 1)})
    with Writer(log, lambda _: None, memory) as writer:
        writer.put(Trial(number=2, state="PRUNED"))
    assert not memory
    assert [trial.number for trial in trials_of(log.store, log.train.run_id)] == [0, 1, 2]
    assert len(list(log.store.trials_under(log.train.run_id))) == 4
    assert log.store.client.get_run(half.run_id).info.status == "FAILED"


def test_the_writers_error_names_the_trial(log: TrialLog) -> None:
    def write() -> None:
        with Writer(log, lambda _: {"wrong": ""}, Memory()) as writer:
            writer.put(Trial(number=7))
            while True:
                writer.put(Trial(number=8))

    with pytest.raises(TypeError) as error:
        write()
    assert error.value.__notes__ == ["while trial 7 was written to MLflow"]


def test_a_full_disk_is_one_line(log: TrialLog) -> None:
    def full(_: Trial) -> None:
        raise OSError(28, "No space left on device")

    with (
        pytest.raises(RunError, match=r"trial 7 could not be written to MLflow: .*No space left"),
        Writer(log, full, Memory()) as writer,
    ):
        writer.put(Trial(number=7))


# The registry


def test_registered_once(log: TrialLog, store: Store, client: MlflowClient, name: str) -> None:
    """Started again after it was killed on the way, it describes and aliases what there is."""
    one, other = (log.log_trial(Trial(number=i), {"text": ""}).model_id or "" for i in range(2))
    first = register(store, one, name, description="cut short", alias=None, once=True)
    again = register(store, one, name, description="whole", tags={"a": 1}, once=True)
    assert again.version == first.version == 1
    assert client.get_model_version(name, "1").description == "whole"
    assert client.get_model_version(name, "1").tags == {"a": "1"}
    found = find_version(store, name)
    assert found
    assert found.version == 1
    assert register(store, other, name, description="", once=True).version == 2


def test_register(log: TrialLog, store: Store, client: MlflowClient, name: str) -> None:
    models = [log.log_trial(Trial(number=i), {"text": f"model {i}"}) for i in range(2)]
    ids = [model.model_id or "" for model in models]
    assert find_version(store, name) is None
    first = register(
        store,
        ids[0],
        name,
        description="**first**",
        tags={"test_accuracy": 0.68},
        model_description="Is the water potable?",
        model_tags={"task": "classification"},
    )
    assert (first.version, first.model_id, first.run_id) == (1, ids[0], models[0].run_id)
    assert first.uri == f"models:/{name}/1"
    model = client.get_registered_model(name)
    assert model.description == "Is the water potable?"
    assert model.tags == {"task": "classification"}
    version = client.get_model_version(name, "1")
    assert version.description == "**first**"
    assert version.tags == {"test_accuracy": "0.68"}
    assert version.status == "READY"
    second = register(store, ids[1], name, description="second", model_description="no", alias=None)
    assert find_version(store, name) == first
    set_alias(store, second)
    champion = find_version(store, name)
    assert champion == second
    assert client.get_registered_model(name).description == "Is the water potable?"
    loaded = mlflow.pyfunc.load_model(f"models:/{name}@champion")
    assert loaded.predict(pd.DataFrame({"x": [1]})) == ["model 1"]
    tag = client.get_logged_model(ids[1]).tags["mlflow.modelVersions"]
    assert tag == json.dumps([{"name": name, "version": "2"}])


def test_alias_stays_when_a_version_does_not_load(
    log: TrialLog, store: Store, client: MlflowClient, name: str
) -> None:
    models = [log.log_trial(Trial(number=i), {"text": f"model {i}"}) for i in range(2)]
    good, bad = (client.get_logged_model(model.model_id) for model in models)
    register(store, good.model_id, name, description="", check=mlflow.pyfunc.load_model)
    Path(bad.artifact_location, "MLmodel").unlink()
    with pytest.raises(mlflow.MlflowException):
        register(store, bad.model_id, name, description="", check=mlflow.pyfunc.load_model)
    champion = find_version(store, name)
    assert champion
    assert champion.version == 1
    assert [v.version for v in client.search_model_versions(f"name = '{name}'")] in ([1], ["1"])


def test_name_that_the_registry_refuses(log: TrialLog, store: Store) -> None:
    logged = log.log_trial(Trial(), {"text": ""})
    with pytest.raises(UserError, match=r"registry.name: .*cannot contain"):
        register(store, logged.model_id or "", "a/b", description="")
