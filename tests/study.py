"""Records of this project, made up so that tests know what is in them.

A search that made them would take longer and hold fewer odd cases.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.analysis.comparison import pairs
from pipeline.analysis.evidence import Baseline, Evidence, Finalist, Tolerance
from pipeline.analysis.importance import Searched
from pipeline.config import loads
from pipeline.models.metrics import ACCURACY, Metric
from pipeline.report.report import Facts
from pipeline.search.settings import settings_of
from pipeline.search.space import Space
from pipeline.training.trial import Trial

NASTY = "<script>alert('x')</script> & \"q\" $a$ [red]b[/red] |`*_#\\"


def trial(
    number: int,
    optimizer: str = "Adam",
    lr: float = 0.01,
    *,
    accuracy: float = 0.7,
    loss: float = 0.6,
    accuracy_std: float = 0.02,
    **changed: Any,
) -> Trial:
    """A complete trial with these scores."""
    usual: dict[str, Any] = {
        "state": "COMPLETE",
        "scores": {"accuracy": accuracy, "loss": loss},
        "deviations": {"accuracy": accuracy_std, "loss": 0.01},
        "best_epoch": 5.0,
        "seconds": 1.0,
        "params": {},
    }
    return Trial(number, optimizer, lr=lr, **(usual | changed))


def failed(number: int, optimizer: str = "SGD", lr: float = 1.0, **changed: Any) -> Trial:
    usual: dict[str, Any] = {"params": {}, "state": "FAIL", "seconds": 1.0}
    usual["reason"] = "loss not finite in epoch 3"
    return Trial(number, optimizer, lr=lr, **(usual | changed))


def folds(accuracy: Sequence[float], loss: Sequence[float]) -> dict[str, npt.NDArray[np.float64]]:
    """Scores of folds, for `Trial.fold_scores`."""
    return {"accuracy": np.array(accuracy), "loss": np.array(loss)}


def validated_trial(number: int, optimizer: str, accuracies: Sequence[float]) -> Trial:
    """A complete trial with these accuracies of its folds."""
    return trial(
        number,
        optimizer,
        accuracy=float(np.mean(accuracies)),
        accuracy_std=float(np.std(accuracies, ddof=1)),
        fold_scores=folds(accuracies, [0.6] * len(accuracies)),
    )


CLOSE = validated_trial(0, "Adam", [0.70, 0.72, 0.71, 0.69, 0.73])
NEAR = validated_trial(1, "SGD", [0.70, 0.71, 0.72, 0.68, 0.72])
FAR = validated_trial(2, "Adagrad", [0.60, 0.62, 0.60, 0.59, 0.64])


def search(
    optimizers: Sequence[str] = ("SGD", "Adagrad", "RMSprop", "Adam"),
    trials: int = 40,
    epochs: int = 60,
    seed: int = 0,
) -> list[Trial]:
    """A made-up search whose accuracy has a hump over the learning rate, other per optimizer."""
    draw = np.random.default_rng(seed)
    trials_made: list[Trial] = []
    for number in range(trials):
        which = int(draw.integers(len(optimizers)))
        name = optimizers[which]
        center = -1.0 - 0.4 * which
        power = draw.uniform(center - 2, center + 1.5)
        lr = float(10**power)
        if power > center + 1.1:
            trials_made.append(failed(number, name, lr))
            continue
        quality = math.exp(-((power - center) ** 2) / 2.5)
        top = 0.61 + 0.075 * quality + 0.004 * which
        length = int(epochs * draw.uniform(0.5, 1.0))
        time = np.arange(1, length + 1) / (10 + 30 * (1 - quality))
        noise = draw.normal(0, 0.004, length)
        val_loss = 0.69 - 0.1 * quality * (1 - np.exp(-time)) + 0.02 * time + noise
        best_epoch = int(val_loss.argmin()) + 1
        by_fold = top + draw.normal(0, 0.012, 5)
        lowest = float(val_loss.min())
        pruned = number % 11 == 7
        trials_made.append(
            trial(
                number,
                name,
                lr,
                state="PRUNED" if pruned else "COMPLETE",
                reason="median of earlier trials" if pruned else None,
                loss=lowest,
                accuracy=float(by_fold.mean()),
                accuracy_std=float(by_fold.std(ddof=1)),
                best_epoch=float(best_epoch),
                params={f"optimizers.{which}.lr": lr},
                curves={
                    "train_loss": 0.69 - 0.14 * quality * (1 - np.exp(-time)) + noise / 3,
                    "val_loss": val_loss,
                    "val_accuracy": np.clip(
                        top - 0.15 * np.exp(-time) + draw.normal(0, 0.006, length), 0, 1
                    ),
                    "folds_running": np.linspace(5 / 0.6, 0.5, length).clip(max=5).round(),
                },
                fold_scores=folds(by_fold.tolist(), [lowest] * 5),
            )
        )
    return trials_made


SETTINGS = """
data: {source: none.csv, target: none}
model: {hidden: {choice: [[32], [64, 32]]}, dropout: {low: 0.0, high: 0.5}}
training: {batch_size: {choice: [32, 64, 128]}}
optimizers:
  - {name: SGD, lr: {low: 1e-3, high: 1.0, log: true}, momentum: {low: 0.0, high: 0.9}}
  - {name: AdamW, lr: {low: 1e-4, high: 1e-1, log: true}}
