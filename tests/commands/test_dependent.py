"""Tables whose rows hang together, from the command line to the registered model."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

import pipeline

QUICK: dict[str, Any] = {
    "experiment": "dependent",
    "model": {"hidden": [8]},
    "training": {"epochs": 8},
    "search": {"trials": 4},
    "optimizers": [{"name": "Adam", "lr": {"low": 1e-3, "high": 1e-1, "log": True}}],
}


@pytest.fixture
def client(
    tmp_path: Path, new_store: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> MlflowClient:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path))
    return MlflowClient(mlflow.get_tracking_uri())


def patients(groups: int = 120) -> pd.DataFrame:
    """Five rows each, of which a patient's values hardly differ; labels are coins by patient."""
    draw = np.random.default_rng(0)
    place = np.repeat(np.arange(groups), 5)
    x = draw.normal(size=(groups, 3))[place] + 0.05 * draw.normal(size=(len(place), 3))
    frame = pd.DataFrame(x, columns=["a", "b", "c"])
    return frame.assign(patient=place, ill=draw.integers(2, size=groups)[place])


def run_of(client: MlflowClient, stage: str) -> Any:
    experiment = client.get_experiment_by_name("dependent")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id], f"tags.`pipeline.stage` = '{stage}'")
    return run


def test_groups_from_the_table_to_the_model(client: MlflowClient) -> None:
    config = QUICK | {
        "data": {"target": "ill", "drop": ["patient"]},
        "validation": {"groups": "patient", "final": {"folds": 3, "repeats": 2}},
    }
    result = pipeline.run(config, data=patients())
    metrics = run_of(client, "evaluate").data.metrics
    assert run_of(client, "prepare").data.metrics["groups_test"] == 30
    # Of 150 rows: with 30 patients the interval is about as wide as that of 30 rows.
    width = metrics["test_accuracy_high"] - metrics["test_accuracy_low"]
    assert 0.25 < width < 0.45
    assert metrics["test_accuracy_low"] < 0.5 < metrics["test_accuracy_high"]
    assert "of 30 groups" in " ".join(result.answer)
    assert "counts groups (patient) and not rows" in " ".join(result.answer)
    assert list(result.model.predict(patients().head()).columns) == ["prediction", "probability"]
    again = pipeline.run(config, data=patients())
    assert (again.run_id, again.answer) == (result.run_id, result.answer)


def test_an_order_from_the_table_to_the_model(client: MlflowClient) -> None:
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(draw.normal(size=(600, 3)), columns=["a", "b", "c"])
    frame["day"] = pd.Timestamp("2024-03-01") + pd.to_timedelta(np.arange(600) // 3, unit="D")
    frame["y"] = (frame["a"] > 0).astype(int)
    config = QUICK | {
        "data": {"target": "y"},
        "validation": {"order": "day", "final": {"folds": 4, "repeats": 3}},
    }
    result = pipeline.run(config, data=frame.sample(frac=1, random_state=0))
    ahead = "over 12 new trainings, each scored on rows that came after those it trained on"
    assert ahead in result.answer[0]
    assert any("On the latest 150 test rows" in sentence for sentence in result.answer)
    folder = client.download_artifacts(run_of(client, "train").info.run_id, "evidence.json")
    evidence = json.loads(Path(folder).read_text())
    assert (evidence["is_forward"], evidence["folds"], evidence["repeats"]) == (True, 4, 3)
    expected = np.mean([56.25 / (225 + 56.25 * fold) for fold in range(4)])
    assert evidence["overlap"] == pytest.approx(expected, rel=0.05)
    assert evidence["ageing"]["error"] >= 0
    # The model is the networks that were trained on the most recent rows, one of each repeat.
    model = mlflow.pytorch.load_model(result.model_uri)
    assert {buffer.shape[0] for name, buffer in model.named_buffers() if "mean" in name} == {3}


def years(sizes: Sequence[int]) -> pd.DataFrame:
    """So many rows of each year."""
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(draw.normal(size=(sum(sizes), 2)), columns=["a", "b"])
    frame["year"] = np.repeat(2000 + np.arange(len(sizes)), sizes)
    return frame.assign(y=(frame["a"] > 0).astype(int))


BY_YEAR: dict[str, Any] = QUICK | {"data": {"target": "y"}, "search": {"trials": 1}}


@pytest.mark.parametrize(
    ("sizes", "folds", "is_known"),
    [
        # The last fold, on which the first one's networks are asked, is of one year.
        ([30, 30, 30, 30, 30, 30, 150], 5, True),
        # There are so few years that there is one pair of folds.
        ([30, 30, 30, 90], 2, False),
    ],
)
def test_years_are_few_moments(
    client: MlflowClient, sizes: list[int], folds: int, is_known: bool
) -> None:
    result = pipeline.run(
        BY_YEAR | {"validation": {"order": "year", "folds": folds, "final": {"repeats": 1}}},
        data=years(sizes),
    )
    folder = client.download_artifacts(run_of(client, "train").info.run_id, "evidence.json")
    evidence = json.loads(Path(folder).read_text())
    assert evidence["folds"] == folds
    assert (evidence["ageing"] is not None) is is_known
    said = ", also for a period as long that comes after" in " ".join(result.answer)
    assert said is is_known


def test_a_final_round_that_cannot_be_is_refused_before_the_search(client: MlflowClient) -> None:
    """The search's only fold trains on most years, the final round's first one on half of them."""
    frame = years([30] * 8)
    frame.loc[frame["year"] < 2004, "y"] = 0
    config = BY_YEAR | {"validation": {"order": "year", "folds": 1}}
    with pytest.raises(pipeline.UserError, match=r"validation\.final: every label must have rows"):
        pipeline.run(config, data=frame)
    assert client.get_experiment_by_name("dependent") is None


@pytest.mark.slow
def test_single_network_and_hold_out_of_dependent_rows(client: MlflowClient) -> None:
    for key in ("groups", "order"):
        validation = {key: "patient", "folds": 1, "final": {"folds": 2, "repeats": 1}}
        config = QUICK | {"data": {"target": "ill"}, "validation": validation}
        result = pipeline.run(config | {"registry": {"model": "single"}}, data=patients(60))
        assert 0 <= result.test_accuracy <= 1
