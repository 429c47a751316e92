"""Writing the final round to MLflow: one run for each optimizer, under the trial that it repeats.

So the children of a train run are its trials and nothing else.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from mlflow.entities import Metric

from pipeline.common import text as formats
from pipeline.tracking.runs import DESCRIPTION, Stage
from pipeline.tracking.trials import Logged, TrialLog, TrialRecord


@dataclass(frozen=True)
class FinalLog(TrialLog):
    """Writes the finalists of one train run.

    round: which round it is: what was asked of it, and the trials that are in it.
    also: further metrics by the trial's number in the search.
    repeated: the run of each trial, by the same number.
    """

    round: str = ""
    also: Mapping[int, Mapping[str, float | None]] = field(default_factory=dict)
    repeated: Mapping[int, str] = field(default_factory=dict)
    stage: ClassVar[Stage] = "final"

    def written(self) -> dict[int, Logged]:
        """The finalists of this round that are whole in the store, by their numbers."""
        found = {}
        for run in self.store.search(
            f"tags.`final.train` = '{self.train.run_id}'", "tags.`pipeline.stage` = 'final'"
        ):
            tags = run.data.tags
            is_whole = run.info.status != "RUNNING" and "pipeline.abandoned" not in tags
            if is_whole and tags.get("final.round") == self.round:
                outputs = run.outputs.model_outputs if run.outputs else []
                model_id = outputs[0].model_id if outputs else None
                found[int(tags["final.trial"])] = Logged(run.info.run_id, model_id)
        return found

    def _name(self, trial: TrialRecord) -> str:
        return f"final · {trial.optimizer} lr={trial.lr:.2g}"

    def _tags(self, trial: TrialRecord) -> dict[str, str]:
        tags = {
            "mlflow.parentRunId": self.repeated[trial.number],
            "final.train": self.train.run_id,
            "final.round": self.round,
            "final.trial": str(trial.number),
            "final.state": trial.state,
            DESCRIPTION: self._outcome(trial),
        }
        return tags | {"final.reason": trial.reason} if trial.reason else tags

    def _outcome(self, trial: TrialRecord) -> str:
        also = self.also.get(trial.number)
        if also is None:
            return f"Trial {trial.number} once more, on fresh folds. It failed: {trial.reason}."
        known = {key: formats.percent(value) for key, value in also.items()}
        return (
            f"Trial {trial.number} once more, on fresh folds from fresh weights: "
            f"{known['cross_fitted_accuracy']} accuracy at epochs that other rows chose, "
            f"{formats.percent(trial.accuracy)} at the kept ones; the search had "
            f"{known['search_accuracy']}."
        )

    def _scores(self, trial: TrialRecord, end: int, model_id: str | None) -> list[Metric]:
        also: Mapping[str, Any] = self.also.get(trial.number, {})
        more = [
            Metric(key, float(value), end, 0)
            for key, value in also.items()
            if value is not None and math.isfinite(value)
        ]
        return super()._scores(trial, end, model_id) + more
