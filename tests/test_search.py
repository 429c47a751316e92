"""The search: resuming, repeating, finite spaces, samplers and pruners on toy objectives."""

import itertools
import logging
import math
import warnings
from collections import Counter
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import qmc

from pipeline.config import Choice, Config, FloatRange, IntRange, Range, check
from pipeline.pruning import Halving, Median, Watch, halving_rungs, median_rungs
from pipeline.search import Proposal, Search, Told, batch_size
from pipeline.space import Axis, Space, Spread

SAMPLERS = ["tpe", "random", "qmc", "gp"]
PRUNERS = ["none", "median", "halving"]


LR = {"low": 1e-4, "high": 1.0, "log": True}
FOUR = [{"name": name, "lr": LR} for name in ("SGD", "Adagrad", "RMSprop", "Adam")]
RICH: dict[str, Any] = {
    "optimizers": [
        {"name": "SGD", "lr": LR, "momentum": {"low": 0.0, "high": 0.9}},
        {"name": "Adam", "lr": LR},
        {"name": "Adam", "lr": LR, "amsgrad": {"choice": [False, True]}},
    ],
    "model": {
        "hidden": {"choice": [[64], [64, 32], []]},
        "dropout": {"low": 0.0, "high": 0.6, "step": 0.1},
    },
    "training": {
        "epochs": 30,
        "batch_size": {"low": 16, "high": 128, "step": 16},
        "patience": {"choice": [5, None]},
    },
}


def make(
    optimizers: Any = FOUR,
    model: dict[str, Any] | None = None,
    training: dict[str, Any] | None = None,
    *,
    seed: int = 0,
    **search: Any,
) -> Config:
    return check(
        {
            "data": {"source": "a.csv", "target": "y"},
            "optimizers": optimizers,
            "model": model or {},
            "training": {"epochs": 30} | (training or {}),
            "search": search,
            "seed": seed,
        }
    )


def accuracy(proposal: Proposal) -> float:
    """Each optimizer has its own best learning rate and its own height; other leaves tilt it."""
    lr = proposal.params.get(f"optimizers.{proposal.entry}.lr", 0.01)
    best = [-0.5, -1.5, -2.5, -3.0][proposal.entry]
    top = [0.66, 0.64, 0.70, 0.68][proposal.entry]
    tilt = 0.02 * proposal.params.get("model.dropout", 0.0)
    return 0.5 + (top - 0.5) * math.exp(-(((math.log10(lr) - best) / 0.8) ** 2)) - tilt


def outcome(proposal: Proposal) -> dict[str, Any]:
    """Some fail, some are pruned, most are complete; by the number, so that it can be repeated."""
    value = accuracy(proposal)
    match proposal.number % 7:
        case 3:
            return {"state": "FAIL", "intermediate": {1: 0.5, 2: math.nan}}
        case 5:
            return {"state": "PRUNED", "intermediate": {1: 0.5, 2: value - 0.01}}
        case _:
            return {"state": "COMPLETE", "value": value, "intermediate": {1: 0.5, 30: value}}


def run(search: Search) -> list[Told]:
    while batch := search.ask():
        for proposal in batch:
            search.tell(proposal.number, **outcome(proposal))
    return search.told


def test_batch_size_fills_a_stack() -> None:
    config = make()
    for folds, repeats, size in [(5, 1, 8), (1, 1, 32), (1, 2, 16), (10, 3, 8)]:
        validation = config.validation.model_copy(update={"folds": folds, "repeats": repeats})
        assert batch_size(config.model_copy(update={"validation": validation})) == size


