"""A hand at random: sequences of what a person does in MLflow and to folders, between runs."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sklearn.datasets import load_breast_cancer

from tests.commands.test_by_hand import SETTINGS

pytestmark = pytest.mark.slow  # minutes

ROOT = Path(__file__).parents[2]
ACTS = int(os.environ.get("PIPELINE_ACTS", "30"))
SEEDS = range(int(os.environ.get("PIPELINE_HANDS", "1")))


class Hand:
    """A person at a project, who remembers what loaded and what was finished."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.draw, self.folder, self.trials = random.Random(seed), folder, 2
        self.names = ["quick"]
        self.log: list[str] = []

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(f"sqlite:///{self.folder}/mlflow.db")

    def command(self, name: str, *overrides: str, kill: float | None = None) -> None:
        """One that is let be ends with 0, or 2 and a line."""
        argv = [sys.executable, "-m", "pipeline", name, "--config", "quick.yaml", "--set"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
        environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{self.folder}/mlflow.db"
        process = subprocess.Popen(
            [*argv, f"search.trials={self.trials}", *overrides],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        if kill is not None:
            time.sleep(kill)
            process.send_signal(signal.SIGKILL)
        _, errors = process.communicate(timeout=300)
        if kill is None:
            assert process.returncode in (0, 2), (self.log, errors)
            assert "Traceback" not in errors, (self.log, errors)
            assert process.returncode == 0 or "error: " in errors

    # What a person does

    def run(self) -> None:
        self.command("run")

    def more(self) -> None:
        self.trials += 1
        self.command("run")

    def killed(self) -> None:
        self.trials += 1
        self.command("run", kill=self.draw.uniform(2, 8))
        self.command("run")

    def gc(self) -> None:
        self.command("gc", f"tracking.keep_models={self.draw.choice(['champion', 'none'])}")

    def champion_only(self) -> None:
        self.command("run", "tracking.keep_models=champion")

    def versions(self) -> list[tuple[str, str]]:
        return [(v.name, v.version) for v in self.client.search_model_versions()]

    def copy(self) -> None:
        if found := self.versions():
            name, version = self.draw.choice(found)
            self.client.copy_model_version(f"models:/{name}/{version}", f"prod{len(self.names)}")
            self.names.append(f"prod{len(self.names)}")

    def by_path(self) -> None:
        models = self.client.search_logged_models(["1"])
        name = f"path{len(self.names)}"
        self.client.create_registered_model(name)
        self.client.create_model_version(name, self.draw.choice(models).artifact_location)
        self.names.append(name)

    def rename(self) -> None:
        if found := self.versions():
            name = self.draw.choice(found)[0]
            self.client.rename_registered_model(name, f"was {name} {len(self.log)}")

    def delete_version(self) -> None:
        if found := self.versions():
            self.client.delete_model_version(*self.draw.choice(found))

    def delete_model(self) -> None:
        if found := self.versions():
            self.client.delete_registered_model(self.draw.choice(found)[0])

    def alias(self) -> None:
        if found := self.versions():
            name, version = self.draw.choice(found)
            alias = self.draw.choice(["champion", "challenger", "mine"])
            self.client.set_registered_model_alias(name, alias, version)

    def no_alias(self) -> None:
        for model in self.client.search_registered_models():
            for alias in list(model.aliases):
                self.client.delete_registered_model_alias(model.name, alias)

    def delete_and_restore(self) -> None:
        runs = self.client.search_runs(["1"])
        run_id = self.draw.choice(runs).info.run_id
        self.client.delete_run(run_id)
        self.command("run")
        self.client.restore_run(run_id)

    def move_and_back(self) -> None:
        moved = self.folder.with_name("moved")
        self.folder.rename(moved)
        here, self.folder = self.folder, moved
        self.command("run")
        assert not here.exists()
        moved.rename(here)
        self.folder = here

    # What holds

    def loading(self) -> set[tuple[str, str]]:
        """Versions that load, by where their files lie and who is first of that name."""
        rows, loading = load_breast_cancer(as_frame=True).data.head(2), set()
        mlflow.set_tracking_uri(f"sqlite:///{self.folder}/mlflow.db")
        for name, version in self.versions():
            try:
                mlflow.pyfunc.load_model(f"models:/{name}/{version}").predict(rows)
            except (MlflowException, OSError):
                continue
            loading.add((name, version))
        return loading

    def statuses(self) -> dict[str, str]:
        runs = self.client.search_runs(["1"], max_results=5000)
        return {run.info.run_id: run.info.status for run in runs}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_hand_at_random(
    seed: int, tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    shutil.copy(empty_store, folder / "mlflow.db")
    (folder / "quick.yaml").write_text(SETTINGS)
    monkeypatch.chdir(tmp_path)
    hand = Hand(folder, seed)
    hand.run()
    by_person = (hand.copy, hand.by_path, hand.rename, hand.delete_version, hand.delete_model)
    by_person += (hand.alias, hand.no_alias)
    programs = (hand.run, hand.more, hand.killed, hand.gc, hand.champion_only)
    programs += (hand.delete_and_restore, hand.move_and_back)
    for _ in range(ACTS):
        act = hand.draw.choice(by_person + programs)
        hand.log.append(act.__name__)
        act_of_person = act in by_person
        loaded, before = hand.loading(), hand.statuses()
        act()
        after = hand.statuses()
        if not act_of_person:
            assert loaded <= hand.loading(), hand.log
            assert "RUNNING" not in after.values(), hand.log
        finished = {run_id for run_id, status in before.items() if status == "FINISHED"}
        changed = {run_id for run_id in finished & after.keys() if after[run_id] != "FINISHED"}
        assert not changed, hand.log
