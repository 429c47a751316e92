"""The compiled program is held to the same training as operations of torch, and to float64."""

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.models.mlp import ACTIVATIONS, Architecture
from pipeline.optimizers.stacked import OptimizerSpec, StackedGroup, arguments_of
from pipeline.training.loop import fit
from pipeline.training.members import Fit, Member, Settings
from pipeline.training.native import Kernel, build, calls
from pipeline.training.native import codegen as rules
from tests.training.test_loop import arrays

pytestmark = pytest.mark.skipif(build.library() is None, reason="needs a C++ compiler")

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
SETTINGS = Settings(hidden=(5, 4), batch_size=16, seed=3)


def members(**changes: Any) -> list[Member]:
    """Each optimizer on each split."""
    return [
        Member(split, name, arguments, **{"epochs": 5 + split, **changes})
        for name, arguments in OPTIMIZERS
        for split in range(3)
    ]


def assert_near(found: list[Fit], expected: list[Fit], tolerance: float = 2e-6) -> None:
    for one, other in zip(found, expected, strict=True):
        assert (one.state, one.best_epoch) == (other.state, other.best_epoch)
        np.testing.assert_array_equal(one.val_accuracy, other.val_accuracy)
        for name in ("train_loss", "val_loss"):
            np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=tolerance)
        np.testing.assert_allclose(one.weights, other.weights, atol=10 * tolerance)


def test_every_variant_of_every_rule_trains_as_in_float64() -> None:
    expected = fit(arrays(), members(), replace(SETTINGS, dtype=torch.float64))
    assert_near(fit(arrays(), members(), SETTINGS), expected)


def test_the_variants_are_all_there_and_tried() -> None:
    def variant(name: str, arguments: dict[str, Any]) -> rules.Variant:
        one = torch.zeros(1, 2)
        group = StackedGroup([OptimizerSpec(name, arguments)], one, one)
        return rules.Variant(group.name, group.flags, group.has_momentum)

    tried = {variant(*optimizer) for optimizer in OPTIMIZERS}
    assert tried <= set(rules.variants())
    # Those left out: combinations of two booleans that are each tried, nesterov without momentum.
    assert {v.name for v in tried} == {v.name for v in rules.variants()}
    flags = {(v.name, flag) for v in rules.variants() for flag in v.flags}
    assert {(v.name, flag) for v in tried for flag in v.flags} == flags - {
        ("AdamW", ("decoupled_weight_decay", False))
    }


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("labels", [2, 3])
def test_every_activation_trains_as_in_float64(activation: str, labels: int) -> None:
    some = [m for m in members() if m.optimizer in ("SGD", "Adam")]
    settings = replace(SETTINGS, activation=activation, hidden=(17, 6))
    expected = fit(arrays(labels), some, replace(settings, dtype=torch.float64))
    assert_near(fit(arrays(labels), some, settings), expected, 4e-6)


@given(
    hidden=st.lists(st.integers(1, 70), max_size=3),
    labels=st.integers(2, 19),
    rows=st.integers(60, 400),
    batch_size=st.integers(1, 300),
    dropout=st.sampled_from([0.0, 0.3]),
)
def test_any_shape_trains_as_with_torch(
    hidden: list[int], labels: int, rows: int, batch_size: int, dropout: float
) -> None:
    data = arrays(labels, rows)
    settings = Settings(tuple(hidden), batch_size=max(batch_size, rows // 20), seed=1)
    some = [
        Member(k, "SGD", {"lr": 0.05, "momentum": 0.5}, epochs=2, dropout=dropout * k / 2)
        for k in range(3)
    ]
    plain = fit(data, some, replace(settings, native=False))
    for one, other in zip(fit(data, some, settings), plain, strict=True):
        np.testing.assert_allclose(one.train_loss, other.train_loss, rtol=1e-5)
        np.testing.assert_allclose(one.val_loss, other.val_loss, rtol=1e-5)


def test_a_member_is_the_same_to_the_bit_in_any_company() -> None:
    some = members(patience=2, dropout=0.1)
    together = fit(arrays(), some, SETTINGS)
    for k in (0, 7, 31, len(some) - 1):
        (alone,) = fit(arrays(), [some[k]], SETTINGS)
        np.testing.assert_array_equal(alone.val_loss, together[k].val_loss)
        assert torch.equal(alone.weights, together[k].weights)


def test_members_of_other_classes_train_beside_it() -> None:
    some = [*members()[:4], Member(1, "Rprop", {"lr": 0.01}, epochs=4)]
    expected = fit(arrays(), some, replace(SETTINGS, dtype=torch.float64))
    assert_near(fit(arrays(), some, SETTINGS), expected)


@pytest.mark.parametrize("optimizer", ["SGD", "Adam", "Adamax"])
def test_divergence_is_contained_and_named(optimizer: str) -> None:
    some = [
        Member(0, optimizer, {"lr": 1e38}, epochs=4),
        Member(0, optimizer, {"lr": 1e-3}, epochs=4),
    ]
    lost, sound = fit(arrays(), some, SETTINGS)
    assert (lost.state, sound.state) == ("failed", "complete")
    assert lost.reason is not None
    assert "not finite in epoch" in lost.reason
    assert_near([sound], fit(arrays(), some[1:], replace(SETTINGS, dtype=torch.float64)))


def test_batch_norm_and_doubles_have_no_program() -> None:
    assert not calls.can_train(Architecture(3, (4,), 1, batch_norm=True))
    assert not calls.can_train(Architecture(3, (4,) * 70, 1))
    assert Kernel.get(Architecture(3, (4,), 1)) is not None


def test_a_rule_that_it_cannot_write_is_an_error() -> None:
    value = rules.Program().symbol("h[0]", "double")
    each = rules.Program().symbol("p[i]", "each")
    with pytest.raises(TypeError, match="rounded to float first"):
        each * value
    with pytest.raises(KeyError):
        torch.minimum(each, each)


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    build.library.cache_clear()
    yield monkeypatch
    build.library.cache_clear()


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
    assert_near(found, fit(arrays(), members()[:3], replace(SETTINGS, dtype=torch.float64)))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_it_is_kept_in_the_cache_and_several_may_build_it(tmp_path: Path) -> None:
    code = "from pipeline.training.native import build; assert build.library() is not None"
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
    assert build._folder().parent == tmp_path
    build._folder().chmod(0o777)
    assert tmp_path not in build._folder().parents


def test_hyper_parameters_reach_the_program() -> None:
    one = torch.zeros(2, 3)
    specs = [OptimizerSpec("Adam", {"lr": 0.1}), OptimizerSpec("Adam", {"lr": 0.2})]
    group = StackedGroup(specs, one, one)
    columns = group.columns(("lr", "beta2", "weight_decay"))
    assert columns.tolist() == [[0.1, 0.999, 0.0], [0.2, 0.999, 0.0]]
    assert arguments_of(specs[0])["betas"] == (0.9, 0.999)
