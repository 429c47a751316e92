"""`pipeline.run` on real stores: what it returns, and that it leaves everything else as it was."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import optuna
import pandas as pd
import polars
import pyarrow as pa
import pytest
import torch
import yaml
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sklearn.datasets import load_breast_cancer, load_wine

import pipeline
from pipeline import __main__ as command_line
from pipeline.training.trainer import Trainer

CONFIG: dict[str, Any] = {
    "experiment": "cells",
    "data": {"source": "sklearn:breast_cancer", "target": "target", "positive": "malignant"},
    "validation": {"folds": 2, "final": {"folds": 2, "repeats": 1}},
    "model": {"hidden": [4], "dropout": {"choice": [0.0, 0.2]}},
    "training": {"epochs": 3},
    "optimizers": [
        {"name": "Adam", "lr": {"low": 1e-3, "high": 1e-1, "log": True}},
        {"name": "SGD", "lr": {"low": 1e-2, "high": 1.0, "log": True}, "momentum": 0.9},
        {"name": "SGD", "lr": 1e30, "label": "too fast"},
    ],
    "search": {"trials": 6},
}


@pytest.fixture
def store(
    tmp_path: Path, new_store: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> MlflowClient:
    """A store of its own, and a working folder beside it."""
    uri = new_store(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return MlflowClient(uri)


def statuses(client: MlflowClient) -> list[tuple[str, str]]:
    """The stage and the status of every run of the store."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments)
    return [(run.data.tags.get("pipeline.stage", ""), run.info.status) for run in runs]


def table() -> pd.DataFrame:
    return load_breast_cancer(as_frame=True).frame


