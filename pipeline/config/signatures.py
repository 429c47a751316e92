"""What a class takes, read from its source.

Nothing is imported: importing torch takes longer than the answer to a wrong configuration may."""

import ast
import importlib.util
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from types import CodeType
from typing import Any, Union

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from pipeline.config.ranges import Flag, Integer, Location, Number, String

GIVEN = ("params", "optimizer")  # what the program passes itself


@dataclass(frozen=True, eq=False)
class Condition:
    """What a constructor demands of its arguments, in the words of its source.

    As metadata of the type of the one argument that it speaks of, it is checked on every value."""

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
_OPPOSITES = (
    (ast.Lt, ast.GtE),
    (ast.Gt, ast.LtE),
    (ast.Eq, ast.NotEq),
    (ast.Is, ast.IsNot),
    (ast.In, ast.NotIn),
)
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


@cache
def class_names(module: str) -> tuple[str, ...]:
    """The classes that a module says it has, in its `__all__`."""
    for node in _source(module)[1]:
        match node:
            case ast.Assign(targets=[ast.Name("__all__")], value=value):
                return tuple(name for name in ast.literal_eval(value) if name[0].isupper())
    raise LookupError(f"{module} has no __all__")


def _inherited(base: Signature, call: ast.Call) -> Iterator[Condition]:
    """The conditions of a base class on what its constructor is given by the same name."""
    passed = [*zip(base.types, call.args, strict=False), *((k.arg, k.value) for k in call.keywords)]
    same = {name for name, value in passed if isinstance(value, ast.Name) and value.id == name}
    return (condition for condition in base.conditions if same.issuperset(condition.names))


def _definition(module: str, name: str) -> tuple[str, ast.ClassDef]:
    """The class that a module defines or imports by a name, and the module that defines it."""
    path, body = _source(module)
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


@cache
def _source(module: str) -> tuple[Path, list[ast.stmt]]:
    """The file of a module, and what stands in it."""
    package, *below = module.split(".")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise LookupError(f"there is no package {package}")
    path = Path(spec.submodule_search_locations[0], *below)
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return path, ast.parse(path.read_bytes()).body


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
