"""A model as it is used: raw rows of a table or of arrays in, labels and probabilities out.

It imports nothing of the project, since a copy of it is shipped in every model's folder (see
models/flavor.py). The folder holds `model.pt2`, an exported program that maps raw values
[rows, columns] float64, or arrays [rows, *shape], to probabilities [rows, labels] float32, and
`schema.json`, which says what the raw columns mean, or what shape and dtype the arrays have.

`load` reads a folder without running code that came with it; `mlflow.pyfunc.load_model` runs the
folder's copy of this package, and gives the same predictions."""

from .model import DEFAULT_THRESHOLD as DEFAULT_THRESHOLD
from .model import PROGRAM_FILE as PROGRAM_FILE
from .model import SCHEMA_FILE as SCHEMA_FILE
from .model import TabularModel as TabularModel
from .model import _load_pyfunc as _load_pyfunc
from .model import check_schema as check_schema
from .model import decide as decide
from .model import default_threshold as default_threshold
from .model import load as load
from .model import probability_names as probability_names
from .model import threshold_of as threshold_of
from .program import ModelError as ModelError
from .rows import InputError as InputError
from .tensors import ArrayReader as ArrayReader
