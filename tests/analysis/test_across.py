"""Comparing over tables, held to closed forms and to simulations whose truth is known."""

from dataclasses import fields

import numpy as np
import pytest
from scipy import stats

from pipeline.analysis.across import MARGIN, Across, Effect, Searched, across
from pipeline.analysis.evidence import Evidence, Finalist
from pipeline.models.metrics import ACCURACY, LOSS
from tests.study import overlap


def searched(table, scores, metric=ACCURACY, trials=()):
    """One search with these scores of folds by optimizer."""
    finalists = tuple(
        Finalist(name, 0, 0.1, {}, {metric.name: np.asarray(v, float)}, {}, {}, None, 0.0)
        for name, v in scores.items()
    )
    known = {"metric": metric, "folds": 5, "repeats": 1, "overlap": overlap(5)}
    known |= {"is_forward": False, "finalists": finalists, "ageing": None}
    evidence = Evidence(**{field.name: known.get(field.name, ()) for field in fields(Evidence)})
    return Searched(table, table, f"run {table}", {}, 100, 2, evidence, trials)


def simulated(draw, means, tables=12, between=0.02, within=0.01, seeds=1):
    """Searches of optimizers that differ by `means` on average, and from table to table."""
    found = []
    for table in range(tables):
        level, own = draw.uniform(0.6, 0.9), draw.normal(means, between)
        for _ in range(seeds):
            scores = {
                f"O{i}": level + mean + draw.normal(0, within, 5) for i, mean in enumerate(own)
            }
            found.append(searched(f"t{table}", scores))
    return found


def test_equally_sure_tables_have_the_interval_of_a_t_test():
    means = np.array([0.03, -0.01, 0.02, 0.05, 0.00, 0.04])
    effect = Effect.of(means, np.full(6, 1e-8))
    expected = stats.ttest_1samp(means, 0)
    assert effect.mean == pytest.approx(means.mean())
    assert effect.p_value == pytest.approx(expected.pvalue)
    assert effect.interval() == pytest.approx(expected.confidence_interval(0.95))
    assert effect.between == pytest.approx(means.std(ddof=1), rel=1e-3)


def test_tables_that_agree_more_than_their_folds_allow_are_not_surer_for_it():
    variances = np.array([1e-4, 4e-4, 2e-4, 3e-4])
    effect = Effect.of(np.full(4, 0.01), variances)
    assert effect.between == 0
    assert effect.error == pytest.approx((1 / np.sum(1 / variances)) ** 0.5)


def test_a_sure_table_counts_for_more():
    effect = Effect.of(np.array([0.00, 0.10]), np.array([1e-6, 1e-2]))
    assert effect.mean < 0.05


def test_a_table_counts_once_however_many_seeds_it_has():
    draw = np.random.default_rng(0)
    once = simulated(draw, [0.0, 0.05], tables=6)
    many = across([*once, *[once[0]] * 20], ACCURACY).pairs[0]
    (pair,) = across(once, ACCURACY).pairs
    assert (many.low, many.high, many.wins) == pytest.approx((pair.low, pair.high, pair.wins))


def test_losses_are_better_where_they_are_lower():
    searches = [searched(str(i), {"A": np.full(5, 0.3 + i), "B": 0.5 + i + np.arange(5) / 100},
                         LOSS) for i in range(4)]  # fmt: skip
    found = across(searches, LOSS)
    assert found.optimizers[0] == "A"
    assert found.winner == "A"
    assert found.pairs[0].effect.mean == pytest.approx(0.22)


def test_ranks_and_their_test_are_those_of_scipy():
    draw = np.random.default_rng(3)
    found = across(simulated(draw, [0, 0.01, 0.02, 0.05], tables=15), ACCURACY)
    values = [[each[f"O{i}"] for each in found.scores.values()] for i in range(4)]
    friedman = stats.friedmanchisquare(*values).statistic
    f = 14 * friedman / (15 * 3 - friedman)
    assert found.ranks is not None
    assert found.ranks.p_value == pytest.approx(stats.f.sf(f, 3, 3 * 14))
    # Demsar (2006), table 5: q for four classifiers is 2.569.
    assert found.ranks.critical == pytest.approx(2.569 * (4 * 5 / (6 * 15)) ** 0.5, rel=1e-3)


def test_what_diverged_is_last_and_in_no_difference():
    draw = np.random.default_rng(0)
    searches = simulated(draw, [0.0, 0.0], tables=5)
    searches[0] = searched("t0", {"O0": [0.8] * 5})
    found = across(searches, ACCURACY)
    assert found.pairs[0].effect.tables == 4
    assert "O1" not in found.scores["t0"]


@pytest.mark.parametrize("tables", [1, 2])
def test_few_tables_say_nothing_of_others(tables):
    found = across(simulated(np.random.default_rng(0), [0, 0.3], tables=tables), ACCURACY)
    assert found.pairs == ()
    assert found.winner is None


def _share(of, count=200):
    return np.mean([of(np.random.default_rng(seed)) for seed in range(count)])


@pytest.mark.parametrize(("between", "tables"), [(0.0, 6), (0.02, 6), (0.05, 20)])
def test_without_differences_there_is_seldom_a_winner(between, tables):
    def wins(draw):
        found = across(simulated(draw, [0] * 4, tables=tables, between=between), ACCURACY)
        return found.winner is not None or any(pair.is_clear for pair in found.pairs)

    # A share of 0.05 gives 17 of 200 or fewer with 98 %.
    assert _share(wins) <= 0.085


def test_a_planted_winner_is_found():
    def is_found(draw: np.random.Generator) -> bool:
        found: Across = across(simulated(draw, [0, 0, 0.05], tables=12), ACCURACY)
        return found.winner == "O2"

    assert _share(is_found, 50) >= 0.95


@pytest.mark.parametrize("between", [0.0, 0.01, 0.05])
def test_intervals_cover_the_mean_and_chances_the_new_tables(between):
    def covers(draw):
        (pair,) = across(simulated(draw, [0.03, 0.0], tables=8, between=between), ACCURACY).pairs
        truth = 0.03 if pair.better == "O0" else -0.03
        new = draw.normal(0.03, np.hypot(between, between) if between else 0)
        ahead = new if pair.better == "O0" else -new
        return pair.low <= truth <= pair.high, pair.chance, ahead > MARGIN

    covered, chance, happened = np.array(
        [covers(np.random.default_rng(seed)) for seed in range(300)], float
    ).T
    assert covered.mean() >= 0.92  # of 0.95, less 2.4 standard errors
    assert chance.mean() == pytest.approx(happened.mean(), abs=0.08)
