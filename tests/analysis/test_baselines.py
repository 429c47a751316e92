import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import cross_val_score

from pipeline.analysis import baselines
from pipeline.data.splits import make_splits
from pipeline.models.metrics import ACCURACY, Metric


def _iris():
    x, y = load_iris(return_X_y=True)
    return x, y.astype(np.int64), make_splits(y, 3, 2, 0.2, 0)


@pytest.mark.parametrize("name", baselines.NAMES)
def test_scores_are_scikit_learns(name):
    x, y, splits = _iris()
    scores = baselines.scores(name, lambda split: x, y, splits, 3)
    model = {
        "majority label": DummyClassifier(strategy="prior"),
        "logistic regression": LogisticRegression(max_iter=1000),
        "gradient boosting": HistGradientBoostingClassifier(random_state=0),
    }[name]
    folds = [(split.training, split.validation) for split in splits]
    assert scores["accuracy"] == pytest.approx(cross_val_score(model, x, y, cv=folds), abs=1e-12)
    expected = -cross_val_score(model, x, y, cv=folds, scoring="neg_log_loss")
    assert scores["loss"] == pytest.approx(expected, abs=1e-6)


def test_a_label_that_training_lacks_has_no_probability():
    x, y, _ = _iris()
    for name in baselines.NAMES:
        said = baselines.probabilities(name, x[y < 2], y[y < 2], x, 3)
        assert said[:, 2].max() == 0
        assert said.sum(axis=1) == pytest.approx(1)
        only = baselines.probabilities(name, x[y == 1], y[y == 1], x, 3)
        assert (only[:, 1] == 1).all()


def test_score_of_a_certain_mistake_is_finite():
    said = np.array([[1.0, 0.0], [0.2, 0.8]])
    scores = baselines.score(said, np.array([1, 1]))
    assert scores["accuracy"] == 0.5
    assert scores["loss"] == pytest.approx(log_loss([1, 1], said, labels=[0, 1]), abs=1e-9)


def test_gradient_boosting_is_left_out_where_it_takes_minutes():
    sizes = {
        (426, 30, 2): True,
        (1_347, 64, 10): True,
        (50_000, 30, 2): True,
        (240, 5_000, 2): False,
    }
    for size, expected in sizes.items():
        assert baselines.affordable("gradient boosting", *size) == expected, size
        assert baselines.affordable("logistic regression", *size)


def test_only_the_majority_label_is_affordable_for_many_images():
    images = (60_000, 784, 10)
    affordable = [name for name in baselines.NAMES if baselines.affordable(name, *images)]
    assert affordable == ["majority label"]


def precision(logits, y, weights=None):
    """Of what is predicted positive; not a number where nothing is."""
    predicted = logits.argmax(dim=-1) == 1
    return (predicted & (y == 1)).sum(dim=-1) / predicted.sum(dim=-1)


def test_a_metric_that_is_no_number_is_left_out():
    x, y, splits = _iris()
    y, metrics = (y == 2).astype(np.int64), (ACCURACY, Metric("precision", True, True, precision))
    kept = {
        name: baselines.scores(name, lambda split: x, y, splits, 2, metrics)
        for name in baselines.NAMES
    }
    assert kept["majority label"].keys() == {"accuracy"}
    assert kept["logistic regression"].keys() == {"accuracy", "precision"}
    assert np.isfinite(kept["logistic regression"]["precision"]).all()
