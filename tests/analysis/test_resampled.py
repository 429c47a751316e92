import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats
from sklearn.datasets import make_moons
from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score
from sklearn.svm import SVC

from pipeline.analysis.comparison import MeanDifference, holm, overlap_of, simultaneous
from pipeline.data.splits import make_splits
from tests.study import overlap


@pytest.mark.parametrize("folds", [5, 1])
def test_overlap(folds):
    """Of five folds, and of hold-outs of a fifth of the rows."""
    assert overlap_of(make_splits(np.arange(200) % 2, folds, 2, 0.2, 0)) == 0.25


def test_corrected_interval_is_scipys_made_wider():
    ours, theirs = np.random.default_rng(0).normal(0.7, 0.02, (2, 20))
    found = MeanDifference.of(ours - theirs, 0.25)
    wider = np.sqrt((1 / 20 + 0.25) / (1 / 20))
    for confidence in (0.5, 0.95, 0.999):
        plain = stats.ttest_rel(ours, theirs).confidence_interval(confidence)
        low, high = found.interval(confidence)
        assert high - low == pytest.approx((plain.high - plain.low) * wider, abs=1e-12)
        assert (low + high) / 2 == pytest.approx((ours - theirs).mean(), abs=1e-12)
    statistic = stats.ttest_rel(ours, theirs).statistic / wider
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(statistic), 19), abs=1e-12)


def test_without_overlap_it_is_the_paired_t_test():
    ours, theirs = np.random.default_rng(1).normal(0.7, 0.02, (2, 12))
    plain = stats.ttest_rel(ours, theirs)
    found = MeanDifference.of(ours - theirs, 0.0)
    assert found.p_value == pytest.approx(plain.pvalue, abs=1e-12)
    assert found.interval() == pytest.approx(tuple(plain.confidence_interval()), abs=1e-12)


def test_the_example_of_scikit_learns_guide():
    """Statistical comparison of models using grid search: t 0.750, p 0.227, probability 0.773."""
    x, y = make_moons(noise=0.352, random_state=1, n_samples=100)
    folds = RepeatedStratifiedKFold(n_splits=10, n_repeats=10, random_state=0)
    rbf, linear = (
        cross_val_score(SVC(kernel=kernel, random_state=0), x, y, scoring="roc_auc", cv=folds)
        for kernel in ("rbf", "linear")
    )
    found = MeanDifference.of(rbf - linear, overlap(10))
    assert round(found.mean / found.error, 3) == 0.750
    assert round(found.p_value / 2, 3) == 0.227
    assert round(found.probability_above(0), 3) == 0.773


@pytest.mark.parametrize("margin", [-0.01, 0.0, 0.01])
@pytest.mark.parametrize("folds", [2, 5, 10])
def test_bayesian_correlated_t_test_is_its_posterior_integrated(folds, margin):
    """The model itself: normal, every two correlated by 1 / folds, prior 1 / variance."""
    x = np.random.default_rng(folds).normal(0.004, 0.02, 2 * folds)
    k, rho = len(x), 1 / folds
    inverse = np.linalg.inv((1 - rho) * np.eye(k) + rho * np.ones((k, k)))
    one = np.ones(k)
    information = one @ inverse @ one
    center = one @ inverse @ x / information
    square = (x - center) @ inverse @ (x - center)
    variance = stats.invgamma((k - 1) / 2, scale=square / 2)

    def above(quantile: float) -> float:
        deviation = np.sqrt(variance.ppf(quantile) / information)
        return float(stats.norm.sf(margin, center, deviation))

    expected, _ = integrate.quad(above, 0, 1, epsabs=1e-11, epsrel=1e-11, limit=500)
    found = MeanDifference.of(x, overlap(folds)).probability_above(margin)
    assert found == pytest.approx(expected, abs=1e-8)


def test_differences_that_are_all_equal():
    same = MeanDifference.of([0.0, 0.0], 0.25)
    assert (same.p_value, same.interval(), same.probability_above(0)) == (1, (0, 0), 0)
    apart = MeanDifference.of([0.5, 0.5], 0.25)
    assert (apart.p_value, apart.interval(), apart.probability_above(0.1)) == (0, (0.5, 0.5), 1)


@pytest.mark.parametrize("values", [[], [0.1], [0.1, np.nan], [[0.1, 0.2]]])
def test_refuses(values):
    with pytest.raises(ValueError, match="two differences"):
        MeanDifference.of(values, 0.25)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=7))
def test_holm_is_the_closed_test_of_bonferroni(p_values):
    """Marcus, Peritz and Gabriel (1976): the largest of all intersections' p-values."""
    count = len(p_values)
    subsets = [[i for i in range(count) if mask >> i & 1] for mask in range(1, 2**count)]
    expected = [
        max(min(1.0, len(s) * min(p_values[j] for j in s)) for s in subsets if i in s)
        for i in range(count)
    ]
    assert holm(p_values) == pytest.approx(expected, abs=1e-12)


def test_holm_by_hand():
    """4 * 0.01, 3 * 0.02, 2 * 0.03, and the last not below that; as p.adjust of R."""
    assert holm([0.01, 0.02, 0.03, 0.04]) == pytest.approx([0.04, 0.06, 0.06, 0.06], abs=1e-15)


def test_simultaneous_is_bonferroni():
    assert simultaneous(10) == pytest.approx(0.995)
    assert simultaneous(0) == 0.95
