"""What a configuration names: a class with its arguments, and the label that tables call it by.

What a class takes is read from its source and nothing is imported: importing torch takes longer
than the answer to a wrong configuration may.
"""

import ast
import importlib.util
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from types import CodeType
from typing import Annotated, Any, Literal, Required, Union, cast, get_args, get_origin

from pydantic import ConfigDict, Field, GetCoreSchemaHandler, PlainValidator, TypeAdapter
from pydantic_core import CoreSchema, PydanticCustomError, core_schema
from typing_extensions import TypedDict  # pydantic takes that of `typing` from Python 3.12 on

from pipeline.common.errors import did_you_mean, nearest
from pipeline.config.ranges import (
    Flag,
    Integer,
    Line,
    Location,
    Number,
    Searchable,
    String,
    ends,
    expected,
    plain,
    refuse,
)
from pipeline.config.yaml_text import flow_text, show

OPTIMIZERS = "torch.optim"

REFUSED: Mapping[str, str] = {
    "LBFGS": "it calls the loss again within a step (a closure), which a stack cannot do",
    "SparseAdam": "it takes sparse gradients only, and those of these networks are dense",
    "Muon": "it takes matrices only, and these networks have biases",
}
REFUSED_ARGUMENTS: Mapping[str, str] = {
    "foreach": "how a step is computed is chosen here, not per optimizer",
    "fused": "how a step is computed is chosen here, not per optimizer",
    "capturable": "it is for CUDA graphs, which this training does not record",
    "differentiable": "it is for differentiating through a step, which this training does not do",
    "maximize": "the loss is minimised here",
}
GIVEN = ("params",)  # what the program passes itself

LONGEST_LABEL = 60
MOST_COMBINATIONS = 10_000  # of values in which a condition on several arguments is checked


@dataclass(frozen=True)
class Component:
    """A class that people name, with keyword arguments for it.

    Attributes:
        path: where it is found; of an optimizer its name in torch.optim.
        arguments: a value or a range by name; what is left out has the class's default.
        label: what tables and pages call it, at most 60 characters; unique in a configuration.
    """

    path: str
    arguments: Mapping[str, Any]
    label: str

    @property
    def name(self) -> str:
        """The class's name."""
        return re.split("[.:]", self.path)[-1]

    def leaves(self) -> dict[str, Any]:
        """What stands in the file, by key; a label that is the name is left out."""
        label = {} if self.label in ("", self.name) else {"label": self.label}
        return {"name": self.path, **label, **self.arguments}

    def to_plain(self) -> dict[str, Any]:
        """As it stands in the file."""
        return {key: plain(value) for key, value in self.leaves().items()}


