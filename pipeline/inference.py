"""A model as it is used: raw rows of a table in, labels and probabilities out.

A copy of this file is shipped in every model's folder (see flavor.py), which is why it imports
nothing of the project. The folder holds `model.pt2`, an exported program that maps raw values
[rows, columns] float64 to probabilities [rows, labels] float32, and `schema.json`, which says what
the raw columns mean.

`load` reads a folder without running code that came with it; `mlflow.pyfunc.load_model` runs the
folder's copy of this file, and gives the same predictions.
"""

import datetime
import decimal
import io
import json
import math
import numbers
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

SCHEMA_VERSION = 1
PROGRAM_FILE = "model.pt2"
SCHEMA_FILE = "schema.json"
BATCH_ROWS = 16_384  # rows per pass through the module: bounds the memory of a large ensemble
DEFAULT_THRESHOLD = 0.5

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


class ModelError(Exception):
    """The folder is no model of this kind: a file is missing, damaged or of an unknown version."""


class InputError(ValueError):
    """The rows or the parameters do not fit the model; `problems` has a sentence for each fault."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


# --------------------------------------------------------------------------------------------------
# Rows of a table -> one float array


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
    columns = schema["columns"]
    names = [column["name"] for column in columns]
    if list(frame.columns) != names:
        frame = _select(frame, names)
    plain = [
        position
        for position, (column, dtype) in enumerate(zip(columns, frame.dtypes.array, strict=True))
        if column["kind"] == "number" and isinstance(dtype, np.dtype) and dtype.kind in "biuf"
    ]
    if len(plain) == len(columns):
        raw = np.array(frame.to_numpy(np.float64), order="C")
    else:
        raw = np.empty((len(frame), len(columns)))
        if plain:
            raw[:, plain] = frame.iloc[:, plain].to_numpy(np.float64)
        problems: list[str] = []
        for position in sorted(set(range(len(columns))).difference(plain)):
            try:
                raw[:, position] = _column(frame.iloc[:, position], columns[position])
            except InputError as error:
                problems.extend(error.problems)
        if problems:
            raise InputError(problems)
    raw[np.isinf(raw)] = np.nan
    return raw


def _select(frame: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    present = list(frame.columns)
    missing = [name for name in names if name not in frame.columns]
    if missing:
        raise InputError(
            [f"columns missing: {_listed(missing)}; the rows have: {_listed(present) or 'none'}"]
        )
    if not frame.columns.is_unique:
        repeated = [name for name in names if present.count(name) > 1]
        if repeated:
            raise InputError([f"columns given more than once: {_listed(repeated)}"])
    return frame[list(names)]


def _column(series: pd.Series, column: Mapping[str, Any]) -> Floats:
    """One column's raw values [rows]; InputError names the column and the first misfit."""
    kind = column["kind"]
    if kind != "category" and series.dtype == object:
        series = series.infer_objects()  # objects that are all floats become float64
    dtype = series.dtype
    if kind in ("number", "boolean") and _is_numeric(dtype):
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
    values, wrong = _READERS[kind](np.asarray(uniques, dtype=object), column)
    if wrong.any():
        raise _misfit(column, series, np.append(wrong, False)[codes])
    result: Floats = np.append(values, np.nan)[codes]
    return result


def _is_numeric(dtype: Any) -> bool:
    """Numbers and booleans of numpy, pandas and Arrow; not complex ones, not categories."""
    if isinstance(dtype, np.dtype):
        return dtype.kind in "biuf"
    return bool(pd.api.types.is_numeric_dtype(dtype) or pd.api.types.is_bool_dtype(dtype)) and not (
        isinstance(dtype, pd.CategoricalDtype)
    )


def _days(instants: pd.Series) -> Floats:
    """Days since 1970-01-01 UTC of a datetime series, NaN where missing."""
    utc = pd.to_datetime(instants, utc=True).dt.tz_localize(None).to_numpy()
    days: Floats = (utc - np.datetime64("1970-01-01")) / np.timedelta64(1, "D")
    return days


