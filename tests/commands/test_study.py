"""A search as a study of Optuna, read back by Optuna."""

import shutil
from pathlib import Path

import optuna
import pytest
from mlflow import MlflowClient

from pipeline import __main__ as command_line

SETTINGS = """
experiment: studied
data: {source: "sklearn:iris", target: target}
validation: {folds: 2, final: null}
registry: {model: ensemble}
model: {hidden: {choice: [[4], [4, 4]]}, dropout: {low: 0.0, high: 0.5}}
training: {epochs: 4}
optimizers:
  - {name: Adam, lr: {low: 1e-3, high: 1e-1, log: true}}
  - {name: SGD, lr: {choice: [0.1, 1.0e+30]}}
search: {trials: 6, sampler: random}
tracking: {keep_models: none}
"""


@pytest.mark.parametrize("objective", ["val_accuracy", "val_loss"])
def test_optuna_reads_the_trials(
    objective: str,
    tmp_path: Path,
    empty_store: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    Path("s.yaml").write_text(SETTINGS)
    about = ["--config", "s.yaml", "--set", f"search.objective={objective}"]
    storage = ["--storage", "sqlite:///study.db"]
    assert command_line.main(["study", *about, *storage]) == 2
    assert "run prepare first" in capsys.readouterr().err
    assert command_line.main(["run", *about]) == 0
    assert command_line.main(["study", *about, *storage]) == 0
    assert "6 trials are the study 'studied'" in capsys.readouterr().out

    study = optuna.load_study(study_name="studied", storage="sqlite:///study.db")
    client = MlflowClient()
    experiment = client.get_experiment_by_name("studied").experiment_id
    runs = client.search_runs([experiment], "tags.`pipeline.stage` = 'trial'")
    by_id = {run.info.run_id: run for run in runs}
    assert {trial.user_attrs["run_id"] for trial in study.trials} == set(by_id)
    assert study.direction.name == ("MAXIMIZE" if objective == "val_accuracy" else "MINIMIZE")
    for trial in study.trials:
        run = by_id[trial.user_attrs["run_id"]].data
        assert trial.state.name == run.tags["trial.state"]
        assert trial.params["optimizer"] == run.params["optimizer"]
        assert trial.value == run.metrics.get(objective.removeprefix("val_"))
        assert len(trial.intermediate_values) == (4 if trial.value is not None else 0)
    values = [run.metrics[objective.removeprefix("val_")] for run in
              (r.data for r in runs) if run.tags["trial.state"] == "COMPLETE"]  # fmt: skip
    best = max(values) if objective == "val_accuracy" else min(values)
    assert study.best_value == best

    assert command_line.main(["study", *about, *storage]) == 2
    assert "another by --name" in capsys.readouterr().err
    assert command_line.main(["study", *about, *storage, "--name", "two"]) == 0
    assert command_line.main(["study", *about, "--storage", "nothing://x"]) == 2
