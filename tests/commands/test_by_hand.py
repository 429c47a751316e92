"""What people do in MLflow and to folders between two starts: nothing finished is damaged, what is
missing is made again or named, and what is shown is what loads."""

import contextlib
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from sklearn.datasets import load_breast_cancer

from pipeline import __main__ as command_line
from pipeline.tracking.registry import load_pyfunc

ROOT = Path(__file__).parents[2]
SETTINGS = """
experiment: quick
data: {source: "sklearn:breast_cancer", target: target}
validation: {folds: 2, final: {folds: 2, repeats: 1}}
model: {hidden: [4]}
training: {epochs: 3}
optimizers: [{name: SGD, lr: {low: 1e-2, high: 1.0, log: true}}]
search: {trials: 2}
"""


@dataclass
class Place:
    folder: Path
    capture: pytest.CaptureFixture[str]

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(mlflow.get_tracking_uri())

    def start(self, command: str = "run", *overrides: str) -> tuple[int, str]:
        """The exit status, and all that was said."""
        self.capture.readouterr()
        configured = [] if command == "status" else ["--config", "quick.yaml", "--set", *overrides]
        status = command_line.main([command, *configured])
        shown = self.capture.readouterr()
        assert "Traceback" not in shown.err
        return status, shown.out + shown.err

    def statuses(self) -> dict[str, str]:
        experiments = [each.experiment_id for each in self.client.search_experiments()]
        runs = self.client.search_runs(experiments)
        return {run.info.run_id: run.info.status for run in runs}

    def loads(self, uri: str) -> bool:
        rows = load_breast_cancer(as_frame=True).data.head(3)
        return len(mlflow.pyfunc.load_model(uri).predict(rows)) == 3


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Path:
    """A project in which the default store holds a finished search."""
    folder = tmp_path_factory.mktemp("made") / "project"
    folder.mkdir()
    shutil.copy(empty_store, folder / "mlflow.db")
    (folder / "quick.yaml").write_text(SETTINGS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        assert command_line.main(["run", "--config", "quick.yaml"]) == 0
    return folder


_ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
)


