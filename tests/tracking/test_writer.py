"""The writer, and the journal in which trials wait."""

import threading
import time
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.common.errors import RunError
from pipeline.config import loads
from pipeline.tracking.trials import TrialLog, trials_of
from pipeline.tracking.writer import Journal, Writer
from pipeline.training.outcomes import Fit
from pipeline.training.trial import CURVES, Trial
from tests.tracking.made import make_trial

ROOT = Path(__file__).parents[2]


class Memory(dict[int, Any]):
    """A journal that forgets."""

    def add(self, trial: Any) -> None:
        self[trial.number] = trial

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self.values()))

    def remove(self, number: int) -> None:
        del self[number]


def test_the_writer_has_written_all_at_its_end(log: TrialLog) -> None:
    threads = set()

    def model(trial: Trial) -> dict[str, str] | None:
        threads.add(threading.current_thread())
        return {"text": ""} if trial.number == 1 else None

    with Writer(log, model, Memory(), capacity=2) as writer:
        for number in range(5):
            writer.put(make_trial(number=number, state="COMPLETE" if number == 1 else "PRUNED"))
    assert [trial.number for trial in trials_of(log.store, log.train.run_id)] == list(range(5))
    assert threading.current_thread() not in threads
    assert len(threads) == 1


def test_nothing_is_written_while_the_writer_is_paused(log: TrialLog) -> None:
    with Writer(log, lambda _: None, Memory()) as writer, writer.paused():
        writer.put(make_trial(number=0, state="PRUNED"))
        time.sleep(0.3)
        assert trials_of(log.store, log.train.run_id) == []
    assert [trial.number for trial in trials_of(log.store, log.train.run_id)] == [0]


def test_what_waits_is_written_first_and_once(log: TrialLog) -> None:
    log.log_trial(make_trial(number=0, state="PRUNED"), None)
    half = log.store.create("trial", "#01", {"mlflow.parentRunId": log.train.run_id})
    memory = Memory({n: make_trial(number=n, state="PRUNED") for n in (0, 1)})
    with Writer(log, lambda _: None, memory) as writer:
        writer.put(make_trial(number=2, state="PRUNED"))
    assert not memory
    assert [trial.number for trial in trials_of(log.store, log.train.run_id)] == [0, 1, 2]
    assert len(list(log.store.trials_under(log.train.run_id))) == 4
    assert log.store.client.get_run(half.run_id).info.status == "FAILED"


def test_the_writers_error_names_the_trial(log: TrialLog) -> None:
    def write() -> None:
        with Writer(log, lambda _: {"wrong": ""}, Memory()) as writer:
            writer.put(make_trial(number=7))
            while True:
                writer.put(make_trial(number=8))

    with pytest.raises(TypeError) as error:
        write()
    assert error.value.__notes__ == ["while trial 7 was written to MLflow"]


def test_a_full_disk_is_one_line(log: TrialLog) -> None:
    def full(_: Trial) -> None:
        raise OSError(28, "No space left on device")

    with (
        pytest.raises(RunError, match=r"trial 7 could not be written to MLflow: .*No space left"),
        Writer(log, full, Memory()) as writer,
    ):
        writer.put(make_trial(number=7))


CONFIG = loads(
    """
data: {source: "sklearn:iris", target: target}
model: {hidden: {choice: [[8], [6, 4]]}}
optimizers: [{name: Adam, lr: {low: 1e-3, high: 1e-1, log: true}}]
""",
    "here",
)


def searched_trial(number: int, state: Any = "COMPLETE") -> Trial:
    """As training gives it, with its networks."""
    draw = np.random.default_rng(number)
    complete = state == "COMPLETE"
    curves = {name: draw.random(4) for name in CURVES}
    params = {"model.hidden": (6, 4), "optimizers.0.lr": 1e-2 / 3}
    fit = Fit(
        curves=curves,
        best_epoch=2,
        scores={"loss": 0.1 / 3 if complete else np.nan, "accuracy": 0.7},
        state="complete" if complete else "failed",
        reason=None if complete else "not finite",
        weights=torch.rand(7),
    )
    return Trial(
        number,
        "Adam",
        params,
        1e-2 / 3,
        CONFIG.at("Adam", params),
        state=state,
        reason=None if complete else "not finite",
        scores={"loss": 0.1 / 3, "accuracy": 0.7} if complete else {},
        deviations={"loss": 0.0, "accuracy": 0.0} if complete else {},
        fold_scores={"loss": np.full(2, 0.1 / 3)} if complete else {},
        best_epoch=2.0 if complete else None,
        curves=curves | {"folds_running": np.full(4, 2.0)},
        seconds=1.5,
        fits=(fit, fit),
    )


def test_there_and_back(tmp_path: Path) -> None:
    journal = Journal(CONFIG, "run", tmp_path / "unwritten")
    trials = [searched_trial(10), searched_trial(9, "FAIL"), searched_trial(2)]
    at_once = searched_trial(11, "FAIL")  # in its first epoch: there are curves of no epochs
    trials.append(replace(at_once, curves=dict.fromkeys(at_once.curves, np.empty(0))))
    for trial in trials:
        journal.add(trial)
    again = Journal(CONFIG, "run", tmp_path / "unwritten")
    assert again.numbers == [2, 9, 10, 11]
    for read, trial in zip(again, sorted(trials, key=lambda t: t.number), strict=True):
        for field in fields(Trial):
            if field.name != "fits":
                np.testing.assert_equal(getattr(read, field.name), getattr(trial, field.name))
        for fit_read, fit in zip(read.fits, trial.fits, strict=True):
            assert torch.equal(fit_read.weights, fit.weights)
            for field in fields(Fit):
                if field.name != "weights":
                    np.testing.assert_equal(getattr(fit_read, field.name), getattr(fit, field.name))


def test_nothing_is_left(tmp_path: Path) -> None:
    journal = Journal(CONFIG, "run", tmp_path / "unwritten")
    assert journal.numbers == []
    assert not journal.folder.exists()
    for number in (0, 1):
        journal.add(searched_trial(number))
    (journal.folder / ".2").write_bytes(b"half")
    for number in (0, 1, 1):
        journal.remove(number)
    assert not (tmp_path / "unwritten").exists()
