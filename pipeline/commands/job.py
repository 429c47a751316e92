"""What every stage of one command works with."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from pipeline.commands.fingerprint import fingerprint
from pipeline.config import Config
from pipeline.data.dataset import Parts
from pipeline.report.console import Console
from pipeline.report.facts import Facts
from pipeline.tracking.data_sets import DataSet
from pipeline.tracking.store import Store

_MLFLOW_TYPES = {"number": "double", "boolean": "boolean", "date": "datetime", "category": "string"}


@dataclass(frozen=True)
class Job:
    """A checked configuration, its prepared parts, and where results go."""

    config: Config
    parts: Parts
    store: Store
    console: Console
    command: str

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(self.config, self.parts)

    @property
    def table(self) -> str:
        """The table's name for people: the source without folders and endings."""
        name = self.config.data.source.rpartition("/")[2].rpartition(":")[2]
        return name.partition(".")[0] or name

    def data_set(self, part: Literal["train", "test"]) -> DataSet:
        """The description of a part for MLflow."""
        own_file = part == "test" and isinstance(self.config.data.test, str)
        source = str(self.config.data.test) if own_file else self.config.data.source
        types = {column.name: _MLFLOW_TYPES[column.kind] for column in self.parts.schema.columns}
        types[self.config.data.target] = self._label_type
        return DataSet(
            f"{self.table}-{part}", self.parts.digests[part], source, self.parts.rows[part], types
        )

    @property
    def _label_type(self) -> str:
        known = {bool: "boolean", int: "long", float: "double"}
        return known.get(type(self.parts.schema.labels[0]), "string")

    def facts(self, model_uri: str = "") -> Facts:
        return Facts.of(
            self.config,
            self.parts,
            command=self.command,
            tracking_uri=self.store.uri,
            model_uri=model_uri,
        )
