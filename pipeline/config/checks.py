"""What one value of a configuration must be: convert it, or say the rule and what was found."""

import math
import numbers
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

from pipeline.common.errors import did_you_mean
from pipeline.config.yaml_text import flow_text, resolve

Location = tuple[str | int, ...]

# Far above every sensible setting, far below where a 32-bit or 64-bit counter gives up.
LARGEST_INTEGER = 1_000_000_000
LARGEST_NUMBER = 1e38  # tensors are of 32-bit floats


class Broken(ValueError):  # noqa: N818
    """A value breaks its rule. `parts`: (keys below the value, sentence), all that were found."""

    def __init__(self, *parts: tuple[Location, str]) -> None:
        self.parts = parts
        super().__init__("; ".join(f"{path_text(where)}{text}" for where, text in parts))

    def for_pydantic(self) -> ValidationError:
        """The same problems for a validator of pydantic to raise, which puts its keys before."""
        return ValidationError.from_exception_data(
            "rule",
            [
                InitErrorDetails(
                    type=PydanticCustomError("rule", "{text}", {"text": text}),
                    loc=where,
                    input=None,
                )
                for where, text in self.parts
            ],
        )


def path_text(where: Location) -> str:
    """`model.hidden.0: ` for the location of a problem, an empty string for the value itself."""
    return ".".join(map(str, where)) + ": " if where else ""


def show(value: object) -> str:
    """A found value as people write it in YAML, at most about 60 characters; text in quotes."""
    text = repr(value) if isinstance(value, str) else flow_text(value)
    return text if len(text) <= 60 else text[:57] + "..."


def gather(convert: Callable[[Any], Any], value: object, key: str | int, into: list[Any]) -> Any:
    """`convert(value)`; what is broken goes to `into`, below `key`, and None comes back."""
    try:
        return convert(value)
    except Broken as broken:
        into.extend(((key, *where), text) for where, text in broken.parts)
        return None


class Rule(ABC):
    """A rule for one value; as metadata of an `Annotated` field it replaces pydantic's own checks
    and messages."""

    @property
    @abstractmethod
    def expected(self) -> str:
        """What the value must be, as the end of a sentence: `an integer >= 1`."""

    @abstractmethod
    def convert(self, value: Any) -> Any:
        """The value in its normal form. Raises `Broken`."""

    @abstractmethod
    def json_schema(self) -> dict[str, Any]:
        """The rule as JSON Schema (draft 7)."""

    def plain(self) -> "Rule":
        """The same rule where no part of the value may be a range."""
        return self

    def refuse(self, value: object, hint: str = "") -> Broken:
        return Broken(((), f"must be {self.expected}; got {show(value)}{hint}"))

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self._convert_for_pydantic)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return self.json_schema()

    def _convert_for_pydantic(self, value: Any) -> Any:
        try:
            return self.convert(value)
        except Broken as broken:
            raise broken.for_pydantic() from None


@dataclass(frozen=True)
class Number(Rule):
    """A finite number in an interval; an end that is None is unbounded. A bool is no number."""

    low: float | None = None
    high: float | None = None
    open_low: bool = False
    open_high: bool = False
    integer: bool = False
    optional: bool = False

    @property
    def expected(self) -> str:
        noun = "an integer" if self.integer else "a number"
        if self.low is not None and self.high is not None:
            left, right = "(" if self.open_low else "[", ")" if self.open_high else "]"
            noun += f" in {left}{self.low:.12g}, {self.high:.12g}{right}"
        elif self.low is not None:
            noun += f" {'>' if self.open_low else '>='} {self.low:.12g}"
        elif self.high is not None:
            noun += f" {'<' if self.open_high else '<='} {self.high:.12g}"
        return noun + (" or null" if self.optional else "")

    def convert(self, value: Any) -> int | float | None:
        if value is None and self.optional:
            return None
        kind = numbers.Integral if self.integer else numbers.Real  # NumPy's scalars as well
        if isinstance(value, bool) or not isinstance(value, kind):
            raise self.refuse(value, _hint(value))
        number: int | float
        try:
            number = int(value) if isinstance(value, numbers.Integral) else float(value)
            number = number if self.integer else float(number)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise Broken(((), f"must be finite and {self.expected}; got {show(value)}"))
        below = self.low is not None and (
            number <= self.low if self.open_low else number < self.low
        )
        above = self.high is not None and (
            number >= self.high if self.open_high else number > self.high
        )
        if below or above:
            raise self.refuse(value)
        if self.integer and self.high is None and number > LARGEST_INTEGER:
            raise Broken(((), f"must be at most {LARGEST_INTEGER}; got {show(value)}"))
        if not self.integer and abs(number) > LARGEST_NUMBER:
            raise Broken(((), f"must be within ±{LARGEST_NUMBER:g}; got {show(value)}"))
        return number

    def json_schema(self) -> dict[str, Any]:
        kind = "integer" if self.integer else "number"
        schema: dict[str, Any] = {"type": [kind, "null"] if self.optional else kind}
        if self.low is not None:
            schema["exclusiveMinimum" if self.open_low else "minimum"] = self.low
        if self.high is not None:
            schema["exclusiveMaximum" if self.open_high else "maximum"] = self.high
        return schema


