import numpy as np
import pytest
from scipy import stats
from sklearn.datasets import make_moons
from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score
from sklearn.svm import SVC

from pipeline.analysis.comparison import MeanDifference, overlap_of
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
    """Statistical comparison of models using grid search: t 0.750, p 0.227."""
    x, y = make_moons(noise=0.352, random_state=1, n_samples=100)
    folds = RepeatedStratifiedKFold(n_splits=10, n_repeats=10, random_state=0)
    rbf, linear = (
        cross_val_score(SVC(kernel=kernel, random_state=0), x, y, scoring="roc_auc", cv=folds)
        for kernel in ("rbf", "linear")
    )
    found = MeanDifference.of(rbf - linear, overlap(10))
    assert round(found.mean / found.error, 3) == 0.750
    assert round(found.p_value / 2, 3) == 0.227


def test_differences_that_are_all_equal():
    same = MeanDifference.of([0.0, 0.0], 0.25)
    assert (same.p_value, same.interval()) == (1, (0, 0))
    apart = MeanDifference.of([0.5, 0.5], 0.25)
    low, high = apart.interval()
    assert apart.p_value == pytest.approx(0.5)  # two of one sign
    assert low < 0 < 0.5 < high


@pytest.mark.parametrize("values", [[], [0.1], [0.1, np.nan], [[0.1, 0.2]]])
def test_refuses(values):
    with pytest.raises(ValueError, match="two differences"):
        MeanDifference.of(values, 0.25)
