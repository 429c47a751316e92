"""Schedules of learning rates: the schedulers of `torch.optim.lr_scheduler` as they are.

A schedule is a component or several, one after the other. Arguments that say how long the training
is are filled in where the class must be told and the configuration says nothing."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from pipeline.common.errors import UserError
from pipeline.common.imports import REQUIRED, load, reason_of
from pipeline.config.component import FUNCTIONS, SCHEDULES, Component
from pipeline.optimizers.arguments import cases, find, in_words, misfits, parameters

BATCH_ARGUMENTS = frozenset({"total_steps", "steps_per_epoch", "step_size_up"})
"""A class that takes one of these counts batches; any other counts epochs."""

LENGTHS = ("total_iters", "T_max")
"""The arguments that say how long a part of a sequence is."""

TRIED = 1000  # steps of a schedule that are gone through before a training


class Schedule:
    """One optimizer's numbers over its training. It changes them when it is made.

    Args:
        named: the schedule in the configuration.
        optimizer: of one group of parameters, whose numbers are changed.
        epochs, batches: how long it is trained, and the batches of an epoch.

    Attributes:
        by_batch: whether it goes forward with each batch, not with each epoch.
        by_loss: whether it is told the validation loss.
        length: the steps that its class was told of, of one that must be told."""

    def __init__(self, named: Any, optimizer: Optimizer, epochs: int, batches: int) -> None:
        component = _in_one(named)
        cls = _class(component)
        self.by_batch, self.by_loss = _counts_batches(cls), issubclass(cls, ReduceLROnPlateau)
        self._scheduler = _build(component, optimizer, epochs, batches)
        self._left = epochs * batches if self.by_batch else epochs
        self.length: int | None = getattr(self._scheduler, "total_steps", None)
        if self.by_batch and isinstance(self.length, int):
            self._left = min(self._left, self.length)

    def advance(self, loss: float = math.nan) -> None:
        """Go forward, after a step of the optimizer; nothing changes after its end."""
        if self._left:
            self._left -= 1
            self._scheduler.step(*[loss] if self.by_loss else [])  # type: ignore[arg-type]


def by_batch(component: Component) -> bool:
    """Whether an optimizer's schedule goes forward with each batch."""
    parts = parts_of(component.arguments.get("schedule"))
    return len(parts) == 1 and _counts_batches(_class(parts[0]))


def _class(component: Component, key: str = "schedule") -> Any:
    return find(component.path, SCHEDULES.module, LRScheduler, f"{key}.name")


def _counts_batches(cls: type) -> bool:
    return not BATCH_ARGUMENTS.isdisjoint(parameters(cls))


def parts_of(named: Any) -> list[Component]:
    """The schedulers that stand one after the other in a configuration; none for None."""
    return list(named) if isinstance(named, tuple) else [named] if named else []


def _in_one(named: Any) -> Component:
    """One component: torch's SequentialLR for several."""
    parts = parts_of(named)
    if len(parts) == 1:
        return parts[0]
    milestones = list(itertools.accumulate(_length(part) or 0 for part in parts[:-1]))
    return Component("SequentialLR", {"schedulers": parts, "milestones": milestones}, "")


def _length(component: Component) -> int | None:
    arguments = {**parameters(_class(component)), **component.arguments}
    lengths = (arguments.get(name) for name in LENGTHS)
    return next((length for length in lengths if isinstance(length, int)), None)


def _build(component: Component, optimizer: Optimizer, epochs: int, batches: int) -> LRScheduler:
    cls: Callable[..., LRScheduler] = _class(component)
    arguments = dict(component.arguments)
    for name in arguments.keys() & FUNCTIONS:
        if isinstance(arguments[name], str):
            arguments[name] = load(arguments[name], name)
    if "schedulers" in arguments:
        starts = [0, *arguments.get("milestones", [0] * len(arguments["schedulers"]))]
        ends = [*starts[1:], epochs] if "milestones" in arguments else [epochs] * len(starts)
        arguments["schedulers"] = [
            _build(part, optimizer, max(end - start, 1), batches)
            for part, start, end in zip(arguments["schedulers"], starts, ends, strict=False)
        ]
    arguments |= _filled(_class(component), arguments, optimizer, epochs, batches)
    if "schedulers" in arguments:  # torch's ChainedScheduler takes the optimizer last
        return cls(optimizer=optimizer, **arguments)
    return cls(optimizer, **arguments)