"""


def batch_size_effect(_: int, params: Mapping[str, Any]) -> float:
    """Nothing but the batch size has an effect, and a dropout above 0.45 fails."""
    fails = params["model.dropout"] > 0.45
    return np.nan if fails else {32: 0.0, 64: 0.1, 128: 0.05}[params["training.batch_size"]]


def settings_search(
    effect: Callable[[int, Mapping[str, Any]], float],
    trials: int = 60,
    *,
    config: str = SETTINGS,
    noise: float = 0.001,
    seed: int = 0,
    metric: Metric = ACCURACY,
) -> Searched:
    """A made-up random search of `config` whose accuracy is 0.5 + effect(entry, params), and noise;
    the loss is 1 - accuracy. NaN: the trial failed."""
    read = loads(config, "made up")
    space = Space(read)
    draw = np.random.default_rng(seed)
    made = []
    for number in range(trials):
        entry = int(draw.integers(len(space.axes)))
        params = space.at(entry, draw.random(len(space.axes[entry])).tolist()).params
        optimizer = read.labels[entry]
        lr = float(params.get(f"optimizers.{entry}.lr", 0.01))
        accuracy = 0.5 + effect(entry, params) + noise * float(draw.normal())
        if math.isnan(accuracy):
            made.append(failed(number, optimizer, lr, params=params))
            continue
        made.append(
            trial(number, optimizer, lr, accuracy=accuracy, loss=1 - accuracy, params=params)
        )
    return Searched(settings_of(read), made, metric)


def scores(accuracy: float, loss: float) -> dict[str, float]:
    return {"accuracy": accuracy, "loss": loss}


def folds_of(accuracy: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[np.float64]]:
    return {"accuracy": accuracy, "loss": 1.2 - accuracy}


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
        "metric": ACCURACY,
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


def overlap(folds: int) -> float:
    """Validation rows by training rows, of folds of equal size."""
    return 1 / (folds - 1)


def study_evidence(
    means: Mapping[str, float | None],
    *,
    metric: Metric = ACCURACY,
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
                scores={} if mean is None else folds_of(accuracy),
                ensemble={} if mean is None else scores(mean + 0.01, 1.18 - mean),
                search=scores((mean or 0.6) + 0.005, 1.19 - (mean or 0.6)),
                best_epoch=None if mean is None else 12.5,
                seconds=0.5,
                reason="repeat 1, fold 1: a weight was not finite" if mean is None else None,
            )
        )
    finalists.sort(key=lambda finalist: finalist.ranking(metric))
    better = [finalist for finalist in finalists if finalist.completed]
    majority = np.full(members, 0.59)
    first = majority[:folds]
    return Evidence(
        metric=metric,
        folds=folds,
        repeats=repeats,
        overlap=overlap(folds),
        is_forward=False,
        finalists=tuple(finalists),
        pairs=pairs(
            [(each.optimizer, metric.sign * each.scores[metric.name]) for each in better],
            overlap(folds),
        ),
        baselines=(
            Baseline("majority label", {"accuracy": majority, "loss": majority + 0.09}),
            Baseline("logistic regression", {"accuracy": first + 0.01, "loss": first}),
            Baseline(
                "gradient boosting", {"accuracy": first + 0.08, "loss": first}, scores(0.67, 0.6)
            ),
        ),
        tolerances=tuple(
            Tolerance(
                optimizer=name, trials=8, diverged=0.25, lr_low=0.001, lr_high=0.1, decades=2.0
            )
            for name in means
        ),
    )