@dataclass(frozen=True)
class Flag(Rule):
    """true or false."""

    @property
    def expected(self) -> str:
        return "true or false"

    def convert(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise self.refuse(value)
        return value

    def json_schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


@dataclass(frozen=True)
class OneOf(Rule):
    """One of a few words; `extra` is a pattern of further ones, `extra_text` how they look."""

    words: tuple[str, ...]
    extra: str | None = None
    extra_text: str = ""

    @property
    def expected(self) -> str:
        return "one of " + ", ".join(self.words) + (f", {self.extra_text}" if self.extra else "")

    def convert(self, value: Any) -> str:
        if isinstance(value, str):
            if value in self.words or (self.extra and _matches(self.extra, value)):
                return value
            raise self.refuse(value, did_you_mean(value, self.words))
        raise self.refuse(value, _hint(value))

    def json_schema(self) -> dict[str, Any]:
        if self.extra is None:
            return {"enum": list(self.words)}
        return {"anyOf": [{"enum": list(self.words)}, {"type": "string", "pattern": self.extra}]}


@dataclass(frozen=True)
class Text(Rule):
    """Text that is not empty. `pattern`, where given, is matched whole, and `what` describes it."""

    what: str = "text that is not empty"
    pattern: str = r"^[\s\S]*\S[\s\S]*$"
    longest: int | None = None
    optional: bool = False
    lower: bool = False

    @property
    def expected(self) -> str:
        return self.what + (" or null" if self.optional else "")

    def convert(self, value: Any) -> str | None:
        if value is None and self.optional:
            return None
        if not isinstance(value, str):
            scalar = isinstance(value, bool | int | float)
            raise self.refuse(value, "; put it in quotes" if scalar else _hint(value))
        if not _matches(self.pattern, value) or "\0" in value:
            raise self.refuse(value)
        if self.longest is not None and len(value) > self.longest:
            found = f"{len(value)} characters"
            raise Broken(((), f"must be at most {self.longest} characters long; got {found}"))
        return value.lower() if self.lower else value

    def json_schema(self) -> dict[str, Any]:
        schema: dict[str, Any] = {"type": ["string", "null"] if self.optional else "string"}
        schema["pattern"] = self.pattern
        if self.longest is not None:
            schema["maxLength"] = self.longest
        return schema


@dataclass(frozen=True)
class Label(Rule):
    """A label as it stands in the table: text, a number or a truth value; null for none."""

    @property
    def expected(self) -> str:
        return "a label (text, a number, true or false) or null"

    def convert(self, value: Any) -> str | int | float | bool | None:
        if value is None or isinstance(value, str | bool | int):
            return value
        if isinstance(value, float):
            if math.isfinite(value):
                return value
            raise Broken(((), f"must be finite; got {show(value)}"))
        raise self.refuse(value)

    def json_schema(self) -> dict[str, Any]:
        return {"type": ["string", "number", "boolean", "null"]}


@dataclass(frozen=True)
class Items(Rule):
    """A list whose items each keep `item`, or as many items as `each` has rules, one rule each."""

    item: Rule | None = None
    each: tuple[Rule, ...] = ()
    what: str = "a list"
    unique: bool = False
    least: int = 0

    @property
    def expected(self) -> str:
        if self.item is None:
            return f"{self.what} of {len(self.each)} values"
        return self.what

    def convert(self, value: Any) -> tuple[Any, ...]:
        if isinstance(value, str | Mapping) or not isinstance(value, Sequence):
            raise self.refuse(value, _hint(value))
        if (self.item is None and len(value) != len(self.each)) or len(value) < self.least:
            raise self.refuse(value)
        parts: list[tuple[Location, str]] = []
        rules = [self.item] * len(value) if self.item is not None else self.each
        converted = tuple(
            gather(rule.convert, one, index, parts)
            for index, (rule, one) in enumerate(zip(rules, value, strict=True))
        )
        if self.unique:
            parts.extend(
                ((index,), f"must be given once; {show(one)} stands at {value.index(one)} already")
                for index, one in enumerate(value)
                if one in value[:index]
            )
        if parts:
            raise Broken(*parts)
        return converted

    def plain(self) -> "Items":
        item = self.item.plain() if self.item is not None else None
        each = tuple(rule.plain() for rule in self.each)
        return replace(self, item=item, each=each)

    def json_schema(self) -> dict[str, Any]:
        if self.item is not None:
            schema: dict[str, Any] = {"type": "array", "items": self.item.json_schema()}
            schema |= {"uniqueItems": True} if self.unique else {}
            return schema | ({"minItems": self.least} if self.least else {})
        count = len(self.each)
        items = [rule.json_schema() for rule in self.each]
        return {"type": "array", "items": items, "minItems": count, "maxItems": count}


@dataclass(frozen=True)
class Either(Rule):
    """Text by `text`, anything else by `other`."""

    text: Text
    other: Rule

    @property
    def expected(self) -> str:
        return f"{self.other.expected}, or {self.text.expected}"

    def convert(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text.convert(value)
        try:
            return self.other.convert(value)
        except Broken:
            raise self.refuse(value) from None

    def json_schema(self) -> dict[str, Any]:
        return {"anyOf": [self.other.json_schema(), self.text.json_schema()]}


def _matches(pattern: str, value: str) -> bool:
    return re.fullmatch(pattern.removeprefix("^").removesuffix("$"), value) is not None


def _hint(value: object) -> str:
    if isinstance(value, Mapping) and {"low", "high", "choice"} & set(value):
        return "; a range cannot stand here"
    if isinstance(value, str) and isinstance(resolve(value), bool | int | float):
        return "; write it without quotes"
    if isinstance(value, str) and value.lower() in ("none", "nil"):
        return "; YAML writes it null"
    if isinstance(value, str) and value.lower() in ("nan", "inf", "-inf", "infinity"):
        return "; a finite number is needed"
    return ""
