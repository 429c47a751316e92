"""The figures of the searched settings."""

import io
import re

import numpy as np
import pytest

from pipeline.models.metrics import ACCURACY, LOSS
from pipeline.report import figures as plots
from pipeline.report.figures.learning import slices
from tests.study import batch_size_effect, search, settings_search

CONFIG = "data: {source: none.csv, target: none}\n"
RATES = "optimizers: [{name: SGD, lr: {low: 1e-3, high: 1.0, log: true}}]\n"

pytestmark = pytest.mark.filterwarnings("error")


def test_slices_mark_every_trial_at_its_value(searched):
    plot = slices(searched.trials, ACCURACY, searched.settings[2:])
    panels = {axes.get_title("left"): axes for axes in plot.axes}
    assert set(panels) == {"batch_size", "hidden", "dropout", "momentum (SGD)"}
    marks = {
        name: np.concatenate([line.get_xdata() for line in axes.lines
                              if line.get_linestyle() == "None"])
        for name, axes in panels.items()
    }  # fmt: skip
    assert sorted(marks["dropout"]) == pytest.approx(
        sorted(trial.params["model.dropout"] for trial in searched.trials)
    )
    momenta = [v for t in searched.trials if (v := t.params.get("optimizers.0.momentum"))]
    assert sorted(marks["momentum (SGD)"]) == pytest.approx(sorted(momenta))
    sizes = [(32, 64, 128).index(t.params["training.batch_size"]) for t in searched.trials]
    assert sorted(np.round(marks["batch_size"])) == sorted(sizes)


def figures_of(searched):
    return plots.search_figures(searched.trials, ACCURACY, searched.settings)


def test_which_figures_there_are():
    assert set(figures_of(settings_search(batch_size_effect, 4))) == {
        "landscape_accuracy", "curves", "slices",
    }  # fmt: skip
    fixed = CONFIG + "optimizers: [{name: SGD, lr: 0.1}, {name: Adam, lr: 0.01}]"
    searched = settings_search(lambda entry, _: 0.1 * entry, 2, config=fixed)
    assert set(figures_of(searched)) == {"curves"}
    rates = settings_search(lambda *_: 0.0, 2, config=CONFIG + RATES)
    assert set(figures_of(rates)) == {"landscape_accuracy", "curves"}
    assert "landscape_loss" in plots.search_figures(search(trials=4), LOSS)


@pytest.mark.parametrize("metric", [ACCURACY, LOSS])
def test_odd_searches_are_drawn(metric):
    many = "model: {hidden: {choice: [[1], [2], [3], [4], [5], [6], [7], [8], [9], [10]]},"
    many += " batch_norm: {choice: [true, false]}}\n"
    many += "training: {patience: {choice: [null, 5]}, epochs: {low: 1, high: 3}}\n"
    for config in (CONFIG + many + RATES, CONFIG + many):
        for trials in (1, 9, 24):
            searched = settings_search(lambda *_: 0.0, trials, config=config, noise=0.0)
            figure = slices(searched.trials, metric, searched.settings)
            assert not re.search(r"\bnan\b", plots.svg(figure, "x"))
            figure.savefig(io.BytesIO(), format="png")
