"""The flavor inside MLflow: a real store, both loaders, the scoring server, another process."""

import asyncio
import io
import json
import os
import platform
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.models.model import ModelInfo
from mlflow.pyfunc import scoring_server
from mlflow.utils.environment import _PythonEnv

from pipeline import inference
from pipeline.models import flavor
from tests.small_model import (
    COLUMNS,
    NAMES,
    RAW,
    SmallModel,
    make_rows,
    make_schema,
    shared_program,
    to_raw,
)

SCHEMA = make_schema(["no", "yes"])


@pytest.fixture(scope="module", autouse=True)
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A SQLite store of this module's own."""
    folder = tmp_path_factory.mktemp("store")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = mlflow.create_experiment("flavor", (folder / "artifacts").as_uri())
    mlflow.set_experiment(experiment_id=experiment)
    yield folder
    mlflow.set_tracking_uri(before)


def log(schema: dict[str, Any] = SCHEMA, run_id: str | None = None, **others: Any) -> ModelInfo:
    return Model.log(
        artifact_path=None,
        flavor=flavor,
        name="model",
        run_id=run_id,
        program=shared_program(len(schema["columns"]), len(schema["labels"])),
        schema=schema,
        input_example=make_rows(),
        requirements=flavor.default_requirements(),
        **{"validate_serving_input": False, **others},
    )


@pytest.fixture(scope="module")
def logged(store: Path) -> ModelInfo:
    with mlflow.start_run() as run:
        return log(run_id=run.info.run_id)


@pytest.fixture(scope="module")
def served(logged: ModelInfo) -> Any:
    return mlflow.pyfunc.load_model(logged.model_uri)


@pytest.fixture(scope="module")
def expected() -> pd.DataFrame:
    return inference.TabularModel(SmallModel(5, 2), SCHEMA).predict(make_rows())


