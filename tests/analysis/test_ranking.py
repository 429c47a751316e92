from pipeline.analysis.ranking import best_trial, summarize
from tests.study import StandInTrial, failed


def test_best_trial_breaks_ties_by_the_other_score():
    trials = [
        StandInTrial(0, accuracy=0.7, loss=0.5),
        StandInTrial(1, accuracy=0.7, loss=0.4),
        StandInTrial(2, accuracy=0.7, loss=0.4),
        StandInTrial(3, accuracy=0.6, loss=0.3),
        StandInTrial(4, state="PRUNED", accuracy=0.9, loss=0.1),
        failed(5),
    ]
    assert best_trial(trials).number == 1
    assert best_trial(trials, "val_loss").number == 3
    assert best_trial([failed(0)]) is None


def test_summarize_counts_and_orders():
    trials = [
        StandInTrial(0, "SGD", 0.1, accuracy=0.70, loss=0.6, seconds=2),
        StandInTrial(1, "Adam", 0.01, accuracy=0.72, loss=0.7, accuracy_std=0.03),
        StandInTrial(2, "Adam", 0.02, accuracy=0.60, loss=0.8),
        StandInTrial(3, "Adam", 0.03, accuracy=0.68, loss=0.65),
        StandInTrial(4, "Adam", 0.04, state="PRUNED", accuracy=0.99),
        failed(5, "SGD"),
        failed(6, "Adagrad"),
    ]
    first, second, last = summarize(trials)
    assert (first.optimizer, first.trials, first.complete, first.failed, first.pruned) == (
        ("Adam", 4, 3, 0, 1)
    )
    assert (first.best, first.accuracy, first.accuracy_std, first.lr) == (1, 0.72, 0.03, 0.01)
    assert first.median_accuracy == 0.68
    assert (second.optimizer, second.failed, second.seconds) == ("SGD", 1, 3.0)
    assert (last.optimizer, last.accuracy, last.median_accuracy) == ("Adagrad", None, None)
    assert [s.optimizer for s in summarize(trials, "val_loss")] == ["SGD", "Adam", "Adagrad"]
    assert summarize([]) == []
