"""Schedules are held to torch's own: same start, same batches, same schedulers, same weights."""

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch.optim import Optimizer, lr_scheduler

from pipeline.config.component import Component
from pipeline.optimizers.schedules import by_batch
from pipeline.optimizers.stacked import StackedGroup, StackedOptimizer
from tests.optimizers.problems import (
    BATCHES,
    EPOCHS,
    SHAPES,
    draw,
    entry,
    fill,
    in_a_stack,
    plain,
    schedule,
)

STEPS = EPOCHS * BATCHES


@pytest.fixture(autouse=True)
def _warns_of_nothing() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)  # of the product of momenta that NAdam keeps
        yield
        torch.set_default_dtype(before)


def halved(epoch: int) -> float:
    return 0.5 ** (epoch / 10)


FUNCTION = f"{Path(__file__)}:halved"


class Case(NamedTuple):
    """A schedule as it is configured, and as torch makes it."""

    named: Any
    made: Callable[[Optimizer], Any]
    by_batch: bool = False
    by_loss: bool = False


def lr(optimizer: Optimizer) -> float:
    value: float = optimizer.param_groups[0]["lr"]
    return value


L = lr_scheduler
CASES = {
    "LambdaLR": Case(schedule("LambdaLR", lr_lambda=FUNCTION), lambda o: L.LambdaLR(o, halved)),
    "MultiplicativeLR": Case(
        schedule("MultiplicativeLR", lr_lambda=FUNCTION), lambda o: L.MultiplicativeLR(o, halved)
    ),
    "StepLR": Case(schedule("StepLR", step_size=7), lambda o: L.StepLR(o, 7)),
    "MultiStepLR": Case(
        schedule("MultiStepLR", milestones=(5, 20), gamma=0.3),
        lambda o: L.MultiStepLR(o, [5, 20], 0.3),
    ),
    "ConstantLR": Case(schedule("ConstantLR"), lambda o: L.ConstantLR(o)),
    "LinearLR": Case(
        schedule("LinearLR", start_factor=0.1, total_iters=9), lambda o: L.LinearLR(o, 0.1, 1, 9)
    ),
    "ExponentialLR": Case(
        schedule("ExponentialLR", gamma=0.93), lambda o: L.ExponentialLR(o, 0.93)
    ),
    "SequentialLR": Case(
        schedule(
            "SequentialLR",
            schedulers=(schedule("LinearLR", total_iters=6), schedule("CosineAnnealingLR")),
            milestones=[6],
        ),
        lambda o: L.SequentialLR(
            o, [L.LinearLR(o, total_iters=6), L.CosineAnnealingLR(o, EPOCHS - 6)], [6]
        ),
    ),
    "CosineAnnealingLR": Case(
        schedule("CosineAnnealingLR"), lambda o: L.CosineAnnealingLR(o, EPOCHS)
    ),
    "ChainedScheduler": Case(
        schedule(
            "ChainedScheduler",
            schedulers=(
                schedule("ConstantLR", total_iters=8),
                schedule("ExponentialLR", gamma=0.9),
            ),
        ),
        lambda o: L.ChainedScheduler([L.ConstantLR(o, total_iters=8), L.ExponentialLR(o, 0.9)]),
    ),
    "ReduceLROnPlateau": Case(
        schedule("ReduceLROnPlateau", patience=1, factor=0.4, threshold=0.01),
        lambda o: L.ReduceLROnPlateau(o, patience=1, factor=0.4, threshold=0.01),
        by_loss=True,
    ),
    "CyclicLR": Case(
        schedule("CyclicLR", step_size_up=12, mode="triangular2"),
        lambda o: L.CyclicLR(o, lr(o) / 10, lr(o), step_size_up=12, mode="triangular2"),
        by_batch=True,
    ),
    "CosineAnnealingWarmRestarts": Case(
        schedule("CosineAnnealingWarmRestarts", T_0=4, T_mult=2),
        lambda o: L.CosineAnnealingWarmRestarts(o, 4, 2),
    ),
    "OneCycleLR": Case(
        schedule("OneCycleLR", pct_start=0.4),
        lambda o: L.OneCycleLR(o, lr(o), STEPS, pct_start=0.4),
        by_batch=True,
    ),
    "PolynomialLR": Case(
        schedule("PolynomialLR", total_iters=30, power=2.0), lambda o: L.PolynomialLR(o, 30, 2.0)
    ),
}
SEQUENCES = {
    "warm-up, cosine": Case(
        (schedule("LinearLR", start_factor=0.05, total_iters=4), schedule("CosineAnnealingLR")),
        lambda o: L.SequentialLR(
            o, [L.LinearLR(o, 0.05, total_iters=4), L.CosineAnnealingLR(o, EPOCHS - 4)], [4]
        ),
    ),
    "three": Case(
        (
            schedule("ConstantLR", factor=0.2),
            schedule("CosineAnnealingLR", T_max=10, eta_min=0.001),
            schedule("StepLR", step_size=3),
        ),
        lambda o: L.SequentialLR(
            o,
            [L.ConstantLR(o, 0.2), L.CosineAnnealingLR(o, 10, 0.001), L.StepLR(o, 3)],
            [5, 15],
        ),
    ),
    "one": Case((schedule("CosineAnnealingLR"),), lambda o: L.CosineAnnealingLR(o, EPOCHS)),
    "steps of epochs": Case(
        schedule("OneCycleLR", epochs=EPOCHS, max_lr=0.03, three_phase=True),
        lambda o: L.OneCycleLR(
            o, 0.03, epochs=EPOCHS, steps_per_epoch=BATCHES, three_phase=True
        ),
        by_batch=True,
    ),
}  # fmt: skip
ALL = CASES | SEQUENCES

