"""A model as it is used: raw rows of a table in, labels and probabilities out.

A copy of this package is shipped in every model's folder (see flavor.py), which is why it imports
nothing of the project. The folder holds `model.pt2`, an exported program that maps raw values
[rows, columns] float64 to probabilities [rows, labels] float32, and `schema.json`, which says what
the raw columns mean.

`load` reads a folder without running code that came with it; `mlflow.pyfunc.load_model` runs the
folder's copy of this package, and gives the same predictions.
"""

from .archive import ModelError
from .folder import PROGRAM_FILE, SCHEMA_FILE, _load_pyfunc, check_schema, load
from .model import (
    DEFAULT_THRESHOLD,
    TabularModel,
    decide,
    default_threshold,
    probability_names,
    threshold_of,
)
from .rows import InputError, to_raw

__all__ = [
    "DEFAULT_THRESHOLD",
    "PROGRAM_FILE",
    "SCHEMA_FILE",
    "InputError",
    "ModelError",
    "TabularModel",
    "_load_pyfunc",
    "check_schema",
    "decide",
    "default_threshold",
    "load",
    "probability_names",
    "threshold_of",
    "to_raw",
]
