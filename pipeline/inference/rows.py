"""Rows of a table -> one float array, as the graph takes it."""

import datetime
import decimal
import math
import numbers
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pandas.api import types

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


class InputError(ValueError):
    """The rows or the parameters do not fit the model; `problems` has a sentence for each fault."""

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


def as_frame(rows: Any, names: Sequence[str]) -> pd.DataFrame:
    """Rows as a pandas DataFrame: one of pandas, polars or pyarrow, a dictionary of columns or of
    one row's values, or a list of dictionaries. `names`: the columns that are wanted.

    Raises InputError for anything else.
    """
    if isinstance(rows, pd.DataFrame):
        return rows
    try:
        if isinstance(rows, Mapping):
            one_row = all(np.ndim(value) == 0 for value in rows.values())
            return pd.DataFrame([_unpacked(rows)] if one_row else _unpacked(rows))
        if isinstance(rows, list) and all(isinstance(row, Mapping) for row in rows):
            if not rows:
                return pd.DataFrame(columns=list(names))
            return pd.DataFrame([_unpacked(row) for row in rows])
        if hasattr(rows, "to_pandas") and hasattr(rows, "select"):
            present = set(getattr(rows, "column_names", rows.columns))
            frame: pd.DataFrame = rows.select([n for n in names if n in present]).to_pandas()
            return frame
    except (TypeError, ValueError) as error:
        raise InputError(f"the rows do not make a table: {error}") from error
    raise InputError(
        "rows must be a DataFrame (pandas, polars), a pyarrow Table, a dictionary of columns "
        f"or a list of dictionaries; got {type(rows).__name__}"
    )


