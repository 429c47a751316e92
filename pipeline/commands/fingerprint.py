"""What makes two searches the same search."""

import hashlib
import json

from pipeline.config import Config
from pipeline.data.dataset import Parts

VERSION = 2
"""Raise it when the same configuration and rows come to mean other trials."""


def fingerprint(config: Config, parts: Parts) -> str:
    """16 hexadecimal digits over all that decides what a trial's number means.

    That is the rows, their reading and their split, the seed, the validation, the model, the
    training, the optimizers and how the search draws; not the number of trials, the final round,
    the names or the device.
    """
    content = config.to_plain() | {"version": VERSION}
    for key in ("data", "experiment", "registry", "tracking"):
        del content[key]
    del content["search"]["trials"]
    del content["validation"]["final"]
    del content["training"]["device"]
    content["rows"] = [parts.digests["train"], parts.digests["test"], parts.schema.to_dict()]
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
