"""Whatever torch draws comes from the generator, in any company."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional

from pipeline.models.draws import Draws

X = torch.linspace(0.1, 0.9, 24).view(4, 6)
RECURRENT = nn.LSTM(6, 3, 2, dropout=0.5)

DRAWING: dict[str, Callable[[], Tensor]] = {
    "rand": lambda: torch.rand(3, 4),
    "randint": lambda: torch.randint(2, 5, (3,)),
    "randperm": lambda: torch.randperm(7),
    "randn_like": lambda: torch.randn_like(X.T),
    "normal": lambda: torch.normal(X, 1.0),
    "normal_": lambda: X.clone().normal_(),
    "bernoulli": lambda: torch.bernoulli(X),
    "multinomial": lambda: torch.multinomial(X, 2),
    "gumbel": lambda: functional.gumbel_softmax(X),
    "alpha dropout": lambda: functional.alpha_dropout(X, 0.3, True),
    "channels": lambda: functional.dropout2d(torch.ones(2, 3, 4, 4), 0.5, True),
    "attention": lambda: functional.scaled_dot_product_attention(X, X, X, dropout_p=0.5),
    "recurrent": lambda: RECURRENT(X)[0],
}


def drawn(function: Callable[[], Any], seed: int = 3) -> tuple[Any, bool]:
    """What it gives, and whether the generator went on."""
    generator = torch.Generator().manual_seed(seed)
    before = generator.get_state()
    with Draws(generator):
        result = function()
    return result, not torch.equal(before, generator.get_state())


@pytest.mark.parametrize("name", DRAWING)
def test_the_generator_is_what_is_drawn_from(name: str) -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    (first, goes_on), (again, _) = drawn(DRAWING[name]), drawn(DRAWING[name])
    assert goes_on
    assert torch.equal(first, again)
    assert torch.equal(torch.get_rng_state(), state)
    assert any(not torch.equal(first, drawn(DRAWING[name], seed)[0]) for seed in range(4, 9))


def test_what_draws_nothing_leaves_it_alone() -> None:
    for function in (
        lambda: functional.scaled_dot_product_attention(X, X, X),
        lambda: functional.dropout(X, 0.5, training=False),
        lambda: X @ X.T,
    ):
        assert not drawn(function)[1]


@pytest.mark.parametrize("is_turned", [False, True])
def test_a_network_draws_the_same_alone_and_in_company(is_turned: bool) -> None:
    """Also where the rows do not lie in memory as they are."""
    network = nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 3), nn.Dropout(0.3))
    parameters = {name: torch.stack([p] * 5) for name, p in network.named_parameters()}
    x = X.T.contiguous().T if is_turned else X

    def one(own: dict[str, Tensor]) -> Tensor:
        return functional_call(network, own, (x,))

    alone, _ = drawn(lambda: network(x))
    together, _ = drawn(lambda: vmap(one, randomness="same")(parameters))
    for each in together:
        torch.testing.assert_close(each, alone)
