from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from pipeline.analysis.comparison import MeanDifference, by_fold, overlap_of, pairs
from pipeline.data.splits import Split, make_splits
from pipeline.models.metrics import LOSS
from tests.study import overlap, study_evidence


def test_a_pair_is_compared_by_the_corrected_resampled_interval():
    ours, theirs = [0.70, 0.72, 0.71, 0.69, 0.73], [0.69, 0.70, 0.72, 0.66, 0.70]
    (pair,) = pairs([("Adam", np.array(ours)), ("SGD", np.array(theirs))], overlap(5))
    # scipy's plain paired interval, widened from 1/5 to 1/5 + 1/4 of the variance
    plain = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    half = (plain.high - plain.low) / 2 * np.sqrt((1 / 5 + 1 / 4) / (1 / 5))
    assert (pair.better, pair.worse) == ("Adam", "SGD")
    assert pair.difference == pytest.approx(np.subtract(ours, theirs).mean())
    assert (pair.high - pair.low) / 2 == pytest.approx(half)
    assert not pair.is_clear


def _scores(*means, spread=0.02, k=20):
    draw = np.random.default_rng(1)
    found = [(f"O{i}", m + draw.normal(0, spread, k)) for i, m in enumerate(means)]
    return sorted(found, key=lambda item: -item[1].mean())


def test_pairs_are_all_of_them_the_better_first():
    scores = _scores(0.9, 0.8, 0.7, 0.6)
    found = pairs(scores, overlap(5))
    names = [name for name, _ in scores]
    expected = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    assert [(pair.better, pair.worse) for pair in found] == expected
    assert all(pair.difference > 0 and pair.is_clear for pair in found)
    for pair in found:
        mean = MeanDifference.of(dict(scores)[pair.better] - dict(scores)[pair.worse], overlap(5))
        assert (pair.low, pair.high) == mean.interval(0.95)
        assert (pair.low_all, pair.high_all) == mean.interval(1 - 0.05 / 6)


def test_equal_scores_are_not_told_apart():
    (pair,) = pairs([("A", np.full(10, 0.7)), ("B", np.full(10, 0.7))], overlap(5))
    assert (pair.difference, pair.low_all, pair.is_clear) == (0, 0, False)


@pytest.mark.parametrize(("folds", "is_clear"), [(2, False), (5, False), (7, True), (20, True)])
def test_equal_differences_are_as_sure_as_signs(folds, is_clear):
    """Two folds that say the same by chance claim nothing; twenty do."""
    (pair,) = pairs([("a", np.full(folds, 0.9)), ("b", np.full(folds, 0.8))], overlap=0.25)
    assert pair.is_clear == is_clear
    assert pair.low < pair.difference < pair.high
    found = MeanDifference.of(np.full(folds, 0.1), 0.25)
    assert found.p_value == pytest.approx(stats.binomtest(folds, folds).pvalue)


def test_one_optimizer_has_no_pair():
    assert pairs([("A", np.array([0.7, 0.8]))], overlap(2)) == ()


def test_the_interval_of_a_mean_ends_where_scores_do():
    scores = np.array([0.99, 1.0, 0.98, 1.0, 0.99])
    low, high = MeanDifference.of(scores, overlap(5)).interval()
    assert high > 1
    by_accuracy = study_evidence({"SGD": 0.7, "Adam": 0.6}, repeats=1)
    assert by_accuracy.interval(scores) == (low, 1.0)
    assert by_accuracy.interval(scores - 0.98)[0] == 0
    assert replace(by_accuracy, metric=LOSS).interval(scores) == (low, high)


def test_forward_folds_of_all_repeats_count_once():
    """They hold the same rows each time, so repeats take away the noise of weights alone."""
    ours, theirs = np.random.default_rng(0).normal([[0.8], [0.7]], 0.02, (2, 12))
    means = [by_fold(scores, 4, is_forward=True) for scores in (ours, theirs)]
    np.testing.assert_allclose(means[0], [ours[fold::4].mean() for fold in range(4)])
    (pair,) = pairs([("A", means[0]), ("B", means[1])], 0.1)
    expected = MeanDifference.of((ours - theirs).reshape(3, 4).mean(axis=0), 0.1)
    assert (pair.low, pair.high) == pytest.approx(expected.interval(), rel=1e-12)
    assert by_fold(ours, 4, is_forward=False) is ours


def test_overlap_is_that_of_the_splits_as_they_are():
    sizes = [(60, 20), (30, 30), (80, 8)]
    splits = [Split(0, i, np.arange(n), np.arange(m)) for i, (n, m) in enumerate(sizes)]
    assert overlap_of(splits) == pytest.approx((1 / 3 + 1 + 0.1) / 3)
    y = np.repeat([0, 1], 50)
    assert overlap_of(make_splits(y, 5, 2, 0.2, 0)) == pytest.approx(overlap(5))
