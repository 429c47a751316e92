"""Searches that are killed, ended by signals, extended, started twice or all at once."""

import contextlib
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from pipeline.tracking.processes import this_process
from pipeline.tracking.store import Store
from tests.servers import free_port
from tests.servers import postgres as postgres

pytestmark = pytest.mark.slow  # each starts whole processes: minutes in all

ROOT = Path(__file__).parents[2]
SETTINGS = """
experiment: cells
seed: 3
data: {source: "sklearn:breast_cancer", target: target, positive: malignant}
validation: {folds: 3}
model: {hidden: {choice: [[8], [6, 4]]}, dropout: {choice: [0.0, 0.2]}}
training: {epochs: 30, batch_size: 16, patience: null}
optimizers:
  - {name: Adam, lr: {low: 1e-3, high: 1e-1, log: true}}
  - {name: SGD, lr: {low: 1e-2, high: 1.0, log: true}, momentum: 0.9}
  - {name: SGD, lr: 1.0e+30}
search: {trials: 19, pruner: median}
"""
QUICK = ["training.epochs=3", "search.trials=4", "search.pruner=none"]


@dataclass(frozen=True)
class Place:
    """A folder with a configuration and a store of its own."""

    folder: Path
    uri: str

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(self.uri)

    @property
    def environment(self) -> dict[str, str]:
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        own = {"PYTHONPATH": path, "MLFLOW_TRACKING_URI": self.uri, "OMP_NUM_THREADS": "1"}
        return {**os.environ, **own}

    def start(self, *arguments: str, command: str = "run") -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline", command, *self._config(command), *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @staticmethod
    def _config(command: str) -> list[str]:
        return [] if command == "status" else ["--config", "cells.yaml"]

    def run(self, *arguments: str, command: str = "run") -> tuple[int, str, str]:
        process = self.start(*arguments, command=command)
        output, errors = process.communicate(timeout=300)
        return process.returncode, output, errors

    def runs(self, stage: str = "", experiment: str = "cells") -> list[Run]:
        found = self.client.get_experiment_by_name(experiment)
        if found is None:
            return []
        condition = f"tags.`pipeline.stage` = '{stage}'" if stage else ""
        return list(self.client.search_runs([found.experiment_id], condition))

    def trials(self, experiment: str = "cells") -> list[Run]:
        """Those that count."""
        every = self.runs("trial", experiment)
        return [run for run in every if "pipeline.abandoned" not in run.data.tags]

    def outcomes(self, experiment: str = "cells") -> list[tuple[object, ...]]:
        """What is bound to be the same, to the bit."""
        return sorted(
            (
                int(run.data.tags["trial.number"]),
                run.data.tags["trial.state"],
                run.info.status,
                sorted(run.data.params.items()),
                sorted(run.data.metrics.items()),
                [
                    (point.step, point.value)
                    for point in self.client.get_metric_history(run.info.run_id, "val_loss")
                ],
            )
            for run in self.trials(experiment)
        )

    def finals(self) -> list[tuple[object, ...]]:
        """The final round's, as `outcomes`."""
        return sorted(
            (int(run.data.tags["final.trial"]), run.info.status, sorted(run.data.metrics.items()))
            for run in self.runs("final")
            if "pipeline.abandoned" not in run.data.tags
        )

    def versions(self) -> list[Any]:
        return list(self.client.search_model_versions("name = 'cells'"))

    def wait_for(self, reached: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
        until = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < until:
            try:
                if reached():
                    return
            except Exception:  # the database is being made
                pass
            time.sleep(0.02)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new store's, made once: MLflow takes seconds for it."""
    path = tmp_path_factory.mktemp("database") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, database: Path) -> Place:
    place = make_place(tmp_path_factory.mktemp("unbroken"), database)
    status, _, errors = place.run()
    assert status == 0, errors
    assert {run.data.tags["trial.state"] for run in place.trials()} == {
        "COMPLETE",
        "PRUNED",
        "FAIL",
    }
    return place


@pytest.fixture
def place(tmp_path: Path, database: Path) -> Iterator[Place]:
    return make_place(tmp_path, database)


def make_place(folder: Path, database: Path) -> Place:
    (folder / "cells.yaml").write_text(SETTINGS)
    (folder / "mlflow.db").write_bytes(database.read_bytes())
    return Place(folder, f"sqlite:///{folder}/mlflow.db")


