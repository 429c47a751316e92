"""The page, the tables and the sentences of a sweep, of comparisons that are made up."""

import numpy as np
import pytest

from pipeline.analysis.across import across
from pipeline.analysis.common_rate import CommonRate, common_rates
from pipeline.models.metrics import ACCURACY, LOSS
from pipeline.report import overview
from pipeline.report.figures.many import rate_ranges
from tests.analysis.test_across import searched, simulated
from tests.analysis.test_common_rate import RATES, search_of
from tests.study import NASTY


def shown(searches, metric=ACCURACY, problems=(), address=""):
    compared, rates = across(searches, metric), common_rates(searches, metric)
    sentences = overview.answer(compared, rates, len(searches))
    page = overview.page(compared, rates, searches, sentences, problems, address)
    return page, sentences


@pytest.mark.parametrize("metric", [ACCURACY, LOSS])
def test_a_planted_winner_is_named_with_its_lead(metric):
    searches = simulated(np.random.default_rng(0), [0, 0, 0.1], tables=12)
    if metric is LOSS:
        searches = [
            searched(s.table, {f.optimizer: 1 - f.scores["accuracy"] for f in s.evidence.finalists},
                     LOSS) for s in searches
        ]  # fmt: skip
    page, sentences = shown(searches, metric)
    assert sentences[0].startswith("O2 is the best over 12 tables (12 searches)")
    assert ("points" in sentences[0]) == (metric is ACCURACY)
    assert sentences[0] in page.replace("\xa0", " ")
    assert page.count("<svg") == 1  # of the differences: no learning rate was searched
    table = overview.optimizer_table(across(searches, metric), ())
    assert table.rows[0][0] == "O2"


def test_few_tables_are_not_compared():
    page, sentences = shown(simulated(np.random.default_rng(0), [0, 0.1], tables=2))
    assert "not compared" in sentences[0]
    assert "<svg" not in page


def test_rates_are_drawn_and_named():
    draw = np.random.default_rng(0)
    searches = []
    for i, each in enumerate(simulated(draw, [0.05, 0.0], tables=4)):
        trials = search_of(str(i), -2.0, RATES, name="O0").trials
        scores = {f.optimizer: f.scores["accuracy"] for f in each.evidence.finalists}
        searches.append(searched(each.table, scores, trials=trials))
    page, sentences = shown(searches, address="http://host/#/experiments/1/runs")
    assert page.count("<svg") == 3
    assert "0.01 loses least for O0" in sentences[-1]
    assert 'href="http://host/#/experiments/1/runs/run t0"' in page


def test_nothing_from_data_is_markup():
    searches = [searched(f"{NASTY} {i}", {NASTY: [0.8] * 5, "B": [0.7] * 5}) for i in range(4)]
    page, _ = shown(searches, problems=[NASTY])
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_csv_has_every_cell():
    searches = simulated(np.random.default_rng(0), [0, 0.1], tables=4)
    table = overview.score_table(across(searches, ACCURACY))
    lines = overview.csv_text(table).splitlines()
    assert len(lines) == 5
    assert lines[0].split(",")[0] == "Table"


def test_optimizers_that_are_level_are_said_to_be():
    draw = np.random.default_rng(0)
    searches = simulated(draw, [0, 0, 0], tables=40, between=0.001, within=0.005)
    compared = across(searches, ACCURACY)
    reach = max(max(abs(pair.low), abs(pair.high)) for pair in compared.pairs)
    assert reach < 0.01
    _, sentences = shown(searches)
    assert f"by more than {100 * reach:.1f} points on average" in sentences[0]
    assert "do not decide" not in " ".join(sentences)


def test_the_bar_of_a_rate_ends_where_a_point_is_lost():
    """Rates that too few tables were tried at neither end it nor are in it."""
    loss = np.array([0.05, np.nan, 0.009, 0.0, np.nan, 0.008, 0.02, 0.001])
    rates = 10.0 ** np.arange(-4, 4)
    rate = CommonRate("Adam", rates, loss, 0.1, 0.0, 0.0, 0.01, 1.0, 5)
    (axes,) = rate_ranges([rate], ACCURACY).panels
    bar = next(line for line in axes.lines if line.get_linewidth() == 6)
    np.testing.assert_allclose(bar.get_xdata(), rates[[2, 5]])
