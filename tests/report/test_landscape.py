import numpy as np
import pytest

from pipeline.report.figures import landscape
from pipeline.report.figures.drawing import svg
from pipeline.report.figures.landscape import local_mean
from tests.study import StandInTrial, failed, search, study_evidence


def test_local_mean_against_the_definition():
    draw = np.random.default_rng(0)
    x, y, at = draw.uniform(-3, 0, 20), draw.normal(0, 1, 20), np.array([-2.0, -0.5])
    mean, spread = local_mean(x, y, at, 0.4)
    for place, center in enumerate(at):
        weights = np.exp(-((x - center) ** 2) / (2 * 0.4**2))
        expected = np.average(y, weights=weights)
        assert mean[place] == pytest.approx(expected)
        variance = np.average((y - expected) ** 2, weights=weights)
        assert spread[place] == pytest.approx(np.sqrt(variance))


def test_local_mean_says_nothing_where_nothing_was_tried():
    mean, spread = local_mean(np.array([0.0, 3.0]), np.array([1.0, 2.0]), np.array([0.1, 1.5]), 0.2)
    assert mean[0] == pytest.approx(1.0)
    assert np.isnan([mean[1], spread[1]]).all()


@pytest.mark.parametrize("score", ["val_accuracy", "val_loss"])
def test_a_panel_for_each_optimizer_with_its_range(score):
    trials = search(trials=24)
    evidence = study_evidence({"SGD": 0.7, "Adam": 0.69})
    plot = landscape(trials, score, ["Adam", "SGD", "RMSprop"], evidence.forgiveness)
    assert [axes.texts[0].get_text() for axes in plot.axes] == ["Adam", "SGD", "RMSprop"]
    (bar,) = [line for line in plot.axes[0].lines if line.get_linewidth() == 3]
    assert bar.get_xdata().tolist() == [0.001, 0.1]
    assert "0.001 to 0.1 (2 decades)" in [text.get_text() for text in plot.axes[0].texts]
    shown = [trial for trial in trials if trial.optimizer in ("Adam", "SGD", "RMSprop")]
    assert len(plot.tips) == len(shown)
    limits = {axes.get_ylim() for axes in plot.axes}
    assert len(limits) == 1


def test_a_loss_that_explodes_leaves_the_others_readable():
    trials = [StandInTrial(i, lr=10.0 ** (i - 6), loss=0.5 + 0.01 * i) for i in range(6)]
    trials.append(StandInTrial(6, lr=1.0, loss=1e9))
    plot = landscape(trials, "val_loss", ["Adam"])
    assert plot.axes[0].get_ylim()[1] < 1
    assert "nan" not in svg(plot, "x")


@pytest.mark.parametrize("trials", [[], [failed(0)], [StandInTrial(0, lr=0.0)]])
def test_nothing_to_draw(trials):
    assert landscape(trials, "val_accuracy", ["SGD", "Adam"]).title == "Learning rate and accuracy"
