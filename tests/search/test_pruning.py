"""The pruning rules, and the trials that they compare with."""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config import Config
from pipeline.models.metrics import ACCURACY, LOSS, Metric
from pipeline.search.optuna_study import MedianRule
from pipeline.search.pruning import Halving, Rule, StackPruning, halving_rungs, median_rungs
from pipeline.search.search import Search
from pipeline.training.trial import Trial
from tests.pruned_by_hand import Course, cut
from tests.toy_search import LR, ended, entries, lengths, make, run, same, scores, train

FIVE = [{"name": name, "lr": LR} for name in ("SGD", "Adagrad", "RMSprop", "Adam", "AdamW")]

ORDER = [entry["name"] for entry in FIVE]


def judged_by(rule: Rule, trial_of: list[int], metric: Metric, rung: int = 1) -> StackPruning:
    """A stack whose trials are all judged by one rule, at one epoch."""
    return StackPruning([rung], [(rule, {*trial_of})], trial_of, metric)


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


def test_halving_compares_with_earlier_trials_and_never_drops_all() -> None:
    values = np.array([0.5, 0.6, 0.7])
    poor = judged_by(Halving([{1: 0.8}] * 9), [0, 1, 2], ACCURACY)
    assert sorted(poor(1, scores(values), np.arange(3))) == [0, 1]
    rich = judged_by(Halving([{1: 0.4}] * 9), [0, 1, 2], ACCURACY)
    assert sorted(rich(1, scores(values), np.arange(3))) == []
    ties = judged_by(Halving([]), [0, 1, 2], ACCURACY)
    assert not ties(1, scores(np.ones(3)), np.arange(3))


def test_halving_brings_a_stack_down_by_thirds() -> None:
    halving = Halving([])
    values = {trial: float(trial) for trial in range(9)}
    assert halving.dropped(3, values, list(range(9))) == {0, 1, 2, 3, 4, 5}
    assert halving.dropped(10, values, [6, 7, 8]) == {6, 7}  # the six do not count any more


def test_halving_keeps_the_best_of_three_or_more_but_not_a_lone_trial() -> None:
    earlier = [{1: 0.8}] * 9
    assert Halving(earlier).dropped(1, {0: 0.5, 1: 0.6, 2: 0.7}, [0, 1, 2]) == {0, 1}
    assert Halving(earlier).dropped(1, {0: 0.6, 1: 0.7}, [0, 1]) == {0, 1}
    assert Halving(earlier).dropped(1, {0: 0.7}, [0]) == {0}
    assert Halving(earlier).dropped(1, {0: 0.8}, [0]) == set()
    assert Halving([]).dropped(1, {0: 0.1}, [0]) == set()


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
        search.tell(ended(proposal, "COMPLETE", course[30], [*course.values()]))
        study.add_trial(optuna.create_trial(value=course[30], intermediate_values=course))
    batch = search.ask()
    numbers = [proposal.number for proposal in batch]
    watch = search.watch(batch, numbers)
    assert watch is not None
    trials = [study.ask() for _ in batch]
    running = list(range(8))
    for epoch in range(1, 31):
        values = np.linspace(0.3, 0.7, 8) + 0.2 * rng.random(8)
        given = np.array(values[running])
        dropped = watch(epoch, scores(given), np.array(running))
        expected = []
        if epoch in rungs:
            for index in running:
                trials[index].report(values[index], epoch)
                if pruner.prune(study, study.trials[trials[index].number]):
                    expected.append(index)
        assert list(dropped) == expected
        running = [index for index in running if index not in dropped]
    assert 0 < len(running) < 8


def test_the_median_rule_drops_nothing_without_anything_to_compare_with() -> None:
    assert MedianRule([]).dropped(1, {0: 0.5}, [0]) == set()


def test_pruning_depends_on_trials_before_the_batch_alone() -> None:
    config = make(pruner="halving", trials=24)
    whole = run(Search(config))
    values = np.linspace(0.4, 0.6, 8)

    def drops(search: Search) -> list[int]:
        watch = search.watch(search.batch, [proposal.number for proposal in search.batch])
        assert watch is not None
        return [int(member) for member in watch(3, scores(values), np.arange(8))]

    cut = Search(config, whole[:12])
    assert drops(cut) == drops(Search(config, whole[:8]))


def test_a_trial_that_stopped_early_counts_at_later_rungs() -> None:
    proposal = Trial(0, "SGD", {}, 0.1)
    assert ended(proposal, "COMPLETE", 0.6, [0.5, 0.6]).value_at(ACCURACY, 9) == 0.6
    assert ended(proposal, "PRUNED", None, [0.5, 0.6]).value_at(ACCURACY, 9) is None
    assert ended(proposal, "PRUNED", None, [0.5, 0.6]).value_at(ACCURACY, 2) == 0.6
    assert ended(proposal, "COMPLETE", 0.6, [np.nan, 0.6]).value_at(ACCURACY, 1) is None
    assert ended(proposal, "COMPLETE", 0.6).value_at(ACCURACY, 2) is None


def random_course(seed: int, coarse: bool, trial: Trial) -> np.ndarray:
    """Drawn by the number; entries are as far apart as the trials of one are."""
    rng = np.random.default_rng((seed, trial.number))
    values = 0.1 * ORDER.index(trial.optimizer) + rng.random() / 2 + rng.random(30) / 4
    return np.asarray(values.round(1 if coarse else 12))  # ties, too


