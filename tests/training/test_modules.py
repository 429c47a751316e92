"""Networks that people bring, held to a plain loop over a single one with torch's own optimizer."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler

from pipeline.config.component import Component
from pipeline.config.sections import Model, Training
from pipeline.models.draws import Draws
from pipeline.models.module import ModuleArchitecture
from pipeline.models.task import LEAST_PROBABILITY, Classification
from pipeline.training.batches import Arrays, Random
from pipeline.training.engines import IN_THREADS, ONE_BY_ONE, STACKED, Engines, kept_in
from pipeline.training.loop import fit
from pipeline.training.members import Member, Settings
from pipeline.training.outcomes import Fit
from tests import networks
from tests.models.test_mlp import network
from tests.training.test_loop import split_of

ROWS, SPLITS, EPOCHS, BATCHES = 60, 3, 50, 4
OPTIMIZERS = (
    ("SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True}),
    ("Adam", {"lr": 0.01}),
    ("AdamW", {"lr": 0.01, "weight_decay": 0.1}),
    ("RMSprop", {"lr": 0.003}),
    ("Adagrad", {"lr": 0.05}),
)


class Always(Engines):
    """One engine for all."""

    def __init__(self, engine: str) -> None:
        self.engine = engine

    def choose(self, *_: Any) -> str:
        return self.engine


def arrays(shape: tuple[int, ...], labels: int = 3, whole: bool = False) -> Arrays:
    """Rows of a shape, shared by all splits, or for one dimension a table of each split."""
    random = np.random.default_rng(0)
    x = random.normal(size=(ROWS, *shape))
    y = (x.reshape(ROWS, -1)[:, :labels] + random.normal(size=(ROWS, labels))).argmax(1)
    if whole:
        x = np.clip((x * 5 + 10).round(), 0, 19).astype(np.int64)
    folds = np.array_split(random.permutation(ROWS), SPLITS)
    splits = tuple(split_of(part, ROWS) for part in folds)
    task = Classification(labels, names=tuple("abc"[:labels]), counts=(20,) * labels)
    is_table = len(shape) == 1 and not whole
    held = torch.tensor(x).unsqueeze(0).expand(SPLITS if is_table else 1, *x.shape)
    return Arrays(held, torch.tensor(y), splits, task, is_shared=not is_table)


def training(**keys: Any) -> Training:
    fixed = {"epochs": EPOCHS, "batch_size": 10, "patience": None, "device": "cpu"}
    plain = {"label_smoothing": 0.0, "schedule": None}
    return Training(**{**fixed, **plain, **keys})


def members(
    name: str, arguments: dict[str, Any], optimizers: Sequence[Any] = OPTIMIZERS, **keys: Any
) -> list[Member]:
    model = Component(networks.path(name), arguments)
    return [
        Member(place % SPLITS, Component(optimizer, given), model, training(**keys))
        for place, (optimizer, given) in enumerate(optimizers)
    ]


@dataclass(frozen=True)
class Plain:
    train_loss: list[float]
    val_loss: list[float]

    def assert_same(self, fit: Fit) -> None:
        assert fit.state == "complete", fit.reason
        close = {"rtol": 0, "atol": 1e-9}
        np.testing.assert_allclose(fit.curves["train_loss"], self.train_loss, **close)
        np.testing.assert_allclose(fit.curves["val_loss"], self.val_loss, **close)


def plain_loop(data: Arrays, member: Member, seed: int, loss: Any) -> Plain:
    """The lecture's loop in float64; `loss` is of outputs and labels."""
    architecture = data.architecture(member.model, member.training)
    state = architecture.initial(SPLITS, seed)[member.split]
    if isinstance(architecture, ModuleArchitecture):
        module = architecture.module(state).double()
        module.load_state_dict(architecture.module(state).state_dict())
    else:
        module = network(architecture, state)
    arguments = dict(member.optimizer.arguments)
    named = arguments.pop("schedule", None)
    optimizer = getattr(torch.optim, member.optimizer.path)(module.parameters(), **arguments)
    schedule = named and getattr(lr_scheduler, named.path)(optimizer, **named.arguments)
    drawn = Random(seed, torch.device("cpu"))
    x, split = data.x[0 if data.is_shared else member.split], data.splits[member.split]
    size = min(len(each.training) for each in data.splits) // BATCHES
    curves: list[tuple[float, float]] = []
    for _ in range(EPOCHS):
        order = [
            torch.from_numpy(each.training)[
                torch.randperm(len(each.training), generator=drawn.order)[: size * BATCHES]
            ]
            for each in data.splits
        ][member.split]
        module.train()
        losses = []
        for rows in order.split(size):
            optimizer.zero_grad()
            with Draws(drawn.dropout):
                outputs = module(x[rows])
            value = loss(outputs, data.y[rows])
            value.backward()
            if member.training.clip_norm is not None:
                nn.utils.clip_grad_norm_(module.parameters(), member.training.clip_norm)
            optimizer.step()
            losses.append(value.item())
        module.eval()
        with torch.no_grad():
            logits = logits_of(module(x[split.validation]), data.task, loss)
            val = nn.functional.cross_entropy(logits, data.y[split.validation]).item()
        curves.append((float(np.mean(losses)), val))
        if schedule:
            schedule.step()
    train_loss, val_loss = (list(curve) for curve in zip(*curves, strict=True))
    return Plain(train_loss, val_loss)


