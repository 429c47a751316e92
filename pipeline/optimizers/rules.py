"""The update rules of `torch.optim`, written for many members at once, each beside its source.

Formulas are those of `_single_tensor_*` in torch 2.13. A group is k members of one rule; the tables
at the end say which states a rule keeps and how they start.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

# The rules. `p` and `g` are the group's parameters and gradients [k, P], `t` is the number of this
# step (1 for the first), hyper-parameters are float64 [k, 1], and a state is [k, P]. A term that
# no member of the group uses is None. Coefficients are computed in float64, as torch.optim computes
# them in Python floats, and rounded to the parameters' dtype once.
#
# `native.rules` runs each rule on symbols to write it in C++, so only operations that it knows can
# stand here, and no branch may depend on a number.


def sgd(
    p: Tensor,
    g: Tensor,
    t: float,
    *,
    buffer: Tensor | None,
    lr: Tensor,
    momentum: Tensor | None,
    dampening: Tensor | None,
    weight_decay: Tensor | None,
    nesterov: bool,
) -> None:
    """Stochastic gradient descent with momentum (Sutskever et al., 2013, in torch's form)."""
    f = p.dtype
    if weight_decay is not None:
        g = g + p * weight_decay.to(f)
    if momentum is not None and buffer is not None:
        # The first gradient enters whole, and without momentum there is nothing to dampen.
        damped = g
        if dampening is not None:
            damped = g * torch.where((t > 1) & (momentum > 0), 1 - dampening, 1.0).to(f)
        buffer.mul_(momentum.to(f)).add_(damped)
        g = g + buffer * momentum.to(f) if nesterov else buffer
    p.sub_(g * lr.to(f))


def adagrad(
    p: Tensor,
    g: Tensor,
    t: float,
    *,
    squares: Tensor,
    lr: Tensor,
    lr_decay: Tensor | None,
    weight_decay: Tensor | None,
    eps: Tensor,
) -> None:
    """Adagrad (Duchi, Hazan and Singer, 2011)."""
    f = p.dtype
    if weight_decay is not None:
        g = g + p * weight_decay.to(f)
    if lr_decay is not None:
        lr = lr / (1 + (t - 1) * lr_decay)
    squares.addcmul_(g, g)
    p.addcdiv_(g * -lr.to(f), squares.sqrt().add_(eps.to(f)))


def rmsprop(
    p: Tensor,
    g: Tensor,
    t: float,
    *,
    v: Tensor,
    mean: Tensor | None,
    buffer: Tensor | None,
    lr: Tensor,
    alpha: Tensor,
    eps: Tensor,
    weight_decay: Tensor | None,
    momentum: Tensor | None,
) -> None:
    """RMSprop (Hinton's lecture 6e, 2012); centered as Graves (2013), eq. 38 to 45."""
    f = p.dtype
    if weight_decay is not None:
        g = g + p * weight_decay.to(f)
    v.mul_(alpha.to(f)).add_(g * g * (1 - alpha).to(f))
    if mean is None:
        scale = v.sqrt()
    else:
        mean.lerp_(g, (1 - alpha).to(f))
        scale = v.addcmul(mean, mean, value=-1).sqrt_()
    scale.add_(eps.to(f))
    if momentum is None or buffer is None:
        p.addcdiv_(g * -lr.to(f), scale)
    else:
        buffer.mul_(momentum.to(f)).addcdiv_(g, scale)
        p.sub_(buffer * lr.to(f))


def adam(
    p: Tensor,
    g: Tensor,
    t: float,
    *,
    m: Tensor,
    v: Tensor,
    v_max: Tensor | None,
    lr: Tensor,
    beta1: Tensor,
    beta2: Tensor,
    eps: Tensor,
    weight_decay: Tensor | None,
    decoupled_weight_decay: bool,
) -> None:
    """Adam (Kingma and Ba, 2015, algorithm 1); AMSGrad (Reddi, Kale and Kumar, 2018, algorithm 2);
    with decoupled weight decay AdamW (Loshchilov and Hutter, 2019, algorithm 2)."""
    f = p.dtype
    g = _decayed(p, g, lr, weight_decay, decoupled_weight_decay)
    m.lerp_(g, (1 - beta1).to(f))
    v.mul_(beta2.to(f)).add_(g * g * (1 - beta2).to(f))
    scale = (v if v_max is None else torch.maximum(v_max, v, out=v_max)).sqrt()
    scale.div_((1 - beta2**t).sqrt().to(f)).add_(eps.to(f))
    p.addcdiv_(m * (-lr / (1 - beta1**t)).to(f), scale)


def nadam(
    p: Tensor,
    g: Tensor,
    t: float,
    *,
    m: Tensor,
    v: Tensor,
    mu_product: Tensor,
    lr: Tensor,
    beta1: Tensor,
    beta2: Tensor,
    eps: Tensor,
    weight_decay: Tensor | None,
    momentum_decay: Tensor,
    decoupled_weight_decay: bool,
) -> None:
    """NAdam (Dozat, 2016) with Dozat's schedule of the momentum; `mu_product` is float64 [k, 1]."""
    f = p.dtype
    g = _decayed(p, g, lr, weight_decay, decoupled_weight_decay)
    mu = beta1 * (1 - 0.5 * 0.96 ** (t * momentum_decay))
    mu_next = beta1 * (1 - 0.5 * 0.96 ** ((t + 1) * momentum_decay))
    mu_product.mul_(mu)
    m.lerp_(g, (1 - beta1).to(f))
    v.mul_(beta2.to(f)).add_(g * g * (1 - beta2).to(f))
    scale = v.div((1 - beta2**t).to(f)).sqrt_().add_(eps.to(f))
    p.addcdiv_(g * (-lr * (1 - mu) / (1 - mu_product)).to(f), scale)
    p.addcdiv_(m * (-lr * mu_next / (1 - mu_product * mu_next)).to(f), scale)


def radam(
    p: Tensor,
    g: Tensor,
    t: float,
    *,
    m: Tensor,
    v: Tensor,
    lr: Tensor,
    beta1: Tensor,
    beta2: Tensor,
    eps: Tensor,
    weight_decay: Tensor | None,
    decoupled_weight_decay: bool,
) -> None:
    """RAdam (Liu et al., 2020, algorithm 2): the rectified step once the average is long enough."""
    f = p.dtype
    g = _decayed(p, g, lr, weight_decay, decoupled_weight_decay)
    m.lerp_(g, (1 - beta1).to(f))
    v.mul_(beta2.to(f)).add_(g * g * (1 - beta2).to(f))
    correction = 1 - beta2**t
    longest = 2 / (1 - beta2) - 1
    length = longest - 2 * t * beta2**t / correction
    rectification = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
    adaptive = (rectification * correction).sqrt().to(f) / v.sqrt().add_(eps.to(f))
    step = torch.where(length > 5, adaptive, 1.0)
    p.addcmul_(m * (-lr / (1 - beta1**t)).to(f), step)


def adamax(
    p: Tensor,
    g: Tensor,
    t: float,
    *,
    m: Tensor,
    norm: Tensor,
    lr: Tensor,
    beta1: Tensor,
    beta2: Tensor,
    eps: Tensor,
    weight_decay: Tensor | None,
) -> None:
    """Adamax (Kingma and Ba, 2015, algorithm 2)."""
    f = p.dtype
    if weight_decay is not None:
        g = g + p * weight_decay.to(f)
    m.lerp_(g, (1 - beta1).to(f))
    torch.maximum(norm.mul_(beta2.to(f)), g.abs().add_(eps.to(f)), out=norm)
    p.addcdiv_(m * (-lr / (1 - beta1**t)).to(f), norm)


def adadelta(
    p: Tensor,
    g: Tensor,
    t: float,
    *,
    squares: Tensor,
    deltas: Tensor,
    lr: Tensor,
    rho: Tensor,
    eps: Tensor,
    weight_decay: Tensor | None,
) -> None:
    """Adadelta (Zeiler, 2012, algorithm 1)."""
    f = p.dtype
    if weight_decay is not None:
        g = g + p * weight_decay.to(f)
    squares.mul_(rho.to(f)).add_(g * g * (1 - rho).to(f))
    delta = deltas.add(eps.to(f)).sqrt_().div_(squares.add(eps.to(f)).sqrt_()).mul_(g)
    deltas.mul_(rho.to(f)).add_(delta * delta * (1 - rho).to(f))
    p.sub_(delta * lr.to(f))


def _decayed(
    p: Tensor, g: Tensor, lr: Tensor, weight_decay: Tensor | None, decoupled: bool
) -> Tensor:
    """The gradients with the decay's part; a decoupled decay shrinks `p` and leaves them as is."""
    if weight_decay is None:
        return g
    if decoupled:
        p.mul_((1 - lr * weight_decay).to(p.dtype))
        return g
    return g + p * weight_decay.to(p.dtype)


Hyper = Mapping[str, Any]
"""A group's arguments: float64 [k, 1] for a number, None for a term unused, bool for a boolean."""


def zeros(p: Tensor, h: Hyper) -> Tensor:
    """A state that starts at 0."""
    return torch.zeros_like(p)


def zeros_for(argument: str) -> Callable[[Tensor, Hyper], Tensor | None]:
    """A state that starts at 0 and that only members with this argument need."""
    return lambda p, h: None if h[argument] is None or h[argument] is False else zeros(p, h)


def filled(argument: str) -> Callable[[Tensor, Hyper], Tensor]:
    """A state that starts at the value of an argument."""
    return lambda p, h: zeros(p, h).add_(h[argument].to(p.dtype))


def one_each(p: Tensor, h: Hyper) -> Tensor:
    """A float64 [k, 1] state that starts at 1."""
    return p.new_ones((len(p), 1), dtype=torch.float64)


@dataclass(frozen=True)
class Rule:
    """An update and the states that it keeps between steps, each with how it starts."""

    update: Callable[..., None]
    states: Mapping[str, Callable[[Tensor, Hyper], Tensor | None]]


TERMS = frozenset({"weight_decay", "momentum", "dampening", "lr_decay"})
"""Numbers that switch a term of the formula on: at 0 the term is not there."""

RULES: Mapping[str, Rule] = {
    "SGD": Rule(sgd, {"buffer": zeros_for("momentum")}),
    "Adagrad": Rule(adagrad, {"squares": filled("initial_accumulator_value")}),
    "RMSprop": Rule(
        rmsprop, {"v": zeros, "mean": zeros_for("centered"), "buffer": zeros_for("momentum")}
    ),
    "Adam": Rule(adam, {"m": zeros, "v": zeros, "v_max": zeros_for("amsgrad")}),
    "AdamW": Rule(
        partial(adam, decoupled_weight_decay=True),
        {"m": zeros, "v": zeros, "v_max": zeros_for("amsgrad")},
    ),
    "NAdam": Rule(nadam, {"m": zeros, "v": zeros, "mu_product": one_each}),
    "RAdam": Rule(radam, {"m": zeros, "v": zeros}),
    "Adamax": Rule(adamax, {"m": zeros, "norm": zeros}),
    "Adadelta": Rule(adadelta, {"squares": zeros, "deltas": zeros}),
}
