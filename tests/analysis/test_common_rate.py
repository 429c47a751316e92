"""One learning rate for all tables, on curves whose truth is known."""

from itertools import combinations

import numpy as np
import pytest

from pipeline.analysis.common_rate import _expected_best, common_rates, tuning_curve
from pipeline.models.metrics import ACCURACY
from tests.analysis.test_across import searched
from tests.study import failed, trial


def search_of(table, peak, rates, width=0.02, name="Adam"):
    trials = [
        trial(i, name, lr, accuracy=0.9 - width * (np.log10(lr) - peak) ** 2)
        for i, lr in enumerate(rates)
    ]
    return searched(table, {}, trials=trials)


RATES = np.logspace(-4, -1, 25)


def test_the_common_rate_is_between_the_tables_own():
    peaks = [-3.0, -2.5, -2.0, -2.5]
    searches = [search_of(str(i), peak, RATES) for i, peak in enumerate(peaks)]
    (found,) = common_rates(searches, ACCURACY)
    assert np.log10(found.rate) == pytest.approx(-2.5, abs=0.25)
    assert 10**-3 <= found.best_low <= found.best_high <= 10**-2
    # Two tables are half a decade off: 0.02 * 0.25 of accuracy on each of these.
    assert found.loss.min() == pytest.approx(0.02 * 0.25 / 2, abs=0.001)
    assert found.cost >= found.loss.min()


def test_tables_of_one_best_rate_cost_nothing():
    (found,) = common_rates([search_of(str(i), -2.0, RATES) for i in range(5)], ACCURACY)
    assert found.cost == pytest.approx(0, abs=1e-6)


def test_what_failed_counts_as_the_worst_that_did_not():
    searches = []
    for i in range(4):
        good = search_of(str(i), -2.0, RATES[:15])
        bad = [failed(100 + j, "Adam", lr) for j, lr in enumerate(RATES[15:])]
        searches.append(searched(str(i), {}, trials=[*good.trials, *bad]))
    (found,) = common_rates(searches, ACCURACY)
    assert np.nanargmax(found.loss) > len(found.loss) / 2


def test_a_rate_that_few_tables_tried_is_not_judged():
    searches = [search_of(str(i), -2.0, RATES[12:]) for i in range(4)]
    searches.append(search_of("4", -2.0, RATES))
    (found,) = common_rates(searches, ACCURACY)
    assert np.isnan(found.loss[0])
    assert np.isfinite(found.loss[-1])


def test_rates_that_were_not_searched_have_none():
    assert common_rates([search_of(str(i), -2, [0.01]) for i in range(5)], ACCURACY) == ()


def test_the_expected_best_is_that_of_all_draws():
    scores = np.sort(np.random.default_rng(0).normal(size=6))
    expected = [np.mean([max(c) for c in combinations(scores, n)]) for n in range(1, 7)]
    assert _expected_best(scores) == pytest.approx(expected)


def test_more_trials_lose_less():
    searches = [search_of(str(i), -2.0, RATES[::3]) for i in range(3)]
    curve = tuning_curve(searches, ACCURACY, "Adam")
    assert len(curve) == len(RATES[::3])
    assert np.all(np.diff(curve) <= 0)
    assert curve[-1] == pytest.approx(0)
    assert len(tuning_curve(searches, ACCURACY, "SGD")) == 0


def test_a_rate_of_zero_has_no_place() -> None:
    searches = []
    for i in range(3):
        of_it = search_of(str(i), -2.0, RATES)
        searches.append(searched(str(i), {}, trials=[*of_it.trials, trial(99, "Adam", 0.0)]))
    (found,) = common_rates(searches, ACCURACY)
    assert found.rates.min() > 0
