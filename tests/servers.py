"""MLflow's servers as processes of their own, for tests."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any


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
