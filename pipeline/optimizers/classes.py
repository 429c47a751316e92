"""The classes of optimizers: those of `torch.optim` by name, any other by its path."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from pipeline.common.errors import UserError
from pipeline.common.imports import REQUIRED, is_path, reason_of
from pipeline.config.component import OPTIMIZERS, REFUSED_ARGUMENTS, REST, Component
from pipeline.optimizers import schedules
from pipeline.optimizers.arguments import cases, find, in_words, misfits, parameters
from pipeline.optimizers.rules import RULES

TRIED_SHAPES = ((2, 3), (3,))
"""Of the parameters that an optimizer is tried on: a matrix and a vector, as every network has."""

_wants_closure: dict[type, bool] = {}


def class_of(component: Component, key: str = "optimizers") -> Any:
    """Raises UserError, which begins with `key`."""
    return find(component.path, OPTIMIZERS.module, Optimizer, f"{key}.name")


def given(component: Component) -> dict[str, Any]:
    """The arguments that the class itself is given."""
    ours = {"schedule", "rest"} if class_of(component) is torch.optim.Muon else {"schedule"}
    return {name: value for name, value in component.arguments.items() if name not in ours}


def default_arguments(path: str) -> Mapping[str, Any]:
    """The arguments of a class that a search may set, with their defaults; those without are left
    out. Raises UserError."""
    ours = () if is_path(path) else REFUSED_ARGUMENTS
    return {
        name: default
        for name, default in parameters(class_of(Component(path, {}))).items()
        if default is not REQUIRED and name not in ours
    }


def arguments_of(component: Component) -> dict[str, Any]:
    """All arguments of a member, the class's defaults included."""
    return {**default_arguments(component.path), **given(component)}


def learning_rate(component: Component) -> float:
    """Its learning rate at the beginning, as the configuration or the class says."""
    return float(arguments_of(component)["lr"])


def make(component: Component, leaves: Sequence[Tensor]) -> list[Optimizer]:
    """The optimizers of one network's parameters: one; of Muon, whose authors use it for matrices
    only, another for all else: AdamW."""
    cls: Callable[..., Optimizer] = class_of(component)
    if cls is not torch.optim.Muon:
        return [cls(leaves, **given(component))]
    matrices = [leaf for leaf in leaves if leaf.dim() == 2]
    rest = [leaf for leaf in leaves if leaf.dim() != 2]
    adamw = given(Component(REST, component.arguments.get("rest") or {}))
    made = [cls(matrices, **given(component))] if matrices else []
    return [*made, *([torch.optim.AdamW(rest, **adamw)] if rest else [])]


def set_mode(optimizer: Optimizer, is_training: bool) -> None:
    """Schedule-free optimizers train at other weights than they are used at (Defazio et al., 2024);
    they have a method for each."""
    method = getattr(optimizer, "train" if is_training else "eval", None)
    if callable(method):
        method()


@torch.no_grad()
def _step(optimizers: Sequence[Optimizer], with_closure: bool) -> None:
    leaves = [leaf for each in optimizers for leaf in each.param_groups[0]["params"]]

    def closure() -> Tensor:
        for leaf in leaves:
            leaf.grad = torch.ones_like(leaf)
        return torch.stack([leaf.sum() for leaf in leaves]).sum()

    closure()
    for optimizer in optimizers:
        set_mode(optimizer, True)
        optimizer.step(*[closure] if with_closure else [])  # type: ignore[arg-type]
        set_mode(optimizer, False)


def _leaves() -> list[Tensor]:
    return [torch.full(shape, 0.5, requires_grad=True) for shape in TRIED_SHAPES]


def wants_closure(component: Component) -> bool:
    """Whether its step calls for the loss by itself, as LBFGS does. Found out by a step without."""
    if component.path in RULES:
        return False
    cls = class_of(component)
    if cls not in _wants_closure:
        errors = _errors(component)
        if len(errors) > 1:
            raise errors[1]
        _wants_closure[cls] = bool(errors)
    return _wants_closure[cls]


def _errors(component: Component) -> list[Exception]:
    """Of a step without a closure, and if it has any, of one with a closure."""
    errors: list[Exception] = []
    for with_closure in (False, True):
        try:
            _step(make(component, _leaves()), with_closure)
            break
        except Exception as error:
            errors.append(error)
    return errors


def check(
    component: Component, key: str, epochs: int, batches: int, schedule_key: str = ""
) -> list[str]:
    """A sentence for each thing that is wrong with an entry of `optimizers`. It is made and makes a
    step, with every range at each of its ends, the others at their first.

    Args:
        key: of the entry, `optimizers.2`.
        epochs, batches: how long it is trained, and the batches of an epoch.
        schedule_key: where its schedule stands, if not in the entry."""
    try:
        cls = class_of(component, key)
    except UserError as error:
        return list(error.problems)
    problems = _named_wrongly(component, cls, key)
    if problems:
        return problems
    arguments = {name: value for name, value in component.arguments.items() if name != "schedule"}
    start = next(cases(arguments))
    for number, case in enumerate(cases(arguments)):
        changed = {name: case[name] for name in case if not number or case[name] != start[name]}
        if problem := _fails(Component(component.path, case, ""), key, in_words(changed)):
            problems.append(problem)
            if not number:
                break
    schedule = component.arguments.get("schedule")
    if schedule is None or problems:
        return problems
    optimizer = Component(component.path, start, "")
    with_closure = wants_closure(optimizer)
    return schedules.check(
        schedule,
        schedule_key or f"{key}.schedule",
        lambda: make(optimizer, _leaves()),
        lambda optimizers: _step(optimizers, with_closure),
        epochs,
        batches,
    )


def _named_wrongly(component: Component, cls: type, key: str) -> list[str]:
    """What is wrong with the names of the arguments."""
    name, taken, set_ = cls.__name__, parameters(cls), given(component)
    problems = misfits(cls, set_, key)
    if "lr" not in taken:
        problems.append(f"{key}.name: must take a learning rate, `lr`; {name} does not")
    elif taken["lr"] is None and "lr" not in set_:
        problems.append(f"{key}.lr: must be given: {name} has no default for it")
    if set_.get("maximize"):
        problems.append(f"{key}.maximize: must be left out: {REFUSED_ARGUMENTS['maximize']}")
    return problems


def _fails(component: Component, key: str, words: str) -> str | None:
    """Why it cannot be made, or make a step."""
    try:
        make(component, _leaves())
    except Exception as error:
        return f"{key}: {component.name} cannot be made{words}: {reason_of(error)}"
    errors = _errors(component)
    if len(errors) < 2:
        return None
    # One that takes no closure says so at the second try, and what is wrong at the first.
    reason = reason_of(errors[isinstance(errors[0], TypeError)])
    return f"{key}: {component.name} cannot make a step{words}: {reason}"
