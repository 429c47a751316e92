"""The loop over a stack is held to a plain loop over single networks."""

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, log_loss
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.config.component import Component
from pipeline.config.sections import Model, Training
from pipeline.data.dependence import Dependence
from pipeline.models.metrics import ACCURACY, LOSS, Metric
from pipeline.models.mlp import MLP, StackedMLP
from pipeline.models.task import Classification
from pipeline.training import loop, stacks
from pipeline.training.batches import Arrays, Batches, Random, Rows, validation_shares
from pipeline.training.engines import COMPILED
from pipeline.training.layouts import Layout, native_plan, plan, whole_trials
from pipeline.training.loop import fit
from pipeline.training.members import Member, Settings, stack_key
from pipeline.training.outcomes import Fit
from pipeline.training.stacks import Stack
from tests.models.test_mlp import Linear, network

FLOAT64 = torch.float64


@dataclass(frozen=True)
class Split:
    training: npt.NDArray[np.int64]
    validation: npt.NDArray[np.int64]


def split_of(validation: npt.NDArray[np.int64], rows: int) -> Split:
    """The split that trains on all other rows."""
    return Split(np.setdiff1d(np.arange(rows), validation), np.sort(validation))


def arrays(labels: int = 2, rows: int = 61, splits: int = 3) -> Arrays:
    """Noisy labels of a linear rule; folds of unequal sizes."""
    random_numbers = np.random.default_rng(0)
    raw = random_numbers.normal(size=(rows, 4))
    scores = raw @ random_numbers.normal(size=(4, labels)) + random_numbers.normal(
        size=(rows, labels)
    )
    parts = np.array_split(random_numbers.permutation(rows), splits)
    folds = [split_of(part, rows) for part in parts]
    y = scores.argmax(1).astype(np.int64)
    x = Linear(splits, 4, 3)(torch.from_numpy(raw)).detach()
    return Arrays(x, torch.from_numpy(y), folds, Classification(labels))


KEYS = {"hidden": (5, 4), "batch_size": 16, "epochs": 100, "patience": None, "device": "cpu"}
KEYS |= {"label_smoothing": 0.0}


def member(split: int, optimizer: str, arguments: dict[str, Any] | None = None, **keys: Any) -> Any:
    """`keys` are those of the sections `model` and `training`; without patience, as a rule."""
    model, training = (
        section(**{key: v for key, v in {**KEYS, **keys}.items() if key in section.model_fields})
        for section in (Model, Training)
    )
    return Member(split, Component(optimizer, arguments or {}, ""), model, training)


def changed(members: Sequence[Member], **keys: Any) -> list[Member]:
    """The members with other values of some keys of their sections."""

    def section(before: Any) -> Any:
        fields = type(before).model_fields
        return before.model_copy(update={k: v for k, v in keys.items() if k in fields})

    return [replace(m, model=section(m.model), training=section(m.training)) for m in members]


def stack_of(data: Arrays, members: list[Member], settings: Settings) -> tuple[Rows, Stack]:
    """All members in one stack, in this order."""
    cpu, model = torch.device("cpu"), members[0].model
    random_numbers = Random(settings.seed, cpu)
    rows = Rows(data, members[0].training.batch_size, cpu, settings.dtype)
    architecture = data.architecture(model, members[0].training)
    initial = architecture.initial(len(data.splits), settings.seed).to(settings.dtype)
    positions = np.arange(len(members))
    return rows, Stack(members, positions, architecture, data.task, initial, random_numbers, 1)


def batches_of(rows: Rows, stack: Stack) -> Batches:
    return Batches(rows, stack.split, stack.random, stack.units, stack.rows_last)


SETTINGS = Settings(seed=3, dtype=FLOAT64)
MEMBERS = [
    member(0, "Adam", {"lr": 0.02}, epochs=12),
    member(1, "SGD", {"lr": 0.3, "momentum": 0.9, "nesterov": True}, epochs=9),
    member(2, "Rprop", {"lr": 0.01}, epochs=5),
    member(0, "AdamW", {"lr": 0.05, "amsgrad": True}, epochs=12),
    member(1, "Adam", {"lr": 0.001}, epochs=7),
    member(2, "SGD", {"lr": 0.1}, epochs=12),
    member(1, "Adafactor", {}, epochs=9),
]


