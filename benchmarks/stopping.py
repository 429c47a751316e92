"""How much early stopping flatters a network on the rows that stop it, and what is left of that.

    OMP_NUM_THREADS=1 python benchmarks/stopping.py [--seeds 40] [--rows 400]

Tables of which any number of rows can be drawn. Networks are trained by five folds with the default
settings, at several learning rates. Their scores on the validation rows, at the best epoch and
cross-fitted (`analysis.cross_fitting`), are held against what the kept networks reach on 20,000
other rows of the same population. 0 is what an estimate should be off by.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
from setting import machine, show

sys.path.insert(0, str(Path(__file__).parents[1]))
from evidence import gentle

from pipeline.analysis.cross_fitting import Predictions, cross_fitted
from pipeline.config.component import Component
from pipeline.config.sections import SMOOTHING, Model, Training
from pipeline.data.splits import make_splits
from pipeline.models.export import MLPEnsemble
from pipeline.models.metrics import ACCURACY
from pipeline.models.task import Classification
from pipeline.training.batches import Arrays
from pipeline.training.loop import fit
from pipeline.training.members import Member, Settings, scheduled

OTHERS = 20_000
TRIALS = [
    (optimizer, lr)
    for optimizer, rates in {
        "SGD": (0.03, 0.1, 0.3, 1.0),
        "Adagrad": (0.003, 0.01, 0.03, 0.1),
        "RMSprop": (0.0003, 0.001, 0.003, 0.01, 0.03),
        "Adam": (0.0003, 0.001, 0.003, 0.01, 0.03),
    }.items()
    for lr in rates
]
MODEL, TRAINING = Model(), Training(label_smoothing=SMOOTHING, device="cpu")


def errors(seed: int, rows: int) -> np.ndarray:
    """Estimate minus truth [trial, 4]: accuracy kept, cross-fitted; loss kept, cross-fitted."""
    x, y = gentle(seed, rows)
    splits = make_splits(y, 5, 1, 0.2, seed)
    inputs = torch.from_numpy(x).float().expand(len(splits), -1, -1).contiguous()
    arrays = Arrays(inputs, torch.from_numpy(y), splits, Classification(2))
    members = [
        Member(split, scheduled(Component(optimizer, {"lr": lr}), TRAINING), MODEL, TRAINING)
        for optimizer, lr in TRIALS
        for split in range(len(splits))
    ]
    fits = fit(arrays, members, Settings(cross_fit=True, criterion=ACCURACY))
    architecture = arrays.architecture(MODEL, Training())
    weights = torch.stack([one.weights for one in fits])
    networks = MLPEnsemble(torch.nn.Identity(), architecture, weights)
    x, y = gentle(10_000 + seed, OTHERS)
    others, labels = torch.from_numpy(x).float(), torch.from_numpy(y)
    with torch.no_grad():
        truths = [Predictions(np.arange(OTHERS), networks.logits(k, others), labels)
                  for k in range(len(members))]  # fmt: skip
    found = []
    for start in range(0, len(fits), len(splits)):
        own = slice(start, start + len(splits))
        answers = cross_fitted(fits[own], arrays, architecture)
        true_scores = [predictions.scores() for predictions in truths[own]]
        kept = [each.scores for each in fits[own]]
        crossed = [predictions.scores() for predictions in answers]
        found.append(
            [
                np.mean([each[name] for each in scores])
                - np.mean([each[name] for each in true_scores])
                for name in ("accuracy", "loss")
                for scores in (kept, crossed)
            ]
        )
    return np.array(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--rows", type=int, default=400)
    arguments = parser.parse_args()
    print(machine(["torch", "scikit-learn"]), "\n")
    started = time.perf_counter()
    found = np.stack([errors(seed, arguments.rows) for seed in range(arguments.seeds)])
    rows = [[f"{name} {lr:g}", *_row(found[:, k])] for k, (name, lr) in enumerate(TRIALS)]
    show(
        [
            "trial",
            "accuracy, best epoch (points)",
            "accuracy, cross-fitted",
            "loss, best epoch (nats)",
            "loss, cross-fitted",
        ],
        [*rows, ["all", *_row(found.mean(axis=1))]],
    )
    print(f"\n{arguments.seeds} tables, {time.perf_counter() - started:.0f} s")


def _row(values: np.ndarray) -> list[str]:
    """Means over tables [tables, 4] with their standard errors."""
    mean, error = values.mean(axis=0), values.std(axis=0, ddof=1) / len(values) ** 0.5
    scales, digits = (100, 100, 1, 1), (2, 2, 4, 4)
    return [
        f"{scale * m:+.{d}f} ± {scale * e:.{d}f}"
        for scale, d, m, e in zip(scales, digits, mean, error, strict=True)
    ]


if __name__ == "__main__":
    main()
