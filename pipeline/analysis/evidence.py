"""What a search and its final round say about the optimizers: the numbers behind the answer.

Nothing is computed here but by `Evidence`'s properties; `report` shows it, and `summary.json` holds
it as plain numbers."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
from pydantic import PlainSerializer, PlainValidator, TypeAdapter

from pipeline.analysis import baselines
from pipeline.analysis.clustered import Ageing
from pipeline.analysis.comparison import Floats, MeanDifference, Pair, by_fold
from pipeline.analysis.ranking import order_of
from pipeline.models.metrics import ACCURACY, LOSS, METRICS, Metric

_LEAST_DEGREES = 4  # of freedom: five folds; with two an interval is of 13 standard errors

OfFolds = Mapping[
    str, Annotated[Floats, PlainValidator(np.array), PlainSerializer(np.ndarray.tolist)]
]
"""By the metric's name, of each fold [folds * repeats]."""


class _OnFolds:
    """What has `scores`, by the metric's name, of each fold [folds * repeats]."""

    scores: OfFolds

    def mean(self, metric: Metric) -> float:
        return float(self.scores[metric.name].mean())

    def means(self) -> dict[str, float]:
        """By the metric's name."""
        return {name: float(scores.mean()) for name, scores in self.scores.items()}


@dataclass(frozen=True)
class Finalist(_OnFolds):
    """The best trial of one optimizer, trained again on fresh folds from fresh weights.

    Scores are by the metric's name; those of one that diverged are empty. `scores` are
    cross-fitted, repeat by repeat, fold by fold: of rows that took no part in choosing the epoch
    (`cross_fitting.cross_fitted`). Fold j is the same rows for all finalists and baselines."""

    optimizer: str
    trial: int  # its number in the search
    lr: float
    params: Mapping[str, Any]  # the searched leaves by dotted path
    scores: OfFolds
    ensemble: Mapping[str, float]  # of the networks of all repeats together, as `scores`
    search: Mapping[str, float]  # what the search estimated for it
    best_epoch: float | None  # mean over the members
    seconds: float
    reason: str | None = None  # why it has no scores

    @property
    def completed(self) -> bool:
        return bool(self.scores)

    def deviation(self, metric: Metric) -> float:
        """Sample standard deviation over the folds."""
        return float(self.scores[metric.name].std(ddof=1))

    def ranking(self, metric: Metric) -> tuple[float, ...]:
        """Sort key, the best first: the metric's mean, the other ones, the trial's number."""
        if not self.completed:
            return (math.inf, self.trial)
        return (*order_of(self.means(), metric), self.trial)

    def optimism(self, metric: Metric) -> float:
        """How much better the search made it look: > 0, as a rule, since the best was picked."""
        return metric.sign * (self.search[metric.name] - self.mean(metric))

    def metrics(self, objective: Metric) -> dict[str, float]:
        """All of it by the names that MLflow and the report's numbers have for it; what tells how
        much the search flattered it of accuracy, loss and the objective."""
        values = {f"search_{name}": value for name, value in self.search.items()}
        for name, scores in self.scores.items():
            values[f"cross_fitted_{name}"] = float(scores.mean())
            values[f"cross_fitted_{name}_std"] = float(scores.std(ddof=1))
            values[f"ensemble_{name}"] = self.ensemble[name]
        for name, metric in {**METRICS, objective.name: objective}.items():
            if self.completed:
                values[f"optimism_{name}"] = self.optimism(metric)
        return values


@dataclass(frozen=True)
class Baseline(_OnFolds):
    """A model that is no network, on the validation rows of the final round's first folds."""

    name: baselines.Name
    scores: OfFolds
    test_scores: Mapping[str, float] = field(default_factory=dict)
    """Trained on all training rows; empty: not scored yet."""


