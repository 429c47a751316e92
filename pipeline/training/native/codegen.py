"""The update rules as C++: each is run once on symbols, and what it does to them is written down.

So a rule stays written once, in `optimizers.rules`. What depends on a member alone is computed
in double precision before the loop over its parameters, as the rules do it for a stack.
"""

import inspect
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, Self

import torch

from pipeline.optimizers.rules import RULES, TERMS, Rule
from pipeline.optimizers.stacked import default_arguments

Kind = Literal["truth", "double", "float", "each"]
"""double, float: one for each member; each: a float for each parameter."""


@dataclass(frozen=True)
class Variant:
    """A rule with its booleans set.

    name: a key of `RULES`; flags: the booleans among torch's arguments; momentum: whether any
    member uses the buffer that SGD and RMSprop keep for it.
    """

    name: str
    flags: frozenset[tuple[str, bool]]
    momentum: bool = True


@cache
def variants() -> tuple[Variant, ...]:
    """Every variant that there is, in the order in which the program has them."""
    found = []
    for name in RULES:
        defaults = default_arguments(name)
        flags = [key for key, value in defaults.items() if isinstance(value, bool)]
        for values in itertools.product((False, True), repeat=len(flags)):
            for momentum in (False, True) if "momentum" in defaults else (True,):
                setting = frozenset(zip(flags, values, strict=True))
                found.append(Variant(name, setting, momentum))
    return tuple(found)


@dataclass(frozen=True)
class Inputs:
    """What a variant takes: hyper-parameters, then states, by name and in order.

    wide: of the states those with a float for each parameter; the others are one double.
    """

    hyper: tuple[str, ...]
    states: tuple[str, ...]
    wide: frozenset[str]


@cache
def inputs(variant: Variant) -> Inputs:
    """A variant's inputs. All terms but momentum are there, and 0 where they are not used."""
    rule = RULES[variant.name]
    arguments = inspect.signature(rule.update).parameters
    sample = _sample(variant)
    states = {name: start(torch.zeros(1, 2), sample) for name, start in rule.states.items()}
    given = {name: state for name, state in states.items() if state is not None}
    return Inputs(
        hyper=tuple(n for n, v in sample.items() if n in arguments and torch.is_tensor(v)),
        states=tuple(given),
        wide=frozenset(name for name, state in given.items() if state.dtype == torch.float32),
    )


def source() -> str:
    """C++ of all variants and their table `RULES`."""
    found = variants()
    parts = [_function(f"rule_{i}", variant) for i, variant in enumerate(found)]
    table = ", ".join(f"rule_{i}" for i in range(len(found)))
    return f"namespace {{\n{''.join(parts)}const Rule RULES[] = {{{table}}};\n}}\n"


def _sample(variant: Variant) -> dict[str, Any]:
    """A group's arguments (`update_rules.Hyper`) of this variant."""
    sample: dict[str, Any] = dict(variant.flags)
    for name in default_arguments(variant.name):
        for part in ("beta1", "beta2") if name == "betas" else (name,):
            if part == "momentum" and not variant.momentum:
                sample[part] = None
            elif part not in sample:
                sample[part] = torch.zeros(1, 1, dtype=torch.float64)
    return sample


def _function(name: str, variant: Variant) -> str:
    rule, wanted = RULES[variant.name], inputs(variant)
    program = Program()
    p = program.symbol("p[i]", "each")
    states = {
        key: program.symbol(f"s{i}[i]" if key in wanted.wide else f"*s{i}", _kind(key, wanted))
        for i, key in enumerate(wanted.states)
    }
    values: dict[str, Any] = dict(states)
    values |= {key: program.symbol(f"h[{i}]", "double") for i, key in enumerate(wanted.hyper)}
    _run(rule, variant, p, program.symbol("g[i]", "each"), program.symbol("t", "double"), values)

    pointers: list[str] = []
    ends: list[str] = []
    for i, (key, state) in enumerate(states.items()):
        kind = "float" if key in wanted.wide else "double"
        pointers.append(f"    {kind} *__restrict s{i} = static_cast<{kind} *>(states[{i}]);")
        if state.code != state.origin:
            (program.body if key in wanted.wide else ends).append(f"{state.origin} = {state.code};")
    program.body.append(f"p[i] = {p.code};")
    lines = [
        f"void {name}(long n, float *__restrict p, const float *__restrict g, double t,",
        "            void *const *states, const double *h) {",
        *pointers,
        *(f"    {line}" for line in program.head),
        "    for (long i = 0; i < n; i++) {",
        *(f"        {line}" for line in program.body),
        "    }",
        *(f"    {line}" for line in ends),
        "}",
    ]
    return "\n".join(lines) + "\n"


def _kind(state: str, wanted: Inputs) -> Kind:
    return "each" if state in wanted.wide else "double"


def _run(
    rule: Rule, variant: Variant, p: "Value", g: "Value", t: "Value", values: Mapping[str, Any]
) -> None:
    """Apply the rule to the symbols."""
    taken = inspect.signature(rule.update).parameters
    given: dict[str, Any] = {name: None for name in (*TERMS, *rule.states) if name in taken}
    given |= {name: value for name, value in variant.flags if name in taken}
    given |= {name: value for name, value in values.items() if name in taken}
    rule.update(p, g, t, **given)


