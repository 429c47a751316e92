"""Models that are not kept leave the store and the disk; what is registered never does."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from sklearn.datasets import load_breast_cancer

from pipeline import __main__ as command_line

pytestmark = pytest.mark.slow  # five commands

SETTINGS = """
experiment: kept
data: {source: "sklearn:breast_cancer", target: target}
validation: {folds: 2}
model: {hidden: [4]}
training: {epochs: 3}
optimizers:
  - {name: Adam, lr: {low: 1e-3, high: 1e-1, log: true}}
  - {name: SGD, lr: {low: 1e-2, high: 1.0, log: true}}
search: {trials: 6, sampler: random}
"""


@dataclass(frozen=True)
class Place:
    folder: Path
    client: MlflowClient

    def command(self, name: str, *overrides: str) -> int:
        return command_line.main([name, "--config", "kept.yaml", "--set", *overrides])

    def models(self) -> set[str]:
        experiment = self.client.get_experiment_by_name("kept").experiment_id
        found = self.client.search_logged_models([experiment])
        on_disk = {
            path.parent.parent.name for path in self.folder.glob("mlruns/*/models/*/*/MLmodel")
        }
        assert {model.model_id for model in found} == on_disk
        return on_disk

    def champion(self) -> str:
        version = self.client.get_model_version_by_alias("kept", "champion")
        rows = load_breast_cancer(as_frame=True).data.head(3)
        assert len(mlflow.pyfunc.load_model("models:/kept@champion").predict(rows)) == 3
        return str(version.source.removeprefix("models:/"))


@pytest.fixture
def place(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    Path("kept.yaml").write_text(SETTINGS)
    return Place(tmp_path, MlflowClient(uri))


def test_what_is_kept(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert place.command("run") == 0
    assert len(place.models()) == 7  # of six trials, and the ensemble of the final round
    champion = place.champion()
    assert place.command("gc") == 0
    assert "nothing to delete" in capsys.readouterr().out

    assert place.command("gc", "tracking.keep_models=best_per_optimizer") == 0
    assert "4 models deleted" in capsys.readouterr().out
    assert len(place.models()) == 3
    assert place.command("gc", "tracking.keep_models=champion") == 0
    kept = place.models()
    assert champion == place.champion() in kept
    assert len(kept) == 2  # and the best trial's

    assert place.command("evaluate") == 0
    assert place.champion() == champion
    assert place.command("run", "search.trials=8", "tracking.keep_models=champion") == 0
    assert {champion, place.champion()} <= place.models()
    assert len(place.models()) <= 4  # the best trial's of either search, where it is another one
    assert place.command("run", "search.trials=8") == 0
    assert "Nothing to do" in capsys.readouterr().out
