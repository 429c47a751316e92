"""Intervals by resampling, against scipy's and against formulas."""

import numpy as np
import pytest
import torch
from scipy import stats

from pipeline.analysis import bootstrap
from pipeline.analysis.bootstrap import intervals
from pipeline.analysis.evaluation import score
from pipeline.models.metrics import ACCURACY, KNOWN
from tests.study import predictions

RNG = np.random.default_rng(0)


def logits_of(right: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack([1.0 - right, right], axis=1))


def test_independent_rows_have_the_interval_of_a_share() -> None:
    right = (RNG.random(1000) < 0.8).astype(float)
    low, high = intervals({ACCURACY: logits_of(right)}, torch.ones(1000, dtype=torch.int64))[
        "accuracy"
    ]
    error = 1.96 * np.sqrt(right.mean() * (1 - right.mean()) / 1000)
    assert (low, high) == pytest.approx((right.mean() - error, right.mean() + error), abs=0.004)


def test_rows_of_a_group_are_drawn_together() -> None:
    """Twenty copies of a row tell as much as one."""
    right = (RNG.random(100) < 0.7).astype(float)
    groups = np.repeat(np.arange(100), 20)
    y = torch.ones(2000, dtype=torch.int64)
    many = logits_of(np.repeat(right, 20))
    low, high = intervals({ACCURACY: many}, y, groups)["accuracy"]
    alone = intervals({ACCURACY: logits_of(right)}, y[:100])["accuracy"]
    assert (low, high) == pytest.approx(alone, abs=0.02)
    naive = intervals({ACCURACY: many}, y)["accuracy"]
    assert naive[1] - naive[0] < (high - low) / 3


@pytest.mark.parametrize("name", ["auroc", "balanced_accuracy", "f1_score", "loss"])
def test_scipy_draws_the_same_interval(name: str) -> None:
    probabilities, y = predictions(2, 300)

    def statistic(index: np.ndarray) -> float:
        logits = torch.from_numpy(np.log(probabilities[index]))
        return float(KNOWN[name].score(logits, torch.from_numpy(y[index])))

    index = (np.arange(300),)
    drawn = stats.bootstrap(
        index, statistic, vectorized=False, n_resamples=500, method="percentile", random_state=0
    )
    found = score(probabilities, y).intervals[name]
    width = drawn.confidence_interval[1] - drawn.confidence_interval[0]
    assert found == pytest.approx(tuple(drawn.confidence_interval), abs=0.15 * width)


def test_the_same_rows_have_the_same_intervals() -> None:
    probabilities, y = predictions(3, 200)
    assert score(probabilities, y).intervals == score(probabilities, y).intervals
    found = score(probabilities, y, clusters=np.arange(200))
    assert found.intervals == {
        **score(probabilities, y).intervals,
        "accuracy": found.intervals["accuracy"],
    }
    for name, value in found.by_metric.items():
        low, high = found.intervals[name]
        assert low <= value <= high


def test_a_metric_that_is_not_defined_is_left_out() -> None:
    probabilities, y = predictions(2, 50)
    found = score(probabilities, np.zeros_like(y))
    assert "auroc" not in found.by_name
    assert "auroc_low" not in found.by_name
    assert np.isfinite(list(found.by_name.values())).all()


def test_labels_are_judged_above_the_threshold() -> None:
    probabilities, y = predictions(2, 400)
    found = score(probabilities, y, 0.2)
    predicted = probabilities[:, 1] > 0.2
    expected = 2 * (predicted & (y == 1)).sum() / (predicted.sum() + (y == 1).sum())
    assert found.further["f1_score"] == pytest.approx(expected)
    assert found.further["auroc"] == score(probabilities, y).further["auroc"]
    assert found.accuracy == pytest.approx((predicted == y).mean())


def test_a_single_group_has_no_intervals() -> None:
    """All samples of it are the same, and would say that the score is certain."""
    probabilities, y = predictions(2, 50)
    found = score(probabilities, y, clusters=np.zeros(50, int))
    assert dict(found.intervals) == {"accuracy": (0.0, 1.0)}
    assert found.further.keys() == {"auroc", "balanced_accuracy", "f1_score"}


@pytest.mark.parametrize("name", ["auroc", "balanced_accuracy", "f1_score", "loss"])
def test_of_many_rows_a_part_has_nearly_the_interval_of_all(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    probabilities, y = predictions(2, 4000)
    whole = score(probabilities, y)
    monkeypatch.setattr(bootstrap, "_MOST_ROWS", 1000)
    found = score(probabilities, y).intervals[name]
    width = whole.intervals[name][1] - whole.intervals[name][0]
    assert found == pytest.approx(whole.intervals[name], abs=0.15 * width)
    assert found != whole.intervals[name]
    value = whole.loss if name == "loss" else whole.further[name]
    assert found[0] < value < found[1]
