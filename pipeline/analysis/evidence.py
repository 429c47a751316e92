"""What a search and its final round say about the optimizers: the numbers behind the answer.

Nothing is computed here but by `Evidence`'s properties; `report` shows it, and `summary.json` holds
it as plain numbers.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from pipeline.analysis import baselines
from pipeline.analysis.comparison import Pair
from pipeline.analysis.ranking import Objective
from pipeline.analysis.resampled import Floats, MeanDifference, overlap


@dataclass(frozen=True)
class Finalist:
    """The best trial of one optimizer, trained again on fresh folds from fresh weights.

    `accuracy` and `loss` are validation scores [folds * repeats], repeat by repeat, fold by fold,
    of rows that took no part in choosing the epoch (`out_of_fold.cross_fitted`); fold j is the same
    rows for all finalists and baselines. Empty when it diverged, and None what follows from them.
    """

    optimizer: str
    trial: int  # its number in the search
    lr: float
    params: Mapping[str, Any]  # the searched leaves by dotted path
    accuracy: Floats
    loss: Floats
    kept_accuracy: float | None  # mean over the folds at the epochs that their rows chose
    kept_loss: float | None
    ensemble_accuracy: float | None  # of the networks of all repeats together, as `accuracy`
    ensemble_loss: float | None
    search_accuracy: float  # what the search estimated for it
    search_loss: float
    best_epoch: float | None  # mean over the members
    seconds: float
    reason: str | None = None  # why it has no scores

    @property
    def completed(self) -> bool:
        return len(self.accuracy) > 0

    @property
    def accuracy_mean(self) -> float:
        return float(self.accuracy.mean())

    @property
    def accuracy_std(self) -> float:
        """Sample standard deviation over the folds."""
        return float(self.accuracy.std(ddof=1))

    @property
    def loss_mean(self) -> float:
        return float(self.loss.mean())

    @property
    def loss_std(self) -> float:
        return float(self.loss.std(ddof=1))

    def ranking(self, objective: Objective) -> tuple[bool, float, float, int]:
        """Sort key, the best first: the objective's mean, the other score, the trial's number."""
        if not self.completed:
            return True, 0.0, 0.0, self.trial
        scores = -self.accuracy_mean, self.loss_mean
        first, second = scores if objective == "val_accuracy" else scores[::-1]
        return False, first, second, self.trial

    @property
    def optimism_accuracy(self) -> float:
        """How much better the search made it look: > 0, as a rule, since the best was picked."""
        return self.search_accuracy - self.accuracy_mean

    @property
    def optimism_loss(self) -> float:
        """> 0: the search's loss was lower than that of the final round."""
        return self.loss_mean - self.search_loss

    @property
    def stopping_accuracy(self) -> float:
        """How much of that comes of stopping at the epoch that the scored rows like best."""
        assert self.kept_accuracy is not None  # where it completed
        return self.kept_accuracy - self.accuracy_mean

    @property
    def stopping_loss(self) -> float:
        """> 0: the loss at those epochs was lower."""
        assert self.kept_loss is not None
        return self.loss_mean - self.kept_loss


@dataclass(frozen=True)
class Baseline:
    """A model that is no network, on the same rows."""

    name: baselines.Name
    accuracy: Floats  # on the validation rows of the final round's first folds, in their order
    loss: Floats
    test_accuracy: float | None = None  # trained on all training rows; None: not scored yet
    test_loss: float | None = None

    @property
    def accuracy_mean(self) -> float:
        return float(self.accuracy.mean())

    @property
    def loss_mean(self) -> float:
        return float(self.loss.mean())


@dataclass(frozen=True)
class Forgiveness:
    """How much an optimizer forgives, from the trials of the search.

    `expected_best[n - 1]` is the best validation score (accuracy, or loss, by the objective) to be
    expected of n trials, n = 1 to as many as there were (Dodge et al. 2019).
    """

    optimizer: str
    trials: int
    diverged: float  # share of its trials, 0 to 1
    lr_low: float | None  # ends of the range within one standard error of its best; None: unknown
    lr_high: float | None
    decades: float | None  # log10(lr_high / lr_low)
    standard_error: float | None  # of its best trial's score
    target: float | None  # the score that the best trial of every optimizer reached
    epochs_to_target: int | None  # of its best trial
    seconds_to_target: float | None
    expected_best: Floats


