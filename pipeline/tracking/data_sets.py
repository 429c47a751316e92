"""Data sets as MLflow shows them on a run: name, digest, source, schema and profile."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from mlflow.entities import Dataset, DatasetInput, InputTag

Context = Literal["training", "validation", "testing"]

_DIGEST_LENGTH = 36  # MLflow's limits
_SCHEMA_LENGTH = 1_048_575
_NAME_LENGTH = 500


@dataclass(frozen=True)
class DataSet:
    """One part of the data: `digest` is a hexadecimal digest of the whole part, of any length.

    `columns` gives each column's MLflow type: boolean, integer, long, float, double, datetime or
    string. `source` is a path, a URL or sklearn:NAME, as in the configuration.
    """

    name: str
    digest: str
    source: str
    rows: int
    columns: Mapping[str, str]

    @property
    def short_digest(self) -> str:
        """The digest cut to what MLflow holds: metrics name their data set by it."""
        return self.digest[:_DIGEST_LENGTH]

    def to_input(self, context: Context) -> DatasetInput:
        """The entity for `log_inputs`, tagged with what the run used the data for."""
        source_type, source = _source(self.source)
        entity = Dataset(
            name=self.short_name,
            digest=self.short_digest,
            source_type=source_type,
            source=json.dumps(source),
            schema=self._schema(),
            profile=json.dumps(
                {
                    "num_rows": self.rows,
                    "num_columns": len(self.columns),
                    "num_elements": self.rows * len(self.columns),
                }
            ),
        )
        return DatasetInput(entity, tags=[InputTag("mlflow.data.context", context)])

    @property
    def short_name(self) -> str:
        """The name cut to what MLflow holds."""
        return self.name[:_NAME_LENGTH]

    def _schema(self) -> str | None:
        specs = [
            {"type": kind, "name": name, "required": False} for name, kind in self.columns.items()
        ]
        text = json.dumps({"mlflow_colspec": specs})
        return text if len(text) <= _SCHEMA_LENGTH else None


def _source(source: str) -> tuple[str, dict[str, Any]]:
    """MLflow's source type and content, so that `mlflow.data.get_source` understands them."""
    scheme, _, name = source.partition(":")
    if scheme == "sklearn":
        return "code", {"tags": {"mlflow.source.name": f"sklearn.datasets.load_{name}"}}
    if urlsplit(source).scheme in ("http", "https"):
        return "http", {"url": source}
    return "local", {"uri": source}
