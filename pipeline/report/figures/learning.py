"""Figures of a search: what the learning rates and the other settings do, and how the best trials
learn."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from pipeline.analysis.ranking import best_per_optimizer, completed
from pipeline.common import text as formats
from pipeline.models.metrics import Metric
from pipeline.report.figures.colours import PAPER, optimizer_style
from pipeline.report.figures.plot import Panel, Plot, entry, padded, text_of
from pipeline.search.settings import LEARNING_RATE, OPTIMIZER, Setting, value_text
from pipeline.training.trial import Trial

_MOST_PANELS = 12
_MARKS = (
    "line: its spread over the folds; at the lower edge: × failed, + stopped early; hollow: off "
    "the scale"
)


def search_figures(
    trials: Sequence[Trial], metric: Metric, settings: Sequence[Setting] = ()
) -> dict[str, Plot]:
    """The figures of a search by file name, as far as there is something to see: landscape_METRIC
    of the learning rates, curves, and slices of the other settings.

    settings: those that were searched; none: nothing is known of them."""
    figures: dict[str, Plot] = {}
    done = completed(trials)
    if not done:
        return figures
    names = [setting.name for setting in settings]
    if (LEARNING_RATE in names or not names) and any(trial.lr > 0 for trial in done):
        figures[f"landscape_{metric.name}"] = landscape(trials, metric)
    figures["curves"] = learning_curves(trials, metric)
    others = [each for each in settings if each.name not in (OPTIMIZER, LEARNING_RATE)]
    if others:
        figures["slices"] = slices(trials, metric, others)
    return figures


def _heights(trials: Iterable[Trial], metric: Metric) -> list[float]:
    """Where the scores of complete trials are on the axis."""
    return [metric.scale * trial.scores[metric.name] for trial in trials]


def _scatter(
    axes: Panel, trials: Sequence[Trial], x: Callable[[Trial], float], metric: Metric
) -> None:
    """A mark for each trial, and a line of a standard deviation over its folds to either side.

    Those without a score are at the bottom edge. The axes have their y limits: trials beyond these
    are hollow marks at the edge."""
    low, high = axes.get_ylim()
    edge: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "clip_on": False}
    off = {"size": 4.5, "hollow": True, **edge}
    looks: dict[str, dict[str, Any]] = {
        "scored": {"size": 5.5, "alpha": 0.8, "markeredgewidth": 0.7},
        "beyond": {**off, "markerfacecolor": PAPER},
        "FAIL": {**off, "marker": "x", "markeredgewidth": 1.5},
        "PRUNED": {**off, "marker": "+", "markeredgewidth": 1.5},
    }
    groups: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    for trial in trials:
        y, spread, kind = 0.025, 0.0, "FAIL" if trial.state == "FAIL" else "PRUNED"
        if trial.is_complete:
            (y,), kind = _heights([trial], metric), "scored"
            spread = metric.scale * (trial.deviation(metric) or 0.0)
            if not low <= y <= high:
                kind, y = "beyond", 0.025 if y < low else 0.975
        groups.setdefault((trial.optimizer, kind), []).append((x(trial), y, spread))
    for (optimizer, kind), points in groups.items():
        places, values, spreads = zip(*points, strict=True)
        style = optimizer_style(optimizer)
        if kind == "scored":
            axes.errorbar(places, values, spreads, fmt="none", ecolor=style[0], elinewidth=1,
                          alpha=0.35)  # fmt: skip
        axes.mark(places, values, style, **looks[kind])


def landscape(trials: Sequence[Trial], metric: Metric) -> Plot:
    """Panels of one optimizer each with its trials, of which one is complete, at a learning rate
    above 0, at least."""
    shown = [trial for trial in trials if trial.lr > 0]  # 0 has no place on a log axis
    labels = [best.optimizer for best in best_per_optimizer(shown, metric)][:_MOST_PANELS]
    shown = [trial for trial in shown if trial.optimizer in labels]
    plot = Plot(
        f"What {metric.words} each learning rate reached",
        f"One mark per trial; {_MARKS}. So few trials do not say where a good range ends",
        [0.62] * len(labels),
    )
    for axes, label in zip(plot.panels, labels, strict=True):
        axes.log_x([trial.lr for trial in shown])
        axes.limit_values(_heights(completed(shown), metric), metric)
        of_it = [trial for trial in shown if trial.optimizer == label]
        _scatter(axes, of_it, lambda trial: trial.lr, metric)
        axes.caption(text_of(label), optimizer_style(label)[0])
    plot.panels[len(labels) // 2].set_ylabel(metric.axis)
    plot.panels[-1].set_xlabel("Learning rate (each step to the right is ten times as much)")
    return plot


def learning_curves(trials: Sequence[Trial], metric: Metric) -> Plot:
    """The metric by epoch of the best trial of each optimizer; of trials one is complete.

    A long curve that was read back has values for some of its epochs only."""
    best = best_per_optimizer(trials, metric)
    whose = "each optimizer" if len(best) > 1 else text_of(best[0].optimizer)
    plot = Plot(
        f"How the best trial of {whose} learns",
        "Mean over folds on validation rows, of which those that have stopped count with their "
        "last value; mark: best epoch, mean over folds",
        legend=[entry(t.optimizer, text=f", lr {formats.number(t.lr, 2)}") for t in best],
    )
    (axes,) = plot.panels
    seen: list[float] = []
    for order, trial in enumerate(best):
        curve = metric.scale * np.asarray(trial.curves.get(metric.curve, ()), dtype=np.float64)
        places = np.flatnonzero(np.isfinite(curve))
        color, marker = optimizer_style(trial.optimizer)
        axes.plot(places + 1, curve[places], color=color, linewidth=2.2 if order == 0 else 1.6,
                  marker=marker if len(places) == 1 else None, zorder=4 - order / 100)  # fmt: skip
        if trial.best_epoch is not None:
            # At the edge: the score is each fold's at its own best epoch, not the curve's.
            axes.mark([trial.best_epoch], [0.0], (color, marker), clip_on=False,
                      transform=axes.get_xaxis_transform())  # fmt: skip
        seen += curve[places].tolist()
    if seen:
        # A learning rate too high starts far from what matters: leave the few such epochs out.
        ends = metric.sign * np.quantile(metric.sign * np.array(seen), [0.02, 1.0])
        axes.set_ylim(padded(ends.min(), ends.max(), 0.08))
    axes.set(xlim=(0, None), xlabel="Epoch", ylabel=metric.axis)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    return plot


def slices(trials: Sequence[Trial], metric: Metric, settings: Sequence[Setting]) -> Plot:
    """A panel for each setting, of which there is one at least; one of the trials is complete."""
    shown = settings[:_MOST_PANELS]
    part = f"; {len(shown)} of {len(settings)} settings" if len(shown) < len(settings) else ""
    labels = dict.fromkeys(trial.optimizer for trial in trials)
    plot = Plot(
        f"What {metric.words} the other settings reached",
        f"One mark per trial, whose other settings differ too; {_MARKS}{part}",
        [1.05] * len(shown), sharex="none", legend=[entry(label, line=False) for label in labels],
    )  # fmt: skip
    for axes, setting in zip(plot.panels, shown, strict=True):
        axes.limit_values(_heights(completed(trials), metric), metric)
        having = [trial for trial in trials if setting.has(trial)]
        _scatter(axes, having, _places(axes, setting, having), metric)
        axes.caption(text_of(setting.label, 40))
    plot.panels[len(shown) // 2].set_ylabel(metric.axis)
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
    axes.set_xticks(range(len(texts)), texts, fontsize=7.5 if len(texts) > 5 else 9)
    axes.set_xlim(-0.5, len(texts) - 0.5)
    axes.grid(visible=False, axis="x")
    # Beside each other, evenly: by the golden ratio.
    return lambda trial: setting.category(trial) + 0.62 * (trial.number * 0.618034 % 1 - 0.5)
