"""The loop over a stack is held to a plain loop over single networks."""

import random
from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.models.mlp import Architecture, StackedMLP, initial_parameters
from pipeline.training import loop as training
from pipeline.training.batches import Random, Rows
from pipeline.training.executors import Layout, native_plan, plan
from pipeline.training.loop import Arrays, Fit, Member, Settings, Stack, fit, train
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
    return Arrays.build(Linear(splits, 4, 3), raw, scores.argmax(1).astype(np.int64), folds, labels)


def stack_of(data: Arrays, members: list[Member], settings: Settings) -> Stack:
    """All members in one stack, in this order."""
    rows = Rows(data, torch.device("cpu"), settings.dtype)
    return Stack(data, rows, members, settings, np.arange(len(members)))


SETTINGS = Settings(hidden=(5, 4), batch_size=16, seed=3, dtype=FLOAT64)
MEMBERS = [
    Member(0, "Adam", {"lr": 0.02}, epochs=12),
    Member(1, "SGD", {"lr": 0.3, "momentum": 0.9, "nesterov": True}, epochs=9),
    Member(2, "Rprop", {"lr": 0.01}, epochs=5),
    Member(0, "AdamW", {"lr": 0.05, "amsgrad": True}, epochs=12),
    Member(1, "Adam", {"lr": 0.001}, epochs=7),
    Member(2, "SGD", {"lr": 0.1}, epochs=12),
    Member(1, "Adafactor", {}, epochs=9),
]


def members_for(batch_norm: bool) -> list[Member]:
    """A bias before batch norm has no gradient but rounding, which these two rules blow up.

    The others do so a little: with batch norm a test allows 1e-7.
    """
    return [m for m in MEMBERS if not (batch_norm and m.optimizer in ("Rprop", "Adafactor"))]


@dataclass(frozen=True)
class Plain:
    """What the plain loop finds: curves, and after each epoch the network's weights [P] and its
    losses on the validation rows [V]."""

    curves: list[tuple[float, float, float]]
    weights: list[Tensor]
    losses: list[Tensor]

    def kept(self, rows: list[int]) -> Tensor:
        """The weights after the epoch that is best for these of the validation rows."""
        sums = [float(losses[rows].sum()) for losses in self.losses]
        return self.weights[int(np.argmin(sums))]


