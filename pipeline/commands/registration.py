"""The registry: a new version, and whether it takes the champion's place."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pipeline import inference
from pipeline.analysis.promotion import Contest, Said, contest
from pipeline.commands.job import Job
from pipeline.common import text as formats
from pipeline.common.errors import UserError
from pipeline.data.dataset import Rows
from pipeline.inference import InputError, ModelError, TabularModel
from pipeline.tracking.registry import Version, downloaded, find_version

Alias = Literal["champion", "challenger"]


@dataclass(frozen=True)
class Standing:
    """Which alias the new version gets, and why, as the end of a sentence."""

    alias: Alias
    why: str
    contest: Contest | None = None


def standing(job: Job, model_id: str, said: Said, rows: Rows) -> Standing:
    """The candidate's, by what it says of the test rows beside the champion on the same rows.

    A champion that cannot be scored on these rows, because there is none, it does not load, or the
    table has other columns or labels by now, is replaced: `@champion` is what serves this table.
    """
    name = job.config.registry.name
    old = find_version(job.store, name)
    if old is None:
        return Standing("champion", "there was no champion")
    if old.model_id == model_id:
        return Standing("champion", "it was that already")
    try:
        with downloaded(job.store.client, old.uri) as folder:
            model = inference.load(folder)
    except (UserError, ModelError, OSError) as error:
        reason = str(error).splitlines()[0]
        return Standing(
            "champion", f"version {old.version}, the one before, does not load: {reason}"
        )
    try:
        other = said_by(model, rows, job.parts.schema.labels)
    except (InputError, UserError) as error:
        reason = str(error).splitlines()[0]
        return Standing(
            "champion", f"version {old.version}, the one before, is of another table: {reason}"
        )
    found = contest(said, other, rows.y)
    alias: Alias = "champion" if found.takes_over else "challenger"
    return Standing(alias, _why(found, old, _note(job, old)), found)


def said_by(model: TabularModel, rows: Rows, labels: Sequence[Any]) -> Said:
    """What a model says of raw test rows, with its own threshold; label ids are those of `labels`.

    Raises:
        InputError: the rows lack a column, or one is of another kind.
        UserError: the model knows other labels.
    """
    own = list(model.schema["labels"])
    if {(type(one), one) for one in own} != {(type(one), one) for one in labels}:
        raise UserError(
            f"its labels are {formats.listing([str(one) for one in own])}, those of the table "
            f"{formats.listing([str(one) for one in labels])}"
        )
    frame = rows.table.to_pandas()
    probabilities = model.probabilities(frame)
    predicted = model.predict(frame)["prediction"].to_numpy()
    ids = {label: place for place, label in enumerate(labels)}
    order = [own.index(label) for label in labels]
    return Said(np.array([ids[one] for one in predicted.tolist()]), probabilities[:, order])


def _why(found: Contest, old: Version, note: str) -> str:
    verdict = {
        "better": "better than",
        "worse": "worse than",
        "open": "not told apart from" if found.takes_over else "behind (within the noise)",
    }[found.outcome]
    return (
        f"{verdict} version {old.version} on the same {formats.count(found.rows, 'test row')}: "
        f"accuracy {formats.percent(found.new_accuracy)} against "
        f"{formats.percent(found.old_accuracy)} (McNemar p = {found.p_value:.2g}), log loss "
        f"{found.loss_difference:+.3f} (95 %: {found.low:+.3f} to {found.high:+.3f}){note}"
    )


def _note(job: Job, old: Version) -> str:
    trained_on = old.tags.get("train.sha256")
    if trained_on in (None, job.parts.digests["train"]):
        return ""
    return "; that one was trained on other rows, perhaps on some of these"
