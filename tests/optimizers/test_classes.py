"""Classes of optimizers, whoever wrote them, are held to a plain loop; wrong ones are explained."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytorch_optimizer
import schedulefree
import torch
from torch import Tensor
from torch.optim import Optimizer, lr_scheduler

from pipeline.config.component import Component
from pipeline.config.ranges import Choice, FloatRange, IntRange
from pipeline.optimizers.classes import (
    arguments_of,
    check,
    default_arguments,
    learning_rate,
    wants_closure,
)
from pipeline.optimizers.stacked import StackedOptimizer, group_key
from tests.optimizers.problems import (
    BATCHES,
    EPOCHS,
    closure_of,
    draw,
    entry,
    fill,
    in_a_stack,
    plain,
    schedule,
)

OWN = """
import torch
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import LRScheduler

class Replacing(Optimizer):
    '''Puts tensors of its own in place of a parameter's data and gradient.'''
    def __init__(self, params, lr, **kwargs):
        super().__init__(params, {"lr": lr, **kwargs})

    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = p.grad * 2
                p.data = p.data - group["lr"] * p.grad

class Twice(Optimizer):
    '''Two steps of gradient descent, the second by a closure that it needs.'''
    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr})

    def step(self, closure):
        for _ in range(2):
            self.zero_grad()
            loss = closure()
            for group in self.param_groups:
                for p in group["params"]:
                    p.add_(p.grad, alpha=-group["lr"])
        return loss

class Named(Adam):
    def __init__(self, params, extra=1.0, **kwargs):
        super().__init__(params, **kwargs)

class Rateless(Optimizer):
    def __init__(self, params):
        super().__init__(params, {})

class Breaking(SGD):
    def step(self):
        raise RuntimeError("not today")

class Picky(SGD):
    def __init__(self, params, lr=None, flavour="sweet"):
        if flavour != "sweet":
            raise ValueError(f"no {flavour} ones")
        super().__init__(params, lr)

class Negative(LRScheduler):
    def get_lr(self):
        return [lr * (3 - self.last_epoch) for lr in self.base_lrs]

class Ending(LRScheduler):
    def get_lr(self):
        return [lr * [1, 0.5, 0.2][self.last_epoch] for lr in self.base_lrs]

def sgd(params, lr):
    return SGD(params, lr)

