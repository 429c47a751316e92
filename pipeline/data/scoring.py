"""Rows of a table as a model reads them, and those that it cannot read, with the reason."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.data import values
from pipeline.data.sources import MISSING

_MISSING = pa.array(MISSING, pa.string())
_EXPECTED = {
    "number": "a number",
    "boolean": "true or false",
    "date": "a date such as 2024-05-31",
    "category": "text",
}


def to_raw(
    table: pa.Table, columns: Sequence[Mapping[str, Any]]
) -> tuple[npt.NDArray[np.float64], dict[int, str]]:
    """Raw values float64 [rows, columns], and for each row that does not fit the reason.

    Args:
        table: holds the columns; text in them may be any kind of value, and one of
            `tables.MISSING` is a missing one.
        columns: those of schema.json.

    Returns:
        As `features.to_raw`; the values of a row that does not fit are NaN where they do not.
    """
    raw = np.empty((table.num_rows, len(columns)), dtype=np.float64)
    reasons: dict[int, str] = {}
    for position, column in enumerate(columns):
        given = _without_missing(table.column(column["name"]))
        raw[:, position] = _read(given, column)
        absent = np.isnan(raw[:, position])
        if not absent.any() or given.null_count == absent.sum():
            continue
        for row in np.flatnonzero(absent & _present(given)).tolist():
            reason = (
                f"column {column['name']!r}: expected {_EXPECTED[column['kind']]}; "
                f"got {_short(given[row].as_py())}"
            )
            reasons[row] = f"{reasons[row]}; {reason}" if row in reasons else reason
    return raw, reasons


def _without_missing(column: Any) -> Any:
    """The column with null for every spelling of a missing value."""
    column = values.plain(column)
    if not pa.types.is_string(column.type):
        return column
    missing = pc.is_in(column, value_set=_MISSING)
    return pc.if_else(missing, None, column) if pc.any(missing).as_py() else column


def _read(column: Any, wanted: Mapping[str, Any]) -> npt.NDArray[np.float64]:
    if wanted["kind"] == "number" and pa.types.is_string(column.type):
        try:  # far quicker, where every value is a number and nothing else
            found = pc.cast(column, pa.float64()).to_numpy()
            return np.where(np.isinf(found), np.nan, found)
        except pa.ArrowInvalid:
            pass
    return values.as_kind(column, wanted["kind"], wanted["categories"])


def _present(column: Any) -> npt.NDArray[np.bool_]:
    """bool [rows]: neither null nor a number that is none (NaN, infinite)."""
    present = values.observed(column)
    if values.is_text(column.type):
        present &= ~values.not_finite(column)
    elif pa.types.is_floating(column.type):
        present &= np.isfinite(values.numbers(column))
    return present


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
