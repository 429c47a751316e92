"""Settings from the command line, put over a file: `training.epochs=20 optimizers.0.lr=0.1`."""

import shlex
from collections.abc import Callable, Sequence

from pipeline.common.errors import UserError
from pipeline.config.checks import show
from pipeline.config.yaml_text import LARGEST_DEPTH, Node, collection, parse


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


def apply_override(
    root: Node, override: str, default_at: Callable[[str], str | None], problems: list[str]
) -> Node:
    """The file's nodes with one override (`a.b=value`) put over them.

    `default_at(path)`: YAML of what stands at a path that the file leaves out, where an override
    can reach into it (a list), else None. What is wrong with the override is added to `problems`.
    """
    shown = override if len(override) <= 80 else override[:77] + "..."
    where = f"--set {shown}"
    key, equals, text = override.partition("=")
    way = key.strip().split(".")
    if not equals or not all(way) or len(way) > LARGEST_DEPTH:
        form = "KEY=VALUE with a dotted path, such as training.epochs=20"
        problems.append(f"{where}: must be {form}")
        return root
    try:
        value = parse(text, lambda line: where, problems)
        return _put(root, way, value or Node(None, where), where, "", default_at)
    except UserError as error:
        problems.extend(error.problems)
        return root


def _put(
    node: Node,
    way: Sequence[str],
    value: Node,
    where: str,
    path: str,
    default_at: Callable[[str], str | None],
) -> Node:
    if not way:
        return value
    first, rest = way[0], way[1:]
    below = f"{path}.{first}" if path else first
    children = {} if node.value is None else node.value
    if isinstance(children, dict):
        child = children.get(first)
        if child is None:
            default = default_at(below)
            child = Node({}, where) if default is None else parse(default, lambda line: where, [])
            assert child is not None
        return collection(
            children | {first: _put(child, rest, value, where, below, default_at)}, node.where
        )
    if isinstance(children, tuple):
        if first not in map(str, range(len(children))):
            entries = f"0 to {len(children) - 1}" if children else "none: it is empty"
            raise UserError(f"{where}: {path}: has the entries {entries}; got {show(first)}")
        index = int(first)
        changed = _put(children[index], rest, value, where, below, default_at)
        return collection((*children[:index], changed, *children[index + 1 :]), node.where)
    raise UserError(f"{where}: {below}: {path} is {show(node.value)}, so it has no {first!r}")
