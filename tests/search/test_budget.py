"""Equal budgets."""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient

from pipeline import __main__ as command_line
from pipeline.search.pruning import halving_rungs, median_rungs
from pipeline.search.search import Search
from pipeline.training.trial import Trial
from tests.pruned_by_hand import Course
from tests.pruned_by_hand import cut as cut_by_hand
from tests.toy_search import (
    FOUR,
    LR,
    RICH,
    SAMPLERS,
    accuracy,
    ended,
    entries,
    make,
    run,
    same,
    train,
)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_equal_budgets_give_each_entry_its_turn(sampler: str) -> None:
    if sampler == "gp":
        config = make(FOUR[:2], sampler=sampler, trials=11, budget="equal")
    else:
        config = make(**RICH, sampler=sampler, trials=32, budget="equal")
    whole = run(Search(config))
    count = len(config.optimizers)
    assert entries(config, whole) == [n % count for n in range(config.search.trials)]
    for cut in (0, 3, 8, 10, len(whole) - 1):
        assert same(run(Search(config, whole[:cut][::-1])), whole), cut


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_an_entrys_study_knows_nothing_of_the_others(sampler: str) -> None:
    """What SGD's trials were worth does not change where Adam is tried."""
    config = make(FOUR[:2], sampler=sampler, trials=14, budget="equal")
    tried = []
    for factor in (1.0, 0.1):
        search = Search(config)
        while batch := search.ask():
            for proposal in batch:
                value = accuracy(proposal) * (factor if proposal.optimizer == "SGD" else 1.0)
                search.tell(ended(proposal, "COMPLETE", value, [value]))
        of_second = config.labels[1]
        tried.append([told.params for told in search.told if told.optimizer == of_second])
    assert tried[0] == tried[1]


def test_a_greater_equal_budget_goes_on_where_the_smaller_ended() -> None:
    small, large = (make(**RICH, trials=n, budget="equal") for n in (19, 33))
    first = run(Search(small))
    # The last batch of the smaller search was cut short, and is asked again whole.
    assert same(run(Search(large, first[:16])), run(Search(large)))
    assert same(run(Search(large, first))[:19], first)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_entry_with_few_points_leaves_its_share_unspent(sampler: str) -> None:
    three = [{"name": "SGD", "lr": LR}, {"name": "Adadelta"}, {"name": "Adam", "lr": LR}]
    config = make(three, sampler=sampler, trials=14, budget="equal")
    search = Search(config)
    assert search.remaining == 5 + 1 + 4
    while batch := search.ask():
        for proposal in batch:
            search.tell(ended(proposal, "COMPLETE", proposal.number / 20))
    whole = search.told
    assert Counter(entries(config, whole)) == {0: 5, 1: 1, 2: 4}
    assert search.exhausted
    assert search.remaining == 0
    assert entries(config, whole) == [0, 1, 2, 0, 2, 0, 2, 0, 2, 0]


def test_equal_budgets_of_a_finite_space() -> None:
    grids = [
        {"name": "SGD", "lr": {"choice": [0.1, 0.01, 0.001]}},
        {"name": "Adam", "lr": {"choice": [0.1, 0.01, 0.001, 0.0001]}},
    ]
    config = make(grids, trials=4, budget="equal")
    assert entries(config, run(Search(config))) == [0, 1, 0, 1]
    whole = run(Search(make(grids, trials=40, budget="equal")))
    assert Counter(entries(config, whole)) == {0: 3, 1: 4}
    assert len({repr(told.params) for told in whole}) == 7


def slow_at_first(proposal: Trial) -> np.ndarray:
    """SGD begins far below Adam and ends above it; both have the same good and bad trials."""
    epochs = np.arange(1, 31)
    level = np.random.default_rng(proposal.number // 2).random() / 20
    return np.asarray(
        level + (0.3 + epochs / 60 if proposal.optimizer == "SGD" else 0.7 + epochs / 900)
    )


@pytest.mark.parametrize("pruner", ["median", "halving"])
def test_with_equal_budgets_a_slow_start_is_no_reason_to_be_pruned(pruner: str) -> None:
    two = [{"name": "SGD", "lr": LR}, {"name": "Adam", "lr": LR}]
    complete = {}
    for budget in ("shared", "equal"):
        config = make(two, sampler="random", pruner=pruner, budget=budget, trials=64)
        told = train(Search(config), slow_at_first)
        complete[budget] = Counter(t.optimizer for t in told if t.state == "COMPLETE")
    assert 2 * complete["shared"]["SGD"] < complete["shared"]["Adam"]
    assert 5 < complete["equal"]["SGD"] == complete["equal"]["Adam"] < 32


SETTINGS = """
experiment: equal
data: {source: "sklearn:wine", target: target}
validation: {folds: 4, final: null}
model: {hidden: [8]}
training: {epochs: 18, patience: null}
optimizers:
  - {name: SGD, lr: {low: 1e-3, high: 1e-1, log: true}}
  - {name: Adam, lr: {low: 1e-3, high: 1e-1, log: true}}
  - {name: Adam, lr: {low: 1e-4, high: 1e-3, log: true}, amsgrad: true}
search: {trials: 30, budget: equal, sampler: random, objective: val_loss}
"""


@pytest.mark.parametrize("pruner", ["median", "halving"])
def test_a_pruned_search_with_equal_budgets_read_back(
    tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch, pruner: str
) -> None:
    """What stands in MLflow of each trial is enough to say which were to be pruned, and when."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    Path("equal.yaml").write_text(SETTINGS)
    for stage in ("prepare", "train"):
        command = [stage, "--config", "equal.yaml", "--set", f"search.pruner={pruner}"]
        assert command_line.main(command) == 0

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("equal").experiment_id
    trials = []
    for one in client.search_runs([experiment], "tags.`pipeline.stage` = 'trial'"):
        tags = one.data.tags
        course = {p.step: p.value for p in client.get_metric_history(one.info.run_id, "val_loss")}
        label = one.data.params["optimizer"]
        trials.append(Course(int(tags["trial.number"]), label, tags["trial.state"], course))
    assert sorted(Counter(trial.optimizer for trial in trials).values()) == [10, 10, 10]
    rungs = halving_rungs(18, 8) if pruner == "halving" else median_rungs(18)
    pruned = {t.number: max(t.intermediate) for t in trials if t.state == "PRUNED"}
    assert pruned == cut_by_hand(pruner, rungs, trials, maximise=False)
    assert len({trial.optimizer for trial in trials if trial.number in pruned}) > 1
