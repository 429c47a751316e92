"""The figures of the searched settings."""

import io
import re

import numpy as np
import pytest

from pipeline.analysis.ranking import best_trial
from pipeline.models.metrics import ACCURACY, LOSS
from pipeline.report import figures as plots
from pipeline.report.figures.setting_effects import importances, slices
from tests.study import batch_size_effect, search, settings_search

CONFIG = "data: {source: none.csv, target: none}\n"
RATES = "optimizers: [{name: SGD, lr: {low: 1e-3, high: 1.0, log: true}}]\n"

pytestmark = pytest.mark.filterwarnings("error")


def test_bars_are_the_shares(searched):
    (axes,) = importances(searched.importances).axes
    over_all = searched.importances
    assert [bar.get_width() for bar in axes.patches] == pytest.approx(
        [100 * share.share for share in over_all]
    )
    chance = [segment[0][0] for segment in axes.collections[0].get_segments()]
    assert chance == pytest.approx([100 * share.chance for share in over_all])
    by_color = {}
    for bar, share in zip(axes.patches, over_all, strict=True):
        by_color.setdefault(bar.get_facecolor(), set()).add(share.stands_out)
    assert sorted(by_color.values(), key=str) == [{False}, {True}]


def test_noise_is_said_to_be_none():
    plot = importances(settings_search(lambda *_: 0.0, 30).over_all())
    assert plot.title == "No setting stands out from chance"


def test_slices_mark_every_trial_at_its_value(searched):
    plot = slices(searched)
    panels = {axes.texts[0].get_text(): axes for axes in plot.axes}
    assert next(iter(panels)) == "batch_size"
    assert set(panels) == {"batch_size", "hidden", "dropout", "momentum (SGD)"}
    marks = {
        name: np.concatenate([line.get_xdata() for line in axes.lines
                              if line.get_linestyle() == "None" and line.get_markersize() < 10])
        for name, axes in panels.items()
    }  # fmt: skip
    assert sorted(marks["dropout"]) == pytest.approx(
        sorted(trial.params["model.dropout"] for trial in searched.trials)
    )
    momenta = [v for t in searched.trials if (v := t.params.get("optimizers.0.momentum"))]
    assert sorted(marks["momentum (SGD)"]) == pytest.approx(sorted(momenta))
    sizes = [(32, 64, 128).index(t.params["training.batch_size"]) for t in searched.trials]
    assert sorted(np.round(marks["batch_size"])) == sorted(sizes)
    best = best_trial(searched.trials, ACCURACY)
    (ring,) = [line for line in panels["dropout"].lines if line.get_markersize() > 10]
    assert ring.get_xdata()[0] == best.params["model.dropout"]
    medians = [line.get_ydata()[0] for line in panels["batch_size"].lines
               if len(line.get_xdata()) == 2 and line.get_linestyle() == "-"]  # fmt: skip
    assert medians == pytest.approx([50, 60, 55], abs=0.1)


def test_which_figures_there_are():
    few, many = (settings_search(batch_size_effect, count) for count in (4, 30))
    names = [
        set(plots.search_figures(searched.trials, ACCURACY, None, searched))
        & {"importances", "slices"}
        for searched in (few, many)
    ]
    assert names == [{"slices"}, {"importances", "slices"}]
    fixed = CONFIG + "optimizers: [{name: SGD, lr: 0.1}, {name: Adam, lr: 0.01}]"
    searched = settings_search(lambda entry, _: 0.1 * entry, 2, config=fixed)
    figures = plots.search_figures(searched.trials, ACCURACY, None, searched)
    assert set(figures) == {"curves"}
    assert "landscape_loss" in plots.search_figures(search(trials=4), ACCURACY)


@pytest.mark.parametrize("metric", [ACCURACY, LOSS])
def test_odd_searches_are_drawn(metric):
    many = "model: {hidden: {choice: [[1], [2], [3], [4], [5], [6], [7], [8], [9], [10]]},"
    many += " batch_norm: {choice: [true, false]}}\n"
    many += "training: {patience: {choice: [null, 5]}, epochs: {low: 1, high: 3}}\n"
    for config in (CONFIG + many + RATES, CONFIG + many):
        for trials in (1, 9, 24):
            searched = settings_search(
                lambda *_: 0.0, trials, config=config, noise=0.0, metric=metric
            )
            assert searched.importances == ()
            figure = slices(searched)
            assert not re.search(r"\bnan\b", plots.svg(figure, "x"))
            figure.savefig(io.BytesIO(), format="png")
