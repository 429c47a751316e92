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

_MARKS = (
    *("", "na", "n/a", "n.a.", "n.a", "<na>", "nan", "-nan", "nat", "none", "null", "(null)"),
    *("<null>", r"\n", "?", ".", "-", "--", "---", "\u2013", "\u2014", "#n/a", "#na", "#nv"),
    *("#null!", "#div/0!", "#value!", "#ref!", "#name?", "#num!", "1.#qnan", "1.#ind", "-1.#ind"),
)
MISSING = frozenset(_MARKS)
"""Marks of pandas, R, Excel, SQL and SPSS for a missing value, in any case."""

BOOLEAN_WORDS = (("false", "true"), ("no", "yes"), ("n", "y"), ("f", "t"), ("off", "on"))
"""Pairs of spellings, in any case: the first of a pair is 0 and the second 1."""


class InputError(ValueError):
    """The rows or the parameters do not fit the model; `problems` has a sentence for each fault."""

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


def as_frame(rows: Any) -> pd.DataFrame:
    """Rows as a pandas DataFrame: one of pandas, polars or pyarrow, a dictionary of columns or
    of one row's values, or a list of such rows. Raises InputError for anything else."""
    if isinstance(rows, pd.DataFrame):
        return rows
    if not isinstance(rows, (Mapping, list)) and not hasattr(rows, "to_pandas"):
        raise InputError(
            "rows must be a DataFrame (pandas, polars), a pyarrow Table, a dictionary of columns "
            f"or a list of dictionaries; got {type(rows).__name__}"
        )
    if isinstance(rows, Mapping) and rows and all(map(pd.api.types.is_scalar, rows.values())):
        rows = [rows]
    try:
        frame = rows.to_pandas() if hasattr(rows, "to_pandas") else pd.DataFrame(rows)
    except (TypeError, ValueError) as error:
        raise InputError(f"the rows do not make a table: {error}") from error
    # MLflow's server makes arrays of no dimension of the values of records.
    for name in [name for name, dtype in frame.dtypes.items() if types.is_object_dtype(dtype)]:
        frame[name] = frame[name].map(_value)
    return frame


def _value(value: Any) -> Any:
    return value.item() if isinstance(value, np.ndarray) and value.ndim == 0 else value


class Reader:
    """Raw values [rows, columns] float64 of frames, columns in the order of one schema.

    A number stands as it is (infinite -> NaN; times of day and durations in seconds), a boolean is
    0 or 1, a date is days since 1970-01-01 UTC with their fraction (without a time zone it is read
    as UTC), a category is its position in the column's `categories` (-1 when it is none of them).
    Missing is NaN: None, NaN, NaT, pd.NA, one of `MISSING` and the column's own `marks`.

    Columns are found by name; others are ignored. Numbers and booleans may be written as text, as
    `_numbers` takes them; dates in the column's `format` or as ISO 8601; in a category column
    numbers and booleans stand for their text. Blanks around text do not count.

    Raises InputError that names every missing, repeated or unreadable column."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._columns: Sequence[Mapping[str, Any]] = schema["columns"]
        self.names: list[str] = [column["name"] for column in self._columns]
        self._index = pd.Index(self.names, dtype=object)
        self._numbers = [column["kind"] == "number" for column in self._columns]
        marked = {i: number_marks(c) for i, c in enumerate(self._columns) if self._numbers[i]}
        self._marked = {position: marks for position, marks in marked.items() if marks}

    def read(self, rows: Any) -> tuple[Floats, pd.Index]:
        """The raw values of rows as `as_frame` takes them, and their index."""
        frame = as_frame(rows)
        return self(frame), frame.index

    def __call__(self, frame: pd.DataFrame) -> Floats:
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
                series, column = frame.iloc[:, position], self._columns[position]
                raw[:, position], wrong = read_column(series, column)
                if wrong.any():
                    problems.append(_misfit(column, series, wrong))
            if problems:
                raise InputError(*problems)
        raw[np.isinf(raw)] = np.nan
        for position, marks in self._marked.items():
            raw[np.isin(raw[:, position], marks), position] = np.nan
        return raw

    def _select(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The wanted columns in the schema's order."""
        present = list(frame.columns)
        if missing := [name for name in self.names if name not in frame.columns]:
            columns = listed(present) or "none"
            raise InputError(f"columns missing: {listed(missing)}; the rows have: {columns}")
        wanted = frame.columns[frame.columns.isin(self.names)]
        if not wanted.is_unique:
            repeated = list(wanted[wanted.duplicated()].unique())
            raise InputError(f"columns given more than once: {listed(repeated)}")
        return frame[self.names]


