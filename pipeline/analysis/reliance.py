"""Which columns a model relies on: how much worse its score on test rows is with one of them
shuffled."""

from dataclasses import dataclass

import numpy as np

from pipeline.analysis import baselines
from pipeline.common.seeds import Purpose, generator
from pipeline.data.prepared import Rows
from pipeline.data.schema import Schema
from pipeline.inference import TabularModel
from pipeline.models.metrics import Metric

_SHUFFLES = 5
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
    most = _MOST_PREDICTED // (_SHUFFLES * max(len(schema.columns), 1))
    if not schema.columns or min(most, len(rows.y)) < _LEAST_ROWS:
        return ()
    rng = generator(seed, Purpose.RELIANCE)
    taken = rng.permutation(len(rows.y))[:most]
    raw, y = rows.take(taken), rows.y[taken]

    def score(probabilities: np.ndarray) -> float:
        scored = baselines.score(probabilities.astype(np.float64), y, [metric])
        return metric.sign * scored.get(metric.name, 0.0)

    whole = score(model.scores(raw))
    columns = []
    for position, column in enumerate(schema.columns):
        # All at once: on few rows the model's operations cost more than their arithmetic.
        shuffled = np.tile(raw, (_SHUFFLES, 1, 1))
        shuffled[:, :, position] = rng.permuted(shuffled[:, :, position], axis=1)
        probabilities = model.scores(shuffled.reshape(-1, raw.shape[1]))
        losses = [whole - score(each) for each in np.split(probabilities, _SHUFFLES)]
        columns.append(Reliance(column.name, float(np.mean(losses)), float(np.std(losses))))
    return tuple(sorted(columns, key=lambda column: -column.loss))
