"""The stacked rules are held to torch.optim: same start, same batches, same weights."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.config.component import Component
from pipeline.optimizers.rules import RULES
from pipeline.optimizers.stacked import StackedOptimizer, arguments_of, group_key

SHAPES = ((3, 4), (4,), (4, 2), (2,))
SIZES = [12, 4, 8, 2]
STEPS = 200

SETTINGS: dict[str, list[dict[str, Any]]] = {
    "SGD": [
        {"lr": 0.1},
        {"lr": 0.05, "momentum": 0.9},
        {"lr": 0.02, "momentum": 0.8, "dampening": 0.3, "weight_decay": 0.01},
        {"lr": 0.02, "momentum": 0.0, "dampening": 0.3},
        {"lr": 0.01, "momentum": 0.95, "nesterov": True, "weight_decay": 0.1},
        {"lr": 0.0},
    ],
    "Adagrad": [
        {},
        {"lr": 0.1, "lr_decay": 0.01},
        {"lr": 0.05, "initial_accumulator_value": 0.5, "weight_decay": 0.02, "eps": 1e-6},
    ],
    "RMSprop": [
        {},
        {"lr": 0.003, "alpha": 0.9, "momentum": 0.7},
        {"lr": 0.005, "centered": True, "eps": 1e-5},
        {"lr": 0.001, "centered": True, "momentum": 0.9, "weight_decay": 0.05},
    ],
    "Adam": [
        {},
        {"lr": 0.1, "betas": (0.5, 0.9)},
        {"lr": 0.03, "betas": (0.9, 0.99), "amsgrad": True, "weight_decay": 0.01},
        {"lr": 0.01, "eps": 1e-3, "weight_decay": 0.1},
        {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True},
    ],
    "AdamW": [
        {},
        {"lr": 0.02, "weight_decay": 0.3, "betas": (0.7, 0.99)},
        {"lr": 0.02, "amsgrad": True, "eps": 1e-4},
    ],
    "NAdam": [
        {},
        {"lr": 0.05, "momentum_decay": 0.02, "weight_decay": 0.01},
        {"lr": 0.05, "weight_decay": 0.2, "decoupled_weight_decay": True, "betas": (0.8, 0.95)},
    ],
    "RAdam": [
        {},
        {"lr": 0.05, "betas": (0.9, 0.6)},
        {"lr": 0.05, "betas": (0.8, 0.99), "weight_decay": 0.01},
        {"lr": 0.02, "weight_decay": 0.2, "decoupled_weight_decay": True},
    ],
    "Adamax": [{}, {"lr": 0.05, "betas": (0.8, 0.9), "weight_decay": 0.05, "eps": 1e-4}],
    "Adadelta": [{}, {"lr": 0.5, "rho": 0.5, "eps": 1e-3, "weight_decay": 0.05}],
    "ASGD": [{}, {"lr": 0.05, "lambd": 0.01, "weight_decay": 0.1}],
    "Rprop": [{}, {"lr": 0.05, "etas": [0.4, 1.3]}],
    "Adafactor": [{}, {"lr": 0.05, "weight_decay": 0.1}],
}
ALL = [Component(name, arguments, "") for name, many in SETTINGS.items() for arguments in many]


@pytest.fixture(autouse=True, scope="module")
def _float64_reference() -> Any:
    """torch.optim.NAdam keeps its product of momenta in the default dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def draw(count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, sum(SIZES), generator=generator, dtype=torch.float64)


def gradient(parameters: Tensor, step: int) -> Tensor:
    """Gradients of a convex function of each weight, another one at each step (the batch)."""
    return torch.tanh(parameters - 2 * math.sin(0.1 * step)) + 0.1 * parameters


def reference(spec: Component, start: Tensor, steps: int = STEPS) -> Tensor:
    """One network's weights after a plain torch.optim loop."""
    arguments = {k: tuple(v) if isinstance(v, list) else v for k, v in spec.arguments.items()}
    parts = zip(start.split(SIZES), SHAPES, strict=True)
    leaves = [part.view(shape).clone().requires_grad_() for part, shape in parts]
    optimizer = getattr(torch.optim, spec.name)(leaves, **arguments)
    for step in range(steps):
        for leaf in leaves:
            leaf.grad = gradient(leaf.detach(), step)
        optimizer.step()
    return torch.cat([leaf.detach().view(-1) for leaf in leaves])


def run(
    specs: list[Component],
    start: Tensor,
    steps: int = STEPS,
    leave: Callable[[int], list[int] | None] = lambda step: None,
) -> Tensor:
    parameters, gradients = start.clone(), torch.zeros_like(start)
    optimizer = StackedOptimizer(specs, parameters, gradients, SHAPES, [1] * len(specs), 1)
    for step in range(steps):
        gradients.copy_(gradient(parameters, step))
        optimizer.step()
        index = leave(step)
        if index is not None:
            parameters, gradients = parameters[index].clone(), gradients[index].clone()
            optimizer.keep(index, parameters, gradients)
    return parameters


@pytest.mark.parametrize("name", SETTINGS)
def test_each_member_equals_a_plain_torch_optim_loop(name: str) -> None:
    specs = sorted((Component(name, a, "") for a in SETTINGS[name]), key=group_key)
    start = draw(len(specs))
    stacked = run(specs, start)
    for spec, row, weights in zip(specs, start, stacked, strict=True):
        torch.testing.assert_close(weights, reference(spec, row), rtol=0, atol=1e-9, msg=str(spec))


def test_all_rules_in_one_stack_in_any_order() -> None:
    start = draw(1).repeat(len(ALL), 1)
    forward, backward = run(ALL, start), run(ALL[::-1], start)
    torch.testing.assert_close(forward, backward.flip(0), rtol=0, atol=1e-12)
    for spec, weights in list(zip(ALL, forward, strict=True))[::5]:
        torch.testing.assert_close(weights, run([spec], start[:1])[0], rtol=0, atol=1e-12)


def test_members_that_leave_change_nothing_for_those_that_stay() -> None:
    start = draw(1).repeat(len(ALL), 1)
    stay = [k for k in range(len(ALL)) if k % 3 != 1]
    left = run(ALL, start, leave=lambda step: stay if step == 57 else None)
    torch.testing.assert_close(left, run(ALL, start)[stay], rtol=0, atol=1e-12)


def test_every_stacked_rule_is_covered_and_every_argument_is_used() -> None:
    for name in RULES:
        used = set().union(*(arguments for arguments in SETTINGS[name]))
        assert used | {"eps"} >= set(arguments_of(Component(name, {}, ""))), name


def test_a_member_with_broken_gradients_is_alone_with_them() -> None:
    start = draw(1).repeat(len(ALL), 1)
    parameters, gradients = start.clone(), torch.zeros_like(start)
    optimizer = StackedOptimizer(ALL, parameters, gradients, SHAPES, [1] * len(ALL), 1)
    for step in range(20):
        gradients.copy_(gradient(parameters, step))
        gradients[::2] = torch.tensor([torch.nan, torch.inf]).repeat(sum(SIZES) // 2)
        optimizer.step()
    torch.testing.assert_close(parameters[1::2], run(ALL, start, 20)[1::2], rtol=0, atol=1e-12)


def test_float32_coefficients_are_those_of_torch() -> None:
    """1 - beta2 rounded in float32 would be off by a part in a hundred here."""
    specs = [Component("Adam", {"lr": 0.01, "betas": (0.9, 0.999999)}, "")] * 2
    start = draw(2).float()
    stacked = run(specs, start, 50)
    torch.testing.assert_close(stacked[0], reference(specs[0], start[0], 50), rtol=1e-5, atol=1e-6)
