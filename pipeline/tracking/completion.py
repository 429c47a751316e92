"""Completing a run: everything that it still lacks, written at once.

In a SQLite store of a known make, that is one transaction on MLflow's own tables: five times
faster than MLflow's calls, which build an object for each value, and whole or not there at all.
Any other store gets the calls, with the same outcome.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import sqlalchemy as sa
from mlflow import MlflowClient
from mlflow.entities import DatasetInput, LoggedModelOutput, LoggedModelStatus, Metric, Param
from mlflow.store.tracking.dbmodels import models as tables

from pipeline.tracking.runs import Status, now_ms

Row = dict[str, Any]

# What is written: MLflow's table objects by name, and the columns that get a value.
_COLUMNS: Mapping[str, frozenset[str]] = {
    "SqlParam": frozenset({"run_uuid", "key", "value"}),
    "SqlMetric": frozenset({"run_uuid", "key", "value", "timestamp", "step", "is_nan"}),
    "SqlLatestMetric": frozenset({"run_uuid", "key", "value", "timestamp", "step", "is_nan"}),
    "SqlLoggedModelMetric": frozenset(
        {
            "model_id",
            "metric_name",
            "metric_timestamp_ms",
            "metric_step",
            "metric_value",
            "experiment_id",
            "run_id",
            "dataset_name",
            "dataset_digest",
        }
    ),
    "SqlInput": frozenset(
        {"input_uuid", "source_type", "source_id", "destination_type", "destination_id", "step"}
    ),
    "SqlInputTag": frozenset({"input_uuid", "name", "value"}),
}


@dataclass(frozen=True)
class Completion:
    """What a run without params, metrics, inputs and outputs gets, and the status it ends with."""

    run_id: str
    experiment_id: str
    params: Mapping[str, str]
    metrics: Sequence[Metric]
    status: Status
    end: int
    model_id: str | None = None
    data: DatasetInput | None = None


class Completer:
    """Completes runs of one store."""

    def __init__(self, client: MlflowClient) -> None:
        self.client = client
        self._data_sets: dict[tuple[str, str, str], str] = {}

    def complete(self, completion: Completion) -> None:
        """Write it; the run must be new. The model's files must be in place."""
        if self.engine is None:
            self.complete_by_calls(completion)
        else:
            self.complete_by_rows(completion)

    @cached_property
    def engine(self) -> sa.Engine | None:
        """The database, when it is SQLite and MLflow's tables are those that we know."""
        store = getattr(getattr(self.client, "_tracking_client", None), "store", None)
        engine = getattr(store, "engine", None)
        if type(store).__name__ != "SqlAlchemyStore" or not isinstance(engine, sa.Engine):
            return None
        return engine if engine.dialect.name == "sqlite" and _tables_are_known() else None

    def complete_by_calls(self, completion: Completion) -> None:
        """With MLflow's public calls; they part the batch into as many as its limits need."""
        run_id = completion.run_id
        if completion.data:
            self.client.log_inputs(run_id, [completion.data])
        if completion.model_id:
            self.client.log_outputs(run_id, [LoggedModelOutput(completion.model_id, step=0)])
            self.client.finalize_logged_model(completion.model_id, LoggedModelStatus.READY)
        params = [Param(key, value) for key, value in completion.params.items()]
        self.client.log_batch(run_id, completion.metrics, params, synchronous=True)
        self.client.set_terminated(run_id, completion.status, completion.end)

    def complete_by_rows(self, completion: Completion) -> None:
        """In one transaction."""
        assert self.engine is not None
        data_set = self._data_set(completion)
        with self.engine.begin() as connection:
            connection.execute(sa.text("PRAGMA busy_timeout = 20000"))  # as MLflow does
            for name, rows in _rows(completion, data_set).items():
                if rows:
                    connection.execute(sa.insert(getattr(tables, name)), rows)
            if completion.model_id:
                connection.execute(
                    sa.update(tables.SqlLoggedModel)
                    .where(tables.SqlLoggedModel.model_id == completion.model_id)
                    .values(
                        status=LoggedModelStatus.READY.to_int(),
                        last_updated_timestamp_ms=now_ms(),
                    )
                )
            connection.execute(
                sa.update(tables.SqlRun)
                .where(tables.SqlRun.run_uuid == completion.run_id)
                .values(status=completion.status, end_time=completion.end)
            )

    def _data_set(self, completion: Completion) -> str | None:
        """The key of the data set in the store; it is put there the first time."""
        if completion.data is None:
            return None
        data_set = completion.data.dataset
        key = (completion.experiment_id, data_set.name, data_set.digest)
        if key not in self._data_sets:
            self.client.log_inputs(completion.run_id, [completion.data])
            table = tables.SqlDataset
            query = sa.select(table.dataset_uuid).where(
                table.experiment_id == int(completion.experiment_id),
                table.name == data_set.name,
                table.digest == data_set.digest,
            )
            assert self.engine is not None
            with self.engine.connect() as connection:
                self._data_sets[key] = connection.execute(query).scalar_one()
            return None  # this run has it now
        return self._data_sets[key]


