"""A file, with settings from the command line put over it, to a `Config`; and what a file may hold.

Every problem is reported at once, with its path and its line."""

import inspect
import json
import os
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.common.errors import UserError, collecting
from pipeline.common.files import nearest_file
from pipeline.common.text import few, shorten
from pipeline.config.component import (
    LOSSES,
    METRICS,
    OPTIMIZERS,
    SCHEDULES,
    Family,
    path_reader,
    reader,
)
from pipeline.config.configuration import DEFAULT_OPTIMIZERS, Config, check
from pipeline.config.ranges import plain, rewritten
from pipeline.config.yaml_text import (
    LARGEST_DEPTH,
    TOO_DEEP,
    Places,
    decode,
    flow_text,
    nearest,
    parse,
    show,
)

# A file that is something else altogether has thousands.
MOST_PROBLEMS = 100


Overrides = Sequence[str] | Mapping[str, Any]
"""`a.b=value`, the value in YAML, or values by their dotted paths."""


def load(path: str | Path, overrides: Overrides = ()) -> Config:
    """The configuration in a file, with `overrides` put over it. Raises `UserError` with every
    problem: `x.yaml:12: training.epochs: must be ...`."""
    path = Path(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file{nearest_file(path)}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    return loads(content, str(path), overrides)


def loads(content: str | bytes, name: str, overrides: Overrides = ()) -> Config:
    """As `load`, of what stands in a file; `name` is what messages call it."""
    text = content if isinstance(content, str) else decode(content, name)
    problems: list[str] = []
    root, places = parse(text, lambda line: f"{name}:{line}", problems)
    if not isinstance(root, dict):
        where = places.get((), name)
        raise UserError(f"{where}: must be a mapping of keys to values; got {show(root)}")
    return _config(root, places, overrides, problems)


def from_mapping(mapping: Mapping[str, Any], overrides: Overrides = ()) -> Config:
    """As `load`, of dicts, lists and scalars in the form of the file."""
    return _config(_value(mapping), {}, overrides, [])


def _config(root: Any, places: Places, overrides: Overrides, problems: list[str]) -> Config:
    for override in overrides.items() if isinstance(overrides, Mapping) else overrides:
        _apply_override(root, places, override, problems)
    with collecting(problems):
        config = check(root, lambda keys: _start(nearest(places, keys)))
    if problems:
        raise UserError(few(sorted(problems, key=_line), MOST_PROBLEMS))
    return config


def _value(value: Any, *way: str) -> Any:
    """A value of Python as one of YAML. Raises `UserError`: YAML has nothing like it."""
    path = ".".join(way)
    if len(way) > LARGEST_DEPTH:
        raise UserError(f"{path}: {TOO_DEEP}")
    value = os.fspath(value) if isinstance(value, os.PathLike) else plain(value)
    if isinstance(value, Mapping):
        texts = {k if isinstance(k, str) else flow_text(k): child for k, child in value.items()}
        return {key: _value(child, *way, key) for key, child in texts.items()}
    if isinstance(value, list):
        return [_value(child, *way, str(index)) for index, child in enumerate(value)]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if inspect.isclass(value) or inspect.isfunction(value):
        return _path_of(value, path)
    kinds = "text, a number, true, false, null, a list or a mapping"
    raise UserError(f"{path}: must be {kinds}; got {type(value).__name__}")


def _path_of(made: Any, key: str) -> str:
    """The path of a class or a function that Python gives in place of it."""
    module, name = str(made.__module__), str(made.__qualname__)
    if module == "__main__" or "<" in name:
        raise UserError(f"{key}: {name} must be in a file that can be imported: FILE.py:NAME")
    if module.startswith(("torch.", "torchmetrics.")):
        return name
    # Of a file on its own as YAML has it.
    return f"{module}.{name}" if "." in module else f"{inspect.getfile(made)}:{name}"


def _start(where: str) -> str:
    """What a message begins with; what Python gives has no place to name."""
    return f"{where}: " if where else ""


def _line(problem: str) -> float:
    """The line that a problem names; overrides come last."""
    line = problem.split(": ", 1)[0].rpartition(":")[2]
    return int(line) if line.isascii() and line.isdigit() else float("inf")


def split_overrides(text: str) -> list[str]:
    """`a.b=1 c=[2, 3]` -> its parts: each goes up to the next key."""
    return re.split(r"\s+(?=[\w.-]+\s*=)", text.strip()) if text.strip() else []


def _apply_override(
    root: Any, places: Places, override: str | tuple[str, Any], problems: list[str]
) -> None:
    """Put an override over the values; what is wrong with it goes to `problems`."""
    if isinstance(override, str):
        where = f"--set {shorten(override, 80)}"
        key, is_there, value = override.partition("=")
    else:
        where, (key, value), is_there = "", override, "="
    way = str(key).strip().split(".")
    if not is_there or not all(way) or len(way) > LARGEST_DEPTH:
        rule = "must be KEY=VALUE with a dotted path, such as training.epochs=20"
        problems.append(f"{where or show(str(key))}: {rule}")
        return
    with collecting(problems):
        if isinstance(override, str):
            value, _ = parse(value, lambda line: where, problems)
        else:
            value = _value(value, str(key))
        _put(root, places, way, value, where)


def _put(root: Any, places: Places, way: Sequence[str], value: Any, where: str) -> None:
    """Put a value at the end of a way, and where it stands."""
    place: Any = {"": root}
    keys: tuple[str | int, ...] = ()
    last: str | int = ""
    for number, name in enumerate(way):
        path, below = ".".join(way[:number]), ".".join(way[: number + 1])
        if place[last] is None:
            place[last] = {}
        place, last = place[last], name
        if isinstance(place, list):
            if name not in map(str, range(len(place))):
                entries = f"0 to {len(place) - 1}" if place else "none: it is empty"
                raise UserError(
                    f"{_start(where)}{path}: has the entries {entries}; got {show(name)}"
                )
            last = int(name)
        elif not isinstance(place, dict):
            raise UserError(
                f"{_start(where)}{below}: {path} is {show(place)}, so it has no {name!r}"
            )
        keys = (*keys, last)
        if isinstance(place, dict) and last not in place:  # what is left out can be reached into
            place[last] = _value(DEFAULT_OPTIMIZERS) if below == "optimizers" else {}
            places[keys] = where
    place[last] = value
    for stale in [each for each in places if each[: len(keys)] == keys]:
        del places[stale]
    places[keys] = where


def json_schema() -> dict[str, Any]:
    """What a file may hold, as JSON Schema (draft 7, which editors understand best)."""
    schema = Config.model_json_schema()
    definitions = schema["$defs"]
    schema["properties"]["optimizers"] |= {
        "items": _entries(OPTIMIZERS, definitions),
        "minItems": 1,
    }
    several = {"type": "array", "items": {"$ref": "#/$defs/OneSchedule"}, "minItems": 1}
    definitions["OneSchedule"] = _entries(SCHEDULES, definitions)
    definitions["Metric"] = _entries(METRICS, definitions)
    definitions["Schedule"] = {"anyOf": [{"type": "null"}, several["items"], several]}
    definitions["Training"]["properties"]["loss"] |= _entries(LOSSES, definitions)
    for section in schema["properties"].values():
        if "$ref" in section or "items" in section:
            section.pop("default", None)
    own = path_reader(None, ()).json_schema() | {"additionalProperties": True}
    schema["properties"]["model"] = {"anyOf": [schema["properties"]["model"], own]}
    shared: dict[str, Any] = {}
    schema = rewritten(schema, partial(_tidy, shared))
    schema["$defs"] |= dict(shared.values())
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        **schema,
        "title": "Configuration of a search",
        "description": "Any leaf under model, training and optimizers is a value or a range.",
    }


