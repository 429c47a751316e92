"""Trials in order: the best one, the best one of each optimizer, and each optimizer in figures."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pipeline.models.metrics import METRICS, Metric
from pipeline.training.trial import Trial


def ranking(trial: Trial, metric: Metric) -> tuple[float, ...]:
    """Sort key of a complete trial, the best first: the metric, the other ones, the number."""
    return (*order_of(trial.scores, metric), trial.number)


def order_of(scores: Mapping[str, float], metric: Metric) -> tuple[float, ...]:
    """Sort key of scores by their metrics' names, the best first: by `metric`, then the others."""
    others = (other for other in METRICS.values() if other != metric)
    return tuple(-each.sign * scores[each.name] for each in (metric, *others))


def completed(trials: Iterable[Trial]) -> list[Trial]:
    """The trials that ran to their end and have scores."""
    return [trial for trial in trials if trial.is_complete]


def best_trial(trials: Iterable[Trial], metric: Metric) -> Trial | None:
    """The best complete trial; of equals the one with the better other scores, then the first."""
    return min(completed(trials), key=lambda trial: ranking(trial, metric), default=None)


def best_per_optimizer(trials: Iterable[Trial], metric: Metric) -> list[Trial]:
    """The best complete trial of each optimizer, the best first."""
    best: dict[str, Trial] = {}
    for trial in sorted(completed(trials), key=lambda trial: ranking(trial, metric)):
        best.setdefault(trial.optimizer, trial)
    return list(best.values())


@dataclass(frozen=True)
class OptimizerSummary:
    """What a search found out about one optimizer: how many trials, and what they reached."""

    optimizer: str
    trials: int
    complete: int
    failed: int
    pruned: int
    best: Trial | None  # None: none completed
    seconds: float  # training time of all its trials


def summarize(trials: Iterable[Trial], metric: Metric) -> list[OptimizerSummary]:
    """One summary per optimizer, the best first; those without a complete trial last, by name."""
    trials = list(trials)
    best = {trial.optimizer: trial for trial in best_per_optimizer(trials, metric)}
    summaries = []
    for label in (*best, *sorted({trial.optimizer for trial in trials} - best.keys())):
        of_it = [trial for trial in trials if trial.optimizer == label]
        states = Counter(trial.state for trial in of_it)
        counts = len(of_it), states["COMPLETE"], states["FAIL"], states["PRUNED"]
        seconds = sum(trial.seconds for trial in of_it)
        summaries.append(OptimizerSummary(label, *counts, best.get(label), seconds))
    return summaries
