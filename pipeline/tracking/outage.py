"""Telling a store that is away for a while from one that will not take what it is given."""

import os
from urllib.parse import urlsplit

import requests
from mlflow.exceptions import MlflowException

_CODES = ("TEMPORARILY_UNAVAILABLE", "INTERNAL_ERROR", "REQUEST_LIMIT_EXCEEDED")


def is_outage(error: BaseException, uri: str) -> bool:
    """Whether trying again later may help: a server that does not answer or answers 5xx, a
    database that is locked. A full disk and a file that may not be written are no outage."""
    if urlsplit(uri).scheme.partition("+")[0] == "sqlite":
        return "database is locked" in str(error)
    if isinstance(error, MlflowException):
        return error.error_code in _CODES
    return isinstance(error, (requests.exceptions.RequestException, ConnectionError, TimeoutError))


def be_patient() -> None:
    """Let MLflow's client repeat a request for seconds, not for minutes; we have our own way."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")


def hurry() -> None:
    """The program is being ended: a store that does not answer at once is done without."""
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = "2"
