"""Parameters as text: MLflow's parameters are strings, and a resumed search needs the values."""

import json
from typing import Any

import numpy as np


def encode_param(value: Any) -> str:
    """A parameter as text that people read and `decode_param` turns back into the same value.

    JSON, except that a string stands as it is unless it would read as something else.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str) and decode_param(value) == value:
        return value
    return json.dumps(value, ensure_ascii=False)


def decode_param(text: str) -> Any:
    """The value of a parameter that `encode_param` wrote; lists come back as tuples."""
    try:
        return _tuples(json.loads(text))
    except ValueError:
        return text


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def lr_path(entry: int) -> str:
    """The dotted path of the learning rate of an optimizer entry, which is logged as `lr`."""
    return f"optimizers.{entry}.lr"
