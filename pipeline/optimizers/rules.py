"""The update rules of `torch.optim`, written for many members at once, each beside its source.

Formulas are those of `_single_tensor_*` in torch 2.13. A group is k members of one rule; the table
at the end says which states a rule keeps and how they start."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace

import torch
from torch import Tensor

# The rules. `p` and `g` are the group's parameters and gradients [k, P], weight decay included; `t`
# is the number of this step (1 for the first). `s` has the states by name, [k, P] each. `h` has
# torch's arguments by name: a number is float64 [k, 1], or None for a term that no member of the
# group uses; a boolean is one for all. Coefficients are computed in float64, as torch.optim
# computes them in Python floats, and rounded to the parameters' dtype once.
#
# `native.codegen` traces each rule to write it in C++, where it knows the operations and where no
# branch depends on a number.


def sgd(p: Tensor, g: Tensor, t: float, s: SimpleNamespace, h: SimpleNamespace) -> None:
    """Stochastic gradient descent with momentum (Sutskever et al., 2013, in torch's form)."""
    f = p.dtype
    if h.momentum is not None:
        # The first gradient enters whole, and without momentum there is nothing to dampen.
        damped = g
        if h.dampening is not None:
            damped = g * torch.where((t > 1) & (h.momentum > 0), 1 - h.dampening, 1.0).to(f)
        s.buffer.mul_(h.momentum.to(f)).add_(damped)
        g = g + s.buffer * h.momentum.to(f) if h.nesterov else s.buffer
    p.sub_(g * h.lr.to(f))


def adagrad(p: Tensor, g: Tensor, t: float, s: SimpleNamespace, h: SimpleNamespace) -> None:
    """Adagrad (Duchi, Hazan and Singer, 2011)."""
    f = p.dtype
    lr = h.lr if h.lr_decay is None else h.lr / (1 + (t - 1) * h.lr_decay)
    s.squares.addcmul_(g, g)
    p.addcdiv_(g * -lr.to(f), s.squares.sqrt().add_(h.eps.to(f)))


def rmsprop(p: Tensor, g: Tensor, t: float, s: SimpleNamespace, h: SimpleNamespace) -> None:
    """RMSprop (Hinton's lecture 6e, 2012); centered as Graves (2013), eq. 38 to 45."""
    f = p.dtype
    s.v.mul_(h.alpha.to(f)).add_(g * g * (1 - h.alpha).to(f))
    if h.centered:
        s.mean.lerp_(g, (1 - h.alpha).to(f))
        scale = s.v.addcmul(s.mean, s.mean, value=-1).sqrt_()
    else:
        scale = s.v.sqrt()
    scale.add_(h.eps.to(f))
    if h.momentum is None:
        p.addcdiv_(g * -h.lr.to(f), scale)
    else:
        s.buffer.mul_(h.momentum.to(f)).addcdiv_(g, scale)
        p.sub_(s.buffer * h.lr.to(f))


def adam(p: Tensor, g: Tensor, t: float, s: SimpleNamespace, h: SimpleNamespace) -> None:
    """Adam (Kingma and Ba, 2015, algorithm 1); AMSGrad (Reddi, Kale and Kumar, 2018, algorithm 2);
    with decoupled weight decay AdamW (Loshchilov and Hutter, 2019, algorithm 2)."""
    f = p.dtype
    s.m.lerp_(g, (1 - h.beta1).to(f))
    s.v.mul_(h.beta2.to(f)).add_(g * g * (1 - h.beta2).to(f))
    scale = (torch.maximum(s.v_max, s.v, out=s.v_max) if h.amsgrad else s.v).sqrt()
    scale.div_((1 - h.beta2**t).sqrt().to(f)).add_(h.eps.to(f))
    p.addcdiv_(s.m * (-h.lr / (1 - h.beta1**t)).to(f), scale)


def nadam(p: Tensor, g: Tensor, t: float, s: SimpleNamespace, h: SimpleNamespace) -> None:
    """NAdam (Dozat, 2016) with Dozat's schedule of the momentum; `mu_product` is float64 [k, 1]."""
    f = p.dtype
    mu = h.beta1 * (1 - 0.5 * 0.96 ** (t * h.momentum_decay))
    mu_next = h.beta1 * (1 - 0.5 * 0.96 ** ((t + 1) * h.momentum_decay))
    s.mu_product.mul_(mu)
    s.m.lerp_(g, (1 - h.beta1).to(f))
    s.v.mul_(h.beta2.to(f)).add_(g * g * (1 - h.beta2).to(f))
    scale = s.v.div((1 - h.beta2**t).to(f)).sqrt_().add_(h.eps.to(f))
    p.addcdiv_(g * (-h.lr * (1 - mu) / (1 - s.mu_product)).to(f), scale)
    p.addcdiv_(s.m * (-h.lr * mu_next / (1 - s.mu_product * mu_next)).to(f), scale)


def radam(p: Tensor, g: Tensor, t: float, s: SimpleNamespace, h: SimpleNamespace) -> None:
    """RAdam (Liu et al., 2020, algorithm 2): the rectified step once the average is long enough."""
    f = p.dtype
    s.m.lerp_(g, (1 - h.beta1).to(f))
    s.v.mul_(h.beta2.to(f)).add_(g * g * (1 - h.beta2).to(f))
    correction = 1 - h.beta2**t
    longest = 2 / (1 - h.beta2) - 1
    length = longest - 2 * t * h.beta2**t / correction
    rectification = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
    adaptive = (rectification * correction).sqrt().to(f) / s.v.sqrt().add_(h.eps.to(f))
    step = torch.where(length > 5, adaptive, 1.0)
    p.addcmul_(s.m * (-h.lr / (1 - h.beta1**t)).to(f), step)


def adamax(p: Tensor, g: Tensor, t: float, s: SimpleNamespace, h: SimpleNamespace) -> None:
    """Adamax (Kingma and Ba, 2015, algorithm 2)."""
    f = p.dtype
    s.m.lerp_(g, (1 - h.beta1).to(f))
    torch.maximum(s.norm.mul_(h.beta2.to(f)), g.abs().add_(h.eps.to(f)), out=s.norm)
    p.addcdiv_(s.m * (-h.lr / (1 - h.beta1**t)).to(f), s.norm)


def adadelta(p: Tensor, g: Tensor, t: float, s: SimpleNamespace, h: SimpleNamespace) -> None:
    """Adadelta (Zeiler, 2012, algorithm 1)."""
    f = p.dtype
    s.squares.mul_(h.rho.to(f)).add_(g * g * (1 - h.rho).to(f))
    delta = s.deltas.add(h.eps.to(f)).sqrt_().div_(s.squares.add(h.eps.to(f)).sqrt_()).mul_(g)
    s.deltas.mul_(h.rho.to(f)).add_(delta * delta * (1 - h.rho).to(f))
    p.sub_(delta * h.lr.to(f))


@dataclass(frozen=True)
class Rule:
    """An update and the states that it keeps between steps.

    states: (p, h) -> how each of them starts; None: these members do not need it.
    is_decoupled: whether weight decay shrinks the parameters by itself instead of being added to
        the gradients, where that is no argument of the class (`decoupled_weight_decay`)."""

    update: Callable[[Tensor, Tensor, float, SimpleNamespace, SimpleNamespace], None]
    states: Mapping[str, Callable[[Tensor, SimpleNamespace], Tensor | None]]
    is_decoupled: bool = False

    def step(self, p: Tensor, g: Tensor, t: float, s: SimpleNamespace, h: SimpleNamespace) -> None:
        """Decay the weights and make the update, in place."""
        weight_decay = getattr(h, "weight_decay", None)
        if weight_decay is not None:
            if getattr(h, "decoupled_weight_decay", self.is_decoupled):
                p.mul_((1 - h.lr * weight_decay).to(p.dtype))
            else:
                g = g + p * weight_decay.to(p.dtype)
        self.update(p, g, t, s, h)


def zeros(p: Tensor, h: SimpleNamespace) -> Tensor:
    return torch.zeros_like(p)


def zeros_for(argument: str) -> Callable[[Tensor, SimpleNamespace], Tensor | None]:
    """A state that only members with this argument need."""

    def start(p: Tensor, h: SimpleNamespace) -> Tensor | None:
        value = getattr(h, argument)
        return None if value is None or value is False else zeros(p, h)

    return start


TERMS = frozenset({"weight_decay", "momentum", "dampening", "lr_decay"})
"""Numbers that switch a term of the formula on: at 0 the term is not there."""

_ADAM = {"m": zeros, "v": zeros, "v_max": zeros_for("amsgrad")}

RULES: Mapping[str, Rule] = {
    "SGD": Rule(sgd, {"buffer": zeros_for("momentum")}),
    "Adagrad": Rule(
        adagrad, {"squares": lambda p, h: zeros(p, h).add_(h.initial_accumulator_value.to(p.dtype))}
    ),
    "RMSprop": Rule(
        rmsprop, {"v": zeros, "mean": zeros_for("centered"), "buffer": zeros_for("momentum")}
    ),
    "Adam": Rule(adam, _ADAM),
    "AdamW": Rule(adam, _ADAM, is_decoupled=True),
    "NAdam": Rule(
        nadam,
        {
            "m": zeros,
            "v": zeros,
            "mu_product": lambda p, h: p.new_ones((len(p), 1), dtype=torch.float64),
        },
    ),
    "RAdam": Rule(radam, {"m": zeros, "v": zeros}),
    "Adamax": Rule(adamax, {"m": zeros, "norm": zeros}),
    "Adadelta": Rule(adadelta, {"squares": zeros, "deltas": zeros}),
}
