import numpy as np
import pytest

from pipeline.analysis.ranking import best_trial
from pipeline.models.metrics import ACCURACY, LOSS
from pipeline.report.figures import svg
from pipeline.report.figures.learning import landscape
from tests.study import failed, search, trial


def _value_limits(plot):
    return plot.axes[0].get_ylim()


@pytest.mark.parametrize(("metric", "scale"), [(ACCURACY, 100), (LOSS, 1)])
def test_a_landscape_marks_every_trial(metric, scale):
    trials = search(trials=20)
    plot = landscape(trials, metric)
    marks = [line for axes in plot.axes for line in axes.lines if line.get_linestyle() == "None"]
    drawn = np.concatenate([line.get_xdata() for line in marks])
    assert sorted(drawn) == pytest.approx(sorted(trial.lr for trial in trials))
    for marker, state in (("x", "FAIL"), ("+", "PRUNED")):
        places = np.concatenate([line.get_xdata() for line in marks if line.get_marker() == marker])
        expected = [trial.lr for trial in trials if trial.state == state]
        assert sorted(places) == pytest.approx(sorted(expected))
    best = best_trial(trials, metric)
    points = [p for line in marks for p in zip(line.get_xdata(), line.get_ydata(), strict=True)]
    assert (best.lr, pytest.approx(scale * best.scores[metric.name])) in points


@pytest.mark.parametrize("metric", [ACCURACY, LOSS])
def test_a_trial_far_off_leaves_the_others_readable(metric):
    """It is a hollow mark at the edge; the limits are those of the others, nearly."""
    trials = [trial(i, lr=10.0**-i, accuracy=0.9 + i / 100, loss=0.1 + i / 100) for i in range(9)]
    far = [trial(9, lr=1.0, accuracy=0.1, loss=1e6)]
    plot = landscape(trials + far, metric)
    low, high = _value_limits(plot)
    assert high - low < (40 if metric is ACCURACY else 0.4)
    (mark,) = [line for line in plot.axes[0].lines if line.get_markerfacecolor() == "#fefefe"]
    assert mark.get_xdata() == [1.0]
    assert mark.get_ydata() == [0.025 if metric is ACCURACY else 0.975]


@pytest.mark.parametrize("metric", [ACCURACY, LOSS])
def test_a_panel_for_each_optimizer_with_the_spread_of_each_trial(metric):
    trials = search(trials=24)
    plot = landscape(trials, metric)
    done = sorted((t for t in trials if t.is_complete), key=lambda t: metric.sign * t.score(metric))
    order = list(dict.fromkeys(trial.optimizer for trial in reversed(done)))
    assert [axes.get_title("left") for axes in plot.axes] == order
    assert len(order) == 4
    assert len({axes.get_ylim() for axes in plot.axes}) == 1
    (spreads,) = plot.axes[0].collections
    low, high = plot.axes[0].get_ylim()
    drawn = sorted(np.ptp(ends[:, 1]) / 2 for ends in spreads.get_segments())
    assert drawn == pytest.approx(
        sorted(
            metric.scale * t.deviation(metric)
            for t in done
            if t.optimizer == order[0] and low <= metric.scale * t.score(metric) <= high
        )
    )


def test_a_loss_that_explodes_leaves_the_others_readable():
    trials = [trial(i, lr=10.0 ** (i - 6), loss=0.5 + 0.01 * i) for i in range(6)]
    trials.append(trial(6, lr=1.0, loss=1e9))
    plot = landscape(trials, LOSS)
    assert plot.axes[0].get_ylim()[1] < 1
    assert "nan" not in svg(plot, "x")


def test_nothing_to_draw():
    at_once = [trial(0, lr=0.01), trial(1, "SGD", lr=0.1), failed(2, lr=0.2)]
    pruned = [trial(i, lr=0.1 * i, state="PRUNED", scores={}) for i in range(3)]
    for trials in ([], [failed(0)], pruned, at_once, [trial(0, lr=0.0), trial(1, lr=0.1)]):
        assert landscape(trials, ACCURACY) is None


def test_limits_of_a_single_value_are_not_those_of_rounding():
    low, high = _value_limits(
        landscape([trial(i, lr=10.0**-i, accuracy=0.7) for i in (0, 1)], ACCURACY)
    )
    assert low < 69.5
    assert high > 70.5