OPTIMIZERS: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
    ("Adam", {"lr": 0.02}),
    ("Adam", {"lr": 0.05, "betas": (0.8, 0.99)}),
]


def assert_equal(
    case: Case, optimizers: list[tuple[str, dict[str, Any]]], beside: bool = True
) -> None:
    """Members with the schedule, and one without, beside each other."""
    entries = [entry(name, case.named, **arguments) for name, arguments in optimizers]
    if beside:
        entries.insert(1, entry("SGD", lr=0.02))
    start = draw(len(entries))
    weights, rates = in_a_stack(entries, start)
    for k, component in enumerate(entries):
        named = component.arguments.get("schedule")
        arguments = {key: v for key, v in component.arguments.items() if key != "schedule"}
        cls = getattr(torch.optim, component.path)
        expected, curve = plain(
            start[k],
            lambda leaves, cls=cls, arguments=arguments: [cls(leaves, **arguments)],
            case.made if named else None,
            case.by_batch,
            case.by_loss,
        )
        words = f"{component.path} {arguments}"
        torch.testing.assert_close(weights[-1][k], expected, rtol=0, atol=1e-9, msg=words)
        torch.testing.assert_close(
            torch.stack(rates)[:, k], torch.tensor(curve), rtol=0, atol=1e-15, msg=words
        )


@pytest.mark.parametrize("name", ALL)
def test_every_schedule_is_torchs(name: str) -> None:
    assert_equal(ALL[name], OPTIMIZERS)


def test_a_plateau_is_each_members_own() -> None:
    same = [("Adam", {"lr": 0.05})] * 4
    assert_equal(CASES["ReduceLROnPlateau"], same)
    _, rates = in_a_stack([entry("Adam", CASES["ReduceLROnPlateau"].named, lr=0.05)] * 4, draw(4))
    assert len(set(rates[-1].tolist())) > 1


def test_every_class_is_covered() -> None:
    assert {*CASES, "LRScheduler"} == set(lr_scheduler.__all__)


CYCLES = {
    "OneCycleLR": CASES["OneCycleLR"],
    "CyclicLR": CASES["CyclicLR"],
    "limits": Case(
        schedule("CyclicLR", step_size_up=10, base_lr=0.001, max_lr=0.02, base_momentum=0.6),
        lambda o: L.CyclicLR(o, 0.001, 0.02, step_size_up=10, base_momentum=0.6),
        by_batch=True,
    ),
    "to zero": Case(
        schedule("CyclicLR", step_size_up=10, base_momentum=0.0),
        lambda o: L.CyclicLR(o, lr(o) / 10, lr(o), step_size_up=10, base_momentum=0.0),
        by_batch=True,
    ),
    "without": Case(
        schedule("OneCycleLR", cycle_momentum=False),
        lambda o: L.OneCycleLR(o, lr(o), STEPS, cycle_momentum=False),
        by_batch=True,
    ),
}


@pytest.mark.parametrize("name", CYCLES)
def test_momentum_cycles_where_torch_cycles_it(name: str) -> None:
    assert_equal(
        CYCLES[name],
        [
            ("SGD", {"lr": 0.05}),
            ("SGD", {"lr": 0.02, "momentum": 0.9, "nesterov": True}),
            ("SGD", {"lr": 0.02, "dampening": 0.2}),
            ("Adam", {"lr": 0.02}),
            ("AdamW", {"lr": 0.02, "amsgrad": True}),
            ("RMSprop", {"lr": 0.003}),
            ("RMSprop", {"lr": 0.002, "momentum": 0.5, "centered": True}),
            ("NAdam", {"lr": 0.01}),
            ("RAdam", {"lr": 0.01}),
        ],
        beside=False,
    )


@pytest.mark.parametrize("name", ["CosineAnnealingLR", "ReduceLROnPlateau", "OneCycleLR"])
def test_any_class_of_torch_has_any_schedule(name: str) -> None:
    names = ("Adagrad", "Adadelta", "Adamax", "ASGD", "Rprop", "Adafactor", "AdamW", "NAdam")
    case = CASES[name]
    for optimizer in names:
        cycles = {"momentum", "betas"} & set(getattr(torch.optim, optimizer)([draw(1)]).defaults)
        made = case.made
        if name == "OneCycleLR" and not cycles:
            made = lambda o: L.OneCycleLR(o, lr(o), STEPS, pct_start=0.4, cycle_momentum=False)  # noqa: E731
        assert_equal(case._replace(made=made), [(optimizer, {"lr": 0.01})], False)