def read_column(series: pd.Series, column: Mapping[str, Any]) -> tuple[Floats, Mask]:
    """One column's raw values, and which of them are not missing and do not fit, both [rows]."""
    kind = column["kind"]
    if kind != "category" and series.dtype == object:
        series = series.infer_objects()  # objects that are all floats become float64
    dtype = series.dtype
    is_real = types.is_numeric_dtype(dtype) and not types.is_complex_dtype(dtype)
    if kind in ("number", "boolean") and is_real:
        values: Floats = np.array(series.to_numpy(np.float64, na_value=np.nan))
        others = () if kind == "number" else values[(values != 0) & (values != 1)]
        return values, np.isin(values, others)  # NaN is equal to none
    if kind == "date" and dtype.kind == "M":
        return _days(series), np.zeros(len(series), dtype=bool)
    try:
        codes, uniques = series.factorize()  # missing values get the code -1
    except TypeError:  # lists, dicts and other values that have no hash
        wrong = [getattr(value, "__hash__", None) is None for value in series]
        return np.full(len(series), np.nan), np.array(wrong)
    values, unfit = read_distinct(np.asarray(uniques, dtype=object), column)
    return np.append(values, np.nan)[codes], np.append(unfit, False)[codes]


def _days(instants: pd.Series) -> Floats:
    return days(pd.to_datetime(instants, utc=True).dt.tz_localize(None).to_numpy())


def days(utc: npt.NDArray[np.datetime64]) -> Floats:
    """Days since 1970-01-01 with their fraction, NaN for NaT."""
    since: Floats = (utc - np.datetime64("1970-01-01")) / np.timedelta64(1, "D")
    return since


def is_missing(value: Any, column: Mapping[str, Any]) -> bool:
    """Whether a value of the column stands for none: NaN, one of `MISSING`, one of its `marks`."""
    if not isinstance(value, str):
        return bool(value != value)
    text = stripped(value)
    return text.lower() in MISSING or text in column.get("marks", ())


def stripped(text: str) -> str:
    """Without blanks, byte order marks and zero-width spaces at its ends."""
    return text.strip().strip("\ufeff\u200b").strip()


def number_marks(column: Mapping[str, Any]) -> list[float]:
    """The marks of a column that are numbers, such as -999."""
    numbers = (_number(mark, column) for mark in column.get("marks", ()))
    return [number for number in numbers if not math.isnan(number)]


def read_distinct(values: npt.NDArray[Any], column: Mapping[str, Any]) -> tuple[Floats, Mask]:
    """The raw values of distinct ones, and which of them are not missing and do not fit the
    column's kind, both [distinct]."""
    raw = READERS[column["kind"]](values, column)
    doubtful = np.flatnonzero(np.isnan(raw) | (raw == -1))
    missing = [position for position in doubtful if is_missing(values[position], column)]
    raw[missing] = np.nan
    unfit = np.isnan(raw)
    unfit[missing] = False
    return raw, unfit


# Each reader takes a column's distinct, present values [distinct] and gives their raw values, NaN
# for those that do not fit.

_AFFIX = r"[\s%\u2030$\u20ac\u00a3\u00a5\u20b9\u20bd\u20a9\u20ba\u20ab\u20b4\u20aa\u0e3f\u00a2]*"
_FORMS = {
    point: re.compile(
        rf"{_AFFIX}([+-]?){_AFFIX}"
        rf"((?:[1-9]\d{{0,2}}(?P<mark>[{group}'\u2019\s])(?:\d{{2,3}}(?P=mark))*\d{{3}}|\d+)?"
        rf"(?:{re.escape(point)}\d*)?)((?:e[+-]?\d+)?){_AFFIX}",
        re.IGNORECASE,
    )
    for point, group in ((".", ","), (",", "."))
}
"""Numbers by their decimal sign: digits, in groups or not, with per cent or a currency."""

_INFINITE = {"inf", "infinity", "\u221e"}


def _numbers(values: npt.NDArray[Any], column: Mapping[str, Any]) -> Floats:
    """As Python writes them; text also with thousands separators, the column's `decimal` sign, per
    cent or currency signs (which say nothing: 39 % is 39), the Unicode minus, negatives in
    parentheses. Of times of day and durations the seconds."""
    point = column.get("decimal", ".")

    def usual(value: Any) -> Any:
        if isinstance(value, str):
            return value.replace(point, ".") if point == "." or "." not in value else None
        return value if isinstance(value, (numbers.Real, decimal.Decimal, np.bool_)) else None

    plain = pd.Series([usual(value) for value in values], dtype=object)
    result: Floats = pd.to_numeric(plain, errors="coerce").to_numpy(np.float64, copy=True)
    for position in np.flatnonzero(np.isnan(result)):
        result[position] = _number(values[position], column)
    return result


