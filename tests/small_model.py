"""A small model over every kind of column, for the tests of the flavor."""

import datetime
import functools
from typing import Any

import numpy as np
import pandas as pd
import torch

from pipeline.inference.rows import Reader

COLUMNS: list[dict[str, Any]] = [
    {"name": "age", "kind": "number", "categories": [], "missing": True},
    {"name": "income", "kind": "number", "categories": [], "missing": False},
    {"name": "member", "kind": "boolean", "categories": [], "missing": True},
    {"name": "since", "kind": "date", "categories": [], "missing": True},
    {"name": "colour", "kind": "category", "categories": ["3", "blue", "red"], "missing": True},
]
NAMES = [column["name"] for column in COLUMNS]


def make_schema(labels: list[Any], columns: list[dict[str, Any]] = COLUMNS) -> dict[str, Any]:
    return {"version": 1, "columns": columns, "target": "y", "labels": labels}


def numeric_columns(count: int) -> list[dict[str, Any]]:
    return [{"name": f"x{i}", "kind": "number", "categories": []} for i in range(count)]


class SmallModel(torch.nn.Module):
    """Raw [B, F] float64 with NaN for missing -> probabilities [B, labels] float32."""

    def __init__(self, features: int, labels: int, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = torch.nn.Parameter(torch.randn(2 * features, labels, generator=generator))

    def forward(self, raw: torch.Tensor) -> torch.Tensor:
        known = torch.nan_to_num(raw, nan=0.0)
        squashed = (known / (1.0 + known.abs())).to(torch.float32)
        x = torch.cat([squashed, torch.isnan(raw).to(torch.float32)], dim=1)
        return torch.softmax(x @ self.weight, dim=1)


def make_program(features: int, labels: int, seed: int = 0) -> torch.export.ExportedProgram:
    return torch.export.export(
        SmallModel(features, labels, seed).eval(),
        (torch.zeros(3, features, dtype=torch.float64),),
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    )


@functools.cache
def shared_program(features: int = 5, labels: int = 2) -> torch.export.ExportedProgram:
    """Of seed 0, exported once for all tests."""
    return make_program(features, labels)


def make_rows() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "age": [31, 42, 18, 65],
            "income": [1.5, None, float("inf"), -3.25],
            "member": [True, None, False, True],
            "since": [
                datetime.datetime(2020, 5, 17, 6),
                datetime.datetime(1969, 12, 31),
                None,
                datetime.datetime(2024, 2, 29, 23, 59, 59),
            ],
            "colour": ["red", "green", None, "blue"],
        },
        index=[7, 3, 5, 11],
    )


RAW = [  # of make_rows, by hand
    [31.0, 1.5, 1.0, 18399.25, 2.0],
    [42.0, float("nan"), float("nan"), -1.0, -1.0],
    [18.0, float("nan"), 0.0, float("nan"), float("nan")],
    [65.0, -3.25, 1.0, 19782.0 + 86399 / 86400, 1.0],
]


def to_raw(frame: pd.DataFrame, schema: Any) -> np.ndarray:
    """The raw values [rows, columns] of a frame."""
    return Reader(schema)(frame)
