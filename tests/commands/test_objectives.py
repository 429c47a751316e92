"""Each metric as what a search is for, on a real store, read back."""

import json
import math
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

from pipeline import __main__ as command_line
from pipeline.config import check
from pipeline.config.component import METRICS, read
from pipeline.config.measures import metric_name
from pipeline.models.metrics import metric_of
from tests.models.test_metrics import ARGUMENTS, BARE

OWN = """
def cost(probabilities, y):
    return float(((probabilities > 0.5) != (y == 1)).double().mean()) * 3

cost.higher_is_better = False

def of_few(probabilities, y):
    return float("nan") if len(y) > 20 else 0.5

of_few.higher_is_better = True
"""


class Place:
    """A folder with a store and a table of two or three labels."""

    def __init__(self, folder: Path) -> None:
        self.client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
        draw = np.random.default_rng(0)
        x, noise = draw.normal(size=(120, 2)), draw.normal(size=120)
        for labels in (2, 3):
            y = np.digitize(x[:, 0] + noise, np.linspace(-1, 1, labels + 1)[1:-1])
            rows = [f"{a:.3f},{b:.3f},c{k}" for (a, b), k in zip(x, y, strict=True)]
            (folder / f"{labels}.csv").write_text("\n".join(["a,b,y", *rows]) + "\n")
        (folder / "own.py").write_text(OWN)

    def run(self, labels: int, *metrics: Any, **sections: Any) -> int:
        settings: dict[str, Any] = {
            "experiment": "objectives",
            "data": {"source": f"{labels}.csv", "target": "y"},
            "validation": {"folds": 2, "final": None},
            "model": {"hidden": [3]},
            "training": {"epochs": 3},
            "optimizers": [{"name": "Adam", "lr": {"low": 1e-3, "high": 1.0, "log": True}}],
            "tracking": {"keep_models": "none"},
            "metrics": list(metrics),
            **sections,
        }
        self.config = settings
        Path("it.yaml").write_text(yaml.safe_dump(settings))
        return command_line.main(["run", "--config", "it.yaml", "--fresh"])

    def runs(self, stage: str) -> list[Run]:
        """Of the latest search."""
        found = self.client.get_experiment_by_name("objectives")
        condition = f"tags.`pipeline.stage` = '{stage}'"
        runs = list(self.client.search_runs([found.experiment_id], condition))
        return [r for r in runs if r.data.tags.get("mlflow.parentRunId") == self.latest.info.run_id]

    @property
    def latest(self) -> Run:
        found = self.client.get_experiment_by_name("objectives")
        condition = "tags.`pipeline.stage` = 'train'"
        return self.client.search_runs([found.experiment_id], condition)[0]

    def values(self, run: Run, name: str) -> list[float]:
        history = self.client.get_metric_history(run.info.run_id, name)
        return [point.value for point in sorted(history, key=lambda point: point.step)]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    return Place(tmp_path)


def searched(place: Place, labels: int, entry: dict[str, Any], **sections: Any) -> None:
    """Search for the best value of a metric: the best trial has it, and nothing is NaN."""
    name = metric_name(read(METRICS, entry))
    search = {"trials": 2, "objective": f"val_{name}", "sampler": "random"}
    assert place.run(labels, entry, search=search, **sections) == 0
    metric = metric_of(check(place.config))
    trials = place.runs("trial")
    values = {run.data.tags["trial.number"]: run.data.metrics[name] for run in trials}
    best = values[place.latest.data.tags["best.trial"]]
    assert best == place.latest.data.metrics[f"best_{name}"]
    assert best == (max if metric.greater_is_better else min)(values.values())
    for run in trials:
        assert len(place.values(run, f"val_{name}")) == 3
        folds = place.values(run, f"fold_{name}")
        assert run.data.metrics[name] == pytest.approx(np.mean(folds))
        assert run.data.metrics[f"{name}_std"] == pytest.approx(np.std(folds, ddof=1))
    finished = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert all(math.isfinite(v) for run in finished for v in run.data.metrics.values())
    tested = next(r for r in finished if r.data.tags.get("pipeline.stage") == "evaluate")
    low, value, high = (tested.data.metrics[f"test_{name}{e}"] for e in ("_low", "", "_high"))
    assert low <= value <= high or math.isclose(low, high)


@pytest.mark.parametrize("labels", [2, 3])
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in ("EER",) else pytest.mark.slow) for n in BARE]
)
def test_a_search_is_for_any_metric(place: Place, name: str, labels: int) -> None:
    label = {"label": "mine"} if name == "Accuracy" else {}
    searched(place, labels, {"name": name, **ARGUMENTS.get(name, {}), **label})


def test_a_search_for_somebodys_own_metric(place: Place) -> None:
    """With a final round, a pruner, a threshold chosen for it and a model that is registered."""
    searched(
        place,
        2,
        {"name": "own.py:cost"},
        validation={"folds": 2, "final": {"folds": 2, "repeats": 2}},
        registry={"threshold": "cost"},
        tracking={"keep_models": "all"},
        optimizers=[{"name": "Adam", "lr": 0.01}, {"name": "SGD", "lr": 0.1}],
    )
    evidence = json.loads(
        mlflow.artifacts.load_text(f"{place.latest.info.artifact_uri}/evidence.json")
    )
    best, other = evidence["finalists"]
    assert evidence["objective"] == "val_cost"
    assert np.mean(best["scores"]["cost"]) <= np.mean(other["scores"]["cost"])
    np.testing.assert_allclose(
        best["scores"]["cost"], 3 * (1 - np.array(best["scores"]["accuracy"])), atol=1e-9
    )
    (version,) = place.client.search_model_versions()
    assert float(version.tags["test_cost"]) >= 0
    assert "test_accuracy" in version.tags


@pytest.mark.slow
def test_further_metrics_are_measured_at_the_kept_epoch(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = ["AUROC", {"name": "Accuracy", "label": "again"}, {"name": "own.py:of_few"}]
    assert place.run(2, *entries[:2], search={"trials": 2}) == 0
    for run in place.runs("trial"):
        assert run.data.metrics["again"] == pytest.approx(run.data.metrics["accuracy"], abs=1e-6)
        assert run.data.metrics["again_std"] == pytest.approx(
            run.data.metrics["accuracy_std"], abs=1e-6
        )
        assert 0 < run.data.metrics["auroc"] < 1
        assert "val_auroc" not in run.data.metrics
    # One that is no number on validation rows is left out; as the objective it fails the trial.
    assert place.run(2, entries[2], search={"trials": 2}) == 0
    assert all("of_few" not in run.data.metrics for run in place.runs("trial"))
    assert place.run(2, entries[2], search={"trials": 2, "objective": "val_of_few"}) == 2
    assert "of_few is no finite number on these rows" in capsys.readouterr().err


def test_what_cannot_be_measured_is_said_before_a_run(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = [{"name": "F1Score", "average": "micro"}, "own.py:costs", {"name": "FBetaScore"}]
    assert place.run(2, *metrics) == 2
    assert "own.py has no 'costs'; did you mean 'cost'?" in capsys.readouterr().err
    assert place.run(2, *metrics[::2]) == 2
    problems = capsys.readouterr().err
    assert "metrics.0: F1Score cannot score" in problems
    assert "metrics.1: FBetaScore cannot score" in problems
    chosen: dict[str, Any] = {"registry": {"threshold": "eer"}, "validation": {"folds": 2}}
    assert place.run(2, "MatthewsCorrCoef", "EER", **chosen) == 2
    assert "depends on predicted labels alone, and eer does not" in capsys.readouterr().err
    assert place.client.get_experiment_by_name("objectives") is None
