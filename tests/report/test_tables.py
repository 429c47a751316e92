"""The tables' cells, against what the study was made of."""

import pytest

from pipeline.models.metrics import ACCURACY, LOSS
from pipeline.report.report import Report
from pipeline.report.tables import Table, baseline_table, optimizer_table, pair_table
from tests.study import CLOSE, FAR, NEAR, failed, study_evidence, study_facts, trial


def test_a_table_of_items():
    table = Table.of([1, 2], {"n": str, "twice": lambda n: str(2 * n), "a": lambda _: "a"})
    assert [column.kind for column in table.columns] == ["text", "number", "number"]
    assert table.records() == [
        {"n": "1", "twice": "2", "a": "a"}, {"n": "2", "twice": "4", "a": "a"},
    ]  # fmt: skip


def test_optimizers_of_a_search():
    rows = optimizer_table(
        Report(study_facts(), [CLOSE, NEAR, FAR, failed(3, "Rprop")])
    ).records()  # fmt: skip
    assert [row["Optimizer"] for row in rows] == ["Adam", "SGD", "Adagrad", "Rprop"]
    assert [row["Trials"] for row in rows] == ["1"] * 4
    assert rows[0]["Accuracy in the search"] == "71.0 % ± 1.6"
    assert (rows[3]["Failed"], rows[3]["Accuracy in the search"]) == ("1", "–")
    assert not {"Accuracy", "95 % interval", "Pruned"} & set(rows[0])


def test_a_single_split_has_no_deviation():
    rows = optimizer_table(Report(study_facts(), [trial(0, accuracy_std=0.0)])).records()
    assert rows[0]["Accuracy in the search"] == "70.0 %"


@pytest.mark.parametrize(("metric", "final"), [(ACCURACY, "70.0 %"), (LOSS, "0.5")])
def test_optimizers_of_a_final_round(metric, final):
    evidence = study_evidence({"Adagrad": 0.66, "Adam": 0.7, "Rprop": None}, metric=metric)
    trials = [CLOSE, NEAR, FAR, trial(3, "Rprop")]
    facts = study_facts(metric=metric)
    rows = optimizer_table(Report(facts, trials, evidence=evidence)).records()
    assert [row["Optimizer"] for row in rows] == ["Adam", "Adagrad", "Rprop", "SGD"]
    low, high = evidence.interval(evidence.winner.scores[metric.name])
    assert rows[0][metric.heading] == final
    assert rows[0]["95 % interval"] == f"{metric.amount(low)} to {metric.amount(high)}"
    assert [row[metric.heading] for row in rows[2:]] == ["–", "–"]
    assert [row["95 % interval"] for row in rows[2:]] == ["–", "–"]


def test_an_interval_ends_where_scores_do():
    evidence = study_evidence({"SGD": 0.995})
    (row,) = optimizer_table(Report(study_facts(), [NEAR], evidence=evidence)).records()
    assert row["95 % interval"].endswith(" to 100.0")


def test_pairs_are_the_evidences():
    evidence = study_evidence({"SGD": 0.7, "Adam": 0.69, "Adagrad": 0.6})
    rows = pair_table(evidence).records()
    assert [(row["Better"], row["Worse"]) for row in rows] == [
        ("SGD", "Adam"), ("SGD", "Adagrad"), ("Adam", "Adagrad"),
    ]  # fmt: skip
    for row, pair in zip(rows, evidence.pairs, strict=True):
        assert float(row["By"]) == pytest.approx(100 * pair.difference, abs=0.051)
        low, high = (float(end) for end in row["All together"].split(" to "))
        assert (low, high) == pytest.approx((100 * pair.low_all, 100 * pair.high_all), abs=0.051)
    assert pair_table(study_evidence({"SGD": 0.7})).rows == ()


def test_baselines_stand_below_the_winner():
    evidence = study_evidence({"SGD": 0.7, "Adam": 0.69})
    rows = baseline_table(Report(study_facts(), [CLOSE], evidence=evidence), evidence).records()
    assert [row["Model"] for row in rows] == [
        "average of 4 networks, SGD", "one network", "majority label", "logistic regression",
        "gradient boosting",
    ]  # fmt: skip
    assert [row["Accuracy"] for row in rows[:3]] == ["71.0 %", "70.0 %", "59.0 %"]
    assert list(rows[-1].values()) == ["gradient boosting", "67.0 %", "0.59", "67.0 %", "0.6"]
    once = study_evidence({"SGD": 0.7}, repeats=1)
    names = [row[0] for row in baseline_table(Report(study_facts(), []), once).rows]
    assert names[:2] == ["network, SGD", "majority label"]
