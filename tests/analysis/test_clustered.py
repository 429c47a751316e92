"""Intervals of rows that come in clusters, against scipy, closed forms and simulation."""

import numpy as np
import pytest
from scipy import stats

from pipeline.analysis.clustered import Ageing, lowest_ahead, mean_error, share_interval


@pytest.mark.parametrize(("hits", "rows"), [(0, 5), (3, 7), (90, 100), (1000, 1000)])
def test_independent_rows_have_wilsons_interval(hits: int, rows: int) -> None:
    right = np.arange(rows) < hits
    wilson = stats.binomtest(hits, rows).proportion_ci(method="wilson")
    assert share_interval(right, None) == pytest.approx((wilson.low, wilson.high), abs=1e-12)


def test_clusters_of_one_row_say_as_much_as_rows() -> None:
    values = np.random.default_rng(0).normal(size=50)
    error, degrees = mean_error(values, np.arange(50))
    assert (error, degrees) == (pytest.approx(stats.sem(values)), 49)


def test_copies_of_rows_say_nothing_more() -> None:
    right = np.random.default_rng(0).random(60) < 0.7
    five_times, cluster = np.repeat(right, 5), np.repeat(np.arange(60), 5)
    assert mean_error(five_times, cluster)[0] == pytest.approx(stats.sem(right))
    once = share_interval(right, np.arange(60))
    assert share_interval(five_times, cluster) == pytest.approx(once, rel=0.02)


def test_unequal_clusters_hold_the_truth() -> None:
    """Shares of right rows that differ by cluster, sizes from 1 to 9: 95 % within 1.5 points."""
    draw = np.random.default_rng(1)
    held = []
    for _ in range(2000):
        cluster = np.repeat(np.arange(60), draw.integers(1, 10, size=60))
        chance = np.repeat(draw.beta(3, 1, size=60), np.bincount(cluster))
        low, high = share_interval(draw.random(len(cluster)) < chance, cluster)
        held.append(low <= 0.75 <= high)
    assert np.mean(held) == pytest.approx(0.95, abs=0.015)


def test_rows_that_are_all_right_are_as_many_as_their_clusters() -> None:
    low, high = share_interval(np.ones(100, bool), np.repeat(np.arange(10), 10))
    t = stats.t.ppf(0.975, 9) ** 2
    assert (low, high) == (pytest.approx(1 / (1 + t / 10)), 1.0)
    assert share_interval(np.ones(100, bool), np.zeros(100, int)) == (0.0, 1.0)


def test_the_lower_end_ahead_takes_off_what_older_networks_lose() -> None:
    right = np.random.default_rng(0).random(200) < 0.8
    clusters = np.arange(200) // 10
    error, degrees = mean_error(right, clusters)
    t = stats.t.ppf(0.975, degrees)
    low = lowest_ahead(right, clusters, Ageing(0.05, 0.02))
    assert low == pytest.approx(right.mean() - 0.05 - t * np.hypot(error, 0.02))
    assert lowest_ahead(right, clusters, Ageing(-0.05, 0.0)) == pytest.approx(
        right.mean() - t * error
    )


def test_a_single_cluster_says_nothing() -> None:
    """As rows of one group, or of one moment: 1 - 1 degrees of freedom."""
    right, one = np.arange(10) % 3 > 0, np.zeros(10, int)
    assert mean_error(right, one) == (np.inf, 1)
    assert share_interval(right, one) == (0.0, 1.0)
    assert lowest_ahead(right, one, Ageing(0.05, 0.02)) == 0