def plain_loop(data: Arrays, member: Member, settings: Settings) -> Plain:
    """The lecture's loop over one network."""
    architecture = data.architecture(settings)
    drawn = Random(settings.seed, torch.device("cpu"))
    initial = initial_parameters(architecture, len(data.splits), drawn.weights)
    model = network(architecture, initial[member.split])
    optimizer = getattr(torch.optim, member.optimizer)(model.parameters(), **member.arguments)
    x, split = data.x[member.split].double(), data.splits[member.split]
    x_val, y_val = x[split.validation], data.y[split.validation]
    smallest = min(len(one.training) for one in data.splits)
    count = -(-smallest // settings.batch_size)
    size = smallest // count
    two = data.labels == 2

    def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
        if two:
            logits = torch.cat((torch.zeros_like(logits), logits), dim=1)
        return nn.functional.cross_entropy(logits, y, reduction="none")

    found = Plain([], [], [])
    for _ in range(member.epochs):
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
    return found


def curves_of(one: Fit) -> npt.NDArray[np.float64]:
    return np.stack((one.train_loss, one.val_loss, one.val_accuracy), axis=1)


def assert_same(found: Fit, expected: Fit, tolerance: float = 1e-9) -> None:
    assert (found.state, found.reason, found.best_epoch) == (
        expected.state,
        expected.reason,
        expected.best_epoch,
    )
    np.testing.assert_allclose(curves_of(found), curves_of(expected), atol=tolerance, rtol=0)
    torch.testing.assert_close(found.weights, expected.weights, atol=tolerance, rtol=0)


@pytest.mark.parametrize(("labels", "batch_norm"), [(2, False), (4, False), (2, True)])
def test_each_member_is_trained_as_a_plain_loop_trains_it(labels: int, batch_norm: bool) -> None:
    data = arrays(labels)
    settings = Settings(
        hidden=(5, 4),
        activation="tanh",
        batch_norm=batch_norm,
        batch_size=16,
        dtype=FLOAT64,
        cross_fit=True,
    )
    members, atol = members_for(batch_norm), 1e-7 if batch_norm else 1e-9
    differ = 0
    for member, found in zip(members, fit(data, members, settings), strict=True):
        plain = plain_loop(data, member, settings)
        np.testing.assert_allclose(curves_of(found), np.array(plain.curves), atol=atol, rtol=0)
        assert found.best_epoch == 1 + int(np.argmin([values[1] for values in plain.curves]))
        assert found.loss == found.val_loss.min()
        assert found.accuracy == found.val_accuracy[found.best_epoch - 1]
        assert found.state == "complete"

        size = len(plain.weights[0])
        rows = data.splits[member.split].validation
        weights = plain.kept(list(range(len(rows))))
        torch.testing.assert_close(found.weights[:size], weights, atol=atol, rtol=0)
        by_label = sorted(range(len(rows)), key=lambda place: data.y[rows[place]].item())
        assert found.cross_fitted is not None
        for part, kept in enumerate(found.cross_fitted):
            others = [place for i, place in enumerate(by_label) if i % 5 != part]
            torch.testing.assert_close(kept[:size], plain.kept(others), atol=atol, rtol=0)
            differ += not torch.equal(kept, found.weights)
    assert differ > 0


@pytest.mark.parametrize("batch_norm", [False, True])
def test_members_added_removed_or_reordered_change_no_other(batch_norm: bool) -> None:
    data, settings = arrays(), Settings((5, 4), "silu", batch_norm, 16, dtype=FLOAT64)
    members = [*members_for(batch_norm), Member(0, "RAdam", {}, epochs=12, dropout=0.3)]
    fits = fit(data, members, settings)
    order = [4, 0, len(members) - 1, 3]
    some = fit(data, [members[k] for k in order], settings)
    for position, found in zip(order, some, strict=True):
        assert_same(found, fits[position], 1e-7 if batch_norm else 1e-9)
    for member, expected in zip(members, fits, strict=True):
        alone = fit(data, [member], settings)[0]
        assert_same(alone, expected, 1e-7 if batch_norm else 1e-9)


def test_the_same_call_gives_the_same_bits_and_another_seed_others() -> None:
    data = arrays()
    members = [*MEMBERS, Member(0, "Adam", {}, epochs=5, dropout=0.5)]
    settings = Settings((5, 4), seed=0, batch_size=16)
    first, second = fit(data, members, settings), fit(data, members, settings)
    for a, b in zip(first, second, strict=True):
        assert np.array_equal(curves_of(a), curves_of(b))
        assert torch.equal(a.weights, b.weights)
    others = fit(data, members, Settings((5, 4), seed=1, batch_size=16))
    for a, b in zip(first, others, strict=True):
        assert not torch.equal(a.weights, b.weights)


def test_the_global_generators_are_left_alone() -> None:
    numpy_state = np.random.get_state
    before = torch.get_rng_state(), numpy_state()[1].copy(), random.getstate()
    members = [Member(0, "Adam", epochs=2, dropout=0.5), Member(1, "ASGD", epochs=2)]
    fit(arrays(), members, SETTINGS)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(numpy_state()[1], before[1])
    assert random.getstate() == before[2]


def test_members_of_one_split_share_their_start_and_their_batches() -> None:
    members = [Member(1, "SGD", {"lr": 0.1}, epochs=3, dropout=0.2)] * 2
    one, other = fit(arrays(), members, SETTINGS)
    assert_same(one, other, tolerance=0)
    frozen = [Member(1, "SGD", {"lr": 0.0}, 1), Member(1, "Adam", {"lr": 0.0}, 1)]
    sgd, adam = fit(arrays(), frozen, SETTINGS)
    assert torch.equal(sgd.weights, adam.weights)


def test_dropout_of_a_neighbour_changes_nothing() -> None:
    data = arrays()
    plain, dropped = MEMBERS[0], Member(0, "Adam", {"lr": 0.02}, epochs=12, dropout=0.4)
    together = fit(data, [plain, dropped], SETTINGS)
    assert_same(together[0], fit(data, [plain], SETTINGS)[0])
    assert not torch.allclose(together[0].weights, together[1].weights)


def test_patience_ends_a_member_at_its_own_epoch() -> None:
    data = arrays()
    whole = [Member(k % 3, "Adam", {"lr": 0.05 * (k + 1)}, epochs=40) for k in range(6)]
    impatient = [Member(m.split, m.optimizer, m.arguments, 40, patience=4) for m in whole]
    ends = set()
    for full, stopped in zip(
        fit(data, whole, SETTINGS), fit(data, impatient, SETTINGS), strict=True
    ):
        best, end = 1, 40
        for epoch in range(1, 41):
            if full.val_loss[epoch - 1] < full.val_loss[best - 1]:
                best = epoch
            if epoch - best >= 4:
                end = epoch
                break
        ends.add(end)
        assert (len(stopped.val_loss), stopped.best_epoch) == (end, best)
        np.testing.assert_allclose(curves_of(stopped), curves_of(full)[:end], atol=1e-9)
        assert stopped.state == "complete"
    assert len(ends) > 1


@pytest.mark.parametrize("labels", [2, 4])
def test_the_kept_weights_have_the_scores_that_are_told(labels: int) -> None:
    data = arrays(labels)
    settings = Settings((6,), batch_norm=True, batch_size=16, dtype=FLOAT64)
    architecture = data.architecture(settings)
    members = [Member(k, "Adam", {"lr": 0.1}, epochs=15) for k in range(3)]
    for member, found in zip(members, fit(data, members, settings), strict=True):
        row = found.weights.unsqueeze(0)
        kept = StackedMLP(
            architecture,
            row[:, : architecture.size].contiguous(),
            torch.zeros(1),
            row[:, architecture.size :].contiguous(),
        )
        rows = data.splits[member.split].validation
        logits = kept(data.x[member.split][rows].double().T.unsqueeze(0))[0].detach().T
        logits = torch.cat((0 * logits, logits), dim=1) if labels == 2 else logits
        probabilities, y = logits.softmax(dim=1).numpy(), data.y[rows].numpy()
        assert log_loss(y, probabilities, labels=range(labels)) == pytest.approx(found.loss)
        assert accuracy_score(y, probabilities.argmax(1)) == pytest.approx(found.accuracy)


def test_a_member_that_breaks_fails_alone_and_says_why() -> None:
    data = arrays()
    broken = [
        Member(0, "SGD", {"lr": 1e200}, epochs=12),
        Member(1, "Adam", {"lr": 1e300}, epochs=12),
        Member(2, "Rprop", {"lr": 1e300, "step_sizes": (1e-6, 1e300)}, epochs=12),
    ]
    fits = fit(data, [*broken, *MEMBERS], SETTINGS)
    for found in fits[:3]:
        assert found.state == "failed"
        assert found.reason is not None
        assert found.reason.endswith(f" was not finite in epoch {len(found.val_loss) + 1}")
        assert np.isfinite(curves_of(found)).all()
        assert found.weights.isfinite().all()
        assert np.isfinite(found.loss) == (found.best_epoch > 0)
    for found, expected in zip(fits[3:], fit(data, MEMBERS, SETTINGS), strict=True):
        assert_same(found, expected)


def test_a_broken_training_row_fails_the_members_that_see_it() -> None:
    data = arrays()
    row = int(data.splits[0].validation[0])
    x = data.x.double().clone()
    x[1:, row, 0] = torch.inf
    spoilt = Arrays(x, data.y, data.splits, data.labels)
    members = [Member(k, "Adam", epochs=3) for k in range(3)]
    # The sigmoid of infinity is finite, its gradient is not; one batch holds nearly all rows.
    for hidden, what in (((), "the training loss"), ((4,), "a gradient")):
        settings = Settings(hidden, "sigmoid", batch_size=1000, dtype=FLOAT64)
        fits = fit(spoilt, members, settings)
        assert [one.state for one in fits] == ["complete", "failed", "failed"]
        assert what in {(one.reason or "").partition(" was not finite in epoch")[0] for one in fits}


def test_watch_sees_the_members_that_ran_and_drops_some() -> None:
    data, seen = arrays(), []

    def watch(epoch: int, losses: Tensor, accuracies: Tensor, who: Tensor) -> Collection[int]:
        seen.append((epoch, losses, accuracies, who.tolist()))
        return [0, 3, 5] if epoch == 6 else [2] if epoch == 5 else []

    fits = fit(data, MEMBERS, SETTINGS, watch)
    expected = fit(data, MEMBERS, SETTINGS)
    states = ["dropped", "complete", "complete", "dropped", "complete", "dropped", "complete"]
    assert [one.state for one in fits] == states
    for k, (found, full) in enumerate(zip(fits, expected, strict=True)):
        epochs = 6 if k in (0, 3, 5) else MEMBERS[k].epochs
        np.testing.assert_allclose(curves_of(found), curves_of(full)[:epochs], atol=1e-9)
        assert found.best_epoch == 1 + found.val_loss.argmin()
    assert [who for *_, who in seen] == [
        [k for k in range(7) if epoch <= (6 if k in (0, 3, 5) else MEMBERS[k].epochs)]
        for epoch in range(1, 10)
    ]
    for epoch, losses, accuracies, who in seen:
        for position, k in enumerate(who):
            assert losses[position] == fits[k].val_loss[epoch - 1]
            assert accuracies[position] == fits[k].val_accuracy[epoch - 1]


@pytest.mark.parametrize("batch_size", [1, 7, 16, 40, 1000])
def test_an_epoch_is_batches_of_one_size_and_no_row_twice(batch_size: int) -> None:
    data = arrays()
    stack = stack_of(
        data, [Member(k, "SGD") for k in range(3)], Settings((), batch_size=batch_size)
    )
    epochs = []
    for _ in range(2):
        batches = stack.batches()
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
    monkeypatch.setattr(training, "VALIDATION_ELEMENTS", 100)
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


def test_a_step_is_as_many_operations_for_many_members_and_waits_for_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rules = ["SGD", "Adagrad", "RMSprop", "Adam", "AdamW", "NAdam", "RAdam", "Adamax", "Adadelta"]
    counts = []
    for copies in (1, 2, 7):
        members = [Member(k % 3, rule, dropout=0.1) for rule in rules for k in range(copies)]
        stack = stack_of(arrays(), members, SETTINGS)
        batches = stack.batches()
        monkeypatch.setattr(stack, "batches", lambda made=batches: made)
        with Operations() as operations:
            train(stack)
        assert operations.waits == []
        counts.append(operations.count)
    assert all(a == b for a, b in pairwise(counts))


def test_no_members_no_fits() -> None:
    assert fit(arrays(), [], SETTINGS) == []


def test_threads_are_given_back_and_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    alone = fit(arrays(), MEMBERS, SETTINGS)
    monkeypatch.setattr(training, "plan", lambda *_: Layout(stacks=3, workers=2, threads=1))
    for found, expected in zip(fit(arrays(), MEMBERS, SETTINGS), alone, strict=True):
        assert_same(found, expected)
    assert torch.get_num_threads() == before


def test_the_plan_follows_the_work() -> None:
    cpu, before = torch.device("cpu"), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        small, wide = Architecture(9, (16, 8), 1), Architecture(100, (256, 128), 1)
        assert plan(40, small, 60, cpu) == Layout(1, 1, 1)
        assert plan(128, Architecture(9, (128, 64), 1), 60, cpu).workers == 2
        assert plan(7, wide, 1000, cpu).stacks in (4, 6, 7)
        assert plan(1, wide, 1000, cpu) == Layout(1, 1, 2)
        assert native_plan(8, small, 1200) == Layout(1, 1, 1)
        assert native_plan(400, small, 1200) == Layout(2, 2, 1)
        assert native_plan(1, wide, 100_000) == Layout(1, 1, 1)
    finally:
        torch.set_num_threads(before)