def _unpacked(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row without arrays of no dimension, which MLflow's server makes of its values."""
    return {name: _value(value) for name, value in row.items()}


def _value(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    if value.ndim == 0:
        return value.item()
    return [_value(item) for item in value] if value.dtype == object else value


def to_raw(frame: pd.DataFrame, schema: Mapping[str, Any]) -> Floats:
    """Raw values [rows, columns] float64 of a frame, columns in the schema's order.

    A number stands as it is (infinite -> NaN; times of day and durations in seconds), a boolean is
    0 or 1, a date is days since 1970-01-01 UTC with their fraction (without a time zone it is read
    as UTC), a category is its position in the column's `categories` (-1 when it is none of them).
    Missing is NaN: None, NaN, NaT, pd.NA and empty text.

    Columns are found by name; others are ignored. Numbers and booleans may be written as text,
    dates as ISO 8601 text; in a category column numbers and booleans stand for their text.

    Raises InputError that names every missing, repeated or unreadable column.
    """
    return Reader(schema)(frame)


class Reader:
    """`to_raw` for the frames of one schema: what can be known of its columns is looked up once."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._columns: Sequence[Mapping[str, Any]] = schema["columns"]
        self.names: list[str] = [column["name"] for column in self._columns]
        self._index = pd.Index(self.names, dtype=object)
        self._numbers = [column["kind"] == "number" for column in self._columns]

    def __call__(self, frame: pd.DataFrame) -> Floats:
        """As `to_raw`."""
        if not self._index.equals(frame.columns):
            frame = self._select(frame)
        plain = [
            number and isinstance(dtype, np.dtype) and dtype.kind in "biuf"
            for number, dtype in zip(self._numbers, frame.dtypes.array, strict=True)
        ]
        if all(plain):
            raw = np.array(frame.to_numpy(np.float64), order="C")
        else:
            raw = np.empty((len(frame), len(self._columns)))
            if any(plain):
                raw[:, plain] = frame.loc[:, plain].to_numpy(np.float64)
            problems: list[str] = []
            for position in [i for i, is_plain in enumerate(plain) if not is_plain]:
                try:
                    raw[:, position] = _column(frame.iloc[:, position], self._columns[position])
                except InputError as error:
                    problems.extend(error.problems)
            if problems:
                raise InputError(*problems)
        infinite = np.isinf(raw)
        if infinite.any():
            raw[infinite] = np.nan
        return raw

    def _select(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The wanted columns in the schema's order."""
        if frame.columns.is_unique:
            positions = frame.columns.get_indexer(self._index)
            if (positions >= 0).all():
                return frame.iloc[:, positions]
        present = list(frame.columns)
        missing = [name for name in self.names if name not in frame.columns]
        if missing:
            columns = listed(present) or "none"
            raise InputError(f"columns missing: {listed(missing)}; the rows have: {columns}")
        repeated = [name for name in self.names if present.count(name) > 1]
        if repeated:
            raise InputError(f"columns given more than once: {listed(repeated)}")
        return frame[self.names]


def _column(series: pd.Series, column: Mapping[str, Any]) -> Floats:
    """One column's raw values [rows]; InputError names the column and the first misfit."""
    kind = column["kind"]
    if kind != "category" and series.dtype == object:
        series = series.infer_objects()  # objects that are all floats become float64
    dtype = series.dtype
    is_real = types.is_numeric_dtype(dtype) and not types.is_complex_dtype(dtype)
    if kind in ("number", "boolean") and is_real:
        values: Floats = series.to_numpy(np.float64, na_value=np.nan)
        wrong = ~np.isin(values, (0.0, 1.0)) & ~np.isnan(values)
        if kind == "boolean" and wrong.any():
            raise _misfit(column, series, wrong)
        return values
    if kind == "date" and dtype.kind == "M":
        return _days(series)
    try:
        codes, uniques = series.factorize()  # missing values get the code -1
    except TypeError:  # lists, dicts and other values that have no hash
        wrong = np.array([getattr(value, "__hash__", None) is None for value in series])
        raise _misfit(column, series, wrong) from None
    distinct = np.asarray(uniques, dtype=object)
    values = READERS[kind](distinct, column)
    wrong = np.isnan(values)
    wrong[wrong] = [not _blank(value) for value in distinct[wrong]]
    if wrong.any():
        raise _misfit(column, series, np.append(wrong, False)[codes])
    result: Floats = np.append(values, np.nan)[codes]
    return result


def _days(instants: pd.Series) -> Floats:
    """Days since 1970-01-01 UTC of a datetime series, NaN where missing."""
    utc = pd.to_datetime(instants, utc=True).dt.tz_localize(None).to_numpy()
    days: Floats = (utc - np.datetime64("1970-01-01")) / np.timedelta64(1, "D")
    return days


# Each reader takes a column's distinct, present values [distinct] and gives their raw values, NaN
# for those that are blank or do not fit.


def _numbers(values: npt.NDArray[Any], column: Mapping[str, Any]) -> Floats:
    number_like = (numbers.Real, decimal.Decimal, np.bool_, str)
    fits = np.array([isinstance(value, number_like) for value in values], dtype=bool)
    result = np.full(len(values), np.nan)
    result[fits] = pd.to_numeric(pd.Series(values[fits], dtype=object), errors="coerce")
    for position in np.flatnonzero(np.isnan(result)):
        result[position] = _seconds(values[position])
    return result


def _seconds(value: Any) -> float:
    """Of a duration, or since midnight of a time of day such as 9:30 or 23:59:59.5; else NaN."""
    if isinstance(value, (datetime.timedelta, np.timedelta64)):
        return float(pd.Timedelta(value).total_seconds())
    if not isinstance(value, (datetime.time, str)):
        return math.nan
    time = re.fullmatch(r"(\d{1,2}):([0-5]\d)(?::([0-5]\d(?:\.\d+)?))?", str(value).strip())
    return int(time[1]) * 3600 + int(time[2]) * 60 + float(time[3] or 0) if time else math.nan


def _booleans(values: npt.NDArray[Any], column: Mapping[str, Any]) -> Floats:
    meaning = dict.fromkeys(("0", "false", "no", "n", "f", "off", "0.0"), 0.0)
    meaning |= dict.fromkeys(("1", "true", "yes", "y", "t", "on", "1.0"), 1.0)
    words = (str(value).strip().lower() for value in values)
    return np.array([meaning.get(word, math.nan) for word in words], dtype=np.float64)


def _dates(values: npt.NDArray[Any], column: Mapping[str, Any]) -> Floats:
    date_like = (datetime.date, np.datetime64, str)
    fits = np.array([isinstance(value, date_like) for value in values], dtype=bool)
    result = np.full(len(values), np.nan)
    instants = pd.Series(values[fits], dtype=object)
    result[fits] = _days(pd.to_datetime(instants, utc=True, errors="coerce", format="ISO8601"))
    return result


def _categories(values: npt.NDArray[Any], column: Mapping[str, Any]) -> Floats:
    codes = {category: code for code, category in enumerate(column["categories"])}
    index = pd.Index(column["categories"], dtype=object)
    result: Floats = index.get_indexer(pd.Index(values, dtype=object)).astype(np.float64)
    for position in np.flatnonzero(result < 0):
        value = values[position]
        if isinstance(value, str):
            result[position] = -1.0 if value else np.nan
        elif isinstance(value, (numbers.Real, decimal.Decimal, np.bool_)):
            # A reader of tables may have made 3.0 of "3" and True of "true".
            forms = (str(value), str(value).lower(), str(value).removesuffix(".0"))
            result[position] = max(codes.get(form, -1) for form in forms)
        else:
            result[position] = np.nan
    return result


READERS: dict[str, Callable[[npt.NDArray[Any], Mapping[str, Any]], Floats]] = {
    "number": _numbers,
    "boolean": _booleans,
    "date": _dates,
    "category": _categories,
}
EXPECTED = {
    "number": "a number",
    "boolean": "true or false (or yes, no, 1, 0)",
    "date": "a date (a datetime, or ISO 8601 text such as 2024-05-31)",
    "category": "text",
}


def _blank(value: Any) -> bool:
    return isinstance(value, str) and value.strip().lower() in ("", "nan")


def _misfit(column: Mapping[str, Any], series: pd.Series, wrong: Mask) -> InputError:
    """What was expected of the column, and the first value that did not fit."""
    position = int(wrong.argmax())
    value, more = series.iloc[position], int(wrong.sum()) - 1
    elsewhere = f", and in {more} more row{'s' * (more > 1)}" if more else ""
    return InputError(
        f"column {column['name']!r}: expected {EXPECTED[column['kind']]}; "
        f"got {short(value)} ({type(value).__name__}) in row {series.index[position]}{elsewhere}"
    )


def short(value: Any) -> str:
    """A found value in at most 60 characters."""
    text = str(value) if isinstance(value, np.generic) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def listed(names: Sequence[Any], limit: int = 20) -> str:
    """The first of some names, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(repr(name) for name in names[:limit]) + more