# Each reader takes a column's distinct, present values [distinct] and gives their raw values and
# which of them do not fit.


def _numbers(values: npt.NDArray[Any], column: Mapping[str, Any]) -> tuple[Floats, Mask]:
    number_like = (numbers.Real, decimal.Decimal, np.bool_, str)
    fits = np.array([isinstance(value, number_like) for value in values], dtype=bool)
    result = np.full(len(values), np.nan)
    result[fits] = pd.to_numeric(pd.Series(values[fits], dtype=object), errors="coerce")
    wrong = np.zeros(len(values), dtype=bool)
    for position in np.flatnonzero(np.isnan(result)):
        value = values[position]
        if (seconds := _seconds(value)) is not None:
            result[position] = seconds
        else:
            wrong[position] = not _blank(value)
    return result, wrong


def _seconds(value: Any) -> float | None:
    """A duration, or the time since midnight of a time of day such as 9:30 or 23:59:59.5."""
    if isinstance(value, (datetime.timedelta, np.timedelta64)):
        return float(pd.Timedelta(value).total_seconds())
    if not isinstance(value, (datetime.time, str)):
        return None
    if part := re.fullmatch(r"(\d{1,2}):([0-5]\d)(?::([0-5]\d(?:\.\d+)?))?", str(value).strip()):
        return int(part[1]) * 3600 + int(part[2]) * 60 + float(part[3] or 0)
    return None


def _booleans(values: npt.NDArray[Any], column: Mapping[str, Any]) -> tuple[Floats, Mask]:
    words = (
        ("0", "false", "no", "n", "f", "off", "0.0"),
        ("1", "true", "yes", "y", "t", "on", "1.0"),
    )
    meaning = {word: float(position) for position in (0, 1) for word in words[position]}
    result = np.array([meaning.get(str(value).strip().lower(), np.nan) for value in values])
    wrong = [math.isnan(x) and not _blank(v) for x, v in zip(result, values, strict=True)]
    return result, np.array(wrong, dtype=bool)


def _dates(values: npt.NDArray[Any], column: Mapping[str, Any]) -> tuple[Floats, Mask]:
    date_like = (datetime.date, np.datetime64, str)
    fits = np.array([isinstance(value, date_like) for value in values], dtype=bool)
    result = np.full(len(values), np.nan)
    instants = pd.Series(values[fits], dtype=object)
    result[fits] = _days(pd.to_datetime(instants, utc=True, errors="coerce", format="ISO8601"))
    wrong = ~fits
    for position in np.flatnonzero(np.isnan(result) & fits):
        wrong[position] = not _blank(values[position])
    return result, wrong


def _categories(values: npt.NDArray[Any], column: Mapping[str, Any]) -> tuple[Floats, Mask]:
    codes = {category: code for code, category in enumerate(column["categories"])}
    known = pd.Index(column["categories"], dtype=object)
    result = known.get_indexer(pd.Index(values, dtype=object)).astype(np.float64)
    wrong = np.zeros(len(values), dtype=bool)
    for position in np.flatnonzero(result < 0):
        value = values[position]
        if isinstance(value, str):
            result[position] = -1.0 if value else np.nan
            continue
        if not isinstance(value, (numbers.Real, decimal.Decimal, np.bool_)):
            wrong[position] = True
            continue
        # A reader of tables may have made 3.0 of "3" and True of "true".
        forms = (str(value), str(value).lower(), str(value).removesuffix(".0"))
        result[position] = max(codes.get(form, -1) for form in forms)
    return result, wrong


