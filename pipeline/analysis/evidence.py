"""What a search and its final round say about the optimizers: the numbers behind the answer.

Nothing is computed here but by `Evidence`'s properties; `report` shows it, and `summary.json` holds
it as plain numbers."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from pipeline.analysis import baselines
from pipeline.analysis.comparison import Floats, MeanDifference, Pair, overlap
from pipeline.analysis.ranking import order_of
from pipeline.models.metrics import ACCURACY, METRICS, Metric, metric_of


class _OnFolds:
    """What has `scores`, by the metric's name, of each fold [folds * repeats]."""

    scores: Mapping[str, Floats]

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
    scores: Mapping[str, Floats]
    at_best_epoch: Mapping[str, float]  # mean over the folds at the epochs that their rows chose
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

    def early_stopping_bias(self, metric: Metric) -> float:
        """How much of that comes of stopping at the epoch that the scored rows like best."""
        return metric.sign * (self.at_best_epoch[metric.name] - self.mean(metric))

    def metrics(self) -> dict[str, float]:
        """All of it by the names that MLflow and the report's numbers have for it."""
        values: dict[str, float] = {}
        for name, metric in METRICS.items():
            values[f"search_{name}"] = self.search[name]
            if self.completed:
                values |= {
                    f"cross_fitted_{name}": self.mean(metric),
                    f"cross_fitted_{name}_std": self.deviation(metric),
                    f"ensemble_{name}": self.ensemble[name],
                    f"optimism_{name}": self.optimism(metric),
                    f"early_stopping_bias_{name}": self.early_stopping_bias(metric),
                }
        return values


@dataclass(frozen=True)
class Baseline(_OnFolds):
    """A model that is no network, on the validation rows of the final round's first folds."""

    name: baselines.Name
    scores: Mapping[str, Floats]
    test_scores: Mapping[str, float] = field(default_factory=dict)
    """Trained on all training rows; empty: not scored yet."""


@dataclass(frozen=True)
class Tolerance:
    """How much of the range of learning rates an optimizer does well in, from the search's trials.

    None: unknown."""

    optimizer: str
    trials: int
    diverged: float  # share of its trials, 0 to 1
    lr_low: float | None  # ends of the range within one standard error of its best
    lr_high: float | None
    decades: float | None  # log10(lr_high / lr_low)
    standard_error: float | None  # of its best trial's score
    target: float | None  # the score that the best trial of every optimizer reached
    epochs_to_target: int | None  # of its best trial
    seconds_to_target: float | None
    expected_best: Floats  # [trials] the best score to be expected of 1, 2, ... (Dodge et al. 2019)


@dataclass(frozen=True)
class Evidence:
    """All of it; `report.Report.evidence`, None where a search has no final round.

    finalists: one for each optimizer with a completed trial, the best mean of the objective first;
        those that diverged last.
    pairs: of all finalists that completed, `better` before `worse` in the order of `finalists`.
    tolerances: one for each optimizer that was tried, in the order of the search's ranking."""

    objective: str
    folds: int
    repeats: int
    finalists: tuple[Finalist, ...]
    pairs: tuple[Pair, ...]
    baselines: tuple[Baseline, ...]
    tolerances: tuple[Tolerance, ...]

    @property
    def metric(self) -> Metric:
        """What the optimizers are compared in."""
        return metric_of(self.objective)

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
    def beats_majority(self) -> bool | None:
        """Whether the winner is more often right than the most frequent label, beyond luck."""
        winner, majority = self.winner, self.baseline("majority label")
        if winner is None or majority is None:
            return None
        ahead = MeanDifference.of(
            winner.scores[ACCURACY.name] - majority.scores[ACCURACY.name], overlap(self.folds)
        )
        return ahead.interval()[0] > 0

    def baseline(self, name: str) -> Baseline | None:
        return next((model for model in self.baselines if model.name == name), None)

    def to_plain(self) -> dict[str, Any]:
        """Lists and numbers for JSON."""
        winner = self.winner
        content = asdict(self) | {
            "winner": winner.optimizer if winner else None,
            "winner_is_clear": self.winner_is_clear,
            "finalists": [asdict(each) | each.metrics() for each in self.finalists],
            "pairs": [asdict(pair) | {"is_clear": pair.is_clear} for pair in self.pairs],
        }
        plain: dict[str, Any] = json.loads(json.dumps(content, default=np.ndarray.tolist))
        return plain

    @classmethod
    def from_plain(cls, content: Mapping[str, Any]) -> "Evidence":
        """What `to_plain` gave, to the bit.

        Raises:
            KeyError, TypeError: it is something else."""
        kinds = {"finalists": Finalist, "pairs": Pair, "baselines": Baseline}
        records = {
            name: tuple(_read(kind, item) for item in content[name])
            for name, kind in (kinds | {"tolerances": Tolerance}).items()
        }
        return cls(content["objective"], content["folds"], content["repeats"], **records)


def _read(kind: type[Any], content: Mapping[str, Any]) -> Any:
    values = {each.name: content[each.name] for each in fields(kind)}
    if "scores" in values:
        values["scores"] = {name: np.array(v, float) for name, v in values["scores"].items()}
    if "expected_best" in values:
        values["expected_best"] = np.array(values["expected_best"], float)
    return kind(**values)
