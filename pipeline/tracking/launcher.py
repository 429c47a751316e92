"""The run that `mlflow run` makes before it starts us.

When we have ended, its launcher sets that run to FINISHED or FAILED by our exit status, whatever
it was before (mlflow/projects/__init__.py compares the name of a status with numbers, and so never
sees that a run has ended). So the run that it is about ends in one of these two.
"""

import os
import re
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

from pipeline.common.errors import UserError

# What MLflow calls a run that got no name: `stylish-crab-123`.
_GENERATED_NAME = re.compile(r"[a-z]+-[a-z]+-\d+")

_DEFAULT_EXPERIMENT = "Default"


def take_run_id(environment: MutableMapping[str, str] = os.environ) -> str | None:
    """The launcher's run, removed from the environment so that no child process takes it again.

    MLFLOW_TRACKING_URI stays: everything that loads a model reads it.
    """
    run_id = environment.pop("MLFLOW_RUN_ID", None)
    if run_id:
        environment.pop("MLFLOW_EXPERIMENT_ID", None)
    return run_id or None


@dataclass(frozen=True)
class Launcher:
    """The launcher's run and the experiment that it is in."""

    run_id: str
    experiment_id: str
    experiment: str
    given_name: str | None

    @classmethod
    def find(cls, client: Any, run_id: str) -> "Launcher":
        """Read the run from the store; UserError when it isn't there or has ended long ago."""
        from mlflow.exceptions import MlflowException

        try:
            info = client.get_run(run_id).info
        except MlflowException as error:
            raise UserError(
                f"MLFLOW_RUN_ID={run_id}: no such run in {client.tracking_uri}; "
                "unset MLFLOW_RUN_ID to make a new one"
            ) from error
        if info.status not in ("RUNNING", "SCHEDULED") or info.lifecycle_stage != "active":
            raise UserError(
                f"MLFLOW_RUN_ID={run_id}: the run must be running; it is "
                f"{info.status if info.lifecycle_stage == 'active' else 'deleted'}; "
                "unset MLFLOW_RUN_ID to make a new one"
            )
        experiment = client.get_experiment(info.experiment_id)
        generated = _GENERATED_NAME.fullmatch(info.run_name or "")
        return cls(
            run_id, info.experiment_id, experiment.name, None if generated else info.run_name
        )

    def chose_experiment(self, configured: str) -> bool:
        """Whether the launcher's run is in the experiment where everything belongs.

        A launcher that is told no experiment makes its run in Default.
        """
        return self.experiment == configured or self.experiment != _DEFAULT_EXPERIMENT