def test_each_member_has_its_own_length_and_stops_there() -> None:
    named = [schedule("CosineAnnealingLR"), schedule("OneCycleLR"), schedule("CosineAnnealingLR")]
    entries = [entry("Adam", each, lr=0.02) for each in named]
    start, epochs = draw(3), [25, 10, 40]
    weights, _ = in_a_stack(entries, start, epochs)
    made: list[Callable[[Optimizer], Any]] = [
        lambda o: L.CosineAnnealingLR(o, 25),
        lambda o: L.OneCycleLR(o, lr(o), 10 * BATCHES),
        lambda o: L.CosineAnnealingLR(o, 40),
    ]
    for k, (length, scheduled) in enumerate(zip(epochs, made, strict=True)):
        expected, _ = plain(
            start[k],
            lambda leaves: [torch.optim.Adam(leaves, 0.02)],
            scheduled,
            by_batch=k == 1,
            epochs=length,
        )
        torch.testing.assert_close(weights[length - 1][k], expected, rtol=0, atol=1e-9)


def test_members_that_leave_change_nothing_for_those_that_stay() -> None:
    entries = [
        entry(name, case.named, **arguments)
        for name, arguments in [*OPTIMIZERS, ("Adafactor", {})]
        for case in ALL.values()
    ]
    start = draw(len(entries))
    stay = [k for k in range(len(entries)) if k % 3 != 1]
    left, rates = in_a_stack(entries, start, leave={7: stay})
    all_, all_rates = in_a_stack(entries, start)
    torch.testing.assert_close(left[-1], all_[-1][stay], rtol=0, atol=1e-12)
    torch.testing.assert_close(rates[-1], all_rates[-1][stay], rtol=0, atol=0)


def test_hyper_parameters_of_an_epoch_are_read_by_name() -> None:
    one = torch.zeros(2, 26)
    entries = [entry("Adam", schedule("StepLR", step_size=1), lr=0.5), entry("Adam", lr=0.2)]
    optimizer = StackedOptimizer(entries, one, one.clone(), SHAPES, [9, 9], BATCHES)
    ((_, group),) = optimizer.groups
    assert isinstance(group, StackedGroup)
    for expected in (0.5, 0.05, 0.005):
        optimizer.start_epoch()
        columns = group.columns(("lr", "beta1", "weight_decay"))
        torch.testing.assert_close(columns, torch.tensor([[expected, 0.9, 0], [0.2, 0.9, 0]]))
        torch.testing.assert_close(optimizer.rates, torch.tensor([expected, 0.2]))
        optimizer.end_epoch(torch.zeros(2))


def test_a_rate_is_that_of_the_last_update() -> None:
    parameters, gradients = draw(1), draw(1)
    entries = [entry("SGD", schedule("OneCycleLR"), lr=0.5)]
    optimizer = StackedOptimizer(entries, parameters, gradients, SHAPES, [2], BATCHES)
    torch_one = torch.optim.SGD([torch.zeros(1)], 0.5)
    expected = L.OneCycleLR(torch_one, 0.5, 2 * BATCHES)
    for batch in range(BATCHES):
        rate = expected.get_last_lr()[0]
        fill(gradients, parameters, batch)
        optimizer.step()
        assert optimizer.rates.item() == rate
        torch_one.step()
        expected.step()


def test_which_go_by_batch() -> None:
    going = {name for name, case in CASES.items() if by_batch(entry("SGD", case.named))}
    assert going == {"OneCycleLR", "CyclicLR"}
    assert not by_batch(Component("SGD", {}, ""))
    assert not by_batch(entry("SGD", SEQUENCES["three"].named))


OWN = """
from torch.optim.lr_scheduler import LRScheduler

class WarmUp(LRScheduler):
    def __init__(self, optimizer, warm, total_steps, **kwargs):
        self.warm, self.total = warm, total_steps
        super().__init__(optimizer, **kwargs)

    def get_lr(self):
        return [lr * min(1, (self.last_epoch + 1) / self.warm) for lr in self.base_lrs]

class Decay(LRScheduler):
    def get_lr(self):
        for group in self.optimizer.param_groups:
            group["weight_decay"] = 0.01 * self.last_epoch
        return list(self.base_lrs)
"""


def test_somebodys_own_by_path(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(OWN)
    named = schedule(f"{file}:WarmUp", warm=30)
    assert by_batch(entry("SGD", named))
    by_hand = Case(
        named, lambda o: L.LambdaLR(o, lambda step: min(1, (step + 1) / 30)), by_batch=True
    )
    assert_equal(by_hand, OPTIMIZERS)

    class Decay(L.LRScheduler):
        def get_lr(self) -> list[Any]:
            for group in self.optimizer.param_groups:
                group["weight_decay"] = 0.01 * self.last_epoch
            return list(self.base_lrs)

    assert_equal(Case(schedule(f"{file}:Decay"), Decay), OPTIMIZERS)