def assert_whole(place: Place, unbroken: Place) -> None:
    """The runs and the registry of a search that was never killed."""
    assert place.outcomes() == unbroken.outcomes()
    statuses = [(run.data.tags["pipeline.stage"], run.info.status) for run in place.runs()]
    assert "RUNNING" not in [status for _, status in statuses]
    for stage in ("pipeline", "prepare", "train", "evaluate"):
        assert statuses.count((stage, "FINISHED")) == 1
        assert len([one for one, _ in statuses if one == stage]) == 1
    (version,) = place.versions()
    assert version.version in (1, "1")
    champion = place.client.get_model_version_by_alias("cells", "champion")
    model = place.client.get_logged_model(champion.source.rpartition("/")[2])
    assert model.status == "READY"
    assert place.finals() == unbroken.finals()
    (evaluate,), (wanted,) = place.runs("evaluate"), unbroken.runs("evaluate")
    assert evaluate.data.metrics == wanted.data.metrics
    experiment = place.client.get_experiment_by_name("cells")
    assert not [key for key in experiment.tags if key.startswith("mlflow.pipeline.lease")]


def test_killed_at_several_moments(place: Place, unbroken: Place) -> None:
    """Before the first trial, inside a stack, while writing, in the final round, in evaluate: each
    time once more."""
    for reached in (
        lambda: bool(place.runs("prepare")),
        lambda: len(place.runs("trial")) >= 1,
        lambda: len(place.trials()) >= 11,
        lambda: bool(place.runs("final")),
        lambda: bool(place.runs("evaluate")),
        lambda: bool(place.versions()),
    ):
        process = place.start()
        place.wait_for(reached, process)
        process.kill()
        process.communicate()
    status, _, errors = place.run()
    assert status == 0, errors
    assert_whole(place, unbroken)


@pytest.mark.skipif(not os.environ.get("PIPELINE_KILLS"), reason="PIPELINE_KILLS=20 asks for it")
def test_killed_at_random_moments(place: Place, unbroken: Place) -> None:
    draw = random.Random(int(os.environ.get("PIPELINE_SEED", "0")))
    for _ in range(int(os.environ["PIPELINE_KILLS"])):
        process = place.start()
        # Half of them once the imports are over, so that something happens in between.
        known = len(place.runs())
        if draw.random() < 0.7:
            place.wait_for(lambda known=known: len(place.runs()) > known, process)  # type: ignore[misc]
            time.sleep(draw.uniform(0.0, 3.0))
        else:
            time.sleep(draw.uniform(0.0, 12.0))
        process.kill()
        process.communicate()
    status, _, errors = place.run()
    assert status == 0, errors
    assert_whole(place, unbroken)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ended_by_a_signal(place: Place, unbroken: Place, number: int, code: int) -> None:
    process = place.start()
    place.wait_for(lambda: len(place.trials()) >= 3, process)
    process.send_signal(number)
    sent = time.monotonic()
    _, errors = process.communicate(timeout=60)
    took = time.monotonic() - sent
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    (line,) = errors.splitlines()
    assert line == "interrupted; to go on: python -m pipeline run --config cells.yaml"
    assert took < 5
    by_stage = {run.data.tags["pipeline.stage"]: run.info.status for run in place.runs()}
    assert (by_stage["pipeline"], by_stage["train"]) == ("KILLED", "KILLED")
    assert "RUNNING" not in by_stage.values()
    assert 3 <= len(place.trials()) < 19
    assert place.run()[0] == 0
    assert_whole(place, unbroken)


def test_nothing_to_do_more_to_do_and_all_again(place: Place) -> None:
    assert place.run("--set", *QUICK)[0] == 0
    before = {run.info.run_id for run in place.runs()}
    status, output, _ = place.run("--set", *QUICK)
    assert status == 0
    assert "Nothing to do: this search finished on " in output
    assert {run.info.run_id for run in place.runs()} == before
    assert len(place.versions()) == 1

    status, output, _ = place.run("--set", *QUICK, "search.trials=6")
    assert status == 0
    assert "4 of 6 trials are there from an earlier start" in output
    assert [number for number, *_ in place.outcomes()] == list(range(6))
    assert len(place.runs("train")) == len(place.runs("pipeline")) == 1

    extended = place.outcomes()
    assert place.run("--fresh", "--set", *QUICK)[0] == 0
    assert len(place.runs("train")) == len(place.runs("pipeline")) == 2
    assert len(place.trials()) == 10
    assert all(one in place.outcomes() for one in extended)

    status, output, _ = place.run(command="status")
    assert status == 0
    assert output.count("finished") == 2
    assert "4/4" in output
    assert "6/6" in output


def test_two_starts_of_one_search(place: Place, unbroken: Place) -> None:
    first, second = place.start(), place.start()
    ends = [(p.communicate(timeout=300)[1], p.returncode) for p in (first, second)]
    assert sorted(code for _, code in ends) == [0, 1]
    message = next(errors for errors, code in ends if code == 1)
    assert message.startswith("error: the same search is running already, in process ")
    assert_whole(place, unbroken)


