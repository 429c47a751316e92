"""One Arrow column read as numbers, dates, booleans or text, whatever its type.

Every reader takes a `pyarrow.ChunkedArray` of N values. What cannot be read that way counts as
missing, and so do NaN, infinities and empty strings.
"""

from collections.abc import Callable, Sequence
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
    r"(?P<zone>Z|[+-]\d{2}:?\d{2})?)?$"
)
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_SECONDS_PER_DAY = 86_400


def plain(column: Any) -> Any:
    """The column without a dictionary, with text of every flavour as `string`."""
    if pa.types.is_dictionary(column.type):
        column = pc.cast(column, column.type.value_type)
    if _is_other_text(column.type):
        column = pc.cast(column, pa.string())
    return column


def is_text(kind: Any) -> bool:
    """Whether a column of this Arrow type holds text once it is `plain`."""
    return bool(pa.types.is_string(kind) or _is_other_text(kind))


def _is_other_text(kind: Any) -> bool:
    return bool(pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def numbers(column: Any) -> np.ndarray:
    """float64 [N]; times of day and durations in seconds, booleans 0 and 1, NaN where missing."""
    column = plain(column)
    kind = column.type
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind):
        return _float64(pc.cast(column, pa.float64(), safe=False))
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _finite(_float64(pc.cast(column, pa.float64(), safe=False)))
    if pa.types.is_time(kind) or pa.types.is_duration(kind):
        return _integers(column) / _PER_SECOND[kind.unit]
    if pa.types.is_string(kind):
        return parse_numbers(column)
    return _nothing(len(column))


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
    return _nothing(len(column))


def booleans(column: Any) -> np.ndarray:
    """float64 [N]: 0, 1, or NaN where missing; numbers other than 0 and 1 count as missing."""
    column = plain(column)
    if not pa.types.is_string(column.type):
        found = numbers(column)
        return np.where((found == 0) | (found == 1), found, np.nan)
    words = pa.array([word for pair in BOOLEAN_WORDS for word in pair] + ["0", "1", "0.0", "1.0"])
    position = pc.index_in(_trimmed_lower(column), value_set=words)
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
    found = text(column)
    codes = _float64(pc.index_in(found, value_set=pa.array(categories, pa.string())))
    codes[np.isnan(codes) & np.asarray(found.is_valid())] = -1
    return codes


def not_finite(column: Any) -> np.ndarray:
    """bool [N]: strings such as nan and inf."""
    matched = pc.match_substring_regex(pc.utf8_trim_whitespace(plain(column)), _NOT_FINITE)
    return np.asarray(pc.fill_null(matched, False))


def observed(column: Any) -> np.ndarray:
    """bool [N]: not null and not an empty string."""
    column = plain(column)
    present = column.is_valid()
    if pa.types.is_string(column.type):
        present = pc.and_(present, pc.fill_null(pc.not_equal(column, ""), False))
    return np.asarray(present)


def parse_numbers(column: Any) -> np.ndarray:
    """float64 [N] from strings: numbers, and times of day such as 9:30 in seconds; else NaN."""
    column = pc.utf8_trim_whitespace(column)
    matched = pc.match_substring_regex(column, _NUMBER)
    found = _finite(_float64(pc.cast(pc.if_else(matched, column, None), pa.float64())))
    times = pc.match_substring_regex(column, _TIME)
    if pc.any(times).as_py():
        part = pc.extract_regex(column, _TIME)
        clock = _part(part, "hour") * 3600 + _part(part, "minute") * 60 + _part(part, "second", 0.0)
        found = np.where(np.asarray(pc.fill_null(times, False)), clock, found)
    return found


