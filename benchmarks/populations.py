"""Whether the claim about new rows holds: populations that are known, and rows that are not alike.

    python benchmarks/populations.py [--seeds 60] [--only groups|order|plain] [--rows 1000000]

A table is drawn from a population, searched, and the winner's networks are scored on its test rows.
The claim is the 95 % interval of that score. The truth is the accuracy of the same networks on a
million other rows: of new groups, or of the period after the test rows, as long as these. The same
table is used twice: told how its rows hang together (`validation.groups` or `validation.order`),
and not told, as rows that are independent.

- groups: patients with five rows each. What a patient's rows have in common is in the columns, and
  `effect` says how much of it; the label is the patient's, and depends on the columns a little, or
  not at all.
- drift: what decides the label turns, so slowly that a model of today serves tomorrow, less well.
- season: it turns to and fro, several times within the table.
- switch: it changes at once, in the first half of the table, and stays so.
- plain: rows in an order that means nothing.

False winners: five optimizers on labels that are coins, by group or in time; how often one is
called clear. Planted: as in evidence.py, rows of ten copies with noise, or in an order.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from evidence import parity, search, settings
from setting import machine, show

sys.path.insert(0, str(Path(__file__).parents[1]))
from pipeline.analysis import evaluation
from pipeline.analysis.finalists import TrainedFinalists, train_finalists
from pipeline.data import prepared as data

COLUMNS = 6
QUICK: dict[str, Any] = {
    "model": {"hidden": [16]},
    "training": {"epochs": 30, "patience": 10},
    "search": {"trials": 6},
    "validation": {"final": {"repeats": 2}},
    "optimizers": [
        {"name": "SGD", "lr": {"low": 0.01, "high": 1.0, "log": True}, "momentum": 0.9},
        {"name": "Adam", "lr": {"low": 1e-3, "high": 0.1, "log": True}},
    ],
}

PATIENTS = (30, 3.0, 1.0), (100, 3.0, 1.0), (300, 3.0, 0.0), (300, 3.0, 0.4), (300, 1.0, 1.0)
"""Groups, effect, signal."""

Sample = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Columns [N, 6], labels [N], and each row's group or moment [N]."""


def patients(rng: np.random.Generator, groups: int, effect: float, signal: float) -> Sample:
    """Five rows each: a patient's own values, of standard deviation `effect`, and noise of 1."""
    own = rng.normal(size=(groups, COLUMNS)) * effect
    y = own[:, 0] / max(effect, 1e-9) * signal + rng.normal(size=groups) > 0
    place = np.repeat(np.arange(groups), 5)
    return own[place] + rng.normal(size=(len(place), COLUMNS)), y[place].astype(int), place


def in_time(rng: np.random.Generator, moments: np.ndarray, angle: np.ndarray) -> Sample:
    """The label follows two columns, in a direction that `angle` [N], in radians, gives."""
    x = rng.normal(size=(len(moments), COLUMNS))
    score = 2 * (np.cos(angle) * x[:, 0] + np.sin(angle) * x[:, 1])
    return x, (rng.random(len(x)) < 1 / (1 + np.exp(-score))).astype(int), moments


TURNS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "drift": lambda at: at * 1.0,
    "season": lambda at: 0.6 * np.sin(2 * np.pi * 5 * at),
    "switch": lambda at: np.where(at < 0.3, 0.0, 1.2),
    "plain": lambda at: 0 * at,
}
"""The angle at a part of the table, from 0 to 1; the period after it is from 1 on."""


def claim(sample: Sample, new: Sample, seed: int, told: str) -> tuple[float, float, float, float]:
    """The test accuracy, its interval, and the accuracy on new rows."""
    x, y, place = sample
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "table.parquet")
        names = [f"x{i}" for i in range(COLUMNS)]
        order = np.random.default_rng(seed).permutation(len(y))
        pd.DataFrame(x, columns=names).assign(place=place, y=y).iloc[order].to_parquet(source)
        own = {"source": str(source), "target": "y", "test": 0.25, "drop": ["place"]}
        validation = QUICK["validation"] | ({told: "place"} if told else {})
        config = settings(seed, source, **QUICK | {"data": own, "validation": validation})
        parts = data.prepare(config, Path(folder, "prepared"))
        found = train_finalists(config, parts, search(config, parts))
        test = data.load_test(parts)
    winner = found.evidence.winner
    assert winner is not None
    ensemble = found.trainer.ensemble(found.trained[winner.trial])
    how = test.dependence.clusters, found.evidence.ageing
    scores = evaluation.score(predicted(ensemble, test.raw), test.y, 0.5, *how)
    truth = float((predicted(ensemble, new[0]).argmax(axis=1) == new[1]).mean())
    return scores.accuracy, scores.accuracy_low, scores.accuracy_high, truth


