"""The update rules as C++: each is run once on symbols, and what it does to them is written down.

So a rule stays written once, in `optimizers.rules`. What depends on a member alone is computed
in double precision before the loop over its parameters, as the rules do it for a stack."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple

import torch

from pipeline.config.component import Component
from pipeline.optimizers.classes import default_arguments
from pipeline.optimizers.rules import RULES, TERMS
from pipeline.optimizers.stacked import StackedGroup

Kind = Literal["truth", "double", "float", "each"]
"""double, float: one for each member; each: a float for each parameter."""


class Variant(NamedTuple):
    """A rule with its booleans set.

    name: a key of `RULES`; flags: the booleans among torch's arguments, and as `momentum` whether
    any member uses the buffer that SGD and RMSprop keep for it."""

    name: str
    flags: frozenset[tuple[str, bool]]


def variant_of(group: StackedGroup) -> Variant:
    """The variant that trains a group."""
    hyper = vars(group.hyper)
    flags = {(name, value) for name, value in hyper.items() if isinstance(value, bool)}
    flags |= {(name, hyper[name] is not None) for name in hyper if name == "momentum"}
    return Variant(group.name, frozenset(flags))


class Function(NamedTuple):
    """A variant in C++, and the names of the hyper-parameters and of the states that it takes. All
    terms but momentum are there, and 0 where they are not used."""

    code: str
    number: int
    hyper: tuple[str, ...]
    states: tuple[str, ...]


@cache
def functions() -> Mapping[Variant, Function]:
    """Every variant of every rule that can be written, in the program's order.

    A rule that cannot be written, since `Value` lacks an operation, is left out whole: torch's own
    operations train it, several times slower."""
    written: dict[Variant, Function] = {}
    for name in RULES:
        with suppress(AttributeError, KeyError, TypeError):
            numbered = enumerate(_variants(name), start=len(written))
            written |= {variant: _function(number, variant) for number, variant in numbered}
    return written


def source() -> str:
    """C++ of all variants and their table `RULES`."""
    code = "".join(function.code for function in functions().values())
    table = ", ".join(f"rule_{function.number}" for function in functions().values())
    return f"namespace {{\n{code}const Rule RULES[] = {{{table}}};\n}}\n"


def _variants(name: str) -> Iterator[Variant]:
    defaults = default_arguments(name)
    flags = [key for key, value in defaults.items() if isinstance(value, bool) or key == "momentum"]
    for values in itertools.product((False, True), repeat=len(flags)):
        yield Variant(name, frozenset(zip(flags, values, strict=True)))


def _sample(variant: Variant) -> StackedGroup:
    """A group of one member of this variant, which uses all terms but perhaps momentum."""
    arguments = dict.fromkeys(TERMS & default_arguments(variant.name).keys(), 1.0)
    flags = {key: float(on) if key == "momentum" else on for key, on in variant.flags}
    weights = torch.zeros(1, 2)
    return StackedGroup([Component(variant.name, arguments | flags)], weights, weights, [1], 1)


def _function(number: int, variant: Variant) -> Function:
    group, program = _sample(variant), Program()
    p, g = Value(program, "p[i]", "each"), Value(program, "g[i]", "each")
    states: dict[str, Value] = {}
    pointers = []
    kept = {name: state for name, state in vars(group.states).items() if state is not None}
    for i, (name, state) in enumerate(kept.items()):
        is_each = state.dtype == torch.float32
        kind: Kind = "each" if is_each else "double"
        states[name] = Value(program, f"s{i}[i]" if is_each else f"*s{i}", kind)
        pointer = f"{_TYPES[kind]} *"
        pointers.append(f"    {pointer}__restrict s{i} = static_cast<{pointer}>(states[{i}]);")
    names = [name for name, value in vars(group.hyper).items() if torch.is_tensor(value)]
    hyper = {name: Value(program, f"h[{i}]", "double") for i, name in enumerate(names)}
    s = SimpleNamespace(**vars(group.states) | states)
    h = SimpleNamespace(**vars(group.hyper) | hyper)
    step: Callable[..., None] = RULES[variant.name].step
    step(p, g, Value(program, "t", "double"), s, h)

    ends: list[str] = []
    for symbol in states.values():
        if symbol.code != symbol.origin:
            statements = program.body if symbol.kind == "each" else ends
            statements.append(f"{symbol.origin} = {symbol.code};")
    program.body.append(f"p[i] = {p.code};")
    lines = [
        f"void rule_{number}(long n, float *__restrict p, const float *__restrict g, double t,",
        "            void *const *states, const double *h) {",
        *pointers,
        *(f"    {line}" for line in program.head),
        "    for (long i = 0; i < n; i++) {",
        *(f"        {line}" for line in program.body),
        "    }",
        *(f"    {line}" for line in ends),
        "}",
    ]
    return Function("\n".join(lines) + "\n", number, tuple(hyper), tuple(states))


@dataclass
class Program:
    """Statements: those of `head` run once for each member, of `body` for each parameter."""

    head: list[str] = field(default_factory=list)
    body: list[str] = field(default_factory=list)

    def let(self, code: str, kind: Kind) -> "Value":
        lines = self.body if kind == "each" else self.head
        name = f"v{len(self.head) + len(self.body)}"
        lines.append(f"const {_TYPES[kind]} {name} = {code};")
        return Value(self, name, kind)


_TYPES: Mapping[Kind, str]
_TYPES = {"truth": "bool", "double": "double", "float": "float", "each": "float"}


def _operation(form: str, kind: Kind | None = None) -> "Callable[..., Value]":
    return lambda value, *others: value._with(form, *others, kind=kind)


class Value:
    """A tensor of a rule as a symbol: what is done to it becomes a statement.

    Attributes:
        code: the C++ that has its value now; origin: the one that it began with."""

    def __init__(self, program: Program, code: str, kind: Kind) -> None:
        self.program, self.code, self.kind = program, code, kind
        self.origin = code
        self.dtype = torch.float32 if kind in ("each", "float") else torch.float64

    add = __add__ = __radd__ = _operation("{0} + {1}")
    sub = __sub__ = _operation("{0} - {1}")
    mul = __mul__ = __rmul__ = _operation("{0} * {1}")
    div = __truediv__ = _operation("{0} / {1}")
    __rsub__ = _operation("{1} - {0}")
    __rtruediv__ = _operation("{1} / {0}")
    __pow__ = _operation("std::pow({0}, {1})")
    __rpow__ = _operation("std::pow({1}, {0})")
    __neg__ = _operation("-{0}")
    __gt__ = _operation("{0} > {1}", "truth")
    __and__ = _operation("{0} && {1}")
    sqrt = _operation("std::sqrt({0})")
    abs = _operation("std::fabs({0})")
    # As torch does it: from the nearer end.
    lerp = _operation("{2} < 0.5f ? {0} + {2} * ({1} - {0}) : {1} - ({1} - {0}) * (1 - {2})")

    def addcmul(self, a: "Value", b: "Value", value: int = 1) -> "Value":
        return self + a * b if value == 1 else self + a * b * value

    def addcdiv(self, a: "Value", b: "Value") -> "Value":
        return self + a / b

    def to(self, dtype: torch.dtype) -> "Value":
        if self.kind == "double" and dtype == torch.float32:
            return self.program.let(f"static_cast<float>({self.code})", "float")
        return self

    def __getattr__(self, name: str) -> "Callable[..., Value]":
        """In place: of `mul_` it is `mul`, whose value this one takes on."""
        if not name.endswith("_") or name.endswith("__"):
            raise AttributeError(f"{name} cannot be written in C++")
        operation = getattr(self, name[:-1])
        return lambda *arguments: self._become(operation(*arguments))

    def _become(self, value: "Value") -> "Value":
        if value.kind != self.kind:
            raise TypeError(f"{self.kind} cannot hold {value.kind}")
        self.code = value.code
        return self

    def _with(self, form: str, *others: Any, kind: Kind | None = None) -> "Value":
        """A new value; `form` has {0} for this one and {1}, {2} for the others."""
        kinds = {self.kind, *(other.kind for other in others if isinstance(other, Value))}
        if "each" in kinds and "double" in kinds:
            raise TypeError(f"a coefficient must be rounded to float first: {form}")
        common: Kind = next(k for k in ("each", "double", "float", "truth") if k in kinds)
        codes = [_code(value, common != "double") for value in (self, *others)]
        return self.program.let(form.format(*codes), kind or common)

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> "Value":
        return _FUNCTIONS[function](*args, **(kwargs or {}))


def _maximum(a: Value, b: Value, out: Value | None = None) -> Value:
    # A NaN in either comes through.
    greater = a._with("{0} > {1} || {0} != {0} ? {0} : {1}", b)
    return greater if out is None else out._become(greater)


def _where(condition: Value, yes: Any, no: Any) -> Value:
    kind = (yes if isinstance(yes, Value) else no).kind
    branches = [_code(value, kind == "each") for value in (yes, no)]
    return condition.program.let(f"{condition.code} ? {branches[0]} : {branches[1]}", kind)


_FUNCTIONS: Mapping[Callable[..., Any], Callable[..., Value]] = {
    torch.maximum: _maximum,
    torch.where: _where,
}


def _code(value: Any, single: bool) -> str:
    if isinstance(value, Value):
        return value.code
    return f"{float(value)!r}{'f' if single else ''}"
