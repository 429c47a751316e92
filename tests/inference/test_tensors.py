"""Models of arrays: what they take, what they refuse, and MLflow's loaders and server."""

import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.exceptions import MlflowException

from pipeline import inference
from tests.servers import free_port, post, serving
from tests.small_array_model import (
    array_program,
    array_schema,
    expected_probabilities,
    save_array_model,
)

RANDOM = np.random.default_rng(1)


def model(shape: tuple[int, ...], dtype: str, labels: int = 2) -> inference.TabularModel:
    schema = array_schema(shape, dtype, [f"l{i}" for i in range(labels)])
    return inference.TabularModel(array_program(shape, dtype, labels).module(), schema)


FORMS: dict[str, Any] = {
    "NumPy": lambda rows: rows,
    "float64": lambda rows: rows.astype(np.float64),
    "a torch tensor": torch.from_numpy,
    "lists": lambda rows: rows.tolist(),
    "a list of arrays": list,
    "a list of tensors": lambda rows: list(torch.from_numpy(rows)),
    "not contiguous": lambda rows: np.asfortranarray(rows),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["float32", "uint8", "int64"])
def test_every_form_of_an_array_gives_the_same(form: str, dtype: str) -> None:
    rows = RANDOM.integers(0, 200, (5, 3, 4)).astype(dtype)
    found = model((3, 4), dtype).predict(FORMS[form](rows))
    expected = expected_probabilities(rows)
    np.testing.assert_allclose(found["probability"], expected[:, 1], atol=1e-6)
    assert list(found["prediction"]) == [f"l{i}" for i in expected.argmax(axis=1)]


def test_three_labels_and_a_threshold() -> None:
    rows = RANDOM.normal(size=(6, 3)) * 50
    found = model((3,), "float32", 3).predict(rows)
    expected = expected_probabilities(rows, 3)
    np.testing.assert_allclose(found.iloc[:, 1:], expected, atol=1e-6)
    assert list(found.columns[1:]) == ["probability_l0", "probability_l1", "probability_l2"]
    every = model((3,), "float32").predict(rows, {"threshold": 0.0})
    assert set(every["prediction"]) == {"l1"}


@pytest.mark.parametrize("none", [[], np.empty((0, 2, 2)), torch.empty((0, 2, 2))])
def test_no_rows(none: Any) -> None:
    found = model((2, 2), "float32").predict(none)
    assert list(found.columns) == ["prediction", "probability"]
    assert len(found) == 0


def test_many_rows_are_those_of_one_pass() -> None:
    rows = RANDOM.normal(size=(5_000, 4)).astype(np.float32)
    found = model((4,), "float32").probabilities(rows)
    np.testing.assert_allclose(found, expected_probabilities(rows), atol=1e-6)


def test_rows_of_one_dimension_may_be_a_frame() -> None:
    frame = pd.DataFrame(RANDOM.normal(size=(3, 2)), index=["a", "b", "c"])
    found = model((2,), "float32").predict(frame)
    assert list(found.index) == ["a", "b", "c"]
    np.testing.assert_allclose(found["probability"], expected_probabilities(frame)[:, 1], atol=1e-6)


WRONG: dict[str, tuple[str, Any, str]] = {
    "another shape": ("float32", np.zeros((5, 3)), "[rows, 2, 2] of numbers; got [5, 3]"),
    "a single row": ("float32", np.zeros((2, 2)), "got a single row [2, 2]: rows[None]"),
    "text": ("float32", np.full((1, 2, 2), "x"), "got <U1"),
    "objects": ("float32", np.full((1, 2, 2), None), "got object"),
    "a dictionary": ("float32", {"x": [1]}, "got dict"),
    "a number": ("float32", 3.0, "got []"),
    "unequal rows": ("float32", [[[1, 2], [3, 4]], [[1, 2]]], "inhomogeneous"),
    "NaN": ("float32", np.array([[[0, 0], [0, np.nan]]]), "finite numbers of float32; got nan"),
    "beyond float32": ("float32", np.full((2, 2, 2), 1e300), "in row 0, and in 1 more row"),
    "beyond uint8": ("uint8", np.full((1, 2, 2), 256), "from 0 to 255; got 256 in row 0"),
    "negative": ("uint8", np.full((1, 2, 2), -1), "from 0 to 255; got -1"),
    "fractions for bytes": ("uint8", np.full((1, 2, 2), 0.5), "from 0 to 255; got 0.5"),
    "NaN for bytes": ("uint8", np.full((1, 2, 2), np.nan), "from 0 to 255; got nan"),
    "fractions for ids": ("int64", np.full((1, 2, 2), 1.5), "whole numbers; got 1.5"),
    "infinity for ids": ("int64", np.full((1, 2, 2), np.inf), "whole numbers; got inf"),
}


