"""What metrics are called: those that every run knows, and those that a configuration names."""

import re
from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator

from pipeline.config.component import Component, Metric
from pipeline.config.ranges import refuse

ON_TEST_ROWS = ("accuracy", "loss", "auroc", "balanced_accuracy", "f1_score")
"""Measured on test rows, and known as an objective, without an entry under `metrics`."""
GOALS = ("accuracy", "f1", "youden")
"""What a threshold is chosen for, beside metrics that judge predicted labels."""
LESS_IS_BETTER = ("CalibrationError", "EER", "HammingDistance", "HingeLoss")
"""Of torchmetrics' classes, which do not all say so; greater values of others are better."""
PREFIX = "val_"
"""What a metric is called where it is measured on validation rows after every epoch."""

_TAKEN = re.compile(
    "|accuracy|loss|train_loss|best_epoch|folds_running|rows|shift_auc|number|optimizer|lr|state|"
    "seconds|reason|params|(best|fold|search|test|val|cross_fitted|ensemble|optimism)_.*|.*_(low|high|std)"
)
"""Names that something else has, in MLflow or in a table."""


def metric_name(component: Component) -> str:
    """The label, else the class's or the function's name, in snake case as torchmetrics.functional
    has it: `AUROC` is auroc, `F1Score` f1_score, `FBetaScore` fbeta_score."""
    text = component.label or component.name
    words = re.sub(r"(?<=[a-z\d])(?=[A-Z])|(?<=[A-Z]{2})(?=[A-Z][a-z])", "_", text)
    return re.sub(r"\W+", "_", words).strip("_").lower()


def _differing(metrics: tuple[Component, ...]) -> tuple[Component, ...]:
    names = [metric_name(metric) for metric in metrics]
    refuse(
        *(
            ((place,), f"must have a name of its own, and {name!r} is taken; give it a label")
            for place, name in enumerate(names)
            if name in names[:place] or _TAKEN.fullmatch(name)
        )
    )
    return metrics


Metrics = Annotated[tuple[Metric, ...], AfterValidator(_differing)]


def words(metrics: Iterable[Component]) -> dict[str, list[str]]:
    """What may stand at `search.objective` and `registry.threshold`, by the key."""
    names = [*dict.fromkeys((*ON_TEST_ROWS, *map(metric_name, metrics)))]
    judging = [name for name in names if name not in ("loss", "auroc")]
    goals = [*dict.fromkeys((*GOALS, *judging)), *(PREFIX + name for name in judging)]
    return {"objective": [PREFIX + name for name in names], "threshold": goals}