@dataclass
class Program:
    """Statements: `head` once for each member, `body` for each of its parameters."""

    head: list[str] = field(default_factory=list)
    body: list[str] = field(default_factory=list)

    def symbol(self, code: str, kind: Kind) -> "Value":
        return Value(self, code, kind)

    def let(self, code: str, kind: Kind) -> "Value":
        lines = self.body if kind == "each" else self.head
        name = f"v{len(self.head) + len(self.body)}"
        lines.append(f"const {_TYPES[kind]} {name} = {code};")
        return Value(self, name, kind)


_TYPES: Mapping[Kind, str] = {
    "truth": "bool",
    "double": "double",
    "float": "float",
    "each": "float",
}


class Value:
    """A tensor of a rule as a symbol: what is done to it becomes a statement.

    Attributes:
        code: the C++ that has its value now; origin: the one that it began with.
    """

    def __init__(self, program: Program, code: str, kind: Kind) -> None:
        self.program, self.code, self.kind = program, code, kind
        self.origin = code
        self.dtype = torch.float32 if kind in ("each", "float") else torch.float64

    def _with(self, form: str, *others: Any, kind: Kind | None = None) -> "Value":
        """A new value; `form` has {0} for this one and {1}, {2} for the others."""
        kinds = {self.kind, *(other.kind for other in others if isinstance(other, Value))}
        if "each" in kinds and "double" in kinds:
            raise TypeError(f"a coefficient must be rounded to float first: {form}")
        found: Kind = next(k for k in ("each", "double", "float", "truth") if k in kinds)
        single = found != "double"
        codes = [_code(value, single) for value in (self, *others)]
        return self.program.let(form.format(*codes), kind or found)

    def _become(self, value: "Value") -> Self:
        if value.kind != self.kind:
            raise TypeError(f"{self.kind} cannot hold {value.kind}")
        self.code = value.code
        return self

    def to(self, dtype: torch.dtype) -> "Value":
        if self.kind == "double" and dtype == torch.float32:
            return self.program.let(f"static_cast<float>({self.code})", "float")
        return self

    def __add__(self, other: Any) -> "Value":
        return self._with("{0} + {1}", other)

    def __sub__(self, other: Any) -> "Value":
        return self._with("{0} - {1}", other)

    def __rsub__(self, other: Any) -> "Value":
        return self._with("{1} - {0}", other)

    def __mul__(self, other: Any) -> "Value":
        return self._with("{0} * {1}", other)

    def __truediv__(self, other: Any) -> "Value":
        return self._with("{0} / {1}", other)

    def __rtruediv__(self, other: Any) -> "Value":
        return self._with("{1} / {0}", other)

    def __pow__(self, other: Any) -> "Value":
        return self._with("std::pow({0}, {1})", other)

    def __rpow__(self, other: Any) -> "Value":
        return self._with("std::pow({1}, {0})", other)

    def __neg__(self) -> "Value":
        return self._with("-{0}")

    def __gt__(self, other: Any) -> "Value":
        return self._with("{0} > {1}", other, kind="truth")

    def __and__(self, other: Any) -> "Value":
        return self._with("{0} && {1}", other)

    __radd__, __rmul__ = __add__, __mul__
    add, div = __add__, __truediv__

    def sqrt(self) -> "Value":
        return self._with("std::sqrt({0})")

    def abs(self) -> "Value":
        return self._with("std::fabs({0})")

    def addcmul(self, a: "Value", b: "Value", value: int = 1) -> "Value":
        return self + a * b if value == 1 else self + a * b * value

    def add_(self, other: Any) -> Self:
        return self._become(self + other)

    def sub_(self, other: Any) -> Self:
        return self._become(self - other)

    def mul_(self, other: Any) -> Self:
        return self._become(self * other)

    def div_(self, other: Any) -> Self:
        return self._become(self / other)

    def sqrt_(self) -> Self:
        return self._become(self.sqrt())

    def addcmul_(self, a: "Value", b: "Value") -> Self:
        return self._become(self + a * b)

    def addcdiv_(self, a: "Value", b: "Value") -> Self:
        return self._become(self + a / b)

    def lerp_(self, end: Any, weight: Any) -> Self:
        # As torch does it: from the nearer end.
        near = "{2} < 0.5f ? {0} + {2} * ({1} - {0}) : {1} - ({1} - {0}) * (1 - {2})"
        return self._become(self._with(near, end, weight))

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> "Value":
        return _FUNCTIONS[function](*args, **(kwargs or {}))


def _maximum(a: Value, b: Value, out: Value | None = None) -> Value:
    # A NaN in either comes through.
    found = a._with("{0} > {1} || {0} != {0} ? {0} : {1}", b)
    return found if out is None else out._become(found)


def _where(condition: Value, yes: Any, no: Any) -> Value:
    value = yes if isinstance(yes, Value) else no
    if value.kind == "each":
        return condition.program.let(
            f"{condition.code} ? {_code(yes, True)} : {_code(no, True)}", "each"
        )
    return condition.program.let(
        f"{condition.code} ? {_code(yes, False)} : {_code(no, False)}", value.kind
    )


_FUNCTIONS: Mapping[Callable[..., Any], Callable[..., Value]] = {
    torch.maximum: _maximum,
    torch.where: _where,
}


def _code(value: Any, single: bool) -> str:
    if isinstance(value, Value):
        return value.code
    return f"{float(value)!r}{'f' if single else ''}"