def predicted(ensemble: torch.nn.Module, x: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        parts = torch.split(torch.from_numpy(x), 2**14)
        return torch.cat([ensemble(part) for part in parts]).numpy()


def coverage(
    name: str, draw: Callable[[int], tuple[Sample, Sample]], told: str, seeds: int
) -> list[list[str]]:
    """A row for the table that is told and one for that which is not."""
    rows = []
    for key in (told, ""):
        found = np.array([claim(*draw(seed), seed, key) for seed in range(seeds)])
        score, low, high, truth = found.T
        rows.append(
            [
                name,
                f"validation.{key}" if key else "not told",
                f"{100 * score.mean():.1f} %",
                f"{100 * truth.mean():.1f} %",
                f"{100 * np.mean((low <= truth) & (truth <= high)):.0f} %",
                f"{100 * np.mean(low <= truth):.0f} %",
            ]
        )
        print(*rows[-1], sep="  ", file=sys.stderr, flush=True)
    return rows


def of_groups(seeds: int, rows: int) -> list[list[str]]:
    found = []
    for groups, effect, signal in PATIENTS:

        def draw(
            seed: int, of: tuple[Any, ...] = (groups, effect, signal)
        ) -> tuple[Sample, Sample]:
            rng = np.random.default_rng((seed, *(int(10 * each) for each in of)))
            return patients(rng, *of), patients(rng, rows // 5, *of[1:])

        name = f"{groups} groups, effect {effect:g}, signal {signal:g}"
        found += coverage(name, draw, "groups", seeds)
    return found


def of_order(seeds: int, rows: int, names: Sequence[str], size: int = 1200) -> list[list[str]]:
    found = []
    for name in names:

        def draw(seed: int, turn: Any = TURNS[name]) -> tuple[Sample, Sample]:
            rng = np.random.default_rng(seed)
            at = np.arange(size) / size
            after = 1 + rng.random(rows) / 4
            return in_time(rng, np.arange(size) // 3, turn(at)), in_time(rng, after, turn(after))

        found += coverage(name, draw, "order", seeds)
    return found


def winners(seeds: int) -> list[list[str]]:
    """How often a winner is called clear: of coins, and where one is planted."""
    rows = []
    for told in ("groups", "order"):
        alarms = wins = 0
        for seed in range(seeds):
            rng = np.random.default_rng(seed)
            x, y, place = patients(rng, 100, 3.0, 0.0)
            if told == "order":
                x, y, place = in_time(rng, np.arange(500) // 2, np.zeros(500))
                y = rng.integers(2, size=500)
            network = {"model": {"hidden": [16]}, "training": {"epochs": 30, "patience": 10}}
            alarms += compared(x, y, place, told, seed, **network).evidence.winner_is_clear
            x, y = parity(seed)
            place = np.arange(len(y))
            if told == "groups":
                place = np.repeat(place, 3)
                x, y = x[place] + 0.05 * rng.normal(size=(len(place), x.shape[1])), y[place]
            lr = {"low": 1e-4, "high": 1.0, "log": True}
            evidence = compared(
                x, y, place, told, seed,
                model={"hidden": [8, 8, 8], "activation": "sigmoid"},
                training={"epochs": 60, "patience": None},
                optimizers=[{"name": "SGD", "lr": lr}, {"name": "Adam", "lr": lr}],
            ).evidence  # fmt: skip
            assert evidence.winner is not None
            wins += evidence.winner_is_clear and evidence.winner.optimizer == "Adam"
        rows.append([told, f"{alarms} of {seeds}", f"{wins} of {seeds}"])
        print(*rows[-1], sep="  ", file=sys.stderr, flush=True)
    return rows


def compared(
    x: np.ndarray, y: np.ndarray, place: np.ndarray, told: str, seed: int, **sections: Any
) -> TrainedFinalists:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "table.parquet")
        names = [f"x{i}" for i in range(x.shape[1])]
        pd.DataFrame(x, columns=names).assign(place=place, y=y).to_parquet(source)
        own = {"source": str(source), "target": "y", "test": 0.1}
        config = settings(seed, source, data=own, validation={told: "place"}, **sections)
        parts = data.prepare(config, Path(folder, "prepared"))
        return train_finalists(config, parts, search(config, parts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=60)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--only", choices=("groups", "order", "winners"))
    arguments = parser.parse_args()
    print(machine(["torch", "optuna", "scipy"]), "\n")
    started, found = time.perf_counter(), []
    if arguments.only in (None, "groups"):
        found += of_groups(arguments.seeds, arguments.rows)
    if arguments.only in (None, "order"):
        found += of_order(arguments.seeds, arguments.rows, list(TURNS))
    if found:
        show(["population", "told", "claimed", "true", "covered", "not claimed too much"], found)
    if arguments.only in (None, "winners"):
        show(["told", "clear winners of coins", "planted ones found"], winners(arguments.seeds))
    print(f"\n{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
