import inspect
import itertools
import math
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.common.errors import UserError
from pipeline.config import Choice, Component, FloatRange, check
from pipeline.config.component import (
    OPTIMIZERS,
    REFUSED,
    REFUSED_ARGUMENTS,
    arguments_of,
    optimizer_names,
    signature,
)

TORCH = {
    name: value
    for name, value in vars(torch.optim).items()
    if inspect.isclass(value)
    and issubclass(value, torch.optim.Optimizer)
    and value is not torch.optim.Optimizer
}
NAMES = sorted(set(TORCH) - set(REFUSED))


def defaults(name: str) -> dict[str, Any]:
    """By `inspect`, of the arguments that a configuration may set."""
    parameters = inspect.signature(TORCH[name]).parameters
    return {
        key: parameter.default
        for key, parameter in parameters.items()
        if key != "params" and key not in REFUSED_ARGUMENTS
    }


def read(name: Any, arguments: dict[str, Any]) -> Component:
    data = {"source": "a.csv", "target": "y"}
    return check({"data": data, "optimizers": [{"name": name, **arguments}]}).optimizers[0]


def problems_of(name: Any, arguments: dict[str, Any]) -> tuple[str, ...]:
    with pytest.raises(UserError) as error:
        read(name, arguments)
    return tuple(problem.removeprefix("optimizers.0.") for problem in error.value.problems)


def test_every_optimizer_of_torch_is_known_or_refused_with_a_reason() -> None:
    assert len(TORCH) >= 10
    assert set(optimizer_names()) == set(NAMES)
    assert set(REFUSED) <= set(TORCH)
    assert all(REFUSED.values())


@pytest.mark.parametrize("name", NAMES)
def test_arguments_and_defaults_are_those_of_torch(name: str) -> None:
    parameters = inspect.signature(TORCH[name]).parameters
    taken = signature(OPTIMIZERS, name)
    assert list(taken.types) == list(parameters)
    assert taken.defaults == {
        key: parameter.default
        for key, parameter in parameters.items()
        if parameter.default is not parameter.empty
    }
    assert arguments_of(name) == tuple(defaults(name))


@pytest.mark.parametrize("name", NAMES)
def test_the_defaults_are_read_as_torch_writes_them(name: str) -> None:
    arguments = read(name, defaults(name)).arguments
    assert arguments == defaults(name)
    assert read(name, {}).arguments == {}
    for key, value in defaults(name).items():
        # A number is a float, also where torch writes 0 for 0.0; no flag is a number.
        assert isinstance(arguments[key], bool | float | tuple)
        assert isinstance(arguments[key], bool) == isinstance(value, bool)


def built(name: str, arguments: dict[str, Any]) -> bool:
    try:
        TORCH[name]([torch.nn.Parameter(torch.zeros(2, 2))], **arguments)
    except ValueError:
        return False
    return True


def accepted(name: str, arguments: dict[str, Any]) -> bool:
    try:
        read(name, arguments)
    except UserError:
        return False
    return True


GRID = (-1.0, -1e-9, 0.0, 1e-9, 0.5, 1.0 - 1e-9, 1.0, 1.0 + 1e-9, 2.0, 1e9)


def grid(default: Any) -> Iterator[Any]:
    """Good and bad values of an argument with such a default."""
    if isinstance(default, bool):
        return iter((False, True))
    if isinstance(default, tuple):
        first = (*GRID, None) if default[0] is None else GRID
        return itertools.product(first, GRID)
    return iter(GRID)


@pytest.mark.parametrize("name", NAMES)
def test_a_value_alone_is_accepted_where_torch_accepts_it(name: str) -> None:
    refused = 0
    for key, default in defaults(name).items():
        for value in grid(default):
            expected = built(name, {key: value})
            assert accepted(name, {key: value}) == expected, (key, value)
            refused += not expected
    assert refused > 0


values = st.sampled_from(GRID) | st.floats(-2, 2)


def argument(default: Any) -> st.SearchStrategy[Any]:
    if isinstance(default, bool):
        return st.booleans()
    if isinstance(default, tuple):
        return st.tuples(values | st.none() if default[0] is None else values, values)
    return values


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=30)
@given(data=st.data())
def test_values_together_are_accepted_where_torch_accepts_them(
    name: str, data: st.DataObject
) -> None:
    keys = data.draw(st.sets(st.sampled_from(list(defaults(name))), max_size=3))
    if name == "SGD":
        keys |= data.draw(st.sampled_from([set(), {"nesterov", "momentum"}]))
    arguments = {key: data.draw(argument(defaults(name)[key]), label=key) for key in sorted(keys)}
    assert accepted(name, arguments) == built(name, arguments)