_READERS: dict[str, Callable[[npt.NDArray[Any], Mapping[str, Any]], tuple[Floats, Mask]]] = {
    "number": _numbers,
    "boolean": _booleans,
    "date": _dates,
    "category": _categories,
}
_EXPECTED = {
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
    others = f", and in {more} more row{'s' * (more > 1)}" if more else ""
    return InputError(
        [
            f"column {column['name']!r}: expected {_EXPECTED[column['kind']]}; "
            f"got {_short(value)} ({type(value).__name__}) in row {series.index[position]}{others}"
        ]
    )


def _short(value: Any) -> str:
    text = str(value) if isinstance(value, np.generic) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _listed(names: Sequence[Any], limit: int = 20) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(repr(name) for name in names[:limit]) + more


# --------------------------------------------------------------------------------------------------
# Predicting


class TabularModel:
    """Predictions for rows of a table.

    `module` maps raw [rows, columns] float64 to probabilities [rows, labels]; `schema` is the
    dictionary of schema.json.
    """

    def __init__(self, module: Callable[[torch.Tensor], torch.Tensor], schema: Mapping[str, Any]):
        self.module = module
        self.schema = schema
        self._labels = pd.Series(schema["labels"]).array

    def predict(self, rows: Any, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """A frame with one row for each given row, under the same index.

        `rows` is a DataFrame with a column for each one of the schema, in any order; or a
        dictionary of columns (or of one row's values), or a list of dictionaries.

        Two labels: `prediction` and `probability`, that of `labels[1]`, float32 in [0, 1]; the
        prediction is `labels[1]` where the probability is above `params["threshold"]` (in [0, 1],
        default: the schema's `threshold`, else 0.5). More labels: the likeliest one and
        `probability_LABEL` for each, in the schema's order.

        Raises InputError for rows or parameters that do not fit.
        """
        frame = _as_frame(rows, [column["name"] for column in self.schema["columns"]])
        binary = len(self._labels) == 2
        threshold = _threshold(params, binary, self.schema.get("threshold", DEFAULT_THRESHOLD))
        probabilities = self.probabilities(frame)
        if binary:
            ids = (probabilities[:, 1].astype(np.float64) > threshold).astype(np.intp)
            columns = {"probability": probabilities[:, 1]}
        else:
            ids = probabilities.argmax(axis=1)
            columns = {
                name: probabilities[:, position]
                for position, name in enumerate(probability_names(self.schema["labels"]))
            }
        return pd.DataFrame({"prediction": self._labels.take(ids), **columns}, index=frame.index)

    def probabilities(self, frame: pd.DataFrame) -> npt.NDArray[np.float32]:
        """Probabilities [rows, labels] float32 of a frame's rows."""
        raw = torch.from_numpy(to_raw(frame, self.schema))
        if len(raw) == 0:
            return np.empty((0, len(self._labels)), dtype=np.float32)
        with torch.inference_mode():
            parts = [self.module(part) for part in torch.split(raw, BATCH_ROWS)]
            return (parts[0] if len(parts) == 1 else torch.cat(parts)).numpy()


def _as_frame(rows: Any, names: Sequence[str]) -> pd.DataFrame:
    if isinstance(rows, pd.DataFrame):
        # MLflow makes one row of lists out of a dictionary whose columns are all text.
        if len(rows) == 1 and len(rows.columns) and isinstance(rows.iat[0, 0], list):
            return _as_frame({name: rows[name].iat[0] for name in rows.columns}, names)
        return rows
    try:
        if isinstance(rows, Mapping):
            one_row = all(np.ndim(value) == 0 for value in rows.values())
            return pd.DataFrame([rows] if one_row else dict(rows))
        if isinstance(rows, list) and all(isinstance(row, Mapping) for row in rows):
            return pd.DataFrame(rows) if rows else pd.DataFrame(columns=list(names))
    except (TypeError, ValueError) as error:
        raise InputError([f"the rows do not make a table: {error}"]) from error
    raise InputError(
        [
            "rows must be a pandas DataFrame, a dictionary of columns or a list of dictionaries; "
            f"got {type(rows).__name__}"
        ]
    )


def _threshold(params: Mapping[str, Any] | None, binary: bool, default: float) -> float:
    given = dict(params or {})
    value = given.pop("threshold", None) if binary else None
    if given:
        known = "threshold" if binary else "none, for a model with more than two labels"
        raise InputError([f"unknown parameters: {_listed(sorted(given))}; known: {known}"])
    if value is None:
        return default
    numeric = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not numeric or not 0 <= float(value) <= 1:
        raise InputError([f"threshold must be a number from 0 to 1; got {_short(value)}"])
    return float(value)


def probability_names(labels: Sequence[Any]) -> list[str]:
    """The columns of a prediction that hold probabilities, in order."""
    return ["probability"] if len(labels) == 2 else [f"probability_{label}" for label in labels]


# --------------------------------------------------------------------------------------------------
# Loading


def load(path: str | Path) -> TabularModel:
    """The model of a local folder. No code of the folder runs and nothing is unpickled freely.

    Raises ModelError when a file is missing, damaged or of a version that this code does not know.
    """
    folder = Path(path)
    schema = _read_schema(folder / SCHEMA_FILE)
    file = folder / PROGRAM_FILE
    if not file.is_file():
        raise ModelError(f"{folder}: no {PROGRAM_FILE}; not the folder of a model, or damaged")
    try:
        module = torch.export.load(_checked_archive(file)).module()
        with torch.inference_mode():
            blank = torch.full((1, len(schema["columns"])), float("nan"), dtype=torch.float64)
            shape = tuple(module(blank).shape)
    except ModelError:
        raise
    except Exception as error:
        # torch has no one class of error for an archive that it cannot read
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{file}: damaged, or made for another schema: {reason}") from error
    if shape != (1, len(schema["labels"])):
        raise ModelError(
            f"{file}: the program gives {shape[-1]} probabilities, "
            f"but {SCHEMA_FILE} has {len(schema['labels'])} labels"
        )
    return TabularModel(module, schema)


def _load_pyfunc(path: str) -> "_Served":
    """What `mlflow.pyfunc.load_model` calls, with the model's folder."""
    return _Served(load(path))


class _Served:
    """A TabularModel for MLflow: bad input becomes MLflow's error for it, HTTP status 400."""

    def __init__(self, model: TabularModel) -> None:
        self._model = model

    def predict(self, rows: Any, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        from mlflow.exceptions import MlflowException

        try:
            return self._model.predict(rows, params)
        except InputError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error

    def get_raw_model(self) -> TabularModel:
        return self._model


def _read_schema(file: Path) -> dict[str, Any]:
    try:
        schema = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{file}: missing; not the folder of a model, or damaged") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{file}: cannot be read: {error}") from error
    check_schema(schema, str(file))
    return dict(schema)


def check_schema(schema: Any, source: str) -> None:
    """ModelError unless `schema` is what schema.json holds; `source` names it in the message."""
    if not isinstance(schema, dict) or "version" not in schema:
        raise ModelError(f"{source}: not a schema: it has no version")
    if schema["version"] != SCHEMA_VERSION:
        raise ModelError(
            f"{source}: schema version {schema['version']!r} is unknown; this code reads version "
            f"{SCHEMA_VERSION}; load the model with the release of this project that wrote it"
        )
    columns, labels = schema.get("columns"), schema.get("labels")
    sound = (
        isinstance(columns, list)
        and all(
            isinstance(column, dict)
            and isinstance(column.get("name"), str)
            and column.get("kind") in _READERS
            and (column["kind"] != "category" or isinstance(column.get("categories"), list))
            for column in columns
        )
        and len({column["name"] for column in columns}) == len(columns) > 0
        and isinstance(labels, list)
        and len(labels) > 1
        and isinstance(schema.get("threshold", DEFAULT_THRESHOLD), float)
    )
    if not sound:
        raise ModelError(f"{source}: damaged: its columns or labels are not those of a schema")


_RECORDS = re.compile(
    r"models/model\.json|data/(weights|constants)/model_\w+_config\.json|data/weights/weight_\d+"
    r"|data/constants/tensor_\d+|data/sample_inputs/model\.pt|(\.data/|data/)?[a-z_]+"
)
_OPERATIONS = (
    "__and__|__or__|_assert_tensor_metadata|abs|add|addmm|alias|argmax|baddbmm|bitwise_and|"
    "bitwise_not|bitwise_or|bmm|cat|clamp|clamp_max|clamp_min|clone|contiguous|div|elu|eq|erf|"
    "exp|expand|flatten|full_like|gather|ge|gelu|gt|index_select|isfinite|isinf|isnan|le|"
    "leaky_relu|linear|log|log_softmax|logical_and|logical_not|logical_or|lt|masked_fill|"
    "matmul|maximum|mean|minimum|mm|movedim|mul|nan_to_num|ne|neg|ones_like|permute|pow|"
    "reciprocal|relu|repeat|reshape|rsqrt|rsub|select|sigmoid|silu|slice|softmax|softplus|"
    "split|sqrt|squeeze|stack|sub|sum|t|tanh|to|transpose|unbind|unsqueeze|view|where|"
    "zeros_like"
)
"""Functions of tensors that a program may call: none reads a file or runs anything else."""

_WORD = re.compile(r"[\w.+]*", re.ASCII)
_TEXTS = {
    # torch evaluates this as Python
    "expr_str": re.compile(
        r"(Symbol\('s\d+', positive=True, integer=True\)|(Mul|Add)\(|Integer\(\d+\)|, |\))+"
    ),
    "target": re.compile(rf"torch\.ops\.aten\.({_OPERATIONS})\.\w+", re.ASCII),
    # nested tuples, lists and dictionaries without keys
    "in_spec": re.compile(
        r'([\[\]{}0-9:, ]|null|"(type|context|children_spec|null|\[\])"'
        r'|"builtins\.(tuple|list|dict)")+'
    ),
}
_TEXTS["out_spec"] = _TEXTS["in_spec"]
_FORBIDDEN = {"as_custom_obj", "as_graph", "as_operator", "class_fqn", "guards_code"}


def _checked_archive(file: Path) -> io.BytesIO:
    """A copy of a .pt2 archive that torch.export.load can read without running code that is in it.

    Of a file from anywhere torch would run pickles, evaluate the texts of shapes and guards, call
    any function of torch by its name and make Python code out of names. So weights and constants
    must be plain bytes, every call one of `_OPERATIONS` and every name a name; the example inputs
    and the notes on where the graph came from are left out. Nor does torch compare checksums.
    """
    checked = io.BytesIO()
    with zipfile.ZipFile(file) as archive, zipfile.ZipFile(checked, "w") as copy:
        if len(set(archive.namelist())) != len(archive.namelist()):
            raise ModelError(f"{file}: damaged: a record is there twice")
        for entry in archive.infolist():
            record = entry.filename.partition("/")[2]
            if not _RECORDS.fullmatch(record) or entry.compress_type != zipfile.ZIP_STORED:
                raise ModelError(
                    f"{file}: the record {record!r} is none of a graph with plain tensors"
                )
            try:
                content = archive.read(entry)
            except zipfile.BadZipFile:
                raise ModelError(
                    f"{file}: damaged: the record {record!r} fails its checksum"
                ) from None
            if record.startswith("data/sample_inputs/"):
                content = b""
            elif record.endswith(".json"):
                content = json.dumps(_checked_json(json.loads(content), record)).encode()
            copy.writestr(zipfile.ZipInfo(entry.filename), content)
    checked.seek(0)
    return checked


def _checked_json(value: Any, key: str) -> Any:
    """The value, which stands under `key`, without metadata. Raises ModelError."""
    if isinstance(value, list):
        return [_checked_json(one, key) for one in value]
    if isinstance(value, dict):
        for name, below in value.items():
            refused = (name in _FORBIDDEN and below) or (
                name == "use_pickle" and below is not False
            )
            if refused or not _WORD.fullmatch(name):
                raise ModelError(f"the program's {_short(name)} is none of a graph of tensors")
        return {
            name: {} if name == "metadata" else _checked_json(below, name)
            for name, below in value.items()
        }
    if isinstance(value, str) and not _TEXTS.get(key, _WORD).fullmatch(value):
        raise ModelError(f"the program's {key} {_short(value)} is none of a graph of tensors")
    return value