def _filled(
    cls: type, given: Mapping[str, Any], optimizer: Optimizer, epochs: int, batches: int
) -> dict[str, Any]:
    """What the class must be told and is not given."""
    taken, lr = parameters(cls), optimizer.param_groups[0]["lr"]
    peak = given.get("max_lr", lr)
    values = {
        "T_max": epochs,
        "total_iters": epochs,
        "epochs": epochs,
        "total_steps": epochs * batches,
        "steps_per_epoch": batches,
        "max_lr": lr,
        "base_lr": peak / 10 if isinstance(peak, float | int) else peak,
    }
    names = {name for name in values if taken.get(name) is REQUIRED}
    if {"total_steps", "epochs", "steps_per_epoch"} <= taken.keys():  # either the one or the two
        two = {"epochs", "steps_per_epoch"}
        names |= two if two & given.keys() else {"total_steps"}
    filled = {name: values[name] for name in names if name not in given}
    if "cycle_momentum" in taken and not {"momentum", "betas"} & optimizer.defaults.keys():
        filled |= {"cycle_momentum": given.get("cycle_momentum", False)}
    return filled


def check(
    named: Any,
    key: str,
    made: Callable[[], Sequence[Optimizer]],
    step: Callable[[Sequence[Optimizer]], None],
    epochs: int,
    batches: int,
) -> list[str]:
    """A sentence for each thing that is wrong with a schedule, ranges in it at all their ends.

    Args:
        made: makes the optimizers that a member has, anew; step: makes a step of them.
        epochs, batches: how long it is trained, and the batches of an epoch."""
    several = isinstance(named, tuple) and len(named) > 1
    problems = _named_wrongly(named, key, several)
    if problems:
        return problems
    for case in cases(named):
        optimizers = made()
        try:
            schedules = [Schedule(case, each, epochs, batches) for each in optimizers]
        except Exception as error:
            label = _in_one(case)
            words = in_words({} if several else label.arguments)
            problems.append(f"{key}: {label.name} cannot be made{words}: {reason_of(error)}")
            continue
        step(optimizers)
        for schedule, optimizer in zip(schedules, optimizers, strict=True):
            problems += _goes_wrong(schedule, optimizer, key, epochs * batches)
    return list(dict.fromkeys(problems))


def _goes_wrong(schedule: Schedule, optimizer: Optimizer, key: str, batches: int) -> list[str]:
    """What goes wrong in the first steps of a schedule, and at its end."""
    steps = schedule.length
    if schedule.by_batch and steps is not None and steps < batches:
        return [f"{key}: must last for all {batches:,} batches of a training; got {steps:,} steps"]
    for count in range(min(schedule._left, TRIED) + 1):
        try:
            if count:
                schedule.advance(1.0)
            lr = optimizer.param_groups[0]["lr"]
            is_rate = 0 <= lr < math.inf
        except Exception as error:
            name = type(schedule._scheduler).__name__
            return [f"{key}: {name} fails in its step {count}: {reason_of(error)}"]
        if not is_rate:
            rule = "must keep the learning rate finite and at least 0"
            return [f"{key}: {rule}; got {float(lr):g} after {count} steps"]
    return []


def _named_wrongly(named: Any, key: str, is_part: bool) -> list[str]:
    """What is wrong with the classes and the names of their arguments, in a list or in one."""
    if isinstance(named, tuple):
        each = [_named_wrongly(part, f"{key}.{place}", is_part) for place, part in enumerate(named)]
        return list(itertools.chain(*each)) or _without_length(named, key)
    try:
        cls = _class(named, key)
    except UserError as error:
        return list(error.problems)
    given = named.arguments
    problems = misfits(cls, given, key, SCHEDULES.filled)
    is_told = issubclass(cls, ReduceLROnPlateau)
    if is_part and (_counts_batches(cls) or is_told):
        what = "the validation loss" if is_told else "batches"
        rule = "must be a scheduler that counts epochs, as it is one of several"
        problems.append(f"{key}.name: {rule}; {cls.__name__} goes by {what}")
    for place, part in enumerate(given.get("schedulers", ())):
        problems += _named_wrongly(part, f"{key}.schedulers.{place}", True)
    return problems


def _without_length(parts: Sequence[Any], key: str) -> list[str]:
    """All but the last of a sequence must say how long they are."""
    return [
        f"{key}.{place}: must say how many epochs it lasts, as another follows, by "
        f"{' or '.join(LENGTHS)}; {component.name} has {'it not given' if can else 'neither'}"
        for place, component in enumerate(next(cases(part)) for part in parts[:-1])
        if _length(component) is None
        for can in [not {*LENGTHS}.isdisjoint(parameters(_class(component)))]
    ]
