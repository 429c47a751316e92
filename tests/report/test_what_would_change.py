from dataclasses import replace

from pipeline.report.report import Report
from pipeline.report.words import what_would_change
from tests.study import failed, study_evidence, study_facts, trial

# The best learning rates are neither the lowest nor the highest that was tried.
TRIALS = [
    trial(10 * which + place, name, lr=10.0**-place, accuracy=0.7 - 0.01 * abs(place - 2))
    for which, name in enumerate(("SGD", "Adam"))
    for place in range(5)
]


def _told(evidence, trials=TRIALS, evaluation=None, **facts):
    return what_would_change(Report(study_facts(**facts), trials, evaluation, evidence))


def test_a_clear_answer_stands():
    evidence = study_evidence({"SGD": 0.8, "Adam": 0.68})
    assert _told(evidence) == ["Nothing more is needed, as far as this run can see."]
    assert _told(None, [failed(0)]) == []


def test_rows_that_would_tell_optimizers_apart():
    evidence = study_evidence({"SGD": 0.802, "Adam": 0.8})
    (pair,) = evidence.pairs
    assert not pair.is_clear
    (sentence,) = _told(evidence)
    times = ((pair.high_all - pair.low_all) / 2 / pair.difference) ** 2
    assert sentence.startswith(f"Collect about {times:.2g} times as many rows to tell SGD and Adam")
    (sentence,) = _told(study_evidence({"SGD": 0.80001, "Adam": 0.8}))
    assert sentence.startswith("Take either of SGD and Adam: no number of rows")


def test_a_simpler_model_that_does_as_well():
    """Gradient boosting has 0.67 with five folds that are all alike."""
    (sentence,) = _told(study_evidence({"SGD": 0.6}))
    assert sentence == "Consider gradient boosting, which did better and is simpler."
    (sentence,) = _told(study_evidence({"SGD": 0.672}))
    assert sentence == "Consider gradient boosting, which may be as good and is simpler."


def test_limits_that_the_best_was_found_at():
    evidence = study_evidence({"SGD": 0.8, "Adam": 0.68})
    edge = [
        replace(t, scores={"accuracy": 0.7 + 0.1 * t.lr, "loss": 0.6})
        for t in TRIALS
        if t.optimizer == "SGD"
    ]
    (sentence,) = _told(evidence, edge)
    assert sentence.startswith("Widen the range of SGD's learning rate further up: it was best at")
    (sentence,) = _told(evidence, epochs="13")
    assert "SGD was still getting better when its 13 epochs were over" in sentence
    assert len(_told(evidence, epochs="{choice: [13, 20]}")) == 1
