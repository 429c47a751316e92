from pipeline.analysis.ranking import best_trial, summarize
from pipeline.models.metrics import ACCURACY, LOSS
from tests.study import failed, trial


def test_best_trial_breaks_ties_by_the_other_score():
    trials = [
        trial(0, accuracy=0.7, loss=0.5),
        trial(1, accuracy=0.7, loss=0.4),
        trial(2, accuracy=0.7, loss=0.4),
        trial(3, accuracy=0.6, loss=0.3),
        trial(4, state="PRUNED", accuracy=0.9, loss=0.1),
        failed(5),
    ]
    assert best_trial(trials, ACCURACY).number == 1
    assert best_trial(trials, LOSS).number == 3
    assert best_trial([failed(0)], ACCURACY) is None


def test_summarize_counts_and_orders():
    trials = [
        trial(0, "SGD", 0.1, accuracy=0.70, loss=0.6, seconds=2),
        trial(1, "Adam", 0.01, accuracy=0.72, loss=0.7, accuracy_std=0.03),
        trial(2, "Adam", 0.02, accuracy=0.60, loss=0.8),
        trial(3, "Adam", 0.03, accuracy=0.68, loss=0.65),
        trial(4, "Adam", 0.04, state="PRUNED", accuracy=0.99),
        failed(5, "SGD"),
        failed(6, "Adagrad"),
    ]
    first, second, last = summarize(trials, ACCURACY)
    assert (first.optimizer, first.trials, first.complete, first.failed, first.pruned) == (
        ("Adam", 4, 3, 0, 1)
    )
    assert first.best == trials[1]
    assert first.best.score(ACCURACY) == 0.72
    assert (second.optimizer, second.failed, second.seconds) == ("SGD", 1, 3.0)
    assert (last.optimizer, last.best) == ("Adagrad", None)
    assert [s.optimizer for s in summarize(trials, LOSS)] == ["SGD", "Adam", "Adagrad"]
    assert summarize([], ACCURACY) == []
