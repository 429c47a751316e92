import numpy as np
import pytest
from scipy import stats

from pipeline.analysis.comparison import compare, pairs
from pipeline.analysis.resampled import MeanDifference, overlap
from tests.study import StandInFit, StandInTrial, failed, search


def _with_folds(number, optimizer, folds, losses=None):
    losses = losses or [0.6] * len(folds)
    return StandInTrial(
        number,
        optimizer,
        accuracy=float(np.mean(folds)),
        loss=float(np.mean(losses)),
        accuracy_std=float(np.std(folds, ddof=1)) if len(folds) > 1 else None,
        fits=tuple(StandInFit(a, b) for a, b in zip(folds, losses, strict=True)),
    )


def test_compare_is_the_corrected_resampled_interval():
    ours, theirs = [0.70, 0.72, 0.71, 0.69, 0.73], [0.69, 0.70, 0.72, 0.66, 0.70]
    trials = [_with_folds(0, "Adam", ours), _with_folds(1, "SGD", theirs)]
    (found,) = compare(trials, folds=5)
    differences = np.subtract(ours, theirs)
    # scipy's plain paired interval, widened from 1/5 to 1/5 + 1/4 of the variance
    plain = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    half = (plain.high - plain.low) / 2 * np.sqrt((1 / 5 + 1 / 4) / (1 / 5))
    assert (found.best, found.other, found.basis) == ("Adam", "SGD", "paired")
    assert found.difference == pytest.approx(differences.mean())
    assert (found.high - found.low) / 2 == pytest.approx(half)
    assert found.within_noise


def test_compare_sees_a_clear_difference():
    ours, theirs = [0.80, 0.82, 0.81, 0.79, 0.83], [0.60, 0.62, 0.60, 0.59, 0.64]
    (found,) = compare([_with_folds(0, "A", ours), _with_folds(1, "B", theirs)], folds=5)
    assert not found.within_noise


def test_compare_by_loss():
    trials = [
        _with_folds(0, "A", [0.7, 0.7, 0.7], [0.50, 0.51, 0.49]),
        _with_folds(1, "B", [0.8, 0.8, 0.8], [0.60, 0.62, 0.59]),
    ]
    (found,) = compare(trials, "val_loss", folds=3)
    assert (found.best, found.basis) == ("A", "paired")
    assert found.difference == pytest.approx(0.31 / 3)


def test_compare_without_folds_to_pair():
    a = StandInTrial(0, "A", accuracy=0.70, accuracy_std=0.02)
    b = StandInTrial(1, "B", accuracy=0.69, accuracy_std=0.02)
    (unpaired,) = compare([a, b], folds=5)
    assert unpaired.basis == "unpaired"
    (rows,) = compare([a, b], folds=1, validation_rows=300)
    half = stats.norm.ppf(0.975) * np.sqrt((0.7 * 0.3 + 0.69 * 0.31) / 300)
    assert (rows.basis, rows.high - rows.low) == ("rows", pytest.approx(2 * half))
    (unknown,) = compare([a, b], folds=1)
    assert (unknown.basis, unknown.low, unknown.within_noise) == ("none", None, True)
    assert compare([failed(0)], folds=5) == []
    assert len(compare(search(), folds=5)) == 3


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