def logits_of(outputs: Tensor, task: Any, loss: Any) -> Tensor:
    if outputs.dim() == 3:
        return outputs.softmax(dim=2).mean(dim=1).log()
    if loss is of_probability:
        outputs = torch.logit(outputs, eps=LEAST_PROBABILITY)
    if task.labels == 2 and outputs.shape[-1] == 1:
        return torch.cat([torch.zeros_like(outputs), outputs], dim=1)
    return outputs


def cross_entropy(outputs: Tensor, y: Tensor) -> Tensor:
    if outputs.dim() == 3:
        return torch.stack(
            [nn.functional.cross_entropy(each, y) for each in outputs.unbind(dim=1)]
        ).mean()
    return nn.functional.cross_entropy(outputs, y)


KINDS = {
    "perceptron": ((4,), {}),
    "normalised": ((4,), {}),
    "layer_normalised": ((4,), {}),
    "dropping": ((4,), {}),
    "Residual": ((4,), {}),
    "Noisy": ((4,), {}),
    "Implicit": ((4,), {}),
    "convolution1d": ((2, 8), {}),
    "convolution2d": ((1, 6, 6), {}),
    "Words": ((5,), {}),
    "Recurrent": ((4, 3), {"cell": "GRU"}),
    "Recurrent LSTM": ((4, 3), {"cell": "LSTM"}),
    "Attention": ((4, 6), {"dropout": 0.2}),
    "Transformer": ((4, 6), {"dropout": 0.1}),
}


@cache
def expected(kind: str, place: int) -> Plain:
    shape, arguments = KINDS[kind]
    member = members(kind.split()[0], arguments)[place]
    return plain_loop(arrays(shape, whole=kind == "Words"), member, 2, cross_entropy)


@pytest.mark.parametrize(("engine", "count"), [(STACKED, 5), (ONE_BY_ONE, 1)])
@pytest.mark.parametrize("kind", KINDS)
def test_any_module_is_trained_as_by_a_plain_loop(kind: str, engine: str, count: int) -> None:
    shape, arguments = KINDS[kind]
    data = arrays(shape, whole=kind == "Words")
    settings = Settings(seed=2, dtype=torch.float64, engines=Always(engine))
    several = members(kind.split()[0], arguments, OPTIMIZERS[:count])
    for place, found in enumerate(fit(data, several, settings)):
        assert found.engine == engine
        expected(kind, place).assert_same(found)


# Losses ------------------------------------------------------------------------------------------


def of_probability(outputs: Tensor, y: Tensor) -> Tensor:
    return nn.functional.binary_cross_entropy(outputs.squeeze(1), y.double())


def of_logit(outputs: Tensor, y: Tensor, **keys: Any) -> Tensor:
    return nn.functional.binary_cross_entropy_with_logits(outputs.squeeze(1), y.double(), **keys)


def of_two(outputs: Tensor, y: Tensor, **keys: Any) -> Tensor:
    """One logit as two."""
    both = torch.cat([torch.zeros_like(outputs), outputs], dim=1)
    return nn.functional.cross_entropy(both, y, **keys)


def of_each(loss: Any) -> Any:
    """Of an implicit ensemble [B, k, C]."""

    def mean(outputs: Tensor, y: Tensor) -> Tensor:
        return torch.stack([loss(each, y) for each in outputs.unbind(dim=1)]).mean()

    return mean


def smoothed(outputs: Tensor, y: Tensor, **keys: Any) -> Tensor:
    return nn.functional.cross_entropy(outputs, y, label_smoothing=0.1, **keys)