@dataclass(frozen=True)
class Evidence:
    """All of it; `report.Report.evidence`, None where a search has no final round.

    metric: what the optimizers are compared in.
    finalists: one for each optimizer with a completed trial, the best mean of the objective first;
        those that diverged last.
    pairs: of all finalists that completed, `better` before `worse` in the order of `finalists`.
    overlap: validation rows by training rows, the mean over the splits.
    is_forward: whether what trained came before what was validated; then all repeats have the same
        folds, and other weights.
    ageing: of the winner's networks, where folds are forward and more than one."""

    metric: Metric
    folds: int
    repeats: int
    overlap: float
    is_forward: bool
    finalists: tuple[Finalist, ...]
    pairs: tuple[Pair, ...]
    baselines: tuple[Baseline, ...]
    ageing: Ageing | None = None

    def of_mean(self, scores: Floats) -> MeanDifference:
        """The mean of scores, or of differences, by split [splits] with its uncertainty."""
        return MeanDifference.of(by_fold(scores, self.folds, self.is_forward), self.overlap)

    def interval(self, scores: Floats) -> tuple[float, float]:
        """The 95 % interval of the mean of the metric's scores by split [splits], two or more, cut
        at the ends of what there can be."""
        low, high = self.of_mean(scores).interval()
        return max(self.metric.lowest, low), min(self.metric.highest, high)

    def interval_of(self, row: _OnFolds) -> tuple[float, float]:
        """The same of the metric's scores of a finalist or a baseline; of a single one itself."""
        scores = row.scores[self.metric.name]
        return self.interval(scores) if len(scores) > 1 else (row.mean(self.metric),) * 2

    @property
    def winner(self) -> Finalist | None:
        """The finalist with the best mean; None when all diverged."""
        return next((finalist for finalist in self.finalists if finalist.completed), None)

    @property
    def winner_is_clear(self) -> bool:
        """Whether the winner is ahead of every other one by more than luck.

        By the intervals that hold for all pairs together. An optimizer that diverged is beaten; a
        search of a single optimizer has no winner that is clear."""
        winner = self.winner
        if winner is None or len(self.finalists) < 2:
            return False
        return all(pair.is_clear for pair in self.pairs if pair.better == winner.optimizer)

    @property
    def level(self) -> list[str]:
        """The winner and those that cannot be told apart from it; none when all diverged."""
        first = self.winner.optimizer if self.winner is not None else ""
        of_first = [p.worse for p in self.pairs if p.better == first and not p.is_clear]
        return [first, *of_first] if first else []

    @property
    def beats_majority(self) -> bool | None:
        """Whether the winner is better than the most frequent label, beyond luck: in the log loss
        or in what it was chosen by. None: there is no winner, or the folds are so few that their
        interval leaves nothing out."""
        compared = (self.ahead("majority label", metric) for metric in {LOSS, self.metric})
        ahead = [each for each in compared if each is not None and each.degrees >= _LEAST_DEGREES]
        return any(each.interval()[0] > 0 for each in ahead) if ahead else None

    @property
    def best_baseline(self) -> Baseline | None:
        """The best model that is no network, by what the optimizers are compared in."""
        others = (model for model in self.baselines if model.name != "majority label")
        models = [model for model in others if self.metric.name in model.scores]
        sign = self.metric.sign
        return max(models, key=lambda model: sign * model.mean(self.metric), default=None)

    def ahead(self, name: str, metric: Metric) -> MeanDifference | None:
        """How far the winner is ahead of a baseline, > 0 where it is better, on the folds that
        both have; None: there is no winner, or no such baseline with such a score."""
        winner = self.winner
        scores = (m.scores.get(metric.name) for m in self.baselines if m.name == name)
        theirs = next(scores, None)
        if winner is None or theirs is None:
            return None
        differences = metric.sign * (winner.scores[metric.name][: len(theirs)] - theirs)
        return self.of_mean(differences)

    def to_plain(self) -> dict[str, Any]:
        """Lists and numbers for JSON."""
        winner = self.winner
        plain: dict[str, Any] = _PLAIN.dump_python(self, mode="json", exclude={"metric"})
        for finalist, record in zip(self.finalists, plain["finalists"], strict=True):
            record |= finalist.metrics(self.metric)
        for pair, record in zip(self.pairs, plain["pairs"], strict=True):
            record["is_clear"] = pair.is_clear
        return plain | {
            "objective": self.metric.curve,
            "metric": self.metric.name,
            "winner": winner.optimizer if winner else None,
            "winner_is_clear": self.winner_is_clear,
        }

    @classmethod
    def from_plain(cls, content: Mapping[str, Any], metric: Metric = ACCURACY) -> "Evidence":
        """What `to_plain` gave of this metric, to the bit.

        Raises:
            ValueError: it is something else."""
        return _PLAIN.validate_python({**content, "metric": metric})


_PLAIN = TypeAdapter(Evidence)
