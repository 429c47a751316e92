"""One setting against the score: a panel for each, one mark per trial."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from pipeline.analysis.importance import Importance, Searched
from pipeline.analysis.ranking import TrialResult, best_trial
from pipeline.common import text as formats
from pipeline.report.figures.axes import Plot, build, log_axis, text_of, value_limits
from pipeline.report.figures.colours import INK, MUTED
from pipeline.report.figures.landscape import local_mean
from pipeline.report.figures.learning import EDGE, objective_of, optimizer_legend, ring, scatter
from pipeline.search.settings import Setting, value_text

_MOST_PANELS = 10
_BANDWIDTH = 0.1  # of the range; standard deviation of the Gaussian kernel
_LEAST_FOR_MEAN = 8  # trials
_SPREAD = 0.62  # of the place of a value; marks of each optimizer beside those of the others

Value = Callable[[TrialResult], float | None]


def slices(searched: Searched) -> Plot:
    """A panel for each setting beside the optimizer and its learning rate, one at least,
    in the order of their importances."""
    importances = [one for one in searched.importances if one.optimizer is None]
    order = {one.setting.label: place for place, one in enumerate(importances)}
    settings = sorted(searched.others, key=lambda one: order.get(one.label, len(order)))
    shown = settings[:_MOST_PANELS]
    value, label = objective_of(searched.objective)
    trials = searched.trials
    more = f"; {len(shown)} of {len(settings)} settings" if len(shown) < len(settings) else ""
    plot, panels = build(
        f"{_upper(text_of(shown[0].label, 24))} against the score"
        if len(shown) == 1
        else "Each setting against the score",
        "One mark per trial, whose other settings differ too; ringed: the best; line: local mean, "
        f"or median of a value; {EDGE}{more}",
        [1.05 if len(shown) > 1 else 1.9] * len(shown),
        bottom=0.35,
        gap=0.68,
        above=0.34,
        legend=optimizer_legend(trials),
    )
    heights = [v for trial in trials if (v := value(trial)) is not None]
    best = best_trial(trials, searched.objective)
    for axes, setting in zip(panels, shown, strict=True):
        value_limits(axes, heights, searched.objective, ticks=4)
        own = [trial for trial in trials if setting.has(trial)]
        place = _places(axes, setting, own)
        scatter(plot, axes, own, place, value, alpha=0.7, size=5.5)
        _middle(axes, setting, own, place, value)
        if best is not None and setting.has(best):
            ring(axes, place(best), value(best) or 0.0, size=12)
        axes.text(
            0.0, 1.07, text_of(setting.label, 40), transform=axes.transAxes, fontsize=9.5,
            fontweight="bold", color=INK,
        )  # fmt: skip
        one = next((o for o in importances if o.setting.label == setting.label), None)
        if one is not None:
            axes.text(
                1.0, 1.07, _weight(one), transform=axes.transAxes, fontsize=8.5, ha="right",
                color=MUTED,
            )  # fmt: skip
    panels[len(panels) // 2].set_ylabel(label)
    return plot


def _places(
    axes: Axes, setting: Setting, own: Sequence[TrialResult]
) -> Callable[[TrialResult], float]:
    """Prepares the x axis; where on it a trial is."""
    if not setting.categorical:
        values = [float(setting.value(trial)) for trial in own]
        if setting.log and all(value > 0 for value in values):
            log_axis(axes, values)
        else:
            axes.xaxis.set_major_locator(MaxNLocator(7, integer=setting.axis.whole))
            axes.margins(x=0.04)
        return lambda trial: float(setting.value(trial))
    names = list(dict.fromkeys(trial.optimizer for trial in own))
    labels = [text_of(value_text(value), 16) for value in setting.axis.values or ()]
    axes.set_xticks(range(len(labels)), labels)
    if len(labels) > 5:
        axes.tick_params(axis="x", labelsize=7.5)
    axes.set_xlim(-0.5, len(labels) - 0.5)
    axes.grid(visible=False, axis="x")
    lane = _SPREAD / max(len(names), 1)

    def place(trial: TrialResult) -> float:
        # Spread evenly within the optimizer's lane by the golden ratio, the same at each drawing.
        within = (trial.number * 0.6180339887 % 1 - 0.5) * 0.8 * lane
        return setting.category(trial) - _SPREAD / 2 + lane * (
            names.index(trial.optimizer) + 0.5
        ) + within  # fmt: skip

    return place


def _middle(
    axes: Axes,
    setting: Setting,
    own: Sequence[TrialResult],
    place: Callable[[TrialResult], float],
    value: Value,
) -> None:
    """The median of each value; along a range of numbers, the local mean."""
    scored = [trial for trial in own if trial.state == "COMPLETE" and value(trial) is not None]
    y = np.array([value(trial) for trial in scored], dtype=np.float64)
    if setting.categorical:
        at = np.array([setting.category(trial) for trial in scored])
        for category in np.unique(at):
            middle = float(np.median(y[at == category]))
            ends = [category - _SPREAD / 2 - 0.04, category + _SPREAD / 2 + 0.04]
            axes.plot(ends, [middle] * 2, color=INK, linewidth=1.6, zorder=7)
        return
    x = np.array([place(trial) for trial in scored])
    log = setting.log and bool((x > 0).all())
    x = np.log10(x) if log else x
    if len(scored) < _LEAST_FOR_MEAN or not np.ptp(x):
        return
    at = np.linspace(x.min(), x.max(), 80)
    mean, _ = local_mean(x, y, at, _BANDWIDTH * float(np.ptp(x)))
    axes.plot(10**at if log else at, mean, color=INK, linewidth=1.6, zorder=7)


def _weight(one: Importance) -> str:
    share, chance = formats.percent(one.share, 0), formats.percent(one.chance, 0)
    return f"importance {share}, by chance {chance}"


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
