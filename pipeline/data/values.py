"""One Arrow column read as numbers, dates, booleans or categories, whatever its type.

What a single value means, `inference/rows.py` says, for a table that is prepared as for rows that
are given to a model; a column whose type says it already is converted as a whole. Columns are a
`pyarrow.ChunkedArray` of N values."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.inference.rows import BOOLEAN_WORDS, days, read_distinct

Kind = Literal["number", "boolean", "date", "category"]

_FEW = 100  # values that are looked at first: most columns of other values are told by them


def plain(column: Any) -> Any:
    """The column without a dictionary, with text of every flavour as `string`, null where empty."""
    if pa.types.is_dictionary(column.type) and not pa.types.is_nested(column.type.value_type):
        column = pc.cast(column, column.type.value_type)
    if pa.types.is_large_string(column.type) or pa.types.is_string_view(column.type):
        column = pc.cast(column, pa.string())
    if pa.types.is_string(column.type) and pc.any(pc.equal(column, "")).as_py():
        column = pc.if_else(pc.equal(column, ""), None, column)
    return column


def kind_of_type(dtype: Any) -> Kind | None:
    """What all values of a type are; None where the type does not tell."""
    types = pa.types
    if types.is_boolean(dtype):
        return "boolean"
    if types.is_date(dtype) or types.is_timestamp(dtype):
        return "date"
    if types.is_integer(dtype) or types.is_floating(dtype) or types.is_decimal(dtype):
        return "number"
    return "number" if types.is_time(dtype) or types.is_duration(dtype) else None


def kind_of_texts(distinct: Any) -> Kind | None:
    """What all strings of a column without nulls are: numbers or times of day, ISO 8601 dates, or
    of one pair of `BOOLEAN_WORDS`."""
    kinds: tuple[Kind, ...] = ("number", "date")
    for kind in kinds:
        readings = (reading(some, kind) for some in (distinct[:_FEW], distinct))
        if all(np.isfinite(raw).any() and not unfit.any() for raw, unfit in readings):
            return kind
    words = set(pc.utf8_lower(pc.utf8_trim_whitespace(distinct[:_FEW])).to_pylist())
    is_pair = len(distinct) <= _FEW and any(words <= set(pair) for pair in BOOLEAN_WORDS)
    return "boolean" if is_pair else None


def as_kind(column: Any, kind: Kind, categories: Sequence[str] = ()) -> np.ndarray:
    """float64 [N]: the raw values, as `inference.rows.Reader` has them. What cannot be read that
    way counts as missing."""
    return reading(column, kind, categories)[0]


def reading(
    column: Any, kind: Kind, categories: Sequence[str] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """The values as `as_kind` gives them, and bool [N]: there, but not of that kind."""
    column = plain(column)
    own = kind_of_type(column.type)
    if pa.types.is_string(column.type) or (own and kind == "category"):
        raw, unfit = _of_distinct(column, kind, categories)
    elif own is None:  # lists, bytes and whatever else
        return np.full(len(column), np.nan), np.array(column.is_valid())
    else:
        raw = _of_type(column)
        unfit = np.full(len(raw), (own == "date") != (kind == "date"))
        if kind == "boolean":
            unfit |= (raw != 0) & (raw != 1)
        if unfit.any():
            unfit &= ~np.isnan(raw)
    raw[unfit | np.isinf(raw)] = np.nan
    return raw, unfit


def _of_distinct(
    column: Any, kind: Kind, categories: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Each distinct value is read once."""
    if kind == "number" and pa.types.is_string(column.type):
        with suppress(pa.ArrowInvalid):  # far quicker, where every value is a number
            return _float64(column), np.zeros(len(column), dtype=bool)
    if pa.types.is_float16(column.type):  # of which Arrow makes no dictionary
        column = pc.cast(column, pa.float32())
    if pa.types.is_temporal(column.type):
        column = pc.cast(column, pa.string())  # dates and times that a text file held as categories
    coded = column.dictionary_encode().combine_chunks()
    distinct = np.array(coded.dictionary.to_pylist(), dtype=object)
    raw, unfit = read_distinct(distinct, {"kind": kind, "categories": categories})
    codes = np.asarray(coded.indices.fill_null(len(distinct)))
    return np.append(raw, np.nan)[codes], np.append(unfit, False)[codes]


def _of_type(column: Any) -> np.ndarray:
    """float64 [N] of a column whose type tells its kind: days of dates, seconds of times."""
    dtype = column.type
    if pa.types.is_time(dtype):
        whole = pc.cast(column, pa.int32() if dtype.bit_width == 32 else pa.int64())
        column = pc.cast(pc.cast(whole, pa.int64()), pa.duration(dtype.unit))
    elif not pa.types.is_temporal(dtype):
        return _float64(column)
    times = column.to_numpy(zero_copy_only=False)
    return days(times) if kind_of_type(dtype) == "date" else times / np.timedelta64(1, "s")


def _float64(column: Any) -> np.ndarray:
    """An array of its own, NaN for null. Raises pa.ArrowInvalid for text that is no number."""
    column = pc.cast(column, pa.float64(), safe=False)
    return np.array(column.to_numpy(zero_copy_only=False), dtype=np.float64)