def small(sampler: str, seed: int = 0) -> Config:
    """Some batches in which the sampler has something to go by; a GP takes its time for each."""
    if sampler == "gp":
        return make(FOUR[:2], sampler=sampler, trials=14, seed=seed)
    return make(**RICH, sampler=sampler, trials=30, seed=seed)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_same_seed_gives_the_same_search_and_another_seed_another(sampler: str) -> None:
    first = run(Search(small(sampler)))
    assert run(Search(small(sampler))) == first
    other = run(Search(small(sampler, seed=1)))
    assert [told.params for told in other] != [told.params for told in first]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_search_that_was_killed_goes_on_as_if_it_had_not_been(sampler: str) -> None:
    config = small(sampler)
    whole = run(Search(config))
    trials = len(whole)
    for cut in range(0, trials, 8):  # at 0 this is the same search again
        assert run(Search(config, whole[:cut])) == whole, cut
    # Inside a batch any of its trials may be there, read back in any order.
    start = trials // 8 * 8 - (0 if sampler == "gp" else 8)
    numbers = range(start, min(start + 8, trials))
    for kept in [numbers[:1], numbers[-1:], (numbers[1], numbers[3], numbers[4]), numbers[:-1]]:
        history = [whole[number] for number in kept] + whole[:start][::-1]
        search = Search(config, history)
        missing = [number for number in numbers if number not in kept]
        assert [proposal.number for proposal in search.ask()] == missing
        assert [p.params for p in search.batch] == [whole[number].params for number in numbers]
        if sampler != "gp":
            assert run(search) == whole


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_order_of_telling_changes_nothing(sampler: str) -> None:
    config = small(sampler)
    search = Search(config)
    while batch := search.ask():
        for proposal in np.random.default_rng(0).permutation(np.arange(len(batch))):
            search.tell(batch[proposal].number, **outcome(batch[proposal]))
    assert search.told == run(Search(config))


def test_asking_again_gives_what_is_not_told_yet() -> None:
    search = Search(make())
    batch = search.ask()
    assert search.ask() == batch
    search.tell(3, "COMPLETE", 0.5)
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
    assert run(Search(make(trials=40), small)) == run(Search(make(trials=40)))


def test_history_may_hold_lists_for_tuples() -> None:
    config = make(**RICH, trials=24)
    whole = run(Search(config))
    as_read = [
        Told(t.number, t.entry, {k: list(v) if isinstance(v, tuple) else v for k, v in
             t.params.items()}, t.state, t.value, t.intermediate)
        for t in whole[:16]
    ]  # fmt: skip
    assert [p.params for p in Search(config, as_read).ask()] == [t.params for t in whole[16:24]]


@pytest.mark.parametrize("objective", ["val_accuracy", "val_loss"])
@pytest.mark.parametrize("pruner", PRUNERS)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_and_pruner_runs_to_the_end_of_the_budget(
    sampler: str, pruner: str, objective: str
) -> None:
    sign = 1.0 if objective == "val_accuracy" else -1.0
    search = Search(make(sampler=sampler, pruner=pruner, objective=objective, trials=21))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        while batch := search.ask():
            # Two members for each trial; curves rise towards the trial's value.
            trial_of = [proposal.number for proposal in batch for _ in range(2)]
            watch = search.watch(batch, trial_of)
            values = np.array([sign * accuracy(p) for p in batch for _ in range(2)])
            members = np.arange(len(trial_of))
            curves: dict[int, dict[int, float]] = {number: {} for number in trial_of}
            for epoch in range(1, 31):
                now = values - sign * 0.2 / epoch
                for member in members:
                    curves[trial_of[member]][epoch] = now[member]
                score = torch.tensor(now[members])
                drop = watch(epoch, score, score, torch.tensor(members)) if watch else ()
                members = np.setdiff1d(members, list(drop))
            for proposal in batch:
                course = curves[proposal.number]
                if len(course) == 30:
                    search.tell(proposal.number, "COMPLETE", course[30], course)
                else:
                    search.tell(proposal.number, "PRUNED", None, course)
    assert [told.number for told in search.told] == list(range(21))
    assert search.remaining == 0
    assert not search.exhausted
    states = Counter(told.state for told in search.told)
    assert states["COMPLETE"] >= 1
    assert (states["PRUNED"] > 0) == (pruner != "none")
    best = search.best
    assert best is not None
    complete = [told for told in search.told if told.state == "COMPLETE"]
    assert best == max(complete, key=lambda told: sign * (told.value or 0.0))


# Finite spaces


