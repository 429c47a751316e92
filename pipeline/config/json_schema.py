"""The rules of a configuration for editors that complete and check YAML."""

import json
from typing import Any


def tidy(schema: dict[str, Any]) -> dict[str, Any]:
    """pydantic's JSON Schema of a configuration, as draft 7 (which editors understand best),
    without what only repeats something else."""
    for section in schema["properties"].values():
        if "$ref" in section or "items" in section:
            section.pop("default", None)
    described = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Configuration of a search",
        "description": "Any leaf under model, training and optimizers is a value or a range.",
        **{key: value for key, value in schema.items() if key not in ("title", "description")},
    }
    return _share_ranges(described)


def _share_ranges(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with each form of leaf that stands in it several times written once."""
    names: dict[str, str] = {}
    shared: dict[str, Any] = {}

    def walk(value: Any) -> Any:
        if isinstance(value, list):
            return [walk(one) for one in value]
        if not isinstance(value, dict):
            return value
        value = {key: walk(one) for key, one in value.items()}
        if "properties" not in value:
            value.pop("title", None)  # pydantic's, which only repeats the key
        if "anyOf" not in value:
            return value
        forms = value.pop("anyOf")
        text = json.dumps(forms, sort_keys=True)
        if text not in names:
            names[text] = f"Leaf{len(names) + 1}"
            shared[names[text]] = {"anyOf": forms}
        return {"$ref": f"#/$defs/{names[text]}", **value}

    walked: dict[str, Any] = walk(schema)
    walked["$defs"] |= shared
    return walked
