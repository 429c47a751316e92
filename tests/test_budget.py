"""The size of a batch, and equal budgets."""

from collections import Counter

import pytest

from pipeline.search import Search, batch_size
from tests.toy_search import FOUR, LR, RICH, SAMPLERS, accuracy, make, run


def test_batch_size_fills_a_stack() -> None:
    config = make()
    for folds, repeats, size in [(5, 1, 8), (1, 1, 32), (1, 2, 16), (10, 3, 8)]:
        validation = config.validation.model_copy(update={"folds": folds, "repeats": repeats})
        assert batch_size(config.model_copy(update={"validation": validation})) == size


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_equal_budgets_give_each_entry_its_turn(sampler: str) -> None:
    if sampler == "gp":
        config = make(FOUR[:2], sampler=sampler, trials=11, budget="equal")
    else:
        config = make(**RICH, sampler=sampler, trials=32, budget="equal")
    whole = run(Search(config))
    entries = len(config.optimizers)
    assert [told.entry for told in whole] == [n % entries for n in range(config.search.trials)]
    for cut in (0, 3, 8, 10, len(whole) - 1):
        assert run(Search(config, whole[:cut][::-1])) == whole, cut


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_an_entrys_study_knows_nothing_of_the_others(sampler: str) -> None:
    """What SGD's trials were worth does not change where Adam is tried."""
    config = make(FOUR[:2], sampler=sampler, trials=14, budget="equal")
    found = []
    for factor in (1.0, 0.1):
        search = Search(config)
        while batch := search.ask():
            for one in batch:
                value = accuracy(one) * (factor if one.entry == 0 else 1.0)
                search.tell(one.number, "COMPLETE", value)
        found.append([told.params for told in search.told if told.entry == 1])
    assert found[0] == found[1]


def test_a_greater_equal_budget_goes_on_where_the_smaller_ended() -> None:
    small, large = (make(**RICH, trials=n, budget="equal") for n in (19, 33))
    first = run(Search(small))
    # The last batch of the smaller search was cut short, and is asked again whole.
    assert run(Search(large, first[:16])) == run(Search(large))
    assert run(Search(large, first))[:19] == first


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_entry_with_few_points_leaves_its_share_unspent(sampler: str) -> None:
    entries = [{"name": "SGD", "lr": LR}, {"name": "Adadelta"}, {"name": "Adam", "lr": LR}]
    search = Search(make(entries, sampler=sampler, trials=14, budget="equal"))
    assert search.remaining == 5 + 1 + 4
    whole = run(search)
    assert Counter(told.entry for told in whole) == {0: 5, 1: 1, 2: 4}
    assert search.exhausted
    assert search.remaining == 0
    assert [told.entry for told in whole] == [0, 1, 2, 0, 2, 0, 2, 0, 2, 0]


def test_equal_budgets_of_a_finite_space() -> None:
    grids = [
        {"name": "SGD", "lr": {"choice": [0.1, 0.01, 0.001]}},
        {"name": "Adam", "lr": {"choice": [0.1, 0.01, 0.001, 0.0001]}},
    ]
    whole = run(Search(make(grids, trials=4, budget="equal")))
    assert [told.entry for told in whole] == [0, 1, 0, 1]
    whole = run(Search(make(grids, trials=40, budget="equal")))
    assert Counter(told.entry for told in whole) == {0: 3, 1: 4}
    assert len({repr(told.params) for told in whole}) == 7
