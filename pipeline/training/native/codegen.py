"""The update rules as C++: each is traced by torch.fx, and what it does is written down.

So a rule stays written once, in `optimizers.rules`. What depends on a member alone is computed
in double precision before the loop over its parameters, as the rules do it for a stack."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple

import torch
from torch import fx
from torch.fx.proxy import GraphAppendingTracer, TraceError

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

    A rule that cannot be written, since `FORMS` lacks an operation, is left out whole: torch's own
    operations train it, several times slower."""
    written: dict[Variant, Function] = {}
    for name in RULES:
        with suppress(KeyError, TypeError, TraceError):
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
    group, graph = _sample(variant), fx.Graph()
    tracer = GraphAppendingTracer(graph)
    places: dict[str, tuple[str, Kind]] = {"p": ("p[i]", "each"), "g": ("g[i]", "each")}
    pointers = []
    states = [name for name, state in vars(group.states).items() if state is not None]
    for i, name in enumerate(states):
        is_each = getattr(group.states, name).dtype == torch.float32
        places[f"s_{name}"] = (f"s{i}[i]", "each") if is_each else (f"*s{i}", "double")
        pointer = f"{'float' if is_each else 'double'} *"
        pointers.append(f"    {pointer}__restrict s{i} = static_cast<{pointer}>(states[{i}]);")
    hyper = [name for name, value in vars(group.hyper).items() if torch.is_tensor(value)]
    places |= {f"h_{name}": (f"h[{i}]", "double") for i, name in enumerate(hyper)}
    symbols = {key: fx.Proxy(graph.placeholder(key), tracer) for key in (*places, "t")}
    s = SimpleNamespace(**vars(group.states) | {name: symbols[f"s_{name}"] for name in states})
    h = SimpleNamespace(**vars(group.hyper) | {name: symbols[f"h_{name}"] for name in hyper})
    step: Callable[..., None] = RULES[variant.name].step
    step(symbols["p"], symbols["g"], symbols["t"], s, h)
    head, body, ends = _statements(graph, {**places, "t": ("t", "double")})
    lines = [
        f"void rule_{number}(long n, float *__restrict p, const float *__restrict g, double t,",
        "            void *const *states, const double *h) {",
        *pointers,
        *(f"    {line}" for line in head),
        "    for (long i = 0; i < n; i++) {",
        *(f"        {line}" for line in body),
        "    }",
        *(f"    {line}" for line in ends),
        "}",
    ]
    return Function("\n".join(lines) + "\n", number, tuple(hyper), tuple(states))


FORMS: Mapping[str, str] = {
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": "{0} * {1}",
    "div": "{0} / {1}",
    "truediv": "{0} / {1}",
    "pow": "std::pow({0}, {1})",
    "neg": "-{0}",
    "gt": "{0} > {1}",
    "and_": "{0} && {1}",
    "sqrt": "std::sqrt({0})",
    "abs": "std::fabs({0})",
    # As torch does it: from the nearer end.
    "lerp": "{2} < 0.5f ? {0} + {2} * ({1} - {0}) : {1} - ({1} - {0}) * (1 - {2})",
    "addcmul": "{0} + {1} * {2} * {value}",
    "addcdiv": "{0} + {1} / {2}",
    "maximum": "{0} > {1} || {0} != {0} ? {0} : {1}",  # a NaN in either comes through
    "where": "{0} ? {1} : {2}",
    "to": "static_cast<float>({0})",
}
"""An operation of the rules in C++; what it is given is {0}, {1}, {2}."""

_TYPES: Mapping[Kind, str]
_TYPES = {"truth": "bool", "double": "double", "float": "float", "each": "float"}


def _statements(
    graph: fx.Graph, places: Mapping[str, tuple[str, Kind]]
) -> tuple[list[str], list[str], list[str]]:
    """Those that run once for each member, those for each of its parameters, and those that run
    after these.

    Args:
        places: by the name of each input where it stands in memory, and its kind."""
    variables: dict[fx.Node, tuple[str, Kind]] = {}
    head: list[str] = []
    body: list[str] = []
    ends: list[str] = []
    for number, node in enumerate(graph.nodes):
        if node.target is getattr:  # the dtype that all coefficients are rounded to
            continue
        declared, variable = "{} ", f"v{number}"
        if node.op == "placeholder":
            code, kind = places[node.name]
        else:
            is_method = node.op == "call_method"
            name = str(node.target).removesuffix("_") if is_method else node.target.__name__
            given = [variables.get(each, (each, None)) for each in node.args]
            given = given[:1] if name == "to" else given
            kind = _kind(name, {of for _, of in given if of})
            values = [each if of else _number(each, kind) for each, of in given]
            code = FORMS[name].format(*values, value=_number(node.kwargs.get("value", 1), kind))
            changed = node.args[0] if name != node.target and is_method else node.kwargs.get("out")
            if changed is not None:
                declared, (variable, held) = "", variables[changed]
                if kind != held:
                    raise TypeError(f"{held} cannot hold {kind}")
        variables[node] = variable, kind
        statement = f"{declared.format(_TYPES[kind])}{variable} = {code};"
        (body if kind == "each" else head).append(statement)
    for node, (variable, kind) in variables.items():
        if node.op == "placeholder" and (node.name == "p" or node.name.startswith("s_")):
            (body if kind == "each" else ends).append(f"{places[node.name][0]} = {variable};")
    return head, body, ends


def _kind(name: str, kinds: set[Kind]) -> Kind:
    """Of what an operation gives. Raises TypeError where it mixes what a rule must round first."""
    if name == "to":
        return "each" if "each" in kinds else "float"
    if name in ("gt", "and_"):
        return "truth"
    if "each" in kinds and "double" in kinds:
        raise TypeError(f"a coefficient must be rounded to float first: {name}")
    order: tuple[Kind, ...] = ("each", "double", "float", "truth")
    return next(kind for kind in order if kind in kinds)


def _number(value: Any, kind: Kind) -> str:
    return f"{float(value)!r}{'f' if kind in ('each', 'float') else ''}"