@pytest.mark.parametrize(
    ("name", "substance"),
    [
        ("LBFGS", "closure"),
        ("SparseAdam", "sparse gradients"),
        ("Muon", "biases"),
        ("adam", "got 'adam'; did you mean 'Adam'?"),
        ("RMSProp", "did you mean 'RMSprop'?"),
        ("Optimizer", "must be one of Adafactor, Adadelta"),
        ("Zebra", "must be one of Adafactor, Adadelta"),
        ("lr_scheduler", "must be one of Adafactor, Adadelta"),
        (7, "got 7"),
        (None, "got null"),
        ([1], "got [1]"),
    ],
)
def test_names_that_are_refused(name: object, substance: str) -> None:
    (problem,) = problems_of(name, {"lr": -1})
    assert problem.startswith("name: ")
    assert substance in problem


@pytest.mark.parametrize("key", REFUSED_ARGUMENTS)
def test_arguments_that_are_refused(key: str) -> None:
    assert key in inspect.signature(torch.optim.Adam).parameters
    (problem,) = problems_of("SGD", {key: True})
    assert problem.startswith(f"{key}: cannot be set: ")


@pytest.mark.parametrize(
    ("name", "arguments", "problems"),
    [
        ("SGD", {"lr": -1}, ["lr: `lr >= 0.0` must hold, but got -1"]),
        ("Adam", {"lr": -1}, ["lr: `0.0 <= lr` must hold, but got -1"]),
        ("AdamW", {"eps": -1}, ["eps: `0.0 <= eps` must hold, but got -1"]),
        ("SGD", {"lr": True}, ["lr: must be a number; got true"]),
        ("SGD", {"lr": math.inf}, ["lr: must be finite; got .inf"]),
        ("SGD", {"lr": 10**400}, ["lr: must be a number; got 1000"]),
        ("SGD", {"lr": 1e39}, ["lr: must be <= 1e+38; got 1.0e+39"]),
        ("ASGD", {"lambd": -1e39}, ["lambd: must be >= -1e+38; got -1.0e+39"]),
        ("SGD", {"lr": "0.1"}, ["lr: must be a number; got '0.1'; write it without quotes"]),
        ("SGD", {"lr": None}, ["lr: must be a number; got null"]),
        ("SGD", {"nesterov": 1}, ["nesterov: must be true or false; got 1"]),
        ("SGD", {"momentm": 1}, ["momentm: unknown key; did you mean 'momentum'?"]),
        (
            "SGD",
            {"betas": [0, 0]},
            ["betas: unknown key; known are label, lr, momentum, dampening"],
        ),
        ("SGD", {"params": [0]}, ["params: unknown key; known are label, lr, momentum, dampening"]),
        ("Adam", {"betas": [0.9]}, ["betas.1: must be given"]),
        ("Adam", {"betas": [0.9, 0.9, 0.9]}, ["betas: must hold at most 2 values; got [0.9"]),
        ("Adam", {"betas": 0.9}, ["betas: must be a list; got 0.9"]),
        ("Adam", {"betas": {"low": 0, "high": 0.9}}, ["betas: must be a value or {choice: [...]}"]),
        (
            "Adam",
            {"betas": [1, "x"]},
            [
                "betas.0: `0.0 <= betas[0] < 1.0` must hold, but got 1",
                "betas.1: must be a number; got 'x'",
            ],
        ),
        (
            "Adam",
            {"betas": [{"low": -1, "high": 1}, 0.9], "eps": -1},
            [
                "betas.0.low: `0.0 <= betas[0] < 1.0` must hold, but got -1",
                "betas.0.high: `0.0 <= betas[0] < 1.0` must hold, but got 1",
                "eps: `0.0 <= eps` must hold, but got -1",
            ],
        ),
        (
            "Adam",
            {"betas": {"choice": [[0.9, 0.99], [0.9, 1.0]]}},
            ["betas.choice.1.1: `0.0 <= betas[1] < 1.0` must hold, but got 1.0"],
        ),
        (
            "Adafactor",
            {"eps": [{"low": None, "high": 1}, 1]},
            ["eps.0.low: must be a number; got null"],
        ),
        (
            "Adafactor",
            {"eps": [-1, 1]},
            ["eps.0: `eps[0] is None or 0.0 <= eps[0]` must hold, but got -1"],
        ),
        (
            "Rprop",
            {"etas": [{"low": 0.5, "high": 1}, 1.2]},
            ["etas: `0.0 < etas[0] < 1.0 < etas[1]` must hold, but got (etas=[1.0, 1.2])"],
        ),
        (
            "SGD",
            {"nesterov": True},
            [
                "nesterov: `not nesterov or (momentum > 0 and dampening == 0)` must hold, but got"
                " (nesterov=true, momentum=0, dampening=0)"
            ],
        ),
        (
            "SGD",
            {"nesterov": {"choice": [False, True]}, "momentum": {"low": 0, "high": 0.9}},
            ["must hold, but got (nesterov=true, momentum=0.0, dampening=0)"],
        ),
        (
            "SGD",
            {"nesterov": True, "momentum": 0.9, "dampening": {"choice": [0, 0.1]}},
            ["must hold, but got (nesterov=true, momentum=0.9, dampening=0.1)"],
        ),
    ],
)
def test_arguments_that_break_a_rule(
    name: str, arguments: dict[str, Any], problems: list[str]
) -> None:
    found = problems_of(name, arguments)
    assert len(found) == len(problems)
    assert all(part in problem for part, problem in zip(problems, found, strict=True))


