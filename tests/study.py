"""Stand-ins for this project's own records, made up so that tests know what is in them.

They have the attributes of `trials.Trial` and `training.Fit` that evaluation, plots, report and
console read; a search that made them would take longer and hold fewer odd cases.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pipeline.analysis.comparison import pairs
from pipeline.analysis.evidence import Baseline, Evidence, Finalist, Forgiveness
from pipeline.analysis.importance import Searched
from pipeline.analysis.ranking import Objective
from pipeline.analysis.resampled import overlap
from pipeline.config import loads
from pipeline.report.facts import Facts
from pipeline.search.settings import settings_of
from pipeline.search.space import Space

NASTY = "<script>alert('x')</script> & \"q\" $a$ [red]b[/red] |`*_#\\"


@dataclass(frozen=True)
class StandInFit:
    accuracy: float
    loss: float


@dataclass(frozen=True)
class StandInTrial:
    number: int
    optimizer: str = "Adam"
    lr: float = 0.01
    state: Literal["COMPLETE", "PRUNED", "FAIL"] = "COMPLETE"
    reason: str | None = None
    loss: float | None = 0.6
    accuracy: float | None = 0.7
    accuracy_std: float | None = 0.02
    best_epoch: float | None = 5.0
    seconds: float = 1.0
    params: Mapping[str, Any] = field(default_factory=dict)
    curves: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    fits: Sequence[StandInFit] = ()
    entry: int = 0


def failed(number: int, optimizer: str = "SGD", lr: float = 1.0) -> StandInTrial:
    return StandInTrial(
        number, optimizer, lr, "FAIL", "loss not finite in epoch 3", None, None, None, None
    )


def search(
    optimizers: Sequence[str] = ("SGD", "Adagrad", "RMSprop", "Adam"),
    trials: int = 40,
    epochs: int = 60,
    seed: int = 0,
) -> list[StandInTrial]:
    """A made-up search whose accuracy has a hump over the learning rate, other per optimizer."""
    draw = np.random.default_rng(seed)
    found = []
    for number in range(trials):
        which = int(draw.integers(len(optimizers)))
        name = optimizers[which]
        center = -1.0 - 0.4 * which
        power = draw.uniform(center - 2, center + 1.5)
        lr = float(10**power)
        if power > center + 1.1:
            found.append(failed(number, name, lr))
            continue
        quality = math.exp(-((power - center) ** 2) / 2.5)
        top = 0.61 + 0.075 * quality + 0.004 * which
        length = int(epochs * draw.uniform(0.5, 1.0))
        time = np.arange(1, length + 1) / (10 + 30 * (1 - quality))
        noise = draw.normal(0, 0.004, length)
        val_loss = 0.69 - 0.1 * quality * (1 - np.exp(-time)) + 0.02 * time + noise
        best_epoch = int(val_loss.argmin()) + 1
        folds = top + draw.normal(0, 0.012, 5)
        accuracy = float(folds.mean())
        pruned = number % 11 == 7
        found.append(
            StandInTrial(
                number,
                name,
                lr,
                state="PRUNED" if pruned else "COMPLETE",
                reason="median of earlier trials" if pruned else None,
                loss=float(val_loss.min()),
                accuracy=accuracy,
                accuracy_std=float(folds.std(ddof=1)),
                best_epoch=float(best_epoch),
                params={f"optimizers.{which}.lr": lr},
                curves={
                    "train_loss": 0.69 - 0.14 * quality * (1 - np.exp(-time)) + noise / 3,
                    "val_loss": val_loss,
                    "val_accuracy": np.clip(
                        top - 0.15 * np.exp(-time) + draw.normal(0, 0.006, length), 0, 1
                    ),
                },
                fits=tuple(StandInFit(float(a), float(val_loss.min())) for a in folds),
                entry=which,
            )
        )
    return found


SETTINGS = """
data: {source: none.csv, target: none}
model: {hidden: {choice: [[32], [64, 32]]}, dropout: {low: 0.0, high: 0.5}}
training: {batch_size: {choice: [32, 64, 128]}}
optimizers:
  - {name: SGD, lr: {low: 1e-3, high: 1.0, log: true}, momentum: {low: 0.0, high: 0.9}}
  - {name: AdamW, lr: {low: 1e-4, high: 1e-1, log: true}}
