"""The optimizers of a stack: each member has its own rule and its own arguments.

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
from typing import Any

import torch
from torch import Tensor

from pipeline.optimizers.rules import RULES, TERMS


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


def is_stacked(spec: OptimizerSpec) -> bool:
    """Whether there is a stacked rule for the class."""
    return spec.name in RULES


def group_key(spec: OptimizerSpec) -> tuple[Hashable, ...]:
    """Members with equal keys can share a group. Keys of any specs can be ordered.

    A stack ordered by this key has the fewest groups.
    """
    booleans = (value for value in arguments_of(spec).values() if isinstance(value, bool))
    return (not is_stacked(spec), spec.name, *booleans)


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
        for _, members in itertools.groupby(specs, group_key):
            run = list(members)
            rows = slice(start, start + len(run))
            group: StackedGroup | SeparateGroup
            if not is_stacked(run[0]):
                group = SeparateGroup(run, parameters[rows], gradients[rows], shapes)
            else:
                group = StackedGroup(run, parameters[rows], gradients[rows])
            self._groups.append((len(run), group))
            start += len(run)

    @property
    def groups(self) -> Iterator[tuple[slice, "StackedGroup | SeparateGroup"]]:
        """The groups, each with its members' positions in the stack."""
        start = 0
        for size, group in self._groups:
            yield slice(start, start + size), group
            start += size

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
    """Members of one rule: one call of its update for all of them.

    Attributes:
        name: of the class; flags: its booleans.
        parameters, gradients: [k, P], views of the stack's.
        states: what the rule keeps between steps, [k, P] or float64 [k, 1]; None: not needed.
        steps: how many were made.
    """

    def __init__(
        self,
        specs: Sequence[OptimizerSpec],
        parameters: Tensor,
        gradients: Tensor,
    ) -> None:
        rule = RULES[specs[0].name]
        hyper = _hyper([arguments_of(spec) for spec in specs], parameters.device)
        taken = inspect.signature(rule.update).parameters
        self.name = specs[0].name
        self.flags = frozenset((n, v) for n, v in hyper.items() if isinstance(v, bool))
        self.parameters, self.gradients = parameters, gradients
        self.states = {name: start(parameters, hyper) for name, start in rule.states.items()}
        self.steps = 0
        self._update = rule.update
        self._given = {n: v for n, v in self.flags if n in taken}
        self._hyper = {n: v for n, v in hyper.items() if n in taken and n not in self._given}

    @property
    def has_momentum(self) -> bool:
        """Whether any member uses momentum, for the rules that can do without."""
        return self._hyper.get("momentum", True) is not None

    def columns(self, names: Sequence[str]) -> Tensor:
        """[k, len(names)] float64: hyper-parameters side by side, 0 for a term that is unused."""
        zero = self.parameters.new_zeros((len(self.parameters), 1), dtype=torch.float64)
        values = [self._hyper[name] for name in names]
        return torch.cat([zero if value is None else value for value in values], dim=1)

    def step(self) -> None:
        self.steps += 1
        self._update(
            self.parameters,
            self.gradients,
            float(self.steps),
            **self.states,
            **self._hyper,
            **self._given,
        )

    def keep(self, index: Sequence[int], parameters: Tensor, gradients: Tensor) -> None:
        rows = torch.tensor(index, device=parameters.device)
        self.states = _selected(self.states, rows)
        self._hyper = _selected(self._hyper, rows)
        self.parameters, self.gradients = parameters, gradients


def _selected(values: Mapping[str, Tensor | None], rows: Tensor) -> dict[str, Tensor | None]:
    return {n: None if v is None else v.index_select(0, rows) for n, v in values.items()}


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
