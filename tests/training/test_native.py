"""The compiled program is held to the same training as operations of torch, and to float64."""

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pipeline.config.component import Component
from pipeline.models.activations import ACTIVATIONS
from pipeline.models.mlp import MLP
from pipeline.models.task import Classification
from pipeline.optimizers.rules import RULES, Rule
from pipeline.optimizers.stacked import StackedGroup, arguments_of
from pipeline.training import batches as training_batches
from pipeline.training.loop import fit, step
from pipeline.training.members import Member, Settings
from pipeline.training.native import codegen, kernel
from pipeline.training.native.kernel import can_train
from pipeline.training.outcomes import Fit
from pipeline.training.stacks import NativeStack, Stack, build
from tests.training.test_loop import arrays, changed, member

pytestmark = pytest.mark.skipif(kernel.library() is None, reason="needs a C++ compiler")

# One of each variant of each rule.
OPTIMIZERS: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.01}),
    ("SGD", {"lr": 0.05, "momentum": 0.9, "dampening": 0.2, "weight_decay": 0.01}),
    ("SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True}),
    ("Adagrad", {"lr": 0.05, "lr_decay": 0.01, "initial_accumulator_value": 0.1}),
    ("RMSprop", {"lr": 0.003}),
    ("RMSprop", {"lr": 0.003, "centered": True, "weight_decay": 0.01}),
    ("RMSprop", {"lr": 0.003, "momentum": 0.5}),
    ("RMSprop", {"lr": 0.003, "momentum": 0.5, "centered": True}),
    ("Adam", {"lr": 0.01}),
    ("Adam", {"lr": 0.01, "amsgrad": True, "weight_decay": 0.01}),
    ("Adam", {"lr": 0.01, "decoupled_weight_decay": True, "weight_decay": 0.01}),
    ("AdamW", {"lr": 0.01, "betas": (0.8, 0.99), "eps": 1e-6}),
    ("AdamW", {"lr": 0.01, "amsgrad": True}),
    ("NAdam", {"lr": 0.01, "weight_decay": 0.01}),
    ("NAdam", {"lr": 0.01, "weight_decay": 0.01, "decoupled_weight_decay": True}),
    ("RAdam", {"lr": 0.01}),
    ("RAdam", {"lr": 0.01, "weight_decay": 0.01, "decoupled_weight_decay": True}),
    ("Adamax", {"lr": 0.01, "weight_decay": 0.01}),
    ("Adadelta", {"lr": 0.5, "weight_decay": 0.01}),
]
SETTINGS = Settings(seed=3)
DOUBLE = replace(SETTINGS, dtype=torch.float64)


def members(**changes: Any) -> list[Member]:
    """Each optimizer on each split."""
    return [
        member(split, name, arguments, **{"epochs": 5 + split, **changes})
        for name, arguments in OPTIMIZERS
        for split in range(3)
    ]


def assert_near(found: list[Fit], expected: list[Fit], tolerance: float = 2e-6) -> None:
    for one, other in zip(found, expected, strict=True):
        assert (one.state, one.best_epoch) == (other.state, other.best_epoch)
        np.testing.assert_array_equal(one.curves["val_accuracy"], other.curves["val_accuracy"])
        for name in ("train_loss", "val_loss"):
            np.testing.assert_allclose(one.curves[name], other.curves[name], atol=tolerance)
        np.testing.assert_allclose(one.weights, other.weights, atol=10 * tolerance)


def test_every_variant_of_every_rule_trains_as_in_float64() -> None:
    expected = fit(arrays(), members(), DOUBLE)
    assert_near(fit(arrays(), members(), SETTINGS), expected)


def test_the_variants_are_all_there_and_tried() -> None:
    def variant(name: str, arguments: dict[str, Any]) -> codegen.Variant:
        one = torch.zeros(1, 2)
        group = StackedGroup([Component(name, arguments, "")], one, one, [1], 1)
        return codegen.variant_of(group)

    tried = {variant(*optimizer) for optimizer in OPTIMIZERS}
    assert tried <= set(codegen.functions())
    # Those left out: combinations of two booleans that are each tried, nesterov without momentum.
    assert {v.name for v in tried} == {v.name for v in codegen.functions()} == set(RULES)
    flags = {(v.name, flag) for v in codegen.functions() for flag in v.flags}
    assert {(v.name, flag) for v in tried for flag in v.flags} == flags - {
        ("AdamW", ("decoupled_weight_decay", False))
    }


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("labels", [2, 3])
def test_every_activation_trains_as_in_float64(activation: str, labels: int) -> None:
    some = [m for m in members() if m.optimizer.name in ("SGD", "Adam")]
    some = changed(some, activation=activation, hidden=(17, 6))
    expected = fit(arrays(labels), some, DOUBLE)
    assert_near(fit(arrays(labels), some, SETTINGS), expected, 4e-6)


