"""The optimizers of a stack: each member has its own class of `torch.optim` and its own arguments.

The parameters of a stack of K members are one tensor [K, P], a row for each member, and so are the
gradients. Members of one rule that stand side by side form a group: a slice [k, P] with each
hyper-parameter as a tensor [k, 1]. Any class of `torch.optim` without a stacked rule runs as it is,
one object for each member.
"""

import inspect
import itertools
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from pipeline.config.component import REFUSED_ARGUMENTS
from pipeline.optimizers.rules import RULES, TERMS


@dataclass(frozen=True)
class OptimizerSpec:
    """A class of `torch.optim` and its keyword arguments; those left out have torch's defaults."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@cache
def default_arguments(name: str) -> Mapping[str, Any]:
    """The arguments of a `torch.optim` class that a search may set, with torch's defaults."""
    signature = inspect.signature(getattr(torch.optim, name))
    return {
        argument: parameter.default
        for argument, parameter in signature.parameters.items()
        if argument != "params" and argument not in REFUSED_ARGUMENTS
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


def scalars(arguments: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The arguments as a rule names them: of `betas` the first is `beta1` and the second `beta2`,
    and so of every tuple."""
    for name, value in arguments.items():
        if isinstance(value, tuple):
            singular = name.removesuffix("s")
            yield from ((f"{singular}{i}", element) for i, element in enumerate(value, start=1))
        else:
            yield name, value


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

    Attributes:
        groups: each with its members' places in the stack.

    Errors: ValueError for an argument that the class does not have.
    """

    def __init__(
        self,
        specs: Sequence[OptimizerSpec],
        parameters: Tensor,
        gradients: Tensor,
        shapes: Sequence[tuple[int, ...]],
    ) -> None:
        self.groups: list[tuple[slice, StackedGroup | SeparateGroup]] = []
        start = 0
        for _, members in itertools.groupby(specs, group_key):
            alike = list(members)
            rows = slice(start, start + len(alike))
            group: StackedGroup | SeparateGroup
            if alike[0].name in RULES:
                group = StackedGroup(alike, parameters[rows], gradients[rows])
            else:
                group = SeparateGroup(alike, parameters[rows], gradients[rows], shapes)
            self.groups.append((rows, group))
            start = rows.stop

    @torch.no_grad()
    def step(self) -> None:
        """One update of every member from the gradients as they are now."""
        for _, group in self.groups:
            group.step()

    def keep(self, index: Sequence[int], parameters: Tensor, gradients: Tensor) -> None:
        """Go on with some of the members on new buffers.

        Args:
            index: the members that stay, ascending positions in the present stack.
            parameters, gradients: their rows, [len(index), P].
        """
        groups, start = [], 0
        for rows, group in self.groups:
            staying = [member - rows.start for member in index if rows.start <= member < rows.stop]
            if staying:
                new = slice(start, start + len(staying))
                group.keep(staying, parameters[new], gradients[new])
                groups.append((new, group))
                start = new.stop
        self.groups = groups


class StackedGroup:
    """Members of one rule: one call of its update for all of them.

    Attributes:
        name: of the class; flags: its booleans.
        parameters, gradients: [k, P], views of the stack's.
        states, hyper: what `rules` calls s and h.
        steps: how many were made.
    """

    def __init__(
        self, specs: Sequence[OptimizerSpec], parameters: Tensor, gradients: Tensor
    ) -> None:
        self.name = specs[0].name
        self.parameters, self.gradients = parameters, gradients
        self.hyper = hyper = _hyper(specs, parameters.device)
        self.flags = frozenset((n, v) for n, v in vars(hyper).items() if isinstance(v, bool))
        self._rule = RULES[self.name]
        starts = self._rule.states.items()
        self.states = SimpleNamespace(**{n: start(parameters, hyper) for n, start in starts})
        self.steps = 0

    @property
    def has_momentum(self) -> bool:
        """Whether any member uses momentum, for the rules that can do without."""
        return getattr(self.hyper, "momentum", True) is not None

    def columns(self, names: Sequence[str]) -> Tensor:
        """[k, len(names)] float64: hyper-parameters side by side, 0 for a term that is unused."""
        zero = self.parameters.new_zeros((len(self.parameters), 1), dtype=torch.float64)
        values = [getattr(self.hyper, name) for name in names]
        return torch.cat([zero if value is None else value for value in values], dim=1)

    def step(self) -> None:
        self.steps += 1
        t = float(self.steps)
        self._rule.step(self.parameters, self.gradients, t, self.states, self.hyper)

    def keep(self, index: Sequence[int], parameters: Tensor, gradients: Tensor) -> None:
        rows = torch.tensor(index, device=parameters.device)
        for values in (vars(self.states), vars(self.hyper)):
            for name, value in values.items():
                if torch.is_tensor(value):
                    values[name] = value.index_select(0, rows)
        self.parameters, self.gradients = parameters, gradients


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


def _hyper(specs: Sequence[OptimizerSpec], device: torch.device) -> SimpleNamespace:
    """The members' arguments as `rules` wants them."""
    members = [dict(scalars(arguments_of(spec))) for spec in specs]
    hyper: dict[str, Any] = {}
    for name, first in members[0].items():
        values = [arguments[name] for arguments in members]
        if isinstance(first, bool):
            hyper[name] = first
        elif name in TERMS and not any(values):
            hyper[name] = None
        else:
            hyper[name] = torch.tensor(values, dtype=torch.float64, device=device).unsqueeze(1)
    return SimpleNamespace(**hyper)
