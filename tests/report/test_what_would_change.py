from dataclasses import replace

import numpy as np

from pipeline.analysis.evaluation import evaluate
from pipeline.report.report import Report
from pipeline.report.words import what_would_change
from tests.study import failed, predictions, study_evidence, study_facts, trial

# The best learning rates are neither the lowest nor the highest that was tried.
TRIALS = [
    trial(10 * which + place, name, lr=10.0**-place, accuracy=0.7 - 0.01 * abs(place - 2))
    for which, name in enumerate(("SGD", "Adam"))
    for place in range(5)
]


def _told(evidence, trials=TRIALS, evaluation=None, **facts):
    return what_would_change(Report(study_facts(**facts), trials, evaluation, evidence))


def _plateau(evidence):
    """The same, with nothing to be had from more trials."""
    flat = tuple(replace(each, expected_best=np.full(8, 0.7)) for each in evidence.tolerances)
    return replace(evidence, tolerances=flat)


def test_a_clear_answer_stands():
    evidence = _plateau(study_evidence({"SGD": 0.75, "Adam": 0.68}))
    assert _told(evidence) == ["Nothing that this run can see."]
    assert _told(None, [failed(0)]) == []


def test_rows_that_would_tell_optimizers_apart():
    evidence = _plateau(study_evidence({"SGD": 0.702, "Adam": 0.7}))
    (pair,) = evidence.pairs
    assert not pair.is_clear
    (sentence,) = _told(evidence)
    times = ((pair.high_all - pair.low_all) / 2 / pair.difference) ** 2
    assert sentence.startswith(f"About {times:.2g} times as many rows would tell SGD and Adam")
    (sentence,) = _told(_plateau(study_evidence({"SGD": 0.70001, "Adam": 0.7})))
    assert "so close that no number of rows" in sentence


def test_a_better_kind_of_model_comes_first():
    first, *_ = _told(_plateau(study_evidence({"SGD": 0.65, "Adam": 0.6})))
    assert first.startswith("Gradient boosting is 1.0 points ahead")


def test_limits_that_the_best_was_found_at():
    evidence = _plateau(study_evidence({"SGD": 0.75, "Adam": 0.68}))
    edge = [
        replace(t, scores={"accuracy": 0.7 + 0.1 * t.lr, "loss": 0.6})
        for t in TRIALS
        if t.optimizer == "SGD"
    ]
    (sentence,) = _told(evidence, edge)
    assert sentence.startswith("SGD was best at the highest learning rate that was tried, 1:")
    (sentence,) = _told(evidence, epochs="13")
    assert "SGD was still getting better when its 13 epochs were over" in sentence
    assert len(_told(evidence, epochs="{choice: [13, 20]}")) == 1


def test_a_budget_that_was_small_or_unequal():
    evidence = study_evidence({"SGD": 0.75, "Adam": 0.68})
    few, many = evidence.tolerances
    sentences = _told(replace(evidence, tolerances=(few, replace(many, trials=16))))
    assert "16 trials on one optimizer and 8 on SGD; with search.budget=equal" in sentences[0]
    assert sentences[1].startswith("The second half of the trials of SGD was still worth 1.")


def test_test_rows_that_tell_little():
    evidence = _plateau(study_evidence({"SGD": 0.75, "Adam": 0.68}))
    (sentence,) = _told(evidence, evaluation=evaluate(*predictions(2, 100)))
    assert sentence.startswith("100 test rows fix the test accuracy to about ± ")
