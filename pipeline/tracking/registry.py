"""Models in MLflow: logged with their trials, registered as versions under an alias, loaded."""

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlflow import MlflowClient, pyfunc
from mlflow.artifacts import download_artifacts
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from pipeline.common.errors import UserError, first_line
from pipeline.models import flavor
from pipeline.tracking.connection import is_outage, quiet, undisturbed
from pipeline.tracking.runs import DESCRIPTION, Run
from pipeline.tracking.store import Store
from pipeline.tracking.versions import Version, local_path

_FORBIDDEN = str.maketrans({".": "·", "#": None, **dict.fromkeys("/:%\"'?", "_")})
_NAME_LENGTH = 200

_NO_TAG = "pipeline.none"  # that no model has: to delete it changes nothing and takes the right to


def model_name(run_name: str) -> str:
    """The name of a run as MLflow takes it for a model: `07 Adam lr=0·0042`."""
    return run_name.translate(_FORBIDDEN)[:_NAME_LENGTH]


def log_model(
    store: Store, run: Run, number: int, params: Mapping[str, str], model_args: Mapping[str, Any]
) -> str:
    """Log the model of a trial; its id. It is PENDING until the caller finalizes it.

    What mlflow.models.Model.log does, without its globals and its trial prediction.

    Args:
        number: the trial's.
        model_args: for the flavor's save_model."""
    client = run.client
    model = client.create_logged_model(
        run.experiment_id,
        model_name(run.name),
        run.run_id,
        {"trial.number": str(number)},
        dict(params),
    )
    model_id: str = model.model_id
    description = Model(model.artifact_location, run.run_id, model_uuid=model_id, model_id=model_id)
    here = local_path(model.artifact_location)
    try:
        with tempfile.TemporaryDirectory(prefix="model-") as temporary:
            folder = Path(temporary, "model")
            if here is not None:  # a store on this machine gets the files where they stay
                folder = Path(here)
                folder.parent.mkdir(parents=True, exist_ok=True)
            flavor.save_model(path=str(folder), mlflow_model=description, **model_args)
            if here is None:
                client.log_model_artifacts(model_id, str(folder))
    except BaseException as error:
        if not is_outage(error, store.uri):
            client.finalize_logged_model(model_id, "FAILED")
        raise
    return model_id


def ensure_registered_model(client: MlflowClient, name: str, description: str | None) -> None:
    """Create the registered model, or find it and try the right to change it.

    Raises UserError: MLflow doesn't take the name, or the server refuses."""
    try:
        try:
            client.create_registered_model(name, description=description)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            client.delete_registered_model_tag(name, _NO_TAG)
    except MlflowException as error:
        if error.error_code == "INVALID_PARAMETER_VALUE":
            raise UserError(f"registry.name: {error.message}") from error
        if error.error_code == "PERMISSION_DENIED":
            raise UserError(
                f"registry.name: {client.tracking_uri} does not let you make or change the "
                f"registered model {name!r}; ask for the permission EDIT on it, choose another "
                "registry.name, or tracking.keep_models: none"
            ) from error
        raise


def register(
    store: Store,
    model_id: str,
    name: str,
    *,
    description: str,
    alias: str,
    tags: Mapping[str, object] | None = None,
    model_description: str | None = None,
) -> Version:
    """Make a logged model the next version of `name`, and point `alias` to it.

    The registered model is created when missing; one that exists keeps its description. A version
    that was made of this logged model before is described anew and aliased: so a process that was
    killed on the way here leaves no second one behind when it starts again.

    Raises:
        UserError: MLflow doesn't take the name."""
    client = store.client
    ensure_registered_model(client, name, model_description)
    model = client.get_logged_model(model_id)
    texts = {key: str(value) for key, value in (tags or {}).items()}
    made = client.search_model_versions(f"run_id = '{model.source_run_id}'")
    of_name = [Version.of(client, each) for each in made if each.name == name]
    same = [each for each in of_name if each.model_id == model_id]
    version = max(same, key=lambda version: version.version, default=None)
    if version is not None:
        client.update_model_version(name, str(version.version), description)
        for key, value in texts.items():
            client.set_model_version_tag(name, str(version.version), key, value)
    else:
        source = f"models:/{model_id}"
        created = client.create_model_version(
            name, source, model.source_run_id, texts, description=description, model_id=model_id
        )
        version = Version.of(client, created)
    # The model's own page shows the versions that were made of it.
    shown = json.loads(model.tags.get("mlflow.modelVersions", "[]"))
    this = {"name": name, "version": str(version.version)}
    versions = shown if this in shown else [*shown, this]
    client.set_logged_model_tags(
        model_id, {"mlflow.modelVersions": json.dumps(versions), DESCRIPTION: description}
    )
    client.set_registered_model_alias(name, alias, str(version.version))
    return version


def load_pyfunc(tracking_uri: str, uri: str) -> Any:
    """A model as `mlflow.pyfunc.load_model` gives it, of this store, whatever MLflow's own
    functions use by now.

    Raises UserError when there is no such model."""
    with undisturbed():
        quiet()
        with downloaded(MlflowClient(tracking_uri), uri) as folder:
            return pyfunc.load_model(str(folder))


@contextmanager
def downloaded(client: MlflowClient, uri: str) -> Iterator[Path]:
    """The folder of the model at a `models:/...` URI, a run's or a path, for the block.

    Raises UserError when there is no such model; MLflow's error of a store that is away goes on."""
    with tempfile.TemporaryDirectory(prefix="model-") as folder:
        try:
            local = download_artifacts(uri, dst_path=folder, tracking_uri=client.tracking_uri)
        except (MlflowException, OSError, ImportError, ValueError) as error:
            # MLflow lists the files that it could not get under a heading, the reasons below it.
            of_files = str(error).startswith("The following failures occurred")
            if not of_files and is_outage(error, client.tracking_uri):
                raise
            reason = str(error).strip().splitlines()[-1] if of_files else first_line(error)
            raise UserError(f"model {uri}: {reason}") from error
        yield Path(local)