def test_four_optimizers_at_one_learning_rate_are_four_trials() -> None:
    search = Search(make([entry | {"lr": 0.01} for entry in FOUR], trials=40))
    assert search.remaining == 4
    assert [proposal.entry for proposal in search.ask()] == [0, 1, 2, 3]
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
    assert [told.entry for told in whole] == [0, 1, 0, 1, 0, 0, 0, 0]
    assert len({repr(told.params) for told in whole}) == 8
    assert run(Search(config, whole[:3] + whole[5:6])) == whole


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
    assert len({(told.entry, repr(told.params)) for told in whole}) == size - 1
    assert not Search(config, whole).exhausted
    assert run(Search(config, whole[: size - 2])) == whole


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_entry_without_ranges_is_tried_once_beside_others(sampler: str) -> None:
    entries = [{"name": "SGD", "lr": LR}, {"name": "Adadelta"}, {"name": "Adam", "lr": LR}]
    whole = run(Search(make(entries, sampler=sampler, trials=20)))
    assert len(whole) == 20
    assert sum(told.entry == 1 for told in whole) == 1


# Equal budgets


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


# Points


def test_points_have_the_values_that_the_configuration_holds() -> None:
    told = run(Search(make(**RICH, trials=40)))
    assert {repr(t.params["model.hidden"]) for t in told} == {"(64,)", "(64, 32)", "()"}
    assert {t.params["training.patience"] for t in told} == {5, None}
    for trial in told:
        assert trial.params["model.dropout"] in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
        assert trial.params["training.batch_size"] in range(16, 129, 16)
        own = [path for path in trial.params if path.startswith("optimizers.")]
        assert all(path.startswith(f"optimizers.{trial.entry}.") for path in own)
    assert {type(t.params.get("optimizers.2.amsgrad", True)) for t in told} == {bool}


def test_two_entries_may_have_one_name() -> None:
    space = Space(make(**RICH))
    assert space.names == ("SGD", "Adam [1]", "Adam [2]")
    assert {told.entry for told in run(Search(make(**RICH)))} == {0, 1, 2}


def test_a_sampler_that_insists_on_one_point_is_led_on() -> None:
    """The entry without ranges is by far the best, and can be had once."""
    search = Search(make([{"name": "Adadelta"}, {"name": "SGD", "lr": LR}], trials=48))
    while batch := search.ask():
        for proposal in batch:
            search.tell(proposal.number, "COMPLETE", 0.9 if proposal.entry == 0 else 0.1)
    assert [told.entry for told in search.told].count(0) == 1
    assert len({told.params.get("optimizers.1.lr") for told in search.told}) == 48


def test_a_billion_whole_numbers_cost_nothing() -> None:
    search = Search(
        make([{"name": "SGD"}], {}, {"batch_size": {"low": 1, "high": 10**9}}, trials=16)
    )
    assert len({told.params["training.batch_size"] for told in run(search)}) == 16


ranges = st.one_of(
    st.builds(
        lambda low, width, log: IntRange(low, low + width, log=log),
        st.integers(1, 50), st.integers(0, 50), st.booleans(),
    ),
    st.builds(
        lambda low, width, step: IntRange(low, low + width, step=step),
        st.integers(-50, 50), st.integers(0, 50), st.integers(1, 7),
    ),
    st.builds(
        lambda low, width, log: FloatRange(low, low + width, log=log),
        st.floats(1e-6, 10), st.floats(0, 10), st.booleans(),
    ),
    st.lists(st.one_of(st.none(), st.integers(), st.text()), min_size=1, unique=True).map(
        lambda values: Choice(tuple(values))
    ),
)  # fmt: skip


@given(ranges, st.floats(0, 1, exclude_max=True))
def test_an_axis_gives_values_of_its_range(leaf: Range, fraction: float) -> None:
    axis = Axis.of("x", leaf)
    value = axis.at(fraction)
    if isinstance(leaf, Choice):
        assert value in leaf.choice
    else:
        assert leaf.low <= value <= leaf.high
    if axis.values is not None:
        assert value in axis.values
    assert axis.decode(axis.encode(value)) == value


def test_every_value_of_a_choice_gets_its_share_of_a_spread() -> None:
    space = Space(
        make([{"name": "SGD", "lr": {"choice": [1, 2, 3, 4]}}], {"dropout": LR | {"high": 0.5}})
    )
    spread = Spread(space, (0,))
    drawn = Counter(spread.point(0, index).params["optimizers.0.lr"] for index in range(64))
    assert drawn == {1: 16, 2: 16, 3: 16, 4: 16}


