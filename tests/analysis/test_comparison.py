import numpy as np
import pytest
from scipy import stats

from pipeline.analysis.comparison import (
    MeanDifference,
    mean_interval,
    overlap,
    pairs,
    pairs_of_best,
)
from pipeline.models.metrics import ACCURACY, LOSS
from tests.study import failed, folds, search, trial


def _with_folds(number, optimizer, accuracies, losses=None):
    losses = losses or [0.6] * len(accuracies)
    return trial(
        number,
        optimizer,
        accuracy=float(np.mean(accuracies)),
        loss=float(np.mean(losses)),
        accuracy_std=float(np.std(accuracies, ddof=1)),
        fold_scores=folds(accuracies, losses),
    )


def test_best_trials_are_compared_by_the_corrected_resampled_interval():
    ours, theirs = [0.70, 0.72, 0.71, 0.69, 0.73], [0.69, 0.70, 0.72, 0.66, 0.70]
    trials = [_with_folds(0, "SGD", theirs), _with_folds(1, "Adam", ours), failed(2, "Adagrad")]
    trials.append(_with_folds(3, "Adam", [0.5] * 5))
    (pair,) = pairs_of_best(trials, ACCURACY, folds=5)
    # scipy's plain paired interval, widened from 1/5 to 1/5 + 1/4 of the variance
    plain = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    half = (plain.high - plain.low) / 2 * np.sqrt((1 / 5 + 1 / 4) / (1 / 5))
    assert (pair.better, pair.worse) == ("Adam", "SGD")
    assert pair.difference == pytest.approx(np.subtract(ours, theirs).mean())
    assert (pair.high - pair.low) / 2 == pytest.approx(half)
    assert not pair.is_clear


def test_repeated_hold_outs_overlap_by_their_fraction():
    ours, theirs = [0.70, 0.72, 0.71], [0.69, 0.70, 0.72]
    trials = [_with_folds(0, "Adam", ours), _with_folds(1, "SGD", theirs)]
    (pair,) = pairs_of_best(trials, ACCURACY, folds=1, repeats=3, fraction=0.4)
    plain = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    wider = np.sqrt((1 / 3 + 0.4 / 0.6) / (1 / 3))
    assert pair.high - pair.low == pytest.approx((plain.high - plain.low) * wider)


def test_best_trials_that_differ_clearly():
    ours, theirs = [0.80, 0.82, 0.81, 0.79, 0.83], [0.60, 0.62, 0.60, 0.59, 0.64]
    trials = [_with_folds(0, "A", ours), _with_folds(1, "B", theirs)]
    (pair,) = pairs_of_best(trials, ACCURACY, folds=5)
    assert pair.is_clear


def test_best_trials_by_loss():
    trials = [
        _with_folds(0, "A", [0.7, 0.7, 0.7], [0.50, 0.51, 0.49]),
        _with_folds(1, "B", [0.8, 0.8, 0.8], [0.60, 0.62, 0.59]),
    ]
    (pair,) = pairs_of_best(trials, LOSS, folds=3)
    assert (pair.better, pair.worse) == ("A", "B")
    assert pair.difference == pytest.approx(0.31 / 3)


def test_trials_without_a_score_for_each_fold_are_not_compared():
    whole, unread = _with_folds(0, "A", [0.7, 0.8, 0.9]), trial(2, "C")
    single = trial(1, "B", fold_scores=folds([0.7], [0.6]))
    broken = trial(3, "D", fold_scores=folds([0.7, np.nan, 0.9], [0.6] * 3))
    assert pairs_of_best([whole, single, unread, broken], ACCURACY, folds=3) == ()
    assert pairs_of_best([single, unread], ACCURACY, folds=1, fraction=0.2) == ()
    assert pairs_of_best([failed(0)], ACCURACY, folds=5) == ()
    assert len(pairs_of_best(search(), ACCURACY, folds=5)) == 6


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
        assert pair.p_value <= pair.p_adjusted <= 6 * pair.p_value


def test_a_clear_pair_is_one_of_holm_as_well():
    for seed in range(200):
        draw = np.random.default_rng(seed)
        scores = [(str(i), draw.normal(0.02 * i, 0.03, 10)) for i in range(4)]
        scores.sort(key=lambda item: -item[1].mean())
        assert all(p.p_adjusted < 0.05 for p in pairs(scores, overlap(5)) if p.is_clear)


def test_equal_scores_are_not_told_apart():
    (pair,) = pairs([("A", np.full(10, 0.7)), ("B", np.full(10, 0.7))], overlap(5))
    assert (pair.difference, pair.low_all, pair.p_adjusted, pair.is_clear) == (0, 0, 1, False)
    assert (pair.probability_better, pair.probability_worse) == (0, 0)


def test_one_optimizer_has_no_pair():
    assert pairs([("A", np.array([0.7, 0.8]))], overlap(2)) == ()


def test_the_interval_of_a_mean_ends_where_scores_do():
    scores = np.array([0.99, 1.0, 0.98, 1.0, 0.99])
    low, high = MeanDifference.of(scores, overlap(5)).interval()
    assert high > 1
    assert mean_interval(scores, 5, highest=1.0) == (low, 1.0)
    assert mean_interval(scores, 5) == (low, high)
    assert mean_interval(scores - 0.98, 5)[0] == 0
