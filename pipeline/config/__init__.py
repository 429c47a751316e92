"""The configuration: from YAML to one frozen, checked `Config`.

Importing it loads pydantic and yaml and nothing heavier: a wrong file is answered at once.
"""

from pipeline.config.component import Component
from pipeline.config.configuration import Config, check
from pipeline.config.loading import json_schema, load, loads, schema_text, split_overrides
from pipeline.config.ranges import Choice, FloatRange, IntRange, Range
from pipeline.config.sections import model_name

__all__ = [
    "Choice",
    "Component",
    "Config",
    "FloatRange",
    "IntRange",
    "Range",
    "check",
    "json_schema",
    "load",
    "loads",
    "model_name",
    "schema_text",
    "split_overrides",
]
