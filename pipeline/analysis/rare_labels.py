"""Labels one by one, the rarest first: an accuracy hardly counts those that few rows have."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RARE = 0.1
"""The share of the training rows below which a label is rare; of more than five labels half of what
each would have if all were as frequent."""

_MOST = 20  # labels that are looked at, the rarest


@dataclass(frozen=True)
class LabelScores:
    """How well one label is found among the test rows."""

    label: int
    share: float  # of the training rows
    is_rare: bool
    rows: int  # test rows with this label
    predicted: int  # test rows that the model gives it
    found: int  # both

    @property
    def recall(self) -> float | None:
        """The share of its rows that are found; None: there are none."""
        return self.found / self.rows if self.rows else None

    @property
    def precision(self) -> float | None:
        """The share of rows that have it of those that are given it; None: none is."""
        return self.found / self.predicted if self.predicted else None


def by_label(confusion: npt.NDArray[np.int64], training: Sequence[int]) -> tuple[LabelScores, ...]:
    """Each label, the rarest of the training rows first; of many the rarest.

    Args:
        confusion: of the test rows [C, C], rows: true label, columns: predicted label.
        training: rows of each label [C] that trained."""
    shares = np.array(training) / sum(training)
    is_rare = shares < min(RARE, 0.5 / len(shares))
    counts = confusion.sum(axis=1), confusion.sum(axis=0), confusion.diagonal()
    return tuple(
        LabelScores(int(label), float(shares[label]), bool(is_rare[label]), *map(int, of_it))
        for label in np.argsort(shares, kind="stable")[:_MOST]
        for of_it in [[count[label] for count in counts]]
    )
