"""Views of an experiment that MLflow's pages offer by name: which runs, columns, order and charts.

MLflow keeps a view as a tag of the experiment, whose value names it and holds the pages' state as
JSON, compressed by zlib; the address of the runs opens it by `viewStateShareKey`."""

import base64
import json
import zlib
from collections.abc import Sequence
from typing import Any

from pipeline.models.metrics import ACCURACY, LOSS, Metric
from pipeline.tracking.store import Store

TRIALS, RATES, FINAL = "trials", "rates", "final"
NAMES = {
    TRIALS: "Trials, best first",
    RATES: "Learning rate against score",
    FINAL: "Final rounds on fresh folds",
}
"""What the views are called, by their keys."""

_PREFIX = "mlflow.sharedViewState."


def write_views(store: Store, metric: Metric, train_run_id: str, created: int) -> None:
    """Write the views of a search, in place of those of the experiment's last search.

    Args:
        metric: what the best trial is best in.
        created: milliseconds since the epoch, by which MLflow sorts them."""
    of_search = f"tags.`mlflow.parentRunId` = '{train_run_id}'"
    of_stage = "tags.`pipeline.stage` = '{}'".format
    scores = dict.fromkeys((metric.name, ACCURACY.name, LOSS.name))
    columns = [
        *("params.`optimizer`", "params.`lr`"),
        *(f"metrics.`{name}`" for name in (*scores, f"{metric.name}_std", "best_epoch")),
    ]
    crossed_name = f"cross_fitted_{metric.name}"
    crossed = [f"metrics.`cross_fitted_{name}`" for name in scores]
    charts = [
        _chart("scatter", type="SCATTER", runsCountToCompare=100,
               xaxis={"key": "lr", "type": "PARAM"}, yaxis={"key": metric.name, "type": "METRIC"}),
        *(_chart(name, type="LINE", metricKey=name, selectedMetricKeys=[name])
          for name in dict.fromkeys((metric.curve, "train_loss", LOSS.curve))),
    ]  # fmt: skip
    trials = [of_stage("trial"), of_search]
    finals = [*columns[:2], *crossed]
    views = {
        TRIALS: (trials, metric.name, columns),
        RATES: (trials, metric.name, columns),
        FINAL: ([of_stage("final")], crossed_name, finals),
    }
    for place, (key, (conditions, order, shown)) in enumerate(views.items()):
        state = _state(conditions, order, metric.greater_is_better, shown, charts)
        packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
        view = {"name": NAMES[key], "createdAt": created - place, "state": f"deflate;{packed}"}
        store.client.set_experiment_tag(store.experiment_id, _PREFIX + key, json.dumps(view))


def pages_of(experiment_id: str) -> dict[str, str]:
    """The page of each view by its name."""
    return {name: address(experiment_id, key) for key, name in NAMES.items()}


def _state(
    conditions: Sequence[str],
    order: str,
    descending: bool,
    columns: Sequence[str],
    charts: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    return {
        "searchFilter": " AND ".join(conditions),
        "orderByKey": f"metrics.`{order}`",
        "orderByAsc": not descending,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": list(columns),
        "runsHiddenMode": "SHOW_ALL",
        "compareRunCharts": list(charts),
        "compareRunSections": [{"uuid": "search", "name": "Search", "display": True,
                                "isReordered": True}],
        "isAccordionReordered": True,
        "autoRefreshEnabled": False,
    }  # fmt: skip


def _chart(name: str, **about: Any) -> dict[str, Any]:
    return {"uuid": name, "metricSectionId": "search", "deleted": False, "isGenerated": False,
            **about}  # fmt: skip


def address(experiment_id: str, key: str = TRIALS) -> str:
    """The page of a view, relative to where MLflow's pages are served."""
    charts = "&compareRunsMode=CHART" if key == RATES else ""
    return f"#/experiments/{experiment_id}/runs?viewStateShareKey={key}{charts}"
