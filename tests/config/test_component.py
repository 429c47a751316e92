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
from pipeline.config import Choice, Component, FloatRange, IntRange, check
from pipeline.config.component import LOSSES, OPTIMIZERS, REFUSED_ARGUMENTS, SCHEDULES
from pipeline.config.ranges import plain
from pipeline.config.sections import Training

TORCH = {
    name: value
    for name, value in vars(torch.optim).items()
    if inspect.isclass(value)
    and issubclass(value, torch.optim.Optimizer)
    and value is not torch.optim.Optimizer
}
NAMES = sorted(set(TORCH) - {"SparseAdam"})


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
    assert set(OPTIMIZERS.names) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_all_arguments_may_be_set_but_those_that_are_refused(name: str) -> None:
    assert OPTIMIZERS.arguments_of(name) == tuple(defaults(name))


@pytest.mark.parametrize("name", NAMES)
def test_the_defaults_are_read_as_torch_writes_them(name: str) -> None:
    arguments = read(name, defaults(name)).arguments
    assert arguments == defaults(name)
    assert read(name, {}).arguments == {}
    for key, value in defaults(name).items():
        # A number is a float, also where torch writes 0 for 0.0; no flag is a number.
        number = int if is_whole(name, key) else float
        assert isinstance(arguments[key], bool | number | tuple | None)
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


def is_whole(name: str, key: str) -> bool:
    """Whether torch wants an integer."""
    return inspect.signature(TORCH[name]).parameters[key].annotation in (int, "int")


def grid(default: Any) -> Iterator[Any]:
    """Good and bad values of an argument with such a default."""
    if default is None:
        return iter((None,))
    if isinstance(default, bool):
        return iter((False, True))
    if isinstance(default, tuple):
        first = (*GRID, None) if default[0] is None else GRID
        return itertools.product(first, *[GRID[1::3]] * (len(default) - 1))
    return iter(GRID)


@pytest.mark.parametrize("name", NAMES)
def test_a_value_alone_is_accepted_where_torch_accepts_it(name: str) -> None:
    refused = 0
    for key, default in defaults(name).items():
        for value in (-1, 0, 1, 100) if is_whole(name, key) else grid(default):
            if key == "nesterov" or key == "etas":  # whose rules speak of several values
                continue
            expected = built(name, {key: value})
            assert accepted(name, {key: value}) == expected, (key, value)
            refused += not expected
    assert refused > 0


values = st.sampled_from(GRID) | st.floats(-2, 2)


def argument(name: str, key: str) -> st.SearchStrategy[Any]:
    default = defaults(name)[key]
    if is_whole(name, key):
        return st.integers(-2, 200)
    if default is None:
        return st.none()
    if isinstance(default, bool):
        return st.booleans()
    if isinstance(default, tuple):
        first = values | st.none() if default[0] is None else values
        return st.tuples(first, *[values] * (len(default) - 1))
    return values


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=30)
@given(data=st.data())
def test_values_together_are_accepted_where_torch_accepts_them(
    name: str, data: st.DataObject
) -> None:
    alone = [key for key in defaults(name) if key not in ("nesterov", "etas")]
    keys = data.draw(st.sets(st.sampled_from(alone), max_size=3))
    arguments = {key: data.draw(argument(name, key), label=key) for key in sorted(keys)}
    assert accepted(name, arguments) == built(name, arguments)


