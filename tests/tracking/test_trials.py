"""Trials, logged and read back."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient

from pipeline.tracking.registry import register
from pipeline.tracking.store import Store
from pipeline.tracking.trials import (
    MOST_EPOCHS,
    TrialLog,
    curve_of,
    decode_param,
    encode_param,
    trials_of,
    with_history,
)
from pipeline.tracking.versions import local_path
from pipeline.training.outcomes import Fit
from pipeline.training.trial import CURVES
from tests.tracking.conftest import DATA
from tests.tracking.made import make_trial

ROOT = Path(__file__).parents[2]


def test_complete_trial(log: TrialLog, client: MlflowClient) -> None:
    trial = make_trial(number=7, params={"optimizers.3.lr": 0.0032, "model.dropout": 0.1})
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
    assert run.data.metrics["loss_std"] == 0.02
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
    logged = log.log_trial(make_trial(number=7), {"text": "hello"})
    assert logged.model_id
    model = client.get_logged_model(logged.model_id)
    assert model.name == "07 Adam lr=0·0032"
    assert model.status == "READY"
    assert model.source_run_id == logged.run_id
    assert model.experiment_id == log.store.experiment_id
    assert model.params == {"optimizer": "Adam", "lr": "0.0032"}
    scores = {m.key: m for m in model.metrics}
    assert scores.keys() == {"loss", "accuracy", "loss_std", "accuracy_std", "best_epoch"}
    assert scores["accuracy"].value == 0.7
    assert scores["accuracy"].dataset_name == DATA.name
    assert scores["accuracy"].dataset_digest == DATA.short_digest
    run = client.get_run(logged.run_id)
    (output,) = run.outputs.model_outputs
    assert output.model_id == logged.model_id
    assert output.step == 0
    assert model.last_updated_timestamp >= model.creation_timestamp
    for uri in (f"models:/{logged.model_id}", f"runs:/{logged.run_id}/{model.name}"):
        loaded = mlflow.pyfunc.load_model(uri)
        assert loaded.predict(pd.DataFrame({"x": [1, 2]})) == ["hello", "hello"]
    assert loaded.metadata.run_id == logged.run_id
    assert loaded.metadata.model_id == logged.model_id


def test_data_set_of_each_trial(log: TrialLog, client: MlflowClient) -> None:
    for number in range(3):
        logged = log.log_trial(make_trial(number=number), {"text": ""})
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
    monkeypatch.setattr("pipeline.tracking.registry.local_path", lambda _: None)
    logged = log.log_trial(make_trial(), {"text": "hello"})
    folder = Path(local_path(client.get_logged_model(logged.model_id).artifact_location) or "")
    assert sorted(p.name for p in folder.iterdir()) == ["MLmodel", "code", "text"]


def test_pruned_and_failed_trials(log: TrialLog, client: MlflowClient) -> None:
    nan = {"train_loss": np.array([0.5, np.nan]), "val_loss": np.array([np.inf, 0.4])}
    pruned = log.log_trial(make_trial(number=1, state="PRUNED"), None)
    failed = log.log_trial(
        make_trial(number=2, state="FAIL", reason="loss is nan in epoch 2", curves=nan, lr=10.0),
        None,
    )
    run = client.get_run(pruned.run_id)
    assert run.info.status == "KILLED"
    assert run.data.tags["trial.state"] == "PRUNED"
    assert run.data.metrics.keys() == {*CURVES, "folds_running"}
    run = client.get_run(failed.run_id)
    assert run.info.status == "FAILED"
    assert run.info.run_name == "#02 Adam lr=10"
    assert run.data.tags["trial.state"] == "FAIL"
    assert run.data.tags["trial.reason"] == "loss is nan in epoch 2"
    assert run.data.metrics == {"train_loss": 0.5, "val_loss": 0.4}
    assert client.search_logged_models([log.store.experiment_id]) == []
    curves = {name: curve_of(log.store, failed.run_id, name) for name in CURVES}
    np.testing.assert_array_equal(curves["train_loss"], [0.5])
    np.testing.assert_array_equal(curves["val_loss"], [np.nan, 0.4])
    assert curves["val_accuracy"].size == 0


def test_as_many_epochs_as_a_chart_shows_are_all_there(log: TrialLog) -> None:
    curves = {name: np.random.default_rng(0).random(MOST_EPOCHS) for name in CURVES}
    logged = log.log_trial(make_trial(curves=curves), None)
    for name in CURVES:
        curve = curve_of(log.store, logged.run_id, name)
        np.testing.assert_array_equal(curve, curves[name])


def test_longer_curves_are_thinned_evenly_but_for_the_epochs_that_matter(log: TrialLog) -> None:
    """Best epochs, those at which trials are judged and the last are always there."""
    epochs, best, judged = 3000, (1234, 777), (1001, 1002)
    curves = {name: np.random.default_rng(0).random(epochs) for name in CURVES}
    fits = tuple(Fit(curves, {}, epoch, "complete", None, torch.zeros(1)) for epoch in best)
    logged = replace(log, judged=judged).log_trial(make_trial(curves=curves, fits=fits), None)
    for name in CURVES:
        curve = curve_of(log.store, logged.run_id, name)
        steps = np.flatnonzero(np.isfinite(curve)) + 1
        np.testing.assert_array_equal(curve[steps - 1], curves[name][steps - 1])
        assert {1, epochs, *best, *judged} <= {*steps.tolist()}
        assert MOST_EPOCHS <= len(steps) <= MOST_EPOCHS + 4
        assert np.diff(steps).max() <= epochs / MOST_EPOCHS + 1


def test_how_many_folds_run_is_read_back_whole(log: TrialLog) -> None:
    running = np.repeat([5.0, 4.0, 1.0], [700, 1, 299])
    curves = {"val_loss": np.zeros(1000), "folds_running": running}
    logged = log.log_trial(make_trial(curves=curves), None)
    history = log.store.client.get_metric_history(logged.run_id, "folds_running")
    assert [(point.step, point.value) for point in history] == [
        (1, 5), (700, 5), (701, 4), (702, 1), (1000, 1),
    ]  # fmt: skip
    (read,) = trials_of(log.store, log.train.run_id)
    assert with_history(log.store, read).curves["folds_running"].tolist() == running.tolist()


def test_many_parameters(log: TrialLog, client: MlflowClient) -> None:
    params = {f"model.{i}": i / 7 for i in range(230)}
    logged = log.log_trial(make_trial(params=params), {"text": ""})
    (read,) = trials_of(log.store, log.train.run_id)
    assert read.params == params
    assert client.get_run(logged.run_id).data.metrics["accuracy"] == 0.7


def test_a_trial_that_cannot_be_written(log: TrialLog, client: MlflowClient) -> None:
    with pytest.raises(TypeError, match="wrong"):
        log.log_trial(make_trial(number=3), {"wrong": "argument"})
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
    log.log_trial(make_trial(number=1, state="PRUNED", params={}, lr=0.5), None)
    first = log.log_trial(make_trial(number=0, params=params, lr=1e-5 / 3), {"text": ""})
    log.log_trial(make_trial(number=2, state="FAIL", reason="nan"), None)
    complete, pruned, failed = trials_of(log.store, log.train.run_id)
    assert complete.params == {**params, "training.batch_size": 64}
    assert complete.lr == 1e-5 / 3
    assert complete.optimizer == "Adam"
    assert complete.model_id == first.model_id
    assert complete.scores == {"loss": 0.6, "accuracy": 0.7}
    assert complete.deviations == {"loss": 0.02, "accuracy": 0.01}
    assert complete.is_complete
    assert complete.best_epoch == 4.2
    assert complete.seconds == 2.0
    assert (pruned.state, pruned.params, pruned.scores) == ("PRUNED", {}, {})
    assert (failed.state, failed.reason, failed.model_id) == ("FAIL", "nan", None)


def test_searches_past_one_page(
    log: TrialLog, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.tracking.store.PAGE", 2)
    for number in range(5):
        log.log_trial(make_trial(number=number, state="PRUNED", curves={}), None)
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
    logged = log.log_trial(make_trial(), {"text": ""})
    assert logged.model_id
    for _ in range(2):
        register(store, logged.model_id, name, description="d", alias="champion")
    assert capfd.readouterr() == ("", "")