@pytest.fixture
def place(
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Place:
    """A project of its own, as if it had been made there."""
    folder = tmp_path / "project"
    shutil.copytree(finished, folder)
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as database, database:
        for table, column in _ADDRESSES:
            change = f"UPDATE {table} SET {column} = replace({column}, ?, ?)"
            database.execute(change, (str(finished), str(folder)))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(folder)
    return Place(folder, capsys)


def shown_uri(said: str) -> str:
    (uri,) = re.findall(r"load_model\(['\"](.*)['\"]\)", said)
    return str(uri)


# Registered models


def _delete_model(client: MlflowClient) -> None:
    client.delete_registered_model("quick")


def _delete_version(client: MlflowClient) -> None:
    client.delete_model_version("quick", "1")


def _delete_alias(client: MlflowClient) -> None:
    client.delete_registered_model_alias("quick", "champion")


def _rename(client: MlflowClient) -> None:
    client.rename_registered_model("quick", "slow")


@pytest.mark.parametrize("act", [_delete_model, _delete_version, _delete_alias, _rename])
def test_what_is_gone_is_registered_again(
    place: Place, act: Callable[[MlflowClient], None]
) -> None:
    before = place.statuses()
    act(place.client)
    status, said = place.start()
    assert status == 0
    assert shown_uri(said) == "models:/quick@champion"
    assert place.loads("models:/quick@champion")
    assert place.statuses() == before  # and no run more: nothing was trained
    status, said = place.start()
    assert (status, "Nothing to do" in said) == (0, True)


def test_an_alias_that_moved_on(place: Place) -> None:
    """Somebody else's model has other figures."""
    version = place.client.copy_model_version("models:/quick/1", "quick")
    other = place.client.create_model_version("quick", str(place.folder))
    place.client.set_registered_model_alias("quick", "champion", other.version)
    status, said = place.start()
    assert status == 0
    assert "Nothing to do" in said
    assert shown_uri(said) == "models:/quick/1"
    assert (
        f"Version 1 of quick was @champion when it was registered; now version {other.version} is."
        in said
    )
    assert place.loads("models:/quick/1")
    place.client.set_registered_model_alias("quick", "challenger", "1")
    _, said = place.start()
    assert shown_uri(said) == "models:/quick@challenger"
    assert "now it is @challenger" in said
    assert place.client.get_model_version("quick", version.version)


# Folders


def test_a_project_that_was_moved(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    before, moved = place.statuses(), place.folder.with_name("it's moved")
    place.folder.rename(moved)
    monkeypatch.chdir(moved)
    for command in ("run", "train", "evaluate", "prepare", "gc"):
        status, said = place.start(command, "tracking.keep_models=champion")
        assert status == 2
        assert f"are not at {place.folder}/mlruns/1" in said
        assert not place.folder.exists()
        assert place.statuses() == before
    assert place.start("status")[0] == 0
    (link,) = re.findall(r"link them: (mkdir -p .* && ln -s .* \S+), or", said)
    subprocess.run(link, shell=True, check=True)
    status, said = place.start()
    assert status == 0
    assert "Nothing to do" in said
    assert place.loads("models:/quick@champion")


@pytest.mark.parametrize(
    ("pattern", "named"),
    [
        ("mlruns/1/*/artifacts/summary.json", "summary.json of the run"),
        ("mlruns/1/*/artifacts/evidence.json", "evidence.json of the run"),
        ("mlruns/1/models/m-*", "the model m-"),
    ],
)
def test_files_that_are_gone(place: Place, pattern: str, named: str) -> None:
    gone = list(place.folder.glob(pattern))
    assert gone
    for path in gone:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    before = place.statuses()
    for command in ("run", *(("evaluate",) if "m-" in pattern else ())):
        status, said = place.start(command)
        assert status == 2
        assert named in said
        assert "is not at" in said
        assert "mlruns/1/" in said
        assert "--fresh" in said
        assert place.statuses() == before


def test_a_larger_budget_whose_model_is_gone(place: Place) -> None:
    """It goes on before that is found out: what was finished is finished still."""
    for model in place.client.search_logged_models(["1"]):
        place.client.delete_logged_model(model.model_id)
    before = place.statuses()
    status, _ = place.start("run", "search.trials=3")
    assert status in (0, 2)
    after = place.statuses()
    assert {run_id: after[run_id] for run_id in before} == before


# Where artifacts lie


def test_beside_the_database(
    tmp_path: Path,
    empty_store: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """And not where the process happens to be, which for `mlflow run` is a copy that goes."""
    (tmp_path / "home").mkdir()
    (tmp_path / "clone").mkdir()
    shutil.copy(empty_store, tmp_path / "home" / "mlflow.db")
    (tmp_path / "clone" / "quick.yaml").write_text(SETTINGS)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/home/mlflow.db")
    monkeypatch.chdir(tmp_path / "clone")
    place = Place(tmp_path, capsys)
    assert place.start()[0] == 0
    monkeypatch.chdir(tmp_path)
    shutil.rmtree(tmp_path / "clone")
    assert place.loads("models:/quick@champion")
    assert len(list(tmp_path.glob("home/mlruns/*/models/m-*"))) == 3


def test_a_temporary_folder_is_warned_of(
    tmp_path: Path,
    empty_store: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "temporary").mkdir()
    (tmp_path / "home").mkdir()
    shutil.copy(empty_store, tmp_path / "home" / "mlflow.db")
    monkeypatch.chdir(tmp_path / "home")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/home/mlflow.db")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    Path("quick.yaml").write_text(SETTINGS)
    place = Place(tmp_path, capsys)
    location = tmp_path / "temporary" / "clone" / "mlruns" / "1"
    place.client.create_experiment("quick", str(location))
    status, said = place.start("prepare")
    assert status == 0
    assert f"warning: the models of this experiment go to {location}, a temporary folder" in said


@pytest.mark.parametrize(
    "name",
    [
        '50 % of it\'s "Köln" #1?, a+b&c=d;e with%20space',
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("a b", "with%20space", "#1?")),
    ],
)
def test_folders_of_any_name(
    name: str,
    tmp_path: Path,
    empty_store: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    shutil.copy(empty_store, folder / "mlflow.db")
    (folder / "quick.yaml").write_text(SETTINGS)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    place = Place(folder, capsys)
    assert place.start()[0] == 0
    status, said = place.start()
    assert status == 0
    assert "Nothing to do" in said
    rows = load_breast_cancer(as_frame=True).data.head(3)
    status, said = place.start("status")
    assert "finished" in said
    assert place.start("gc", "tracking.keep_models=champion")[0] == 0
    # MLflow's own loaders decode the path of a model once too often.
    model = load_pyfunc(mlflow.get_tracking_uri(), "models:/quick@champion")
    assert len(model.predict(rows)) == 3
    assert len(list(folder.glob("mlruns/*/models/m-*/artifacts/MLmodel"))) == 2
    code = "from pipeline.__main__ import main; main(['status'])"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True)
    assert [path.name for path in tmp_path.iterdir()] == [name]
