"""Ranges to search: what may stand where a value does under model, training and optimizers."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from pipeline.common.errors import UserError, did_you_mean
from pipeline.config.checks import Broken, Flag, Items, Location, Number, Rule, gather, show

# A grid is for going through, so a range of a billion integers has none.
LARGEST_GRID = 100_000


@dataclass(frozen=True)
class FloatRange:
    """Numbers from `low` to `high`, both included; evenly in the logarithm with `log`; only
    `low + k * step` with `step`, which excludes `log`. Raises `UserError`."""

    low: float
    high: float
    log: bool = False
    step: float | None = None

    def __post_init__(self) -> None:
        _refuse_bad_range(self)

    def grid(self) -> tuple[float, ...] | None:
        """The values in ascending order; None when continuous, or more than 100,000."""
        if self.low == self.high:
            return (self.low,)
        if self.step is None:
            return None
        # In decimals as written, as Optuna counts, so that 0.1 to 0.3 by 0.1 has its last value.
        count = int((_exact(self.high) - _exact(self.low)) // _exact(self.step)) + 1
        if count > LARGEST_GRID:
            return None
        return tuple(float(_exact(self.low) + k * _exact(self.step)) for k in range(count))

    def to_plain(self) -> dict[str, Any]:
        """As it stands in the file."""
        return _plain_range(self, None)


@dataclass(frozen=True)
class IntRange:
    """Integers `low`, `low + step`, ... up to `high`, both ends included; evenly in the logarithm
    with `log`, which excludes a `step` other than 1. Raises `UserError`."""

    low: int
    high: int
    log: bool = False
    step: int = 1

    def __post_init__(self) -> None:
        _refuse_bad_range(self)

    def grid(self) -> tuple[int, ...] | None:
        """The values in ascending order; None when they are more than 100,000."""
        values = range(self.low, self.high + 1, self.step)
        return tuple(values) if len(values) <= LARGEST_GRID else None

    def to_plain(self) -> dict[str, Any]:
        """As it stands in the file."""
        return _plain_range(self, 1)


@dataclass(frozen=True)
class Choice:
    """One of `choice`, in no order; a list among them is a tuple. Raises `UserError`."""

    choice: tuple[Any, ...]

    def __post_init__(self) -> None:
        if not self.choice:
            raise UserError("`choice` must hold at least one value, but got []")

    def grid(self) -> tuple[Any, ...]:
        """The values in their order."""
        return self.choice

    def to_plain(self) -> dict[str, Any]:
        """As it stands in the file."""
        return {"choice": plain(self.choice)}


Range = FloatRange | IntRange | Choice


def plain(value: Any) -> Any:
    """A configuration or a part of it as dicts, lists and scalars, in the form of the file."""
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value.to_plain() if hasattr(value, "to_plain") else value


@dataclass(frozen=True)
class Leaf(Rule):
    """A value that keeps `rule`, or a range all of whose values keep it."""

    rule: Rule

    @property
    def expected(self) -> str:
        return self.rule.expected

    def plain(self) -> Rule:
        return self.rule.plain()

    def convert(self, value: Any) -> Any:
        if isinstance(value, Range):
            value = value.to_plain()
        if not isinstance(value, Mapping):
            return self.rule.convert(value)
        if "choice" in value:
            return self._choice(value)
        if isinstance(self.rule, Number) and value.keys() & {"low", "high", "log", "step"}:
            return self._range(value, self.rule)
        raise self.refuse(value, f", nor a range: {self._forms()}")

    def _forms(self) -> str:
        forms = "{choice: [...]}"
        if isinstance(self.rule, Number):
            forms = "{low: ..., high: ..., log: true}, {low: ..., high: ..., step: ...} or " + forms
        return forms

    def _choice(self, value: Mapping[str, Any]) -> Choice:
        parts = list(_unknown_keys(value, ("choice",)))
        choices = value["choice"]
        if not isinstance(choices, list | tuple):
            raise Broken(*parts, (("choice",), f"must be a list of values; got {show(choices)}"))
        if not choices:
            parts.append((("choice",), "must hold at least one value; got []"))
        items = Items(self.rule.plain())
        converted = gather(items.convert, choices, "choice", parts) or ()
        parts.extend(
            (("choice", index), f"must be given once; got {show(one)} again")
            for index, one in enumerate(converted)
            if one in converted[:index]
        )
        if parts:
            raise Broken(*parts)
        return Choice(converted)

    def _range(self, value: Mapping[str, Any], rule: Number) -> FloatRange | IntRange:
        parts = list(_unknown_keys(value, ("low", "high", "log", "step")))
        if missing := [key for key in ("low", "high") if key not in value]:
            parts.append(
                ((), f"a range needs `low` and `high`; `{'` and `'.join(missing)}` is missing")
            )
        end = Number(rule.low, rule.high, rule.open_low, rule.open_high, rule.integer)
        step = Number(integer=rule.integer)
        rules = {"low": end, "high": end, "log": Flag(), "step": step}
        found = {
            key: gather(rules[key].convert, value[key], key, parts)
            for key in rules
            if key in value and not (key == "step" and value[key] is None)
        }
        if parts:
            raise Broken(*parts)
        try:
            return IntRange(**found) if rule.integer else FloatRange(**found)
        except UserError as error:
            raise Broken(*(((), problem) for problem in error.problems)) from None

    def json_schema(self) -> dict[str, Any]:
        plain = self.rule.plain().json_schema()
        forms = [self.rule.json_schema()]
        if isinstance(self.rule, Number):
            end = {key: one for key, one in plain.items() if key != "type"}
            end["type"] = "integer" if self.rule.integer else "number"
            step: dict[str, Any] = {"type": end["type"], "exclusiveMinimum": 0}
            forms.append(
                _object({"low": end, "high": end, "log": {"type": "boolean"}}, ["low", "high"])
            )
            forms.append(_object({"low": end, "high": end, "step": step}, ["low", "high", "step"]))
        several = {"type": "array", "items": plain, "minItems": 1, "uniqueItems": True}
        forms.append(_object({"choice": several}, ["choice"]))
        return {"anyOf": forms}


def _object(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _unknown_keys(
    value: Mapping[str, Any], known: tuple[str, ...]
) -> Iterator[tuple[Location, str]]:
    for key in value:
        if key not in known:
            hint = did_you_mean(key, known) or f"; a range has {', '.join(known)}"
            yield (key,), f"unknown key{hint}"


def _refuse_bad_range(found: FloatRange | IntRange) -> None:
    low, high, step, problems = found.low, found.high, found.step, []
    if not low <= high:
        problems.append(f"`low <= high` must hold, but got ({low=}, {high=})")
    if found.log and not low > 0:
        problems.append(f"`low > 0` must hold for `log: true`, but got ({low=}, {high=})")
    if step is not None and not step > 0:
        problems.append(f"`step > 0` must hold, but got {step=}")
    elif found.log and step not in (None, 1 if isinstance(found, IntRange) else None):
        problems.append(f"`log: true` and `step` exclude each other, but got {step=}")
    if problems:
        raise UserError(problems)


def _plain_range(found: FloatRange | IntRange, default_step: int | None) -> dict[str, Any]:
    plain: dict[str, Any] = {"low": found.low, "high": found.high}
    if found.log:
        plain["log"] = True
    if found.step != default_step:
        plain["step"] = found.step
    return plain


def _exact(value: float) -> Fraction:
    return Fraction(str(value))
