"""A registered model where nothing is installed but what it asks for: every use that README names.

The environment is made from the requirements.txt in the model's folder. What is expected comes from
the graph in that folder, run by torch on rows that this project has encoded.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pytest
import torch

from pipeline import __main__ as command_line
from pipeline.data.encoding import to_raw
from pipeline.data.schema import Schema
from tests.servers import free_port, outside, post, serving

pytestmark = pytest.mark.slow  # an environment is made: minutes

COLOURS = ("red", "green", "blue")
SETTINGS = """
experiment: clean
data: {source: table.csv, target: bought, positive: "yes"}
validation: {folds: 2, final: {folds: 2, repeats: 1}}
model: {hidden: [8]}
training: {epochs: 20}
search: {trials: 4, sampler: random}
"""


def make_table(rows: int = 240) -> pd.DataFrame:
    """Numbers, booleans, dates and categories, with gaps in all of them."""
    draw = np.random.default_rng(0)
    age, income = draw.integers(18, 80, rows).astype(float), draw.normal(3e3, 1e3, rows).round(2)
    colour = draw.choice(COLOURS, rows).astype(object)
    day = pd.Timestamp("2020-01-01") + pd.to_timedelta(draw.integers(0, 2000, rows), "D")
    frame = pd.DataFrame(
        {
            "age": age,
            "income": income,
            "member": (draw.random(rows) < 0.5).astype(object),
            "since": day.strftime("%Y-%m-%d"),
            "colour": colour,
        }
    )
    score = (age - 50) / 20 + (income - 3e3) / 1e3 + (colour == "red") + draw.normal(0, 1, rows)
    for name in frame:
        frame.loc[draw.random(rows) < 0.1, name] = None
    return frame.assign(bought=np.where(score > 0, "yes", "no"))


@dataclass(frozen=True)
class Clean:
    """A model's folder and rows, in a place from which the project cannot be seen."""

    place: Path
    model: Path
    python: Path
    rows: pd.DataFrame

    def expected(self, rows: pd.DataFrame | None = None) -> npt.NDArray[np.float32]:
        """Probabilities of "yes" [rows], without the code that is shipped with the model."""
        schema = Schema.from_dict(json.loads((self.model / "schema.json").read_text()))
        frame = self.rows if rows is None else rows
        raw = to_raw(pa.Table.from_pandas(frame, preserve_index=False), schema)
        program = torch.export.load(self.model / "model.pt2").module()
        return np.asarray(program(torch.from_numpy(raw)).detach().numpy()[:, 1])

    def use_everything(self) -> dict[str, Any]:
        script = shutil.copy(Path(__file__).parents[1] / "use_everything.py", self.place)
        files = [self.place / name for name in ("rows.csv", "raw.npy", "found.json")]
        subprocess.run(
            [self.python, "-I", script, self.model, *files],
            cwd=self.place,
            env={**outside(self.python), "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"},
            check=True,
        )
        found: dict[str, Any] = json.loads(files[-1].read_text())
        return found


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Clean:
    project, place = tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("elsewhere")
    shutil.copy(empty_store, project / "mlflow.db")
    table = make_table()
    before = mlflow.get_tracking_uri()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project}/mlflow.db")
        Path("clean.yaml").write_text(SETTINGS)
        table.to_csv("table.csv", index=False)
        assert command_line.main(["run", "--config", "clean.yaml"]) == 0
        mlflow.set_tracking_uri(f"sqlite:///{project}/mlflow.db")
        uri = "models:/clean/1"
        model = Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(place / "model")))
    mlflow.set_tracking_uri(before)
    table.drop(columns="bought").head(12).to_csv(place / "rows.csv", index=False)
    rows = pd.read_csv(place / "rows.csv")
    assert rows.isna().any().sum() >= 3
    schema = Schema.from_dict(json.loads((model / "schema.json").read_text()))
    np.save(place / "raw.npy", to_raw(pa.Table.from_pandas(rows, preserve_index=False), schema))

    subprocess.run([sys.executable, "-m", "venv", place / "venv"], check=True)
    python = place / "venv" / "bin" / "python"
    pip_install(python, "-r", str(model / "requirements.txt"))
    return Clean(place, model, python, rows)


def pip_install(python: Path, *what: str) -> None:
    subprocess.run([python, "-m", "pip", "install", "-q", *what], env=outside(python), check=True)


@pytest.fixture(scope="module")
def found(clean: Clean) -> dict[str, Any]:
    return clean.use_everything()


def test_the_project_is_not_there(found: dict[str, Any]) -> None:
    assert found["installed"] == []


SAME = (
    "frame",
    "dictionary of columns",
    "list of dictionaries",
    "columns reversed",
    "a column more",
)