constant = 3
"""


@pytest.fixture
def own(tmp_path: Path) -> str:
    (tmp_path / "own.py").write_text(OWN)
    return f"{tmp_path / 'own.py'}"


@pytest.fixture(autouse=True)
def _float64() -> Any:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


Made = Callable[[Sequence[Tensor]], list[Optimizer]]


def muon(leaves: Sequence[Tensor]) -> list[Optimizer]:
    return [
        torch.optim.Muon([p for p in leaves if p.dim() == 2], lr=0.01, momentum=0.9),
        torch.optim.AdamW([p for p in leaves if p.dim() != 2], lr=0.03, betas=(0.8, 0.99)),
    ]


def assert_equal(component: Component, made: Made, scheduled: Any = None) -> None:
    """Three members of the class, one of which leaves, beside two of Adam."""
    entries = [entry("Adam", lr=0.05), *[component] * 3, entry("Adam", lr=0.01)]
    start = draw(5)
    weights, rates = in_a_stack(entries, start, leave={13: [1, 3, 4]})
    adam: Made = lambda leaves: [torch.optim.Adam(leaves, lr=0.01)]  # noqa: E731
    for k, place in enumerate([1, 3, 4]):
        expected, curve = plain(
            start[place], made if place < 4 else adam, scheduled if place < 4 else None
        )
        torch.testing.assert_close(weights[-1][k], expected, rtol=0, atol=1e-9)
        assert [float(rate[k]) for rate in rates[13:]] == pytest.approx(curve[13:], abs=1e-15)


def test_muon_has_the_matrices_and_adamw_all_else() -> None:
    rest = {"lr": 0.03, "betas": [0.8, 0.99]}
    component = entry("Muon", lr=0.01, momentum=0.9, rest=rest)
    assert_equal(component, muon)
    cosine = schedule("CosineAnnealingLR")
    assert_equal(
        entry("torch.optim.Muon", cosine, lr=0.01, momentum=0.9, rest=rest),
        muon,
        lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS),
    )


def test_muon_without_a_matrix_is_adamw() -> None:
    weights, gradients = draw(1), torch.ones(1, 26)
    optimizer = StackedOptimizer(
        [entry("Muon", rest={"lr": 0.5})], weights, gradients, [(26,)], [1], 1
    )
    assert optimizer.rates.item() == 0.5
    leaf = weights[0].clone().requires_grad_()
    leaf.grad = torch.ones(26)
    optimizer.step()
    torch.optim.AdamW([leaf], lr=0.5).step()
    torch.testing.assert_close(weights[0], leaf.detach(), rtol=0, atol=1e-12)


def test_lion_from_a_package() -> None:
    component = entry("pytorch_optimizer.Lion", lr=0.003, betas=(0.9, 0.98), weight_decay=0.1)
    made: Made = lambda leaves: [  # noqa: E731
        pytorch_optimizer.Lion(leaves, lr=0.003, betas=(0.9, 0.98), weight_decay=0.1)
    ]
    assert_equal(component, made)
    linear = schedule("LinearLR", start_factor=0.1)
    scheduled = lambda optimizer: lr_scheduler.LinearLR(optimizer, 0.1)  # noqa: E731
    assert_equal(
        Component(component.path, {**component.arguments, "schedule": linear}, ""), made, scheduled
    )


def test_schedule_free_trains_and_is_read_at_its_own_weights() -> None:
    made: Made = lambda leaves: [schedulefree.AdamWScheduleFree(leaves, lr=0.05)]  # noqa: E731
    assert_equal(entry("schedulefree.AdamWScheduleFree", lr=0.05), made)


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
def test_lbfgs_has_its_closure(search: str | None) -> None:
    arguments = {"lr": 0.5, "max_iter": 4, "history_size": 5, "line_search_fn": search}
    component = entry("LBFGS", **arguments)
    assert wants_closure(component)
    start = draw(1)
    weights, _ = in_a_stack([component], start)
    expected, _ = plain(start[0], lambda leaves: [torch.optim.LBFGS(leaves, **arguments)])
    torch.testing.assert_close(weights[-1][0], expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("path", "wants"),
    [
        ("LBFGS", True),
        ("Adam", False),
        ("Rprop", False),
        ("Muon", False),
        ("torch.optim.Adam", False),
        ("pytorch_optimizer.Lion", False),
        ("schedulefree.AdamWScheduleFree", False),
    ],
)
def test_who_wants_a_closure(path: str, wants: bool) -> None:
    assert wants_closure(entry(path)) is wants


def test_an_own_class_may_want_one(own: str) -> None:
    component = entry(f"{own}:Twice", lr=0.02)
    assert wants_closure(component)
    start = draw(1)
    weights, _ = in_a_stack([component], start)
    parameters, gradients = start.clone(), torch.zeros_like(start)
    for step in range(EPOCHS * BATCHES):
        closure = closure_of(torch.zeros(1), gradients, parameters, step % BATCHES)
        fill(gradients, parameters, step % BATCHES)
        for _ in range(2):
            closure()
            parameters -= 0.02 * gradients
    torch.testing.assert_close(weights[-1], parameters, rtol=0, atol=1e-9)


def test_a_class_may_replace_what_it_was_given(own: str) -> None:
    sgd: Made = lambda leaves: [torch.optim.SGD(leaves, lr=0.02)]  # noqa: E731
    assert_equal_but_rates(entry(f"{own}:Replacing", lr=0.01), sgd)


def assert_equal_but_rates(component: Component, made: Made) -> None:
    start = draw(2)
    weights, _ = in_a_stack([component] * 2, start, leave={20: [1]})
    torch.testing.assert_close(weights[-1][0], plain(start[1], made)[0], rtol=0, atol=1e-9)


def test_a_path_to_a_class_with_a_rule_is_that_class(own: str) -> None:
    adam: Made = lambda leaves: [torch.optim.Adam(leaves, lr=0.02)]  # noqa: E731
    assert_equal(entry("torch.optim.Adam", lr=0.02), adam)
    assert_equal(entry(f"{own}:Named", lr=0.02, extra=3.0), adam)
    paths = ["torch.optim.Adam", "Adam", f"{own}:Named", "LBFGS", "SGD"]
    assert len({group_key(entry(path)) for path in paths}) == 5
    sorted(group_key(entry(path)) for path in paths)


def test_arguments_and_their_defaults(own: str) -> None:
    assert arguments_of(entry("Adam", lr=0.1, betas=(0.8, 0.9)))["betas"] == (0.8, 0.9)
    assert learning_rate(entry("SGD", schedule("StepLR", step_size=3))) == 0.001
    assert learning_rate(entry("pytorch_optimizer.Lion")) == 1e-4
    assert learning_rate(entry(f"{own}:Replacing", lr=0.3)) == 0.3
    assert learning_rate(entry(f"{own}:Named", lr=0.3)) == 0.3
    assert "fused" not in default_arguments("Adam")
    assert {"extra", "lr", "betas"} <= default_arguments(f"{own}:Named").keys()


def test_what_is_right_is_not_refused(own: str) -> None:
    cosine, plateau = schedule("CosineAnnealingLR"), schedule("ReduceLROnPlateau")
    rate = FloatRange(1e-4, 0.1, log=True)
    for component in (
        entry("SGD", lr=rate, momentum=Choice((0.0, 0.9))),
        entry("LBFGS", cosine, lr=rate),
        entry("Muon", (schedule("LinearLR"), cosine), rest={"lr": rate}),
        entry("pytorch_optimizer.Lion", plateau, lr=rate, cautious=True),
        entry("schedulefree.AdamWScheduleFree", warmup_steps=Choice((0, 10))),
        entry("Adam", schedule("OneCycleLR", max_lr=rate, pct_start=FloatRange(0.1, 0.5))),
        entry(f"{own}:Named", schedule("CyclicLR"), lr=rate, amsgrad=True),
        *(entry(name, cosine) for name in ("Adafactor", "ASGD", "Rprop", "Adagrad", "RMSprop")),
    ):
        assert check(component, "optimizers.0", 30, 7) == [], component


NEGATIVE = FloatRange(-1.0, 1.0)
WRONG: dict[str, tuple[Component, list[str]]] = {
    "no such name": (
        entry("pytorch_optimizer.Lionn"),
        ["optimizers.2.name: pytorch_optimizer has no 'Lionn'; did you mean 'Lion'?"],
    ),
    "no such package": (
        entry("nothing_at_all.Adam"),
        ["optimizers.2.name: nothing_at_all.Adam: there is no module 'nothing_at_all'"],
    ),
    "no such file": (entry("owm.py:Named"), ["optimizers.2.name: owm.py: no such file"]),
    "none of torch": (entry("Adan"), ["optimizers.2.name: torch.optim has no 'Adan'; did"]),
    "a function": (
        entry("OWN:sgd", lr=1),
        ["optimizers.2.name: must be a subclass of torch.optim.Optimizer; got function sgd"],
    ),
    "a number": (
        entry("OWN:constant"),
        ["optimizers.2.name: must be a subclass of torch.optim.Optimizer; got int 3"],
    ),
    "another class": (
        entry("torch.nn.Linear"),
        ["optimizers.2.name: must be a subclass of torch.optim.Optimizer; got class Linear"],
    ),
    "unknown arguments": (
        entry("pytorch_optimizer.Lion", betaz=(0.9, 0.99), wait_decay=0.1),
        [
            "optimizers.2.betaz: unknown argument of Lion; did you mean 'betas'?",
            "optimizers.2.wait_decay: unknown argument of Lion; did you mean 'weight_decay'?",
        ],
    ),
    "unknown, nothing near": (
        entry("schedulefree.AdamWScheduleFree", zeal=1),
        ["optimizers.2.zeal: unknown argument of AdamWScheduleFree; it takes lr, betas, eps"],
    ),
    "no rate": (
        entry("OWN:Replacing"),
        ["optimizers.2.lr: must be given: Replacing has no default"],
    ),
    "a rate of None": (
        entry("OWN:Picky"),
        ["optimizers.2.lr: must be given: Picky has no default"],
    ),
    "takes no rate": (
        entry("OWN:Rateless"),
        ["optimizers.2.name: must take a learning rate, `lr`; Rateless does not"],
    ),
    "below zero": (
        entry("pytorch_optimizer.Lion", lr=-1),
        ["optimizers.2: Lion cannot be made with lr=-1: "],
    ),
    "an end of a range": (
        entry("OWN:Picky", lr=0.1, flavour=Choice(("sweet", "sour"))),
        ["optimizers.2: Picky cannot be made with flavour=sour: ValueError: no sour ones"],
    ),
    "the first end": (
        entry("schedulefree.AdamWScheduleFree", lr=0.1, betas=(NEGATIVE, 0.9, 0.9)),
        ["optimizers.2: AdamWScheduleFree cannot make a step with lr=0.1, betas=[-1.0, 0.9, 0.9]"],
    ),
    "no step": (
        entry("OWN:Breaking", lr=0.1),
        ["optimizers.2: Breaking cannot make a step with lr=0.1: RuntimeError: not today"],
    ),
    "upwards": (
        entry("torch.optim.Adam", maximize=True),
        ["optimizers.2.maximize: must be left out: the loss is minimised here"],
    ),
    "schedule unknown": (
        entry("SGD", schedule("CosineAnealingLR")),
        [
            "optimizers.2.schedule.name: torch.optim.lr_scheduler has no 'CosineAnealingLR'; "
            "did you mean 'CosineAnnealingLR'?"
        ],
    ),
    "no scheduler": (
        entry("SGD", schedule("torch.nn.Linear")),
        ["optimizers.2.schedule.name: must be a subclass of torch.optim.lr_scheduler.LRScheduler"],
    ),
    "abstract": (
        entry("SGD", schedule("LRScheduler")),
        ["optimizers.2.schedule: LRScheduler cannot be made: NotImplementedError"],
    ),
    "schedule argument": (
        entry("SGD", schedule("CosineAnnealingLR", T_maxx=3)),
        [
            "optimizers.2.schedule.T_maxx: unknown argument of CosineAnnealingLR; "
            "did you mean 'T_max'?"
        ],
    ),
    "schedule missing": (
        entry("SGD", schedule("StepLR")),
        ["optimizers.2.schedule.step_size: must be given: StepLR has no default"],
    ),
    "schedule fails": (
        entry("SGD", schedule("StepLR", step_size=Choice((3, 0)))),
        ["optimizers.2.schedule: StepLR fails in its step 1: ZeroDivisionError"],
    ),
    "schedule value": (
        entry("SGD", schedule("CosineAnnealingWarmRestarts", T_0=IntRange(-3, 2))),
        ["optimizers.2.schedule: CosineAnnealingWarmRestarts cannot be made with T_0=-3: "],
    ),
    "negative rates": (
        entry("SGD", schedule("OWN:Negative"), lr=0.5),
        [
            "optimizers.2.schedule: must keep the learning rate finite and at least 0; "
            "got -0.5 after 4 steps"
        ],
    ),
    "ends too soon": (
        entry("SGD", schedule("OWN:Ending")),
        ["optimizers.2.schedule: Ending fails in its step 3: IndexError: list index out of range"],
    ),
    "too few steps": (
        entry("SGD", schedule("OneCycleLR", total_steps=20)),
        ["optimizers.2.schedule: must last for all 40 batches of a training; got 20 steps"],
    ),
    "no function": (
        entry("SGD", schedule("LambdaLR", lr_lambda="OWN:constant")),
        ["optimizers.2.schedule: LambdaLR cannot be made with lr_lambda="],
    ),
    "function unknown": (
        entry("SGD", schedule("LambdaLR", lr_lambda="math.expp")),
        [
            "optimizers.2.schedule: LambdaLR cannot be made with lr_lambda=math.expp: lr_lambda: "
            "math has no 'expp'; did you mean 'exp'?"
        ],
    ),
    "sequence without length": (
        entry("SGD", (schedule("StepLR", step_size=2), schedule("CosineAnnealingLR"))),
        [
            "optimizers.2.schedule.0: must say how many epochs it lasts, as another follows, by "
            "total_iters or T_max; StepLR has neither"
        ],
    ),
    "length not given": (
        entry("SGD", (schedule("CosineAnnealingLR"), schedule("ConstantLR"))),
        ["optimizers.2.schedule.0: must say how many epochs it lasts"],
    ),
    "batches in a sequence": (
        entry("SGD", (schedule("LinearLR"), schedule("OneCycleLR"))),
        [
            "optimizers.2.schedule.1.name: must be a scheduler that counts epochs, as it is one of "
            "several; OneCycleLR goes by batches"
        ],
    ),
    "plateau in a chain": (
        entry("SGD", schedule("ChainedScheduler", schedulers=[schedule("ReduceLROnPlateau")])),
        [
            "optimizers.2.schedule.schedulers.0.name: must be a scheduler that counts epochs, as "
            "it is one of several; ReduceLROnPlateau goes by the validation loss"
        ],
    ),
    "two in a sequence": (
        entry("SGD", (schedule("LinearLR", factor=2), schedule("Cosine"))),
        [
            "optimizers.2.schedule.0.factor: unknown argument of LinearLR; did you mean",
            "optimizers.2.schedule.1.name: torch.optim.lr_scheduler has no 'Cosine'",
        ],
    ),
    "momentum to cycle": (
        entry("Adagrad", schedule("OneCycleLR", cycle_momentum=True)),
        ["optimizers.2.schedule: OneCycleLR cannot be made with cycle_momentum=true: ValueError"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_is_named(kind: str, own: str) -> None:
    component, sentences = WRONG[kind]
    component = in_file(component, own)
    problems = check(component, "optimizers.2", 10, 4)
    assert len(problems) == len(sentences), problems
    for problem, sentence in zip(problems, sentences, strict=True):
        assert problem.startswith(sentence), problem
        assert "\n" not in problem


def in_file(value: Any, own: str) -> Any:
    """`OWN` is the file, at any depth."""
    match value:
        case Component():
            return Component(in_file(value.path, own), in_file(value.arguments, own), "")
        case dict():
            return {key: in_file(child, own) for key, child in value.items()}
        case str():
            return value.replace("OWN", own)
    return value


def test_the_schedule_of_all_is_named_where_it_stands() -> None:
    component = entry("SGD", schedule("StepLR"))
    (problem,) = check(component, "optimizers.2", 10, 4, "training.schedule")
    assert problem.startswith("training.schedule.step_size: must be given")
