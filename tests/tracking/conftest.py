"""A store, an experiment and a train run of its own for each test."""

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient

from pipeline.tracking.runs import DataSet
from pipeline.tracking.store import Store
from pipeline.tracking.trials import TrialLog

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


DATA = DataSet(
    "water · training rows",
    "ab" * 32,
    "data/water.csv",
    2,
    {"ph": "double", "kind": "string", "ok": "boolean", "n": "long"},
)


@pytest.fixture
def log(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[TrialLog]:
    """Its models answer a text, which takes no export."""
    monkeypatch.setattr("pipeline.tracking.registry.flavor.save_model", save_model)
    with store.run("train", "train · 40 trials", fingerprint="f") as train:
        yield TrialLog(store, train, 40, DATA)
