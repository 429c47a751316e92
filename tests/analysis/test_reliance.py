"""Which columns a model relies on, of models whose columns are known."""

import numpy as np
import pytest
import torch

from pipeline.analysis.reliance import reliance
from pipeline.data.prepared import Rows
from pipeline.data.schema import Column, Inputs, Schema
from pipeline.inference import TabularModel
from pipeline.models.metrics import ACCURACY, LOSS, Metric

SCHEMA = Schema(
    tuple(Column(name, "number") for name in ("decides", "hints", "noise")), "y", (0, 1)
)


class Known(torch.nn.Module):
    """Looks at the first column, and a little at the second."""

    def forward(self, raw: torch.Tensor) -> torch.Tensor:
        positive = torch.sigmoid(4 * raw[:, 0] + raw[:, 1]).float()
        return torch.stack([1 - positive, positive], dim=1)


def rows(count: int) -> Rows:
    raw = np.random.default_rng(0).normal(size=(count, 3))
    return Rows(raw, (4 * raw[:, 0] + raw[:, 1] > 0).astype(np.int64))


MODEL = TabularModel(Known(), SCHEMA.to_dict())


@pytest.mark.parametrize("metric", [ACCURACY, LOSS])
def test_columns_come_in_the_order_of_their_effect(metric: Metric) -> None:
    first, second, last = reliance(MODEL, rows(400), SCHEMA, metric, 0)
    assert (first.column, second.column, last.column) == ("decides", "hints", "noise")
    assert first.loss > 3 * second.loss > 0
    assert first.stands_out
    assert (last.loss, last.deviation, last.stands_out) == (0.0, 0.0, False)
    if metric is ACCURACY:  # as good as tossing a coin, nearly
        assert 0.35 < first.loss < 0.55


def test_a_seed_gives_the_same_twice() -> None:
    many = rows(10_000)  # of which some are used
    assert reliance(MODEL, many, SCHEMA, ACCURACY, 1) == reliance(MODEL, many, SCHEMA, ACCURACY, 1)


def test_nothing_is_said_of_arrays_or_of_few_rows() -> None:
    assert reliance(MODEL, rows(40), SCHEMA, ACCURACY, 0) == ()
    arrays = Schema((), "y", (0, 1), Inputs((3,), "float64"))
    assert reliance(MODEL, rows(400), arrays, ACCURACY, 0) == ()
