"""Curves written in one statement are those that MLflow's own calls write."""

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.store.tracking.dbmodels import models

from pipeline.tracking import bulk
from pipeline.tracking.bulk import BulkMetrics

CURVES = [
    Metric(name, value / (step + 1), 1_700_000_000_000 + step, step)
    for name, value in (("val_loss", 0.7), ("val_accuracy", 0.3))
    for step in range(1, 40)
]


@pytest.fixture
def client(tmp_path: Path, new_store: Callable[[Path], str]) -> MlflowClient:
    return MlflowClient(new_store(tmp_path))


def new_run(client: MlflowClient) -> str:
    return str(client.create_run("0").info.run_id)


def rows(client: MlflowClient, run_id: str) -> list[list[tuple[object, ...]]]:
    """A run's rows in the two tables of metrics."""
    path = client.tracking_uri.removeprefix("sqlite:///")
    columns = "key, value, timestamp, step, is_nan"
    with sqlite3.connect(path) as connection:
        return [
            sorted(
                connection.execute(f"SELECT {columns} FROM {table} WHERE run_uuid = ?", [run_id])
            )
            for table in ("metrics", "latest_metrics")
        ]


def test_the_rows_are_those_of_log_batch(client: MlflowClient) -> None:
    by_calls, at_once = new_run(client), new_run(client)
    client.log_batch(by_calls, CURVES)
    writer = BulkMetrics(client)
    writer.write(at_once, CURVES)
    assert writer._is_proven
    assert rows(client, at_once) == rows(client, by_calls)
    assert client.get_run(at_once).data.metrics == client.get_run(by_calls).data.metrics


@settings(max_examples=20)
@given(values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=30))
def test_any_finite_value_is_read_back(
    values: list[float], tmp_path_factory: pytest.TempPathFactory, empty_store: Path
) -> None:
    store = tmp_path_factory.getbasetemp() / "any-value.db"
    if not store.exists():
        shutil.copy(empty_store, store)
    client = MlflowClient(f"sqlite:///{store}")
    run_id = new_run(client)
    BulkMetrics(client).write(run_id, [Metric("a", v, 1, i) for i, v in enumerate(values)])
    assert [m.value for m in client.get_metric_history(run_id, "a")] == values
    assert client.get_run(run_id).data.metrics == {"a": values[-1]}


def test_it_joins_what_the_run_has_already(client: MlflowClient) -> None:
    run_id = new_run(client)
    client.log_metric(run_id, "loss", 0.5)
    BulkMetrics(client).write(run_id, CURVES)
    metrics = client.get_run(run_id).data.metrics
    assert metrics["loss"] == 0.5
    assert metrics["val_loss"] == CURVES[38].value


def test_tables_that_are_not_known_are_left_to_mlflow(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = [*models.SqlMetric.__table__.columns, SimpleNamespace(name="unit")]
    monkeypatch.setattr(
        models, "SqlMetric", SimpleNamespace(__table__=SimpleNamespace(columns=columns))
    )
    writer, run_id = BulkMetrics(client), new_run(client)
    assert writer._tables is None
    writer.write(run_id, CURVES)
    assert [m.value for m in client.get_metric_history(run_id, "val_loss")] == [
        m.value for m in CURVES[:39]
    ]


def test_what_reads_back_otherwise_is_written_by_mlflow(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that keeps steps another way: the first run shows it, and none is spoilt."""
    exact = bulk._row
    monkeypatch.setattr(bulk, "_row", lambda *a: exact(*a) | {"step": exact(*a)["step"] - 1})
    writer, first, second = BulkMetrics(client), new_run(client), new_run(client)
    writer.write(first, CURVES[:39])
    assert writer._tables is None
    writer.write(second, CURVES[:39])
    found = client.get_metric_history(second, "val_loss")
    assert [(m.value, m.step) for m in found] == [(m.value, m.step) for m in CURVES[:39]]
    assert client.get_run(first).data.metrics == {"val_loss": CURVES[38].value}


def test_a_store_that_is_no_database_gets_calls() -> None:
    assert BulkMetrics(MlflowClient("http://127.0.0.1:9"))._tables is None
