"""A trial is the mean of its members."""

from typing import Any

import numpy as np
import pytest
import torch

from pipeline.config import check
from pipeline.data.splits import Split
from pipeline.models.metrics import ACCURACY, LOSS
from pipeline.training.outcomes import Fit
from pipeline.training.trial import Trial, ended, proposed


def member(losses: list[float], state: Any = "complete", reason: str | None = None) -> Fit:
    val_loss = np.array(losses)
    best = int(val_loss.argmin()) + 1 if losses else 0
    lowest = losses[best - 1] if best else np.nan
    return Fit(
        curves={"train_loss": val_loss / 2, "val_loss": val_loss, "val_accuracy": 1 - val_loss},
        best_epoch=best,
        scores={"loss": lowest, "accuracy": 1 - lowest},
        state=state,
        reason=reason,
        weights=torch.zeros(3),
    )


def trial(*fits: Fit) -> Trial:
    proposal = Trial(7, "Adam", {"optimizers.2.lr": 0.25}, 0.25)
    none = np.empty(0, np.int64)
    splits = [Split(k // 2, k % 2, training=none, validation=none) for k in range(len(fits))]
    return ended(proposal, fits, splits, 1.5)


def proposal(optimizer: dict[str, Any], **values: Any) -> Trial:
    config = check({"data": {"source": "a.csv", "target": "y"}, "optimizers": [optimizer]})
    return proposed(3, config.labels[0], values, config)


def test_scores_are_means_over_the_members_at_their_best_epochs() -> None:
    mean = trial(member([0.5, 0.3, 0.4]), member([0.6, 0.5, 0.1]), member([0.2, 0.4, 0.4]))
    assert (mean.state, mean.reason) == ("COMPLETE", None)
    assert mean.score(LOSS) == pytest.approx((0.3 + 0.1 + 0.2) / 3)
    assert mean.score(ACCURACY) == pytest.approx(1 - (0.3 + 0.1 + 0.2) / 3)
    assert mean.deviation(ACCURACY) == pytest.approx(np.std([0.7, 0.9, 0.8], ddof=1))
    np.testing.assert_allclose(mean.fold_scores["loss"], [0.3, 0.1, 0.2])
    assert mean.best_epoch == pytest.approx((2 + 3 + 1) / 3)
    assert (mean.number, mean.optimizer, mean.lr, mean.seconds) == (7, "Adam", 0.25, 1.5)
    assert mean.params == {"optimizers.2.lr": 0.25}
    assert len(mean.fits) == 3


def test_one_member_has_no_deviation() -> None:
    assert trial(member([0.5])).deviation(ACCURACY) == 0


def test_a_member_that_has_stopped_stays_at_its_last_value() -> None:
    """So the curve of a network that overfits does not jump back to its best when it stops."""
    mean = trial(member([0.5, 0.1, 0.3]), member([0.9, 0.8, 0.7, 0.6, 0.5]))
    losses = np.array([0.7, 0.45, 0.5, 0.45, 0.4])
    np.testing.assert_allclose(mean.curves["val_loss"], losses)
    np.testing.assert_allclose(mean.curves["train_loss"], losses / 2)
    np.testing.assert_allclose(mean.curves["val_accuracy"], 1 - losses)
    assert mean.curves["folds_running"].tolist() == [2, 2, 2, 1, 1]


def test_one_failed_member_fails_the_trial() -> None:
    why = "the training loss was not finite in epoch 3"
    broken = trial(
        member([0.5, 0.4, 0.3]), member([0.6], "dropped"), member([0.7, 0.6], "failed", why)
    )
    assert broken.state == "FAIL"
    assert broken.reason == f"repeat 2, fold 1: {why}"
    assert (broken.scores, broken.deviations, broken.fold_scores) == ({}, {}, {})
    assert broken.best_epoch is None
    np.testing.assert_allclose(broken.curves["val_loss"], [0.6])
    assert len(trial(member([0.5]), member([], "failed", why)).curves["val_loss"]) == 0


def test_a_dropped_trial_is_pruned_and_has_no_score() -> None:
    dropped = trial(member([0.5, 0.2], "dropped"), member([0.5]))
    assert (dropped.state, dropped.reason) == ("PRUNED", None)
    assert not dropped.is_complete
    np.testing.assert_allclose(dropped.curves["val_loss"], [0.5, 0.35])


def test_a_learning_rate_left_out_is_torchs() -> None:
    assert proposal({"name": "Adadelta"}).lr == 1.0
    assert proposal({"name": "Adam", "eps": 1e-6}).lr == 1e-3
    searched = proposal({"name": "Adam", "lr": {"low": 0.1, "high": 1}}, **{"optimizers.0.lr": 0.2})
    assert searched.lr == 0.2
    assert searched.settings.optimizers[0].arguments["lr"] == 0.2
    assert searched.state == "RUNNING"
