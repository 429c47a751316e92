"""Signals: SIGTERM ends the program like Ctrl-C does, and closing a run is never cut short."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_ENDING = (signal.SIGINT, signal.SIGTERM)
_ending = threading.Event()


def _end(number: int, frame: FrameType | None) -> None:
    """The first signal ends the program in good order, a second SIGINT at once.

    A second SIGTERM changes nothing: `mlflow run` sends one when Ctrl-C has reached us already."""
    if _ending.is_set():
        if number == signal.SIGINT:
            _stop_at_once()
        return
    _ending.set()
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)


def _stop_at_once() -> None:
    """Without closing anything: the next start closes what is left open."""
    os.write(2, b"\nstopped at once; the next start closes the open runs\n")
    os._exit(128 + signal.SIGINT)


def end_in_good_order() -> None:
    """Let SIGINT and SIGTERM close open runs on the way out (KeyboardInterrupt, SystemExit(143)).

    Call once, early, in the main thread. `mlflow run` sends SIGTERM when it is interrupted."""
    _ending.clear()
    for number in _ENDING:
        # Started with SIGINT ignored (`nohup`, `&` in a script), the program goes on ignoring it.
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _end)


def ended_by_signal(error: BaseException) -> bool:
    """Whether `error` is KeyboardInterrupt, or SystemExit with a status of 128 + a signal."""
    if isinstance(error, KeyboardInterrupt):
        return True
    return isinstance(error, SystemExit) and isinstance(error.code, int) and error.code > 128


@contextmanager
def deferred() -> Iterator[None]:
    """Hold SIGINT and SIGTERM back while the block runs; the last one held back is raised after it.
    A SIGINT after the first signal stops the command line at once all the same.

    In other threads than the main one, which never sees signals, the block just runs."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []

    def hold(number: int, frame: FrameType | None) -> None:
        if _ending.is_set() and number == signal.SIGINT:
            _stop_at_once()
        received.append(number)

    handlers = {number: signal.signal(number, hold) for number in _ENDING}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            # None stands for a handler that was not installed from Python: it can't be put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
    if received:
        signal.raise_signal(received[-1])
