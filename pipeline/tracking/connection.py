"""Reaching the tracking store: its address, its creation, and how much MLflow says meanwhile."""

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import mlflow
import sqlalchemy
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from pipeline.common.errors import UserError
from pipeline.tracking.outage import be_patient
from pipeline.tracking.runs import first_line

_INITIALISATION_SECONDS = 300.0
_ADVISORY_LOCK = 0x6F7074696D697A65  # any number that nobody else takes


def connect() -> MlflowClient:
    """A client of the store at MLFLOW_TRACKING_URI, or of MLflow's default.

    A database is created under a lock between processes: MLflow's own creation of tables races.
    """
    uri = store_uri()
    be_patient()
    path = sqlite_path(uri)
    if path is not None and path.is_dir():
        raise UserError(f"MLFLOW_TRACKING_URI: {uri} must name a file; {path} is a folder")
    if path is None and uri.partition(":")[0].partition("+")[0] == "sqlite":
        raise UserError(
            f"MLFLOW_TRACKING_URI: {uri} must name a file, such as sqlite:///mlflow.db: a database "
            "in memory is seen by one thread alone and gone at the end"
        )
    try:
        with _initialisation_lock(uri):
            client = MlflowClient(uri)
    except (
        MlflowException,
        OSError,
        ImportError,
        ValueError,
        sqlite3.Error,
        SQLAlchemyError,
    ) as error:
        raise UserError(f"MLFLOW_TRACKING_URI: {uri} can't be used: {first_line(error)}") from error
    # Fixed for the process, so that `models:/` means this store even after a change of folder.
    mlflow.set_tracking_uri(uri)
    return client


def store_uri() -> str:
    """MLFLOW_TRACKING_URI, or MLflow's default; nothing is created."""
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        mlflow.set_tracking_uri(None)
        uri = mlflow.get_tracking_uri()
    return str(uri)


@contextmanager
def _initialisation_lock(uri: str) -> Iterator[None]:
    """Hold an exclusive lock for the SQLite file or the PostgreSQL database of `uri`.

    Other stores have none: a server creates its database before it answers.

    The lock is a transaction on an empty SQLite file of its own: known to every platform, and gone
    with its process. The file lies beside the database, where every process that shares it looks,
    and stays: SQLite reports an error to those who wait for a file that is removed.
    """
    path = sqlite_path(uri)
    if path is None and uri.startswith("postgresql"):
        engine = sqlalchemy.create_engine(uri)
        try:
            with engine.connect() as connection:
                # Given back when the connection closes, also by a process that is killed.
                connection.execute(sqlalchemy.text(f"SELECT pg_advisory_lock({_ADVISORY_LOCK})"))
                yield
        finally:
            engine.dispose()
        return
    if path is None:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(path.name + ".lock")
    file = sqlite3.connect(lock, timeout=_INITIALISATION_SECONDS, isolation_level=None)
    with closing(file):
        file.execute("BEGIN EXCLUSIVE")
        yield


def sqlite_path(uri: str) -> Path | None:
    """The file of an SQLite tracking URI; None for other stores and for databases in memory."""
    prefix, separator, name = uri.partition(":///")
    name = name.partition("?")[0]
    if not separator or prefix.partition("+")[0] != "sqlite" or name in ("", ":memory:"):
        return None
    return Path(name)


def quiet() -> None:
    """Silence MLflow's running commentary, unless the user asks for it."""
    if "MLFLOW_LOGGING_LEVEL" not in os.environ:
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        # It prints a traceback for each error of the database, which it raises as well.
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
