"""A new model against the one that serves, on the same test rows."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

LEVEL = 0.05


@dataclass(frozen=True)
class Said:
    """What a model says of the test rows: labels by id [N], and probabilities [N, C]."""

    labels: npt.NDArray[np.int64]
    probabilities: npt.NDArray[Any]


@dataclass(frozen=True)
class Contest:
    """The new model against the old one, row by row.

    p_value: McNemar's exact test, of the rows that one of them alone gets right.
    loss_difference: mean over the rows of new minus old cross entropy, nats; low and high: its
        95 % interval (Student's t).
    """

    rows: int
    new_accuracy: float
    old_accuracy: float
    only_new: int  # rows that the new one alone gets right
    only_old: int
    p_value: float
    loss_difference: float
    low: float
    high: float

    @property
    def outcome(self) -> Literal["better", "worse", "open"]:
        """Whether the new one is better by more than luck: by accuracy, else by log loss."""
        if self.p_value < LEVEL:
            return "better" if self.only_new > self.only_old else "worse"
        if self.high < 0:
            return "better"
        return "worse" if self.low > 0 else "open"

    @property
    def takes_over(self) -> bool:
        """Whether the new one is not worse.

        Where the rows do not tell, one that is behind in both accuracy and log loss stays behind:
        or else a series of models, each a little worse by luck, could each take the place.
        """
        if self.outcome != "open":
            return self.outcome == "better"
        return self.new_accuracy >= self.old_accuracy or self.loss_difference <= 0


def contest(new: Said, old: Said, y: npt.NDArray[np.int64]) -> Contest:
    """Both on the rows with class ids `y` [N], N >= 1; a probability of 0 counts as 1e-7.

    McNemar (1947), Psychometrika 12, 153-157, exact: binomial with probability 1/2.
    """
    right_new, right_old = new.labels == y, old.labels == y
    only_new, only_old = int((right_new & ~right_old).sum()), int((right_old & ~right_new).sum())
    differing = only_new + only_old
    p_value = float(stats.binomtest(only_new, differing).pvalue) if differing else 1.0
    rows = np.arange(len(y))
    losses = [
        -np.log(one.probabilities[rows, y].clip(1e-7, 1.0).astype(float)) for one in (new, old)
    ]
    difference = losses[0] - losses[1]
    mean = float(difference.mean())
    half = math.inf
    if len(y) > 1:
        half = float(stats.t.ppf(0.975, len(y) - 1) * stats.sem(difference))
    return Contest(
        rows=len(y),
        new_accuracy=float(right_new.mean()),
        old_accuracy=float(right_old.mean()),
        only_new=only_new,
        only_old=only_old,
        p_value=p_value,
        loss_difference=mean,
        low=mean - half,
        high=mean + half,
    )