def _number(value: Any, column: Mapping[str, Any]) -> float:
    if isinstance(value, str):
        text = stripped(value).replace("\u2212", "-")
        if text[:1] == "(" and text[-1:] == ")":
            text = f"-{text[1:-1]}"
        point = column.get("decimal", ".")
        if (form := _FORMS[point].fullmatch(text)) and any(map(str.isdigit, form[2])):
            digits = re.sub(rf"[^\d{re.escape(point)}]", "", form[2]).replace(point, ".")
            return float(f"{form[1]}{digits}{form[4]}")
        if text.lstrip("+-").lower() in _INFINITE:
            return math.inf
    return _seconds(value)


def _seconds(value: Any) -> float:
    """Of a duration, or since midnight of a time of day such as 9:30 or 23:59:59.5; else NaN."""
    if isinstance(value, (datetime.timedelta, np.timedelta64)):
        return float(pd.Timedelta(value).total_seconds())
    if not isinstance(value, (datetime.time, str)) or ":" not in (text := str(value)):
        return math.nan
    time = re.fullmatch(r"(\d{1,2}):([0-5]\d)(?::([0-5]\d(?:\.\d+)?))?", text.strip())
    return int(time[1]) * 3600 + int(time[2]) * 60 + float(time[3] or 0) if time else math.nan


def _booleans(values: npt.NDArray[Any], column: Mapping[str, Any]) -> Floats:
    pairs = (*BOOLEAN_WORDS, ("0", "1"), ("0.0", "1.0"))
    meaning = {word: float(i) for pair in pairs for i, word in enumerate(pair)}
    words = (str(value).strip().lower() for value in values)
    return np.array([meaning.get(word, math.nan) for word in words], dtype=np.float64)


def _dates(values: npt.NDArray[Any], column: Mapping[str, Any]) -> Floats:
    instants = pd.Series([_instant(value) for value in values], dtype=object)
    result = _days(pd.to_datetime(instants, utc=True, errors="coerce", format="ISO8601"))
    if form := column.get("format"):
        # pandas takes "now" and "today" whatever the form.
        is_text = [isinstance(value, str) and any(map(str.isdigit, value)) for value in values]
        dates = pd.Series(values, dtype=object).where(is_text).str.strip()
        own = _days(pd.to_datetime(dates, utc=True, errors="coerce", format=form))
        result = np.where(np.isnan(own), result, own)
    return result


def _instant(value: Any) -> Any:
    """The value if it is a date and text if it begins as 2024-05-31 does: pandas takes "now" and
    "2024" too."""
    if isinstance(value, str):
        value = value.strip()
        return value if value[4:5] == value[7:8] == "-" else None
    return value if isinstance(value, (datetime.date, np.datetime64)) else None


def _categories(values: npt.NDArray[Any], column: Mapping[str, Any]) -> Floats:
    codes = {category: float(code) for code, category in enumerate(column["categories"])}
    return np.array([_code(value, codes) for value in values], dtype=np.float64)


def _code(value: Any, codes: Mapping[str, float]) -> float:
    if isinstance(value, str):
        return codes.get(value, codes.get(stripped(value), -1.0))
    if not isinstance(value, (numbers.Real, decimal.Decimal, np.bool_)) or value != value:
        return math.nan
    # A reader of tables may have made 3.0 of "3" and True of "true".
    text = str(float(value) if isinstance(value, decimal.Decimal) else value)
    return max(codes.get(form, -1.0) for form in (text, text.lower(), text.removesuffix(".0")))


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


def misfit(column: Mapping[str, Any], value: Any) -> str:
    """What was expected of the column, and the value that does not fit."""
    name, expected = column["name"], EXPECTED[column["kind"]]
    if column.get("format"):
        expected += f", here in the form {column['format']}"
    return f"column {name!r}: expected {expected}; got {short(value)}"


def _misfit(column: Mapping[str, Any], series: pd.Series, wrong: Mask) -> str:
    """Names the first value that did not fit."""
    position = int(wrong.argmax())
    value, row = series.iloc[position], series.index[position]
    found = f"{misfit(column, value)} ({type(value).__name__})"
    return f"{found} in row {row}{elsewhere(wrong)}"


def elsewhere(wrong: Mask) -> str:
    """In how many more rows than the first one that is named."""
    more = int(wrong.sum()) - 1
    return f", and in {more} more row{'s' * (more > 1)}" if more else ""


def short(value: Any) -> str:
    """A found value in at most 60 characters."""
    text = str(value) if isinstance(value, np.generic) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def listed(names: Sequence[Any], limit: int = 20) -> str:
    """The first of some names, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(repr(name) for name in names[:limit]) + more