@contextlib.contextmanager
def server(folder: Path, port: int) -> Iterator["subprocess.Popen[str]"]:
    """A real MLflow server on the folder's database, answering."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"),
            *("--port", str(port), "--workers", "1"),
            *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db"),
            *("--artifacts-destination", str(folder / "artifacts")),
        ],
        cwd=folder,
        env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        until = time.monotonic() + 120
        while time.monotonic() < until and process.poll() is None:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
                break
            time.sleep(0.2)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.parametrize("killed_too", [False, True])
def test_a_server_that_goes_away_and_comes_back(
    place: Place, unbroken: Place, killed_too: bool
) -> None:
    """The search goes on meanwhile; what could not be written is, by it or by the next start."""
    port = free_port()
    remote = Place(place.folder, f"http://127.0.0.1:{port}")
    with server(place.folder, port):
        process = remote.start()
        place.wait_for(lambda: len(place.trials()) >= 2, process)
    journal = place.folder / "unwritten"
    until = time.monotonic() + 120
    while not list(journal.glob("*/*.trial")) and time.monotonic() < until:
        time.sleep(0.1)
    assert process.poll() is None
    if killed_too:
        process.kill()
        process.communicate()
    with server(place.folder, port):
        if killed_too:
            process = remote.start()
        output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    if killed_too:
        assert "missed earlier are written now" in output
    else:
        assert "the tracking store is away" in errors
        assert "the tracking store is back" in errors
    assert_whole(place, unbroken)
    assert not journal.exists()


def test_a_disk_that_is_full(place: Place, unbroken: Place) -> None:
    """A limit on the size of a file stands for it: the database cannot grow."""
    limit = (place.folder / "mlflow.db").stat().st_size // 1024 + 60
    command = shlex.join([sys.executable, "-m", "pipeline", "run", "--config", "cells.yaml"])
    done = subprocess.run(
        ["bash", "-c", f"ulimit -f {limit}; exec {command}"],
        cwd=place.folder,
        env=place.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert "Traceback" not in done.stderr
    assert place.versions() == []
    status, _, errors = place.run()
    assert status == 0, errors
    assert_whole(place, unbroken)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 20 MB, where we may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_file_system_that_fills_up(small_disk: Path, database: Path, unbroken: Place) -> None:
    place = make_place(small_disk, database)
    filler = small_disk / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(small_disk).free - 800_000))
    status, _, errors = place.run()
    assert status == 1, errors
    (line,) = errors.splitlines()
    assert line.startswith("error: ")
    filler.unlink()
    status, _, errors = place.run()
    assert status == 0, errors
    assert_whole(place, unbroken)


def test_a_store_that_cannot_be_reached(tmp_path: Path) -> None:
    (tmp_path / "cells.yaml").write_text(SETTINGS)
    status, _, errors = Place(tmp_path, f"http://127.0.0.1:{free_port()}").run()
    assert status == 1
    (line,) = errors.splitlines()
    assert line.startswith("error: ")


def test_four_pipelines_on_one_new_file(tmp_path: Path) -> None:
    (tmp_path / "cells.yaml").write_text(SETTINGS)
    place = Place(tmp_path, f"sqlite:///{tmp_path}/new/mlflow.db")
    four_at_once(place)


def test_four_pipelines_on_one_new_postgres(tmp_path: Path, postgres: str) -> None:
    (tmp_path / "cells.yaml").write_text(SETTINGS)
    four_at_once(Place(tmp_path, postgres))


def four_at_once(place: Place) -> None:
    processes = [place.start("--set", *QUICK, f"seed={seed}") for seed in range(4)]
    for process in processes:
        _, errors = process.communicate(timeout=500)
        assert process.returncode == 0, errors
    assert len(place.runs("pipeline")) == 4
    assert len(place.trials()) == 16
    assert {run.info.status for run in place.runs("pipeline")} == {"FINISHED"}
    assert "RUNNING" not in {run.info.status for run in place.runs()}
    assert sorted(int(version.version) for version in place.versions()) == [1, 2, 3, 4]


def test_another_hosts_runs_until_it_has_been_silent_for_long(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place.folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", place.uri)
    store = Store.open("cells")
    here = this_process()
    elsewhere = "other-host/pid:[1] 7 123"
    store.context_tags["pipeline.process"] = elsewhere
    run = store.create("train", "t", {})

    def beat(age: float) -> None:
        text = f"held {int(1000 * (time.time() - age))} {elsewhere}"
        place.client.set_experiment_tag(store.experiment_id, "mlflow.pipeline.lease.f.0", text)

    beat(age=300)
    assert Store.open("cells").client.get_run(run.run_id).info.status == "RUNNING"
    with pytest.raises(Exception, match="process 7 on other-host"), store.lease("f"):
        pass
    with store.lease("another"):
        pass
    beat(age=3000)
    with store.lease("f"):
        assert place.client.get_run(run.run_id).info.status == "KILLED"
    assert here == this_process()
    experiment = place.client.get_experiment(store.experiment_id)
    assert not [key for key in experiment.tags if key.startswith("mlflow.pipeline.lease")]
