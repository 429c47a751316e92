"""The model registry: versions of the registered model, and the alias that people load."""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.exceptions import MlflowException

from pipeline.common.errors import UserError
from pipeline.tracking.outage import is_outage
from pipeline.tracking.runs import DESCRIPTION, first_line, has_code
from pipeline.tracking.store import Store


@dataclass(frozen=True)
class Version:
    """A version of a registered model."""

    name: str
    version: int
    run_id: str | None
    model_id: str | None
    tags: Mapping[str, str]

    @property
    def uri(self) -> str:
        """What MLflow's loaders take."""
        return f"models:/{self.name}/{self.version}"

    @property
    def link(self) -> str:
        """The version's page, relative to where MLflow's UI is served."""
        return f"#/models/{self.name}/versions/{self.version}"


def register(
    store: Store,
    model_id: str,
    name: str,
    *,
    description: str,
    tags: Mapping[str, object] | None = None,
    model_description: str | None = None,
    model_tags: Mapping[str, object] | None = None,
    alias: str | None = "champion",
    check: Callable[[str], object] | None = None,
    once: bool = False,
) -> Version:
    """Make a logged model the next version of `name`, and then `alias` it.

    The registered model is created when missing; one that exists keeps its description.
    `check` is called with the version's URI before the alias moves: when it raises, the version
    is removed, the alias stays where it was and the error goes on.
    With `once` a version that was made of this model before is described anew and aliased; so a
    process that was killed on the way here leaves no second one behind when it starts again.
    Raises UserError when MLflow doesn't take the name.
    """
    client = store.client
    _ensure_model(client, name, model_description, model_tags or {})
    model = client.get_logged_model(model_id)
    texts = {key: str(value) for key, value in (tags or {}).items()}
    known = _version_of(client, name, model) if once else None
    if known is not None:
        client.update_model_version(name, str(known.version), description)
        for key, value in texts.items():
            client.set_model_version_tag(name, str(known.version), key, value)
        version = known
    else:
        created = client.create_model_version(
            name,
            f"models:/{model_id}",
            model.source_run_id,
            texts,
            description=description,
            model_id=model_id,
        )
        version = _version(created)
    try:
        if check is not None:
            check(version.uri)
        # The model's own page shows the versions that were made of it.
        made = json.loads(model.tags.get("mlflow.modelVersions", "[]"))
        this = {"name": name, "version": str(version.version)}
        if this not in made:
            made.append(this)
            client.set_logged_model_tags(model_id, {"mlflow.modelVersions": json.dumps(made)})
        client.set_logged_model_tags(model_id, {DESCRIPTION: description})
    except BaseException:
        if known is None:
            client.delete_model_version(name, str(version.version))
        raise
    if alias is not None:
        client.set_registered_model_alias(name, alias, str(version.version))
    return version


def set_alias(store: Store, version: Version, alias: str = "champion") -> None:
    """Point an alias to a version."""
    store.client.set_registered_model_alias(version.name, alias, str(version.version))


def find_version(store: Store, name: str, alias: str = "champion") -> Version | None:
    """The version that an alias points to, or None."""
    try:
        return _version(store.client.get_model_version_by_alias(name, alias))
    except MlflowException as error:
        if has_code(error, "RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


@contextmanager
def downloaded(client: MlflowClient, uri: str) -> Iterator[Path]:
    """The folder of the model at a `models:/...` URI, a run's or a path, for the block.

    Raises UserError when there is no such model; MLflow's error of a store that is away goes on.
    """
    with tempfile.TemporaryDirectory(prefix="model-") as folder:
        try:
            local = download_artifacts(
                artifact_uri=uri, dst_path=folder, tracking_uri=client.tracking_uri
            )
        except (MlflowException, OSError) as error:
            # MLflow lists the files that it could not get under a heading, the reasons below it.
            of_files = str(error).startswith("The following failures occurred")
            if not of_files and is_outage(error, client.tracking_uri):
                raise
            reason = str(error).strip().splitlines()[-1] if of_files else first_line(error)
            raise UserError(f"model {uri}: {reason}") from error
        yield Path(local)


def _ensure_model(
    client: Any, name: str, description: str | None, tags: Mapping[str, object]
) -> None:
    texts = {key: str(value) for key, value in tags.items()}
    try:
        client.create_registered_model(name, texts, description)
    except MlflowException as error:
        if has_code(error, "INVALID_PARAMETER_VALUE"):
            raise UserError(f"registry.name: {error.message}") from error
        if not has_code(error, "RESOURCE_ALREADY_EXISTS"):
            raise
        for key, value in texts.items():
            client.set_registered_model_tag(name, key, value)


def _version_of(client: Any, name: str, model: Any) -> Version | None:
    """The latest version of `name` that was made of this logged model."""
    found = client.search_model_versions(f"run_id = '{model.source_run_id}'")
    made = [_version(entity) for entity in found]
    return max(
        (one for one in made if (one.name, one.model_id) == (name, model.model_id)),
        key=lambda version: version.version,
        default=None,
    )


def _version(entity: Any) -> Version:
    prefix, _, model_id = entity.source.partition("models:/")
    return Version(
        entity.name,
        int(entity.version),
        entity.run_id or None,
        model_id if not prefix and model_id else entity.model_id,
        dict(entity.tags or {}),
    )
