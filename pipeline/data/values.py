"""One Arrow column read as numbers, dates, booleans or text, whatever its type.

Every reader takes a `pyarrow.ChunkedArray` of N values. What cannot be read that way counts as
missing, and so do NaN, infinities and empty strings.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

BOOLEAN_WORDS = (("false", "true"), ("no", "yes"), ("n", "y"), ("f", "t"), ("off", "on"))
"""Pairs of spellings, in any case: the first of a pair is 0 and the second 1."""

_NUMBER = r"^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$"
_NOT_FINITE = r"(?i)^[+-]?(?:nan|inf|infinity)$"
_TIME = r"^(?P<hour>\d{1,2}):(?P<minute>[0-5]\d)(?::(?P<second>[0-5]\d(?:\.\d+)?))?$"
_DATE = (
    r"^(?P<year>\d{4})-(?P<month>\d{2})-(?P<day>\d{2})"
    r"(?:[T ](?P<hour>\d{2}):(?P<minute>\d{2})(?::(?P<second>\d{2}(?:\.\d+)?))?"
    r"(?:Z|(?P<sign>[+-])(?P<zone_hour>\d{2}):?(?P<zone_minute>\d{2}))?)?$"
)
_FEW = 100  # values that are looked at first: most columns of other values are told by them
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_SECONDS_PER_DAY = 86_400


def plain(column: Any) -> Any:
    """The column without a dictionary, with text of every flavour as `string`."""
    if pa.types.is_dictionary(column.type):
        column = pc.cast(column, column.type.value_type)
    if pa.types.is_large_string(column.type) or pa.types.is_string_view(column.type):
        column = pc.cast(column, pa.string())
    return column


def numbers(column: Any) -> np.ndarray:
    """float64 [N]; times of day and durations in seconds, booleans 0 and 1, NaN where missing."""
    column = plain(column)
    kind = column.type
    numeric = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean)
    if any(is_kind(kind) for is_kind in numeric):
        return _finite(_float64(pc.cast(column, pa.float64(), safe=False)))
    if pa.types.is_time(kind) or pa.types.is_duration(kind):
        return _integers(column) / _PER_SECOND[kind.unit]
    if pa.types.is_string(kind):
        return parse_numbers(column)
    return np.full(len(column), np.nan)


def dates(column: Any) -> np.ndarray:
    """float64 [N]: days since 1970-01-01 UTC with their fraction, NaN where missing.

    Timestamps without a time zone are taken as UTC.
    """
    column = plain(column)
    kind = column.type
    if pa.types.is_date32(kind):
        return _float64(pc.cast(pc.cast(column, pa.int32()), pa.float64()))
    if pa.types.is_date64(kind):
        return _integers(column) / (_SECONDS_PER_DAY * 1000)
    if pa.types.is_timestamp(kind):
        return _integers(column) / (_SECONDS_PER_DAY * _PER_SECOND[kind.unit])
    if pa.types.is_string(kind):
        return parse_dates(column)
    return np.full(len(column), np.nan)


def booleans(column: Any) -> np.ndarray:
    """float64 [N]: 0, 1, or NaN where missing; numbers other than 0 and 1 count as missing."""
    column = plain(column)
    if not pa.types.is_string(column.type):
        values = numbers(column)
        return np.where((values == 0) | (values == 1), values, np.nan)
    words = pa.array([word for pair in BOOLEAN_WORDS for word in pair] + ["0", "1", "0.0", "1.0"])
    position = pc.index_in(pc.utf8_lower(pc.utf8_trim_whitespace(column)), value_set=words)
    return _float64(pc.cast(pc.bit_wise_and(position, 1), pa.float64()))


def text(column: Any) -> Any:
    """string column of N values, null where missing; whole floats lose their '.0'."""
    column = plain(column)
    kind = column.type
    if pa.types.is_boolean(kind):
        return pc.if_else(column, "True", "False")
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        column = pa.chunked_array([pa.array(numbers(column), from_pandas=True)])
        whole = pc.and_(pc.equal(pc.floor(column), column), pc.less(pc.abs(column), 2.0**63))
        integers = pc.cast(pc.if_else(whole, column, None), pa.int64(), safe=False)
        return pc.coalesce(pc.cast(integers, pa.string()), pc.cast(column, pa.string()))
    if not pa.types.is_string(kind):
        return pc.cast(column, pa.string())
    empty = pc.any(pc.equal(column, "")).as_py()
    return pc.if_else(pc.equal(column, ""), None, column) if empty else column


def as_kind(column: Any, kind: str, categories: Sequence[str] = ()) -> np.ndarray:
    """float64 [N]: the column read as "number", "boolean", "date" or "category".

    A category is its position in `categories`, -1 when it is not among them; missing is NaN.
    """
    if kind == "number":
        return numbers(column)
    if kind == "boolean":
        return booleans(column)
    if kind == "date":
        return dates(column)
    words = text(column)
    codes = _float64(pc.index_in(words, value_set=pa.array(categories, pa.string())))
    codes[np.isnan(codes) & np.asarray(words.is_valid())] = -1
    return codes


def present(column: Any) -> np.ndarray:
    """bool [N]: not null, not an empty string, and no number that is none (NaN, infinite)."""
    column = plain(column)
    if pa.types.is_floating(column.type):
        return np.asarray(np.isfinite(numbers(column)))
    if pa.types.is_string(column.type):
        nothing = pc.match_substring_regex(pc.utf8_trim_whitespace(column), _NOT_FINITE)
        column = pc.if_else(pc.or_(nothing, pc.equal(column, "")), None, column)
    return np.asarray(column.is_valid())


def parse_numbers(column: Any) -> np.ndarray:
    """float64 [N] from strings: numbers, and times of day such as 9:30 in seconds; else NaN."""
    try:  # far quicker, where every value is a number and nothing else
        return _finite(_float64(pc.cast(column, pa.float64())))
    except pa.ArrowInvalid:
        column = pc.utf8_trim_whitespace(column)
    matched = pc.match_substring_regex(column, _NUMBER)
    values = _finite(_float64(pc.cast(pc.if_else(matched, column, None), pa.float64())))
    times = pc.match_substring_regex(column, _TIME)
    if pc.any(times).as_py():
        fields = pc.extract_regex(column, _TIME)
        hour, minute, second = (_field(fields, name) for name in ("hour", "minute", "second"))
        seconds = hour * 3600 + minute * 60 + second
        values = np.where(np.asarray(pc.fill_null(times, False)), seconds, values)
    return values


def parse_dates(column: Any) -> np.ndarray:
    """float64 [N] from ISO 8601 strings, as `dates`; days that no calendar has are NaN."""
    fields = pc.extract_regex(pc.utf8_trim_whitespace(column), _DATE)
    names = ("year", "month", "day", "hour", "minute", "second", "zone_hour", "zone_minute")
    year, month, day, hour, minute, second, zone_hour, zone_minute = (
        _field(fields, name) for name in names
    )
    valid = (month >= 1) & (month <= 12)
    months = np.where(valid, 12 * (year - 1970) + month - 1, 0).astype("datetime64[M]")
    first, end = (m.astype("datetime64[D]").astype(np.float64) for m in (months, months + 1))
    valid &= (day >= 1) & (day <= end - first) & (hour < 24) & (minute < 60) & (second < 60)
    behind = np.asarray(pc.fill_null(pc.equal(pc.struct_field(fields, "sign"), "-"), False))
    zone = np.where(behind, -1, 1) * (zone_hour * 3600 + zone_minute * 60)
    seconds = hour * 3600 + minute * 60 + second - zone
    return np.where(valid, first + day - 1 + seconds / _SECONDS_PER_DAY, np.nan)


def reads_as_numbers(values: Any) -> bool:
    """Whether every string of an array without nulls is a number or a time of day."""
    pattern = f"{_NUMBER}|{_NOT_FINITE}|{_TIME}"
    for some in (values[:_FEW], values):
        if not pc.all(pc.match_substring_regex(pc.utf8_trim_whitespace(some), pattern)).as_py():
            return False
    return bool(np.isfinite(parse_numbers(values)).any())


def reads_as_dates(values: Any) -> bool:
    """Whether every string of an array without nulls is an ISO 8601 date or timestamp."""
    return all(bool(np.isfinite(parse_dates(some)).all()) for some in (values[:_FEW], values))


def reads_as_booleans(values: Any) -> bool:
    """Whether the strings of an array without nulls all come from one pair of `BOOLEAN_WORDS`."""
    if len(values) > 16:
        return False
    words = set(pc.utf8_lower(pc.utf8_trim_whitespace(values)).to_pylist())
    return any(words <= set(pair) for pair in BOOLEAN_WORDS)


def _field(fields: Any, name: str) -> np.ndarray:
    """float64 [N]: a named group of a match; 0 where the group took no part in it."""
    group = pc.struct_field(fields, name)
    group = pc.if_else(pc.equal(group, ""), None, group)
    values = _float64(pc.cast(group, pa.float64()))
    values[np.isnan(values)] = 0.0
    return values


def _integers(column: Any) -> np.ndarray:
    width = column.type.bit_width
    whole = pc.cast(column, pa.int32() if width == 32 else pa.int64())
    return _float64(pc.cast(whole, pa.float64(), safe=False))


def _float64(column: Any) -> np.ndarray:
    """A float64 column as an array of its own, NaN for null."""
    return np.array(column.to_numpy(zero_copy_only=False), dtype=np.float64)


def _finite(values: np.ndarray) -> np.ndarray:
    values[np.isinf(values)] = np.nan
    return values
