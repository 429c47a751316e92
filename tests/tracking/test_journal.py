"""Trials on disk and back, to the bit."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import torch

from pipeline import config as configuration
from pipeline.tracking.journal import Journal
from pipeline.training.members import Fit
from pipeline.training.trial import Trial

CONFIG = configuration.loads(
    """
data: {source: "sklearn:iris", target: target}
model: {hidden: {choice: [[8], [6, 4]]}}
optimizers: [{name: Adam, lr: {low: 1e-3, high: 1e-1, log: true}}]
""",
    "here",
)


def make_trial(number: int, state: str = "COMPLETE") -> Trial:
    draw = np.random.default_rng(number)
    curves = {name: draw.random(4) for name in ("train_loss", "val_loss", "val_accuracy")}
    params = {"model.hidden": (6, 4), "optimizers.0.lr": 1e-2 / 3}
    fit = Fit(
        **curves,
        best_epoch=2,
        loss=0.1 / 3 if state == "COMPLETE" else np.nan,
        accuracy=0.7,
        state="complete" if state == "COMPLETE" else "failed",
        reason=None if state == "COMPLETE" else "not finite",
        weights=torch.rand(7),
    )
    complete = state == "COMPLETE"
    return Trial(
        number=number,
        config=CONFIG.at(0, params),
        entry=0,
        params=params,
        optimizer="Adam",
        lr=1e-2 / 3,
        state="COMPLETE" if complete else "FAIL",
        reason=None if complete else "not finite",
        curves=curves,
        loss=0.1 / 3 if complete else None,
        accuracy=0.7 if complete else None,
        accuracy_std=0.0 if complete else None,
        best_epoch=2.0 if complete else None,
        seconds=1.5,
        fits=(fit, fit),
    )


def test_there_and_back(tmp_path: Path) -> None:
    journal = Journal(CONFIG, "run", tmp_path / "unwritten")
    trials = [make_trial(10), make_trial(9, "FAIL"), make_trial(2)]
    for trial in trials:
        journal.add(trial)
    again = Journal(CONFIG, "run", tmp_path / "unwritten")
    assert again.numbers == [2, 9, 10]
    for read, trial in zip(again, sorted(trials, key=lambda t: t.number), strict=True):
        for field in fields(Trial):
            if field.name not in ("fits", "curves"):
                assert getattr(read, field.name) == getattr(trial, field.name)
        for name, curve in trial.curves.items():
            np.testing.assert_array_equal(read.curves[name], curve)
        for one, other in zip(read.fits, trial.fits, strict=True):
            assert torch.equal(one.weights, other.weights)
            np.testing.assert_equal(
                (one.loss, one.accuracy, one.best_epoch, one.state, one.reason),
                (other.loss, other.accuracy, other.best_epoch, other.state, other.reason),
            )
            np.testing.assert_array_equal(one.val_loss, other.val_loss)


def test_nothing_is_left(tmp_path: Path) -> None:
    journal = Journal(CONFIG, "run", tmp_path / "unwritten")
    assert journal.numbers == []
    assert not journal.folder.exists()
    for number in (0, 1):
        journal.add(make_trial(number))
    (journal.folder / ".2").write_bytes(b"half")
    for number in (0, 1, 1):
        journal.remove(number)
    assert not (tmp_path / "unwritten").exists()
