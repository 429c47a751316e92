"""The points of a batch: finite spaces, and the values that points have."""

from typing import Any

import pytest

from pipeline.search.search import Search
from pipeline.search.space import Space
from pipeline.training.trial import Trial
from tests.toy_search import FOUR, LR, RICH, SAMPLERS, ended, entries, make, same


def run(search: Search) -> list[Trial]:
    """All trials complete, the earlier ones worse."""
    while batch := search.ask():
        for proposal in batch:
            search.tell(ended(proposal, "COMPLETE", 0.5 + proposal.number / 1000))
    return search.told


def test_four_optimizers_at_one_learning_rate_are_four_trials() -> None:
    config = make([entry | {"lr": 0.01} for entry in FOUR], trials=40)
    search = Search(config)
    assert search.remaining == 4
    assert entries(config, search.ask()) == [0, 1, 2, 3]
    assert not search.exhausted
    run(search)
    assert search.exhausted
    assert search.remaining == 0
    assert search.ask() == []
    assert search.batch == []


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_space_that_fits_in_the_budget_is_enumerated_with_optimizers_in_turn(
    sampler: str,
) -> None:
    optimizers = [{"name": "SGD", "lr": {"choice": [0.1, 0.01, 0.001]}}, {"name": "Adam"}]
    model = {"hidden": {"choice": [[64], [64, 32]]}}
    config = make(optimizers, model, sampler=sampler, trials=20)
    whole = run(Search(config))
    assert entries(config, whole) == [0, 1, 0, 1, 0, 0, 0, 0]
    assert len({repr(told.params) for told in whole}) == 8
    assert same(run(Search(config, whole[:3] + whole[5:6])), whole)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_finite_space_never_repeats_a_point(sampler: str) -> None:
    optimizers = [
        {"name": "SGD", "lr": {"choice": [0.1, 0.01]}},
        {"name": "Adam", "amsgrad": {"choice": [True, False]}},
    ]
    model: dict[str, Any] = {"hidden": [{"low": 1, "high": 5}]}
    if sampler != "gp":
        model["dropout"] = {"low": 0.0, "high": 0.2, "step": 0.1}
    size = 20 if sampler == "gp" else 60
    assert Space(make(optimizers, model)).size == size
    # With one more trial the space would be enumerated.
    config = make(optimizers, model, sampler=sampler, trials=size - 1)
    whole = run(Search(config))
    assert len({(told.optimizer, repr(told.params)) for told in whole}) == size - 1
    assert not Search(config, whole).exhausted
    assert same(run(Search(config, whole[: size - 2])), whole)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_entry_without_ranges_is_tried_once_beside_others(sampler: str) -> None:
    three = [{"name": "SGD", "lr": LR}, {"name": "Adadelta"}, {"name": "Adam", "lr": LR}]
    whole = run(Search(make(three, sampler=sampler, trials=20)))
    assert len(whole) == 20
    assert sum(told.optimizer == "Adadelta" for told in whole) == 1


def test_points_have_the_values_that_the_configuration_holds() -> None:
    config = make(**RICH, trials=40)
    told = run(Search(config))
    assert {repr(t.params["model.hidden"]) for t in told} == {"(64,)", "(64, 32)", "()"}
    assert {t.params["training.patience"] for t in told} == {5, None}
    for trial in told:
        assert trial.params["model.dropout"] in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
        assert trial.params["training.batch_size"] in range(16, 129, 16)
        own = [path for path in trial.params if path.startswith("optimizers.")]
        (entry,) = entries(config, [trial])
        assert all(path.startswith(f"optimizers.{entry}.") for path in own)
    assert {type(t.params.get("optimizers.2.amsgrad", True)) for t in told} == {bool}


def test_a_sampler_that_insists_on_one_point_is_led_on() -> None:
    """The entry without ranges is by far the best, and can be had once."""
    search = Search(make([{"name": "Adadelta"}, {"name": "SGD", "lr": LR}], trials=48))
    while batch := search.ask():
        for proposal in batch:
            score = 0.9 if proposal.optimizer == "Adadelta" else 0.1
            search.tell(ended(proposal, "COMPLETE", score))
    assert [told.optimizer for told in search.told].count("Adadelta") == 1
    assert len({told.params.get("optimizers.1.lr") for told in search.told}) == 48


def test_a_billion_whole_numbers_cost_nothing() -> None:
    search = Search(
        make([{"name": "SGD"}], {}, {"batch_size": {"low": 1, "high": 10**9}}, trials=16)
    )
    assert len({told.params["training.batch_size"] for told in run(search)}) == 16
