"""What a class takes, read from its source.

Nothing is imported: importing torch takes longer than the answer to a wrong configuration may."""

import ast
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from types import CodeType
from typing import Any, Union

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from pipeline.config.ranges import Flag, Integer, Number, String
from pipeline.config.yaml_text import Location

GIVEN = ("params", "optimizer")  # what the program passes itself


@dataclass(frozen=True, eq=False)
class Condition:
    """What a constructor demands of one of its arguments, in the words of its source. As metadata
    of a type it is checked on every value.

    Attributes:
        rule: what must hold.
        place: what it speaks of, an argument or an item of one: `("lr",)`, `("betas", 0)`."""

    rule: ast.expr
    place: Location

    def __str__(self) -> str:
        return f"`{ast.unparse(self.rule)}` must hold"

    @cached_property
    def _code(self) -> CodeType:
        return compile(ast.Expression(ast.fix_missing_locations(self.rule)), "", "eval")

    def _keeps(self, value: Any) -> bool:
        """Whether a value keeps it; true where this cannot be told without tensors."""
        name, *item = self.place
        values = {str(name): {item[0]: value} if item else value}
        try:
            return bool(eval(self._code, {"__builtins__": _FUNCTIONS}, values))
        except Exception:
            return True

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


def _conditions(rule: ast.expr) -> list[Condition]:
    """The rule as a condition, if it speaks of one argument or one item of an argument."""
    names = set(_names(rule)) - _FUNCTIONS.keys()
    items: set[Location] = set()
    for node in ast.walk(rule):
        match node:
            case ast.Subscript(ast.Name(name), ast.Constant(int(item))):
                items.add((name, item))
    places = items | {(name,) for name in names - {place[0] for place in items}}
    return [Condition(rule, *places)] if len(places) == 1 else []


@dataclass(frozen=True)
class Signature:
    """What a class takes, read from its source.

    Attributes:
        types: of the arguments of its constructor, as pydantic's.
        defaults: of those that have one; `...` where it is no value of a YAML file.
        conditions: on single arguments, those of a base class too that is given them.
    """

    types: Mapping[str, Any]
    defaults: Mapping[str, Any]
    conditions: tuple[Condition, ...]


@cache
def signature(module: str, name: str) -> Signature:
    """The signature of the class that a module calls `name`. Raises `LookupError`."""
    home, definition = _definition(module, name)
    base = ast.unparse(definition.bases[0]) if definition.bases else ""
    functions = [node for node in definition.body if isinstance(node, ast.FunctionDef)]
    constructor = next((f for f in functions if f.name in ("__init__", "__new__")), None)
    if constructor is None:
        return signature(home, base)
    arguments = constructor.args
    required = len(arguments.args) - len(arguments.defaults)
    named = [*arguments.args, *arguments.kwonlyargs][1:]
    values = [*[None] * required, *arguments.defaults, *arguments.kw_defaults][1:]
    defaults = {a.arg: _literal(v) for a, v in zip(named, values, strict=True) if v is not None}
    types = {a.arg: _type(a.annotation) or _type_of(defaults.get(a.arg)) for a in named}
    conditions: list[Condition] = []
    unchanged = set(types)
    for statement in constructor.body:
        demanded: list[Condition] = []
        match statement:
            case ast.If(test=ast.UnaryOp(op=ast.Not(), operand=rule), body=[ast.Raise(), *_]):
                demanded = _conditions(rule)
            case ast.If(test=test, body=[ast.Raise(), *_]):
                demanded = _conditions(ast.UnaryOp(ast.Not(), test))
            case ast.Expr(value=ast.Call(func=ast.Attribute(attr="__init__")) as call):
                same = (k.arg for k in call.keywords if ast.unparse(k.value) == k.arg)
                if passed := {*map(ast.unparse, call.args), *same} & types.keys() - GIVEN:
                    inherited = signature(home, base).conditions
                    demanded = [each for each in inherited if each.place[0] in passed]
        # The others speak of tensors, or of what was computed from the arguments.
        conditions += (each for each in demanded if each.place[0] in unchanged)
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
            types = tuple(filter(None, (_type(left), _type(right))))
            return Union[types] if types else None  # noqa: UP007
        case ast.Subscript(value=ast.Name(id="tuple"), slice=ast.Tuple(elts=parts)):
            items = tuple(map(_type, parts))
            return tuple[items] if all(items) else None  # type: ignore[valid-type]
    return None


def _type_of(default: Any) -> Any:
    if isinstance(default, tuple):
        return tuple[tuple(map(_type_of, default))]  # type: ignore[misc]
    return _TYPES.get(type(default).__name__, Any)
