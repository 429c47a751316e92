"""Views that MLflow's pages open by name, read back as the pages read them, and in a browser."""

import base64
import json
import re
import shutil
import subprocess
import zlib
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from pipeline.models.metrics import ACCURACY, LOSS, Metric
from pipeline.tracking.store import Store
from pipeline.tracking.views import FINAL, NAMES, RATES, TRIALS, address, write_views
from tests.servers import free_port, serving

SCORES = {"#00 SGD": 0.71, "#01 Adam": 0.93, "#02 Adam": 0.84}


def written(folder: Path, metric: Metric = ACCURACY) -> tuple[MlflowClient, str]:
    """A store with a search of three trials and its views, beside another search."""
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.create_experiment("viewed")
    runs = {}
    for search in ("train", "other"):
        runs[search] = client.create_run(experiment, tags={"pipeline.stage": "train"}).info.run_id
        for name, accuracy in SCORES.items():
            tags = {"pipeline.stage": "trial", "mlflow.parentRunId": runs[search]}
            run = client.create_run(experiment, tags=tags, run_name=name).info.run_id
            client.log_metric(run, "accuracy", accuracy)
            client.log_metric(run, "loss", 1 - accuracy)
            client.log_param(run, "lr", 0.1)
            client.set_terminated(run)
    store = Store(client, experiment, "viewed")
    write_views(store, metric, runs["train"], 1_000)
    return client, experiment


def views(client: MlflowClient, experiment: str) -> dict[str, Any]:
    tags = client.get_experiment(experiment).tags
    found = {}
    for key, value in tags.items():
        if key.startswith("mlflow.sharedViewState."):
            view = json.loads(value)
            packed = view["state"].removeprefix("deflate;")
            state = json.loads(zlib.decompress(base64.b64decode(packed)))
            found[key.rpartition(".")[2]] = view | {"state": state}
    return found


@pytest.mark.parametrize("metric", [ACCURACY, LOSS])
def test_a_view_has_the_trials_of_its_search_the_best_first(
    tmp_path: Path, empty_store: Path, metric: Metric
) -> None:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    client, experiment = written(tmp_path, metric)
    found = views(client, experiment)
    assert found.keys() == {TRIALS, RATES, FINAL}
    state = found[TRIALS]["state"]
    order = f"{state['orderByKey']} {'ASC' if state['orderByAsc'] else 'DESC'}"
    runs = client.search_runs([experiment], state["searchFilter"], order_by=[order])
    assert [run.info.run_name for run in runs] == ["#01 Adam", "#02 Adam", "#00 SGD"]
    assert f"metrics.`{metric.name}`" in state["selectedColumns"]
    (scatter,) = (c for c in state["compareRunCharts"] if c["type"] == "SCATTER")
    assert (scatter["xaxis"]["key"], scatter["yaxis"]["key"]) == ("lr", metric.name)
    assert all(len(tag) < 5000 for tag in client.get_experiment(experiment).tags.values())


@pytest.mark.slow  # a server and a browser
@pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium")
def test_mlflows_page_shows_the_view(tmp_path: Path, empty_store: Path) -> None:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    _, experiment = written(tmp_path)
    port = free_port()
    store = ["--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db"]
    command = ["mlflow", "server", *store, "--port", str(port), "--workers", "1"]
    with serving(command, port):
        browser = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
        budget = ["--virtual-time-budget=30000", "--window-size=1500,900"]
        for key in (TRIALS, RATES):
            page = f"http://127.0.0.1:{port}/{address(experiment, key)}"
            command = [*browser, *budget, f"--user-data-dir={tmp_path}/{key}", page]
            shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            assert NAMES[key] in shown
            assert "Error loading" not in shown
            names = list(dict.fromkeys(re.findall(r"#0\d (?:Adam|SGD)", shown)))
            assert names == ["#01 Adam", "#02 Adam", "#00 SGD"]
