"""One Arrow column read as numbers, dates, booleans or categories, whatever its type.

What a single value means, `inference/rows.py` says, for a table that is prepared as for rows that
are given to a model; a column whose type says it already is converted as a whole. Columns are a
`pyarrow.ChunkedArray` of N values; what is known of one is a mapping as in schema.json."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.data.kinds import SAMPLE, Kind, TextKind, text_kind
from pipeline.inference.rows import MISSING, number_marks, read_column


def plain(column: Any) -> Any:
    """The column without a dictionary, with text of every flavour as `string`, null where blank."""
    if pa.types.is_dictionary(column.type) and not pa.types.is_nested(column.type.value_type):
        column = pc.cast(column, column.type.value_type)
    if pa.types.is_large_string(column.type) or pa.types.is_string_view(column.type):
        column = pc.cast(column, pa.string())
    if pa.types.is_string(column.type):
        blank = pc.or_(pc.equal(column, ""), pc.utf8_is_space(column))
        if pc.any(blank).as_py():
            column = pc.if_else(blank, None, column)
    return column


def present(column: Any, marks: Sequence[str] = ()) -> Any:
    """As `plain`; text without blanks at its ends, null where it is a mark for a missing value."""
    column = plain(column)
    if not pa.types.is_string(column.type):
        return column
    texts = pc.utf8_trim_whitespace(column)
    known = pc.is_in(pc.utf8_lower(texts), value_set=pa.array(sorted(MISSING)))
    own = pc.is_in(texts, value_set=pa.array(list(marks), pa.string()))
    return pc.if_else(pc.or_(known, own), None, texts)


def is_text(dtype: Any) -> bool:
    """Whether the values are text, with a dictionary or without."""
    dtype = dtype.value_type if pa.types.is_dictionary(dtype) else dtype
    types = pa.types
    return bool(
        types.is_string(dtype) or types.is_large_string(dtype) or types.is_string_view(dtype)
    )


def kind_of_type(dtype: Any) -> Kind | None:
    """What all values of a type are; None where the type does not tell. A dictionary of text is of
    categories, since somebody made it one."""
    types = pa.types
    if types.is_dictionary(dtype):
        return "category" if is_text(dtype) else kind_of_type(dtype.value_type)
    if types.is_boolean(dtype):
        return "boolean"
    if types.is_date(dtype) or types.is_timestamp(dtype):
        return "date"
    if types.is_integer(dtype) or types.is_floating(dtype) or types.is_decimal(dtype):
        return "number"
    return "number" if types.is_time(dtype) or types.is_duration(dtype) else None


def kind_of(column: Any, name: str = "", decimal: str = ".", marks: Sequence[str] = ()) -> TextKind:
    """What a column of any type holds. Raises ValueError: neither its type nor its text tells."""
    if kind := kind_of_type(column.type):
        return TextKind(kind)
    if not is_text(column.type):
        raise ValueError(f"values of type {column.type} are not supported")
    distinct = pc.unique(plain(column).drop_null())
    return text_kind(distinct[:: 1 + len(distinct) // SAMPLE].to_pylist(), name, decimal, marks)


def as_kind(column: Any, like: Mapping[str, Any]) -> np.ndarray:
    """float64 [N]: the raw values, as `inference.rows.Reader` has them. What cannot be read that
    way counts as missing."""
    return reading(column, like)[0]


def reading(column: Any, like: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """The values as `as_kind` gives them, and bool [N]: there, but not of that kind."""
    column, kind = plain(column), like["kind"]
    if pa.types.is_decimal(column.type):  # exact as text, but not as Arrow casts it
        column = pc.cast(pc.cast(column, pa.string()), pa.float64())
    if pa.types.is_float16(column.type):  # which pandas cannot count
        column = pc.cast(column, pa.float32())
    if pa.types.is_temporal(column.type) and kind == "category":
        column = pc.cast(column, pa.string())
    if pa.types.is_string(column.type):
        raw, unfit = _of_text(column, like)
    else:
        raw, unfit = read_column(column.to_pandas(date_as_object=False), like)
    raw[unfit | np.isinf(raw)] = np.nan
    if kind == "number" and (marks := number_marks(like)):
        raw[np.isin(raw, marks)] = np.nan
    return raw, unfit


def _of_text(column: Any, like: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Numbers as programs write them are converted together; each other distinct value is read
    once."""
    raw, unfit = np.full(len(column), np.nan), np.zeros(len(column), dtype=bool)
    if like["kind"] == "number":
        raw = _numbers(column, like.get("decimal", "."))
    rest = np.flatnonzero(np.isnan(raw) & np.asarray(column.is_valid()))
    if len(rest):
        coded = column.take(pa.array(rest)).dictionary_encode().combine_chunks()
        raw[rest], unfit[rest] = read_column(coded.to_pandas(), like)
    return raw, unfit


def _numbers(texts: Any, decimal: str) -> np.ndarray:
    """float64 [N], NaN for what programs do not write so."""
    if decimal == ",":
        dotted = pc.match_substring(texts, ".")  # in groups
        texts = pc.replace_substring(pc.if_else(dotted, "grouped", texts), ",", ".")
    for has_marks in (False, True):
        texts = present(texts) if has_marks else texts
        with suppress(pa.ArrowInvalid):  # far quicker, where every value is a number or none
            return np.array(pc.cast(texts, pa.float64()).to_numpy(zero_copy_only=False))
    numbers = pd.to_numeric(texts.to_pandas(), errors="coerce")
    return np.array(numbers, dtype=np.float64)
