"""Finished trials that the tracking store could not take yet, as files beside the working folder.

One file for each: tensors and plain values, which `torch.load(weights_only=True)` reads; no pickle.
"""

import os
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.config import Config
from pipeline.tracking.param_text import decode_param, encode_param
from pipeline.training.members import Fit
from pipeline.training.trial import Trial

ROOT = Path("unwritten")
_CURVES = ("train_loss", "val_loss", "val_accuracy")


class Journal:
    """The trials of one train run that wait to be written, by their numbers."""

    def __init__(self, config: Config, train_run_id: str, root: Path = ROOT) -> None:
        self._config = config
        self.folder = root / train_run_id

    def add(self, trial: Trial) -> None:
        """Keep a trial. The file is renamed into place, so that none is ever found half-written."""
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / f".{trial.number}"
        with temporary.open("wb") as file:
            torch.save(_plain(trial), file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self._path(trial.number))

    def __iter__(self) -> Iterator[Trial]:
        for number in self.numbers:
            content = torch.load(self._path(number), weights_only=True)
            yield _trial(content, self._config)

    @property
    def numbers(self) -> list[int]:
        return sorted(int(path.stem) for path in self.folder.glob("[0-9]*.trial"))

    def remove(self, number: int) -> None:
        self._path(number).unlink(missing_ok=True)
        if not self.numbers:
            for half_written in self.folder.glob(".[0-9]*"):  # by a process that was killed
                half_written.unlink(missing_ok=True)
            for folder in (self.folder, self.folder.parent):
                try:
                    folder.rmdir()
                except OSError:  # not empty, or gone
                    return

    def _path(self, number: int) -> Path:
        return self.folder / f"{number}.trial"


def _plain(trial: Trial) -> dict[str, Any]:
    content = asdict(replace(trial, config=None, fits=(), curves={}))  # type: ignore[arg-type]
    content["params"] = {path: encode_param(value) for path, value in trial.params.items()}
    content["curves"] = {name: torch.from_numpy(v.copy()) for name, v in trial.curves.items()}
    content["fits"] = [
        {
            **{name: torch.from_numpy(getattr(fit, name).copy()) for name in _CURVES},
            "best_epoch": fit.best_epoch,
            "loss": float(fit.loss),
            "accuracy": float(fit.accuracy),
            "state": fit.state,
            "reason": fit.reason,
            "weights": fit.weights.clone(),
        }
        for fit in trial.fits
    ]
    return content


def _trial(content: dict[str, Any], config: Config) -> Trial:
    params = {path: decode_param(text) for path, text in content["params"].items()}
    fits = tuple(
        Fit(**{**fit, **{name: fit[name].numpy() for name in _CURVES}}) for fit in content["fits"]
    )
    curves = {name: np.asarray(curve.numpy()) for name, curve in content["curves"].items()}
    own = config.at(content["entry"], params)
    return Trial(**{**content, "config": own, "params": params, "curves": curves, "fits": fits})
