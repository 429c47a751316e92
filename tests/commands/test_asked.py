"""What people set in the environment, and around a search, is obeyed or said."""

import os
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from pipeline.common.errors import UserError
from pipeline.tracking.runs import _is_generated
from pipeline.tracking.store import Store
from tests.commands.test_by_hand import Place
from tests.commands.test_by_hand import finished as finished
from tests.commands.test_by_hand import place as place


def pipelines(client: MlflowClient, experiment: str) -> list[str]:
    found = client.get_experiment_by_name(experiment).experiment_id
    return [r.info.run_id for r in client.search_runs([found], "tags.`pipeline.stage`='pipeline'")]


@pytest.mark.parametrize("by", ["MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"])
def test_the_experiment_of_the_environment(
    by: str, place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    number = place.client.create_experiment("team")
    monkeypatch.setenv(by, "team" if by.endswith("NAME") else number)
    assert place.start("prepare")[0] == 0
    assert len(pipelines(place.client, "team")) == 1
    assert "experiment team, as MLFLOW_EXPERIMENT_NAME or _ID says, not quick" in caplog.text
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "4711")
    status, said = place.start("prepare")
    assert (status, "error: MLFLOW_EXPERIMENT_ID=4711: " in said) == (2, True)


@pytest.mark.parametrize(
    ("name", "generated"),
    [
        ("churn-adam-2024", False),
        ("stylish-crab-123", True),
        ("stylish-adam-123", False),
        ("stylish-crab-v2", False),
        ("stylish-crab-1-2", False),
        ("", False),
    ],
)
def test_names_that_people_give(name: str, generated: bool) -> None:
    assert _is_generated(name) == generated


def test_names_that_mlflow_gives(place: Place) -> None:
    for _ in range(20):
        assert _is_generated(place.client.create_run("0").info.run_name)


def test_several_searches_within_somebodys_own_run(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays theirs and open; each search's run is a child of it."""
    mlflow.set_experiment("quick")
    with mlflow.start_run(run_name="sweep") as outer:
        for seed in (1, 2):
            monkeypatch.setenv("MLFLOW_RUN_ID", outer.info.run_id)
            assert place.start("prepare", f"seed={seed}")[0] == 0
            assert place.client.get_run(outer.info.run_id).info.status == "RUNNING"
    tags = place.client.get_run(outer.info.run_id).data.tags
    assert not [tag for tag in tags if tag.startswith("pipeline.")]
    inside = f"tags.`mlflow.parentRunId` = '{outer.info.run_id}'"
    children = place.client.search_runs([outer.info.experiment_id], inside)
    assert [run.info.status for run in children] == ["FINISHED"] * 2


def test_several_searches_within_one_launchers_run(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a project of somebody's own: the first takes its place, and ends it."""
    experiment = place.client.get_experiment_by_name("quick").experiment_id
    tags = {"mlflow.project.entryPoint": "main"}
    launched = place.client.create_run(experiment, tags=tags).info.run_id
    for seed in (1, 2):
        monkeypatch.setenv("MLFLOW_RUN_ID", launched)
        assert place.start("prepare", f"seed={seed}")[0] == 0
    runs = place.client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{launched}'")
    assert [run.data.tags["pipeline.stage"] for run in runs] == ["pipeline"]


def test_a_relative_database_under_mlflow_run(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "clone").mkdir()
    monkeypatch.chdir(tmp_path / "clone")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///my.db")
    monkeypatch.setenv("MLFLOW_RUN_ID", "f" * 32)
    with pytest.raises(UserError, match=r"the project runs in .*/clone; give the whole path"):
        Store.open("quick")
    assert list(Path.cwd().iterdir()) == []


def test_relative_paths_say_where_they_were_looked_for(place: Place) -> None:
    missing = ["--config", "mine.yaml"], ["--set", "data.source=rows.csv"]
    for arguments in missing:
        argv = [sys.executable, "-m", "pipeline", "run", "--config", "quick.yaml", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        done = subprocess.run(argv, env=environment, capture_output=True, text=True)
        assert done.returncode == 2
        assert f"(looked in {place.folder})" in done.stderr


@pytest.mark.slow
def test_system_metrics(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("psutil")
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true")
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
    assert place.start("run", "seed=5")[0] == 0
    run_id = pipelines(place.client, "quick")[0]
    assert "system/cpu_utilization_percentage" in place.client.get_run(run_id).data.metrics