"""


def settings_search(
    effect: Callable[[int, Mapping[str, Any]], float],
    trials: int = 60,
    *,
    config: str = SETTINGS,
    noise: float = 0.001,
    seed: int = 0,
    objective: Objective = "val_accuracy",
) -> Searched:
    """A made-up random search of `config` whose accuracy is 0.5 + effect(entry, params), and noise;
    the loss is 1 - accuracy. NaN: the trial failed."""
    read = loads(config, "made up")
    branches = Space(read).branches
    draw = np.random.default_rng(seed)
    found = []
    for number in range(trials):
        entry = int(draw.integers(len(branches)))
        params = {axis.path: axis.at(float(draw.random())) for axis in branches[entry].axes}
        optimizer = read.optimizers[entry].name
        lr = float(params.get(f"optimizers.{entry}.lr", 0.01))
        accuracy = 0.5 + effect(entry, params) + noise * float(draw.normal())
        if math.isnan(accuracy):
            found.append(replace(failed(number, optimizer, lr), params=params, entry=entry))
            continue
        found.append(
            StandInTrial(
                number,
                optimizer,
                lr,
                accuracy=accuracy,
                loss=1 - accuracy,
                params=params,
                entry=entry,
            )
        )
    return Searched(settings_of(read), found, objective)


def predictions(
    labels: int = 2, rows: int = 500, seed: int = 0, sharpness: float = 1.0
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Probabilities [rows, labels] and labels drawn from them (calibrated when sharpness is 1)."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(0, 1.3, (rows, labels)) - 0.25 * np.arange(labels)
    truth = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    y = (draw.random((rows, 1)) > truth.cumsum(1)[:, :-1]).sum(1)
    said = np.exp(logits * sharpness)
    return (said / said.sum(1, keepdims=True)).astype(np.float32), y


def study_facts(**changed: Any) -> Facts:
    """Facts of a made-up run on a table of two labels."""
    usual: dict[str, Any] = {
        "experiment": "water-potability",
        "source": "data/water_potability.csv",
        "target": "Potability",
        "labels": (0, 1),
        "rows": {"train": 1508, "test": 503},
        "columns": {"ph": "number", "Hardness": "number"},
        "left_out": {"id": "a distinct string in every row"},
        "folds": 5,
        "repeats": 1,
        "fraction": 0.2,
        "trials": 40,
        "epochs": "100",
        "objective": "val_accuracy",
        "optimizers": ("SGD", "Adagrad", "RMSprop", "Adam"),
        "settings": {"seed": "0", "training.epochs": "100"},
        "command": "mlflow run . -P config=configs/water.yaml",
        "fingerprint": "a1b2c3d4e5f6",
        "digest": "ab" * 32,
        "tracking_uri": "sqlite:///mlflow.db",
        "model_uri": "models:/water-potability@champion",
        "versions": {"torch": "2.13.0"},
    }
    return Facts(**(usual | changed))


def nasty_facts(**changed: Any) -> Facts:
    """Facts in which every text of data or configuration tries to be markup."""
    return study_facts(
        experiment=NASTY,
        source=NASTY,
        target=NASTY,
        labels=(NASTY, "</style>" + NASTY),
        columns={NASTY: "number"},
        left_out={NASTY: NASTY},
        optimizers=(NASTY,),
        settings={NASTY: NASTY},
        epochs=NASTY,
        command=NASTY,
        fingerprint=NASTY,
        digest=NASTY,
        tracking_uri=NASTY,
        model_uri=NASTY,
        versions={NASTY: NASTY},
        **changed,
    )


def study_evidence(
    means: Mapping[str, float | None],
    *,
    objective: Objective = "val_accuracy",
    folds: int = 5,
    repeats: int = 4,
    noise: float = 0.004,
    seed: int = 0,
) -> Evidence:
    """Evidence of a made-up final round with about these mean accuracies; None: it diverged."""
    draw = np.random.default_rng(seed)
    members = folds * repeats
    shared = draw.normal(0, 0.02, members)
    finalists = []
    for number, (name, mean) in enumerate(means.items()):
        own = draw.normal(0, noise, members)
        accuracy = np.zeros(0) if mean is None else mean + shared - shared.mean() + own - own.mean()
        finalists.append(
            Finalist(
                optimizer=name,
                trial=number,
                lr=0.01,
                params={f"optimizers.{number}.lr": 0.01},
                accuracy=accuracy,
                loss=1.2 - accuracy,
                kept_accuracy=None if mean is None else mean + 0.003,
                kept_loss=None if mean is None else 1.195 - mean,
                ensemble_accuracy=None if mean is None else mean + 0.01,
                ensemble_loss=None if mean is None else 1.18 - mean,
                search_accuracy=(mean or 0.6) + 0.005,
                search_loss=1.19 - (mean or 0.6),
                best_epoch=None if mean is None else 12.5,
                seconds=0.5,
                reason="repeat 1, fold 1: a weight was not finite" if mean is None else None,
            )
        )
    finalists.sort(key=lambda one: one.ranking(objective))
    better = [one for one in finalists if one.completed]
    majority = np.full(members, 0.59)
    return Evidence(
        objective=objective,
        folds=folds,
        repeats=repeats,
        finalists=tuple(finalists),
        pairs=pairs(
            [
                (one.optimizer, one.accuracy if objective == "val_accuracy" else -one.loss)
                for one in better
            ],
            overlap(folds),
        ),
        baselines=(
            Baseline("majority label", majority, majority + 0.09),
            Baseline("logistic regression", majority[:folds] + 0.01, majority[:folds]),
            Baseline("gradient boosting", majority[:folds] + 0.08, majority[:folds], 0.67, 0.6),
        ),
        forgiveness=tuple(
            Forgiveness(
                optimizer=name,
                trials=8,
                diverged=0.25,
                lr_low=0.001,
                lr_high=0.1,
                decades=2.0,
                standard_error=0.008,
                target=0.6,
                epochs_to_target=7 + number,
                seconds_to_target=0.2,
                expected_best=0.6 + 0.02 * np.log1p(np.arange(8)),
            )
            for number, name in enumerate(means)
        ),
    )
