"""The optimizers of a stack: each member has its own rule and its own arguments.

The parameters of a stack of K members are one tensor [K, P], a row for each member, and so are the
gradients. Members of one rule that stand side by side form a group: a slice [k, P] with each
hyper-parameter as a tensor [k, 1]. Any class of `torch.optim` without a stacked rule runs as it is,
one object for each member.
"""

import inspect
import itertools
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor

from pipeline.update_rules import RULES, TERMS


@dataclass(frozen=True)
class OptimizerSpec:
    """A class of `torch.optim` and its keyword arguments; those left out have torch's defaults."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


_OF_THE_IMPLEMENTATION = frozenset({"foreach", "fused", "capturable", "differentiable", "maximize"})


@cache
def default_arguments(name: str) -> Mapping[str, Any]:
    """The arguments of a `torch.optim` class that a search may set, with torch's defaults."""
    signature = inspect.signature(getattr(torch.optim, name))
    return {
        argument: parameter.default
        for argument, parameter in signature.parameters.items()
        if argument != "params" and argument not in _OF_THE_IMPLEMENTATION
    }


def arguments_of(spec: OptimizerSpec) -> dict[str, Any]:
    """All arguments of a member, torch's defaults included. ValueError: an argument is unknown."""
    defaults = default_arguments(spec.name)
    unknown = set(spec.arguments) - set(defaults)
    if unknown:
        raise ValueError(f"{spec.name} has no argument {', '.join(sorted(unknown))}")
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in {**defaults, **spec.arguments}.items()
    }


def group_key(spec: OptimizerSpec) -> tuple[Hashable, ...]:
    """Members with equal keys can share a group. Keys of any specs can be ordered.

    A stack ordered by this key has the fewest groups.
    """
    booleans = (value for value in arguments_of(spec).values() if isinstance(value, bool))
    return (spec.name not in RULES, spec.name, *booleans)


class StackedOptimizer:
    """The update rules of a stack's members, acting in place on one buffer of parameters.

    Args:
        specs: the K members' optimizers, in the stack's order. Neighbours with equal `group_key`
            are updated together.
        parameters: [K, P], updated in place.
        gradients: [K, P], read at each step.
        shapes: the shapes of one member's parameters in the order of P, which classes without a
            stacked rule see (Adafactor treats a matrix and a vector differently).

    Errors: ValueError for an argument that the class does not have.
    """

    def __init__(
        self,
        specs: Sequence[OptimizerSpec],
        parameters: Tensor,
        gradients: Tensor,
        shapes: Sequence[tuple[int, ...]],
    ) -> None:
        self._groups: list[tuple[int, StackedGroup | SeparateGroup]] = []
        start = 0
        for key, members in itertools.groupby(specs, group_key):
            run = list(members)
            rows = slice(start, start + len(run))
            group: StackedGroup | SeparateGroup
            if key[0]:
                group = SeparateGroup(run, parameters[rows], gradients[rows], shapes)
            else:
                group = StackedGroup(run, parameters[rows], gradients[rows])
            self._groups.append((len(run), group))
            start += len(run)

    @torch.no_grad()
    def step(self) -> None:
        """One update of every member from the gradients as they are now."""
        for _, group in self._groups:
            group.step()

    def keep(self, index: Sequence[int], parameters: Tensor, gradients: Tensor) -> None:
        """Go on with some of the members on new buffers.

        Args:
            index: the members that stay, ascending positions in the present stack.
            parameters, gradients: their rows, [len(index), P].
        """
        groups, old, new = [], 0, 0
        for size, group in self._groups:
            own = [member - old for member in index if old <= member < old + size]
            if own:
                rows = slice(new, new + len(own))
                group.keep(own, parameters[rows], gradients[rows])
                groups.append((len(own), group))
            old, new = old + size, new + len(own)
        self._groups = groups


class StackedGroup:
    """Members of one rule: one call of its update for all of them."""

    def __init__(
        self,
        specs: Sequence[OptimizerSpec],
        parameters: Tensor,
        gradients: Tensor,
    ) -> None:
        rule = RULES[specs[0].name]
        hyper = _hyper([arguments_of(spec) for spec in specs], parameters.device)
        states = {name: start(parameters, hyper) for name, start in rule.states.items()}
        taken = inspect.signature(rule.update).parameters
        self._update = rule.update
        self._flags = {n: v for n, v in hyper.items() if n in taken and isinstance(v, bool)}
        self._rows = {n: v for n, v in {**hyper, **states}.items() if n in taken}
        self._rows = {n: v for n, v in self._rows.items() if not isinstance(v, bool)}
        self._parameters, self._gradients = parameters, gradients
        self._t = torch.zeros((), dtype=torch.float64, device=parameters.device)

    def step(self) -> None:
        self._t += 1
        self._update(self._parameters, self._gradients, self._t, **self._rows, **self._flags)

    def keep(self, index: Sequence[int], parameters: Tensor, gradients: Tensor) -> None:
        rows = torch.tensor(index, device=parameters.device)
        self._rows = {
            name: None if value is None else value.index_select(0, rows)
            for name, value in self._rows.items()
        }
        self._parameters, self._gradients = parameters, gradients


class SeparateGroup:
    """Members of a class without a stacked rule: the real class, an object for each member."""

    def __init__(
        self,
        specs: Sequence[OptimizerSpec],
        parameters: Tensor,
        gradients: Tensor,
        shapes: Sequence[tuple[int, ...]],
    ) -> None:
        self._shapes = shapes
        self._optimizers = []
        for spec, row, gradient in zip(specs, parameters, gradients, strict=True):
            leaves = [view.requires_grad_() for view in self._views(row)]
            for leaf, view in zip(leaves, self._views(gradient), strict=True):
                leaf.grad = view
            optimizer = getattr(torch.optim, spec.name)(leaves, **arguments_of(spec))
            self._optimizers.append((optimizer, leaves))

    def step(self) -> None:
        for optimizer, _ in self._optimizers:
            optimizer.step()

    def keep(self, index: Sequence[int], parameters: Tensor, gradients: Tensor) -> None:
        self._optimizers = [self._optimizers[member] for member in index]
        for (_, leaves), row, gradient in zip(self._optimizers, parameters, gradients, strict=True):
            views = zip(leaves, self._views(row), self._views(gradient), strict=True)
            for leaf, view, gradient_view in views:
                # The optimizer's state belongs to the leaf: move its storage, keep the leaf.
                leaf.data, leaf.grad = view, gradient_view

    def _views(self, row: Tensor) -> list[Tensor]:
        sizes = [torch.Size(shape).numel() for shape in self._shapes]
        parts = zip(torch.split(row.detach(), sizes), self._shapes, strict=True)
        return [part.view(shape) for part, shape in parts]


def _hyper(arguments: Sequence[Mapping[str, Any]], device: torch.device) -> dict[str, Any]:
    """The members' arguments as `Hyper`; the pair `betas` becomes `beta1` and `beta2`."""
    hyper: dict[str, Any] = {}
    for name in arguments[0]:
        values = [member[name] for member in arguments]
        if isinstance(values[0], bool):
            hyper[name] = values[0]
        elif name == "betas":
            for position, beta in enumerate(("beta1", "beta2")):
                hyper[beta] = _column([pair[position] for pair in values], device)
        elif name in TERMS and not any(values):
            hyper[name] = None
        else:
            hyper[name] = _column(values, device)
    return hyper


def _column(values: Sequence[float], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, device=device).unsqueeze(1)
