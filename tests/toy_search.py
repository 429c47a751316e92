"""Small searches, and a toy objective that stands in for training."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pipeline.config import Config, check
from pipeline.search.pruning import StackPruning
from pipeline.search.search import Search
from pipeline.training.trial import State, Trial

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


def entries(config: Config, trials: Iterable[Trial]) -> list[int]:
    """The position in `optimizers` of each trial's entry."""
    return [config.labels.index(trial.optimizer) for trial in trials]


def _entry(trial: Trial) -> int:
    """The same for an entry that has a range of its own."""
    return next(int(path.split(".")[1]) for path in trial.params if path.startswith("optimizers."))


def accuracy(proposal: Trial) -> float:
    """Each optimizer has its own best learning rate and its own height; other leaves tilt it."""
    entry = _entry(proposal)
    lr = proposal.lr
    best = [-0.5, -1.5, -2.5, -3.0][entry]
    top = [0.66, 0.64, 0.70, 0.68][entry]
    tilt = 0.02 * proposal.params.get("model.dropout", 0.0)
    return 0.5 + (top - 0.5) * math.exp(-(((math.log10(lr) - best) / 0.8) ** 2)) - tilt


def ended(
    proposal: Trial, state: State, score: float | None = None, curve: Sequence[float] = ()
) -> Trial:
    """The trial with what became of it, by either objective."""
    values = np.array(curve, dtype=np.float64)
    return replace(
        proposal,
        state=state,
        scores={} if score is None else {"accuracy": score, "loss": score},
        curves={"val_accuracy": values, "val_loss": values},
    )


def outcome(proposal: Trial) -> Trial:
    """Some fail, some are pruned, most are complete; by the number, so that it can be repeated."""
    value = accuracy(proposal)
    match proposal.number % 7:
        case 3:
            return ended(proposal, "FAIL", None, [0.5, math.nan])
        case 5:
            return ended(proposal, "PRUNED", None, [0.5, value - 0.01])
        case _:
            return ended(proposal, "COMPLETE", value, [0.5, *[math.nan] * 28, value])


def run(search: Search) -> list[Trial]:
    while batch := search.ask():
        for proposal in batch:
            search.tell(outcome(proposal))
    return search.told


def scores(values: np.ndarray) -> dict[str, np.ndarray]:
    """What training hands to a watch, by either objective."""
    return {"accuracy": values, "loss": values}


def lengths(watch: StackPruning | None, curves: np.ndarray, members: int = 1) -> list[int]:
    """How many epochs the trials of a stack are let run, each of `members` members, all alike.

    `curves` holds what the trials have by epoch: [trials, epochs].
    """
    trial_of = np.repeat(np.arange(len(curves)), members)
    running = np.arange(len(trial_of))
    ran = np.full(len(curves), curves.shape[1])
    for epoch in range(1, curves.shape[1] + 1):
        now = curves[trial_of[running], epoch - 1]
        dropped = list(watch(epoch, scores(now), running)) if watch else []
        for member in dropped:
            ran[trial_of[member]] = epoch
        running = np.setdiff1d(running, dropped)
    return [int(length) for length in ran]


def train(search: Search, course: Callable[[Any], np.ndarray], members: int = 1) -> list[Trial]:
    """Runs a search to its end, pruned; a batch is one stack, and is trained whole.

    `course` gives a trial's objective by epoch, as long as it would be if nothing cut it.
    """
    while search.ask():
        batch, asked = search.batch, {proposal.number for proposal in search.ask()}
        watch = search.watch(batch, [p.number for p in batch for _ in range(members)])
        curves = np.stack([course(proposal) for proposal in batch])
        for trial, curve, end in zip(batch, curves, lengths(watch, curves, members), strict=True):
            if trial.number in asked:
                is_whole = end == len(curve)
                score = float(curve[-1]) if is_whole else None
                search.tell(ended(trial, "COMPLETE" if is_whole else "PRUNED", score, curve[:end]))
    return search.told


def same(first: Sequence[Trial], second: Sequence[Trial]) -> bool:
    """Whether two searches had the same trials, to the bit."""
    return list(map(_known, first)) == list(map(_known, second))


def _known(trial: Trial) -> tuple[Any, ...]:
    curves = {name: curve.tobytes() for name, curve in trial.curves.items()}
    return trial.number, trial.optimizer, trial.params, trial.state, trial.scores, curves