def brier(outputs: Tensor, y: Tensor) -> Tensor:
    return networks.brier(outputs.squeeze(1) if outputs.shape[1] == 1 else outputs, y).mean()


WEIGHTS = torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64)
WEIGHTED = dict(zip("abc", WEIGHTS.tolist(), strict=True))
SMOOTHED = {"name": "CrossEntropyLoss", "label_smoothing": 0.1}
BRIER = networks.path("brier")
TWO = {"a": 0.5, "b": 2.0}

LOSSES: dict[str, tuple[str, int, dict[str, Any], Any]] = {
    "sigmoid": ("Lecture", 2, {"loss": "BCELoss"}, of_probability),
    "logits": ("perceptron", 2, {"loss": "BCEWithLogitsLoss"}, of_logit),
    "smoothed": ("perceptron", 3, {"loss": SMOOTHED}, smoothed),
    "smoothed, of two": (
        "perceptron",
        2,
        {"loss": SMOOTHED},
        lambda outputs, y: of_two(outputs, y, label_smoothing=0.1),
    ),
    "logarithms, of two": ("logarithms", 2, {"loss": "NLLLoss"}, nn.functional.nll_loss),
    "margin": (
        "perceptron",
        3,
        {"loss": {"name": "MultiMarginLoss", "p": 2}},
        lambda outputs, y: nn.functional.multi_margin_loss(outputs, y, p=2),
    ),
    "weighted": (
        "perceptron",
        3,
        {"class_weight": WEIGHTED},
        lambda outputs, y: nn.functional.cross_entropy(outputs, y, weight=WEIGHTS),
    ),
    "weighted, of two": (
        "perceptron",
        2,
        {"class_weight": TWO},
        lambda outputs, y: of_two(outputs, y, weight=WEIGHTS[:2]),
    ),
    "balanced": (
        "perceptron",
        3,
        {"class_weight": "balanced"},
        lambda outputs, y: nn.functional.cross_entropy(outputs, y, weight=torch.ones(3).double()),
    ),
    "weighted and smoothed": (
        "perceptron",
        3,
        {"loss": SMOOTHED, "class_weight": WEIGHTED},
        lambda outputs, y: smoothed(outputs, y, weight=WEIGHTS),
    ),
    "own": ("perceptron", 3, {"loss": BRIER}, brier),
    "own, of two": ("perceptron", 2, {"loss": BRIER}, brier),
    "implicit, smoothed": ("Implicit", 3, {"loss": SMOOTHED}, of_each(smoothed)),
    "implicit, own": ("Implicit", 3, {"loss": BRIER}, of_each(brier)),
    "implicit, weighted": (
        "Implicit",
        3,
        {"class_weight": WEIGHTED},
        of_each(lambda outputs, y: nn.functional.cross_entropy(outputs, y, weight=WEIGHTS)),
    ),
}


@pytest.mark.parametrize("kind", LOSSES)
def test_any_loss_is_that_of_torch(kind: str) -> None:
    """In both engines, and for the built-in network where it puts out what the loss takes."""
    name, labels, keys, loss = LOSSES[kind]
    data = arrays((4,), labels)
    several = members(name, {}, OPTIMIZERS[1:2], **keys)
    plain = [plain_loop(data, member, 2, loss) for member in several]
    for engine in (STACKED, ONE_BY_ONE):
        settings = Settings(seed=2, dtype=torch.float64, engines=Always(engine))
        for one, found in zip(plain, fit(data, several, settings), strict=True):
            one.assert_same(found)
    if name == "perceptron":
        built_in = [replace(member, model=Model(hidden=(6,))) for member in several]
        fits = fit(data, built_in, Settings(seed=2, dtype=torch.float64))
        for member, found in zip(built_in, fits, strict=True):
            plain_loop(data, member, 2, loss).assert_same(found)


