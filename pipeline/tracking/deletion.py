"""Models of trials deleted when nobody needs them any more; never one that is registered, by
whatever address."""

import os
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import unquote

from mlflow.entities import LoggedModel
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.artifact.runs_artifact_repo import RunsArtifactRepository

from pipeline.common.errors import first_line
from pipeline.common.text import few
from pipeline.tracking.connection import is_outage, paged
from pipeline.tracking.store import Store
from pipeline.tracking.versions import addresses, check_known, local_path


@dataclass(frozen=True)
class Deletion:
    """How many models were deleted, and why others were not."""

    count: int = 0
    spared: str = ""


def delete_models(store: Store, trial_run_ids: Collection[str], kept: Collection[str]) -> Deletion:
    """Delete the models that these trials logged, but for those whose ids are in `kept`.

    One stays when a version of any registered model lies in its files; and all stay while there is
    a version of which nobody knows where its files lie. Files go first, so that a deletion that was
    cut short is made up for by the next one."""
    doomed = [
        model
        for model in paged(store.client.search_logged_models, experiment_ids=[store.experiment_id])
        if model.source_run_id in trial_run_ids and model.model_id not in kept
    ]
    unknown: list[str] = []
    for version in paged(store.client.search_model_versions) if doomed else ():
        try:
            for address in addresses(store.client, version):
                doomed = [model for model in doomed if not _is_in(model, address)]
            check_known(address)
        except (MlflowException, ValueError) as error:
            if is_outage(error, store.uri):
                raise
            unknown.append(f"models:/{version.name}/{version.version} ({first_line(error)})")
    if doomed and unknown:
        return Deletion(
            spared=f"models that are not kept stay, {len(doomed)} in all: nobody knows where the "
            f"files lie of {', '.join(few(unknown, 3))}; bring them back, or delete these versions"
        )
    for model in doomed:
        path = local_path(model.artifact_location)
        if path is None:
            get_artifact_repository(model.artifact_location, store.uri).delete_artifacts()
        elif os.path.exists(path):  # MLflow would decode it once more
            shutil.rmtree(path)
        store.client.delete_logged_model(model.model_id)
    return Deletion(len(doomed))


def _is_in(model: LoggedModel, address: str) -> bool:
    """Whether the address leads to this model's files. Its id is in every address of theirs, but
    for those by its run, and by links."""
    if address.startswith("runs:"):
        run_id, _ = RunsArtifactRepository.parse_runs_uri(address)
        return bool(run_id == model.source_run_id)
    if model.model_id in unquote(address):
        return True
    paths = [local_path(each) for each in (address, model.artifact_location)]
    real = [os.path.realpath(path) for path in paths if path is not None]
    return len(real) == 2 and os.path.commonpath(real) in real