def _entries(family: Family, definitions: dict[str, Any]) -> dict[str, Any]:
    """The forms of an entry: each class of torch, a path, and, but for optimizers, a text alone."""
    entries = [reader(family, name).json_schema() for name in family.names]
    entries.append(path_reader(family, ()).json_schema() | {"additionalProperties": True})
    for entry in entries:
        definitions |= entry.pop("$defs", {})
    words = ["auto", *family.names] if family is LOSSES else [*family.names]
    texts: list[Any] = [{"enum": words}, entries[-1]["properties"]["name"]]
    return {"oneOf": entries + (texts if family is not OPTIMIZERS else [])}


def schema_text() -> str:
    """`json_schema()` as the text of a file."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def _tidy(shared: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """A part of pydantic's JSON Schema as draft 7 has it; what a leaf may be is put into `shared`,
    where it stands once for all leaves of its form."""
    if "properties" not in schema and isinstance(schema.get("title"), str):
        del schema["title"]  # pydantic's, which only repeats the key
    if isinstance(schema.get("definition"), str):
        schema = {"$ref": f"#/$defs/{schema.pop('definition')}", **schema}
    if "prefixItems" in schema:
        schema["items"] = schema.pop("prefixItems")
    for kind in {"anyOf", "oneOf"} & schema.keys():
        forms = {kind: schema.pop(kind)}
        name, _ = shared.setdefault(json.dumps(forms), (f"Leaf{len(shared) + 1}", forms))
        schema = {"$ref": f"#/$defs/{name}", **schema}
    return schema
