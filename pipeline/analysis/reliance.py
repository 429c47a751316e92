"""Which columns a model relies on: how much worse its score on test rows is with one of them
shuffled."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.analysis import baselines
from pipeline.common.seeds import Purpose, generator
from pipeline.data.prepared import Rows
from pipeline.data.schema import Schema
from pipeline.inference import TabularModel
from pipeline.models.metrics import Metric

_SHUFFLES = 10
_MOST_PREDICTED = 200_000  # rows in all: seconds
_LEAST_ROWS = 50


@dataclass(frozen=True)
class Reliance:
    """How much a model relies on one column."""

    column: str
    loss: float  # what the metric is worse by without its values, mean over the shuffles
    deviation: float  # over the shuffles

    @property
    def stands_out(self) -> bool:
        """Whether it is more than shuffling does by luck."""
        return self.loss > 2 * self.deviation


def reliance(
    model: TabularModel, rows: Rows, schema: Schema, metric: Metric, seed: int
) -> tuple[Reliance, ...]:
    """Permutation importance of each column, the greatest first; of many rows some are used.

    Breiman (2001), Machine Learning 45, 5-32, section 10. Columns that say the same stand in for
    each other, so that each of them looks as if it were not needed.

    Returns:
        Nothing for arrays, and where columns are too many or rows too few."""
    # Slow to import, and a search that is only read back needs neither.
    from sklearn.dummy import DummyClassifier
    from sklearn.inspection import permutation_importance

    most = _MOST_PREDICTED // (_SHUFFLES * max(len(schema.columns), 1))
    if not schema.columns or min(most, len(rows.y)) < _LEAST_ROWS:
        return ()
    taken = generator(seed, Purpose.RELIANCE).permutation(len(rows.y))[:most]

    def score(_: Any, x: np.ndarray, y: np.ndarray) -> float:
        probabilities = model.scores(x).astype(np.float64)
        return metric.sign * baselines.score(probabilities, y, [metric]).get(metric.name, 0.0)

    found = permutation_importance(
        DummyClassifier(),  # not asked: the score is of our model
        rows.raw[taken],
        rows.y[taken],
        scoring=score,
        n_repeats=_SHUFFLES,
        random_state=0,
    )
    names = [column.name for column in schema.columns]
    each = zip(names, found.importances_mean, found.importances_std, strict=True)
    columns = [Reliance(name, float(mean), float(deviation)) for name, mean, deviation in each]
    return tuple(sorted(columns, key=lambda column: -column.loss))
