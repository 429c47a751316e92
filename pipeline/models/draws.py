"""Random draws inside a network, from a generator of one's own.

torch's modules draw from one generator of the whole process, so that what a network draws depends
on what else is going on. Within `Draws` they draw from the one that is given: the same for every
network of a stack, in whatever company it is, and in any thread."""

from types import FunctionType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

_DRAWING: set[Any] = {
    getattr(place, name)
    for place, names in (
        (torch, ("rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial")),
        (torch, ("rand_like", "randn_like")),
        (Tensor, ("uniform_", "normal_", "bernoulli", "bernoulli_", "exponential_", "random_")),
        (Tensor, ("geometric_", "log_normal_", "cauchy_", "multinomial")),
    )
    for name in names
}

_LIKE: dict[Any, Any] = {torch.rand_like: torch.rand, torch.randn_like: torch.randn}
_INTO = {func for func in _DRAWING if func.__name__.endswith("_")}
_OF_CHANNELS = {F.dropout1d: 1, F.dropout2d: 2, F.dropout3d: 3}


def _without_hooks() -> Any:
    """`multi_head_attention_forward`, but it does not ask modes what to do in its place."""
    function: Any = F.multi_head_attention_forward
    hooks = {name for name in function.__globals__ if name.startswith("has_torch_function")}
    names = function.__globals__ | dict.fromkeys(hooks, lambda *_: False)
    unhooked: Any = FunctionType(function.__code__, names, None, function.__defaults__)
    unhooked.__kwdefaults__ = function.__kwdefaults__
    return unhooked


_attend: Any = _without_hooks()


class Draws(TorchFunctionMode):
    """Makes dropout and other draws of torch take `generator`, in this thread.

    The mask of a dropout lies in memory as its rows do, and not as an operation before it left
    them: it is the same however many networks are computed at once. What torch draws where Python
    does not see it, the dropout between recurrent layers, still comes from its own generator."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self._generator = generator

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.dropout:
            return self._dropout(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            return self._attention(*args, **kwargs)
        if func in _OF_CHANNELS:
            return self._dropout(*args, **{**kwargs, "kept": _OF_CHANNELS[func]})
        if func in _DRAWING and kwargs.get("generator") is None:
            kwargs = {**kwargs, "generator": self._generator}
            if func in _INTO and args:  # one draw for all networks, whatever their number
                drawn = torch.empty(args[0].shape, dtype=args[0].dtype, device=args[0].device)
                return args[0].copy_(func(drawn, *args[1:], **kwargs))
            if func in _LIKE and args:
                like = {"dtype": args[0].dtype, "device": args[0].device} | kwargs
                return _LIKE[func](*args[1:], args[0].shape, **like)
        if func is F.multi_head_attention_forward:
            with self:  # for what it calls: a mode is off while it answers
                return _attend(*args, **kwargs)
        return func(*args, **kwargs)

    def _dropout(
        self, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False, kept: int = 0
    ) -> Tensor:
        """`kept`: so many of the last dimensions are dropped or stay together."""
        if not training or p == 0:
            return x
        shape = (*x.shape[: x.dim() - kept], *[1] * kept)
        draws = torch.rand(shape, generator=self._generator, dtype=x.dtype, device=x.device)
        factors = (draws >= p) / (1 - p) if p < 1 else torch.zeros_like(draws)
        return x.mul_(factors) if inplace else x * factors

    def _attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """By the form of it that is made of operations which know stacks."""
        output: Tensor
        output, weights = torch.ops.aten._scaled_dot_product_attention_math(
            query, key, value, attn_mask, 0.0, is_causal, scale=scale, enable_gqa=enable_gqa
        )
        if dropout_p == 0:
            return output
        if enable_gqa:
            value = value.repeat_interleave(query.size(-3) // value.size(-3), -3)
        return self._dropout(weights, dropout_p) @ value