# What a class takes ------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Condition:
    """What a constructor demands of its arguments, in the words of its source.

    As metadata of the type of the one argument that it speaks of, it is checked on every value.
    """

    rule: ast.expr

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names in it, but for those of functions that are there."""
        return tuple(name for name in _names(self.rule) if name not in _FUNCTIONS)

    @cached_property
    def places(self) -> set[Location]:
        """The arguments and the items of arguments that it speaks of: `("lr",)`, `("betas", 0)`."""
        items: set[Location] = set()
        for node in ast.walk(self.rule):
            match node:
                case ast.Subscript(ast.Name(name), ast.Constant(int(item))):
                    items.add((name, item))
        return items | {(name,) for name in set(self.names) - {place[0] for place in items}}

    @cached_property
    def _code(self) -> CodeType:
        return compile(ast.Expression(ast.fix_missing_locations(self.rule)), "", "eval")

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether arguments keep it; true where this cannot be told without tensors."""
        try:
            return bool(eval(self._code, {"__builtins__": _FUNCTIONS}, values))
        except Exception:
            return True

    def __str__(self) -> str:
        return f"`{ast.unparse(self.rule)}` must hold"

    def _keeps(self, value: Any) -> bool:
        ((name, *item),) = self.places
        return self.holds({str(name): {item[0]: value} if item else value})

    def _check(self, value: Any) -> Any:
        if not self._keeps(value):
            raise PydanticCustomError("condition", "{rule}", {"rule": str(self)})
        return value

    def _limits(self) -> dict[str, float]:
        """The rule as JSON Schema has it: on which side of its numbers it holds."""
        limits = {}
        values: list[Any] = [n.value for n in ast.walk(self.rule) if isinstance(n, ast.Constant)]
        for number in (value for value in values if type(value) in (int, float)):
            below, at, above = (self._keeps(number + step) for step in (-1e-9, 0, 1e-9))
            if above and not below:
                limits["minimum" if at else "exclusiveMinimum"] = number
            if below and not above:
                limits["maximum" if at else "exclusiveMaximum"] = number
        return limits

    def __get_pydantic_core_schema__(self, of: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(
            self._check, handler(of), metadata={"pydantic_js_updates": self._limits()}
        )


_FUNCTIONS = {f.__name__: f for f in (abs, bool, float, int, isinstance, len, max, min, str, tuple)}
_OPPOSITES = ((ast.Lt, ast.GtE), (ast.Gt, ast.LtE), (ast.Eq, ast.NotEq), (ast.Is, ast.IsNot))
_OPPOSITE: dict[Any, Any] = {a: b for pair in _OPPOSITES for a, b in (pair, pair[::-1])}


def _opposite(test: ast.expr) -> ast.expr:
    match test:
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return operand
        case ast.BoolOp(op=operator, values=values):
            other = ast.Or() if isinstance(operator, ast.And) else ast.And()
            return ast.BoolOp(other, list(map(_opposite, values)))
        case ast.Compare(ops=[operator]) if type(operator) in _OPPOSITE:
            return ast.Compare(test.left, [_OPPOSITE[type(operator)]()], test.comparators)
    return ast.UnaryOp(ast.Not(), test)


@dataclass(frozen=True)
class Signature:
    """What a class takes, read from its source.

    Attributes:
        types: of the arguments of its constructor, as pydantic's.
        defaults: of those that have one; `...` where it is no value of a YAML file.
        conditions: on the arguments, those of a base class too that is given them by the same name.
    """

    types: Mapping[str, Any]
    defaults: Mapping[str, Any]
    conditions: tuple[Condition, ...]


@cache
def signature(module: str, name: str) -> Signature:
    """The signature of the class that a module calls `name`. Raises `LookupError`."""
    home, definition = _definition(module, name)
    base = ast.unparse(definition.bases[0]) if definition.bases else ""
    for constructor in definition.body:
        if isinstance(constructor, ast.FunctionDef) and constructor.name == "__init__":
            break
    else:
        return signature(home, base)
    arguments = constructor.args
    positional = [*arguments.posonlyargs, *arguments.args]
    required = len(positional) - len(arguments.defaults)
    named = [*positional, *arguments.kwonlyargs][1:]
    values = [*[None] * required, *arguments.defaults, *arguments.kw_defaults][1:]
    defaults = {a.arg: _literal(v) for a, v in zip(named, values, strict=True) if v is not None}
    types = {a.arg: _type(a.annotation) or _type_of(defaults.get(a.arg)) for a in named}
    conditions: list[Condition] = []
    unchanged = set(types)
    for statement in constructor.body:
        demanded: Iterable[Condition] = ()
        match statement:
            case ast.If(test=test, body=[ast.Raise(), *_]):
                demanded = [Condition(_opposite(test))]
            case ast.Expr(value=ast.Call(func=ast.Attribute(attr="__init__")) as call):
                if set(_names(call)) & types.keys() - GIVEN:
                    demanded = _inherited(signature(home, base), call)
        # The others speak of tensors, or of what was computed from the arguments.
        conditions += filter(lambda condition: unchanged.issuperset(condition.names), demanded)
        unchanged -= set(_names(statement, ast.Store))
    return Signature(types, defaults, tuple(conditions))


def _inherited(base: Signature, call: ast.Call) -> Iterator[Condition]:
    """The conditions of a base class on what its constructor is given by the same name."""
    passed = [*zip(base.types, call.args, strict=False), *((k.arg, k.value) for k in call.keywords)]
    same = {name for name, value in passed if isinstance(value, ast.Name) and value.id == name}
    return (condition for condition in base.conditions if same.issuperset(condition.names))


def _definition(module: str, name: str) -> tuple[str, ast.ClassDef]:
    """The class that a module defines or imports by a name, and the module that defines it."""
    path = _file(module)
    body = ast.parse(path.read_bytes()).body
    for node in body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return module, node
    for node in (node for node in body if isinstance(node, ast.ImportFrom)):
        for alias in node.names:
            if name == (alias.asname or alias.name):
                package = module if path.stem == "__init__" else module.rpartition(".")[0]
                source = "." * node.level + (node.module or "")
                return _definition(importlib.util.resolve_name(source, package), alias.name)
    raise LookupError(f"{module} has no class {name}")


def _file(module: str) -> Path:
    package, *below = module.split(".")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise LookupError(f"there is no package {package}")
    path = Path(spec.submodule_search_locations[0], *below)
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _names(node: ast.AST, context: type[ast.expr_context] = ast.Load) -> tuple[str, ...]:
    names = (part for part in ast.walk(node) if isinstance(part, ast.Name))
    return tuple(dict.fromkeys(name.id for name in names if isinstance(name.ctx, context)))


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ...


_TYPES = {"float": Number, "int": Integer, "bool": Flag, "str": String}


def _type(annotation: ast.expr | None) -> Any:
    """The type of what an annotation allows and a YAML file can hold; None where there is none."""
    match annotation:
        case ast.Constant(value=None):
            return type(None)
        case ast.Name(id=name):
            return _TYPES.get(name)
        case ast.BinOp(left=left, right=right):
            return _either(left, right)
        case ast.Subscript(value=ast.Name(id="Optional" | "Union"), slice=part):
            return _either(*getattr(part, "elts", [part, ast.Constant(None)]))
        case ast.Subscript(value=ast.Name(id="tuple" | "Tuple"), slice=ast.Tuple(elts=parts)):
            items = tuple(map(_type, parts))
            return tuple[items] if all(items) else None  # type: ignore[valid-type]
    return None


def _either(*parts: ast.expr) -> Any:
    types = tuple(filter(None, map(_type, parts)))
    return Union[types] if types else None  # noqa: UP007


def _type_of(default: Any) -> Any:
    if isinstance(default, tuple):
        return tuple[tuple(map(_type_of, default))]  # type: ignore[misc]
    return _TYPES.get(type(default).__name__, Any)


# An entry under `optimizers` ---------------------------------------------------------------------


@cache
def optimizer_names() -> tuple[str, ...]:
    """The classes of torch.optim that can be trained here."""
    body = ast.parse(_file(OPTIMIZERS).read_bytes()).body
    imports = [alias.name for node in body for alias in getattr(node, "names", ())]
    return tuple(n for n in imports if n[0].isupper() and n not in {"Optimizer", *REFUSED})


def arguments_of(name: str) -> tuple[str, ...]:
    """The arguments of an optimizer that a configuration may set."""
    types = signature(OPTIMIZERS, name).types
    return tuple(key for key in types if key not in GIVEN and key not in REFUSED_ARGUMENTS)


Label = Annotated[
    Line, Field(max_length=LONGEST_LABEL), expected(f"a line of 1 to {LONGEST_LABEL} characters")
]


@cache
def entry_reader(name: str) -> TypeAdapter[dict[str, Any]]:
    """What checks an optimizer's entry and brings its keys into the order of the constructor."""
    taken = signature(OPTIMIZERS, name)
    fields: dict[str, Any] = {"name": Required[Literal[name]], "label": Label}
    for key in arguments_of(name):
        leaf = _searchable(taken.types[key], key, taken.conditions)
        extra = {"default": plain(taken.defaults[key])} if key in taken.defaults else {}
        leaf = Annotated[leaf, Field(json_schema_extra=extra)]
        fields[key] = leaf if extra else Required[leaf]
    keys = cast(Any, TypedDict)(name, fields, total=False)
    keys.__pydantic_config__ = ConfigDict(extra="forbid")
    return TypeAdapter(keys)


def _searchable(type_: Any, key: str, conditions: Iterable[Condition]) -> Any:
    """A type, with the conditions on its values and on its items, for any of which a range may
    stand."""

    def leaf(type_: Any, *place: str | int) -> Any:
        here = [condition for condition in conditions if condition.places == {place}]
        return Searchable[Annotated[(type_, *here)] if here else type_]  # type: ignore[misc]

    if get_origin(type_) is tuple:
        items = tuple(leaf(item, key, index) for index, item in enumerate(get_args(type_)))
        type_ = tuple[items]  # type: ignore[valid-type]
    return leaf(type_, key)


def _read_optimizer(entry: Any) -> Component:
    """The component that an entry describes, its label "" where none is given."""
    if not isinstance(entry, Mapping):
        refuse(((), f"must be a mapping such as {{name: SGD, lr: 0.1}}; got {show(entry)}"))
    if "name" not in entry and (meant := nearest("name", entry)):
        refuse(((meant,), "unknown key; did you mean 'name'?"))
    name, names = entry.get("name"), optimizer_names()
    if reason := REFUSED.get(str(name)):
        refuse((("name",), f"{name} cannot be trained here: {reason}"))
    if name not in names:
        hint = did_you_mean(str(name), names)
        refuse((("name",), f"must be one of {', '.join(names)}; got {show(name)}{hint}"))
    arguments = entry_reader(name).validate_python(entry)
    label, _ = arguments.pop("label", ""), arguments.pop("name")
    taken = signature(OPTIMIZERS, name)
    several = [condition for condition in taken.conditions if len(condition.places) > 1]
    problems = (_refusal(condition, {**taken.defaults, **arguments}) for condition in several)
    refuse(*filter(None, problems))
    return Component(name, arguments, label)


def _refusal(condition: Condition, arguments: Mapping[str, Any]) -> tuple[Location, str] | None:
    """The first combination of values that a condition on several of them refuses."""
    leaves = [
        itertools.islice(ends(arguments.get(name)), MOST_COMBINATIONS) for name in condition.names
    ]
    for combination in itertools.islice(itertools.product(*leaves), MOST_COMBINATIONS):
        values = dict(zip(condition.names, combination, strict=True))
        if not condition.holds(values):
            got = ", ".join(f"{key}={flow_text(plain(value))}" for key, value in values.items())
            return (condition.names[0],), f"{condition}, but got ({got})"
    return None


Optimizer = Annotated[Component, PlainValidator(_read_optimizer)]
"""A component that is read from an entry under `optimizers`."""