def parse_dates(column: Any) -> np.ndarray:
    """float64 [N] from ISO 8601 strings, as `dates`; days that no calendar has are NaN."""
    part = pc.extract_regex(pc.utf8_trim_whitespace(column), _DATE)
    year, month, day = (_part(part, name) for name in ("year", "month", "day"))
    hour, minute, second = (_part(part, name, 0.0) for name in ("hour", "minute", "second"))
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    lengths = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
    with np.errstate(invalid="ignore"):
        named_month = (month >= 1) & (month <= 12)
        last = lengths[np.where(named_month, month, 0).astype(np.int64)] + (leap & (month == 2))
        valid = named_month & (day >= 1) & (day <= last) & (hour < 24) & (minute < 60)
        valid &= second < 60
        # Days from the civil calendar, years beginning in March: howardhinnant.github.io/
        # date_algorithms.html#days_from_civil
        shifted = year - (month <= 2)
        century = np.floor(shifted / 400)
        of_era = shifted - century * 400
        of_year = np.floor((153 * ((month + 9) % 12) + 2) / 5) + day - 1
        days = century * 146_097 + of_era * 365 + np.floor(of_era / 4) - np.floor(of_era / 100)
        days += of_year - 719_468
    seconds = hour * 3600 + minute * 60 + second - _zone_seconds(part)
    return np.where(valid, days + seconds / _SECONDS_PER_DAY, np.nan)


def reads_as_numbers(values: Any) -> bool:
    """Whether every string of an array without nulls is a number or a time of day."""
    if not _all_of_a_few(values, lambda few: _number_like(few)):
        return False
    return bool(_number_like(values).all() and np.isfinite(parse_numbers(values)).any())


def reads_as_dates(values: Any) -> bool:
    """Whether every string of an array without nulls is an ISO 8601 date or timestamp."""
    return _all_of_a_few(values, lambda few: np.isfinite(parse_dates(few))) and bool(
        np.isfinite(parse_dates(values)).all()
    )


def reads_as_booleans(values: Any) -> bool:
    """Whether the strings of an array without nulls all come from one pair of `BOOLEAN_WORDS`."""
    if len(values) > 16:
        return False
    words = set(_trimmed_lower(values).to_pylist())
    return any(words <= set(pair) for pair in BOOLEAN_WORDS)


def _number_like(values: Any) -> np.ndarray:
    values = pc.utf8_trim_whitespace(values)
    matched = pc.match_substring_regex(values, _NUMBER)
    for pattern in (_NOT_FINITE, _TIME):
        matched = pc.or_(matched, pc.match_substring_regex(values, pattern))
    return np.asarray(matched, dtype=bool)


def _all_of_a_few(values: Any, test: Callable[[Any], np.ndarray]) -> bool:
    return bool(np.all(test(values[:100])))


def _part(part: Any, name: str, default: float = np.nan) -> np.ndarray:
    """float64 [N]: a named group of a match; `default` where the group took no part in it."""
    group = pc.struct_field(part, name)
    group = pc.if_else(pc.equal(group, ""), None, group)
    found = _float64(pc.cast(group, pa.float64()))
    return found if np.isnan(default) else np.nan_to_num(found, nan=default)


def _zone_seconds(part: Any) -> np.ndarray:
    zone = pc.struct_field(part, "zone")
    zone = pc.if_else(pc.match_substring_regex(zone, r"^[+-]"), zone, "+0000")
    digits = pc.replace_substring(pc.fill_null(zone, "+0000"), ":", "")
    number = _float64(pc.cast(digits, pa.float64()))
    seconds: np.ndarray = np.abs(number) // 100 * 3600 + np.abs(number) % 100 * 60
    return np.where(number < 0, -seconds, seconds)


def _trimmed_lower(column: Any) -> Any:
    return pc.utf8_lower(pc.utf8_trim_whitespace(column))


def _integers(column: Any) -> np.ndarray:
    width = column.type.bit_width
    whole = pc.cast(column, pa.int32() if width == 32 else pa.int64())
    return _float64(pc.cast(whole, pa.float64(), safe=False))


def _float64(column: Any) -> np.ndarray:
    """A float64 column as an array of its own, NaN for null."""
    return np.array(column.to_numpy(zero_copy_only=False), dtype=np.float64)


def _finite(found: np.ndarray) -> np.ndarray:
    found[np.isinf(found)] = np.nan
    return found


def _nothing(length: int) -> np.ndarray:
    return np.full(length, np.nan)
