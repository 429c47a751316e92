"""What a class that somebody names takes, and what is wrong with the arguments that it is given."""

import inspect
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from pipeline.common import imports
from pipeline.common.errors import UserError
from pipeline.common.imports import REQUIRED, is_path, load
from pipeline.config.component import Component
from pipeline.config.ranges import ends, plain
from pipeline.config.yaml_text import flow_text

_PASSED = {"params", "defaults", "optimizer", "last_epoch"}


def find(path: str, home: str, base: type, key: str) -> Any:
    """The class at a path, or that the module `home` has by a bare name.

    Raises UserError, which begins with `key`: nothing is there, or it is no subclass of `base`."""
    found = load(path if is_path(path) else f"{home}.{path}", key)
    if isinstance(found, type) and issubclass(found, base):
        return found
    kind = "class" if isinstance(found, type) else type(found).__name__
    got = getattr(found, "__name__", repr(found))
    raise UserError(f"{key}: must be a subclass of {home}.{base.__name__}; got {kind} {got}")


@cache
def parameters(cls: type) -> Mapping[str, Any]:
    """The arguments that can be given by name, with their defaults (`REQUIRED`: none); those of a
    base class too, where the class takes any (`**kwargs`): which of these it passes itself nobody
    knows, so that none is required. What the program passes is left out."""
    taken: dict[str, Any] = {}
    owner = next(base for base in cls.__mro__ if "__init__" in vars(base))
    for base in cls.__mro__:
        if "__init__" not in vars(base) or base in (Optimizer, LRScheduler):
            continue
        signature = list(inspect.signature(vars(base)["__init__"]).parameters.values())[1:]
        if "optimizer" not in {parameter.name for parameter in signature}:
            signature = signature[1:]
        kinds = {parameter.kind for parameter in signature}
        for parameter in signature:
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                is_required = parameter.default is REQUIRED
                default = None if is_required and base is not owner else parameter.default
                taken.setdefault(parameter.name, default)
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            break
    return {name: default for name, default in taken.items() if name not in _PASSED}


def misfits(
    cls: type, given: Mapping[str, Any], key: str, passed: Collection[str] = ()
) -> list[str]:
    """A sentence for each argument that the class does not take, or lacks; `passed` by a run."""
    spoken = {name: None for name in given if _speaks_of(cls, name)}
    takes = {n: None if n in passed else d for n, d in parameters(cls).items()}
    return imports.misfits(cls.__name__, {**spoken, **takes}, given, key)


def _speaks_of(cls: type, name: str) -> bool:
    """Whether a class that takes any argument has a use for this one: its source quotes it."""
    if not any(
        parameter.kind == parameter.VAR_KEYWORD
        for parameter in inspect.signature(cls).parameters.values()
    ):
        return False
    try:
        source = inspect.getsource(sys.modules[cls.__module__])
    except (OSError, TypeError, KeyError):
        return True
    return f"'{name}'" in source or f'"{name}"' in source


def cases(value: Any) -> Iterator[Any]:
    """A part of a configuration with every range in it at its first end; then for each of these
    at each of its other ends, the rest as before."""
    match value:
        case Component():
            for arguments in cases(value.arguments):
                yield replace(value, arguments=arguments)
        case Mapping():
            found = {key: [*cases(child)] for key, child in value.items()}
            start = {key: each[0] for key, each in found.items()}
            yield start
            for key, each in found.items():
                yield from ({**start, key: other} for other in each[1:])
        case tuple():
            for case in cases(dict(enumerate(value))):
                yield tuple(case.values())
        case _:
            yield from ends(value)


def in_words(arguments: Mapping[str, Any]) -> str:
    """` with lr=0.1, betas=[0.9, 0.99]`; nothing for no arguments."""
    words = ", ".join(f"{name}={flow_text(plain(value))}" for name, value in arguments.items())
    return f" with {words}" if words else ""
