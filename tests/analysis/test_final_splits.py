"""How often the final round splits anew: as the configuration says, of many rows less often."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipeline.analysis.finalists import MANY_ROWS, final_splits
from pipeline.config import Config
from pipeline.data.prepared import Rows
from pipeline.data.schema import Column, Schema

OPTIMIZERS = [{"name": name, "lr": 0.1} for name in ("SGD", "Adagrad", "RMSprop", "Adam", "AdamW")]


@pytest.mark.parametrize(
    ("rows", "trials", "expected"),
    [
        (MANY_ROWS - 1, 10, 4),
        (MANY_ROWS, 10, 1),  # 25 networks of a repeat, where the search trained 50
        (MANY_ROWS, 5, 1),  # never none
        (MANY_ROWS, 20, 2),
        (MANY_ROWS, 400, 4),
    ],
)
def test_many_rows_need_few_repeats(rows: int, trials: int, expected: int) -> None:
    config = Config.model_validate(
        {
            "data": {"source": "table.csv", "target": "y"},
            "optimizers": OPTIMIZERS,
            "search": {"trials": trials},
        }
    )
    parts: Any = SimpleNamespace(schema=Schema((Column("x", "number"),), "y", (0, 1)))
    y = np.arange(rows) % 2
    splits = final_splits(config, parts, Rows(np.zeros((rows, 1)), y))
    assert [split.repeat for split in splits] == np.repeat(range(expected), 5).tolist()
    assert all(len(split.validation) in (rows // 5, rows // 5 + 1) for split in splits)
