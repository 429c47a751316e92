import numpy as np
import pytest
from scipy import stats

from pipeline.analysis.evaluation import ModelPredictions, compare_models


def _predictions(labels, sure=0.9):
    labels = np.asarray(labels)
    probabilities = np.full((len(labels), 2), 1 - sure)
    probabilities[np.arange(len(labels)), labels] = sure
    return ModelPredictions(labels, probabilities)


def _flipped(y, rows):
    found = y.copy()
    found[rows] = 1 - found[rows]
    return found


Y = np.random.default_rng(0).integers(0, 2, 200)


def test_mcnemar_as_in_its_textbook_example():
    """Discordant pairs 9 and 1: twice the binomial tail, 2 * (1 + 10) / 2^10."""
    new, old = _predictions(_flipped(Y, [0])), _predictions(_flipped(Y, np.arange(1, 10)))
    found = compare_models(new, old, Y)
    assert (found.only_new, found.only_old) == (9, 1)
    assert found.p_value == pytest.approx(2 * 11 / 1024, abs=1e-12)
    assert found.outcome == "better"
    assert compare_models(old, new, Y).outcome == "worse"


def test_loss_difference_is_scipys_paired_interval():
    draw = np.random.default_rng(1)
    sure = draw.uniform(0.4, 0.99, (2, len(Y)))
    new, old = (
        ModelPredictions(Y, np.where(np.eye(2)[Y] == 1, s[:, None], 1 - s[:, None])) for s in sure
    )
    found = compare_models(new, old, Y)
    plain = stats.ttest_rel(-np.log(sure[0]), -np.log(sure[1]))
    interval = plain.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=1e-12)
    assert found.p_value == 1.0


def test_the_same_model_again_is_a_draw():
    found = compare_models(_predictions(Y), _predictions(Y), Y)
    assert (found.outcome, found.loss_difference) == ("open", 0.0)


def test_no_model_is_better_by_rounding():
    """The losses differ alike in all rows, so the interval leaves 0 out, but by nothing."""
    found = compare_models(_predictions(Y, 0.90003), _predictions(Y, 0.9), Y)
    assert found.high < 0
    assert found.outcome == "open"
    assert compare_models(_predictions(Y, 0.901), _predictions(Y, 0.9), Y).outcome == "better"


def test_log_loss_decides_where_accuracy_does_not():
    assert compare_models(_predictions(Y, 0.95), _predictions(Y, 0.8), Y).outcome == "better"
    assert compare_models(_predictions(Y, 0.8), _predictions(Y, 0.95), Y).outcome == "worse"


def test_within_the_noise_is_a_draw_behind_or_ahead():
    behind = compare_models(_predictions(_flipped(Y, [0])), _predictions(Y), Y)
    ahead = compare_models(_predictions(Y), _predictions(_flipped(Y, [0])), Y)
    assert (behind.outcome, ahead.outcome) == ("open", "open")
    assert behind.loss_difference == pytest.approx(-ahead.loss_difference)


def test_rows_of_a_group_count_as_one():
    """Each row five times is no more evidence than each once: the t test of scipy says how much."""
    new, old = _flipped(Y, np.arange(5)), _flipped(Y, np.arange(5, 22))
    times = np.repeat(np.arange(len(Y)), 5)
    models = [_predictions(labels) for labels in (new, old)]
    repeated = [_predictions(labels[times]) for labels in (new, old)]
    plain = compare_models(*models, Y)
    found = compare_models(*repeated, Y[times], times[::-1].copy() * 3)
    right = [(labels == Y).astype(float) for labels in (new, old)]
    paired = stats.ttest_rel(*right)
    assert found.p_value == pytest.approx(paired.pvalue)
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high))
    assert (found.rows, found.groups, plain.groups) == (1000, 200, None)
    assert compare_models(*repeated, Y[times]).p_value < paired.pvalue / 100


def test_a_single_group_decides_nothing():
    models = _predictions(Y), _predictions(1 - Y)
    assert compare_models(*models, Y).outcome == "better"
    assert compare_models(*models, Y, np.zeros(len(Y), np.int64)).outcome == "open"


def test_a_certain_mistake_and_a_single_row_are_finite_or_open():
    y = np.array([1])
    found = compare_models(_predictions([0], 1.0), _predictions([1], 1.0), y)
    assert np.isfinite(found.loss_difference)
    assert found.outcome == "open"
