from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics
from sklearn.metrics import f1_score

from pipeline.models.calibration import choose_threshold, fit_temperature, tempered
from pipeline.models.metrics import KNOWN
from tests.study import predictions


@pytest.mark.parametrize("labels", [2, 4])
def test_tempered_divides_the_logits(labels):
    probabilities, _ = predictions(labels)
    logits = torch.from_numpy(probabilities).double().log()
    for temperature in (0.3, 1.0, 2.5):
        expected = torch.softmax(logits / temperature, dim=1).numpy()
        found = tempered(probabilities, temperature)
        np.testing.assert_allclose(found, expected, atol=1e-12)
        assert (found.argmax(1) == probabilities.argmax(1)).all()


@pytest.mark.parametrize("labels", [2, 3])
@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_fit_temperature_undoes_what_was_done(labels, sharpness):
    """Labels drawn from the probabilities, which were then made sharper: that is the answer."""
    probabilities, y = predictions(labels, rows=40_000, sharpness=sharpness)
    assert fit_temperature(probabilities, y) == pytest.approx(sharpness, rel=0.05)


def test_fit_temperature_is_where_torch_finds_no_slope():
    probabilities, y = predictions(3, rows=300, sharpness=2.0)
    inverse = torch.tensor(1 / fit_temperature(probabilities, y), dtype=torch.float64)
    inverse.requires_grad_()
    logits = torch.from_numpy(probabilities).double().log()
    loss = torch.nn.functional.cross_entropy(logits * inverse, torch.from_numpy(y))
    (slope,) = torch.autograd.grad(loss, inverse)
    assert abs(slope.item()) < 1e-6


def test_fit_temperature_stays_in_bounds():
    y = np.array([0, 1] * 20)
    right = np.eye(2)[y] * 0.8 + 0.1
    assert 0.05 <= fit_temperature(right, y) < 0.06
    assert 19 < fit_temperature(1 - right, y) <= 20


def _value(goal, positive, y, cut):
    said = positive > cut
    if goal == "accuracy":
        return metrics.accuracy_score(y, said)
    if goal == "f1":
        return metrics.f1_score(y, said, zero_division=0.0)
    return metrics.recall_score(y, said) - (said[y == 0]).mean()


@pytest.mark.parametrize("goal", ["accuracy", "f1", "youden"])
@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.sampled_from([0.1, 0.25, 0.5, 0.6, 0.75, 1.0, 0.0]), st.booleans()),
        min_size=2,
        max_size=12,
    )
)
def test_no_other_threshold_is_better(goal, rows):
    positive = np.array([value for value, _ in rows])
    y = np.array([int(truth) for _, truth in rows])
    if len(set(y.tolist())) < 2:
        return
    cut = choose_threshold(positive, y, goal)
    assert 0 <= cut <= 1
    every = np.unique([0.0, *positive, 0.05, 0.3, 0.55, 0.7, 0.9])
    best = max(_value(goal, positive, y, other) for other in every)
    assert _value(goal, positive, y, cut) == pytest.approx(best, abs=1e-12)


def test_a_half_where_that_is_as_good_as_any():
    positive, y = np.array([0.1, 0.2, 0.8, 0.9]), np.array([0, 0, 1, 1])
    assert choose_threshold(positive, y, "accuracy") == 0.5
    assert choose_threshold(positive / 2, y, "accuracy") == pytest.approx(0.25)


@pytest.mark.parametrize("rows", [5, 60, 300])
@pytest.mark.parametrize("name", ["f1_score", "balanced_accuracy"])
def test_a_metric_is_best_where_what_it_equals_is(name, rows):
    draw = np.random.default_rng(rows)
    y = np.arange(rows) % 2
    positive = draw.random(rows).round(2) * 0.5 + 0.3 * y
    same = {"f1_score": "f1", "balanced_accuracy": "youden"}[name]
    assert choose_threshold(positive, y, KNOWN[name]) == choose_threshold(positive, y, same)


def test_a_metric_of_somebodys_is_computed_at_some_cuts():
    draw = np.random.default_rng(0)
    y = (draw.random(3000) < 0.3).astype(int)
    positive = (draw.normal(0.3 + 0.2 * y, 0.15)).clip(0, 1)
    cut = choose_threshold(positive, y, replace(KNOWN["f1_score"], name="mine"))
    found, best = (f1_score(y, positive > t) for t in (cut, choose_threshold(positive, y, "f1")))
    assert best - 0.01 < found <= best
