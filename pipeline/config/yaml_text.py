"""YAML as people mean it: the core schema of YAML 1.2, with the place of every value.

PyYAML's events are used, its resolver is not: `1e-4` is a number, `on` and `no` are text, a key
that stands twice is a problem. What could grow without end (nesting, aliases) has a bound.
"""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import yaml

from pipeline.common.errors import UserError

Scalar = str | int | float | bool | None

LARGEST_FILE = 256 * 1024  # bytes
LARGEST_DEPTH = 32  # collections within collections
MOST_NODES = 20_000  # values, with aliases written out

_STRING_TAGS = ("!", "tag:yaml.org,2002:str")
_CORE: dict[str, Scalar] = dict.fromkeys(("", "~", "null", "Null", "NULL"))
_CORE |= dict.fromkeys(("true", "True", "TRUE"), True)
_CORE |= dict.fromkeys(("false", "False", "FALSE"), False)
_INTEGER = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"[-+]?\.(inf|Inf|INF)")
_NAN = re.compile(r"\.(nan|NaN|NAN)")


@dataclass(frozen=True, slots=True)
class Node:
    """A value and where it stands: `where` is the place of its key, or of its list item."""

    value: "Scalar | tuple[Node, ...] | dict[str, Node]"
    where: str
    text: str = ""  # of a scalar, as written: keys are text, whatever they look like
    size: int = 1
    depth: int = 0
    merges: bool = False  # the key <<, not in quotes

    def plain(self) -> Any:
        """The value as dicts, lists and scalars."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, tuple):
            return [child.plain() for child in self.value]
        return self.value

    def nearest(self, path: Sequence[str | int]) -> "Node":
        """The node at `path`, or the last one on the way there."""
        node = self
        for part in path:
            children = node.value
            if isinstance(children, dict) and part in children:
                node = children[str(part)]
            elif isinstance(children, tuple) and isinstance(part, int) and part < len(children):
                node = children[part]
            else:
                break
        return node


def collection(value: "tuple[Node, ...] | dict[str, Node]", where: str) -> Node:
    """A list or a mapping of nodes. Raises `UserError` past the bounds of size and depth."""
    children = value.values() if isinstance(value, dict) else value
    size = 1 + sum(child.size for child in children)
    depth = 1 + max((child.depth for child in children), default=0)
    if size > MOST_NODES:
        raise UserError(f"{where}: must hold at most {MOST_NODES} values, aliases written out")
    _check_depth(depth, where)
    return Node(value, where, size=size, depth=depth)


def resolve(text: str) -> Scalar:
    """A plain (unquoted) scalar by the core schema of YAML 1.2, section 10.3.2.

    Leading zeros are decimal (`010` is ten), `0o` is octal, `0x` hexadecimal; dates, `1:30`,
    `1_000`, `yes` and `on` are text.
    """
    if text in _CORE:
        return _CORE[text]
    if _INTEGER.fullmatch(text):
        # Python refuses to read integers of more than 4,300 digits.
        return int(text) if len(text) <= 4000 else math.copysign(math.inf, float(text))
    if _BASED.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _INFINITE.fullmatch(text):
        return -math.inf if text.startswith("-") else math.inf
    return math.nan if _NAN.fullmatch(text) else text


def parse(text: str, where: Callable[[int], str], problems: list[str]) -> Node | None:
    """One YAML document; None when there is nothing in it.

    `where` turns a line (from 1) into the start of a message. What leaves the rest readable (a key
    given twice, a tag) is added to `problems`; what doesn't raises `UserError`.
    """
    builder = _Builder(where, problems)
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 1
        said = " ".join(filter(None, (error.context, error.problem)))
        hint = "; indent with blanks, not with tabs" if "'\\t'" in said else ""
        raise UserError(f"{where(line)}: not YAML: {said}{hint}") from None
    except (ValueError, OverflowError):  # PyYAML's chr() of an escape such as "\\U00110000"
        found = "an escape of a character that does not exist"
        raise UserError(f"{where(builder.line)}: not YAML: {found}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        found = f"the character U+{error.character:04X}"
        raise UserError(f"{where(line)}: not YAML: {found} is not allowed in it") from None
    return builder.root


def decode(content: bytes, name: str) -> str:
    """UTF-8, with or without a byte order mark. Raises `UserError`."""
    if len(content) > LARGEST_FILE:
        raise UserError(
            f"{name}: must be at most {LARGEST_FILE // 1024} KiB; got {len(content)} bytes"
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        found = f"the byte 0x{content[error.start]:02X}"
        raise UserError(f"{name}:{line}: must be UTF-8; got {found}") from None


class _Builder:
    """Nodes from events, without recursion."""

    def __init__(self, where: Callable[[int], str], problems: list[str]) -> None:
        self.root: Node | None = None
        self.line = 1  # where the last event ended
        self._where = where
        self._problems = problems
        self._documents = 0
        self._anchors: dict[str, Node | None] = {}  # None while its collection is still open
        self._open: list[tuple[str | None, _Frame]] = []

    def take(self, event: yaml.Event) -> None:
        mark = event.start_mark
        where = self._where(mark.line + 1 if mark is not None else 1)
        self.line = event.end_mark.line + 1 if event.end_mark is not None else self.line
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise UserError(f"{where}: must be one YAML document; got a second one")
        elif isinstance(event, yaml.CollectionStartEvent):
            self._check_tag(event, where)
            _check_depth(len(self._open) + 1, where)
            if event.anchor is not None:
                self._anchors[event.anchor] = None
            kind = _Mapping if isinstance(event, yaml.MappingStartEvent) else _List
            parent = self._open[-1][1] if self._open else None
            path = parent.path_of_next() if parent is not None else ""
            self._open.append((event.anchor, kind(where, path, self._problems)))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, frame = self._open.pop()
            self._add(frame.close(), anchor)
        elif isinstance(event, yaml.ScalarEvent):
            self._check_tag(event, where)
            plain = event.implicit[0] and event.tag is None
            plain = plain or event.tag not in (None, *_STRING_TAGS)
            text = _characters(event.value, where)
            value = resolve(text) if plain else text
            self._add(Node(value, where, text, merges=plain and text == "<<"), event.anchor)
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise UserError(f"{where}: *{event.anchor} has no anchor &{event.anchor} before it")
            node = self._anchors[event.anchor]
            if node is None:
                raise UserError(f"{where}: *{event.anchor} stands inside of its own anchor")
            self._add(replace(node, where=where), None)

    def _add(self, node: Node, anchor: str | None) -> None:
        if anchor is not None:
            self._anchors[anchor] = node
        if self._open:
            self._open[-1][1].add(node)
        else:
            self.root = node

    def _check_tag(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent, where: str) -> None:
        tag: str | None = event.tag
        if tag is not None and tag not in _STRING_TAGS:
            shown = tag.replace("tag:yaml.org,2002:", "!!")
            self._problems.append(
                f"{where}: tags are not read; got {shown}: write the value without it"
            )


class _Frame(ABC):
    """A collection whose end has not come yet."""

    def __init__(self, where: str, path: str, problems: list[str]) -> None:
        self._where = where
        self._path = path  # "" or ending with a dot
        self._problems = problems

    @abstractmethod
    def path_of_next(self) -> str:
        """What the paths below the next node begin with."""

    @abstractmethod
    def add(self, node: Node) -> None:
        """Take the next node."""

    @abstractmethod
    def close(self) -> Node:
        """The finished node."""


class _List(_Frame):
    def __init__(self, where: str, path: str, problems: list[str]) -> None:
        super().__init__(where, path, problems)
        self._nodes: list[Node] = []

    def path_of_next(self) -> str:
        return f"{self._path}{len(self._nodes)}."

    def add(self, node: Node) -> None:
        self._nodes.append(node)

    def close(self) -> Node:
        return collection(tuple(self._nodes), self._where)


class _Mapping(_Frame):
    def __init__(self, where: str, path: str, problems: list[str]) -> None:
        super().__init__(where, path, problems)
        self._key: Node | None = None
        self._own: dict[str, Node] = {}
        self._merged: dict[str, Node] = {}

    def path_of_next(self) -> str:
        return f"{self._path}{self._key.text}." if self._key is not None else self._path

    def add(self, node: Node) -> None:
        if self._key is None:
            if isinstance(node.value, tuple | dict):
                raise UserError(f"{node.where}: a key must be text; got a list or a mapping")
            self._key = node
            return
        key, self._key = self._key, None
        if key.merges:
            self._merge(node, key.where)
        elif key.text in self._own:
            line = self._own[key.text].where.rpartition(":")[2]
            first = f"in line {line}" if line.isdigit() else "there"
            self._problems.append(
                f"{key.where}: {self._path}{key.text}: a key must be given once;"
                f" it stands {first} already"
            )
        else:
            self._own[key.text] = replace(node, where=key.where)

    def _merge(self, node: Node, where: str) -> None:
        sources = node.value if isinstance(node.value, tuple) else (node,)
        for source in sources:
            if not isinstance(source.value, dict):
                self._problems.append(
                    f"{where}: {self._path}<<: must be a mapping or a list of mappings"
                )
                return
            # https://yaml.org/type/merge.html: own keys win, then earlier sources.
            self._merged = source.value | self._merged

    def close(self) -> Node:
        return collection(self._merged | self._own, self._where)


def _characters(text: str, where: str) -> str:
    """The text with escaped surrogate pairs, as JSON writes them, joined."""
    if text.isascii():
        return text
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise UserError(f"{where}: not YAML: half of an escaped surrogate pair") from None


def _check_depth(depth: int, where: str) -> None:
    if depth > LARGEST_DEPTH:
        raise UserError(f"{where}: must nest at most {LARGEST_DEPTH} deep")


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    # PyYAML quotes what YAML 1.1 would misread; here what 1.2 would, and what takes several lines.
    style = None if isinstance(resolve(value), str) else "'"
    style = style if value.isprintable() else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _represent_text)
_Dumper.add_representer(tuple, yaml.SafeDumper.represent_list)


def block_text(value: Mapping[str, Any]) -> str:
    """A mapping as a YAML document that `parse` reads back to the same: one line for each leaf of
    a section and for each mapping in a list."""
    lines = []
    for key, below in value.items():
        if isinstance(below, Mapping) and below:
            lines += [f"{flow_text(key)}:"]
            lines += [f"  {flow_text(name)}: {flow_text(leaf)}" for name, leaf in below.items()]
        elif isinstance(below, list) and below and isinstance(below[0], Mapping):
            lines += [f"{flow_text(key)}:"]
            lines += [f"  - {flow_text(entry)}" for entry in below]
        else:
            lines += [f"{flow_text(key)}: {flow_text(below)}"]
    return "\n".join(lines) + "\n"


def flow_text(value: object) -> str:
    """A value as YAML on one line: `[64, 32]`, `{low: 0.1, high: 1.0}`, `null`."""
    text: str = yaml.dump(
        value,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=math.inf,
        default_flow_style=True,
    )
    return text.removesuffix("\n").removesuffix("\n...")