@given(
    hidden=st.lists(st.integers(1, 70), max_size=3),
    labels=st.integers(2, 19),
    rows=st.integers(60, 400),
    batch_size=st.integers(1, 300),
    dropout=st.sampled_from([0.0, 0.3]),
    smoothing=st.sampled_from([0.0, 0.1]),
)
def test_any_shape_trains_as_with_torch(
    hidden: list[int], labels: int, rows: int, batch_size: int, dropout: float, smoothing: float
) -> None:
    data = arrays(labels, rows)
    keys = {"hidden": tuple(hidden), "batch_size": max(batch_size, rows // 20), "epochs": 2}
    keys["label_smoothing"] = smoothing
    arguments = {"lr": 0.05, "momentum": 0.5}
    some = [member(k, "SGD", arguments, dropout=dropout * k / 2, **keys) for k in range(3)]
    plain = fit(data, some, Settings(seed=1, native=False))
    for one, other in zip(fit(data, some, Settings(seed=1)), plain, strict=True):
        for name in ("train_loss", "val_loss"):
            np.testing.assert_allclose(one.curves[name], other.curves[name], rtol=1e-5)


def test_a_member_is_the_same_to_the_bit_in_any_company() -> None:
    some = members(patience=2, dropout=0.1)
    together = fit(arrays(), some, SETTINGS)
    for k in (0, 7, 31, len(some) - 1):
        (alone,) = fit(arrays(), [some[k]], SETTINGS)
        np.testing.assert_array_equal(alone.curves["val_loss"], together[k].curves["val_loss"])
        assert torch.equal(alone.weights, together[k].weights)


def test_rows_padded_batch_by_batch_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    some = members(dropout=0.1)
    held = fit(arrays(), some, SETTINGS)
    monkeypatch.setattr(training_batches, "PADDED_ELEMENTS", 0)
    for one, other in zip(fit(arrays(), some, SETTINGS), held, strict=True):
        assert torch.equal(one.weights, other.weights)
        np.testing.assert_array_equal(one.curves["val_loss"], other.curves["val_loss"])


def test_members_of_other_classes_train_beside_it() -> None:
    some = [*members()[:4], member(1, "Rprop", {"lr": 0.01}, epochs=4)]
    expected = fit(arrays(), some, DOUBLE)
    assert_near(fit(arrays(), some, SETTINGS), expected)


@pytest.mark.parametrize("optimizer", ["SGD", "Adam", "Adamax"])
def test_divergence_is_contained_and_named(optimizer: str) -> None:
    some = [
        member(0, optimizer, {"lr": 1e38}, epochs=4),
        member(0, optimizer, {"lr": 1e-3}, epochs=4),
    ]
    lost, sound = fit(arrays(), some, SETTINGS)
    assert (lost.state, sound.state) == ("failed", "complete")
    assert lost.reason is not None
    assert "not finite in epoch" in lost.reason
    assert_near([sound], fit(arrays(), some[1:], DOUBLE))


def test_what_it_lacks_it_does_not_train() -> None:
    task = Classification(2)
    assert not can_train(MLP(3, (4,), 1, batch_norm=True), task)
    assert not can_train(MLP(3, (4,) * 70, 1), task)
    assert not can_train(MLP(3, (4,), 1, "softplus"), task)
    assert can_train(MLP(3, (4,), 1), task)


def test_it_has_every_activation() -> None:
    assert set(kernel.activations()) == set(ACTIVATIONS)


def unrounded(p: Tensor, g: Tensor, t: float, s: SimpleNamespace, h: SimpleNamespace) -> None:
    p.sub_(g * h.lr)


def branching(p: Tensor, g: Tensor, t: float, s: SimpleNamespace, h: SimpleNamespace) -> None:
    if t > 1:
        p.sub_(g * h.lr.to(p.dtype))


@pytest.mark.parametrize("update", [unrounded, branching])
def test_a_rule_that_it_cannot_write_is_left_out(
    no_library: pytest.MonkeyPatch, update: Any
) -> None:
    no_library.setitem(RULES, "SGD", Rule(update, {}))
    assert {variant.name for variant in codegen.functions()} == set(RULES) - {"SGD"}


def asgd(p: Tensor, g: Tensor, t: float, s: SimpleNamespace, h: SimpleNamespace) -> None:
    """torch's ASGD, but for the average that its weights are not."""
    f = p.dtype
    eta = h.lr / (1 + h.lambd * h.lr * (t - 1)) ** h.alpha
    p.mul_((1 - h.lambd * eta).to(f))
    p.sub_(g * eta.to(f))


def signed(p: Tensor, g: Tensor, t: float, s: SimpleNamespace, h: SimpleNamespace) -> None:
    p.sub_(g.sign() * h.lr.to(p.dtype))


def test_a_rule_more_is_an_entry_of_the_table(
    no_library: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    some = [
        member(k, "ASGD", {"lr": 0.1, "lambd": 0.02 * k, "weight_decay": 0.01 * k}, epochs=6)
        for k in range(3)
    ]
    by_torch = fit(arrays(), some, DOUBLE)
    no_library.setenv("XDG_CACHE_HOME", str(tmp_path))
    no_library.setitem(RULES, "ASGD", Rule(asgd, {}))
    no_library.setitem(RULES, "Rprop", Rule(signed, {}))
    # What the program cannot write it leaves to torch.
    assert {variant.name for variant in codegen.functions()} == set(RULES) - {"Rprop"}
    assert_near(fit(arrays(), some, SETTINGS), by_torch)
    assert_near(fit(arrays(), some, replace(SETTINGS, native=False)), by_torch)
    _, stacks, _ = build(arrays(), [*some, member(0, "Rprop")], SETTINGS, step)
    assert [type(stack) for stack in stacks] == [NativeStack, Stack]


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    for cached in (kernel.library, codegen.functions):
        cached.cache_clear()
    yield monkeypatch
    monkeypatch.undo()
    for cached in (kernel.library, codegen.functions):
        cached.cache_clear()


@pytest.mark.parametrize("compiler", ["no-such-compiler", "false"])
def test_without_a_compiler_it_says_so_once_and_trains(
    no_library: pytest.MonkeyPatch, compiler: str, tmp_path: Path
) -> None:
    no_library.setenv("CXX", compiler)
    no_library.setenv("XDG_CACHE_HOME", str(tmp_path))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = fit(arrays(), members()[:3], SETTINGS)
        fit(arrays(), members()[:3], SETTINGS)
    texts = [str(w.message) for w in said if "training runs without it" in str(w.message)]
    assert len(texts) == 1
    assert_near(found, fit(arrays(), members()[:3], DOUBLE))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.slow
def test_it_is_kept_in_the_cache_and_several_may_build_it(tmp_path: Path) -> None:
    code = "from pipeline.training.native.kernel import library; assert library() is not None"
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    started = [subprocess.Popen([sys.executable, "-c", code], env=environment) for _ in range(2)]
    assert [process.wait(timeout=120) for process in started] == [0, 0]
    (kept,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    before = kept.stat().st_mtime_ns
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert kept.stat().st_mtime_ns == before


def test_a_folder_that_others_can_write_to_is_not_trusted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert kernel._folder().parent == tmp_path
    kernel._folder().chmod(0o777)
    assert tmp_path not in kernel._folder().parents


def test_hyper_parameters_reach_the_program() -> None:
    one = torch.zeros(2, 3)
    specs = [Component("Adam", {"lr": 0.1}, ""), Component("Adam", {"lr": 0.2}, "")]
    group = StackedGroup(specs, one, one, [1, 1], 1)
    columns = group.columns(("lr", "beta2", "weight_decay"))
    assert columns.tolist() == [[0.1, 0.999, 0.0], [0.2, 0.999, 0.0]]
    assert arguments_of(specs[0])["betas"] == (0.9, 0.999)


def test_schedules_of_epochs_reach_the_program_and_those_of_batches_are_left_to_torch() -> None:
    cosine, plateau = (Component(n, {}, "") for n in ("CosineAnnealingLR", "ReduceLROnPlateau"))
    cycle = Component("OneCycleLR", {}, "")
    chosen = [
        member(split, name, {"lr": 0.05, "schedule": schedule}, epochs=5)
        for name, schedule in (("SGD", cosine), ("Adam", plateau), ("Adam", cosine), ("SGD", cycle))
        for split in range(3)
    ]
    _, stacks, _ = build(arrays(), chosen, SETTINGS, step)
    by_program = {m for stack in stacks if isinstance(stack, NativeStack) for m in stack.members}
    assert by_program == set(range(9))
    assert_near(fit(arrays(), chosen, SETTINGS), fit(arrays(), chosen, DOUBLE))
