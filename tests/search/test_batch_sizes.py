"""How many trials are asked together."""

from typing import Any

import pytest

from pipeline.search.batch_sizes import MOST, batch_around, smallest_batch
from pipeline.search.search import Search
from pipeline.search.space import Space
from tests.toy_search import FOUR, SAMPLERS, make, run, same


def sizes(until: int, **search: Any) -> list[int]:
    """Of the batches of a search's first trials."""
    config = make(FOUR, **search, trials=until)
    found, start = [], 0
    while start < until:
        found.append(len(batch_around(config, Space(config), start)))
        start += found[-1]
    return found


def test_the_smallest_batch_fills_a_stack() -> None:
    config = make()
    for folds, repeats, size in [(5, 1, 8), (1, 1, 32), (1, 2, 16), (10, 3, 8)]:
        validation = config.validation.model_copy(update={"folds": folds, "repeats": repeats})
        assert smallest_batch(config.model_copy(update={"validation": validation})) == size


def test_a_batch_is_an_eighth_of_what_is_known() -> None:
    of_tpe = sizes(5000, sampler="tpe")
    assert of_tpe[:8] == [16, 8, 8, 8, 8, 8, 8, 8]  # four optimizers: 20 trials before it begins
    known = 0
    for size in of_tpe:
        assert size == max(16 - known, 8, min(MOST, known // 64 * 8))
        known += size
    assert len(of_tpe) < 60


@pytest.mark.parametrize("sampler", ["random", "qmc"])
def test_trials_that_read_no_score_are_asked_together(sampler: str) -> None:
    assert sizes(3000, sampler=sampler) == [MOST, MOST, MOST]
    config = make(FOUR, sampler=sampler, trials=50)
    assert len(Search(config).ask()) == 50


def test_equal_budgets_begin_when_every_entry_may() -> None:
    assert sizes(40, sampler="tpe", budget="equal") == [16, 8, 8, 8]
    assert sizes(40, sampler="gp") == [16, 8, 8, 8]  # three and one for the learning rate, each


@pytest.mark.parametrize("pruner", ["median", "halving"])
def test_with_a_pruner_batches_stay_small(pruner: str) -> None:
    assert set(sizes(400, sampler="random", pruner=pruner)) == {8}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_number_is_in_the_batch_around_it(sampler: str) -> None:
    config = make(FOUR, sampler=sampler, trials=300)
    space = Space(config)
    for number in range(300):
        batch = batch_around(config, space, number)
        assert number in batch
        assert (
            batch_around(config, space, batch.start)
            == batch
            == batch_around(config, space, batch.stop - 1)
        )


def test_a_long_search_goes_on_in_the_middle_of_a_large_batch() -> None:
    config = make(FOUR, sampler="tpe", trials=150)
    whole = run(Search(config))
    batch = batch_around(config, Space(config), 140)
    assert len(batch) > 8
    some = [trial for trial in whole if trial.number < batch.start or trial.number % 3 == 0]
    assert same(run(Search(config, some[::-1])), whole)
    longer = make(FOUR, sampler="tpe", trials=170)
    assert same(run(Search(longer, whole))[:150], whole)