def test_what_comes_out_is_what_the_store_holds(
    store: MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    result = pipeline.run(CONFIG)
    run = store.get_run(result.run_id)
    assert run.data.tags["pipeline.stage"] == "pipeline"
    assert result.test_accuracy == run.data.metrics["test_accuracy"]
    kinds = [type(value) for value in (result.test_accuracy, result.winner_is_clear, result.winner)]
    assert kinds == [float, bool, str]
    (train,) = (
        run
        for run in store.search_runs([run.info.experiment_id])
        if run.data.tags["pipeline.stage"] == "train"
    )
    assert result.winner == train.data.tags["optimizer.winner"]
    assert str(result.winner_is_clear).lower() == train.data.tags["optimizer.winner_is_clear"]

    trials = result.trials
    assert list(trials.columns) == [
        *("number", "optimizer", "lr", "model.dropout", "state", "accuracy", "loss"),
        *("accuracy_std", "loss_std", "best_epoch", "seconds", "run_id"),
    ]
    assert list(trials.number) == list(range(6))
    assert set(trials.optimizer) == {"Adam", "SGD", "too fast"}
    for row in trials.itertuples():
        logged = store.get_run(row.run_id).data
        assert (row.optimizer, row.lr) == (logged.params["optimizer"], float(logged.params["lr"]))
        assert row.state == logged.tags["trial.state"]
        assert (row.state == "FAIL") == (row.optimizer == "too fast")
        for name in ("accuracy", "loss", "accuracy_std", "loss_std", "best_epoch"):
            score = getattr(row, name)
            assert logged.metrics.get(name) == (None if np.isnan(score) else score)

    rows = table().drop(columns="target")
    expected = mlflow.pyfunc.load_model("models:/cells@champion").predict(rows)
    pd.testing.assert_frame_equal(result.model.predict(rows), expected)
    assert result.model is result.model
    assert result.model_uri == "models:/cells/1"

    # The command line says the same of the same search, and Python again.
    Path("cells.yaml").write_text(yaml.safe_dump(CONFIG))
    capsys.readouterr()
    assert command_line.main(["run", "--config", "cells.yaml"]) == 0
    said = capsys.readouterr().out
    assert "Nothing to do" in said
    assert "\n".join(result.answer) in said
    again = pipeline.run("cells.yaml")
    assert "Nothing to do" not in capsys.readouterr().out
    assert (again.run_id, again.answer, repr(again)) == (result.run_id, result.answer, repr(result))
    pd.testing.assert_frame_equal(again.trials, trials)
    assert again.test_accuracy == result.test_accuracy
    assert again.model_uri == result.model_uri

    more = pipeline.run(Path("cells.yaml"), {"search.trials": 8, "training": CONFIG["training"]})
    assert more.run_id == result.run_id
    pd.testing.assert_frame_equal(more.trials.head(6), trials)
    assert pipeline.run(CONFIG, {"search.trials": np.int64(8)}, fresh=True).run_id != more.run_id
    assert {status for stage, status in statuses(store) if stage != "trial"} == {"FINISHED"}


def frames() -> dict[str, Any]:
    frame = table()
    return {
        "pandas": frame.set_index(np.arange(len(frame)) * 2),
        "arrow": pa.Table.from_pandas(frame),
        "polars": polars.from_pandas(frame),
    }


def test_data_frames(store: MlflowClient) -> None:
    data = {"target": "target", "source": "no.csv", "sha256": "0" * 64}
    config = {"experiment": "frames", "data": data, "search": {"trials": 2}}
    overrides = {"training.epochs": 2, "model.hidden": (4,), "validation": CONFIG["validation"]}
    results = [pipeline.run(config, overrides, data=frame) for frame in frames().values()]
    assert len({result.run_id for result in results}) == 1, "the same rows are the same search"
    (named,) = {
        each.dataset.source_type + each.dataset.source + each.dataset.name
        for run in store.search_runs([store.get_experiment_by_name("frames").experiment_id])
        for each in run.inputs.dataset_inputs
        if each.dataset.name.endswith("train")
    }
    assert "handed over in Python" in named
    assert "a data frame-train" in named
    settings = yaml.safe_load(
        Path(store.download_artifacts(results[0].run_id, "config.yaml")).read_text()
    )
    assert settings["data"]["source"] == "a data frame"
    assert "pipeline.run({" in Path(
        store.download_artifacts(results[0].run_id, "report.json")
    ).read_text(encoding="utf-8")
    assert pipeline.run(config, overrides, data=table().iloc[1:]).run_id != results[0].run_id


@pytest.mark.parametrize(
    ("config", "overrides", "data", "words"),
    [
        ({"data": {"target": "y"}}, None, None, ["data.source: must be given"]),
        (
            {"data": {"source": "x.csv", "target": "y"}, "serch": {}},
            {"training.epochs": -1, "model.hidden.0.x": 1},
            None,
            [
                "training.epochs: must be",
                "serch: unknown key; did you mean 'search'?",
                "model.hidden",
            ],
        ),
        ({"data": {"source": "x.csv", "target": object()}}, None, None, ["data.target: must be"]),
        ("no.yaml", None, None, ["no.yaml: no such file"]),
        (3, None, None, ["config: must be a path or a mapping; got int"]),
        ({}, ["a=1"], None, ["overrides: must be a mapping of dotted paths"]),
        ({"data": {"target": "y"}}, None, 3, ["data: must be a data frame"]),
        (
            {"data": {"target": "y"}},
            None,
            pd.DataFrame({"x": ["a", 1], "y": [0, 1]}),
            ["label 0 has 1", "label 1 has 1"],
        ),
        ({"data": {"target": "z"}}, None, pd.DataFrame({"y": [0, 1]}), ["a data frame: ", "'z'"]),
    ],
)
def test_wrong_input(
    config: Any, overrides: Any, data: Any, words: list[str], store: MlflowClient
) -> None:
    with pytest.raises(pipeline.UserError) as caught:
        pipeline.run(config, overrides, data=data)
    assert isinstance(caught.value.problems, tuple)
    for each in words:
        assert each in str(caught.value)
    assert statuses(store) == []


def test_a_store_that_is_away(store: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(MlflowException, match=r"127\.0\.0\.1"):
        pipeline.run(CONFIG)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite://")
    with pytest.raises(pipeline.UserError, match="must name a file"):
        pipeline.run(CONFIG)


NONE = {"tracking.keep_models": "none"}


@pytest.mark.parametrize(
    "final", [CONFIG["validation"]["final"], pytest.param(None, marks=pytest.mark.slow)]
)
def test_no_models(final: dict[str, int] | None, store: MlflowClient) -> None:
    """Against the same search with its models, which scores the exported program."""
    config = CONFIG | {"validation": {"folds": 2, "final": final}}
    kept = pipeline.run(config)
    result = pipeline.run(config, {**NONE, "experiment": "none"})
    assert (result.model, result.model_uri) == (None, "")
    assert result.answer[:-1] == kept.answer[:-1]
    assert result.answer[-1] == "No model was kept: tracking.keep_models is none."
    metrics, expected = (store.get_run(r.run_id).data.metrics for r in (result, kept))
    for name in ("test_accuracy", "test_loss", "test_auroc"):
        assert metrics[name] == pytest.approx(expected[name], abs=1e-6)
    run = store.get_run(result.run_id)
    assert store.search_logged_models([run.info.experiment_id]) == []
    for each in store.search_runs([run.info.experiment_id]):
        assert each.outputs is None or not each.outputs.model_outputs
        said = each.data.tags["mlflow.note.content"]
        if each.data.tags["pipeline.stage"] in ("pipeline", "evaluate"):
            assert "No model was kept" in said
        assert "load_model" not in said
    for file in ("summary.json", "report.html"):
        text = Path(store.download_artifacts(result.run_id, file)).read_text(encoding="utf-8")
        assert "No model was kept" in text
    again = pipeline.run(config, {**NONE, "experiment": "none"})
    assert (again.run_id, again.answer) == (result.run_id, result.answer)
    (registered,) = store.search_registered_models()
    assert registered.name == "cells"


@pytest.mark.slow
def test_a_model_after_all(store: MlflowClient, capsys: pytest.CaptureFixture[str]) -> None:
    """From a final round that is made again; and rid of again."""
    Path("cells.yaml").write_text(yaml.safe_dump(CONFIG))
    assert pipeline.run(CONFIG, NONE).model_uri == ""
    command = ["--config", "cells.yaml", "--set"]
    capsys.readouterr()
    assert command_line.main(["evaluate", *command, "tracking.keep_models=none"]) == 0
    said = capsys.readouterr().out
    assert "No model was kept" in said
    assert "Load the model" not in said
    assert command_line.main(["evaluate", *command, "tracking.keep_models=all"]) == 2
    assert "run train first" in capsys.readouterr().err
    late = pipeline.run(CONFIG)
    assert late.model_uri == "models:/cells/1"
    assert len(late.model.predict(table().head(3))) == 3
    assert pipeline.run(CONFIG, NONE).model_uri == late.model_uri

    alone = {"experiment": "alone", "validation.final": None}
    assert pipeline.run(CONFIG, {**NONE, **alone}).model_uri == ""
    with pytest.raises(pipeline.UserError, match="kept no models"):
        pipeline.run(CONFIG, alone)

    # What is registered stays, the trials' models of a search that kept them go.
    assert pipeline.run(CONFIG, fresh=True).model_uri == "models:/cells/2"
    experiment_id = store.get_experiment_by_name("cells").experiment_id
    assert len(store.search_logged_models([experiment_id])) > 2
    assert command_line.main(["gc", *command, "tracking.keep_models=none"]) == 0
    left = {f"models:/{m.model_id}" for m in store.search_logged_models([experiment_id])}
    assert left == {version.source for version in store.search_model_versions()}


def process_state() -> dict[str, Any]:
    names = [None, "mlflow", "alembic", "mlflow.store.db.utils", "optuna", "torch.onnx"]
    return {
        "handlers": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "environment": dict(os.environ),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "torch": (torch.get_default_dtype(), torch.is_grad_enabled(), torch.initial_seed()),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "levels": [logging.getLogger(name).level for name in names],
        "handled": [logging.getLogger(name).handlers[:] for name in names],
        "filters": warnings.filters[:],
        "numpy": (np.random.get_state()[1].tolist(), np.geterr()),  # noqa: NPY002
        "store": (mlflow.get_tracking_uri(), mlflow.get_registry_uri()),
        "streams": (sys.stdout, sys.stderr),
        "folder": os.getcwd(),
        "optuna": optuna.logging.get_verbosity(),
    }


SMALL = {"search.trials": 2, "training.epochs": 1}


def test_nothing_else_changes(store: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an active run of somebody's own, with settings of somebody's own."""
    pipeline.run(CONFIG, SMALL)  # what is imported may have settings of its own
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "9")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    elsewhere = Path("elsewhere")
    elsewhere.mkdir()
    Path("mlflow.db").rename(elsewhere / "mlflow.db")
    mlflow.set_tracking_uri(f"sqlite:///{elsewhere.absolute()}/mlflow.db")
    logging.getLogger("mlflow").setLevel(logging.INFO)
    with mlflow.start_run(experiment_id=mlflow.create_experiment("my own")) as mine:
        monkeypatch.setenv("MLFLOW_RUN_ID", mine.info.run_id)
        before = process_state()
        result = pipeline.run(CONFIG, SMALL, fresh=True)
        with suppress(pipeline.UserError):
            pipeline.run(CONFIG, {"experiment": "x", "optimizers": [CONFIG["optimizers"][2]]})
        assert result.model is not None
        after = process_state()
        assert after == before
        assert mlflow.active_run().info.run_id == mine.info.run_id
        run = mlflow.MlflowClient().get_run(mine.info.run_id)
        assert run.info.status == "RUNNING"
        assert run.data.params == run.data.metrics == {}
        assert not [key for key in run.data.tags if key.startswith("pipeline.")]
        mlflow.log_param("mine", 1)
    assert mlflow.MlflowClient().get_run(result.run_id).data.tags["pipeline.stage"] == "pipeline"
    assert not Path("mlflow.db").exists()


@pytest.mark.slow
def test_two_threads_at_once(store: MlflowClient) -> None:
    results: dict[int, Any] = {}

    def work(seed: int) -> None:
        results[seed] = pipeline.run(CONFIG, {**SMALL, "seed": seed})

    before = process_state()
    threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert process_state() == before
    alone = pipeline.run(CONFIG, {**SMALL, "seed": 1, "experiment": "alone"})
    one, other = (r.trials.drop(columns=["seconds", "run_id"]) for r in (results[1], alone))
    pd.testing.assert_frame_equal(one, other)
    assert results[1].run_id != results[2].run_id


@pytest.mark.slow
def test_interrupted_it_goes_on(store: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    config = CONFIG | {"search": {"trials": 8, "sampler": "random"}}
    train, count = Trainer.train, 0

    def interrupted(*arguments: Any) -> Iterator[Any]:
        nonlocal count
        for trial in train(*arguments):
            count += 1
            if count == 5:
                signal.raise_signal(signal.SIGINT)
            yield trial

    before = process_state()
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pipeline.run(config)
    assert process_state() == before
    ended = statuses(store)
    assert {status for stage, status in ended if stage in ("pipeline", "train")} == {"KILLED"}
    assert "RUNNING" not in {status for _, status in ended}
    result = pipeline.run(config)
    whole = pipeline.run(config, {"experiment": "whole"})
    one, other = (r.trials.drop(columns=["seconds", "run_id"]) for r in (result, whole))
    pd.testing.assert_frame_equal(one, other)
    assert [stage for stage, _ in statuses(store)].count("pipeline") == 2


def test_what_is_shown_is_escaped(store: MlflowClient) -> None:
    frame = load_wine(as_frame=True).frame.assign(target=lambda f: "<b>" + f.target.astype(str))
    optimizers = [{"name": "Adam", "label": "<script>|$x$"}, {"name": "SGD", "lr": 0.1}]
    overrides = {**SMALL, "data": {"target": "target"}, "optimizers": optimizers}
    result = pipeline.run(CONFIG, overrides, data=frame)
    page, plain = result._repr_html_(), repr(result)
    assert "<script>" not in page
    assert "&lt;script&gt;|$x$" in page
    assert "mathjax_ignore" in page
    assert "<script>|$x$" in plain
    for sentence in result.answer[1:3]:
        assert sentence in plain
    assert page.count("<tr>") == 2
    with pytest.raises(AttributeError):
        result.winner = "Adam"  # type: ignore[misc]


def test_importing_it_is_light() -> None:
    heavy = "{'torch', 'mlflow', 'numpy', 'pandas', 'pydantic', 'yaml', 'pyarrow'}"
    code = f"import sys, pipeline; print(pipeline.run, {heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("set()\n"), json.dumps(done.stdout)
