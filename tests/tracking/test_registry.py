"""Versions of registered models, and the alias that people load."""

import json
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient

from pipeline.common.errors import UserError
from pipeline.tracking.registry import register
from pipeline.tracking.store import Store
from pipeline.tracking.trials import TrialLog
from pipeline.tracking.versions import find_version
from tests.tracking.made import make_trial

ROOT = Path(__file__).parents[2]


def test_registered_once(log: TrialLog, store: Store, client: MlflowClient, name: str) -> None:
    """Started again after it was killed on the way, it describes and aliases what there is."""
    logged = [log.log_trial(make_trial(number=i), {"text": ""}) for i in range(2)]
    first_id, second_id = (each.model_id or "" for each in logged)
    first = register(store, first_id, name, description="cut short", alias="challenger")
    again = register(store, first_id, name, description="whole", alias="champion", tags={"a": 1})
    assert again.version == first.version == 1
    assert client.get_model_version(name, "1").description == "whole"
    assert client.get_model_version(name, "1").tags == {"a": "1"}
    champion = find_version(client, name)
    assert champion
    assert champion.version == 1
    second = register(store, second_id, name, description="", alias="champion")
    assert second.version == 2


def test_register(log: TrialLog, store: Store, client: MlflowClient, name: str) -> None:
    models = [log.log_trial(make_trial(number=i), {"text": f"model {i}"}) for i in range(2)]
    ids = [model.model_id or "" for model in models]
    assert find_version(client, name) is None
    first = register(
        store,
        ids[0],
        name,
        description="**first**",
        alias="champion",
        tags={"test_accuracy": 0.68},
        model_description="Is the water potable?",
    )
    assert (first.version, first.model_id, first.run_id) == (1, ids[0], models[0].run_id)
    assert first.uri == f"models:/{name}/1"
    model = client.get_registered_model(name)
    assert model.description == "Is the water potable?"
    version = client.get_model_version(name, "1")
    assert version.description == "**first**"
    assert version.tags == {"test_accuracy": "0.68"}
    assert version.status == "READY"
    second = register(
        store, ids[1], name, description="second", alias="challenger", model_description="no"
    )
    assert find_version(client, name) == first
    assert find_version(client, name, "challenger") == second
    assert client.get_registered_model(name).description == "Is the water potable?"
    loaded = mlflow.pyfunc.load_model(f"models:/{name}@challenger")
    assert loaded.predict(pd.DataFrame({"x": [1]})) == ["model 1"]
    tag = client.get_logged_model(ids[1]).tags["mlflow.modelVersions"]
    assert tag == json.dumps([{"name": name, "version": "2"}])


def test_name_that_the_registry_refuses(log: TrialLog, store: Store) -> None:
    logged = log.log_trial(make_trial(), {"text": ""})
    with pytest.raises(UserError, match=r"registry.name: .*cannot contain"):
        register(store, logged.model_id or "", "a/b", description="", alias="champion")