def assert_same(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(found, expected, rtol=0, atol=1e-6)


# both loaders ------------------------------------------------------------------------------------


def test_pyfunc(served: Any, expected: pd.DataFrame) -> None:
    assert_same(served.predict(make_rows()), expected)


def test_pytorch(logged: ModelInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    module = mlflow.pytorch.load_model(logged.model_uri)
    assert isinstance(module, torch.nn.Module)
    again = log()  # written from the first one's archive
    raw = torch.tensor(RAW, dtype=torch.float64)
    assert torch.equal(module(raw), mlflow.pytorch.load_model(again.model_uri)(raw))
    for rows in (raw, raw[:1], raw[:0]):
        torch.testing.assert_close(module(rows), SmallModel(5, 2)(rows))


def test_the_module_can_be_trained_further(logged: ModelInfo) -> None:
    module = mlflow.pytorch.load_model(logged.model_uri)
    raw, y = torch.tensor(RAW, dtype=torch.float64), torch.tensor([0, 1, 1, 0])
    optimizer = torch.optim.Adam(module.parameters(), lr=0.1)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = torch.nn.functional.nll_loss(module(raw).log(), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


def test_registered_alias(logged: ModelInfo, expected: pd.DataFrame) -> None:
    client = mlflow.MlflowClient()
    version = mlflow.register_model(logged.model_uri, "small").version
    client.set_registered_model_alias("small", "champion", version)
    model = mlflow.pyfunc.load_model("models:/small@champion")
    assert_same(model.predict(make_rows()), expected)
    assert mlflow.pytorch.load_model("models:/small@champion") is not None


def test_example_and_signature_are_kept(served: Any, logged: ModelInfo) -> None:
    assert isinstance(logged.signature, ModelSignature)
    assert logged.signature.inputs is None  # the model checks its rows itself
    assert served.metadata.metadata["columns"] == {c["name"]: c["kind"] for c in COLUMNS}
    assert logged.signature.outputs.to_dict() == [
        {"name": "prediction", "type": "string", "required": True},
        {"name": "probability", "type": "float", "required": True},
    ]
    assert [spec.name for spec in logged.signature.params] == ["threshold"]
    assert list(served.input_example.columns) == NAMES
    raw = to_raw(served.input_example, SCHEMA)
    np.testing.assert_allclose(raw, RAW, rtol=1e-15)  # its infinity is None now


def test_signatures_of_other_labels() -> None:
    several = flavor.signature(make_schema([3, 5, 9]))
    assert several.outputs.input_names() == [
        "prediction",
        "probability_3",
        "probability_5",
        "probability_9",
    ]
    assert several.params is None
    for labels, name in (([0, 1], "long"), ([False, True], "boolean"), ([0.5, 1.0], "double")):
        outputs = flavor.signature(make_schema(labels)).outputs
        assert outputs.to_dict()[0]["type"] == name


def test_mlflow_finds_nothing_to_warn_of(
    store: Path, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    with mlflow.start_run() as run:
        info = log(run_id=run.info.run_id, validate_serving_input=True)
    mlflow.pyfunc.load_model(info.model_uri).predict(make_rows())
    mlflow.pytorch.load_model(info.model_uri)
    assert "WARNING" not in capfd.readouterr().err
    assert not [str(warning.message) for warning in recwarn if "mlflow" in str(warning.filename)]


# what a table may hold passes through MLflow ------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows[NAMES[::-1]].assign(other=1),
        lambda rows: rows.convert_dtypes(),
        lambda rows: rows.convert_dtypes(dtype_backend="pyarrow"),
        lambda rows: rows.astype({"colour": "category"}),
        lambda rows: rows.astype({"age": float}),
        lambda rows: rows.assign(since=rows["since"].astype(str)),
        lambda rows: rows.assign(since=rows["since"].dt.tz_localize("UTC")),
        lambda rows: rows.assign(member=[1, None, 0, "true"]),
        lambda rows: rows.astype(object).where(rows.notna(), pd.NA),
        lambda rows: rows.astype(object).where(rows.notna(), None),
        lambda rows: rows[:1].assign(income=None, colour=None, member=None, since=None, age=None),
        lambda rows: rows[:1],
        lambda rows: rows[:0],
    ],
)
def test_raw_rows_pass(served: Any, change: Any) -> None:
    rows = change(make_rows())
    direct = inference.TabularModel(SmallModel(5, 2), SCHEMA).predict(rows)
    found = served.predict(rows)
    assert_same(found, direct)
    assert found.index.equals(rows.index)


def test_dictionaries_pass(served: Any, expected: pd.DataFrame) -> None:
    rows = make_rows().astype(object).where(make_rows().notna(), None)
    for given in (rows.to_dict("list"), rows.to_dict("records")):
        assert_same(served.predict(given), expected.reset_index(drop=True))


def test_a_dictionary_of_text_columns(store: Path) -> None:
    schema = make_schema([0, 1], [{"name": "a", "kind": "category", "categories": ["u", "v"]}])
    path = store / "text"
    frame = pd.DataFrame({"a": ["u", "v", "w"]})
    flavor.save_model(
        path, program=shared_program(1, 2), schema=schema, input_example=frame, requirements=[]
    )
    model = mlflow.pyfunc.load_model(str(path), suppress_warnings=True)
    assert_same(model.predict({"a": ["u", "v", "w"]}), model.predict(frame))
    assert len(model.predict({"a": []})) == 0


def test_threshold(served: Any, expected: pd.DataFrame) -> None:
    found = served.predict(make_rows(), params={"threshold": 0.3})
    assert list(found["prediction"]) == [
        "yes" if p > 0.3 else "no" for p in expected["probability"]
    ]
    with pytest.raises(MlflowException, match="threshold must be a number from 0 to 1; got 2"):
        served.predict(make_rows(), params={"threshold": 2})


def test_wrong_rows(served: Any) -> None:
    with pytest.raises(MlflowException, match="columns missing: 'income', 'colour'"):
        served.predict(make_rows()[["age", "member", "since"]])
    with pytest.raises(
        MlflowException, match="column 'age': expected a number; got 'x' "
    ) as caught:
        served.predict(make_rows().assign(age="x"))
    assert caught.value.get_http_status_code() == 400


def test_the_model_without_mlflows_check(served: Any, expected: pd.DataFrame) -> None:
    raw_model = served.get_raw_model()
    assert type(raw_model).__name__ == "TabularModel"
    assert_same(raw_model.predict(make_rows()), expected)


# the scoring server ------------------------------------------------------------------------------


class Server:
    """What `mlflow models serve` answers, without a socket: its ASGI application, called."""

    def __init__(self, model: Any) -> None:
        self.app = scoring_server.init(model)

    def post(self, body: bytes, content_type: str = "application/json") -> tuple[int, Any]:
        """Status and decoded JSON of the answer to POST /invocations."""
        sent: list[Any] = []
        received = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> Any:
            return next(received, {"type": "http.disconnect"})

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "path": "/invocations",
            "raw_path": b"/invocations",
            "query_string": b"",
            "headers": [(b"content-type", content_type.encode())],
        }
        asyncio.run(self.app(scope, receive, send))
        content = b"".join(message.get("body", b"") for message in sent)
        return sent[0]["status"], json.loads(content)


@pytest.fixture
def server(served: Any, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "true")  # restored after: init sets it
    return Server(served)


def plain_rows() -> pd.DataFrame:
    rows = make_rows()
    rows["since"] = rows["since"].astype(str)
    rows["income"] = [1.5, None, None, -3.25]  # JSON has no infinity
    return rows.astype(object).where(rows.notna(), None)


@pytest.mark.parametrize(
    "body",
    [
        lambda rows: {"dataframe_split": rows.to_dict("split", index=False)},
        lambda rows: {"dataframe_records": rows.to_dict("records")},
        lambda rows: {"inputs": rows.to_dict("list")},
        lambda rows: {"inputs": rows.to_dict("records")},
        lambda rows: {"instances": rows.to_dict("records")},
    ],
)
def test_requests(server: Server, expected: pd.DataFrame, body: Any) -> None:
    request = body(plain_rows())
    status, answer = server.post(json.dumps(request).encode())
    assert status == 200, answer
    found = pd.DataFrame(answer["predictions"])
    assert list(found["prediction"]) == list(expected["prediction"])
    np.testing.assert_allclose(found["probability"], expected["probability"], atol=1e-6)

    _, answer = server.post(json.dumps({**request, "params": {"threshold": 0.0}}).encode())
    assert {row["prediction"] for row in answer["predictions"]} == {"yes"}


def test_the_saved_example_is_a_request(server: Server, logged: ModelInfo) -> None:
    folder = Path(mlflow.artifacts.download_artifacts(logged.model_uri))
    status, answer = server.post((folder / "serving_input_example.json").read_bytes())
    assert status == 200, answer
    assert len(answer["predictions"]) == len(make_rows())


def test_parquet_requests(server: Server, expected: pd.DataFrame) -> None:
    buffer = io.BytesIO()
    make_rows().to_parquet(buffer)
    status, answer = server.post(buffer.getvalue(), "application/vnd.apache.parquet")
    assert status == 200, answer
    found = pd.DataFrame(answer["predictions"])
    np.testing.assert_allclose(found["probability"], expected["probability"], atol=1e-6)


def test_csv_requests(server: Server, expected: pd.DataFrame) -> None:
    status, answer = server.post(make_rows().to_csv(index=False).encode(), "text/csv")
    assert status == 200, answer
    found = pd.DataFrame(answer["predictions"])
    np.testing.assert_allclose(found["probability"], expected["probability"], atol=1e-6)


@pytest.mark.parametrize(
    ("request_body", "message"),
    [
        ({"dataframe_records": [{"age": 1}]}, "columns missing: 'income', "),
        ({"dataframe_records": plain_rows().assign(age="x").to_dict("records")}, "column 'age'"),
        ({"dataframe_records": plain_rows().assign(since=5).to_dict("records")}, "column 'since'"),
        (
            {"dataframe_records": plain_rows().to_dict("records"), "params": {"threshold": 7}},
            "from 0 to 1; got 7",
        ),
        (
            {"dataframe_records": plain_rows().to_dict("records"), "params": {"threshold": "x"}},
            "threshold",
        ),
        ({"inputs": [1, 2, 3]}, "rows must be a DataFrame"),
        ({"inputs": {"age": [1, 2], "member": [1]}}, ""),
        ({"rows": []}, "dataframe_split"),
        ([], "list"),
    ],
)
def test_bad_requests(server: Server, request_body: Any, message: str) -> None:
    status, answer = server.post(json.dumps(request_body).encode())
    assert status == 400, answer
    assert message in answer["message"]


# the folder on its own ---------------------------------------------------------------------------


def save(path: Path, program: torch.export.ExportedProgram) -> None:
    flavor.save_model(
        path,
        program=program,
        schema=SCHEMA,
        input_example=make_rows(),
        requirements=["mlflow", "torch==2.0"],
    )


def test_files(tmp_path: Path) -> None:
    save(tmp_path, shared_program())
    assert {file.name for file in tmp_path.iterdir()} == {
        "MLmodel",
        "model.pt2",
        "schema.json",
        "code",
        "requirements.txt",
        "conda.yaml",
        "python_env.yaml",
        "input_example.json",
        "serving_input_example.json",
    }
    (code,) = (tmp_path / "code").iterdir()
    source = Path(inference.__file__).parent
    assert {file.name: file.read_bytes() for file in code.iterdir()} == {
        file.name: file.read_bytes() for file in source.glob("*.py")
    }
    for env in (
        _PythonEnv.from_yaml(tmp_path / "python_env.yaml"),
        _PythonEnv.from_conda_yaml(tmp_path / "conda.yaml"),
    ):
        assert env.python == platform.python_version()
    assert env.dependencies == ["mlflow", "torch==2.0"]


def test_a_folder_in_use_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(FileExistsError, match="not empty"):
        save(tmp_path, shared_program())
    assert [file.name for file in tmp_path.iterdir()] == ["mine"]


def test_a_schema_that_could_not_be_read_back(tmp_path: Path) -> None:
    with pytest.raises(inference.ModelError, match="schema version 7 is unknown"):
        flavor.save_model(
            tmp_path / "model",
            program=shared_program(),
            schema={**SCHEMA, "version": 7},
            input_example=make_rows(),
            requirements=[],
        )
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("layout", ["plain", "transposed", "view", "empty"])
@pytest.mark.filterwarnings("error::UserWarning")
def test_weights_swapped_into_one_graph(tmp_path: Path, layout: str) -> None:
    """The second folder and those after it are written from the first one's archive."""

    class WithBuffers(SmallModel):
        def __init__(self, seed: int) -> None:
            super().__init__(5, 2, seed)
            self.register_buffer("none", torch.from_numpy(np.zeros((5, 0))))
            self.register_buffer("nothing", torch.empty(0, dtype=torch.int64))

    make = WithBuffers if layout == "empty" else lambda seed: SmallModel(5, 2, seed)
    example = (torch.zeros(3, 5, dtype=torch.float64),)
    rows = ({0: torch.export.Dim("rows")},)
    program = torch.export.export(make(0), example, dynamic_shapes=rows)
    for seed in (0, 1, 2):
        other = make(seed)
        weight = other.weight.detach()
        if layout == "transposed":
            weight = weight.T.contiguous().T
        elif layout == "view":
            weight = torch.cat([weight, weight])[len(weight) :]
        program.state_dict["weight"] = weight
        save(tmp_path / str(seed), program)
        assert program.graph_module in flavor._templates
        expected = inference.TabularModel(other, SCHEMA).predict(make_rows())
        assert_same(inference.load(tmp_path / str(seed)).predict(make_rows()), expected)


def test_nothing_needs_a_pickle(logged: ModelInfo) -> None:
    folder = Path(mlflow.artifacts.download_artifacts(logged.model_uri))
    for file in folder.rglob("*"):
        assert file.suffix not in (".pkl", ".pickle", ".pth", ".pt"), file
    with zipfile.ZipFile(folder / "model.pt2") as archive:
        for name in archive.namelist():
            if name.endswith("_config.json"):
                stored = json.loads(archive.read(name))["config"].values()
                assert all(item["use_pickle"] is False for item in stored)


def test_another_process_without_the_project(
    logged: ModelInfo, expected: pd.DataFrame, tmp_path: Path
) -> None:
    folder = mlflow.artifacts.download_artifacts(logged.model_uri, dst_path=str(tmp_path))
    make_rows().to_parquet(tmp_path / "rows.parquet")
    script = """
import sys
import mlflow, pandas as pd, torch
folder, rows = sys.argv[1:]
rows = pd.read_parquet(rows)
try:
    import pipeline
except ModuleNotFoundError:
    pass
else:
    raise SystemExit("the project is importable")
module = mlflow.pytorch.load_model(folder)
print(len(module(torch.zeros(3, 5, dtype=torch.float64))))
print(mlflow.pyfunc.load_model(folder).predict(rows).to_json(orient="split", double_precision=12))
"""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    result = subprocess.run(
        [sys.executable, "-P", "-c", script, folder, str(tmp_path / "rows.parquet")],
        cwd=tmp_path,
        env={**environment, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    rows, found = result.stdout.splitlines()[-2:]
    assert rows == "3"
    frame = pd.read_json(io.StringIO(found), orient="split")
    np.testing.assert_allclose(frame["probability"], expected["probability"], atol=1e-6)
    assert list(frame["prediction"]) == list(expected["prediction"])
    assert list(frame.index) == list(expected.index)


def test_two_versions_side_by_side(
    logged: ModelInfo, served: Any, expected: pd.DataFrame, tmp_path: Path
) -> None:
    """A model that was shipped with another version of inference.py, in the same process."""
    folder = Path(mlflow.artifacts.download_artifacts(logged.model_uri, dst_path=str(tmp_path)))
    (old,) = (folder / "code").iterdir()
    source = (old / "model.py").read_bytes()
    changed = source.replace(b'{"prediction": ', b'{"verdict": ')
    assert source != changed
    (old / "model.py").write_bytes(changed)
    name = flavor.loader_module({file.name: file.read_bytes() for file in old.glob("*.py")})
    old.rename(old.with_name(name))
    manifest = folder / "MLmodel"
    text = manifest.read_text(encoding="utf-8")
    manifest.write_text(text.replace(old.name, name), encoding="utf-8")
    newer = mlflow.pyfunc.load_model(str(folder))
    assert list(newer.predict(make_rows()).columns) == ["verdict", "probability"]
    assert_same(served.predict(make_rows()), expected)
    assert_same(mlflow.pyfunc.load_model(logged.model_uri).predict(make_rows()), expected)
    assert newer.loader_module != served.loader_module
