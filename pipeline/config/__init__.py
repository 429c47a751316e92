"""The configuration: from YAML to one frozen, checked `Config`.

Importing it loads pydantic and yaml and nothing heavier: a wrong file is answered at once."""

from pipeline.config.component import Component as Component
from pipeline.config.configuration import Config as Config
from pipeline.config.configuration import check as check
from pipeline.config.loading import from_mapping as from_mapping
from pipeline.config.loading import json_schema as json_schema
from pipeline.config.loading import load as load
from pipeline.config.loading import loads as loads
from pipeline.config.loading import schema_text as schema_text
from pipeline.config.loading import split_overrides as split_overrides
from pipeline.config.ranges import Choice as Choice
from pipeline.config.ranges import FloatRange as FloatRange
from pipeline.config.ranges import IntRange as IntRange
from pipeline.config.ranges import Range as Range
