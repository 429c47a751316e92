"""Where artifacts lie: beside a local database, and what is said where they are not to be found."""

import shlex
import tempfile
import uuid
from pathlib import Path
from urllib.parse import quote

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from pipeline.common.errors import UserError, first_line
from pipeline.tracking.connection import is_outage, sqlite_path
from pipeline.tracking.versions import local_path

FOLDER = "mlruns"  # MLflow's own name for it


def artifact_place(client: MlflowClient) -> str | None:
    """The location of a new experiment's artifacts: beside a local database; None: as the store's
    own rules have it, which for a local database is the working directory, undecoded."""
    database = sqlite_path(client.tracking_uri)
    if database is None:
        return None
    folder = database.resolve().parent
    if folder == Path.cwd() and quote(str(folder)) == str(folder):
        return None
    return (folder / FOLDER / uuid.uuid4().hex).as_uri()


def make_folder(client: MlflowClient, experiment_id: str) -> None:
    """Make the artifacts' folder of a local database: from now on it is missed where it is gone."""
    path = local_path(client.get_experiment(experiment_id).artifact_location)
    if path is not None and sqlite_path(client.tracking_uri) is not None:
        Path(path).mkdir(parents=True, exist_ok=True)


def is_missing(location: str) -> bool:
    """Whether it is a folder of this machine, and not there."""
    path = local_path(location)
    return path is not None and not Path(path).exists()


def mend(tracking_uri: str, location: str) -> str:
    """What brings artifacts back that are not where the store looks for them."""
    text, path, database = "bring them back there", local_path(location), sqlite_path(tracking_uri)
    if path is None or database is None:
        return text
    here, there = database.resolve().parent / FOLDER, Path(path)
    while there.name != FOLDER and there != there.parent:
        there = there.parent
    if here.is_dir() and there.name == FOLDER and there != here and not there.exists():
        command = f"ln -s {shlex.quote(str(here))} {shlex.quote(str(there))}"
        text += f", or link them: mkdir -p {shlex.quote(str(there.parent))} && {command}"
    return text


def place_warning(tracking_uri: str, location: str) -> str | None:
    """That artifacts go where they may not stay; None: they may."""
    path, database = local_path(location), sqlite_path(tracking_uri)
    temporary = Path(tempfile.gettempdir()).resolve()
    if path is None or (database and temporary in database.resolve().parents):
        return None
    if temporary not in Path(path).resolve().parents:
        return None
    return (
        f"the models of this experiment go to {location}, a temporary folder, and will be gone "
        "with it; those of a new experiment lie beside its database"
    )


def check_model(client: MlflowClient, model_id: str) -> None:
    """UserError unless the files of a logged model are there."""
    location, why = f"models:/{model_id}", "it has no files"
    try:
        location = client.get_logged_model(model_id).artifact_location
        if get_artifact_repository(location, client.tracking_uri).list_artifacts():
            return
    except (MlflowException, OSError) as error:
        if is_outage(error, client.tracking_uri):
            raise
        why = first_line(error)
    raise UserError(
        f"the model {model_id} of this search is not at {location}: {why}; "
        f"{mend(client.tracking_uri, location)}, or search anew with --fresh, in Python fresh=True"
    )