@pytest.mark.parametrize(
    ("name", "substance"),
    [
        ("SparseAdam", "must be one of Adafactor, Adadelta"),
        ("adam", "got 'adam'; did you mean 'Adam'?"),
        ("RMSProp", "did you mean 'RMSprop'?"),
        ("Optimizer", "must be one of Adafactor, Adadelta"),
        ("Zebra", "must be one of Adafactor, Adadelta"),
        ("lr_scheduler", "must be one of Adafactor, Adadelta"),
        ("nets.py", "must be a path such as nets.py:Net or package.module.Net; got 'nets.py'"),
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
        ("SGD", {"lr": -1}, ["lr: `not lr < 0.0` must hold, but got -1"]),
        ("Adam", {"lr": -1}, ["lr: `0.0 <= lr` must hold, but got -1"]),
        ("AdamW", {"eps": -1}, ["eps: `0.0 <= eps` must hold, but got -1"]),
        ("SGD", {"lr": True}, ["lr: must be a valid number; got true"]),
        ("SGD", {"lr": math.inf}, ["lr: must be a finite number; got .inf"]),
        ("SGD", {"lr": 10**400}, ["lr: must be a valid number; got 1000"]),
        ("SGD", {"lr": 1e39}, ["lr: must be less than or equal to"]),
        ("ASGD", {"lambd": -1e39}, ["lambd: must be greater than"]),
        ("SGD", {"lr": "0.1"}, ["lr: must be a valid number; got '0.1'; write it without quotes"]),
        ("SGD", {"lr": None}, ["lr: must be a valid number; got null"]),
        ("SGD", {"nesterov": 1}, ["nesterov: must be true or false; got 1"]),
        ("SGD", {"momentm": 1}, ["momentm: unknown key; did you mean 'momentum'?"]),
        (
            "SGD",
            {"betas": [0, 0]},
            ["betas: unknown key; known are label, schedule, lr, momentum, dampening"],
        ),
        ("SGD", {"params": [0]}, ["params: cannot be set: the program passes it"]),
        ("SGD", {"rest": {}}, ["rest: unknown key; known are label, schedule, lr, momentum"]),
        ("AdamW", {"shedule": None}, ["shedule: unknown key; did you mean 'schedule'?"]),
        ("Muon", {"rset": {}}, ["rset: unknown key; did you mean 'rest'?"]),
        (
            "Muon",
            {"rest": {"lr": -1, "betaz": 1, "label": "x", "fused": True}},
            [
                "rest.lr: `0.0 <= lr` must hold, but got -1",
                "rest.betaz: unknown key; did you mean 'betas'?",
                "rest.label: unknown key; known are lr, betas",
                "rest.fused: cannot be set: how a step",
            ],
        ),
        (
            "Muon",
            {"adjust_lr_fn": "x"},
            ["adjust_lr_fn: `not (adjust_lr_fn is not None and adjust_lr_fn not in ['original'"],
        ),
        ("Adam", {"betas": [0.9]}, ["betas.1: must be given"]),
        ("Adam", {"betas": [0.9, 0.9, 0.9]}, ["betas: Tuple should have at most 2 items"]),
        ("Adam", {"betas": 0.9}, ["betas: must be a list; got 0.9"]),
        ("Adam", {"betas": {"low": 0, "high": 0.9}}, ["betas: must be a value or {choice: [...]}"]),
        (
            "Adam",
            {"betas": [1, "x"]},
            [
                "betas.0: `0.0 <= betas[0] < 1.0` must hold, but got 1",
                "betas.1: must be a valid number; got 'x'",
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
            ["eps.0.low: must be a valid number; got null"],
        ),
        (
            "Adafactor",
            {"eps": [-1, 1]},
            ["eps.0: `not (eps[0] is not None and (not 0.0 <= eps[0]))` must hold, but got -1"],
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
        assert plain(component) == {"name": path, "lr": {"choice": [0.1, 1.0]}}
    assert plain(Component("Adam", {}, "mine")) == {"name": "Adam", "label": "mine"}


def test_torchs_own_are_the_same_by_their_paths() -> None:
    assert read("torch.optim.Adam", {"lr": 0.1}) == read("Adam", {"lr": 0.1})
    assert problems_of("torch.optim.Adam", {"lrr": 1}) == problems_of("Adam", {"lrr": 1})
    by_path = training(
        loss="torch.nn.BCELoss",
        schedule={"name": "torch.optim.lr_scheduler.StepLR", "step_size": 3},
    )
    assert by_path == training(loss="BCELoss", schedule={"name": "StepLR", "step_size": 3})


# Schedules, losses and what is named by its path.


def training(**keys: Any) -> Training:
    return check({"data": {"source": "a.csv", "target": "y"}, "training": keys}).training


def problems_in_training(**keys: Any) -> list[str]:
    with pytest.raises(UserError) as error:
        training(**keys)
    return [problem.removeprefix("training.") for problem in error.value.problems]


def test_every_schedule_of_torch_is_known() -> None:
    module = torch.optim.lr_scheduler
    found = {
        name
        for name in module.__all__
        if issubclass(getattr(module, name), module.LRScheduler) and name != "LRScheduler"
    }
    assert set(SCHEDULES.names) == found
    assert {"OneCycleLR", "ReduceLROnPlateau", "ChainedScheduler"} <= found


def test_a_name_alone_is_an_entry() -> None:
    read = training(loss="BCELoss", schedule="CosineAnnealingLR")
    assert read.loss == Component("BCELoss", {})
    assert read.schedule == Component("CosineAnnealingLR", {})
    assert training(loss="auto", schedule="CosineAnnealingLR") == training()
    assert training().loss is training().clip_norm is training(schedule=None).schedule is None
    assert training().to_plain()["loss"] == "auto"


@pytest.mark.parametrize("name", LOSSES.names)
def test_losses_are_classes_of_torch(name: str) -> None:
    arguments = {key: Choice((0.25,)) for key in LOSSES.arguments_of(name) if "smooth" in key}
    read = training(loss={"name": name, **{key: plain(v) for key, v in arguments.items()}})
    assert read.loss == Component(name, arguments)
    assert issubclass(getattr(torch.nn, name), torch.nn.Module)
    (problem,) = problems_in_training(loss={"name": name, "reduction": "sum"})
    assert problem == "loss.reduction: cannot be set: a loss is the mean over the rows of a batch"


def test_a_list_of_schedules_is_a_sequence() -> None:
    warm_up = {"name": "LinearLR", "start_factor": {"low": 0.01, "high": 1, "log": True}}
    read = training(schedule=[warm_up, "CosineAnnealingLR", {"name": "s.py:Own", "deep": [[1]]}])
    assert read.schedule == (
        Component("LinearLR", {"start_factor": FloatRange(0.01, 1.0, log=True)}),
        Component("CosineAnnealingLR", {}),
        Component("s.py:Own", {"deep": ((1,),)}),
    )


def test_schedules_within_a_schedule() -> None:
    inner = [{"name": "ConstantLR", "factor": {"choice": [0.5, 0.1]}}, "StepLR"]
    entry = {"name": "SequentialLR", "schedulers": inner, "milestones": [{"low": 1, "high": 5}]}
    assert problems_in_training(schedule=entry) == [
        "schedule.schedulers.1.step_size: must be given"
    ]
    inner[1] = {"name": "LambdaLR", "lr_lambda": "s.py:warm_up"}
    schedule = training(schedule=entry).schedule
    assert schedule == Component(
        "SequentialLR",
        {
            "schedulers": (
                Component("ConstantLR", {"factor": Choice((0.5, 0.1))}),
                Component("LambdaLR", {"lr_lambda": "s.py:warm_up"}),
            ),
            "milestones": (IntRange(1, 5),),
        },
    )


@pytest.mark.parametrize(
    ("keys", "problems"),
    [
        ({"loss": "BCELos"}, ["loss: must be one of auto, NLLLoss, BCELoss"]),
        ({"loss": {"name": "MSELoss"}}, ["loss.name: must be one of auto, NLLLoss"]),
        ({"loss": {"name": "BCELoss", "weight": [1]}}, ["loss.weight: cannot be set: training.cl"]),
        ({"loss": [1]}, ["loss: must be a mapping such as {name: CrossEntropyLoss, label_sm"]),
        (
            {"loss": {"name": "CrossEntropyLoss", "lable_smoothing": 1}},
            ["loss.lable_smoothing: unknown key; did you mean 'label_smoothing'?"],
        ),
        ({"schedule": "CosineAnealingLR"}, ["got 'CosineAnealingLR'; did you mean 'CosineAnneal"]),
        ({"schedule": "LRScheduler"}, ["schedule: must be one of LambdaLR, MultiplicativeLR"]),
        ({"schedule": []}, ["schedule: must hold at least one entry; got []"]),
        ({"schedule": {"choice": ["StepLR"]}}, ["schedule.name: must be one of LambdaLR"]),
        ({"schedule": {"name": "StepLR"}}, ["schedule.step_size: must be given"]),
        (
            {"schedule": [{"name": "StepLR", "step_size": 1, "gama": 1}, 7, "Cosine"]},
            [
                "schedule.0.gama: unknown key; did you mean 'gamma'?",
                "schedule.1: must be a mapping such as {name: StepLR, step_size: 30}; got 7",
                "schedule.2: must be one of LambdaLR",
            ],
        ),
        (
            {"schedule": {"name": "ConstantLR", "optimizer": 1, "last_epoch": 1, "factor": 2}},
            [
                "schedule.factor: `not (factor > 1.0 or factor < 0)` must hold, but got 2",
                "schedule.optimizer: cannot be set: the program passes it",
                "schedule.last_epoch: cannot be set: a schedule begins with the training",
            ],
        ),
        (
            {"schedule": {"name": "LambdaLR", "lr_lambda": "warm_up"}},
            ["schedule.lr_lambda: must be a path such as nets.py:Net"],
        ),
        ({"class_weight": "balance"}, ["class_weight: must be null, balanced or a mapping such"]),
        ({"class_weight": {}}, ["class_weight: must hold at least one entry; got {}"]),
        (
            {"class_weight": {"yes": 0, "no": "1"}},
            ["class_weight.yes: must be greater than 0; got 0", "a valid number; got '1';"],
        ),
        ({"clip_norm": 0}, ["clip_norm: must be greater than 0; got 0"]),
    ],
)
def test_what_is_wrong_with_a_loss_or_a_schedule(keys: dict[str, Any], problems: list[str]) -> None:
    found = problems_in_training(**keys)
    assert len(found) == len(problems)
    assert all(part in problem for part, problem in zip(problems, found, strict=True))


def test_weights_of_labels_are_by_their_text() -> None:
    weights = training(class_weight={0: 1, True: 2, "b.c": 0.5, "low": 3}).class_weight
    assert weights == {"0": 1.0, "true": 2.0, "b.c": 0.5, "low": 3.0}
    assert training(class_weight="balanced").class_weight == "balanced"


def test_an_entry_may_have_a_schedule_and_muon_has_a_rest() -> None:
    rest = {"lr": {"low": 0.001, "high": 0.1, "log": True}, "betas": [0.9, 0.95]}
    muon = read("Muon", {"rest": rest, "lr": 0.1, "schedule": "CosineAnnealingLR"})
    assert muon.arguments == {
        "lr": 0.1,
        "schedule": Component("CosineAnnealingLR", {}),
        "rest": {"lr": FloatRange(0.001, 0.1, log=True), "betas": (0.9, 0.95)},
    }
    assert read("SGD", {"schedule": None}).arguments == {"schedule": None}
    assert problems_of("p.Lion", {"label": 7, "schedule": "Step"}) == (
        "label: must be a line of 1 to 60 characters; got 7",
        problems_of("SGD", {"schedule": "Step"})[0],
    )


def test_arguments_of_a_path_are_any_values() -> None:
    arguments = {
        "fused": True,
        "betas": [0.9, {"low": 0.9, "high": 0.99}],
        "options": {"low rank": {"choice": [None, {"k": [1]}]}, "text": "x", "none": None},
        "low": 1,
    }
    assert read("pytorch_optimizer.Lion", arguments).arguments == {
        "fused": True,
        "betas": (0.9, FloatRange(0.9, 0.99)),
        "options": {"low rank": Choice((None, {"k": (1,)})), "text": "x", "none": None},
        "low": 1,
    }