@pytest.mark.parametrize("use", SAME)
def test_the_same_rows_in_every_shape(clean: Clean, found: dict[str, Any], use: str) -> None:
    assert_right(found[use], clean.expected())


Change = Callable[[pd.DataFrame], pd.DataFrame]
CHANGES: dict[str, Change] = {
    "unseen categories": lambda rows: rows.assign(colour="never seen"),
    "nothing known": lambda rows: rows.assign(**dict.fromkeys(rows.columns)),
    "whole numbers": lambda rows: rows.assign(income=rows["income"].fillna(0).astype(int)),
    "one row": lambda rows: rows[3:4],
    "one dictionary": lambda rows: rows[3:4],
    **{
        f"no {name}": lambda rows, name=name: rows.assign(**{name: None})
        for name in ("age", "income", "member", "since", "colour")
    },
}


@pytest.mark.parametrize("use", CHANGES)
def test_other_rows(clean: Clean, found: dict[str, Any], use: str) -> None:
    assert_right(found[use], clean.expected(CHANGES[use](clean.rows)))


def test_no_rows(found: dict[str, Any]) -> None:
    nothing = {"columns": ["prediction", "probability"], "prediction": [], "probability": []}
    assert found["no rows"] == nothing


@pytest.mark.parametrize("threshold", [0.1, 0.9])
def test_a_threshold(clean: Clean, found: dict[str, Any], threshold: float) -> None:
    assert_right(found[f"threshold {threshold}"], clean.expected(), threshold)


@pytest.mark.parametrize(
    ("use", "reason"),
    [
        ("a column less", "columns missing: 'income'"),
        ("text for numbers", "column 'age': expected a number"),
        ("threshold 7", "from 0 to 1; got 7"),
    ],
)
def test_what_is_refused(found: dict[str, Any], use: str, reason: str) -> None:
    assert reason in found[use]["error"]


def test_the_module(clean: Clean, found: dict[str, Any]) -> None:
    module = found["module"]
    assert module["is a module"]
    assert module["gradients"] > 0
    assert module["finite"]
    np.testing.assert_allclose(np.array(module["probabilities"])[:, 1], clean.expected(), atol=1e-6)


def test_a_server(clean: Clean) -> None:
    port = free_port()
    command = ["mlflow", "models", "serve", "-m", str(clean.model), "--env-manager", "local"]
    rows = clean.rows.astype(object).where(clean.rows.notna(), None)
    split, records = rows.to_dict("split", index=False), rows.to_dict("records")
    with serving([*command, "--port", str(port)], port, clean.python, clean.place):
        for body in (
            {"dataframe_split": split},
            {"dataframe_records": records},
            {"inputs": rows.to_dict("list")},
            {"inputs": records},
        ):
            status, answer = post(port, json.dumps(body).encode())
            assert status == 200, answer
            assert_right(columns_of(answer), clean.expected())
        status, answer = post(port, (clean.place / "rows.csv").read_bytes(), "text/csv")
        assert status == 200, answer
        assert_right(columns_of(answer), clean.expected())
        strict = {"dataframe_split": split, "params": {"threshold": 0.9}}
        status, answer = post(port, json.dumps(strict).encode())
        assert status == 200, answer
        assert_right(columns_of(answer), clean.expected(), 0.9)

        for request, reason in (
            ({"dataframe_records": [{"age": 1}]}, "columns missing: 'income'"),
            ({"inputs": rows.assign(age="x").to_dict("list")}, "column 'age': expected a number"),
            ({"dataframe_split": split, "params": {"threshold": 7}}, "from 0 to 1; got 7"),
            ({"inputs": [1, 2, 3]}, "rows must be a DataFrame"),
            ({"rows": []}, "dataframe_split"),
        ):
            status, answer = post(port, json.dumps(request).encode())
            assert status == 400, answer
            assert reason in answer["message"]
        for content, content_type in ((b"{", "application/json"), (b"age\n1\n", "text/csv")):
            status, answer = post(port, content, content_type)
            assert status == 400, answer
            assert answer["message"]


def test_polars(clean: Clean) -> None:
    """Last: who has rows in polars has installed it."""
    pip_install(clean.python, "polars")
    found = clean.use_everything()
    assert found["installed"] == ["polars"]
    assert_right(found["polars"], clean.expected())


def columns_of(answer: dict[str, Any]) -> dict[str, Any]:
    frame = pd.DataFrame(answer["predictions"])
    return {"columns": list(frame), **{name: frame[name].tolist() for name in frame}}


def assert_right(
    found: dict[str, Any], expected: npt.NDArray[np.float32], threshold: float = 0.5
) -> None:
    assert found["columns"] == ["prediction", "probability"]
    np.testing.assert_allclose(found["probability"], expected, atol=1e-6, rtol=0)
    assert np.isfinite(expected).all()
    assert found["prediction"] == ["yes" if p > threshold else "no" for p in expected]