@pytest.mark.parametrize("case", WRONG)
def test_rows_that_do_not_fit_are_refused_by_name(case: str) -> None:
    dtype, rows, words = WRONG[case]
    with pytest.raises(inference.InputError) as caught:
        model((2, 2), dtype).predict(rows)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": None},
        {"inputs": {"shape": [], "dtype": "float32"}},
        {"inputs": {"shape": [2, -1], "dtype": "float32"}},
        {"inputs": {"shape": [2, True], "dtype": "float32"}},
        {"inputs": {"shape": [2], "dtype": "object"}},
        {"inputs": {"dtype": "float32"}},
    ],
)
def test_a_damaged_schema_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(inference.ModelError, match="inputs"):
        inference.check_schema(array_schema((2,), "float32") | change, "schema.json")


def test_a_schema_of_another_program_is_refused(tmp_path: Path) -> None:
    folder = save_array_model(tmp_path / "model", array_schema((2, 2), "float32"))
    schema = array_schema((2, 3), "float32")
    (folder / inference.SCHEMA_FILE).write_text(json.dumps(schema))
    with pytest.raises(inference.ModelError, match="made for another schema"):
        inference.load(folder)


# In MLflow ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("arrays") / "model"
    return save_array_model(place, array_schema((1, 4, 4), "uint8"))


def test_mlflow_loads_it(folder: Path) -> None:
    rows = RANDOM.integers(0, 256, (7, 1, 4, 4))
    expected = expected_probabilities(rows)
    served = mlflow.pyfunc.load_model(str(folder))
    np.testing.assert_allclose(served.predict(rows)["probability"], expected[:, 1], atol=1e-6)
    bare = mlflow.pytorch.load_model(str(folder))
    with torch.no_grad():
        found = bare(torch.from_numpy(rows.astype(np.uint8)))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    with pytest.raises(MlflowException, match="rows must be an array") as caught:
        served.predict(rows[:, 0])
    assert caught.value.get_http_status_code() == 400


def test_the_example_is_mlflows(folder: Path) -> None:
    model = mlflow.models.Model.load(folder)
    example = model.load_input_example(str(folder))
    assert example.shape == (2, 1, 4, 4)
    served = mlflow.pyfunc.load_model(str(folder))
    assert len(served.predict(example)) == 2
    assert model.metadata == {"target": "label", "inputs": {"shape": [1, 4, 4], "dtype": "uint8"}}
    assert mlflow.models.validate_serving_input(
        str(folder), (folder / "serving_input_example.json").read_text()
    ).shape == (2, 2)


@pytest.mark.slow
def test_the_server_answers(folder: Path) -> None:
    rows = RANDOM.integers(0, 256, (3, 1, 4, 4))
    port = free_port()
    command = ["mlflow", "models", "serve", "-m", str(folder), "-p", str(port)]
    with serving([*command, "--env-manager", "local"], port):
        for key in ("inputs", "instances"):
            status, answer = post(port, json.dumps({key: rows.tolist()}).encode())
            assert status == 200, answer
            found = [row["probability"] for row in answer["predictions"]]
            np.testing.assert_allclose(found, expected_probabilities(rows)[:, 1], atol=1e-6)
        status, answer = post(port, json.dumps({"inputs": rows[0].tolist()}).encode())
        assert status == 400
        assert "single row" in answer["message"]
        fractions = (rows + 0.5).tolist()
        status, answer = post(port, json.dumps({"inputs": fractions}).encode())
        assert status == 400
        assert "whole numbers from 0 to 255" in answer["message"]
