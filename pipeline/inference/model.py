"""A model: its folder, `model.pt2` with `schema.json` beside it, and its predictions for rows."""

import json
import numbers
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from .program import ModelError, read_program
from .rows import READERS, InputError, Reader, listed, short
from .tensors import ArrayReader, is_inputs

PROGRAM_FILE = "model.pt2"
SCHEMA_FILE = "schema.json"
SCHEMA_VERSION = 1
DEFAULT_THRESHOLD = 0.5

BATCH_ROWS = 2_048
"""Rows per pass through the module: what a pass needs stays in the processor's cache."""
BATCH_NUMBERS = 2**21
"""Of large rows fewer: so many numbers at most, or one row."""


class TabularModel:
    """Predictions for rows of a table, or of arrays.

    `module` maps raw rows, as `reader` gives them, to probabilities [rows, labels] float32;
    `schema` is the dictionary of schema.json."""

    def __init__(self, module: Callable[[torch.Tensor], torch.Tensor], schema: Mapping[str, Any]):
        self.module = module
        self.schema = schema
        self.reader: Reader | ArrayReader = (
            ArrayReader(schema["inputs"]) if "inputs" in schema else Reader(schema)
        )
        self._labels = pd.Series(schema["labels"]).array
        self._names = probability_names(schema["labels"])

    def predict(self, rows: Any, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """A frame with one row for each given row, under the same index.

        `rows` of a table is a DataFrame with a column for each one of the schema, in any order; or
        a dictionary of columns, or a list of dictionaries. Of arrays it is
        an array of NumPy or torch or nested lists, [rows, *shape].

        Two labels: `prediction` and `probability`, that of `labels[1]`, float32 in [0, 1]; the
        prediction is `labels[1]` where the probability is above `params["threshold"]` (in [0, 1],
        default: the schema's, 0.5 where it has none). More labels: the likeliest one and
        `probability_LABEL` for each, in the schema's order.

        Raises InputError for rows or parameters that do not fit."""
        threshold = threshold_of(params, self.schema)
        raw, index = self.reader.read(rows)
        probabilities = self.scores(raw)
        shown = probabilities[:, 1:] if len(self._labels) == 2 else probabilities
        columns = {name: shown[:, position] for position, name in enumerate(self._names)}
        prediction = self._labels.take(decide(probabilities, threshold))
        return pd.DataFrame({"prediction": prediction, **columns}, index=index)

    def probabilities(self, rows: Any) -> npt.NDArray[np.float32]:
        """Probabilities [rows, labels] float32 of rows as `predict` takes them."""
        return self.scores(self.reader.read(rows)[0])

    def scores(self, raw: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Probabilities [rows, labels] float32 of raw rows, as `reader` gives them."""
        if len(raw) == 0:
            return np.empty((0, len(self._labels)), dtype=np.float32)
        at_once = max(1, min(BATCH_ROWS, BATCH_NUMBERS // max(1, raw[0].size)))
        with torch.inference_mode():
            scores = [self.module(batch) for batch in torch.split(torch.from_numpy(raw), at_once)]
            return (scores[0] if len(scores) == 1 else torch.cat(scores)).numpy()


def decide(probabilities: npt.NDArray[Any], threshold: float) -> npt.NDArray[np.intp]:
    """The position [rows] of each row's label, from probabilities [rows, labels].

    Two labels: the second one where its probability is above the threshold. More: the likeliest."""
    if probabilities.shape[1] != 2:
        return np.asarray(probabilities.argmax(axis=1))
    return (probabilities[:, 1].astype(np.float64) > threshold).astype(np.intp)


def default_threshold(schema: Mapping[str, Any]) -> float:
    """The threshold of a schema with two labels: its key `threshold`, else 0.5."""
    return float(schema.get("threshold", DEFAULT_THRESHOLD))


def probability_names(labels: Sequence[Any]) -> list[str]:
    """The columns of a prediction that hold probabilities, in order."""
    return ["probability"] if len(labels) == 2 else [f"probability_{label}" for label in labels]


def threshold_of(params: Mapping[str, Any] | None, schema: Mapping[str, Any]) -> float:
    """The threshold that `params` ask for, or the schema's; InputError for others than that."""
    known = ["threshold"] if len(schema["labels"]) == 2 else []
    if unknown := set(params or {}) - set(known):
        allowed = ", ".join(known) or "none, for a model with more than two labels"
        raise InputError(f"unknown parameters: {listed(sorted(unknown))}; known: {allowed}")
    value = (params or {}).get("threshold")
    if value is None:
        return default_threshold(schema)
    if not _is_threshold(value):
        raise InputError(f"threshold must be a number from 0 to 1; got {short(value)}")
    return float(value)


def _is_threshold(value: Any) -> bool:
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return is_number and 0 <= float(value) <= 1


def load(path: str | Path) -> TabularModel:
    """The model of a local folder. No code of the folder runs and nothing is unpickled freely.
    Raises ModelError when a file is missing, damaged or of a version that this code does not
    know."""
    folder = Path(path)
    schema = _read_schema(folder / SCHEMA_FILE)
    file = folder / PROGRAM_FILE
    if not file.is_file():
        raise ModelError(f"{folder}: no {PROGRAM_FILE}; not the folder of a model, or damaged")
    try:
        module = read_program(file)
        with torch.inference_mode():
            shape = tuple(module(_blank(schema)).shape)
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


def _blank(schema: Mapping[str, Any]) -> torch.Tensor:
    """One raw row: of a table all is missing, of arrays all is zero."""
    if "inputs" not in schema:
        return torch.full((1, len(schema["columns"])), float("nan"), dtype=torch.float64)
    inputs = schema["inputs"]
    return torch.zeros((1, *inputs["shape"]), dtype=getattr(torch, inputs["dtype"]))


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
        and all(map(_is_column, columns))
        and len({column["name"] for column in columns}) == len(columns)
        and (is_inputs(schema["inputs"]) if "inputs" in schema else len(columns) > 0)
        and isinstance(labels, list)
        and len(labels) > 1
        and _is_threshold(schema.get("threshold", DEFAULT_THRESHOLD))
    )
    if not sound:
        raise ModelError(f"{source}: damaged: its columns, inputs or labels are none of a schema")


def _is_column(content: Any) -> bool:
    return (
        isinstance(content, dict)
        and isinstance(content.get("name"), str)
        and str(content.get("kind")) in READERS
        and (content["kind"] != "category" or isinstance(content.get("categories"), list))
    )
