"""MLflow's own tools on the champion."""

import json
import os
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.models import convert_input_example_to_serving_input, validate_serving_input
from sklearn.datasets import load_breast_cancer

from tests.commands.test_by_hand import Place
from tests.commands.test_by_hand import finished as finished
from tests.commands.test_by_hand import place as place

URI = "models:/quick@champion"


def rows_and_labels() -> pd.DataFrame:
    table = load_breast_cancer(as_frame=True)
    labels = np.asarray(table.target_names)[table.target]
    return table.data.assign(target=labels).iloc[:120]


def test_serving_input(place: Place) -> None:
    rows = rows_and_labels().drop(columns="target").head(3)
    payload = convert_input_example_to_serving_input(rows)
    answer = validate_serving_input(URI, payload)
    assert list(pd.DataFrame(answer).columns) == ["prediction", "probability"]


@pytest.mark.slow
def test_evaluate(place: Place) -> None:
    """MLflow's classifier evaluator takes one column of predictions."""
    frame, model = rows_and_labels(), mlflow.pyfunc.load_model(URI)
    accuracy = np.mean(model.predict(frame)["prediction"] == frame["target"])
    result = mlflow.models.evaluate(
        lambda rows: model.predict(rows)["prediction"],
        frame,
        targets="target",
        model_type="classifier",
        evaluator_config={"log_explainer": False},
    )
    assert result.metrics["accuracy_score"] == pytest.approx(accuracy)


@pytest.mark.slow
def test_models_predict(place: Place) -> None:
    rows_and_labels().drop(columns="target").head(3).to_csv("rows.csv", index=False)
    command = ["models", "predict", "-m", URI, "--env-manager", "local", "-t", "csv"]
    argv = [sys.executable, "-m", "mlflow", *command, "-i", "rows.csv", "-o", "out.json"]
    subprocess.run(argv, env=dict(os.environ), check=True, capture_output=True)
    assert len(json.loads(Path("out.json").read_text())["predictions"]) == 3