def members_for(batch_norm: bool, **keys: Any) -> list[Member]:
    """A bias before batch norm has no gradient but rounding, which these two rules blow up.

    The others do so a little: with batch norm a test allows 1e-7.
    """
    left_out = ("Rprop", "Adafactor") if batch_norm else ()
    some = [m for m in MEMBERS if m.optimizer.name not in left_out]
    return changed(some, batch_norm=batch_norm, **keys)


@dataclass(frozen=True)
class Plain:
    """What the plain loop finds: curves, and after each epoch the network's weights [P], its
    losses on the validation rows [V] and which of these are right [V]."""

    curves: list[tuple[float, float, float]]
    weights: list[Tensor]
    losses: list[Tensor]
    hits: list[Tensor]

    def best(self, rows: list[int], criterion: Metric) -> int:
        """The epoch, from 0, that is best for these of the validation rows."""
        sums = [float(losses[rows].sum()) for losses in self.losses]
        hits = [int(right[rows].sum()) if criterion == ACCURACY else 0 for right in self.hits]
        return min(range(len(sums)), key=lambda epoch: (-hits[epoch], sums[epoch]))


def plain_loop(data: Arrays, member: Member, settings: Settings) -> Plain:
    """The lecture's loop over one network."""
    architecture = data.architecture(member.model, member.training)
    drawn = Random(settings.seed, torch.device("cpu"))
    initial = architecture.initial(len(data.splits), settings.seed)
    model = network(architecture, initial[member.split])
    spec = member.optimizer
    optimizer = getattr(torch.optim, spec.name)(model.parameters(), **spec.arguments)
    x, split = data.x[member.split].double(), data.splits[member.split]
    x_val, y_val = x[split.validation], data.y[split.validation]
    smallest = min(len(one.training) for one in data.splits)
    count = -(-smallest // member.training.batch_size)
    size = smallest // count
    two = data.task.outputs == 1

    def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
        if two:
            logits = torch.cat((torch.zeros_like(logits), logits), dim=1)
        return nn.functional.cross_entropy(logits, y, reduction="none")

    found = Plain([], [], [], [])
    for _ in range(member.training.epochs):
        orders = [torch.randperm(len(s.training), generator=drawn.order) for s in data.splits]
        order = torch.from_numpy(split.training)[orders[member.split]]
        losses = []
        model.train()
        for batch in order[: count * size].split(size):
            optimizer.zero_grad()
            logits = model(x[batch])
            loss = cross_entropy(logits, data.y[batch]).mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        model.eval()
        logits = model(x_val).detach()
        label = (logits.squeeze(1) > 0).long() if two else logits.argmax(dim=1)
        row_losses = cross_entropy(logits, y_val)
        val_loss = row_losses.mean().item()
        found.curves.append((float(np.mean(losses)), val_loss, accuracy_score(y_val, label)))
        found.weights.append(nn.utils.parameters_to_vector(model.parameters()).detach().clone())
        found.losses.append(row_losses)
        found.hits.append(label == y_val)
    return found


def curves_of(one: Fit) -> npt.NDArray[np.float64]:
    return np.stack([one.curves[name] for name in ("train_loss", "val_loss", "val_accuracy")], 1)


def assert_same(found: Fit, expected: Fit, tolerance: float = 1e-9) -> None:
    assert (found.state, found.reason, found.best_epoch) == (
        expected.state,
        expected.reason,
        expected.best_epoch,
    )
    np.testing.assert_allclose(curves_of(found), curves_of(expected), atol=tolerance, rtol=0)
    torch.testing.assert_close(found.weights, expected.weights, atol=tolerance, rtol=0)


@pytest.mark.parametrize(
    ("labels", "batch_norm", "criterion"),
    [
        (2, False, LOSS),
        (4, False, LOSS),
        (2, True, LOSS),
        (2, False, ACCURACY),
        (4, True, ACCURACY),
    ],
)
def test_each_member_is_trained_as_a_plain_loop_trains_it(
    labels: int, batch_norm: bool, criterion: Metric
) -> None:
    data = arrays(labels)
    settings = Settings(dtype=FLOAT64, cross_fit=True, criterion=criterion)
    members = members_for(batch_norm, activation="tanh")
    atol = 1e-7 if batch_norm else 1e-9
    differ = 0
    for member, found in zip(members, fit(data, members, settings), strict=True):
        plain = plain_loop(data, member, settings)
        np.testing.assert_allclose(curves_of(found), np.array(plain.curves), atol=atol, rtol=0)
        rows = data.splits[member.split].validation
        everything = list(range(len(rows)))
        assert found.best_epoch == 1 + plain.best(everything, criterion)
        extreme = {LOSS: min, ACCURACY: max}[criterion]
        assert found.scores[criterion.name] == extreme(found.curves[criterion.curve])
        for metric in (LOSS, ACCURACY):
            assert found.scores[metric.name] == found.curves[metric.curve][found.best_epoch - 1]
        assert found.state == "complete"

        size = len(plain.weights[0])
        weights = plain.weights[found.best_epoch - 1]
        torch.testing.assert_close(found.weights[:size], weights, atol=atol, rtol=0)
        by_label = sorted(range(len(rows)), key=lambda place: data.y[rows[place]].item())
        assert found.cross_fitted is not None
        for part, kept in enumerate(found.cross_fitted):
            others = [place for i, place in enumerate(by_label) if i % 5 != part]
            torch.testing.assert_close(
                kept[:size], plain.weights[plain.best(others, criterion)], atol=atol, rtol=0
            )
            differ += not torch.equal(kept, found.weights)
    assert differ > 0


@pytest.mark.parametrize("batch_norm", [False, True])
def test_members_added_removed_or_reordered_change_no_other(batch_norm: bool) -> None:
    data, settings = arrays(), Settings(dtype=FLOAT64)
    members = members_for(batch_norm, activation="silu")
    keys = {"activation": "silu", "batch_norm": batch_norm}
    members.append(member(0, "RAdam", {}, epochs=12, dropout=0.3, **keys))
    fits = fit(data, members, settings)
    order = [4, 0, len(members) - 1, 3]
    some = fit(data, [members[k] for k in order], settings)
    for position, found in zip(order, some, strict=True):
        assert_same(found, fits[position], 1e-7 if batch_norm else 1e-9)
    for one, expected in zip(members, fits, strict=True):
        alone = fit(data, [one], settings)[0]
        assert_same(alone, expected, 1e-7 if batch_norm else 1e-9)


def test_the_same_call_gives_the_same_bits_and_another_seed_others() -> None:
    data = arrays()
    members = [*MEMBERS, member(0, "Adam", {}, epochs=5, dropout=0.5)]
    settings = Settings(seed=0)
    first, second = fit(data, members, settings), fit(data, members, settings)
    for a, b in zip(first, second, strict=True):
        assert np.array_equal(curves_of(a), curves_of(b))
        assert torch.equal(a.weights, b.weights)
    others = fit(data, members, Settings(seed=1))
    for a, b in zip(first, others, strict=True):
        assert not torch.equal(a.weights, b.weights)


def test_the_global_generators_are_left_alone() -> None:
    numpy_state = np.random.get_state
    before = torch.get_rng_state(), numpy_state()[1].copy(), random.getstate()
    members = [member(0, "Adam", epochs=2, dropout=0.5), member(1, "ASGD", epochs=2)]
    fit(arrays(), members, SETTINGS)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(numpy_state()[1], before[1])
    assert random.getstate() == before[2]


def test_members_of_one_split_share_their_start_and_their_batches() -> None:
    members = [member(1, "SGD", {"lr": 0.1}, epochs=3, dropout=0.2)] * 2
    one, other = fit(arrays(), members, SETTINGS)
    assert_same(one, other, tolerance=0)
    frozen = [member(1, name, {"lr": 0.0}, epochs=1) for name in ("SGD", "Adam")]
    sgd, adam = fit(arrays(), frozen, SETTINGS)
    assert torch.equal(sgd.weights, adam.weights)


def test_dropout_of_a_neighbour_changes_nothing() -> None:
    data = arrays()
    plain, dropped = MEMBERS[0], member(0, "Adam", {"lr": 0.02}, epochs=12, dropout=0.4)
    together = fit(data, [plain, dropped], SETTINGS)
    assert_same(together[0], fit(data, [plain], SETTINGS)[0])
    assert not torch.allclose(together[0].weights, together[1].weights)


def test_patience_ends_a_member_at_its_own_epoch() -> None:
    data = arrays()
    whole = [member(k % 3, "Adam", {"lr": 0.05 * (k + 1)}, epochs=40) for k in range(6)]
    impatient = changed(whole, patience=4)
    ends = set()
    for full, stopped in zip(
        fit(data, whole, SETTINGS), fit(data, impatient, SETTINGS), strict=True
    ):
        best, end, losses = 1, 40, full.curves["val_loss"]
        for epoch in range(1, 41):
            if losses[epoch - 1] < losses[best - 1]:
                best = epoch
            if epoch - best >= 4:
                end = epoch
                break
        ends.add(end)
        assert (len(stopped.curves["val_loss"]), stopped.best_epoch) == (end, best)
        np.testing.assert_allclose(curves_of(stopped), curves_of(full)[:end], atol=1e-9)
        assert stopped.state == "complete"
    assert len(ends) > 1


@pytest.mark.parametrize("labels", [2, 4])
def test_the_kept_weights_have_the_scores_that_are_told(labels: int) -> None:
    data = arrays(labels)
    settings, keys = Settings(dtype=FLOAT64), {"hidden": (6,), "batch_norm": True, "epochs": 15}
    members = [member(k, "Adam", {"lr": 0.1}, **keys) for k in range(3)]
    architecture = data.architecture(members[0].model, members[0].training)
    for split, found in enumerate(fit(data, members, settings)):
        row = found.weights.unsqueeze(0)
        parameters = row[:, : architecture.size].contiguous()
        kept = StackedMLP(architecture, parameters, torch.zeros(1))
        kept.statistics.copy_(row[:, architecture.size :])
        rows = data.splits[split].validation
        logits = kept(data.x[split][rows].double().T.unsqueeze(0))[0].detach().T
        logits = torch.cat((0 * logits, logits), dim=1) if labels == 2 else logits
        probabilities, y = logits.softmax(dim=1).numpy(), data.y[rows].numpy()
        assert log_loss(y, probabilities, labels=range(labels)) == pytest.approx(
            found.scores["loss"]
        )
        assert accuracy_score(y, probabilities.argmax(1)) == pytest.approx(found.scores["accuracy"])


def test_a_member_that_breaks_fails_alone_and_says_why() -> None:
    data = arrays()
    broken = [
        member(0, "SGD", {"lr": 1e200}, epochs=12),
        member(1, "Adam", {"lr": 1e300}, epochs=12),
        member(2, "Rprop", {"lr": 1e300, "step_sizes": (1e-6, 1e300)}, epochs=12),
    ]
    fits = fit(data, [*broken, *MEMBERS], SETTINGS)
    for found in fits[:3]:
        assert found.state == "failed"
        assert found.reason is not None
        assert found.reason.endswith(f" was not finite in epoch {len(curves_of(found)) + 1}")
        assert np.isfinite(curves_of(found)).all()
        assert found.weights.isfinite().all()
        assert np.isfinite(list(found.scores.values())).all() == (found.best_epoch > 0)
    for found, expected in zip(fits[3:], fit(data, MEMBERS, SETTINGS), strict=True):
        assert_same(found, expected)


def test_a_broken_training_row_fails_the_members_that_see_it() -> None:
    data = arrays()
    row = int(data.splits[0].validation[0])
    x = data.x.double().clone()
    x[1:, row, 0] = torch.inf
    spoilt = Arrays(x, data.y, data.splits, data.task)
    # The sigmoid of infinity is finite, its gradient is not; one batch holds nearly all rows.
    for hidden, what in (((), "the training loss"), ((4,), "a gradient")):
        keys = {"hidden": hidden, "activation": "sigmoid", "batch_size": 1000}
        members = [member(k, "Adam", epochs=3, **keys) for k in range(3)]
        fits = fit(spoilt, members, Settings(dtype=FLOAT64))
        assert [one.state for one in fits] == ["complete", "failed", "failed"]
        assert what in {(one.reason or "").partition(" was not finite in epoch")[0] for one in fits}


def test_watch_sees_the_members_that_ran_and_drops_some() -> None:
    data, seen = arrays(), []

    def watch(epoch: int, scores: Mapping[str, Any], who: Any) -> Collection[int]:
        seen.append((epoch, scores, who.tolist()))
        return [0, 3, 5] if epoch == 6 else [2] if epoch == 5 else []

    fits = fit(data, MEMBERS, SETTINGS, watch)
    expected = fit(data, MEMBERS, SETTINGS)
    states = ["dropped", "complete", "complete", "dropped", "complete", "dropped", "complete"]
    assert [one.state for one in fits] == states
    for k, (found, full) in enumerate(zip(fits, expected, strict=True)):
        epochs = 6 if k in (0, 3, 5) else MEMBERS[k].training.epochs
        np.testing.assert_allclose(curves_of(found), curves_of(full)[:epochs], atol=1e-9)
        assert found.best_epoch == 1 + found.curves["val_loss"].argmin()
    assert [who for *_, who in seen] == [
        [k for k in range(7) if epoch <= (6 if k in (0, 3, 5) else MEMBERS[k].training.epochs)]
        for epoch in range(1, 10)
    ]
    for epoch, scores, who in seen:
        assert scores.keys() == {"accuracy", "loss"}
        for position, k in enumerate(who):
            for name, values in scores.items():
                assert values[position] == fits[k].curves[f"val_{name}"][epoch - 1]


@pytest.mark.parametrize("batch_size", [1, 7, 16, 40, 1000])
def test_an_epoch_is_batches_of_one_size_and_no_row_twice(batch_size: int) -> None:
    data = arrays()
    members = [member(k, "SGD", hidden=(), batch_size=batch_size) for k in range(3)]
    rows_of_data, stack = stack_of(data, members, Settings())
    epochs = []
    for _ in range(2):
        batches = batches_of(rows_of_data, stack)
        assert len(batches) == -(-40 // batch_size)
        rows: list[Tensor] = []
        for x, y, _ in batches:
            assert x.shape == (3, 3, 40 // len(batches))
            assert y.shape == (3, 40 // len(batches))
            rows.append(x)
        epochs.append(torch.cat(rows, dim=2))
    for split, found in enumerate(epochs[0]):
        own = {tuple(row.tolist()) for row in data.x[split][data.splits[split].training]}
        drawn = [tuple(row.tolist()) for row in found.T]
        assert len(set(drawn)) == len(drawn)
        assert own.issuperset(drawn)
    assert not torch.equal(epochs[0], epochs[1])


@pytest.mark.parametrize("labels", [2, 4])
def test_validation_in_chunks_is_the_same(labels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = arrays(labels)
    whole = fit(data, MEMBERS, SETTINGS)
    monkeypatch.setattr(loop, "VALIDATION_ELEMENTS", 100)
    for found, expected in zip(fit(data, MEMBERS, SETTINGS), whole, strict=True):
        assert_same(found, expected)


class Operations(TorchDispatchMode):
    """Counts operations, and those that make the host wait for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.count, self.waits = 0, []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        if func.name() in ("aten::_local_scalar_dense", "aten::nonzero", "aten::equal"):
            self.waits.append(func.name())
        return func(*args, **(kwargs or {}))


def test_a_step_is_as_many_operations_for_many_members_and_waits_for_none() -> None:
    rules = ["SGD", "Adagrad", "RMSprop", "Adam", "AdamW", "NAdam", "RAdam", "Adamax", "Adadelta"]
    counts = []
    for copies in (1, 2, 7):
        members = [member(k % 3, rule, dropout=0.1) for rule in rules for k in range(copies)]
        rows, stack = stack_of(arrays(), members, SETTINGS)
        batches = batches_of(rows, stack)
        with Operations() as operations:
            stack.train(batches, loop.step)
        assert operations.waits == []
        counts.append(operations.count)
    assert all(a == b for a, b in pairwise(counts))


def test_no_members_no_fits() -> None:
    assert fit(arrays(), [], SETTINGS) == []


SECTIONS = {"model": Model, "training": Training}


@pytest.mark.parametrize("key", [f"{s}.{k}" for s, of in SECTIONS.items() for k in of.model_fields])
def test_members_of_a_stack_differ_in_some_keys_only(key: str) -> None:
    """A key that is new parts stacks until somebody makes it a member's own."""
    of_members: dict[str, Any] = {
        "model.dropout": 0.5,
        "training.epochs": 3,
        "training.patience": 1,
        "training.schedule": None,
    }
    other = changed(MEMBERS[:1], **{key.partition(".")[2]: of_members.get(key, "another value")})
    keys = {stack_key(member.model, member.training) for member in (MEMBERS[0], *other)}
    assert len(keys) == (1 if key in of_members else 2)
    if key in of_members:
        assert len(fit(arrays(), [MEMBERS[0], *other], SETTINGS)) == 2


def test_threads_are_given_back_and_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    alone = fit(arrays(), MEMBERS, SETTINGS)
    monkeypatch.setattr(stacks, "plan", lambda *_: Layout(stacks=3, workers=2, threads=1))
    for found, expected in zip(fit(arrays(), MEMBERS, SETTINGS), alone, strict=True):
        assert_same(found, expected)
    assert torch.get_num_threads() == before


def test_the_plan_follows_the_work() -> None:
    cpu, before = torch.device("cpu"), torch.get_num_threads()
    small, wide = MLP(9, (16, 8), 1), MLP(100, (256, 128), 1)
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            assert plan(40, small, 60, cpu) == Layout(1, 1, 1)
            assert plan(128, MLP(9, (128, 64), 1), 60, cpu) == Layout(6, count, 1)
            assert plan(7, wide, 1000, cpu) == Layout(7, count, 1)
            assert plan(1, wide, 1000, cpu) == Layout(1, 1, count)
        assert native_plan(8, small, 1200) == Layout(1, 1, 1)
        assert native_plan(400, small, 1200) == Layout(2, 2, 1)
        assert native_plan(1, wide, 100_000) == Layout(1, 1, 1)
    finally:
        torch.set_num_threads(before)


@given(
    trials=st.integers(1, 64),
    splits=st.integers(1, 20),
    work=st.integers(1, 10**12),
    least=st.integers(1, 10**12),
)
def test_runs_of_trials_are_whole_and_stay_one_by_themselves(
    trials: int, splits: int, work: int, least: int
) -> None:
    members = trials * splits
    runs = whole_trials(members, splits, work, least)
    assert [place for run in runs for place in run] == list(range(members))
    for run in runs:
        assert len(run) % splits == 0
        assert whole_trials(len(run), splits, work, least) == [range(len(run))]


KINDS = (
    {"activation": "gelu"},
    {"dropout": 0.3},
    {"activation": "sigmoid", "batch_norm": True},
    {"activation": "silu", "clip_norm": 1.0},
    {"activation": "silu", "clip_norm": 1.0, "hidden": (256, 256), "batch_size": 64},
)


@pytest.mark.parametrize("keys", KINDS)
@pytest.mark.parametrize("rows", [301, pytest.param(6007, marks=pytest.mark.slow)])
def test_a_shard_has_the_bits_that_it_has_among_all(keys: dict[str, Any], rows: int) -> None:
    """On any number of threads; what the compiled program trains in any company."""
    data = arrays(3, rows)
    data = replace(data, x=data.x.float())
    rules = ["SGD", "Adam", "RMSprop", "NAdam", "Adam", "AdamW"]
    given_ = {"lr": 0.01, "schedule": Component("CosineAnnealingLR", {})}
    members = [member(k, rule, given_, **keys) for rule in rules for k in range(3)]
    members = changed(members, epochs=4)
    settings, before = Settings(seed=1, cross_fit=True), torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        expected = fit(data, members, settings)
        torch.set_num_threads(1)
        parts = stacks.shards(data, members, settings, loop.step)
        if expected[0].engine == COMPILED:
            parts = [range(3), range(3, 12), range(12, 18)]
        found = [one for run in parts for one in fit(data, members[run.start : run.stop], settings)]
    finally:
        torch.set_num_threads(before)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.weights, other.weights)
        assert torch.equal(one.cross_fitted, other.cross_fitted)  # type: ignore[arg-type]
        assert one.curves.keys() == other.curves.keys()
        assert all(np.array_equal(one.curves[name], other.curves[name]) for name in one.curves)


def test_a_further_metric_is_measured_beside_the_others() -> None:
    def error(logits: Tensor, y: Tensor, weights: Tensor) -> Tensor:
        wrong = (logits.argmax(dim=-1) != y) * weights
        return wrong.sum(dim=-1) / weights.sum(dim=-1)

    further = Metric("error", greater_is_better=False, is_share=True, score=error)
    for labels in (2, 3):
        data = arrays(labels)
        task = Classification(labels, (*Classification(labels).metrics, further))
        members = [member(k, "Adam", {"lr": 0.02}, epochs=5) for k in range(3)]
        for trained in fit(replace(data, task=task), members, Settings()):
            np.testing.assert_allclose(
                trained.curves["val_error"], 1 - trained.curves["val_accuracy"], atol=1e-12
            )
            assert trained.scores["error"] == pytest.approx(1 - trained.scores["accuracy"])


@pytest.mark.parametrize("groups", [1, 2, 9])
def test_every_share_has_its_epoch_chosen_by_other_rows(groups: int) -> None:
    """Also where all validation rows are of one group, since a large one may fill a fold."""
    data = arrays()
    of_rows = np.arange(len(data.y)) % groups
    held = data.splits[0]
    shares = validation_shares(held, replace(data, dependence=Dependence(groups=of_rows)))
    assert sorted(np.concatenate(shares)) == sorted(held.validation)
    assert sum(len(share) > 0 for share in shares) >= 2
    if groups > 1:
        assert all(set(of_rows[a]).isdisjoint(of_rows[b]) for a, b in combinations(shares, 2))