@pytest.mark.slow
@settings(max_examples=60)
@given(
    rule=st.sampled_from(["median", "halving"]),
    objective=st.sampled_from(["val_accuracy", "val_loss"]),
    entries=st.integers(1, 5),
    trials=st.integers(1, 60),
    seed=st.integers(0, 2**32 - 1),
    coarse=st.booleans(),
    kept=st.sets(st.integers(0, 59)),
)
def test_with_equal_budgets_each_entry_is_judged_by_itself(
    rule: str, objective: str, entries: int, trials: int, seed: int, coarse: bool, kept: set[int]
) -> None:
    """As by hand, as a search of that optimizer alone, and the same after any interruption."""
    course = partial(random_course, seed, coarse)
    options: dict[str, Any] = {"pruner": rule, "objective": objective, "sampler": "random"}
    config = make(FIVE[:entries], trials=trials, budget="equal", **options)
    whole = train(Search(config), course)
    pruned = {told.number: ran(told) for told in whole if told.state == "PRUNED"}

    rungs = halving_rungs(30, 8) if rule == "halving" else median_rungs(30)
    assert pruned == cut(rule, rungs, [*map(Course.of, whole)], objective == "val_accuracy")

    for entry in range(entries):
        own = [told for told in whole if told.optimizer == config.labels[entry]]
        for start in range(0, trials, 8):
            stack = [told for told in own if start <= told.number < start + 8]
            if stack:
                before = [told for told in own if told.number < start]
                watch = alone(make([FIVE[entry]], **options), before, len(stack))
                curves = np.stack([course(told) for told in stack])
                assert lengths(watch, curves) == [ran(told) for told in stack]

    last = (trials - 1) // 8 * 8
    history = [t for t in whole if t.number < last or t.number in kept]
    assert same(train(Search(config, history), course), whole)


def ran(trial: Trial) -> int:
    return len(trial.curves["val_accuracy"])


def alone(config: Config, before: Sequence[Trial], count: int) -> StackPruning | None:
    """What watches `count` trials of a search of one optimizer that had those of `before`."""
    history = [
        replace(told, number=number, params={"optimizers.0.lr": 0.1})
        for number, told in enumerate(before)
    ]
    stack = [Trial(800 + place, config.labels[0], {}, 0.1) for place in range(count)]
    return Search(config, history).watch(stack, [proposal.number for proposal in stack])


def test_the_median_rule_waits_for_five_complete_trials_of_an_entry() -> None:
    config = make(FIVE[:2], pruner="median", budget="equal")
    judged = []
    for failed in (3, 4):  # of the eight trials of entry 0
        history = []
        for number in range(16):
            entry = number % 2
            params = {f"optimizers.{entry}.lr": 0.1}
            waiting = Trial(number, config.labels[entry], params, 0.1)
            if entry == 1 or number >= 2 * failed:
                history.append(ended(waiting, "COMPLETE", 0.9, [0.9] * 30))
            else:
                history.append(ended(waiting, "FAIL"))
        search = Search(config, history)
        batch = search.batch
        watch = search.watch(batch, [proposal.number for proposal in batch])
        cut_short = [i for i, n in enumerate(lengths(watch, np.zeros((8, 30)))) if n < 30]
        judged.append(entries(config, [batch[i] for i in cut_short]))
    assert judged == [[0, 1] * 4, [1] * 4]


def test_halving_keeps_a_third_by_the_mean_of_the_members() -> None:
    watch = judged_by(Halving([]), [0, 1, 2, 0, 1, 2], ACCURACY)
    values = np.array([0.9, 0.6, 0.5, 0.3, 0.8, 0.5])  # means 0.6, 0.7, 0.5
    assert sorted(watch(1, {"accuracy": values, "loss": -values}, np.arange(6))) == [0, 2, 3, 5]
    watch = judged_by(Halving([]), [0, 1, 2, 0, 1, 2], LOSS)
    assert sorted(watch(1, {"accuracy": -values, "loss": values}, np.arange(6))) == [0, 1, 3, 4]


def test_members_that_stopped_count_with_their_last_score() -> None:
    watch = judged_by(Halving([]), [0, 0, 1, 2], ACCURACY, rung=4)

    def epoch(number: int, values: list[float], *who: int) -> list[int]:
        return list(watch(number, {"accuracy": np.array(values)}, np.array(who)))

    assert not epoch(1, [0.2, 0.1, 0.6, 0.1], 0, 1, 2, 3)
    assert not epoch(2, [0.9, 0.1, 0.6, 0.1], 0, 1, 2, 3)
    # Member 0 left after epoch 2: trial 0 has (0.9 + 0.4) / 2 now, more than trial 1.
    assert not epoch(3, [0.2, 0.6, 0.1], 1, 2, 3)
    assert epoch(4, [0.4, 0.6, 0.1], 1, 2, 3) == [2, 3]


def test_a_member_that_is_not_finite_makes_its_trial_the_worst() -> None:
    for metric in (ACCURACY, LOSS):
        watch = judged_by(Halving([]), [0, 0, 1, 2], metric)
        values = np.array([math.nan, 0.9, 0.5, 0.5])
        assert watch(1, scores(values), np.arange(4)) == [0, 1]
