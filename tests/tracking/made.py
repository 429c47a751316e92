"""A trial as training gives it, and what runs there are."""

from typing import Any

import numpy as np
from mlflow import MlflowClient

from pipeline.training.trial import Trial


def make_trial(number: int = 0, **changed: Any) -> Trial:
    """A complete trial of five epochs."""
    usual: dict[str, Any] = {
        "params": {"optimizers.3.lr": 0.0032},
        "state": "COMPLETE",
        "curves": {
            "train_loss": np.linspace(0.9, 0.5, 5),
            "val_loss": np.linspace(0.9, 0.6, 5),
            "val_accuracy": np.linspace(0.5, 0.7, 5),
            "folds_running": np.array([3.0, 3, 2, 1, 1]),
        },
        "best_epoch": 4.2,
        "seconds": 2.0,
    }
    if changed.get("state", "COMPLETE") == "COMPLETE":
        usual["scores"] = {"loss": 0.6, "accuracy": 0.7}
        usual["deviations"] = {"loss": 0.02, "accuracy": 0.01}
    return Trial(number, "Adam", **({"lr": 0.0032} | usual | changed))


def statuses(client: MlflowClient, experiment: str) -> dict[str, str]:
    found = client.get_experiment_by_name(experiment)
    runs = client.search_runs([found.experiment_id])
    return {run.info.run_name: run.info.status for run in runs}
