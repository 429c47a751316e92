"""The search: resuming, repeating, telling, and what is left of the budget."""

import math
import warnings
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from pipeline.config import check
from pipeline.search.batch_sizes import batch_around
from pipeline.search.search import Search
from pipeline.search.space import Space
from pipeline.training.trial import Trial
from tests.toy_search import (
    PRUNERS,
    RICH,
    SAMPLERS,
    accuracy,
    ended,
    make,
    outcome,
    run,
    same,
    small,
    train,
)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_same_seed_gives_the_same_search_and_another_seed_another(sampler: str) -> None:
    first = run(Search(small(sampler)))
    assert same(run(Search(small(sampler))), first)
    other = run(Search(small(sampler, seed=1)))
    assert [told.params for told in other] != [told.params for told in first]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_search_that_was_killed_goes_on_as_if_it_had_not_been(sampler: str) -> None:
    config = small(sampler)
    whole = run(Search(config))
    trials = len(whole)
    for cut in range(0, trials, 8):  # at 0 this is the same search again
        assert same(run(Search(config, whole[:cut])), whole), cut
    # Inside a batch any of its trials may be there, read back in any order.
    batch = batch_around(config, Space(config), trials - 1)
    start, numbers = batch.start, range(batch.start, min(batch.stop, trials))
    for kept in [numbers[:1], numbers[-1:], (numbers[1], numbers[3], numbers[4]), numbers[:-1]]:
        history = [whole[number] for number in kept] + whole[:start][::-1]
        search = Search(config, history)
        missing = [number for number in numbers if number not in kept]
        assert [proposal.number for proposal in search.ask()] == missing
        assert [p.params for p in search.batch] == [whole[number].params for number in numbers]
        if sampler != "gp":
            assert same(run(search), whole)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_order_of_telling_changes_nothing(sampler: str) -> None:
    config = small(sampler)
    search = Search(config)
    while batch := search.ask():
        for proposal in np.random.default_rng(0).permutation(np.arange(len(batch))):
            search.tell(outcome(batch[proposal]))
    assert same(search.told, run(Search(config)))


def test_asking_again_gives_what_is_not_told_yet() -> None:
    search = Search(make())
    batch = search.ask()
    assert search.ask() == batch
    search.tell(ended(batch[3], "COMPLETE", 0.5))
    assert search.ask() == [proposal for proposal in batch if proposal.number != 3]
    assert search.batch == batch


def test_a_trial_that_was_deleted_is_proposed_again() -> None:
    config = make(trials=24)
    whole = run(Search(config))
    search = Search(config, [told for told in whole if told.number != 9])
    assert search.remaining == 1
    (again,) = search.ask()
    assert (again.number, again.params) == (9, whole[9].params)


def test_a_greater_budget_goes_on_where_the_smaller_ended() -> None:
    small = run(Search(make(trials=20)))
    assert same(run(Search(make(trials=40), small)), run(Search(make(trials=40))))


def test_history_may_hold_lists_for_tuples() -> None:
    config = make(**RICH, trials=24)
    whole = run(Search(config))
    as_read = [
        replace(t, params={k: list(v) if isinstance(v, tuple) else v for k, v in t.params.items()})
        for t in whole[:16]
    ]
    assert [p.params for p in Search(config, as_read).ask()] == [t.params for t in whole[16:24]]


@pytest.mark.parametrize("objective", ["val_accuracy", "val_loss"])
@pytest.mark.parametrize("pruner", PRUNERS)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_and_pruner_runs_to_the_end_of_the_budget(
    sampler: str, pruner: str, objective: str
) -> None:
    sign = 1.0 if objective == "val_accuracy" else -1.0

    def course(proposal: Trial) -> np.ndarray:  # rises towards the trial's value
        return np.asarray(sign * (accuracy(proposal) - 0.2 / np.arange(1, 31)))

    search = Search(make(sampler=sampler, pruner=pruner, objective=objective, trials=21))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(search, course, members=2)
    assert [told.number for told in search.told] == list(range(21))
    assert search.remaining == 0
    assert not search.exhausted
    states = Counter(told.state for told in search.told)
    assert states["COMPLETE"] >= 1
    assert (states["PRUNED"] > 0) == (pruner != "none")


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_a_complete_trial_needs_a_finite_value(value: float | None) -> None:
    search = Search(make())
    with pytest.raises(ValueError, match="finite"):
        search.tell(ended(search.ask()[0], "COMPLETE", value))


def test_only_what_was_proposed_can_be_told_and_only_once() -> None:
    search = Search(make())
    first = ended(search.ask()[0], "COMPLETE", 0.5)
    search.tell(first)
    for number in (0, 16, -1):
        with pytest.raises(ValueError, match="does not wait"):
            search.tell(replace(first, number=number))


def test_a_budget_of_a_billion_costs_no_list_of_it() -> None:
    config = check(
        {
            "data": {"source": "t.csv", "target": "y"},
            "optimizers": [{"name": "SGD", "lr": {"choice": [0.1, 0.2]}}],
            "search": {"trials": 1_000_000_000},
        }
    )
    search = Search(config)
    assert search.remaining == 2
    assert len(search.ask()) == 2
