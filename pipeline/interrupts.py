"""Signals: SIGTERM ends the program like Ctrl-C does, and closing a run is never cut short."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_ENDING = (signal.SIGINT, signal.SIGTERM)


def _exit(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def terminate_like_interrupt() -> None:
    """Let SIGTERM raise SystemExit(143), so that open runs are closed on the way out.

    Call once, early, in the main thread. `mlflow run` sends SIGTERM when it is interrupted.
    """
    signal.signal(signal.SIGTERM, _exit)


def ended_by_signal(error: BaseException) -> bool:
    """Whether `error` is KeyboardInterrupt, or SystemExit with a status of 128 + a signal."""
    if isinstance(error, KeyboardInterrupt):
        return True
    return isinstance(error, SystemExit) and isinstance(error.code, int) and error.code > 128


@contextmanager
def deferred() -> Iterator[None]:
    """Hold SIGINT and SIGTERM back while the block runs; the last one held back is raised after it.

    In other threads than the main one, which never sees signals, the block just runs.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    handlers = {
        number: signal.signal(number, lambda number, frame: received.append(number))
        for number in _ENDING
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            # None stands for a handler that was not installed from Python: it can't be put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
    if received:
        signal.raise_signal(received[-1])
