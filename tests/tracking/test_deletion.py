"""Models that are not kept leave the store and the disk; what is registered never does, by whatever
address it was registered."""

import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import LoggedModel

from pipeline.tracking.deletion import Deletion, delete_models
from pipeline.tracking.registry import register
from pipeline.tracking.store import Store
from pipeline.tracking.trials import TrialLog
from pipeline.tracking.versions import find_version, local_path
from tests.tracking.made import make_trial


@pytest.fixture(autouse=True)
def client(database_of_its_own: str) -> MlflowClient:
    """Of a store in which nobody else has versions."""
    return MlflowClient(database_of_its_own)


Act = Callable[[MlflowClient, LoggedModel, str, str], None]


def _copy(client: MlflowClient, model: LoggedModel, name: str, source: str) -> None:
    """Promotion as MLflow teaches it, and then the first registered model goes."""
    client.create_registered_model(source)
    version = client.create_model_version(source, f"models:/{model.model_id}")
    client.set_registered_model_alias(source, "champion", version.version)
    client.copy_model_version(f"models:/{source}@champion", name)
    client.copy_model_version(f"models:/{name}/1", name)
    client.delete_model_version(name, "1")
    client.delete_registered_model(source)


def _by(address: Callable[[LoggedModel], str]) -> Act:
    def act(client: MlflowClient, model: LoggedModel, name: str, _: str) -> None:
        client.create_registered_model(name)
        client.create_model_version(name, address(model))

    return act


def _linked(model: LoggedModel) -> str:
    link = Path("by a link")
    link.symlink_to(local_path(model.artifact_location) or "")
    return str(link.absolute())


def _relative(model: LoggedModel) -> str:
    return os.path.relpath(local_path(model.artifact_location) or "")


def _percent(model: LoggedModel) -> str:
    path = Path(local_path(model.artifact_location) or "").as_uri()
    return path.replace("m-", "m%2D")


def _renamed(client: MlflowClient, model: LoggedModel, name: str, source: str) -> None:
    client.create_registered_model(source)
    client.create_model_version(source, f"models:/{model.model_id}")
    client.rename_registered_model(source, name)


ACTS: dict[str, Act] = {
    "a copy, of what was deleted": _copy,
    "renamed": _renamed,
    "by its id": _by(lambda model: f"models:/{model.model_id}"),
    "by its run": _by(lambda model: f"runs:/{model.source_run_id}/{model.name}"),
    "by its path": _by(lambda model: local_path(model.artifact_location) or ""),
    "by its address": _by(lambda model: model.artifact_location),
    "with signs encoded": _by(_percent),
    "by a relative path": _by(_relative),
    "by a link": _by(_linked),
}


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
def test_registered_models_stay(
    act: Act, log: TrialLog, store: Store, client: MlflowClient, name: str
) -> None:
    logged = [log.log_trial(make_trial(number=i), {"text": f"model {i}"}) for i in range(3)]
    model = client.get_logged_model(logged[0].model_id or "")
    act(client, model, name, f"{name} first")
    run_ids = [each.run_id for each in logged]
    kept = {logged[1].model_id or ""}
    assert delete_models(store, run_ids, kept) == Deletion(1)
    left = {each.model_id for each in client.search_logged_models([store.experiment_id])}
    assert left == {model.model_id} | kept
    version = max(int(v.version) for v in client.search_model_versions(f"name = '{name}'"))
    by_its_run = act is ACTS["by its run"]  # which MLflow itself can load by the run alone
    uri = f"runs:/{model.source_run_id}/{model.name}" if by_its_run else f"models:/{name}/{version}"
    loaded = mlflow.pyfunc.load_model(uri)
    assert loaded.predict(pd.DataFrame({"x": [1]})) == ["model 0"]
    for each in client.search_model_versions(f"name = '{name}'"):
        client.delete_model_version(name, each.version)
    assert delete_models(store, run_ids, kept) == Deletion(1)


@pytest.mark.parametrize("source", ["a relative/path", "/no/such/folder", "runs:/{run}/elsewhere"])
def test_nothing_goes_while_a_version_cannot_be_followed(
    source: str, log: TrialLog, store: Store, client: MlflowClient, name: str, tmp_path: Path
) -> None:
    """A path that leads nowhere from here may be a link on another host."""
    logged = log.log_trial(make_trial(), {"text": "model"})
    client.create_registered_model(name)
    other = client.create_run(store.experiment_id).info.run_id
    client.create_model_version(name, source.replace("{run}", other))
    deletion = delete_models(store, [logged.run_id], ())
    if source.startswith("runs:"):
        assert deletion == Deletion(1)
        return
    assert deletion.count == 0
    assert f"models:/{name}/1 ({source} is not to be found)" in deletion.spared
    assert client.get_logged_model(logged.model_id or "")
    client.delete_model_version(name, "1")
    assert delete_models(store, [logged.run_id], ()) == Deletion(1)


def test_versions_elsewhere_do_not_matter(
    log: TrialLog, store: Store, client: MlflowClient, name: str, tmp_path: Path
) -> None:
    logged = log.log_trial(make_trial(), {"text": "model"})
    client.create_registered_model(name)
    (tmp_path / "here").mkdir()
    gone = f"/where/it/was/models/m-{uuid.uuid4().hex}/artifacts"
    for source in (str(tmp_path / "here"), "s3://bucket/models/1", "mlflow-artifacts:/1/x", gone):
        client.create_model_version(name, source)
    assert delete_models(store, [logged.run_id], ()) == Deletion(1)


def test_a_copy_of_the_champion_is_the_champion(
    log: TrialLog, store: Store, client: MlflowClient, name: str
) -> None:
    """So it is not compared with itself."""
    model_id = log.log_trial(make_trial(), {"text": "model"}).model_id or ""
    register(store, model_id, f"{name} first", description="", alias="champion")
    client.copy_model_version(f"models:/{name} first@champion", name)
    client.set_registered_model_alias(name, "champion", "1")
    found = find_version(client, name)
    assert found is not None
    assert found.model_id == model_id
    shutil.rmtree(local_path(client.get_logged_model(model_id).artifact_location) or "")
    assert delete_models(store, [log.train.run_id], ()) == Deletion()