def _tables_are_known() -> bool:
    """Whether each row that we write is one that MLflow's table takes, and all that it needs."""
    for name, written in _COLUMNS.items():
        table = getattr(tables, name, None)
        if table is None:
            return False
        columns = {column.name: column for column in table.__table__.columns}
        needed = {
            key
            for key, c in columns.items()
            if not c.nullable and c.default is None and c.server_default is None
        }
        if not needed <= written <= columns.keys():
            return False
    return True


def _rows(completion: Completion, data_set: str | None) -> dict[str, list[Row]]:
    run_id = completion.run_id
    metrics = [
        {
            "run_uuid": run_id,
            "key": metric.key,
            "value": metric.value,
            "timestamp": metric.timestamp,
            "step": metric.step,
            "is_nan": False,
        }
        for metric in completion.metrics
    ]
    latest: dict[str, Row] = {}
    for row in metrics:
        known = latest.get(row["key"])
        if known is None or _order(known) < _order(row):
            latest[row["key"]] = row
    of_model = [
        {
            "model_id": metric.model_id,
            "metric_name": metric.key,
            "metric_timestamp_ms": metric.timestamp,
            "metric_step": metric.step,
            "metric_value": metric.value,
            "experiment_id": int(completion.experiment_id),
            "run_id": run_id,
            "dataset_name": metric.dataset_name,
            "dataset_digest": metric.dataset_digest,
        }
        for metric in completion.metrics
        if metric.model_id
    ]
    inputs, input_tags = [], []
    if completion.data and data_set:
        inputs.append(_input("DATASET", data_set, "RUN", run_id))
        input_tags += [
            {"input_uuid": inputs[0]["input_uuid"], "name": tag.key, "value": tag.value}
            for tag in completion.data.tags
        ]
    if completion.model_id:
        inputs.append(_input("RUN_OUTPUT", run_id, "MODEL_OUTPUT", completion.model_id))
    return {
        "SqlParam": [
            {"run_uuid": run_id, "key": key, "value": value}
            for key, value in completion.params.items()
        ],
        "SqlMetric": metrics,
        "SqlLatestMetric": list(latest.values()),
        "SqlLoggedModelMetric": of_model,
        "SqlInput": inputs,
        "SqlInputTag": input_tags,
    }


def _order(row: Row) -> tuple[int, int, float]:
    """MLflow's order of the values of one metric: the last one is the run's."""
    return row["step"], row["timestamp"], row["value"]


def _input(source_type: str, source: str, destination_type: str, destination: str) -> Row:
    return {
        "input_uuid": uuid.uuid4().hex,
        "source_type": source_type,
        "source_id": source,
        "destination_type": destination_type,
        "destination_id": destination,
        "step": 0,
    }
