"""A stack is held to one `torch.nn` network for each member."""

import random
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.config.sections import Activation
from pipeline.models.activations import ACTIVATIONS
from pipeline.models.mlp import MLP, StackedMLP
from pipeline.models.task import Classification

MODULES = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}
ROWS = 7


class Linear(nn.Module):
    """A stand-in for the encoder: raw [B, F] float64 -> [K, B, D] float32."""

    def __init__(self, members: int, raw: int, inputs: int, seed: int = 0) -> None:
        super().__init__()
        draw = generator(seed)
        matrix = torch.randn(members, raw, inputs, generator=draw, dtype=torch.float64)
        self.register_buffer("matrix", matrix)
        self.register_buffer("nothing", torch.empty(0, dtype=torch.int64))

    def forward(self, raw: Tensor) -> Tensor:
        none = raw.index_select(1, self.nothing).expand(len(self.matrix), -1, -1)
        return torch.cat((raw @ self.matrix, none), dim=2).float()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def stack(architecture: MLP, members: int, dropout: Tensor | None = None) -> StackedMLP:
    parameters = architecture.initial(members, 0)
    rates = torch.zeros(members) if dropout is None else dropout
    return StackedMLP(architecture, parameters, rates)


def network(architecture: MLP, row: Tensor) -> nn.Sequential:
    """One member as torch.nn writes it."""
    layers: list[nn.Module] = []
    for i, (before, after) in enumerate(
        zip(architecture.widths, architecture.widths[1:], strict=False)
    ):
        layers.append(nn.Linear(before, after))
        if i < len(architecture.hidden):
            if architecture.batch_norm:
                layers.append(nn.BatchNorm1d(after))
            layers.append(MODULES[architecture.activation]())
    module = nn.Sequential(*layers).double()
    nn.utils.vector_to_parameters(row, module.parameters())
    return module


def test_their_names_are_those_that_a_configuration_may_hold() -> None:
    assert get_args(Activation) == tuple(ACTIVATIONS)


def inputs(members: int, columns: int, rows: int = ROWS) -> Tensor:
    return torch.randn(members, columns, rows, generator=generator(1), dtype=torch.float64)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("hidden", [(), (5,), (6, 4)])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_logits_and_gradients_are_those_of_single_networks(
    activation: str, hidden: tuple[int, ...], batch_norm: bool
) -> None:
    architecture = MLP(3, hidden, 3, activation, batch_norm)
    members = stack(architecture, 3)
    networks = [network(architecture, row) for row in members.parameters]
    y = torch.randint(0, 3, (3, ROWS), generator=generator(2))
    for step in range(3):
        x = inputs(3, 3) * (step + 1)
        members.gradients.zero_()
        logits = members(x, training=True)
        members.backward(Classification(3).gradients(logits, y))
        for k, single in enumerate(networks):
            single.zero_grad()
            expected = single(x[k].T)
            torch.testing.assert_close(logits[k].T, expected)
            nn.functional.cross_entropy(expected, y[k]).backward()
            gradient = torch.cat([p.grad.reshape(-1) for p in single.parameters()])
            torch.testing.assert_close(members.gradients[k], gradient)
    logits = members(x)
    for k, single in enumerate(networks):
        torch.testing.assert_close(logits[k].T, single.eval()(x[k].T))


def test_gradients_add_up_until_they_are_cleared() -> None:
    members = stack(MLP(3, (4,), 1), 2)
    for _ in range(2):
        members.backward(torch.ones_like(members(inputs(2, 3), training=True)))
    twice = members.gradients.clone()
    members.gradients.zero_()
    members.backward(torch.ones_like(members(inputs(2, 3), training=True)))
    torch.testing.assert_close(members.gradients * 2, twice)


def test_initial_parameters_are_drawn_as_those_of_nn_linear() -> None:
    architecture = MLP(16, (400,), 3, batch_norm=True)
    rows = architecture.initial(2, 0)
    first, last = architecture.views(rows)
    for layer, fan_in in ((first, 16), (last, 400)):
        bound = nn.Linear(fan_in, 2000, bias=False).weight.abs().max().item()
        for drawn in (layer.weight, layer.bias):
            assert drawn.abs().max() <= fan_in**-0.5
        assert layer.weight.abs().max().item() == pytest.approx(bound, rel=0.01)
        assert layer.weight.std().item() == pytest.approx((3 * fan_in) ** -0.5, rel=0.05)
    assert first.scale is not None
    assert first.shift is not None
    assert bool((first.scale == 1).all())
    assert bool((first.shift == 0).all())
    assert not torch.equal(rows[0], rows[1])


def test_the_global_generators_are_left_alone() -> None:
    numpy_state = np.random.get_state
    before = torch.get_rng_state(), numpy_state()[1].copy(), random.getstate()
    stack(MLP(3, (4,), 1), 2)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(numpy_state()[1], before[1])
    assert random.getstate() == before[2]


def test_dropout_is_each_members_own_and_only_in_training() -> None:
    rates = torch.tensor([0.0, 0.5, 0.9])
    architecture = MLP(3, (50,), 1)
    members = stack(architecture, 3, rates)
    x, draws = inputs(3, 3), torch.rand(3, 50, ROWS, generator=generator(3), dtype=torch.float64)
    dropped, plain = members(x, training=True, draws=[draws]), members(x)
    torch.testing.assert_close(dropped[0], plain[0], rtol=0, atol=0)
    for k, row in enumerate(members.parameters):
        single = network(architecture, row)
        kept = single[1](single[0](x[k].T)) * (rates[k] <= draws[k].T) / (1 - rates[k])
        torch.testing.assert_close(dropped[k].T, single[2](kept), check_dtype=False)


def test_members_that_stay_are_the_same_networks() -> None:
    members = stack(MLP(3, (4, 4), 2, batch_norm=True), 4, torch.tensor([0, 0.1, 0, 0.3]))
    x = inputs(4, 3)
    members(x, training=True, draws=[torch.ones(4, 4, ROWS)] * 2)
    before, states = members(x), members.state(torch.arange(4))
    members.keep(torch.tensor([1, 3]))
    assert len(members.parameters) == 2
    torch.testing.assert_close(members(x[[1, 3]]), before[[1, 3]])
    assert torch.equal(members.state(torch.arange(2)), states[[1, 3]])
    members.backward(members(x[[1, 3]], training=True))
    assert bool((members.gradients != 0).any(dim=1).all())