def test_qmc_spreads_evenly_within_each_optimizer() -> None:
    optimizers = [
        {"name": name, "lr": LR, "weight_decay": {"low": 0.0, "high": 1.0}}
        for name in ("SGD", "Adam", "AdamW")
    ]

    def discrepancies(sampler: str, seed: int) -> list[float]:
        told = run(Search(make(optimizers, sampler=sampler, trials=96, seed=seed)))
        found = []
        for entry in range(3):
            rows = [tuple(t.params.values()) for t in told if t.entry == entry]
            unit = np.array([[math.log10(lr) / 4 + 1, decay] for lr, decay in rows])
            found.append(float(qmc.discrepancy(np.clip(unit, 0, 1))))
        if sampler == "qmc":
            assert Counter(t.entry for t in told) == {0: 32, 1: 32, 2: 32}
        return found

    even = [d for seed in range(5) for d in discrepancies("qmc", seed)]
    chance = [d for seed in range(5) for d in discrepancies("random", seed)]
    assert max(even) < min(chance)
    assert np.mean(even) < np.mean(chance) / 5


# Samplers


def regret(sampler: str, seed: int, trials: int) -> float:
    search = Search(make(sampler=sampler, trials=trials, seed=seed))
    while batch := search.ask():
        for proposal in batch:
            search.tell(proposal.number, "COMPLETE", accuracy(proposal))
    assert search.best is not None
    assert search.best.value is not None
    return 0.70 - search.best.value


@pytest.mark.parametrize(("sampler", "seeds", "trials"), [("tpe", 12, 40), ("gp", 1, 24)])
def test_samplers_that_learn_beat_random_on_a_conditional_space(
    sampler: str, seeds: int, trials: int
) -> None:
    learned = [regret(sampler, seed, trials) for seed in range(seeds)]
    random = [regret("random", seed, trials) for seed in range(24)]
    assert np.mean(learned) < np.mean(random) / 2


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_samplers_keep_away_from_where_trials_fail(sampler: str) -> None:
    """Above a learning rate of 0.01 everything diverges; the best is just below it."""
    failed = []
    trials = 24 if sampler == "gp" else 40
    for seed in range(1 if sampler == "gp" else 4):
        search = Search(make(FOUR[:1], sampler=sampler, trials=trials, seed=seed))
        while batch := search.ask():
            for proposal in batch:
                lr = proposal.params["optimizers.0.lr"]
                if lr > 0.01:
                    search.tell(proposal.number, "FAIL")
                else:
                    search.tell(proposal.number, "COMPLETE", 0.6 + 0.02 * math.log10(lr))
        failed.append(sum(told.state == "FAIL" for told in search.told[16:]))
        assert all(told.value is None for told in search.told if told.state == "FAIL")
    # Half of the range fails; if TPE heard nothing of failures, nine tenths of its trials would.
    assert np.mean(failed) < 0.5 * (trials - 16)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_search_in_which_everything_fails_ends(sampler: str) -> None:
    search = Search(make(sampler=sampler, trials=24))
    while batch := search.ask():
        for proposal in batch:
            search.tell(proposal.number, "FAIL")
    assert search.best is None
    assert len(search.told) == 24


# Telling, the best, the study


def test_the_best_is_the_first_of_equals() -> None:
    for objective, best in [("val_accuracy", 2), ("val_loss", 1)]:
        search = Search(make(objective=objective, trials=8))
        search.ask()
        for number, value in enumerate([0.6, 0.5, 0.7, 0.7, 0.5, 0.6]):
            search.tell(number, "COMPLETE", value)
        search.tell(6, "PRUNED", 0.9, {1: 0.9})
        search.tell(7, "FAIL")
        assert search.best is not None
        assert search.best.number == best


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_a_complete_trial_needs_a_finite_value(value: float | None) -> None:
    search = Search(make())
    search.ask()
    with pytest.raises(ValueError, match="finite"):
        search.tell(0, "COMPLETE", value)


def test_only_what_was_proposed_can_be_told_and_only_once() -> None:
    search = Search(make())
    search.ask()
    search.tell(0, "COMPLETE", 0.5)
    for number in (0, 8, -1):
        with pytest.raises(ValueError, match="does not wait"):
            search.tell(number, "COMPLETE", 0.5)


