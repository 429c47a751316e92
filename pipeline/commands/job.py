"""What every stage of one command works with."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from pipeline.common.addresses import masked
from pipeline.common.files import file_digest
from pipeline.common.imports import source_file
from pipeline.config import Config
from pipeline.data.arrays import is_code
from pipeline.data.prepared import PreparedData
from pipeline.data.sources import is_url
from pipeline.models.metrics import Metric, metric_of
from pipeline.report.console import Console
from pipeline.report.descriptions import markdown
from pipeline.report.report import Facts
from pipeline.tracking.runs import DataSet, Run, Stage, commit
from pipeline.tracking.store import Store
from pipeline.training.engines import Engines
from pipeline.training.executors import LOCAL, Executor

if TYPE_CHECKING:
    from pipeline.report.figures import Plot

ENGINE = "training.engine."
"""What the tags of a train run begin with that say how an architecture is trained."""

VERSION = 6
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
    drawn: "dict[str, Plot]" = field(default_factory=dict)  # figures, by name

    @cached_property
    def metric(self) -> Metric:
        """What the best trial is best in."""
        return metric_of(self.config)

    @property
    def keeps_models(self) -> bool:
        """Whether any model is logged."""
        return self.config.tracking.keep_models != "none"

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(self.config, self.parts)

    @property
    def table(self) -> str:
        """The data's name for people: the source without folders and endings."""
        source = self.config.data.source
        source = urlsplit(source).path if is_url(source) else source
        name = source.rstrip("/").rpartition("/")[2].rpartition(":")[2]
        if ":" not in source and is_code(source):
            return name.rpartition(".")[2]
        return name.partition(".")[0] or name

    @property
    def model_description(self) -> str:
        """Of the registered model, as Markdown."""
        source = masked(self.config.data.source)
        return markdown(f"Predicts {self.parts.schema.target} from rows like those of {source}.")

    def data_set(self, subset: Literal["train", "test"]) -> DataSet:
        """The description of the training or the test rows for MLflow."""
        from_own_file = subset == "test" and isinstance(self.config.data.test, str)
        source = str(self.config.data.test) if from_own_file else self.config.data.source
        schema, name = self.parts.schema, f"{self.table}-{subset}"
        digest, rows = self.parts.digests[subset], self.parts.rows[subset]
        if schema.inputs is not None:
            features = schema.inputs.dtype, schema.inputs.shape
            tensors = {"features": features, "targets": ("int64", ())}
            return DataSet(name, digest, source, rows, tensors=tensors)
        types = {column.name: _MLFLOW_TYPES[column.kind] for column in schema.columns}
        types[schema.target] = _LABEL_TYPES.get(type(schema.labels[0]), "string")
        return DataSet(name, digest, source, rows, types)

    def engines(self, train_run_id: str) -> Engines:
        """Which way somebody's networks are trained, as the search began; what is new is noted."""
        client = self.store.client
        tags = client.get_run(train_run_id).data.tags
        known = {k.removeprefix(ENGINE): v for k, v in tags.items() if k.startswith(ENGINE)}
        return Engines(known, lambda key, name: client.set_tag(train_run_id, ENGINE + key, name))

    def stage(
        self,
        stage: Stage,
        name: str,
        resume: Any | None,
        parent: Run | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> AbstractContextManager[Run]:
        """A stage's run, or `resume` (mlflow.entities.Run) opened again."""
        again = resume.info.run_id if resume is not None else None
        place: Any = {"parent": parent, "fingerprint": self.fingerprint}
        return self.store.run(stage, f"{stage} · {name}", tags=tags, resume=again, **place)

    @contextmanager
    def executor(self) -> Iterator[Executor]:
        """What `compute` asks for, as long as the block runs. Raises RunError where a cluster does
        not answer within a bound."""
        if self.config.compute.engine == "local":
            yield LOCAL
            return
        from pipeline.training import ray_engine

        with ray_engine.connected(self.config, self.console.say) as executor:
            yield executor

    def facts(self, model_uri: str = "") -> Facts:
        where = self.store.uri, model_uri, self._commit
        return Facts.of(self.config, self.parts, self.command, *where)

    @cached_property
    def _commit(self) -> str:
        return commit()


def fingerprint(config: Config, parts: PreparedData) -> str:
    """What makes two searches the same search: 16 hexadecimal digits.

    Over all that decides what a trial's number means: the rows, their reading and their split, the
    seed, the validation, the model, the training, the optimizers and how the search draws; not the
    number of trials, the final round, the names, the device or where it is computed."""
    content = config.to_plain() | {"version": VERSION}
    for key in ("compute", "data", "experiment", "registry", "tracking"):
        del content[key]
    if not config.metrics:
        del content["metrics"]
    del content["search"]["trials"]
    del content["validation"]["final"]
    del content["training"]["device"]
    content["files"] = {
        key: file_digest(file)
        for key, path in config.paths().items()
        if not key.startswith("data.") and (file := source_file(path)) is not None
    }
    content["rows"] = [parts.digests["train"], parts.digests["test"], parts.schema.to_dict()]
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
