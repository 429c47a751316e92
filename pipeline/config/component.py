"""One entry under `optimizers`: a class of torch.optim and its arguments, values or ranges."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.common.errors import UserError, nearest
from pipeline.config.checks import Broken, Location, Rule, gather, path_text
from pipeline.config.optimizer_table import OPTIMIZERS, check_arguments, check_name
from pipeline.config.ranges import plain


@dataclass(frozen=True)
class Optimizer:
    """A class of torch.optim with keyword arguments, each a value or a range.

    An argument that is left out has torch's default. Raises `UserError`.
    """

    name: str
    arguments: Mapping[str, Any]

    def __post_init__(self) -> None:
        try:
            checked = check_arguments(check_name(self.name), self.arguments)
        except Broken as broken:
            raise UserError([path_text(where) + text for where, text in broken.parts]) from None
        object.__setattr__(self, "arguments", checked)

    def to_plain(self) -> dict[str, Any]:
        """As it stands in the file."""
        return {"name": self.name} | {key: plain(one) for key, one in self.arguments.items()}


@dataclass(frozen=True)
class OptimizerRule(Rule):
    """An entry: a mapping with `name` and the arguments beside it."""

    @property
    def expected(self) -> str:
        return "a mapping with `name` and arguments, such as {name: SGD, lr: 0.1}"

    def convert(self, value: Any) -> Optimizer:
        if isinstance(value, Optimizer):
            return value
        if not isinstance(value, Mapping):
            raise self.refuse(value)
        arguments = dict(value)
        parts: list[tuple[Location, str]] = []
        if "name" not in arguments:
            if meant := nearest("name", arguments):
                raise Broken(((meant,), "unknown key; did you mean 'name'?"))
            raise Broken(((), "must have a `name`, such as {name: SGD, lr: 0.1}"))
        name = gather(check_name, arguments.pop("name"), "name", parts)
        if parts:
            raise Broken(*parts)
        return Optimizer(name, check_arguments(name, arguments))

    def json_schema(self) -> dict[str, Any]:
        return {
            "oneOf": [
                {
                    "title": name,
                    "type": "object",
                    "properties": {"name": {"const": name}}
                    | {
                        key: argument.rule.json_schema() | {"default": plain(argument.default)}
                        for key, argument in arguments.items()
                    },
                    "required": ["name"],
                    "additionalProperties": False,
                }
                for name, arguments in OPTIMIZERS.items()
            ]
        }
