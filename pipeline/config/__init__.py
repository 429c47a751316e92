"""The configuration: from YAML to one frozen, checked `Config`.

Importing it loads pydantic and yaml and nothing heavier: a wrong file is answered at once.
"""

from pipeline.config.component import Optimizer
from pipeline.config.configuration import Config, check, json_schema, load, loads, schema_text
from pipeline.config.overrides import split_overrides
from pipeline.config.ranges import Choice, FloatRange, IntRange, Range
from pipeline.config.sections import (
    ACTIVATIONS,
    Data,
    Final,
    Model,
    Registry,
    Search,
    Tracking,
    Training,
    Validation,
    model_name,
)

__all__ = [
    "ACTIVATIONS",
    "Choice",
    "Config",
    "Data",
    "Final",
    "FloatRange",
    "IntRange",
    "Model",
    "Optimizer",
    "Range",
    "Registry",
    "Search",
    "Tracking",
    "Training",
    "Validation",
    "check",
    "json_schema",
    "load",
    "loads",
    "model_name",
    "schema_text",
    "split_overrides",
]
