"""What every stage of one command works with."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from pipeline.config import Config
from pipeline.data.prepared import PreparedData
from pipeline.models.metrics import Metric, metric_of
from pipeline.report.console import Console
from pipeline.report.report import Facts
from pipeline.tracking.runs import DataSet
from pipeline.tracking.store import Store

VERSION = 2
"""Part of the fingerprint: raise it when the same configuration and rows mean other trials."""

_MLFLOW_TYPES = {"number": "double", "boolean": "boolean", "date": "datetime", "category": "string"}
_LABEL_TYPES = {bool: "boolean", int: "long", float: "double"}


@dataclass(frozen=True)
class Job:
    """A checked configuration, its prepared parts, and where results go."""

    config: Config
    parts: PreparedData
    store: Store
    console: Console
    command: str

    @property
    def metric(self) -> Metric:
        """What the best trial is best in."""
        return metric_of(self.config.search.objective)

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(self.config, self.parts)

    @property
    def table(self) -> str:
        """The table's name for people: the source without folders and endings."""
        name = self.config.data.source.rpartition("/")[2].rpartition(":")[2]
        return name.partition(".")[0] or name

    def data_set(self, subset: Literal["train", "test"]) -> DataSet:
        """The description of the training or the test rows for MLflow."""
        from_own_file = subset == "test" and isinstance(self.config.data.test, str)
        source = str(self.config.data.test) if from_own_file else self.config.data.source
        schema = self.parts.schema
        types = {column.name: _MLFLOW_TYPES[column.kind] for column in schema.columns}
        types[self.config.data.target] = _LABEL_TYPES.get(type(schema.labels[0]), "string")
        return DataSet(
            f"{self.table}-{subset}",
            self.parts.digests[subset],
            source,
            self.parts.rows[subset],
            types,
        )

    def facts(self, model_uri: str = "") -> Facts:
        return Facts.of(
            self.config,
            self.parts,
            command=self.command,
            tracking_uri=self.store.uri,
            model_uri=model_uri,
        )


def fingerprint(config: Config, parts: PreparedData) -> str:
    """What makes two searches the same search: 16 hexadecimal digits.

    Over all that decides what a trial's number means: the rows, their reading and their split, the
    seed, the validation, the model, the training, the optimizers and how the search draws; not the
    number of trials, the final round, the names or the device.
    """
    content = config.to_plain() | {"version": VERSION}
    for key in ("data", "experiment", "registry", "tracking"):
        del content[key]
    del content["search"]["trials"]
    del content["validation"]["final"]
    del content["training"]["device"]
    content["rows"] = [parts.digests["train"], parts.digests["test"], parts.schema.to_dict()]
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
