"""Trials in order: the best one, the best one of each optimizer, and each optimizer in figures."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal, Protocol, TypeVar

import numpy.typing as npt

Objective = Literal["val_accuracy", "val_loss"]


class FoldFit(Protocol):
    """What is read of one member: its validation scores at the kept epoch."""

    @property
    def accuracy(self) -> float: ...
    @property
    def loss(self) -> float: ...


class TrialResult(Protocol):
    """What is read of a trial here and in plots, report and console; `trials.Trial` has it."""

    @property
    def number(self) -> int: ...
    @property
    def entry(self) -> int: ...
    @property
    def optimizer(self) -> str: ...
    @property
    def lr(self) -> float: ...
    @property
    def params(self) -> Mapping[str, Any]: ...
    @property
    def state(self) -> Literal["COMPLETE", "PRUNED", "FAIL"]: ...
    @property
    def reason(self) -> str | None: ...
    @property
    def curves(self) -> Mapping[str, npt.NDArray[Any]]: ...
    @property
    def loss(self) -> float | None: ...
    @property
    def accuracy(self) -> float | None: ...
    @property
    def accuracy_std(self) -> float | None: ...
    @property
    def best_epoch(self) -> float | None: ...
    @property
    def seconds(self) -> float: ...
    @property
    def fits(self) -> Sequence[FoldFit]: ...


AnyTrial = TypeVar("AnyTrial", bound=TrialResult)


def ranking(trial: TrialResult, objective: Objective = "val_accuracy") -> tuple[float, float, int]:
    """Sort key of a completed trial, the best first: the objective, the other score, the number."""
    accuracy, loss = trial.accuracy, trial.loss
    if accuracy is None or loss is None:
        raise ValueError(f"trial {trial.number} has no scores ({trial.state})")
    if objective == "val_accuracy":
        return -accuracy, loss, trial.number
    return loss, -accuracy, trial.number


def completed(trials: Iterable[AnyTrial]) -> list[AnyTrial]:
    """The trials that ran to their end and have scores."""
    return [
        trial
        for trial in trials
        if trial.state == "COMPLETE" and trial.accuracy is not None and trial.loss is not None
    ]


def best_trial(
    trials: Iterable[AnyTrial], objective: Objective = "val_accuracy"
) -> AnyTrial | None:
    """The best completed trial; of equals the one with the better other score, then the first."""
    return min(completed(trials), key=lambda trial: ranking(trial, objective), default=None)


def best_per_optimizer(
    trials: Iterable[AnyTrial], objective: Objective = "val_accuracy"
) -> list[AnyTrial]:
    """The best completed trial of each optimizer, the best first."""
    best: dict[str, AnyTrial] = {}
    for trial in sorted(completed(trials), key=lambda trial: ranking(trial, objective)):
        best.setdefault(trial.optimizer, trial)
    return list(best.values())


@dataclass(frozen=True)
class OptimizerSummary:
    """What a search found out about one optimizer. Scores are validation scores."""

    optimizer: str
    trials: int
    complete: int
    failed: int
    pruned: int
    best: int | None  # number of the best trial; None, as all below: no trial completed
    accuracy: float | None  # of the best trial
    accuracy_std: float | None
    loss: float | None
    lr: float | None
    median_accuracy: float | None  # over completed trials
    median_loss: float | None
    seconds: float  # training time of all its trials


def summarize(
    trials: Iterable[TrialResult], objective: Objective = "val_accuracy"
) -> list[OptimizerSummary]:
    """One summary per optimizer, the best first; those without a completed trial last, by name."""
    groups: dict[str, list[TrialResult]] = {}
    for trial in trials:
        groups.setdefault(trial.optimizer, []).append(trial)
    keyed = []
    for optimizer, members in groups.items():
        done = completed(members)
        best = best_trial(done, objective)
        summary = OptimizerSummary(
            optimizer=optimizer,
            trials=len(members),
            complete=len(done),
            failed=sum(trial.state == "FAIL" for trial in members),
            pruned=sum(trial.state == "PRUNED" for trial in members),
            best=best.number if best else None,
            accuracy=best.accuracy if best else None,
            accuracy_std=best.accuracy_std if best else None,
            loss=best.loss if best else None,
            lr=best.lr if best else None,
            median_accuracy=_median(trial.accuracy for trial in done),
            median_loss=_median(trial.loss for trial in done),
            seconds=sum(trial.seconds for trial in members),
        )
        order = ranking(best, objective) if best else (math.inf, math.inf, 0)
        keyed.append((order, optimizer, summary))
    return [summary for _, _, summary in sorted(keyed, key=lambda item: item[:2])]


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(median(known)) if known else None
