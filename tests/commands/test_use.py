"""The registered model at work, as docs/model.md says: loaded, served, trained, elsewhere."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.models import Model
from sklearn.datasets import load_breast_cancer

from pipeline.models import flavor
from tests.servers import free_port, post, serving
from tests.small_model import make_program, make_rows, make_schema

ROOT = Path(__file__).parents[2]
MODEL = (ROOT / "docs" / "model.md").read_text()
pytestmark = pytest.mark.slow  # whole processes and servers: a minute in all


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", MODEL, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[Path]:
    """A working folder in which the default configuration has run, with few trials."""
    place = tmp_path_factory.mktemp("use")
    shutil.copy(empty_store, place / "mlflow.db")
    for name in ("pipeline", "configs"):
        (place / name).symlink_to(ROOT / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place}/mlflow.db")
        few = ["--set", "search.trials=3", "training.epochs=8"]
        subprocess.run([sys.executable, "-m", "pipeline", "run", *few], check=True)
        before = mlflow.get_tracking_uri()
        mlflow.set_tracking_uri(f"sqlite:///{place}/mlflow.db")
        load_breast_cancer(as_frame=True).data.head(12).to_csv("rows.csv", index=False)
        _register_every_kind()
        yield place
        mlflow.set_tracking_uri(before)


def _register_every_kind() -> None:
    """A model of three labels over numbers, booleans, dates and text, as models:/kinds@champion."""
    with mlflow.start_run() as run:
        info = Model.log(
            artifact_path=None,
            flavor=flavor,
            name="model",
            run_id=run.info.run_id,
            program=make_program(5, 3),
            schema=make_schema(["a", "b", "c"]),
            input_example=make_rows(),
            requirements=flavor.default_requirements(),
            validate_serving_input=False,
        )
    version = mlflow.register_model(info.model_uri, "kinds").version
    mlflow.MlflowClient().set_registered_model_alias("kinds", "champion", version)


def test_the_readmes_python(folder: Path) -> None:
    names: dict[str, Any] = {}
    examples = blocks("python")
    assert len(examples) >= 2
    for example in examples:
        exec(example, names)
    assert len(names["model"].predict(pd.read_csv("rows.csv"))) == 12
    assert np.isfinite(names["loss"].item())


def test_the_readmes_commands(folder: Path) -> None:
    serve, predict = (shlex.split(block.splitlines()[0]) for block in blocks("sh"))
    expected = mlflow.pyfunc.load_model("models:/breast-cancer@champion").predict(
        pd.read_csv("rows.csv")
    )
    assert predict[:3] == ["python", "-m", "pipeline"]
    subprocess.run([sys.executable, *predict[1:]], check=True)
    written = pd.read_csv("predictions.csv")
    assert list(written["mean radius"]) == list(pd.read_csv("rows.csv")["mean radius"])
    np.testing.assert_allclose(written["probability"], expected["probability"], atol=1e-6)

    port = free_port()
    assert serve[-2:] == ["--port", "5001"]
    with serving([*serve[:-1], str(port)], port):
        status, answer = post(port, Path("rows.csv").read_bytes(), "text/csv")
    assert status == 200, answer
    found = pd.DataFrame(answer["predictions"])
    assert list(found["prediction"]) == list(expected["prediction"])
    np.testing.assert_allclose(found["probability"], expected["probability"], atol=1e-6)


def test_a_server_answers_what_predict_gives(folder: Path) -> None:
    port = free_port()
    uri = "models:/kinds@champion"
    rows = make_rows().assign(
        income=[1.5, None, 2, -3], since=["2020-01-02", None, "", "2021-03-04"]
    )
    rows = rows.astype(object).where(rows.notna(), None)
    expected = mlflow.pyfunc.load_model(uri).predict(rows)
    command = ["mlflow", "models", "serve", "-m", uri, "--env-manager", "local"]
    with serving([*command, "--port", str(port)], port):
        for body in (
            {"dataframe_split": rows.to_dict("split", index=False)},
            {"dataframe_records": rows.to_dict("records")},
            {"inputs": rows.to_dict("list")},
            {"inputs": rows.to_dict("records")},
        ):
            status, answer = post(port, json.dumps(body).encode())
            assert status == 200, answer
            found = pd.DataFrame(answer["predictions"])
            assert list(found["prediction"]) == list(expected["prediction"])
            for name in expected.columns[1:]:
                np.testing.assert_allclose(found[name], expected[name], atol=1e-6)
        status, answer = post(port, rows.to_csv(index=False).encode(), "text/csv")
        assert status == 200, answer
        for body, reason in (
            ({"dataframe_records": [{"age": 1}]}, "columns missing: 'income'"),
            ({"inputs": rows.assign(age="x").to_dict("list")}, "column 'age': expected a number"),
            ({"rows": []}, "dataframe_split"),
        ):
            status, answer = post(port, json.dumps(body).encode())
            assert status == 400
            assert reason in answer["message"]


def test_the_example(folder: Path) -> None:
    example = ROOT / "examples" / "use_the_model.py"
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(
        [sys.executable, str(example)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "step 4: loss" in done.stdout
    assert not re.search(r"loss (nan|inf)", done.stdout)


def test_what_an_image_is_built_of(folder: Path, tmp_path: Path) -> None:
    """No container engine is needed to see that what it would be given is whole."""
    uri = "models:/breast-cancer@champion"
    command = ["mlflow", "models", "generate-dockerfile", "-m", uri, "-d", str(tmp_path)]
    subprocess.run([sys.executable, "-m", *command], check=True, capture_output=True)
    assert "COPY model_dir /opt/ml/model" in (tmp_path / "Dockerfile").read_text()
    copied = tmp_path / "model_dir"
    needed = (copied / "requirements.txt").read_text().splitlines()
    assert {line.partition("==")[0] for line in needed} == {"mlflow", "numpy", "pandas", "torch"}
    rows = pd.read_csv("rows.csv")
    found, expected = (mlflow.pyfunc.load_model(str(one)).predict(rows) for one in (copied, uri))
    pd.testing.assert_frame_equal(found, expected)


CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
# The browser runs without root's leave, a screen and a look at the network.
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]


@pytest.mark.skipif(CHROMIUM is None, reason="no browser")
def test_the_pages_of_mlflows_ui(folder: Path) -> None:
    """What somebody finds there after a run: names, links, metrics, the model and the report."""
    browsers = pytest.importorskip("playwright.sync_api")
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("breast-cancer").experiment_id
    runs = {run.data.tags["pipeline.stage"]: run for run in client.search_runs([experiment])}
    version = client.get_model_version_by_alias("breast-cancer", "champion")
    model_id = version.source.removeprefix("models:/")
    final = client.get_run(version.run_id)
    pipeline, trial = (
        f"/experiments/{experiment}/runs/{runs[stage].info.run_id}"
        for stage in ("pipeline", "trial")
    )
    pages = {
        f"/experiments/{experiment}/runs": ["pipeline · breast_cancer"],
        pipeline: ["did best", "test_accuracy"],
        f"{pipeline}/artifacts/report.html": ["report.html", "summary.json", "config.yaml"],
        f"/experiments/{experiment}/runs/{final.info.run_id}": [
            final.info.run_name,
            "once more, in the final round",
            "breast_cancer-train",
        ],
        trial: [runs["trial"].info.run_name, "validation accuracy", "optimizer"],
        f"{trial}/model-metrics": ["train_loss", "val_loss", "val_accuracy"],
        f"/experiments/{experiment}/models/{model_id}": [
            *("Ready", "breast-cancer", "breast_cancer-test", "test_accuracy_low"),
            "Rows have the columns",
        ],
        "/models/breast-cancer": ["champion", "Predicts target"],
        f"/models/breast-cancer/versions/{version.version}": [
            *("champion", "Test accuracy", "Rows have the columns mean radius", "Outputs (2)")
        ],
    }
    port = free_port()
    server = ["mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    store = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    with serving([*server, *store], port), browsers.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1500, "height": 1000})
        for place, words in pages.items():
            page.goto(f"http://127.0.0.1:{port}/#{place}")
            for word in words:
                page.get_by_text(word).first.wait_for(timeout=60_000)
        page.goto(f"http://127.0.0.1:{port}/#{pipeline}/artifacts/report.html")
        frame = page.frame_locator("iframe").first
        frame.locator("h1").first.wait_for(timeout=60_000)
        browser.close()
