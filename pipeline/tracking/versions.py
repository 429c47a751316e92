"""Versions of registered models, and where their files lie."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.utils.models import get_model_name_and_version
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import is_local_uri

MODEL_ID = re.compile(r"\bm-[0-9a-f]{32}\b")
"""The id of a logged model; its files lie in a folder of this name."""

_MOST_COPIES = 100  # of copies of copies, before it counts as a circle


@dataclass(frozen=True)
class Version:
    """A version of a registered model."""

    name: str
    version: int
    run_id: str | None
    model_id: str | None
    tags: Mapping[str, str]
    aliases: tuple[str, ...] = field(default=(), compare=False)

    @property
    def uri(self) -> str:
        """What MLflow's loaders take."""
        return f"models:/{self.name}/{self.version}"

    @classmethod
    def of(cls, client: MlflowClient, entity: Any) -> "Version":
        """Of mlflow.entities.ModelVersion; the logged model is found through copies, too."""
        try:
            *_, address = addresses(client, entity)
            ids = MODEL_ID.findall(unquote(address))
        except (MlflowException, ValueError):
            ids = []
        model_id = entity.model_id or (ids[-1] if ids else None)
        about = entity.run_id or None, model_id, dict(entity.tags or {})
        return cls(entity.name, int(entity.version), *about, tuple(entity.aliases))


def find_version(client: MlflowClient, name: str, alias: str = "champion") -> Version | None:
    """The version that an alias points to, or None."""
    with _absent():
        return Version.of(client, client.get_model_version_by_alias(name, alias))
    return None


def get_version(client: MlflowClient, name: str, number: str) -> Version | None:
    """The version of this number, or None."""
    with _absent():
        return Version.of(client, client.get_model_version(name, number))
    return None


@contextmanager
def _absent() -> Iterator[None]:
    """What is not there is no error; a server with rights says so of models that it has not."""
    try:
        yield
    except MlflowException as error:
        codes = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "PERMISSION_DENIED")
        if error.error_code not in codes:
            raise


def addresses(client: MlflowClient, entity: Any) -> Iterator[str]:
    """A version's source, what that leads to, and so on; the last is where its files are.

    Raises MlflowException, or ValueError for copies that lead to no files."""
    if entity.model_id:
        yield f"models:/{entity.model_id}"
    yield entity.source
    if MODEL_ID.fullmatch(entity.source.removeprefix("models:/")):
        return
    address = client.get_model_version_download_uri(entity.name, entity.version)
    for _ in range(_MOST_COPIES):
        yield address
        if not address.startswith("models:") or MODEL_ID.search(address):
            return
        name, version = get_model_name_and_version(client, address)
        address = client.get_model_version_download_uri(name, version)
    raise ValueError("a circle of copies")


def local_path(address: str) -> str | None:
    """The path that an artifact's address stands for, decoded as MLflow does; None: it is none."""
    return local_file_uri_to_path(address) if is_local_uri(address) else None


def check_known(address: str) -> None:
    """ValueError for a path that leads nowhere from here: it may be a link on another host."""
    path = local_path(address)
    if path is None or MODEL_ID.search(path):
        return
    if not os.path.isabs(path) or not os.path.exists(path):
        raise ValueError(f"{path} is not to be found")
