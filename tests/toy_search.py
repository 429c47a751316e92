"""Small searches, and a toy objective that stands in for training."""

import math
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import torch

from pipeline.config import Config, check
from pipeline.search.search import Search
from pipeline.training.proposals import Proposal, Told

SAMPLERS = ["tpe", "random", "qmc", "gp"]
PRUNERS = ["none", "median", "halving"]

LR = {"low": 1e-4, "high": 1.0, "log": True}
FOUR = [{"name": name, "lr": LR} for name in ("SGD", "Adagrad", "RMSprop", "Adam")]
RICH: dict[str, Any] = {
    "optimizers": [
        {"name": "SGD", "lr": LR, "momentum": {"low": 0.0, "high": 0.9}},
        {"name": "Adam", "lr": LR},
        {"name": "Adam", "lr": LR, "amsgrad": {"choice": [False, True]}},
    ],
    "model": {
        "hidden": {"choice": [[64], [64, 32], []]},
        "dropout": {"low": 0.0, "high": 0.6, "step": 0.1},
    },
    "training": {
        "epochs": 30,
        "batch_size": {"low": 16, "high": 128, "step": 16},
        "patience": {"choice": [5, None]},
    },
}


def make(
    optimizers: Any = FOUR,
    model: dict[str, Any] | None = None,
    training: dict[str, Any] | None = None,
    *,
    seed: int = 0,
    **search: Any,
) -> Config:
    return check(
        {
            "data": {"source": "a.csv", "target": "y"},
            "optimizers": optimizers,
            "model": model or {},
            "training": {"epochs": 30} | (training or {}),
            "search": search,
            "seed": seed,
        }
    )


def small(sampler: str, seed: int = 0) -> Config:
    """Some batches in which the sampler has something to go by; a GP takes its time for each."""
    if sampler == "gp":
        return make(FOUR[:2], sampler=sampler, trials=14, seed=seed)
    return make(**RICH, sampler=sampler, trials=30, seed=seed)


def accuracy(proposal: Proposal) -> float:
    """Each optimizer has its own best learning rate and its own height; other leaves tilt it."""
    lr = proposal.params.get(f"optimizers.{proposal.entry}.lr", 0.01)
    best = [-0.5, -1.5, -2.5, -3.0][proposal.entry]
    top = [0.66, 0.64, 0.70, 0.68][proposal.entry]
    tilt = 0.02 * proposal.params.get("model.dropout", 0.0)
    return 0.5 + (top - 0.5) * math.exp(-(((math.log10(lr) - best) / 0.8) ** 2)) - tilt


def outcome(proposal: Proposal) -> dict[str, Any]:
    """Some fail, some are pruned, most are complete; by the number, so that it can be repeated."""
    value = accuracy(proposal)
    match proposal.number % 7:
        case 3:
            return {"state": "FAIL", "intermediate": {1: 0.5, 2: math.nan}}
        case 5:
            return {"state": "PRUNED", "intermediate": {1: 0.5, 2: value - 0.01}}
        case _:
            return {"state": "COMPLETE", "value": value, "intermediate": {1: 0.5, 30: value}}


def run(search: Search) -> list[Told]:
    while batch := search.ask():
        for proposal in batch:
            search.tell(proposal.number, **outcome(proposal))
    return search.told


Watching = Callable[[int, torch.Tensor, torch.Tensor, torch.Tensor], Collection[int]]


def lengths(watch: Watching | None, curves: np.ndarray, members: int = 1) -> list[int]:
    """How many epochs the trials of a stack are let run, each of `members` members, all alike.

    `curves` holds what the trials have by epoch: [trials, epochs].
    """
    trial_of = np.repeat(np.arange(len(curves)), members)
    running = np.arange(len(trial_of))
    found = np.full(len(curves), curves.shape[1])
    for epoch in range(1, curves.shape[1] + 1):
        now = torch.tensor(curves[trial_of[running], epoch - 1])
        dropped = list(watch(epoch, now, now, torch.tensor(running))) if watch else []
        for member in dropped:
            found[trial_of[member]] = epoch
        running = np.setdiff1d(running, dropped)
    return [int(length) for length in found]


def train(search: Search, course: Callable[[Any], np.ndarray], members: int = 1) -> list[Told]:
    """Runs a search to its end, pruned; a batch is one stack, and is trained whole.

    `course` gives a trial's objective by epoch, as long as it would be if nothing cut it.
    """
    while search.ask():
        batch, asked = search.batch, {proposal.number for proposal in search.ask()}
        watch = search.watch(batch, [p.number for p in batch for _ in range(members)])
        curves = np.stack([course(proposal) for proposal in batch])
        for one, curve, end in zip(batch, curves, lengths(watch, curves, members), strict=True):
            if one.number in asked:
                so_far = dict(enumerate(curve[:end].tolist(), start=1))
                if end == len(curve):
                    search.tell(one.number, "COMPLETE", float(curve[-1]), so_far)
                else:
                    search.tell(one.number, "PRUNED", None, so_far)
    return search.told
