"""Random draws inside a network, from a generator of one's own.

torch's modules draw from one generator of the whole process, so that what a network draws depends
on what else is going on. Within `Draws` they draw from the one that is given: the same for every
network of a stack, in whatever company it is, and in any thread."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_WITH_GENERATOR = {"default": "generator", "low": "low_generator"}
_WITH_GENERATOR |= {"Tensor": "Tensor_generator", "low_dtype": "low_generator_dtype"}
"""The overload of an operation that takes a generator, by that which takes none."""


class Draws(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Makes dropout and whatever else torch draws take `generator`, in this thread.

    What is drawn lies in memory as its shape says, and not as an operation before it left its rows:
    so it is the same however many networks are computed at once. Where an operation takes no
    generator, as cuDNN's do not, torch's own is seeded for it."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._generator = generator

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs, own = kwargs or {}, self._generator
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **kwargs)
        if func._overloadname in _WITH_GENERATOR:
            func = getattr(func.overloadpacket, _WITH_GENERATOR[func._overloadname], func)
        takes = {argument.name: argument.default_value for argument in func._schema.arguments}
        if "generator" in takes:
            kwargs = {**kwargs, "generator": kwargs.get("generator") or own}
        else:
            given = {**takes, **dict(zip(takes, args, strict=False)), **kwargs}
            if given.get("dropout_p", given.get("dropout", 1.0)):  # attention and recurrent layers
                torch.manual_seed(int(torch.randint(2**62, (), generator=own, device=own.device)))
        first, *others = args
        if not isinstance(first, Tensor) or first.is_contiguous():
            return func(*args, **kwargs)
        drawn = func(first.contiguous(), *others, **kwargs)
        return first.copy_(drawn) if func._schema.is_mutable else drawn