def test_ranges_stand_where_values_do() -> None:
    arguments = {
        "nesterov": {"choice": [True, False]},
        "momentum": {"low": 0.5, "high": 1, "step": 0.1},
        "lr": {"low": 1, "high": 10, "log": True},
    }
    checked = read("SGD", arguments).arguments
    assert checked == {
        "lr": FloatRange(1.0, 10.0, log=True),
        "momentum": FloatRange(0.5, 1.0, step=0.1),
        "nesterov": Choice((True, False)),
    }
    assert list(checked) == ["lr", "momentum", "nesterov"]


def test_two_long_choices_are_checked_in_no_time() -> None:
    """81 million pairs, of which every one is right."""
    low, high = ({"choice": [base + k / 1e5 for k in range(9000)]} for base in (0.1, 1.1))
    assert len(read("Rprop", {"etas": [low, high]}).arguments["etas"][0].grid()) == 9000


SOURCE = '''
from __future__ import annotations
import nowhere_at_all

class Base:
    def __init__(self, rate, depth: int = 2, name="x", *, unused=None):
        if rate > 1: raise ValueError("rate")
        if depth < 1: raise ValueError("depth")
        if name == "": raise ValueError("name")

class Net(Base):
    def __init__(self, params, rate: float | nowhere_at_all.Thing, depth: "int" = 3,
                 sizes=(1, 2.0), scale: float = nowhere_at_all.SCALE, *, flag=False, name="y"):
        if not (isinstance(rate, float) and rate > 0): raise ValueError("rate")
        if scale < 0 and flag: raise ValueError("scale")
        if nowhere_at_all.bad(depth): raise ValueError("depth")
        depth = depth * 2
        if depth > 3: raise ValueError("not said of the argument")
        super().__init__(rate, unused=name)

class Same(Net):
    """Takes what Net takes."""
'''


def test_any_class_is_read_from_its_source_and_nothing_is_imported(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "some_nets"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("from .inner.nets import Same as Renamed\n")
    (package / "inner" / "nets.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    taken = signature("some_nets", "Renamed")
    assert list(taken.types) == ["params", "rate", "depth", "sizes", "scale", "flag", "name"]
    others = {"depth": 3, "sizes": (1, 2.0), "flag": False, "name": "y"}
    assert taken.defaults == others | {"scale": ...}
    assert list(map(str, taken.conditions)) == [
        "`isinstance(rate, float) and rate > 0` must hold",
        "`scale >= 0 or not flag` must hold",
        "`rate <= 1` must hold",
    ]
    assert "some_nets" not in sys.modules
    with pytest.raises(LookupError, match="some_nets has no class Other"):
        signature("some_nets", "Other")
    with pytest.raises(LookupError, match="no package nowhere_at_all"):
        signature("nowhere_at_all", "Other")


def test_a_wrong_optimizer_is_told_without_importing_torch() -> None:
    code = (
        "import sys, pipeline.config as c\n"
        "entries = [{'name': 'SGD', 'lr': -1}, {'name': 'Adam', 'lr': -1}]\n"
        "try: c.check({'data': {'source': 'a', 'target': 'y'}, 'optimizers': entries})\n"
        "except c.configuration.UserError as e: print(len(e.problems), 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "2 False\n"


def test_a_name_is_the_end_of_a_path() -> None:
    for path, name in (("Adam", "Adam"), ("package.Lion", "Lion"), ("nets.py:Net", "Net")):
        component = Component(path, {"lr": Choice((0.1, 1.0))}, name)
        assert component.name == name
        assert component.to_plain() == {"name": path, "lr": {"choice": [0.1, 1.0]}}
    assert Component("Adam", {}, "mine").to_plain() == {"name": "Adam", "label": "mine"}
