"""Arrays of rows -> one array, as the graph takes it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from .rows import InputError, elsewhere, short

DTYPES = {
    "float32": "finite numbers of float32",
    "uint8": "whole numbers from 0 to 255",
    "int64": "whole numbers",
}
"""What a row may hold, by the dtype that the graph takes."""


class ArrayReader:
    """Rows [N, *shape] of one dtype, as schema.json says under `inputs`."""

    def __init__(self, inputs: Mapping[str, Any]) -> None:
        self.shape: tuple[int, ...] = tuple(inputs["shape"])
        self.dtype = np.dtype(inputs["dtype"])

    def read(self, rows: Any) -> tuple[npt.NDArray[Any], pd.Index]:
        """The rows in the graph's dtype, and an index for what is said of them.

        Args:
            rows: an array of NumPy or torch, or nested lists, [N, *shape]; N may be 0. Of rows of
                one dimension a DataFrame will do, whose index is kept.

        Raises InputError for another shape, and for numbers that the dtype does not hold."""
        array = self.array(rows)
        raw, unfit = self.converted(array)
        if unfit.any():
            first = int(unfit.argmax())
            raise InputError(f"{self.misfit(array[first])} in row {first}{elsewhere(unfit)}")
        return raw, rows.index if isinstance(rows, pd.DataFrame) else pd.RangeIndex(len(raw))

    def array(self, rows: Any) -> npt.NDArray[Any]:
        """The rows [N, *shape] in a dtype of numbers. Raises InputError."""
        expected = f"rows must be an array [rows, {', '.join(map(str, self.shape))}] of numbers"
        if isinstance(rows, (str, bytes, Mapping)):
            raise InputError(f"{expected}; got {type(rows).__name__}")
        try:
            array = np.asarray(on_the_cpu(rows))
        except (TypeError, ValueError) as error:
            raise InputError(f"{expected}: {error}") from error
        if array.shape == (0,):
            array = array.reshape(0, *self.shape).astype(self.dtype)
        if array.shape == self.shape:
            raise InputError(f"{expected}; got a single row {list(self.shape)}: rows[None] is one")
        if array.shape[1:] != self.shape:
            raise InputError(f"{expected}; got {list(array.shape)}")
        if array.dtype.kind not in "biuf":
            raise InputError(f"{expected}; got {array.dtype}")
        return array

    def converted(self, array: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """The rows of `array` in the graph's dtype, and which of them it does not hold [N]."""
        raw, held = self._held(array)
        return raw, ~held.all(axis=tuple(range(1, held.ndim)))

    def _held(self, array: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], Any]:
        """`array` in the graph's dtype, and which of its numbers that holds."""
        with np.errstate(invalid="ignore", over="ignore"):
            raw = np.ascontiguousarray(array, dtype=self.dtype)
            held = np.isfinite(raw) if self.dtype.kind == "f" else raw == array
        return raw, held

    def misfit(self, row: npt.NDArray[Any]) -> str:
        """What was expected of a row, and the first number that it does not fit."""
        value = row[np.unravel_index(int(self._held(row)[1].argmin()), row.shape)]
        return f"expected {DTYPES[self.dtype.name]}; got {short(value)}"


def on_the_cpu(rows: Any) -> Any:
    """A tensor of torch as NumPy can read it, in float32 where NumPy lacks its dtype."""
    if not hasattr(rows, "detach"):
        return rows
    rows = rows.detach().cpu()
    return (rows.float() if rows.dtype.itemsize < 4 and rows.is_floating_point() else rows).numpy()


def is_inputs(content: Any) -> bool:
    """Whether it is what schema.json holds under `inputs`."""
    shape = content.get("shape") if isinstance(content, dict) else None
    if not isinstance(shape, list) or not all(type(n) is int and n > 0 for n in shape):
        return False
    return len(shape) > 0 and str(content.get("dtype")) in DTYPES
