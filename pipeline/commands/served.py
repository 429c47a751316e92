"""Under which address a model that was registered before loads today: the registry is asked."""

from dataclasses import dataclass
from typing import get_args

from pipeline.commands.evaluate import Alias, Candidate
from pipeline.commands.job import Job
from pipeline.commands.train import Trained
from pipeline.tracking.places import check_model
from pipeline.tracking.runs import Run
from pipeline.tracking.versions import find_version, get_version


@dataclass(frozen=True)
class Served:
    """What people load, and what became of the alias that the model had."""

    uri: str = (
        ""  # the alias, while it is this model's, else the version; "": nothing is registered
    )
    version_uri: str = ""
    note: str = ""  # "": the alias is what it was


def served_as(job: Job, parent: Run, trained: Trained) -> Served | None:
    """How the chosen model is registered now; None unless it was scored, and is registered under
    the name that is asked for. An alias that nobody has any more counts as not registered.

    Raises UserError where the model's files are gone."""
    candidate, evaluated = Candidate.of(job, trained), job.store.child(parent, "evaluate")
    if candidate.model_id is not None:
        check_model(job.store.client, candidate.model_id)
    if evaluated is None or evaluated.info.status != "FINISHED":
        return None
    tags, name, client = evaluated.data.tags, job.config.registry.name, job.store.client
    if tags.get("best.run_id") != candidate.run_id:
        return None
    number, was = tags.get("model.version"), tags.get("model.alias", "")
    if not job.keeps_models and not number:
        return Served()
    version = get_version(client, name, number) if number else None
    if version is None or candidate.model_id not in (None, version.model_id):
        return None
    begun = f"Version {version.version} of {name} was @{was} when it was registered;"
    if was in version.aliases:
        return Served(f"models:/{name}@{was}", version.uri)
    for alias in get_args(Alias):
        if alias in version.aliases:
            return Served(f"models:/{name}@{alias}", version.uri, f"{begun} now it is @{alias}.")
    if (other := find_version(client, name, was)) is not None:
        return Served(version.uri, version.uri, f"{begun} now version {other.version} is.")
    return None
