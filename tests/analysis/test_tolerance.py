import numpy as np
import pytest

from pipeline.analysis.tolerance import tolerances, within
from pipeline.models.metrics import ACCURACY, LOSS
from tests.study import failed, folds, trial


def test_within_stops_at_the_first_that_is_outside():
    lr = [1.0, 0.001, 0.01, 0.1, 10.0, 0.0001]
    scores = [0.78, 0.60, 0.80, 0.81, None, 0.81]
    # In order: 0.0001: 0.81, 0.001: 0.60, 0.01: 0.80, 0.1: 0.81, 1: 0.78, 10: diverged.
    assert within(lr[:5], scores[:5], 0.02) == (0.01, 0.1)
    assert within(lr[:5], scores[:5], 0.04) == (0.01, 1.0)
    assert within(lr[:5], scores[:5], 0.0) == (0.1, 0.1)
    assert within(lr[:5], scores[:5], 9.0) == (0.001, 1.0)
    assert within(lr, scores, 0.04) == (0.0001, 0.0001)  # of equals the first


def test_within_takes_a_lone_trial_a_little_below_for_noise():
    lr = [1e-4, 1e-3, 1e-2, 1e-1, 1.0]
    assert within(lr, [0.80, 0.78, 0.80, 0.81, 0.60], 0.02) == (1e-4, 1e-1)
    assert within(lr, [0.80, 0.76, 0.80, 0.81, 0.60], 0.02) == (1e-2, 1e-1)  # far below
    assert within(lr, [0.78, 0.78, 0.80, 0.81, 0.60], 0.02) == (1e-2, 1e-1)  # two of them
    assert within(lr, [0.80, None, 0.80, 0.81, 0.78], 0.02) == (1e-2, 1e-1)  # no score; the end


def _trial(number, optimizer, lr, accuracy, curve=()):
    by_fold = accuracy + np.array([-0.01, 0.0, 0.01])
    return trial(
        number,
        optimizer,
        lr,
        accuracy=accuracy,
        loss=1 - accuracy,
        seconds=10.0,
        curves={"val_accuracy": np.array(curve), "val_loss": 1 - np.array(curve)},
        fold_scores=folds(by_fold, 1 - by_fold),
    )


def _trials():
    return [
        _trial(0, "Adam", 0.001, 0.800, [0.5, 0.7, 0.8]),
        _trial(1, "Adam", 0.01, 0.798),
        _trial(2, "Adam", 0.1, 0.7),
        _trial(3, "SGD", 0.1, 0.75, [0.7, 0.75, 0.74, 0.7]),
        failed(4, "SGD", 1.0),
        failed(5, "Rprop", 1.0),
    ]


@pytest.mark.parametrize("metric", [ACCURACY, LOSS])
def test_each_optimizer_in_figures(metric):
    adam, sgd, rprop = tolerances(_trials(), metric, 3)
    assert [one.optimizer for one in (adam, sgd, rprop)] == ["Adam", "SGD", "Rprop"]
    assert (adam.lr_low, adam.lr_high) == (0.001, 0.01)
    assert adam.decades == pytest.approx(1.0)
    assert (sgd.decades, sgd.diverged, sgd.trials) == (0.0, 0.5, 2)
    assert (rprop.diverged, rprop.decades) == (1.0, None)


def test_a_single_hold_out_has_a_binomial_error():
    trials = [
        trial(0, "Adam", 0.01, accuracy=0.8, loss=0.4),
        trial(1, "Adam", 0.1, accuracy=0.77, loss=0.4),
    ]
    (found,) = tolerances(trials, ACCURACY, 1, validation_rows=100)
    assert found.decades == pytest.approx(1.0)
    (unknown,) = tolerances(trials, LOSS, 1, validation_rows=100)
    assert (unknown.lr_low, unknown.decades) == (None, None)


def test_one_learning_rate_has_no_width():
    (found,) = tolerances([_trial(0, "Adam", 0.01, 0.8)], ACCURACY, 3)
    assert (found.lr_low, found.decades) == (None, None)


def test_nothing_completed():
    (found,) = tolerances([failed(0)], ACCURACY, 5)
    assert (found.diverged, found.lr_low, found.decades) == (1.0, None, None)
    assert tolerances([], ACCURACY, 5) == ()
