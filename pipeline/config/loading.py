"""A file, with settings from the command line put over it, to a `Config`; and what a file may hold.

Every problem is reported at once, with its path and its line.
"""

import json
import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.common.errors import UserError, nearest
from pipeline.common.text import few, shorten
from pipeline.config.component import entry_reader, optimizer_names
from pipeline.config.configuration import DEFAULT_OPTIMIZERS, Config, Names, check
from pipeline.config.ranges import plain, rewritten
from pipeline.config.sections import Model
from pipeline.config.yaml_text import (
    LARGEST_DEPTH,
    Node,
    collection,
    decode,
    flow_text,
    parse,
    show,
)

# A file that is something else altogether has thousands.
MOST_PROBLEMS = 100


def load(path: str | Path, overrides: Sequence[str] = (), names: Names | None = None) -> Config:
    """The configuration in a file, with `overrides` (`a.b=value`, the value in YAML) put over it.

    `names`: the words that may stand at a dotted path such as `model.activation`; without it any
    word may. Raises `UserError` with every problem: `x.yaml:12: training.epochs: must be ...`.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file{_nearest_file(path)}") from None
    except IsADirectoryError:
        raise UserError(f"{path}: must be a YAML file; got a folder") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    return loads(content, str(path), overrides, names)


def loads(
    content: str | bytes, name: str, overrides: Sequence[str] = (), names: Names | None = None
) -> Config:
    """As `load`, of what stands in a file; `name` is what messages call it."""
    text = content if isinstance(content, str) else decode(content, name)
    problems: list[str] = []
    root = parse(text, lambda line: f"{name}:{line}", problems)
    if root is None or root.value is None:
        raise UserError(f"{name}: is empty; data.source and data.target must be given at least")
    if not isinstance(root.value, dict):
        shown = show(root.plain())
        raise UserError(f"{root.where}: must be a mapping of keys to values; got {shown}")
    for override in overrides:
        root = _apply_override(root, override, problems)
    try:
        config = check(root.plain(), names, lambda keys: f"{root.nearest(keys).where}: ")
        if not problems:
            return config
    except UserError as error:
        problems.extend(error.problems)
    raise UserError(few(sorted(problems, key=_line), MOST_PROBLEMS))


def _line(problem: str) -> float:
    """The line that a problem names; overrides come last."""
    line = problem.split(": ", 1)[0].rpartition(":")[2]
    return int(line) if line.isascii() and line.isdigit() else float("inf")


def _nearest_file(path: Path) -> str:
    try:
        siblings = [sibling.name for sibling in path.parent.iterdir() if sibling.is_file()]
    except OSError:
        return f"; there is no folder {path.parent} either"
    preferred = [name for name in siblings if name.endswith((".yaml", ".yml"))]
    meant = nearest(path.name, preferred) or nearest(path.name, siblings)
    return f"; did you mean {str(path.with_name(meant))!r}?" if meant else ""


def split_overrides(text: str) -> list[str]:
    """`a.b=1 c.d=2` -> its parts, as a shell splits them; a blank within brackets doesn't part.

    Raises `UserError` when a quote is not closed.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UserError(f"set: must be KEY=VALUE parts; got {show(text)}: {error}") from None
    parts: list[str] = []
    open_brackets = 0
    for word in words:
        if open_brackets > 0:
            parts[-1] += " " + word
        else:
            parts.append(word)
            open_brackets = 0
        open_brackets += sum(map(word.count, "[{")) - sum(map(word.count, "]}"))
    return parts


def _apply_override(root: Node, override: str, problems: list[str]) -> Node:
    """The file's nodes with `a.b=value` put over them; what is wrong with it goes to `problems`."""
    where = f"--set {shorten(override, 80)}"
    key, equals, text = override.partition("=")
    way = key.strip().split(".")
    if not equals or not all(way) or len(way) > LARGEST_DEPTH:
        form = "KEY=VALUE with a dotted path, such as training.epochs=20"
        problems.append(f"{where}: must be {form}")
        return root
    try:
        value = parse(text, lambda line: where, problems)
        return _put(root, way, value or Node(None, where), where, "")
    except UserError as error:
        problems.extend(error.problems)
        return root


def _put(node: Node, way: Sequence[str], value: Node, where: str, path: str) -> Node:
    if not way:
        return value
    first, rest = way[0], way[1:]
    below = f"{path}.{first}" if path else first
    children = {} if node.value is None else node.value
    if isinstance(children, dict):
        child = children.get(first) or _default_at(below, where)
        return collection(children | {first: _put(child, rest, value, where, below)}, node.where)
    if isinstance(children, tuple):
        if first not in map(str, range(len(children))):
            entries = f"0 to {len(children) - 1}" if children else "none: it is empty"
            raise UserError(f"{where}: {path}: has the entries {entries}; got {show(first)}")
        index = int(first)
        changed = _put(children[index], rest, value, where, below)
        return collection((*children[:index], changed, *children[index + 1 :]), node.where)
    raise UserError(f"{where}: {below}: {path} is {show(node.value)}, so it has no {first!r}")


def _default_at(path: str, where: str) -> Node:
    """What an override reaches into where the file leaves it out: a default list, else nothing."""
    lists = {"optimizers": DEFAULT_OPTIMIZERS, "model.hidden": Model().hidden}
    default = lists.get(path, {})
    node = parse(flow_text(plain(default)), lambda line: where, [])
    assert node is not None
    return node


def json_schema(names: Names | None = None) -> dict[str, Any]:
    """What a file may hold, as JSON Schema (draft 7, which editors understand best).

    `names`: as in `load`.
    """
    schema = Config.model_json_schema()
    entries = [entry_reader(name).json_schema() for name in optimizer_names()]
    schema["properties"]["optimizers"] |= {"items": {"oneOf": entries}, "minItems": 1}
    for path, words in (names or {}).items():
        section, key = path.split(".")
        reference = schema["properties"][section]["$ref"].rpartition("/")[2]
        leaves = schema["$defs"][reference]["properties"]
        leaves[key] = rewritten(leaves[key], partial(_only_words, words))
    for section in schema["properties"].values():
        if "$ref" in section or "items" in section:
            section.pop("default", None)
    shared: dict[str, Any] = {}
    schema = rewritten(schema, partial(_tidy, shared))
    schema["$defs"] |= dict(shared.values())
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        **schema,
        "title": "Configuration of a search",
        "description": "Any leaf under model, training and optimizers is a value or a range.",
    }


def schema_text(names: Names | None = None) -> str:
    """`json_schema()` as the text of a file."""
    return json.dumps(json_schema(names), indent=2, ensure_ascii=False) + "\n"


def _only_words(words: Sequence[str], schema: dict[str, Any]) -> dict[str, Any]:
    return {"enum": list(words)} if schema.get("type") == "string" else schema


def _tidy(shared: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """A part of pydantic's JSON Schema as draft 7 has it; what a leaf may be is put into `shared`,
    where it stands once for all leaves of its form."""
    if "properties" not in schema and isinstance(schema.get("title"), str):
        del schema["title"]  # pydantic's, which only repeats the key
    if "prefixItems" in schema:
        schema["items"] = schema.pop("prefixItems")
    for kind in {"anyOf", "oneOf"} & schema.keys():
        forms = {kind: schema.pop(kind)}
        name, _ = shared.setdefault(json.dumps(forms), (f"Leaf{len(shared) + 1}", forms))
        schema = {"$ref": f"#/$defs/{name}", **schema}
    return schema
