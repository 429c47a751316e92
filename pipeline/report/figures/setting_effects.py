"""Figures of the searched settings: which of them mattered, and where the best trials lie."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator

from pipeline.analysis.importance import Importance, Searched
from pipeline.analysis.ranking import best_trial, completed
from pipeline.common import text as formats
from pipeline.models.metrics import Metric
from pipeline.report.figures import learning
from pipeline.report.figures.colours import ACCENT, FAINT, INK
from pipeline.report.figures.plot import Panel, Plot, build, entry, text_of
from pipeline.search.settings import Setting, value_text
from pipeline.training.trial import Trial

_MOST_SETTINGS = 12
_MOST_PANELS = 10
_BANDWIDTH = 0.1  # of the trials' range; standard deviation of the Gaussian kernel
_LEAST_FOR_MEAN = 8  # trials
_WIDTH = 0.62  # of the place of a value that its marks are in


def importances(shares: Sequence[Importance]) -> Plot:
    """A row for each setting, the most important first, with a bar beside what chance gives.

    Args:
        shares: one at least."""
    rows = shares[:_MOST_SETTINGS]
    title = "No setting stands out from chance"
    if first := next((importance for importance in shares if importance.stands_out), None):
        name, share = text_of(first.setting.label), formats.percent(first.share, 0)
        title = f"{name[:1].upper()}{name[1:]} matters most: {share} of the variance"
    plot, (axes,) = build(
        title,
        "Share of the variance of the score over the whole space that a setting explains by itself "
        f"(fANOVA, {formats.count(rows[0].trials, 'trial')}); line: what one without any effect "
        f"reaches in 1 of 20 cases; grey: no more{_part_of(len(rows), len(shares))}",
        rows=[text_of(importance.setting.label) for importance in rows],
    )
    places, chance = np.arange(len(rows)), [100 * row.chance for row in rows]
    color = [ACCENT if row.stands_out else FAINT for row in rows]
    axes.barh(places, [100 * row.share for row in rows], height=0.55, color=color, zorder=2)
    axes.vlines(chance, places - 0.38, places + 0.38, color=INK, linewidth=1.6, zorder=4)
    highest = max(max(row.share, row.chance) for row in rows)
    axes.set(xlim=(0, min(100, 108 * highest) or 1), xlabel="Share of the variance (%)")
    return plot


def _part_of(shown: int, count: int) -> str:
    """The end of a subtitle where not all settings are shown."""
    return f"; {shown} of {count} settings" if shown < count else ""


def slices(searched: Searched) -> Plot:
    """A panel for each setting beside the optimizer and its learning rate, one at least,
    in the order of their importances."""
    metric, trials = searched.metric, searched.trials
    ranked = [each.setting.label for each in searched.importances]
    order = {label: place for place, label in enumerate(ranked)}
    settings = sorted(searched.others, key=lambda each: order.get(each.label, len(order)))
    shown = settings[:_MOST_PANELS]
    what = text_of(shown[0].label) if len(shown) == 1 else "each setting"
    plot, panels = build(
        f"The score against {what}",
        "One mark per trial, whose other settings differ too; ringed: the best; line and band: "
        "local mean ± standard deviation, or median of a value; at the lower edge: × failed, "
        f"+ pruned; hollow at an edge: off the scale{_part_of(len(shown), len(settings))}",
        [1.05 if len(shown) > 1 else 1.9] * len(shown), bottom=0.35, gap=0.68, above=0.34,
        legend=[entry(label, line=False) for label in dict.fromkeys(t.optimizer for t in trials)],
    )  # fmt: skip
    best = best_trial(trials, metric)
    for axes, setting in zip(panels, shown, strict=True):
        axes.limit_values(learning.heights(completed(trials), metric), metric)
        having = [trial for trial in trials if setting.has(trial)]
        place = _places(axes, setting, having)
        learning.scatter(axes, having, place, metric)
        ring = [trial for trial in having if trial is best]
        axes.mark([*map(place, ring)], learning.heights(ring, metric), (INK, "o"), 12.5, True,
                  markeredgewidth=1.6, zorder=6)  # fmt: skip
        _middle(axes, setting, completed(having), metric)
        axes.caption(text_of(setting.label, 40))
    panels[len(panels) // 2].set_ylabel(metric.axis)
    return plot


def _places(axes: Panel, setting: Setting, trials: Sequence[Trial]) -> Callable[[Trial], float]:
    """Prepares the x axis; where on it a trial is."""
    if not setting.categorical:
        values = [float(setting.value(trial)) for trial in trials]
        if setting.log and min(values, default=0) > 0:
            axes.log_x(values)
        else:
            axes.xaxis.set_major_locator(MaxNLocator(7, integer=setting.axis.whole))
            axes.margins(x=0.04)
        return lambda trial: float(setting.value(trial))
    texts = [text_of(value_text(value), 16) for value in setting.axis.values or ()]
    axes.set_xticks(range(len(texts)), texts)
    if len(texts) > 5:
        axes.tick_params(axis="x", labelsize=7.5)
    axes.set_xlim(-0.5, len(texts) - 0.5)
    axes.grid(visible=False, axis="x")
    # Beside each other, evenly: by the golden ratio.
    return lambda trial: setting.category(trial) + _WIDTH * (trial.number * 0.618034 % 1 - 0.5)


def _middle(axes: Panel, setting: Setting, scored: Sequence[Trial], metric: Metric) -> None:
    """The median of each value; along a range of numbers, the local mean."""
    y = np.array(learning.heights(scored, metric))
    if setting.categorical:
        categories = np.array([setting.category(trial) for trial in scored])
        for category in np.unique(categories):
            middle = float(np.median(y[categories == category]))
            ends = [category - _WIDTH / 2 - 0.04, category + _WIDTH / 2 + 0.04]
            axes.plot(ends, [middle, middle], color=INK, linewidth=1.6, zorder=7)
    elif len(scored) >= _LEAST_FOR_MEAN:
        x = np.array([float(setting.value(trial)) for trial in scored])
        x = np.log10(x) if axes.get_xscale() == "log" else x
        learning.draw_local_mean(axes, x, y, metric, INK, _BANDWIDTH * float(np.ptp(x)))
