"""MLflow's servers as processes of their own, for tests."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def outside(python: Path | str = sys.executable) -> dict[str, str]:
    """The environment's variables for a process of `python` that shall find nothing of this one."""
    unwanted = ("PYTHONPATH", "VIRTUAL_ENV")
    # MLflow starts uvicorn by its name.
    path = os.pathsep.join([str(Path(python).parent), os.environ["PATH"]])
    kept = {key: value for key, value in os.environ.items() if key not in unwanted}
    return kept | {"PATH": path}


@contextlib.contextmanager
def serving(
    command: list[str], port: int, python: Path | str = sys.executable, folder: Path | None = None
) -> Iterator[None]:
    """A server's process, `python -m` with the command, for the block; answering."""
    process = subprocess.Popen(
        [str(python), "-m", *command],
        env=outside(python),
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _wait(process, port)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait(process: "subprocess.Popen[bytes]", port: int, seconds: float = 180) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        assert process.poll() is None, "the server has ended"
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
            return
        time.sleep(0.5)
    raise AssertionError(f"the server does not answer after {seconds:.0f} s")


def post(port: int, body: bytes, content_type: str = "application/json") -> tuple[int, Any]:
    """The status and the content of the answer to a request for predictions."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations", body, {"Content-Type": content_type}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[str]:
    """The URI of a new database of a real server, where there is one to start."""
    pytest.importorskip("psycopg2")
    if not shutil.which("initdb") or not shutil.which("pg_ctl"):
        pytest.skip("PostgreSQL is not installed")
    # PostgreSQL refuses to run as root, and nobody else gets into pytest's folders.
    user = {"user": "nobody"} if os.getuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    if user:
        shutil.chown(folder, "nobody")
    port = free_port()
    start = ["-o", f"-p {port} -k {folder} -c listen_addresses=127.0.0.1", "-l", f"{folder}/log"]

    def call(*command: str) -> None:
        subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, **user)  # type: ignore[call-overload]

    call("initdb", "-D", f"{folder}/data", "-A", "trust", "-U", "mlflow")
    call("pg_ctl", "-D", f"{folder}/data", "-w", *start, "start")
    try:
        yield f"postgresql+psycopg2://mlflow@127.0.0.1:{port}/postgres"
    finally:
        call("pg_ctl", "-D", f"{folder}/data", "-m", "immediate", "stop")
        shutil.rmtree(folder)