def test_the_study_holds_all_trials_for_optunas_plots() -> None:
    search = Search(make(**RICH, sampler="gp", trials=24))
    run(search)
    study = search.study
    assert [trial.number for trial in study.trials] == list(range(24))
    assert [trial.state.name for trial in study.trials] == [told.state for told in search.told]
    assert search.best is not None
    assert study.best_trial.number == search.best.number
    assert study.trials[2].params["optimizer"] == "Adam [2]"
    for plot in ("optimization_history", "slice", "intermediate_values"):
        assert getattr(optuna.visualization, f"plot_{plot}")(study).data


def test_nothing_is_said(caplog: pytest.LogCaptureFixture, capfd: Any) -> None:
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        for sampler in SAMPLERS:
            run(Search(small(sampler)))
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


# Pruning


def test_rungs_are_few_and_before_the_end() -> None:
    assert halving_rungs(100, 8) == (11, 33)
    assert halving_rungs(1000, 32) == (37, 111, 333)
    assert halving_rungs(2, 8) == (1,)
    assert halving_rungs(1, 8) == ()
    assert median_rungs(1) == ()
    for epochs in (2, 5, 30, 100, 1000):
        rungs = median_rungs(epochs)
        assert 1 <= len(rungs) <= 8
        assert rungs[0] >= 1
        assert rungs[-1] < epochs


def test_no_tensor_is_read_between_rungs() -> None:
    watch = Watch(Halving((10,), {}), [0, 0, 1, 1, 2, 2], maximise=True)
    nothing: Any = object()
    for epoch in range(1, 10):
        assert not watch(epoch, nothing, nothing, nothing)
    with pytest.raises(AttributeError):
        watch(10, nothing, nothing, nothing)


def test_halving_keeps_a_third_by_the_mean_of_the_members() -> None:
    watch = Watch(Halving((1,), {}), [0, 1, 2, 0, 1, 2], maximise=True)
    scores = torch.tensor([0.9, 0.6, 0.5, 0.3, 0.8, 0.5])  # means 0.6, 0.7, 0.5
    assert sorted(watch(1, -scores, scores, torch.arange(6))) == [0, 2, 3, 5]
    watch = Watch(Halving((1,), {}), [0, 1, 2, 0, 1, 2], maximise=False)
    assert sorted(watch(1, scores, -scores, torch.arange(6))) == [0, 1, 3, 4]


def test_halving_compares_with_earlier_trials_and_never_drops_all() -> None:
    values = torch.tensor([0.5, 0.6, 0.7])
    poor = Watch(Halving((1,), {1: [0.8] * 9}), [0, 1, 2], maximise=True)
    assert sorted(poor(1, values, values, torch.arange(3))) == [0, 1]
    rich = Watch(Halving((1,), {1: [0.4] * 9}), [0, 1, 2], maximise=True)
    assert sorted(rich(1, values, values, torch.arange(3))) == []
    ties = Watch(Halving((1,), {}), [0, 1, 2], maximise=True)
    assert not ties(1, torch.ones(3), torch.ones(3), torch.arange(3))


def test_members_that_stopped_count_with_the_score_of_their_lowest_loss() -> None:
    watch = Watch(Halving((4,), {}), [0, 0, 1, 2], maximise=True)

    def epoch(number: int, losses: list[float], scores: list[float], *who: int) -> list[int]:
        return list(watch(number, torch.tensor(losses), torch.tensor(scores), torch.tensor(who)))

    assert not epoch(1, [0.3, 1, 1, 1], [0.9, 0.1, 0.6, 0.1], 0, 1, 2, 3)
    assert not epoch(2, [0.4, 1, 1, 1], [0.2, 0.1, 0.6, 0.1], 0, 1, 2, 3)
    # Member 0 left after epoch 2: trial 0 has (0.9 + 0.4) / 2 now, more than trial 1.
    assert not epoch(3, [1, 1, 1], [0.2, 0.6, 0.1], 1, 2, 3)
    assert epoch(4, [1, 1, 1], [0.4, 0.6, 0.1], 1, 2, 3) == [2, 3]


