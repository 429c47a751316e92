"""Reaching the tracking store: its address, its creation, and whether it is away for a while."""

import atexit
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import mlflow
import requests
import sqlalchemy
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from pipeline.common.addresses import masked
from pipeline.common.errors import UserError, first_line

_INITIALISATION_SECONDS = 300.0
_DATABASE_ERRORS = (sqlite3.Error, SQLAlchemyError)
_ADVISORY_LOCK = 0x6F7074696D697A65  # any number that nobody else takes


def connect() -> MlflowClient:
    """A client of the store that MLflow's own functions use.

    A database is created under a lock between processes: MLflow's own creation of tables races."""
    uri = store_uri()
    # A request is repeated for seconds, not for minutes: we have our own way.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
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
    except (MlflowException, OSError, ImportError, ValueError, *_DATABASE_ERRORS) as error:
        problem = f"MLFLOW_TRACKING_URI: {uri} can't be used: {first_line(error)}"
        raise UserError(masked(problem, uri)) from error
    if path is not None:
        _remove_twin(uri, path)
        atexit.register(_remove_twin, uri, path)
    return client


def store_uri() -> str:
    """What `mlflow.set_tracking_uri` was told, MLFLOW_TRACKING_URI, or MLflow's default; nothing is
    created."""
    return str(mlflow.get_tracking_uri())


def paged(search: Callable[..., Any], **arguments: Any) -> Iterator[Any]:
    """All that one of the client's searches finds, page by page."""
    token = None
    while True:
        page = search(**arguments, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


@contextmanager
def _initialisation_lock(uri: str) -> Iterator[None]:
    """Hold an exclusive lock for the SQLite file or the PostgreSQL database of `uri`, if any.

    The lock is a transaction on an empty SQLite file of its own: known to every platform, and gone
    with its process. The file lies beside the database, where every process that shares it looks,
    and stays: SQLite reports an error to those who wait for a file that is removed."""
    path = sqlite_path(uri)
    if uri.startswith("postgresql"):
        # Unpooled: given back when the connection closes, also by a process that is killed.
        engine = sqlalchemy.create_engine(uri, poolclass=sqlalchemy.NullPool)
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text(f"SELECT pg_advisory_lock({_ADVISORY_LOCK})"))
            yield
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
    """The file of an SQLite tracking URI, decoded as SQLAlchemy does; None for other stores and for
    databases in memory."""
    try:
        url = sqlalchemy.make_url(uri)
    except (SQLAlchemyError, ValueError):
        return None
    if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
        return None
    return Path(str(url.database))


def _remove_twin(uri: str, path: Path) -> None:
    """MLflow makes the database's folder by its undecoded name as well, and leaves it empty."""
    twin = Path(uri.partition(":///")[2]).parent
    if twin != path.parent:
        with suppress(OSError):  # not empty, or not there
            os.removedirs(twin)


def quiet() -> None:
    """Silence MLflow's running commentary, unless the user asks for it."""
    if "MLFLOW_LOGGING_LEVEL" not in os.environ:
        for name, level in _LEVELS.items():
            logging.getLogger(name).setLevel(level)
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")


def is_outage(error: BaseException, uri: str) -> bool:
    """Whether trying again later may help: a server that does not answer or answers 5xx, a
    database that is locked. A full disk and a file that may not be written are no outage."""
    if urlsplit(uri).scheme.partition("+")[0] == "sqlite":
        return "database is locked" in str(error)
    if isinstance(error, MlflowException):
        codes = ("TEMPORARILY_UNAVAILABLE", "INTERNAL_ERROR", "REQUEST_LIMIT_EXCEEDED")
        return error.error_code in codes
    return isinstance(error, (requests.exceptions.RequestException, ConnectionError, TimeoutError))


def hurry() -> None:
    """The program is being ended: a store that does not answer at once is done without."""
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = "2"


# MLflow prints a traceback for each error of the database, which it raises as well.
_LEVELS = {"mlflow": logging.WARNING, "alembic": logging.WARNING}
_LEVELS["mlflow.store.db.utils"] = logging.CRITICAL
_VARIABLES = (
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES",
    "MLFLOW_HTTP_REQUEST_TIMEOUT",
)


@contextmanager
def undisturbed() -> Iterator[None]:
    """After the block the process is as it was before `quiet`, `connect` and `hurry`."""
    levels = {name: logging.getLogger(name).level for name in _LEVELS}
    variables = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        for name in _VARIABLES:
            os.environ.pop(name, None)
        os.environ.update(variables)
