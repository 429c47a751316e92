"""Trials on a Ray cluster, and what it costs.

    python benchmarks/cluster.py [--rows 20000] [--batches 2]

A batch of eight trials on five folds, trained here by one thread, and on clusters of this machine
of one and of two workers with a core each; then the same with rows so few that a trial takes a
fraction of a second; then shards that do nothing. All figures are of one run, the shortest of some
batches, and leave out what comes once: starting Ray, and the worker's imports. Where other programs
use the cores, seconds say little: then look at the processor's, which the trials themselves took.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.setting import machine, show, two_labels
from pipeline.config import from_mapping
from pipeline.config.component import Component
from pipeline.config.sections import Model, Training
from pipeline.data.splits import make_splits
from pipeline.models.task import Classification
from pipeline.training import ray_engine
from pipeline.training.batches import Arrays
from pipeline.training.executors import LOCAL, Executor, Shard, fit_shard
from pipeline.training.members import Member, Settings
from pipeline.training.outcomes import Fit

FOLDS, TRIALS, COLUMNS = 5, 8, 20
EMPTY = 200


def arrays_of(rows: int) -> Arrays:
    x, y = two_labels(rows, COLUMNS)
    splits = make_splits(y, FOLDS, 1, 0.2, 0, (0, 1))
    return Arrays(
        torch.from_numpy(np.stack([x] * FOLDS)), torch.from_numpy(y), splits, Classification(2)
    )


def members_of(epochs: int) -> list[Member]:
    training = Training(epochs=epochs, patience=None, device="cpu")
    rates = np.geomspace(1e-3, 1e-1, TRIALS)
    optimizers = [Component("Adam", {"lr": float(rate)}) for rate in rates]
    return [Member(s, each, Model(), training) for each in optimizers for s in range(FOLDS)]


def nothing(shared: Any, own: Any) -> None:
    """A shard that does nothing."""


def measured(arrays: Arrays, shard: Shard) -> tuple[list[Fit], float]:
    """What came out, and the seconds of the processor."""
    started = time.process_time()
    fits, _ = fit_shard(arrays, shard)
    return fits, time.process_time() - started


def trained(
    executor: Executor, arrays: Arrays, members: Sequence[Member], batches: int
) -> tuple[float, float, int, list[Fit]]:
    """Seconds per trial, those of the processor, the shards of a batch, and what came out."""
    taken: list[tuple[float, float]] = []
    fits: dict[int, tuple[list[Fit], float]] = {}
    settings = Settings()
    for _ in range(batches):
        started = time.perf_counter()
        runs = executor.shards(arrays, members, settings)
        shards = [Shard(members[run.start : run.stop], settings) for run in runs]
        fits = dict(executor.run(measured, [(arrays, shard) for shard in shards]))
        used = sum(seconds for _, seconds in fits.values())
        taken.append((time.perf_counter() - started, used))
    wall, used = (min(each) / TRIALS for each in zip(*taken, strict=True))
    return wall, used, len(fits), [one for k in sorted(fits) for one in fits[k][0]]


@contextmanager
def workers(count: int) -> Iterator[tuple[Executor, float]]:
    """A cluster on this machine whose workers have begun, and the seconds that took."""
    config = from_mapping(
        {"data": {"source": "sklearn:iris", "target": "target"},
         "compute": {"engine": "ray", "address": "local"}}
    )  # fmt: skip
    torch.set_num_threads(count)
    started = time.perf_counter()
    with ray_engine.connected(config, print) as executor:
        list(executor.run(nothing, [((), None)] * count))
        tiny = arrays_of(100)
        shards = [(tiny, Shard(members_of(1), Settings()))] * 2 * count
        list(executor.run(fit_shard, shards))  # the imports
        yield executor, time.perf_counter() - started


def same(ones: Sequence[Fit], others: Sequence[Fit]) -> bool:
    pairs = zip(ones, others, strict=True)
    return all(
        torch.equal(one.weights, other.weights)
        and all(np.array_equal(one.curves[name], other.curves[name]) for name in one.curves)
        for one, other in pairs
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--batches", type=int, default=2)
    arguments = parser.parse_args()
    print(f"{machine(['torch', 'ray'])}, {time.strftime('%Y-%m-%d %H:%M')}\n")
    works = {
        "long": (arrays_of(arguments.rows), members_of(60), arguments.batches),
        "short": (arrays_of(600), members_of(100), 3 * arguments.batches),
    }
    rows, here = [], {}
    for threads in (2, 1):
        torch.set_num_threads(threads)
        for name, work in works.items():
            wall, used, *_ = here[name] = trained(LOCAL, *work)
            figures = [f"{wall:.3f}", f"{used:.3f}", "", "1", ""]
            rows.append([name, f"here, {threads} threads", *figures])
    notes = []
    for count in (1, 2):
        with workers(count) as (executor, start):
            notes.append(f"{count} workers: {start:.1f} s until both had begun and imported")
            for name, work in works.items():
                wall, used, shards, fits = trained(executor, *work)
                times, is_same = here[name][0] / wall, str(same(here[name][3], fits))
                figures = [f"{wall:.3f}", f"{used:.3f}", f"{times:.2f}", str(shards), is_same]
                rows.append([name, f"Ray, {count} of one core", *figures])
            arrays = works["long"][0]
            list(executor.run(nothing, [(arrays, None)]))
            started = time.perf_counter()
            list(executor.run(nothing, [(arrays, None)] * EMPTY))
            each = (time.perf_counter() - started) / EMPTY * 1e3
            sizes = f"{arrays.x.numel() * 4 / 2**20:.0f} MB of rows"
            notes.append(f"{count} workers: {each:.2f} ms for a shard that does nothing, {sizes}")
    rows.sort()
    head = (
        "trials",
        "where",
        "s per trial",
        "of the processor",
        "times one thread",
        "shards",
        "same bits",
    )
    show(head, rows)
    print("\n" + "\n".join(notes))
    assert not ray.is_initialized()


if __name__ == "__main__":
    main()