def test_a_member_that_is_not_finite_makes_its_trial_the_worst() -> None:
    for maximise in (True, False):
        watch = Watch(Halving((1,), {}), [0, 0, 1, 2], maximise)
        values = torch.tensor([math.nan, 0.9, 0.5, 0.5])
        assert watch(1, values, values, torch.arange(4)) == [0, 1]


@pytest.mark.parametrize("objective", ["val_accuracy", "val_loss"])
def test_the_median_rule_is_optunas(objective: str) -> None:
    config = make(objective=objective, pruner="median", trials=16)
    rungs = median_rungs(30)
    rng = np.random.default_rng(0)
    search = Search(config)
    assert search.watch(search.ask(), []) is None  # nothing to compare with yet
    direction = "maximize" if objective == "val_accuracy" else "minimize"
    study = optuna.create_study(direction=direction)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=5)
    for proposal in search.ask():
        course = {epoch: float(rng.uniform(0.4, 0.6)) for epoch in range(1, 31)}
        search.tell(proposal.number, "COMPLETE", course[30], course)
        study.add_trial(optuna.create_trial(value=course[30], intermediate_values=course))
    batch = search.ask()
    numbers = [proposal.number for proposal in batch]
    watch = search.watch(batch, numbers)
    assert watch is not None
    trials = [study.ask() for _ in batch]
    running = list(range(8))
    for epoch in range(1, 31):
        values = np.linspace(0.3, 0.7, 8) + 0.2 * rng.random(8)
        given = torch.tensor(values[running])
        dropped = watch(epoch, given, given, torch.tensor(running))
        expected = []
        if epoch in rungs:
            for index in running:
                trials[index].report(values[index], epoch)
                if pruner.prune(study, study.trials[trials[index].number]):
                    expected.append(index)
        assert list(dropped) == expected
        running = [index for index in running if index not in dropped]
    assert 0 < len(running) < 8


def test_pruning_depends_on_trials_before_the_batch_alone() -> None:
    config = make(pruner="halving", trials=24)
    whole = run(Search(config))
    values = torch.linspace(0.4, 0.6, 8)

    def drops(search: Search) -> list[int]:
        watch = search.watch(search.batch, [proposal.number for proposal in search.batch])
        assert watch is not None
        return [int(member) for member in watch(3, values, values, torch.arange(8))]

    cut = Search(config, whole[:12])
    assert drops(cut) == drops(Search(config, whole[:8]))


def test_a_trial_that_stopped_early_counts_at_later_rungs() -> None:
    assert Told(0, 0, {}, "COMPLETE", 0.6, {1: 0.5, 2: 0.6}).at(9) == 0.6
    assert Told(0, 0, {}, "PRUNED", None, {1: 0.5, 2: 0.6}).at(9) is None
    assert Told(0, 0, {}, "PRUNED", None, {1: 0.5, 2: 0.6}).at(2) == 0.6
    assert Told(0, 0, {}, "COMPLETE", 0.6).at(2) is None


def test_members_must_be_of_proposed_trials() -> None:
    search = Search(make(pruner="halving"))
    with pytest.raises(ValueError, match="not proposed"):
        search.watch(search.ask()[:2], [0, 1, 2])


def test_the_median_rule_drops_nothing_without_anything_to_compare_with() -> None:
    assert Median((1,), {}).losers(1, {0: 0.5}, [0]) == set()


def test_every_point_of_a_finite_space_has_its_number() -> None:
    space = Space(
        make([{"name": "SGD", "lr": {"choice": [1, 2, 3]}}], {"hidden": [{"low": 1, "high": 4}]})
    )
    points = [space.branches[0].point(index).params for index in range(space.size or 0)]
    expected = itertools.product(range(1, 5), (1, 2, 3))
    assert [tuple(params.values()) for params in points] == list(expected)


def test_params_are_read_back_from_the_texts_of_a_run() -> None:
    config = make(**RICH, trials=30)
    space = Space(config)
    for told in run(Search(config)):
        flat = config.at(told.entry, told.params).flat()
        own = f"optimizers.{told.entry}."
        texts = {path: flat[path.replace(own, "optimizers.0.")] for path in told.params}
        assert space.read(told.entry, texts | {"seed": "0"}) == told.params
    with pytest.raises(ValueError, match=r"model.hidden has no value '\[1\]'"):
        space.read(0, texts | {"model.hidden": "[1]"})


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
