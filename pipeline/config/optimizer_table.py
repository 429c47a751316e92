"""The optimizers of torch.optim and their arguments: defaults and limits, as torch checks them.

A table of its own, so that a configuration is checked without importing torch; a test holds it
equal to the signatures and the checks of torch.optim.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.common.errors import did_you_mean
from pipeline.config.checks import Broken, Flag, Items, Location, Number, Rule, gather
from pipeline.config.ranges import Choice, FloatRange, IntRange, Leaf


@dataclass(frozen=True)
class Argument:
    """A keyword argument of an optimizer: torch's default, and the rule for its values."""

    default: Any
    rule: Rule


_any = Number()
_positive_or_zero = Number(low=0)
_beta = Number(low=0, high=1, open_high=True)
_from_zero_to_one = Number(low=0, high=1)


def _number(default: float, rule: Number = _positive_or_zero) -> Argument:
    return Argument(float(default), Leaf(rule))


def _flag(default: bool = False) -> Argument:
    return Argument(default, Leaf(Flag()))


def _several(default: tuple[float | None, ...], *rules: Number) -> Argument:
    return Argument(default, Leaf(Items(each=tuple(Leaf(rule) for rule in rules))))


def _adam(lr: float, weight_decay: float = 0) -> dict[str, Argument]:
    return {
        "lr": _number(lr),
        "betas": _several((0.9, 0.999), _beta, _beta),
        "eps": _number(1e-8),
        "weight_decay": _number(weight_decay),
    }


OPTIMIZERS: dict[str, dict[str, Argument]] = {
    "SGD": {
        "lr": _number(1e-3),
        "momentum": _number(0),
        "dampening": _number(0, _any),
        "weight_decay": _number(0),
        "nesterov": _flag(),
    },
    "Adagrad": {
        "lr": _number(1e-2),
        "lr_decay": _number(0),
        "weight_decay": _number(0),
        "initial_accumulator_value": _number(0),
        "eps": _number(1e-10),
    },
    "RMSprop": {
        "lr": _number(1e-2),
        "alpha": _number(0.99),
        "eps": _number(1e-8),
        "weight_decay": _number(0),
        "momentum": _number(0),
        "centered": _flag(),
    },
    "Adam": _adam(1e-3) | {"amsgrad": _flag(), "decoupled_weight_decay": _flag()},
    "AdamW": _adam(1e-3, weight_decay=1e-2) | {"amsgrad": _flag()},
    "NAdam": _adam(2e-3) | {"momentum_decay": _number(4e-3), "decoupled_weight_decay": _flag()},
    "RAdam": _adam(1e-3) | {"decoupled_weight_decay": _flag()},
    "Adamax": _adam(2e-3),
    "Adadelta": {
        "lr": _number(1.0),
        "rho": _number(0.9, _from_zero_to_one),
        "eps": _number(1e-6),
        "weight_decay": _number(0),
    },
    "Adafactor": {
        "lr": _number(1e-2),
        "beta2_decay": _number(-0.8, Number(high=0)),
        "eps": _several((None, 1e-3), Number(low=0, optional=True), _positive_or_zero),
        "d": _number(1.0, Number(low=1)),
        "weight_decay": _number(0),
    },
    "ASGD": {
        "lr": _number(1e-2),
        "lambd": _number(1e-4, _any),
        "alpha": _number(0.75, _any),
        "t0": _number(1e6, _any),
        "weight_decay": _number(0),
    },
    "Rprop": {
        "lr": _number(1e-2),
        "etas": _several(
            (0.5, 1.2),
            Number(low=0, high=1, open_low=True, open_high=True),
            Number(low=1, open_low=True),
        ),
        "step_sizes": _several((1e-6, 50.0), _any, _any),
    },
}

REFUSED: dict[str, str] = {
    "LBFGS": "it calls the loss again within a step (a closure), which a stack cannot do",
    "SparseAdam": "it takes sparse gradients only, and those of these networks are dense",
    "Muon": "it takes matrices only, and these networks have biases",
}

REFUSED_ARGUMENTS: dict[str, str] = {
    "foreach": "how a step is computed is chosen here, not per optimizer",
    "fused": "how a step is computed is chosen here, not per optimizer",
    "capturable": "it is for CUDA graphs, which this training does not record",
    "differentiable": "it is for differentiating through a step, which this training does not do",
    "maximize": "the loss is minimised here",
}


def default_arguments(name: str) -> dict[str, Any]:
    """Every argument of an optimizer of the table with torch's default, `lr` included."""
    return {key: argument.default for key, argument in OPTIMIZERS[name].items()}


def check_name(name: object) -> str:
    """A name of the table. Raises `Broken`."""
    if not isinstance(name, str):
        raise Broken(((), f"must be the name of an optimizer of torch.optim; got {name!r}"))
    if name in REFUSED:
        raise Broken(((), f"{name} cannot be trained here: {REFUSED[name]}"))
    if name not in OPTIMIZERS:
        hint = did_you_mean(name, OPTIMIZERS) or f"; known are {', '.join(OPTIMIZERS)}"
        raise Broken(((), f"must be the name of an optimizer of torch.optim; got {name!r}{hint}"))
    return name


def check_arguments(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of an optimizer of the table, values or ranges, in their normal form and in
    the table's order. Raises `Broken` with all that is wrong."""
    table = OPTIMIZERS[name]
    parts: list[tuple[Location, str]] = []
    for key in arguments:
        if key in REFUSED_ARGUMENTS:
            parts.append(((key,), f"cannot be set: {REFUSED_ARGUMENTS[key]}"))
        elif key not in table:
            takes = f"{name} takes {', '.join(table)}"
            hint = did_you_mean(key, table) or f"; {takes}"
            parts.append(((key,), f"unknown argument of {name}{hint}"))
    checked = {
        key: gather(argument.rule.convert, arguments[key], key, parts)
        for key, argument in table.items()
        if key in arguments
    }
    if name == "SGD" and not parts:
        parts.extend(_nesterov(default_arguments(name) | checked))
    if parts:
        raise Broken(*parts)
    return checked


def _nesterov(arguments: Mapping[str, Any]) -> list[tuple[Location, str]]:
    keys = ("nesterov", "momentum", "dampening")
    for nesterov, momentum, dampening in itertools.product(*(_ends(arguments[k]) for k in keys)):
        if nesterov and not (momentum > 0 and dampening == 0):
            rule = "`momentum > 0` and `dampening = 0` must hold for `nesterov: true`"
            return [(("nesterov",), f"{rule}, but got ({momentum=}, {dampening=})")]
    return []


def _ends(value: Any) -> tuple[Any, ...]:
    """The value; of a range its two ends or all of its choices."""
    if isinstance(value, Choice):
        return value.choice
    return (value.low, value.high) if isinstance(value, FloatRange | IntRange) else (value,)
