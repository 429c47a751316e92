"""What holds for every test."""

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

# pytest-xdist runs a process for each core: one thread each, or they get into each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

# No test is about time: beside other work an example may take as long as it takes.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def no_launcher() -> None:
    """No test inherits a run or an experiment: `mlflow.set_experiment` leaves one behind."""
    _forget_store()


@pytest.fixture(autouse=True, scope="module")
def no_store() -> None:
    """Nor do the searches that the tests of a file share."""
    _forget_store()


def _forget_store() -> None:
    """What `mlflow.set_tracking_uri` and `set_experiment` were told weighs more than the
    environment, in which it leaves traces, too."""
    for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"):
        os.environ.pop(name, None)
    if service := sys.modules.get("mlflow.tracking._tracking_service.utils"):
        service._tracking_uri = None  # type: ignore[attr-defined]
    if fluent := sys.modules.get("mlflow.tracking.fluent"):
        fluent._active_experiment_id = None  # type: ignore[attr-defined]


if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as shells start what is in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)
_HANDLERS = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    """The command line installs its handlers for the whole process; tests share a process."""
    yield
    for number, handler in _HANDLERS.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite store with MLflow's tables and nothing in them: making one takes seconds."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def new_store(empty_store: Path) -> Callable[[Path], str]:
    """Puts a store of its own into a folder and gives its URI."""

    def copy(folder: Path) -> str:
        shutil.copy(empty_store, folder / "mlflow.db")
        return f"sqlite:///{folder}/mlflow.db"

    return copy
