"""The simulated search: its arithmetic where it is known by hand."""

from dataclasses import replace

import pytest

from benchmarks.simulator import Cluster, Costs, Plan, simulate

MANY = Plan(2000, batch=200)


@pytest.mark.parametrize("nodes", [1, 2, 10, 100])
def test_without_overheads_nodes_give_as_many_times_the_trials(nodes: int) -> None:
    outcome = simulate(Costs([2.0]), Cluster(nodes, cores=2), MANY)
    assert outcome.rate == pytest.approx(nodes)
    assert (outcome.nodes, outcome.bound) == (pytest.approx(1.0), "nodes")


def test_a_writer_that_is_slower_than_the_nodes_gives_its_own_rate() -> None:
    costs = Costs([1.0], write=0.02, wait=0.03)
    outcome = simulate(costs, Cluster(100), replace(MANY, batches=2))
    assert outcome.rate == pytest.approx(20, rel=0.02)
    assert outcome.bound == "writing"
    several = simulate(costs, Cluster(100), replace(MANY, batches=2, writers=4))
    assert several.rate == pytest.approx(80, rel=0.05)


def test_asking_gives_its_own_rate_where_it_is_slower() -> None:
    costs = Costs([1.0], begin=0.8, ask=0.1)
    outcome = simulate(costs, Cluster(100), Plan(800, batch=8, batches=20))
    assert outcome.rate == pytest.approx(1 / (0.1 + 0.8 / 8), rel=0.02)
    assert outcome.bound == "asking"


def test_a_batch_is_waited_for() -> None:
    """Its eight trials take three seconds on any number of cores, and asking comes on top."""
    outcome = simulate(Costs([3.0], begin=1.0), Cluster(50), Plan(80))
    assert outcome.seconds == pytest.approx(10 * 4)
    assert outcome.bound == "size of a batch"


def test_the_driver_and_one_writer_take_turns() -> None:
    costs = Costs([0.0], tell=0.01, write=0.03)
    assert simulate(costs, Cluster(8), Plan(800)).seconds == pytest.approx(800 * 0.04, rel=0.01)


def test_nodes_that_fail_lose_what_they_train_and_no_trial() -> None:
    cluster = Cluster(10, failures=60, repair=5.0)
    outcome = simulate(Costs([20.0]), cluster, Plan(400, batch=40))
    whole = simulate(Costs([20.0]), Cluster(10), Plan(400, batch=40))
    assert outcome.again > 0
    assert outcome.seconds > whole.seconds
    assert outcome.nodes == pytest.approx(400 * 20 / (10 * outcome.seconds))


def test_stragglers_hold_a_batch_up() -> None:
    cluster = Cluster(8, stragglers=1.0, slower=3.0)
    assert simulate(Costs([1.0]), cluster, Plan(80)).seconds == pytest.approx(30)


def test_the_same_seed_gives_the_same_search() -> None:
    costs, cluster = Costs([1.0, 2.0, 5.0], 0.1, 0.01), Cluster(4, 2, failures=5, stragglers=0.1)
    one, again, other = (simulate(costs, cluster, MANY, seed) for seed in (0, 0, 1))
    assert one == again != other
