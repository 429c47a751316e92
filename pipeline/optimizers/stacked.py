"""The optimizers of a stack: each member has its own class of `torch.optim` and its own arguments.

The parameters of a stack of K members are one tensor [K, P], a row for each member, and so are the
gradients. Members of one rule that stand side by side form a group: a slice [k, P] with each
hyper-parameter as a tensor [k, 1]. Any class without a stacked rule runs as it is, one object for
each member."""

import itertools
from collections.abc import Hashable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from pipeline.common.imports import is_path
from pipeline.config.component import Component
from pipeline.optimizers.classes import arguments_of, make
from pipeline.optimizers.rules import RULES, TERMS
from pipeline.optimizers.schedules import Schedule, by_batch, parts_of
from pipeline.optimizers.separate import Closure, SeparateMember


def scalars(arguments: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The arguments as a rule names them: of `betas` the first is `beta1` and the second `beta2`,
    and so of every tuple."""
    for name, value in arguments.items():
        if isinstance(value, tuple):
            singular = name.removesuffix("s")
            yield from ((f"{singular}{i}", element) for i, element in enumerate(value, start=1))
        else:
            yield name, value


def has_rule(component: Component) -> bool:
    """Whether the stack has its rule. Momentum that a schedule takes to zero and back switches
    torch's own off and on, which no rule does."""
    return component.path in RULES and all(
        part.arguments.get(name) != 0
        for part in parts_of(component.arguments.get("schedule"))
        for name in ("base_momentum", "max_momentum")
    )


def group_key(component: Component) -> tuple[Hashable, ...]:
    """Members with equal keys can share a group. Keys of any components can be ordered.

    A stack ordered by this key has the fewest groups."""
    if not has_rule(component):
        return (True, component.path)
    booleans = (value for value in arguments_of(component).values() if isinstance(value, bool))
    return (False, component.path, *booleans)


class StackedOptimizer:
    """The update rules of a stack's members, acting in place on one buffer of parameters.

    An epoch is `start_epoch`, the steps, `eval`, then `end_epoch`.

    Args:
        components: the K members' optimizers, in the stack's order. Neighbours with equal
            `group_key` are updated together.
        parameters: [K, P], updated in place.
        gradients: [K, P], read at each step.
        shapes: the shapes of one member's parameters in the order of P, which classes without a
            stacked rule see (Adafactor treats a matrix and a vector differently).
        epochs: [K], for how long each member is trained: schedules go by it.
        batches: of an epoch.

    Attributes:
        groups: each with its members' places in the stack."""

    def __init__(
        self,
        components: Sequence[Component],
        parameters: Tensor,
        gradients: Tensor,
        shapes: Sequence[tuple[int, ...]],
        epochs: Sequence[int],
        batches: int,
    ) -> None:
        self.groups: list[tuple[slice, StackedGroup | SeparateMember]] = []
        for _, places in itertools.groupby(
            range(len(components)),
            lambda k: group_key(components[k]) if has_rule(components[k]) else k,
        ):
            first, *further = places
            rows, component = slice(first, first + 1 + len(further)), components[first]
            buffers = parameters[rows], gradients[rows]
            group: StackedGroup | SeparateMember
            if has_rule(component):
                group = StackedGroup(components[rows], *buffers, epochs[rows], batches)
            else:
                group = SeparateMember(component, *buffers, shapes, epochs[first], batches)
            self.groups.append((rows, group))

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> None:
        """One update of every member from the gradients as they are now.

        closure: for the one member of a stack whose class wants it; else it is not called."""
        for rows, group in self.groups:
            group.step(closure)
            if group.by_batch:
                group.rates = group.rates_now()
                group.advance(True, [0.0] * (rows.stop - rows.start))

    @torch.no_grad()
    def start_epoch(self) -> None:
        """Before the first step of an epoch."""
        for _, group in self.groups:
            group.set_mode(True)
            group.rates = group.rates_now()

    @torch.no_grad()
    def eval(self) -> None:
        """After the last step of an epoch, before anybody reads the parameters."""
        for _, group in self.groups:
            group.set_mode(False)

    def end_epoch(self, losses: Tensor) -> None:
        """After the validation: schedules of epochs go forward. losses: of validation, [K]."""
        values = losses.tolist()
        for rows, group in self.groups:
            group.advance(False, values[rows])

    @property
    def rates(self) -> Tensor:
        """[K] float64: the learning rates of the last update, before it those of the first."""
        return torch.cat([group.rates for _, group in self.groups])

    def keep(self, index: Sequence[int], parameters: Tensor, gradients: Tensor) -> None:
        """Go on with some of the members on new buffers.

        Args:
            index: the members that stay, ascending positions in the present stack.
            parameters, gradients: their rows, [len(index), P]."""
        groups, start = [], 0
        for rows, group in self.groups:
            staying = [member - rows.start for member in index if rows.start <= member < rows.stop]
            if staying:
                new = slice(start, start + len(staying))
                group.keep(staying, parameters[new], gradients[new])
                groups.append((new, group))
                start = new.stop
        self.groups = groups


class Numbers:
    """The arguments of a member, or of all that have the same and share a schedule.

    With a schedule they are those of a real optimizer of one parameter, which it changes.

    Attributes:
        values: by the names that `rules` has for them."""

    def __init__(self, component: Component, epochs: int, batches: int) -> None:
        self.values = dict(scalars(arguments_of(component)))
        self.schedule: Schedule | None = None
        if named := component.arguments.get("schedule"):
            (optimizer,) = make(component, [torch.zeros(1)])
            self.schedule = Schedule(named, optimizer, epochs, batches)
            self._group = optimizer.param_groups[0]
            self.read()
            optimizer.step()  # of no gradient; torch warns of a schedule that goes ahead of it

    def read(self) -> set[str]:
        """The values as the schedule has left them; the names of those that it has changed."""
        now = {name: value for name, value in scalars(self._group) if name in self.values}
        changed = {name for name, value in now.items() if value != self.values[name]}
        self.values |= now
        return changed


class StackedGroup:
    """Members of one rule: one call of its update for all of them.

    Attributes:
        name: of the class.
        parameters, gradients: [k, P], views of the stack's.
        states, hyper: what `rules` calls s and h.
        steps: how many were made.
        rates: see `StackedOptimizer`.
        by_batch: whether a schedule goes forward with each batch."""

    def __init__(
        self,
        components: Sequence[Component],
        parameters: Tensor,
        gradients: Tensor,
        epochs: Sequence[int],
        batches: int,
    ) -> None:
        self.name = components[0].path
        self.parameters, self.gradients = parameters, gradients
        shared: dict[Hashable, Numbers] = {}
        self._members: list[Numbers] = []
        for k, (component, length) in enumerate(zip(components, epochs, strict=True)):
            numbers = Numbers(component, length, batches)
            is_own = numbers.schedule is not None and numbers.schedule.by_loss
            key = (repr(component.arguments), length, k if is_own else -1)
            self._members.append(shared.setdefault(key, numbers))
        may_start = any(
            is_path(part.path)  # who knows which numbers somebody's own class changes
            for component in components
            for part in parts_of(component.arguments.get("schedule"))
        )
        self.hyper = SimpleNamespace()
        for name, value in self._members[0].values.items():
            if not isinstance(value, bool):
                is_used = name not in TERMS or any(each.values[name] for each in self._members)
                value = self._column(name) if is_used or may_start else None
            setattr(self.hyper, name, value)
        self._rule = RULES[self.name]
        starts = self._rule.states.items()
        self.states = SimpleNamespace(**{n: start(parameters, self.hyper) for n, start in starts})
        self.steps = 0
        self.by_batch = any(by_batch(component) for component in components)
        self.rates = self.rates_now()

    def _column(self, name: str) -> Tensor:
        values = [numbers.values[name] for numbers in self._members]
        device = self.parameters.device
        return torch.tensor(values, dtype=torch.float64, device=device).unsqueeze(1)

    def columns(self, names: Sequence[str]) -> Tensor:
        """[k, len(names)] float64: hyper-parameters side by side, 0 for a term that is unused."""
        zero = self.parameters.new_zeros((len(self.parameters), 1), dtype=torch.float64)
        values = [getattr(self.hyper, name) for name in names]
        return torch.cat([zero if value is None else value for value in values], dim=1)

    def rates_now(self) -> Tensor:
        rates: Tensor = self.hyper.lr[:, 0]
        return rates

    def set_mode(self, is_training: bool) -> None:
        """The rules have one mode."""

    def step(self, closure: Closure | None = None) -> None:
        self.steps += 1
        t = float(self.steps)
        self._rule.step(self.parameters, self.gradients, t, self.states, self.hyper)

    def advance(self, of_batches: bool, losses: Sequence[float]) -> None:
        """Schedules of batches, or of epochs, go forward; `losses` [k]."""
        changed: set[str] = set()
        for numbers, loss in dict(zip(self._members, losses, strict=True)).items():
            if numbers.schedule and numbers.schedule.by_batch == of_batches:
                numbers.schedule.advance(loss)
                changed |= numbers.read()
        for name in changed:
            setattr(self.hyper, name, self._column(name))

    def keep(self, index: Sequence[int], parameters: Tensor, gradients: Tensor) -> None:
        rows = torch.tensor(index, device=parameters.device)
        for values in (vars(self.states), vars(self.hyper)):
            for name, value in values.items():
                if torch.is_tensor(value):
                    values[name] = value.index_select(0, rows)
        self._members = [self._members[member] for member in index]
        self.rates = self.rates.index_select(0, rows)
        self.parameters, self.gradients = parameters, gradients
