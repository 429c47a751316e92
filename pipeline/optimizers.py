"""Update rules over a stack: each member has its own rule and its own arguments.

The parameters of a stack of K members are one tensor [K, P], a row for each member, and so are the
gradients. Members of one rule that stand side by side form a group: a slice [k, P] with each
hyper-parameter as a tensor [k, 1]. Formulas and defaults are those of `torch.optim`
(`_single_tensor_*` of torch 2.13); any of its classes without a rule here runs as it is, one object
for each member.
"""

import inspect
import itertools
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class OptimizerSpec:
    """A class of `torch.optim` and its keyword arguments; those left out have torch's defaults."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


# The rules. `p` and `g` are the group's parameters and gradients [k, P], `t` is the number of this
# step (1 for the first; float64, no dimensions), hyper-parameters are float64 [k, 1], and a state
# is [k, P]. A term that no member of the group uses is None. Coefficients are computed in float64,
# as torch.optim computes them in Python floats, and rounded to the parameters' dtype once.


def sgd(
    p: Tensor,
    g: Tensor,
    t: Tensor,
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
    t: Tensor,
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
    t: Tensor,
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
    t: Tensor,
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
    t: Tensor,
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
    t: Tensor,
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
    t: Tensor,
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
    t: Tensor,
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
        for key, members in itertools.groupby(specs, group_key):
            run = list(members)
            rows = slice(start, start + len(run))
            group: StackedGroup | SeparateGroup
            if key[0]:
                group = SeparateGroup(run, parameters[rows], gradients[rows], shapes)
            else:
                group = StackedGroup(run, parameters[rows], gradients[rows])
            self._groups.append((len(run), group))
            start += len(run)

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
    """Members of one rule: one call of its update for all of them."""

    def __init__(
        self, specs: Sequence[OptimizerSpec], parameters: Tensor, gradients: Tensor
    ) -> None:
        rule = RULES[specs[0].name]
        hyper = _hyper([arguments_of(spec) for spec in specs], parameters.device)
        states = {name: start(parameters, hyper) for name, start in rule.states.items()}
        taken = inspect.signature(rule.update).parameters
        self._update = rule.update
        self._flags = {n: v for n, v in hyper.items() if n in taken and isinstance(v, bool)}
        self._rows = {n: v for n, v in {**hyper, **states}.items() if n in taken}
        self._rows = {n: v for n, v in self._rows.items() if not isinstance(v, bool)}
        self._parameters, self._gradients = parameters, gradients
        self._t = torch.zeros((), dtype=torch.float64, device=parameters.device)

    def step(self) -> None:
        self._t += 1
        self._update(self._parameters, self._gradients, self._t, **self._rows, **self._flags)

    def keep(self, index: Sequence[int], parameters: Tensor, gradients: Tensor) -> None:
        rows = torch.tensor(index, device=parameters.device)
        self._rows = {
            name: None if value is None else value.index_select(0, rows)
            for name, value in self._rows.items()
        }
        self._parameters, self._gradients = parameters, gradients


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