@pytest.mark.parametrize("engine", [STACKED, ONE_BY_ONE])
def test_gradients_are_clipped_and_rates_scheduled(engine: str) -> None:
    steps = Component("StepLR", {"step_size": 20, "gamma": 0.3})
    optimizers = [(name, {**given, "schedule": steps}) for name, given in OPTIMIZERS[:2]]
    data = arrays((4,))
    several = members("perceptron", {}, optimizers, clip_norm=0.3)
    free = members("perceptron", {}, optimizers)
    settings = Settings(seed=2, dtype=torch.float64, engines=Always(engine))
    for member, found in zip(several, fit(data, several, settings), strict=True):
        plain_loop(data, member, 2, cross_entropy).assert_same(found)
        lr = member.optimizer.arguments["lr"]
        np.testing.assert_allclose(found.curves["lr"], lr * 0.3 ** (np.arange(EPOCHS) // 20))
    assert plain_loop(data, free[0], 2, cross_entropy).train_loss != list(
        fit(data, several, settings)[0].curves["train_loss"]
    )


def test_members_do_not_change_when_others_leave() -> None:
    """What is drawn for dropout, and running statistics, are theirs in any company."""
    lengths = zip(members("regularised", {}), (4, 20, 9), strict=False)
    several = [replace(member, training=training(epochs=epochs)) for member, epochs in lengths]
    for engine, atol in ((STACKED, 1e-9), (ONE_BY_ONE, 0.0)):
        settings = Settings(seed=2, dtype=torch.float64, engines=Always(engine))
        for member, found in zip(several, fit(arrays((4,)), several, settings), strict=True):
            (alone,) = fit(arrays((4,)), [member], settings)
            torch.testing.assert_close(found.weights, alone.weights, rtol=0, atol=atol)
            np.testing.assert_allclose(
                found.curves["val_loss"], alone.curves["val_loss"], rtol=0, atol=atol
            )


def test_threads_change_nothing() -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        several = members("regularised", {}, epochs=9)
        found, expected = (
            fit(arrays((4,)), several, Settings(seed=2, engines=Always(engine)))
            for engine in (IN_THREADS, ONE_BY_ONE)
        )
    finally:
        torch.set_num_threads(threads)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.weights, other.weights)


# Engines -----------------------------------------------------------------------------------------


def chosen(name: str, engines: Engines, **arguments: Any) -> str:
    data = arrays((4,))
    several = members(name, arguments, OPTIMIZERS[:2], epochs=1)
    (engine,) = {each.engine for each in fit(data, several, Settings(engines=engines))}
    return engine


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return kept_in()


def test_engines_are_measured_once(cached: Path) -> None:
    noted: dict[str, str] = {}
    engine = chosen("perceptron", Engines(note=noted.__setitem__))
    assert list(noted.values()) == [engine]
    assert json.loads(cached.read_text()) == noted
    other = ONE_BY_ONE if engine == STACKED else STACKED
    cached.write_text(json.dumps(dict.fromkeys(noted, other)))
    again: dict[str, str] = {}
    assert chosen("perceptron", Engines(note=again.__setitem__)) == other
    assert again == dict.fromkeys(noted, other)


def test_a_search_goes_on_in_its_engine(cached: Path) -> None:
    noted: dict[str, str] = {}
    chosen("perceptron", Engines(note=noted.__setitem__))
    before = cached.read_text()
    for engine in (STACKED, ONE_BY_ONE):
        assert chosen("perceptron", Engines(dict.fromkeys(noted, engine), pytest.fail)) == engine
    assert cached.read_text() == before


def test_another_architecture_is_measured_anew(cached: Path) -> None:
    noted: dict[str, str] = {}
    engines = Engines(note=noted.__setitem__)
    chosen("perceptron", engines)
    chosen("perceptron", engines)
    assert len(noted) == 1
    chosen("perceptron", engines, hidden=3)
    assert len(noted) == 2


def test_a_network_of_the_same_name_in_a_changed_file_is_measured_anew(
    cached: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A choice for code that could be stacked would fail every trial of code that cannot."""
    monkeypatch.chdir(tmp_path)
    network = Component("nets.py:Net", {})
    several = [replace(member, model=network) for member in members("perceptron", {}, epochs=1)]
    noted: dict[str, str] = {}
    engines = Engines(note=noted.__setitem__)
    source = Path(networks.__file__).read_text()
    for number, name in ((1, "perceptron"), (2, "Branching")):
        Path("nets.py").write_text(f"{source}\n\nNet = {name}\n")
        fits = fit(arrays((4,)), several, Settings(engines=engines))
        assert {each.state for each in fits} == {"complete"}
        assert len(noted) == len(json.loads(cached.read_text())) == number


@pytest.mark.parametrize("content", ["", "no json", "[1]"])
def test_a_broken_cache_is_measured_over(cached: Path, content: str) -> None:
    cached.parent.mkdir()
    cached.write_text(content)
    assert chosen("perceptron", Engines()) in json.loads(cached.read_text()).values()


def test_what_cannot_be_stacked_is_trained_one_by_one(cached: Path) -> None:
    assert chosen("Branching", Engines()) in (ONE_BY_ONE, IN_THREADS)
