"""Secrets planted in addresses: none is shown, and none is in the store or on the disk."""

import contextlib
import functools
import http.server
import os
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy
from sklearn.datasets import load_breast_cancer

import pipeline
from pipeline import __main__ as command_line
from tests.common.test_addresses import FORMS, SECRET
from tests.servers import postgres as postgres

ROOT = Path(__file__).parents[2]
SETTINGS = """
experiment: hidden
data: {target: target}
validation: {folds: 2, final: {folds: 2, repeats: 1}}
model: {hidden: [4]}
training: {epochs: 2}
optimizers: [{name: SGD, lr: {low: 1e-2, high: 1.0, log: true}}]
search: {trials: 2}
"""
FUNCTION = """
def rows(url):
    from sklearn.datasets import load_breast_cancer
    return load_breast_cancer(return_X_y=True)
"""


@pytest.fixture
def address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[str]:
    """Where signed tables are; the working directory is another one."""
    served = tmp_path / "served"
    served.mkdir()
    frame = load_breast_cancer(as_frame=True).frame.round(6)
    frame.iloc[:400].to_csv(served / "rows.csv", index=False)
    frame.iloc[400:].to_csv(served / "test.csv", index=False)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(served))
    monkeypatch.setattr(handler.func, "log_message", lambda *_: None)
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    Path("hidden.yaml").write_text(SETTINGS)
    Path("mine.py").write_text(FUNCTION)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def files_with_the_secret(folder: Path) -> list[str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 20
    return [str(path) for path in files if SECRET.encode() in path.read_bytes()]


def test_a_signed_table_and_test_rows(
    address: str,
    empty_store: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """In parameters, tags, descriptions, versions, data sets, reports and prepared rows."""
    shutil.copy(empty_store, "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{Path.cwd()}/mlflow.db")
    source = f"{address}/rows.csv?X-Amz-Signature={SECRET}&sig={SECRET}"
    places = ["--set", f"data.source={source}", f"data.test={address}/test.csv?token={SECRET}"]
    config = ["--config", "hidden.yaml", *places]
    for command in (["run"], ["run"], ["prepare"], ["train"], ["evaluate"], ["gc"]):
        assert command_line.main([*command, *config]) == 0
    assert command_line.main(["status"]) == 0
    settings = {"data.source": source, "data.target": "target", "search.trials": 2}
    assert "rows.csv" in repr(pipeline.run("hidden.yaml", settings)).replace("hidden", "rows.csv")
    shown = capfd.readouterr()
    assert "Nothing to do" in shown.out
    assert SECRET not in shown.out + shown.err
    assert files_with_the_secret(Path.cwd()) == []


def test_arguments_of_a_function(
    address: str,
    empty_store: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    shutil.copy(empty_store, "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{Path.cwd()}/mlflow.db")
    arguments = f"data.arguments={{url: '{address}/rows?sig={SECRET}'}}"
    overrides = ["data.source=mine.py:rows", "data.target=null", arguments]
    assert command_line.main(["run", "--config", "hidden.yaml", "--set", *overrides]) == 0
    shown = capfd.readouterr()
    assert SECRET not in shown.out + shown.err
    assert files_with_the_secret(Path.cwd()) == []


WRONG = (
    "run --config hidden.yaml --set data.source={}",
    "run --config hidden.yaml --set data.source={}/rows.csv data.sha256=00",
    "run --config hidden.yaml --set data.source=sklearn:wine data.test={}",
    "run --config hidden.yaml --set data.source=sklearn:wine data.target={}",
    "run --config hidden.yaml --set data.source=sklearn:wine search.trials={}",
    "run --config hidden.yaml --set data.source=sklearn:wine {}",
    "run --config hidden.yaml --set data.source=mine.py:rows data.arguments={}",
    "run --config hidden.yaml --set data.source=sklearn:wine model.name={}",
    "run --config hidden.yaml --set data.source=sklearn:wine training.loss={}",
    "run --config hidden.yaml --set data.source=sklearn:wine metrics=[{}]",
    "run --config hidden.yaml --set data.source=sklearn:wine registry.name={}",
    "run --config {}",
    "prepare --config hidden.yaml --set data.source={}",
    "train --config hidden.yaml --set data.source={}",
    "evaluate --config hidden.yaml --set data.source={}",
    "predict --model models:/none/1 --input {} --output out.csv",
    "predict --model {} --input rows.csv --output out.csv",
    "predict --model models:/none/1 --input rows.csv --output {}",
    "predict --model models:/none/1 --input rows.csv --output out.csv --rejected {}",
    "predict --model models:/none/1 --input rows.csv --output out.csv --threshold {}",
    "gc --config {}",
    "status {}",
)
STORES = (
    "status",
    "gc --config hidden.yaml",
    "run --config hidden.yaml --set data.source=sklearn:wine",
)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS, ids=range(len(FORMS)))  # which the folder is named after
def test_errors(
    form: str,
    address: str,
    capfd: pytest.CaptureFixture[str],
    empty_store: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copy(empty_store, "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{Path.cwd()}/mlflow.db")
    for line in WRONG:
        argv = [word.replace("{}", form) for word in shlex.split(line)]
        with contextlib.suppress(SystemExit):  # argparse
            assert command_line.main(argv) != 0
        shown = capfd.readouterr()
        assert shown.err
        assert SECRET not in shown.out + shown.err, line
    for line in STORES:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", form)
        if form.startswith("http"):  # nobody answers there
            monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
            monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
        assert command_line.main(line.split()) in (1, 2)
        shown = capfd.readouterr()
        assert shown.err
        assert SECRET not in shown.out + shown.err, line


@pytest.mark.slow
def test_a_database_with_a_password(address: str, postgres: str) -> None:
    """In the query of its address, as SQLAlchemy takes it."""
    server, _, database = postgres.partition("mlflow@")
    uri = f"{server}{database}?user=mlflow&password={SECRET}&application_name={SECRET}"
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri, "PYTHONPATH": str(ROOT)}
    shown = ""
    for command in ("run", "run", "status"):
        config = ["--config", "hidden.yaml", "--set", "data.source=sklearn:breast_cancer"]
        argv = [sys.executable, "-m", "pipeline", command, *(config if command == "run" else [])]
        done = subprocess.run(argv, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        shown += done.stdout + done.stderr
    assert "password=***" in shown
    assert SECRET not in shown
    assert files_with_the_secret(Path.cwd()) == []
    engine = sqlalchemy.create_engine(postgres)
    tables = sqlalchemy.MetaData()
    tables.reflect(engine)
    with engine.connect() as connection:
        rows = [
            str(tuple(row)) for t in tables.sorted_tables for row in connection.execute(t.select())
        ]
    assert len(rows) > 100
    assert not [row for row in rows if SECRET in row]
