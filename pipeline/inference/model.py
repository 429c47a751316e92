"""Predictions for rows of a table."""

import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from .rows import Floats, InputError, Reader, as_frame, listed, short

BATCH_ROWS = 2_048
"""Rows per pass through the module: what a pass needs stays in the processor's cache."""

DEFAULT_THRESHOLD = 0.5


class TabularModel:
    """Predictions for rows of a table.

    `module` maps raw [rows, columns] float64 to probabilities [rows, labels]; `schema` is the
    dictionary of schema.json.
    """

    def __init__(self, module: Callable[[torch.Tensor], torch.Tensor], schema: Mapping[str, Any]):
        self.module = module
        self.schema = schema
        self._raw = Reader(schema)
        self._labels = pd.Series(schema["labels"]).array
        self._names = probability_names(schema["labels"])

    def predict(self, rows: Any, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """A frame with one row for each given row, under the same index.

        `rows` is a DataFrame with a column for each one of the schema, in any order; or a
        dictionary of columns (or of one row's values), or a list of dictionaries.

        Two labels: `prediction` and `probability`, that of `labels[1]`, float32 in [0, 1]; the
        prediction is `labels[1]` where the probability is above `params["threshold"]` (in [0, 1],
        default: the schema's, 0.5 where it has none). More labels: the likeliest one and
        `probability_LABEL` for each, in the schema's order.

        Raises InputError for rows or parameters that do not fit.
        """
        frame = as_frame(rows, self._raw.names)
        threshold = threshold_of(params, self.schema)
        probabilities = self.probabilities(frame)
        shown = probabilities[:, 1:] if len(self._labels) == 2 else probabilities
        columns = {name: shown[:, position] for position, name in enumerate(self._names)}
        prediction = self._labels.take(decide(probabilities, threshold))
        return pd.DataFrame({"prediction": prediction, **columns}, index=frame.index)

    def probabilities(self, frame: pd.DataFrame) -> npt.NDArray[np.float32]:
        """Probabilities [rows, labels] float32 of a frame's rows."""
        return self.scores(self._raw(frame))

    def scores(self, raw: Floats) -> npt.NDArray[np.float32]:
        """Probabilities [rows, labels] float32 of raw rows [rows, columns], as `to_raw` gives."""
        if len(raw) == 0:
            return np.empty((0, len(self._labels)), dtype=np.float32)
        with torch.inference_mode():
            parts = [self.module(part) for part in torch.split(torch.from_numpy(raw), BATCH_ROWS)]
            return (parts[0] if len(parts) == 1 else torch.cat(parts)).numpy()


def decide(probabilities: npt.NDArray[np.float32], threshold: float) -> npt.NDArray[np.intp]:
    """The position [rows] of each row's label, from probabilities [rows, labels].

    Two labels: the second one where its probability is above the threshold. More: the likeliest.
    """
    if probabilities.shape[1] == 2:
        return (probabilities[:, 1].astype(np.float64) > threshold).astype(np.intp)
    likeliest: npt.NDArray[np.intp] = probabilities.argmax(axis=1)
    return likeliest


def default_threshold(schema: Mapping[str, Any]) -> float:
    """The threshold of a schema with two labels: its key `threshold`, else 0.5."""
    return float(schema.get("threshold", DEFAULT_THRESHOLD))


def probability_names(labels: Sequence[Any]) -> list[str]:
    """The columns of a prediction that hold probabilities, in order."""
    return ["probability"] if len(labels) == 2 else [f"probability_{label}" for label in labels]


def is_threshold(value: Any) -> bool:
    """Whether the value is a number from 0 to 1."""
    return (
        isinstance(value, numbers.Real) and not isinstance(value, bool) and 0 <= float(value) <= 1
    )


def threshold_of(params: Mapping[str, Any] | None, schema: Mapping[str, Any]) -> float:
    """The threshold that `params` ask for, or the schema's; InputError for others than that."""
    given = dict(params or {})
    binary = len(schema["labels"]) == 2
    value = given.pop("threshold", None) if binary else None
    if given:
        known = "threshold" if binary else "none, for a model with more than two labels"
        raise InputError([f"unknown parameters: {listed(sorted(given))}; known: {known}"])
    if value is None:
        return default_threshold(schema)
    if not is_threshold(value):
        raise InputError([f"threshold must be a number from 0 to 1; got {short(value)}"])
    return float(value)
