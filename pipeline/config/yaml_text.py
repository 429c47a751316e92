"""YAML as people mean it: the core schema of YAML 1.2, with the place of every value.

PyYAML gives the nodes, not the values: here `1e-4` is a number, `on` and `no` are text, and a key
that stands twice is a problem. What could grow without end (nesting, aliases) has a bound."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from pipeline.common.errors import UserError
from pipeline.common.text import shorten

Scalar = str | int | float | bool | None

LARGEST_FILE = 256 * 1024  # bytes
LARGEST_DEPTH = 32  # collections within collections
MOST_NODES = 20_000  # values, with aliases written out
TOO_DEEP = f"must nest at most {LARGEST_DEPTH} deep"

_PLAIN = "plain"  # the tag of scalars without quotes
_TAGS = (_PLAIN, *(f"tag:yaml.org,2002:{kind}" for kind in ("str", "seq", "map")))
_NO_CHARACTER = "an escape of a character that does not exist"
_CORE: dict[str, Scalar] = dict.fromkeys(("", "~", "null", "Null", "NULL"))
_CORE |= dict.fromkeys(("true", "True", "TRUE"), True)
_CORE |= dict.fromkeys(("false", "False", "FALSE"), False)
_INTEGER = re.compile(r"[-+]?[0-9]+")
_NOT_FINITE = re.compile(r"\.(nan|NaN|NAN)|[-+]?\.(inf|Inf|INF)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


Location = tuple[str | int, ...]
Places = dict[Location, str]
"""Where values stand, by their keys: the place of its key, or of its list item."""


def nearest(places: Mapping[Location, str], keys: Location) -> str:
    """The place of the value at `keys`, or of the last one on the way there; "" for none."""
    ways = (keys[:length] for length in range(len(keys), -1, -1))
    return next((places[way] for way in ways if way in places), "")


def resolve(text: str) -> Scalar:
    """A plain (unquoted) scalar by the core schema of YAML 1.2, section 10.3.2, without its octal
    and hexadecimal numbers.

    Leading zeros are decimal (`010` is ten); dates, `1:30`, `1_000`, `yes` and `on` are text."""
    if text in _CORE:
        return _CORE[text]
    if _INTEGER.fullmatch(text):
        # Python refuses to read integers of more than 4,300 digits.
        return int(text) if len(text) <= 4000 else float(text)
    if _NOT_FINITE.fullmatch(text):
        return float(text.replace(".", ""))
    return float(text) if _FLOAT.fullmatch(text) else text


def parse(text: str, where: Callable[[int], str], problems: list[str]) -> tuple[Any, Places]:
    """One YAML document as dicts, lists and scalars, and where they stand; None and no places when
    there is nothing in it.

    `where` turns a line (from 1) into the start of a message. What leaves the rest readable (a key
    given twice) is added to `problems`; what doesn't raises `UserError`."""
    try:
        loader = _Loader(text)
        try:
            root, reader = loader.get_single_node(), _Reader(where, problems)
            return (reader.read(root, ()) if root else None), reader.places
        except (ValueError, OverflowError):  # PyYAML's chr() of an escape such as "\\U00110000"
            line, message = loader.line + 1, _NO_CHARACTER
        except RecursionError:
            raise UserError(f"{where(1)}: {TOO_DEEP}") from None
    except yaml.MarkedYAMLError as error:
        line = _line(error.problem_mark or error.context_mark)
        message = " ".join(filter(None, (error.context, error.problem)))
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        message = f"the character U+{error.character:04X} is not allowed in it"
    raise UserError(f"{where(line)}: not YAML: {message}")


def decode(content: bytes, name: str) -> str:
    """UTF-8, with or without a byte order mark. Raises `UserError`."""
    if len(content) > LARGEST_FILE:
        rule = f"must be at most {LARGEST_FILE // 1024} KiB"
        raise UserError(f"{name}: {rule}; got {len(content)} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = f"0x{content[error.start]:02X}"
        raise UserError(f"{name}:{line}: must be UTF-8; got the byte {byte}") from None


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {None: [(_PLAIN, re.compile(""))]}  # noqa: RUF012


@dataclass
class _Reader:
    """Turns PyYAML's nodes into values. What an alias stands for is read again for each alias."""

    where: Callable[[int], str]
    problems: list[str]
    places: Places = field(default_factory=dict)
    count: int = 0

    def read(self, node: Any, keys: Location) -> Any:
        where = self.where(_line(node.start_mark))
        self.places.setdefault(keys, where)
        self.count += 1
        if self.count > MOST_NODES:
            raise UserError(f"{where}: must hold at most {MOST_NODES} values, aliases written out")
        if len(keys) > LARGEST_DEPTH:
            raise UserError(f"{where}: {TOO_DEEP}")
        if isinstance(node, yaml.ScalarNode):
            text = self._text(node)
            return resolve(text) if node.tag == _PLAIN else text
        if node.tag not in _TAGS:
            raise UserError(f"{where}: tags are not read; got {node.tag}")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, keys)
        return [self.read(item, (*keys, index)) for index, item in enumerate(node.value)]

    def _text(self, node: yaml.ScalarNode) -> str:
        where = self.where(_line(node.start_mark))
        if node.tag not in _TAGS:
            raise UserError(f"{where}: tags are not read; got {node.tag}")
        try:  # Escaped surrogate pairs, as JSON writes them, are joined.
            return str(node.value.encode("utf-16", "surrogatepass"), "utf-16")
        except UnicodeDecodeError:
            raise UserError(f"{where}: not YAML: {_NO_CHARACTER}") from None

    def _mapping(self, node: yaml.MappingNode, above: Location) -> dict[str, Any]:
        children: dict[str, Any] = {}
        for key_node, value in node.value:
            where = self.where(_line(key_node.start_mark))
            if not isinstance(key_node, yaml.ScalarNode):
                raise UserError(f"{where}: a key must be text; got a list or a mapping")
            key = self._text(key_node)  # whatever it looks like
            keys = (*above, key)
            if key in children:
                line = self.places[keys].rpartition(":")[2]
                first = f"in line {line}" if line.isdigit() else "there"
                rule = "a key must be given once; it stands"
                self.problems.append(f"{where}: {'.'.join(map(str, keys))}: {rule} {first} already")
            else:
                self.places[keys] = where
                children[key] = self.read(value, keys)
        return children


def _line(mark: Any) -> int:
    """The line of one of PyYAML's marks, from 1."""
    return mark.line + 1 if mark is not None else 1


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    # PyYAML quotes what YAML 1.1 would misread; here what 1.2 would, and what takes several lines.
    style = None if isinstance(resolve(value), str) else "'"
    style = style if value.isprintable() else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_multi_representer(
    object,
    lambda dumper, value: _represent_text(dumper, f"an object of the class {type(value).__name__}"),
)
_Dumper.add_representer(str, _represent_text)
_Dumper.add_representer(tuple, yaml.SafeDumper.represent_list)


def text_of(value: object, in_flow: bool | None = None) -> str:
    """A value as a YAML document that `parse` reads back to the same; what holds no collection on
    one line."""
    text: str = yaml.dump(
        value,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=math.inf,
        default_flow_style=in_flow,
    )
    return text


def flow_text(value: object) -> str:
    """A value as YAML on one line: `[64, 32]`, `{low: 0.1, high: 1.0}`, `null`."""
    return text_of(value, True).removesuffix("\n").removesuffix("\n...")


def show(value: object) -> str:
    """A value in a message as people write it in YAML, at most 60 characters; text in quotes."""
    return shorten(repr(value) if isinstance(value, str) else flow_text(value), 60)
