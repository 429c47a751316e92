"""Values of a configuration, and the ranges to search that may stand in their place."""

import itertools
import math
import numbers
import re
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, fields
from fractions import Fraction
from functools import partial
from typing import Annotated, Any, Generic, TypeVar

from pydantic import (
    Field,
    GetCoreSchemaHandler,
    PlainValidator,
    Strict,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

from pipeline.config.yaml_text import Location, show

# Far above every sensible setting, far below where a 32-bit or 64-bit counter gives up.
LARGEST_INTEGER = 1_000_000_000
LARGEST_NUMBER = 1e38  # tensors are of 32-bit floats

# A grid is for going through, so a range of a billion steps has none.
LARGEST_GRID = 100_000

T = TypeVar("T")
Ends = TypeVar("Ends", int, float)


@dataclass(frozen=True)
class _Form:
    def leaves(self) -> dict[str, Any]:
        """What stands in the file, by key."""
        keys = {field.name: (getattr(self, field.name), field.default) for field in fields(self)}
        return {key: value for key, (value, default) in keys.items() if value != default}


@dataclass(frozen=True)
class _Interval(_Form, Generic[Ends]):
    low: Ends
    high: Ends
    log: bool = False
    step: Ends | None = None

    def __post_init__(self) -> None:
        low, high, step, is_stepped = self.low, self.high, self.step, self.step != type(self).step
        rules = {
            "`low <= high`": low <= high,
            "`low > 0` for `log: true`": low > 0 or not self.log,
            "`step > 0`": step is None or step > 0,
            "`step` without `log: true`": not (self.log and is_stepped),
        }
        if broken := [rule for rule, holds in rules.items() if not holds]:
            found = f"({low=}, {high=}, {step=})" if is_stepped else f"({low=}, {high=})"
            raise ValueError(f"{' and '.join(broken)} must hold, but got {found}")


@dataclass(frozen=True)
class FloatRange(_Interval[float]):
    """Numbers from `low` to `high`, both included; evenly in the logarithm with `log`; only
    `low + k * step` with `step`, which excludes `log`. Raises `ValueError`."""

    def grid(self) -> tuple[float, ...] | None:
        """The values in ascending order; None when continuous, or more than 100,000."""
        if self.low == self.high:
            return (self.low,)
        if self.step is None:
            return None
        # In decimals as written, as Optuna counts, so that 0.1 to 0.3 by 0.1 has its last value.
        low, high, step = (Fraction(str(value)) for value in (self.low, self.high, self.step))
        count = int((high - low) // step) + 1
        return tuple(float(low + k * step) for k in range(count)) if count <= LARGEST_GRID else None


@dataclass(frozen=True)
class IntRange(_Interval[int]):
    """Integers `low`, `low + step`, ... up to `high`, both ends included; evenly in the logarithm
    with `log`, which excludes a `step` other than 1. Raises `ValueError`."""

    step: int = 1

    def grid(self) -> range:
        """The values in ascending order; a billion of them cost nothing."""
        return range(self.low, self.high + 1, self.step)


@dataclass(frozen=True)
class Choice(_Form):
    """One of `choice`, in no order; a list among them is a tuple. Raises `ValueError`."""

    choice: tuple[Any, ...]

    def __post_init__(self) -> None:
        if not self.choice:
            raise ValueError("`choice` must hold at least one value, but got []")

    def grid(self) -> tuple[Any, ...]:
        """The values in their order."""
        return self.choice


Range = FloatRange | IntRange | Choice


def plain(value: Any) -> Any:
    """A configuration or a part of it as dicts, lists and scalars, in the form of the file."""
    if isinstance(value, Mapping):
        return {key: plain(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [plain(child) for child in value]
    if isinstance(value, numbers.Number) and hasattr(value, "item"):
        return value.item()  # a scalar of NumPy
    return plain(value.leaves()) if hasattr(value, "leaves") else value


def ends(value: Any) -> Iterator[Any]:
    """The values of a choice, both ends of a range, or the value; of a list with ranges in it every
    combination of these."""
    if isinstance(value, Choice):
        yield from value.choice
    elif isinstance(value, FloatRange | IntRange):
        yield from (value.low, value.high)
    elif isinstance(value, tuple):
        yield from itertools.product(*map(ends, value))
    else:
        yield value


def must_be(text: str) -> PydanticCustomError:
    """What to raise of a value that must be something else: the end of a sentence, such as `64
    hexadecimal digits`."""
    return PydanticCustomError("expected", "{text}", {"text": text})


def refuse(*problems: tuple[Location, str]) -> None:
    """Raise pydantic's `ValidationError` for all problems of a value, if there are any: (keys below
    the value, sentence). pydantic puts the keys above the value before."""
    details: list[InitErrorDetails] = [
        {"type": PydanticCustomError("rule", "{text}", {"text": text}), "loc": keys, "input": None}
        for keys, text in problems
    ]
    if details:
        raise ValidationError.from_exception_data("rule", details)


def distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """The values, none of which stands there twice. Raises pydantic's `ValidationError`."""
    twice = [(index, value) for index, value in enumerate(values) if value in values[:index]]
    refuse(*(((i,), f"must be given once; got {show(plain(value))} again") for i, value in twice))
    return values


def filled(values: T) -> T:
    """The values, of which there is one at least. Raises pydantic's `ValidationError`."""
    if not values:
        refuse(((), f"must hold at least one entry; got {show(plain(values))}"))
    return values


def expected(text: str) -> WrapValidator:
    """Metadata of a type: what its values must be, in place of pydantic's words for each of its
    parts."""

    def convert(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError:
            raise must_be(text) from None

    return WrapValidator(convert)


Flag = Annotated[bool, Strict()]
Integer = Annotated[int, Strict(), Field(le=LARGEST_INTEGER)]
Finite = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Number = Annotated[Finite, Field(ge=-LARGEST_NUMBER, le=LARGEST_NUMBER)]
String = Annotated[str, Strict()]
Text = Annotated[String, Field(pattern=r"^[^\x00]*[^\s\x00\x1c-\x1f][^\x00]*$")]
Line = Annotated[String, Field(pattern=r"^[^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]*$")]

VALUE = "a value"
CHOICE = "{choice: [...]}"
INTERVAL = "{low: ..., high: ..., log: true} or {low: ..., high: ..., step: ...}"
FORMS: Mapping[Any, tuple[str, ...]] = {
    VALUE: (),
    CHOICE: ("choice",),
    INTERVAL: ("low", "high", "log", "step"),
}
"""What may stand at a leaf, and the keys of each form; pydantic's locations name the form."""


@dataclass(frozen=True)
class _Ranges:
    def __get_pydantic_core_schema__(self, of: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        value = handler(of)
        choices = core_schema.no_info_after_validator_function(
            distinct,
            core_schema.tuple_schema([rewritten(value, _only_value)], variadic_item_index=0),
            metadata={"pydantic_js_updates": {"minItems": 1, "uniqueItems": True}},
        )
        forms: dict[Hashable, CoreSchema] = {VALUE: value, CHOICE: _mapping(Choice, choice=choices)}
        for number, kind, range_ in _numbers(value):
            log = core_schema.bool_schema(strict=True)
            step = handler.generate_schema(Annotated[kind, Field(gt=0)] | None)
            forms[INTERVAL] = _mapping(range_, low=number, high=number, log=log, step=step)
        return core_schema.tagged_union_schema(forms, _form)


Searchable = Annotated[T, _Ranges()]
"""A value of a type, or a range of such values.

A field is typed as in a trial's configuration; in one that is still to be searched it holds a range
instead. What a choice lists are values without ranges. Only numbers have intervals, whose ends keep
the rules of the number."""


def _form(value: Any) -> str:
    if not isinstance(value, Mapping):
        return VALUE
    if "choice" in value:
        return CHOICE
    return INTERVAL if value.keys() & set(FORMS[INTERVAL]) else "a mapping"


def _mapping(range_: Any, **keys: CoreSchema) -> CoreSchema:
    fields = {
        key: core_schema.typed_dict_field(schema, required=key not in ("log", "step"))
        for key, schema in keys.items()
    }
    return core_schema.no_info_after_validator_function(
        lambda keys: range_(**{key: value for key, value in keys.items() if value is not None}),
        core_schema.typed_dict_schema(fields, extra_behavior="forbid"),
    )


def rewritten(schema: Any, change: Callable[[dict[str, Any]], Any]) -> Any:
    """A schema, of pydantic or of JSON, with every mapping in it changed, the inner ones first."""
    if isinstance(schema, list):
        return [rewritten(part, change) for part in schema]
    if isinstance(schema, dict):
        return change({key: rewritten(part, change) for key, part in schema.items()})
    return schema


def _only_value(schema: dict[str, Any]) -> Any:
    return schema["choices"][VALUE] if schema.get("discriminator") is _form else schema


def _numbers(schema: Any) -> Iterator[tuple[Any, Any, type[IntRange | FloatRange]]]:
    """The schema of a number without null, its type and its range; nothing for another type."""
    if schema["type"] in ("int", "float"):
        whole = schema["type"] == "int"
        yield (schema, Integer, IntRange) if whole else (schema, Number, FloatRange)
    elif "schema" in schema:
        for number, kind, range_ in _numbers(schema["schema"]):
            outer = {} if schema["type"] == "nullable" else {**schema, "schema": number}
            yield outer or number, kind, range_


def check_keys(mapping: Mapping[Any, Any]) -> None:
    """Refuse keys that cannot be part of a dotted path. Raises pydantic's `ValidationError`."""
    rule = "a key must be text of letters, digits, '_', '-' and blanks; got"
    bad = [k for k in mapping if not (isinstance(k, str) and re.fullmatch(r"[\w -]+", k))]
    refuse(*(((str(key),), f"{rule} {show(key)}") for key in bad))


def _read_anything(searchable: bool, value: Any) -> Any:
    if isinstance(value, Mapping):
        if not value.keys() & {"low", "high", "choice"}:
            if searchable:
                check_keys(value)
            return _MAPPINGS[searchable].validate_python(value)
        if not searchable:
            raise must_be("a value")
        ends = (value.get("low", 0), value.get("high", 0), value.get("step") or 0)
        numbers = _INTEGERS if all(type(number) is int for number in ends) else _NUMBERS
        return (_CHOICES if "choice" in value else numbers).validate_python(value)
    if isinstance(value, list | tuple):
        return _LISTS[searchable].validate_python(value)
    if isinstance(value, float) and math.isnan(value):
        raise must_be("a number")
    if not isinstance(value, str | int | float | None):
        raise must_be("a value that YAML has")
    return value


Anything = Annotated[Any, PlainValidator(partial(_read_anything, True))]
"""Any value of YAML, in which ranges may stand at any depth; lists are tuples."""
Plain = Annotated[Any, PlainValidator(partial(_read_anything, False))]
"""Any value of YAML without ranges."""

_INTEGERS = TypeAdapter[Any](Searchable[Integer])
_NUMBERS = TypeAdapter[Any](Searchable[Number])
_CHOICES = TypeAdapter[Any](Searchable[Plain])
_MAPPINGS = TypeAdapter[Any](dict[String, Plain]), TypeAdapter[Any](dict[String, Anything])
_LISTS = TypeAdapter[Any](tuple[Plain, ...]), TypeAdapter[Any](tuple[Anything, ...])
