import inspect
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.checks import Broken
from pipeline.config.optimizer_table import (
    OPTIMIZERS,
    REFUSED,
    REFUSED_ARGUMENTS,
    check_arguments,
    check_name,
    default_arguments,
)
from pipeline.config.ranges import Choice, FloatRange

TORCH = {
    name: one
    for name, one in vars(torch.optim).items()
    if inspect.isclass(one)
    and issubclass(one, torch.optim.Optimizer)
    and one is not torch.optim.Optimizer
}


def test_every_optimizer_of_torch_is_known_or_refused_with_a_reason() -> None:
    assert TORCH
    assert set(OPTIMIZERS) | set(REFUSED) == set(TORCH)
    assert not set(OPTIMIZERS) & set(REFUSED)
    assert all(REFUSED.values())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_arguments_and_defaults_are_those_of_torch(name: str) -> None:
    parameters = dict(inspect.signature(TORCH[name]).parameters)
    del parameters["params"]
    expected = {
        key: parameter.default
        for key, parameter in parameters.items()
        if key not in REFUSED_ARGUMENTS
    }
    assert default_arguments(name) == expected


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_defaults_keep_the_rules(name: str) -> None:
    assert check_arguments(name, default_arguments(name)) == default_arguments(name)


def built(name: str, arguments: dict[str, Any]) -> bool:
    try:
        TORCH[name]([torch.nn.Parameter(torch.zeros(2, 2))], **arguments)
    except ValueError:
        return False
    return True


def accepted(name: str, arguments: dict[str, Any]) -> bool:
    try:
        check_arguments(name, arguments)
    except Broken:
        return False
    return True


numbers = st.sampled_from([-1.0, -1e-9, 0.0, 1e-9, 0.5, 0.9, 1.0 - 1e-9, 1.0, 1.0 + 1e-9, 2.0, 1e9])
numbers = numbers | st.floats(-2, 2)


def argument(name: str, key: str) -> st.SearchStrategy[Any]:
    default = OPTIMIZERS[name][key].default
    if isinstance(default, bool):
        return st.booleans()
    if isinstance(default, tuple):
        first = numbers | st.none() if default[0] is None else numbers
        return st.tuples(first, numbers)
    return numbers


@pytest.mark.parametrize("name", OPTIMIZERS)
@settings(max_examples=40)
@given(data=st.data())
def test_a_value_is_accepted_where_torch_accepts_it(name: str, data: st.DataObject) -> None:
    keys = data.draw(st.sets(st.sampled_from(list(OPTIMIZERS[name])), max_size=3))
    if name == "SGD":
        keys |= data.draw(st.sampled_from([set(), {"nesterov", "momentum"}]))
    arguments = {key: data.draw(argument(name, key), label=key) for key in sorted(keys)}
    assert accepted(name, arguments) == built(name, arguments)


@pytest.mark.parametrize(
    ("name", "substance"),
    [
        ("LBFGS", "closure"),
        ("SparseAdam", "sparse gradients"),
        ("Muon", "biases"),
        ("adam", "did you mean 'Adam'?"),
        ("RMSProp", "did you mean 'RMSprop'?"),
        ("Zebra", "known are SGD, Adagrad"),
        (7, "got 7"),
        (None, "got None"),
    ],
)
def test_names_that_are_refused(name: object, substance: str) -> None:
    with pytest.raises(Broken) as broken:
        check_name(name)
    assert substance in str(broken.value)


@pytest.mark.parametrize("key", REFUSED_ARGUMENTS)
def test_arguments_that_are_refused(key: str) -> None:
    with pytest.raises(Broken, match=f"{key}: cannot be set: "):
        check_arguments("SGD", {key: True})


@pytest.mark.parametrize(
    ("name", "arguments", "problems"),
    [
        ("SGD", {"lr": -1}, ["lr: must be a number >= 0; got -1"]),
        ("SGD", {"lr": True}, ["lr: must be a number >= 0; got true"]),
        ("SGD", {"lr": math.inf}, ["lr: must be finite and a number >= 0; got .inf"]),
        ("SGD", {"lr": 10**400}, ["lr: must be finite and a number >= 0; got 1000"]),
        ("SGD", {"lr": "0.1"}, ["lr: must be a number >= 0; got '0.1'; write it without quotes"]),
        ("SGD", {"momentm": 1}, ["momentm: unknown argument of SGD; did you mean 'momentum'?"]),
        ("SGD", {"betas": [0, 0]}, ["betas: unknown argument of SGD; SGD takes lr, momentum"]),
        ("Adam", {"betas": [0.9]}, ["betas: must be a list of 2 values; got [0.9]"]),
        ("Adam", {"betas": 0.9}, ["betas: must be a list of 2 values; got 0.9"]),
        ("Adam", {"betas": [1, "x"]}, ["betas.0: must be a number in [0, 1)", "betas.1: must be"]),
        (
            "Adam",
            {"betas": [{"low": -1, "high": 1}, 0.9]},
            ["betas.0.low: must be a number in [0, 1); got -1", "betas.0.high: "],
        ),
        (
            "Adam",
            {"betas": {"choice": [[0.9, 0.99], [0.9, 1.0]]}},
            ["betas.choice.1.1: must be a number in [0, 1); got 1.0"],
        ),
        ("SGD", {"nesterov": True}, ["nesterov: `momentum > 0` and `dampening = 0` must hold"]),
        (
            "SGD",
            {"nesterov": {"choice": [False, True]}, "momentum": {"low": 0, "high": 0.9}},
            ["nesterov: `momentum > 0` and `dampening = 0` must hold for `nesterov: true`"],
        ),
        (
            "SGD",
            {"nesterov": True, "momentum": 0.9, "dampening": {"choice": [0, 0.1]}},
            ["dampening=0.1)"],
        ),
    ],
)
def test_arguments_that_break_a_rule(
    name: str, arguments: dict[str, Any], problems: list[str]
) -> None:
    with pytest.raises(Broken) as broken:
        check_arguments(name, arguments)
    found = str(broken.value).split("; optimizers")[0]
    assert len(broken.value.parts) == len(problems)
    assert all(problem in found for problem in problems)


def test_ranges_stand_where_values_do() -> None:
    checked = check_arguments(
        "SGD",
        {
            "nesterov": {"choice": [True, False]},
            "momentum": {"low": 0.5, "high": 1, "step": 0.1},
            "lr": {"low": 1e-3, "high": 1, "log": True},
        },
    )
    assert checked == {
        "lr": FloatRange(1e-3, 1.0, log=True),
        "momentum": FloatRange(0.5, 1.0, step=0.1),
        "nesterov": Choice((True, False)),
    }
    assert list(checked) == ["lr", "momentum", "nesterov"]
