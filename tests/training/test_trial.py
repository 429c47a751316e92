"""A trial is the mean of its members."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.training.loop import Fit
from pipeline.training.trial import Trial, combine


@dataclass(frozen=True)
class Place:
    repeat: int
    fold: int


@dataclass(frozen=True)
class Optimizer:
    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Configuration:
    optimizers: tuple[Optimizer, ...]


def member(losses: list[float], state: Any = "complete", reason: str | None = None) -> Fit:
    val_loss = np.array(losses)
    best = int(val_loss.argmin()) + 1 if losses else 0
    return Fit(
        train_loss=val_loss / 2,
        val_loss=val_loss,
        val_accuracy=1 - val_loss,
        best_epoch=best,
        loss=losses[best - 1] if best else np.nan,
        accuracy=1 - losses[best - 1] if best else np.nan,
        state=state,
        reason=reason,
        weights=torch.zeros(3),
    )


def trial(*fits: Fit, optimizer: Optimizer = Optimizer("Adam", {"lr": 0.25})) -> Trial:
    return combine(
        number=7,
        config=Configuration((optimizer,)),  # type: ignore[arg-type]
        entry=2,
        params={"optimizers.2.lr": 0.25},
        fits=fits,
        splits=[Place(k // 2, k % 2) for k in range(len(fits))],
        seconds=1.5,
    )


def test_scores_are_means_over_the_members_at_their_kept_epochs() -> None:
    found = trial(member([0.5, 0.3, 0.4]), member([0.6, 0.5, 0.1]), member([0.2, 0.4, 0.4]))
    assert found.state == "COMPLETE"
    assert found.reason is None
    assert found.loss == pytest.approx((0.3 + 0.1 + 0.2) / 3)
    assert found.accuracy == pytest.approx(1 - (0.3 + 0.1 + 0.2) / 3)
    assert found.accuracy_std == pytest.approx(np.std([0.7, 0.9, 0.8], ddof=1))
    assert found.best_epoch == pytest.approx((2 + 3 + 1) / 3)
    assert (found.number, found.entry, found.optimizer, found.lr) == (7, 2, "Adam", 0.25)
    assert found.params == {"optimizers.2.lr": 0.25}
    assert found.seconds == 1.5
    assert len(found.fits) == 3


def test_one_member_has_no_deviation() -> None:
    assert trial(member([0.5])).accuracy_std == 0


def test_a_member_that_has_stopped_counts_with_its_kept_epoch() -> None:
    found = trial(member([0.5, 0.1, 0.3]), member([0.9, 0.8, 0.7, 0.6, 0.5]))
    losses = np.array([0.7, 0.45, 0.5, 0.35, 0.3])
    np.testing.assert_allclose(found.curves["val_loss"], losses)
    np.testing.assert_allclose(found.curves["train_loss"], losses / 2)
    np.testing.assert_allclose(found.curves["val_accuracy"], 1 - losses)


def test_one_failed_member_fails_the_trial() -> None:
    why = "the training loss was not finite in epoch 3"
    found = trial(
        member([0.5, 0.4, 0.3]),
        member([0.6], "dropped"),
        member([0.7, 0.6], "failed", why),
    )
    assert found.state == "FAIL"
    assert found.reason == f"repeat 2, fold 1: {why}"
    assert (found.loss, found.accuracy, found.accuracy_std, found.best_epoch) == (None,) * 4
    np.testing.assert_allclose(found.curves["val_loss"], [0.6])
    assert len(trial(member([0.5]), member([], "failed", why)).curves["val_loss"]) == 0


def test_a_dropped_trial_is_pruned_and_has_no_score() -> None:
    found = trial(member([0.5, 0.2], "dropped"), member([0.5]))
    assert found.state == "PRUNED"
    assert found.reason is None
    assert (found.loss, found.accuracy) == (None, None)
    np.testing.assert_allclose(found.curves["val_loss"], [0.5, 0.35])


def test_a_learning_rate_left_out_is_torchs() -> None:
    assert trial(member([0.5]), optimizer=Optimizer("Adadelta", {})).lr == 1.0
    assert trial(member([0.5]), optimizer=Optimizer("Adam", {"eps": 1e-6})).lr == 1e-3