@dataclass(frozen=True)
class Evidence:
    """All of it; `report.Report.evidence`, None where a search has no final round.

    finalists: one for each optimizer with a completed trial, the best mean of the objective first;
        those that diverged last.
    pairs: of all finalists that completed, `better` before `worse` in the order of `finalists`.
    forgiveness: one for each optimizer that was tried, in the order of the search's ranking.
    """

    objective: Objective
    folds: int
    repeats: int
    finalists: tuple[Finalist, ...]
    pairs: tuple[Pair, ...]
    baselines: tuple[Baseline, ...]
    forgiveness: tuple[Forgiveness, ...]

    @property
    def winner(self) -> Finalist | None:
        """The finalist with the best mean; None when all diverged."""
        return next((one for one in self.finalists if one.completed), None)

    @property
    def winner_is_clear(self) -> bool:
        """Whether the winner is ahead of every other one by more than luck.

        By the intervals that hold for all pairs together. An optimizer that diverged is beaten; a
        search of a single optimizer has no winner that is clear.
        """
        winner = self.winner
        if winner is None or len(self.finalists) < 2:
            return False
        return all(pair.is_clear for pair in self.pairs if pair.better == winner.optimizer)

    def pair(self, one: str, other: str) -> Pair | None:
        """The comparison of two optimizers, in whichever order; None when one has no scores."""
        return next((p for p in self.pairs if {p.better, p.worse} == {one, other}), None)

    @property
    def beats_majority(self) -> bool | None:
        """Whether the winner is more often right than the most frequent label, beyond luck."""
        winner, majority = self.winner, self.baseline("majority label")
        if winner is None or majority is None:
            return None
        ahead = MeanDifference.of(winner.accuracy - majority.accuracy, overlap(self.folds))
        return ahead.interval()[0] > 0

    def baseline(self, name: str) -> Baseline | None:
        return next((one for one in self.baselines if one.name == name), None)

    def to_plain(self) -> dict[str, Any]:
        """Lists and numbers for JSON."""
        content = {
            "objective": self.objective,
            "folds": self.folds,
            "repeats": self.repeats,
            "winner": self.winner.optimizer if self.winner else None,
            "winner_is_clear": self.winner_is_clear,
            "finalists": [_finalist(one) for one in self.finalists],
            "pairs": [asdict(pair) | {"is_clear": pair.is_clear} for pair in self.pairs],
            "baselines": [asdict(one) for one in self.baselines],
            "forgiveness": [asdict(one) for one in self.forgiveness],
        }
        return {key: _plain(value) for key, value in content.items()}

    @classmethod
    def from_plain(cls, content: Mapping[str, Any]) -> "Evidence":
        """What `to_plain` gave, to the bit.

        Raises:
            KeyError, TypeError: it is something else.
        """
        return cls(
            objective=content["objective"],
            folds=content["folds"],
            repeats=content["repeats"],
            **{
                name: tuple(_read(kind, item) for item in content[name])
                for name, kind in _PARTS.items()
            },
        )


_PARTS: dict[str, type[Any]] = {
    "finalists": Finalist,
    "pairs": Pair,
    "baselines": Baseline,
    "forgiveness": Forgiveness,
}
_ARRAYS = ("accuracy", "loss", "expected_best")


def _read(kind: type[Any], content: Mapping[str, Any]) -> Any:
    known = {one.name for one in fields(kind)}
    values = {key: value for key, value in content.items() if key in known}
    return kind(
        **{k: np.array(v, dtype=np.float64) if k in _ARRAYS else v for k, v in values.items()}
    )


def _finalist(one: Finalist) -> dict[str, Any]:
    content = asdict(one)
    if one.completed:
        for name in ("accuracy_mean", "accuracy_std", "loss_mean", "loss_std"):
            content[name] = getattr(one, name)
        for name in ("optimism_accuracy", "optimism_loss", "stopping_accuracy", "stopping_loss"):
            content[name] = getattr(one, name)
    return content


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
