"""A model's folder: `model.pt2`, a graph with its weights, and `schema.json` beside it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from .archive import ModelError
from .model import DEFAULT_THRESHOLD, TabularModel, is_threshold
from .program import read_program
from .rows import READERS, InputError

SCHEMA_VERSION = 1
PROGRAM_FILE = "model.pt2"
SCHEMA_FILE = "schema.json"


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
        module = read_program(file)
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


def _load_pyfunc(path: str) -> "Served":
    """What `mlflow.pyfunc.load_model` calls, with the model's folder."""
    return Served(load(path))


class Served:
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
            and column.get("kind") in READERS
            and (column["kind"] != "category" or isinstance(column.get("categories"), list))
            for column in columns
        )
        and len({column["name"] for column in columns}) == len(columns) > 0
        and isinstance(labels, list)
        and len(labels) > 1
        and is_threshold(schema.get("threshold", DEFAULT_THRESHOLD))
    )
    if not sound:
        raise ModelError(f"{source}: damaged: its columns or labels are not those of a schema")
