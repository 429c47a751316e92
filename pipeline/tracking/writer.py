"""The writer: trials go to MLflow in one thread beside the training, in the order they came.

While the store cannot take them they wait in a journal on disk."""

import os
import queue
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from mlflow.exceptions import MlflowException

from pipeline.common import signals
from pipeline.common.errors import RunError, first_line
from pipeline.common.files import whole
from pipeline.config import Config
from pipeline.tracking.connection import is_outage
from pipeline.tracking.trials import TrialLog
from pipeline.training.outcomes import Fit
from pipeline.training.trial import Trial

ROOT = Path("unwritten")

# What a file of the journal may hold beside tensors and plain values: no pickle runs anything else.
_KNOWN: list[Any] = [Trial, Fit, bytes, np.ndarray, np.dtype, np.dtypes.Float64DType]
_KNOWN += [np.float64(0).__reduce__()[0], np.zeros(0).__reduce__()[0]]


class Journal:
    """The trials of one train run that wait to be written, by their numbers: a file for each."""

    def __init__(self, config: Config, train_run_id: str, root: Path = ROOT) -> None:
        self._config = config
        self.folder = root / train_run_id

    def add(self, trial: Trial) -> None:
        """Keep a trial."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with whole(self._path(trial.number)) as path, path.open("wb") as file:
            # Without the configuration; of the stack's weights the member's alone.
            fits = tuple(replace(fit, weights=fit.weights.clone()) for fit in trial.fits)
            torch.save(replace(trial, config=None, fits=fits), file)
            file.flush()
            os.fsync(file.fileno())

    def __iter__(self) -> Iterator[Trial]:
        for number in self.numbers:
            with torch.serialization.safe_globals(_KNOWN):
                trial: Trial = torch.load(self._path(number), weights_only=True)
            yield replace(trial, config=self._config.at(trial.optimizer, trial.params))

    @property
    def numbers(self) -> list[int]:
        return sorted(int(path.stem) for path in self.folder.glob("[0-9]*.trial"))

    def remove(self, number: int) -> None:
        self._path(number).unlink(missing_ok=True)
        if not self.numbers:
            # With what a process that was killed had half written.
            shutil.rmtree(self.folder, ignore_errors=True)
            with suppress(OSError):  # not empty, or gone
                self.folder.parent.rmdir()

    def _path(self, number: int) -> Path:
        return self.folder / f"{number}.trial"


CAPACITY = 64  # trials that may wait; a stack gives them all at once
ENDING_SECONDS = 2.0  # for what waits still when a signal ends the search
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds between attempts while the store is away
PATIENCE = 900.0  # seconds for which a store that is away is waited for at the end


class Writer:
    """Writes trials of one train run while the block goes on; at its end all are written.

    While the store is away trials go to the journal, and the training goes on; they are written
    when it is back, or by the next start. Any other error ends the writing: it comes out of the
    next `put`, or at the end, with the trial that it belongs to. Ended by a signal, the block waits
    a few seconds for what is in the queue, no more: what was not written then goes to the journal.

    Args:
        log: where to.
        model: what the flavor saves of a trial; called in the writer's thread, so it may use
            what belongs to nobody else.
        journal: where trials wait; what is in it is written first.
        say: is told when the store goes away and when it is back.
        written: is told of each trial, in the writer's thread, and how many seconds it took."""

    def __init__(
        self,
        log: TrialLog,
        model: Callable[[Trial], Mapping[str, Any] | None],
        journal: Journal,
        say: Callable[[str], None] = lambda _: None,
        written: Callable[[Trial, float], None] = lambda *_: None,
        capacity: int = CAPACITY,
    ) -> None:
        self._log, self._model, self._journal, self._say = log, model, journal, say
        self._written = written
        self._queue: queue.Queue[Trial | Literal["stop"]] = queue.Queue(capacity)
        self._error: BaseException | None = None
        self._hurry = threading.Event()
        self._away_since: float | None = None
        self._pause = FIRST_PAUSE
        # Which trials the store has, as of the last time it came back; to be asked where None.
        self._whole: set[int] | None = None
        self._writing = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="writer", daemon=True)

    def __enter__(self) -> "Writer":
        self._thread.start()
        return self

    def __exit__(self, _: object, error: BaseException | None, *__: object) -> None:
        if error is not None and signals.ended_by_signal(error):
            self._finish(time.monotonic() + ENDING_SECONDS)
            return
        self._finish(None)
        if error is None:
            self._raise()

    def put(self, trial: Trial) -> None:
        """Hand a trial over; waits while the queue is full."""
        if not self._offer(trial):
            self._raise()

    def paused(self) -> threading.Lock:
        """For a `with` block in which nothing is written: it begins after the trial at hand."""
        return self._writing

    def _finish(self, until: float | None) -> None:
        """Wait for what is in the queue, until then at the longest."""
        self._offer("stop", until)
        self._thread.join(None if until is None else max(0.0, until - time.monotonic()))
        self._hurry.set()
        # The trial that is being written is one transaction after another: let it end.
        self._thread.join(1.0)

    def _offer(self, item: Trial | Literal["stop"], until: float | None = None) -> bool:
        """Whether the queue took it, until then and before an error ended the writing."""
        while self._error is None and (until is None or time.monotonic() < until):
            with suppress(queue.Full):
                self._queue.put(item, timeout=0.02)
                return True
        return False

    def _work(self) -> None:
        try:
            self._write_waiting()
            while not self._hurry.is_set():
                is_away = self._away_since is not None
                try:
                    trial = self._queue.get(timeout=self._pause if is_away else None)
                except queue.Empty:  # time to look whether the store is back
                    self._write_waiting()
                    continue
                if trial == "stop":
                    break
                started = time.monotonic()
                if is_away or not self._write(trial):
                    self._journal.add(trial)
                self._written(trial, time.monotonic() - started)
            self._write_the_rest()
            with suppress(queue.Empty):  # what a signal leaves waits on disk for the next start
                while True:
                    if (trial := self._queue.get_nowait()) != "stop":
                        self._journal.add(trial)
        except BaseException as error:
            self._error = error

    def _write_waiting(self) -> None:
        """What is in the journal, as far as the store takes it."""
        for trial in self._journal:
            if self._hurry.is_set() or not self._write(trial, again=True):
                return
            self._journal.remove(trial.number)
        if self._away_since is not None:
            self._say("the tracking store is back; what it missed is written")
        self._away_since, self._pause = None, FIRST_PAUSE

    def _write_the_rest(self) -> None:
        while self._away_since is not None and not self._hurry.is_set():
            if time.monotonic() - self._away_since > PATIENCE:
                raise RunError(
                    "the tracking store stays away; the trials that it missed wait on disk, and "
                    "the same command writes them and goes on"
                )
            self._hurry.wait(self._pause)
            self._write_waiting()

    def _write(self, trial: Trial, again: bool = False) -> bool:
        """Whether the store took the trial; `again` when it may have done so before."""
        try:
            if again and self._whole is None:
                self._whole = self._log.tidy()
            if again and trial.number in (self._whole or ()):
                return True
            with self._writing:
                self._log.log_trial(trial, self._model(trial))
            return True
        except Exception as error:
            if not is_outage(error, self._log.store.uri):
                raise _named(error, trial.number) from error
            self._whole = None
            if self._away_since is None:
                self._away_since = time.monotonic()
                self._say(
                    f"the tracking store is away ({first_line(error)[:200]}); "
                    "the search goes on and finished trials wait on disk"
                )
            else:
                self._pause = min(2 * self._pause, LONGEST_PAUSE)
            return False

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error


def _named(error: Exception, number: int) -> Exception:
    """The error with the trial that it belongs to: one line for a store that fails."""
    # torch says so of a disk that is full.
    from_torch = isinstance(error, RuntimeError) and "PytorchStreamWriter" in str(error)
    if from_torch or isinstance(error, (MlflowException, OSError)):
        return RunError(f"trial {number} could not be written to MLflow: {first_line(error)}")
    error.add_note(f"while trial {number} was written to MLflow")
    return error
