"""Deleting the models of trials that nobody needs any more: their entries and their files."""

from collections.abc import Collection, Iterator
from typing import Any

from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from pipeline.tracking.store import Store


def delete_models(store: Store, trial_run_ids: Collection[str], kept: Collection[str]) -> int:
    """Delete the models that these trials logged, but for those whose ids are in `kept`; how many.

    A model that is a registered version, of whatever name, is never deleted. Files go first, so
    that a deletion that was cut short is made up for by the next one.
    """
    doomed = [
        model
        for model in _models(store)
        if model.source_run_id in trial_run_ids and model.model_id not in kept
    ]
    if not doomed:
        return 0
    registered = registered_models(store)
    doomed = [model for model in doomed if model.model_id not in registered]
    for model in doomed:
        get_artifact_repository(model.artifact_location).delete_artifacts()
        store.client.delete_logged_model(model.model_id)
    return len(doomed)


def registered_models(store: Store) -> set[str]:
    """The ids of all logged models that a version of a registered model was made of."""
    found: set[str] = set()
    token = None
    while True:
        page = store.client.search_model_versions(page_token=token)
        for version in page:
            prefix, _, source_id = version.source.partition("models:/")
            found |= {one for one in (version.model_id, "" if prefix else source_id) if one}
        token = page.token
        if not token:
            return found


def _models(store: Store) -> Iterator[Any]:
    """Every model of the experiment, read before any is deleted."""
    found: list[Any] = []
    token = None
    while True:
        page = store.client.search_logged_models([store.experiment_id], page_token=token)
        found += page
        token = page.token
        if not token:
            return iter(found)
