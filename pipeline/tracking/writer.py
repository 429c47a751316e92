"""The writer: trials go to MLflow in one thread beside the training, in the order they came."""

import queue
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Generic, TypeVar

from mlflow.exceptions import MlflowException

from pipeline import interrupts
from pipeline.errors import RunError
from pipeline.tracking.runs import first_line
from pipeline.tracking.trial_log import TrialLog, TrialRecord

CAPACITY = 64  # trials that may wait; a stack gives them all at once
ENDING_SECONDS = 2.0  # for what waits still when a signal ends the search

T = TypeVar("T", bound=TrialRecord)


class Writer(Generic[T]):
    """Writes trials of one train run while the block goes on; at its end all are written.

    An error ends the writing: it comes out of the next `put`, or at the end, with the trial that it
    belongs to. Ended by a signal, the block waits a few seconds for what is in the queue, no more:
    a trial that was not written counts as never run.

    Args:
        log: where to.
        model: what the flavor saves of a trial; called in the writer's thread, so it may use
            what belongs to nobody else.
    """

    def __init__(
        self,
        log: TrialLog,
        model: Callable[[T], Mapping[str, Any] | None],
        capacity: int = CAPACITY,
    ) -> None:
        self._log, self._model = log, model
        self._queue: queue.Queue[T | None] = queue.Queue(capacity)
        self._error: BaseException | None = None
        self._abandoned = False
        self._thread = threading.Thread(target=self._work, name="writer", daemon=True)

    def __enter__(self) -> "Writer[T]":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None and interrupts.ended_by_signal(error):
            self._finish(time.monotonic() + ENDING_SECONDS)
            return
        self._finish(None)
        if error is None:
            self._raise()

    def put(self, trial: T) -> None:
        """Hand a trial over; waits while the queue is full."""
        while self._error is None:
            try:
                self._queue.put(trial, timeout=0.1)
                return
            except queue.Full:
                continue
        self._raise()

    def _finish(self, until: float | None) -> None:
        """Wait for what is in the queue, until then at the longest."""
        while self._thread.is_alive():
            try:
                self._queue.put_nowait(None)
                break
            except queue.Full:
                if until is not None and time.monotonic() > until:
                    break
                time.sleep(0.02)
        self._thread.join(None if until is None else max(0.0, until - time.monotonic()))
        self._abandoned = True
        if until is not None:
            # The trial that is being written is one transaction after another: let it end.
            self._thread.join(1.0)

    def _work(self) -> None:
        while (trial := self._queue.get()) is not None and not self._abandoned:
            try:
                self._log.log_trial(trial, self._model(trial))
            except BaseException as error:
                self._error = _named(error, trial.number)
                return

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error


def _named(error: BaseException, number: int) -> BaseException:
    """The error with the trial that it belongs to: one line for a store that fails."""
    if isinstance(error, (MlflowException, OSError)):
        found = RunError(f"trial {number} could not be written to MLflow: {first_line(error)}")
        found.__cause__ = error
        return found
    error.add_note(f"while trial {number} was written to MLflow")
    return error
