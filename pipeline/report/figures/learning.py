"""Figures of a search: what the learning rates and the other settings do, and how the best trials
learn."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.ticker import MaxNLocator

from pipeline.analysis.comparison import Floats
from pipeline.analysis.evidence import Evidence, Tolerance
from pipeline.analysis.importance import Searched
from pipeline.analysis.ranking import best_per_optimizer, best_trial, completed
from pipeline.common import text as formats
from pipeline.models.metrics import Metric, with_objective
from pipeline.report.figures.colours import INK, PAPER, optimizer_style
from pipeline.report.figures.plot import Panel, Plot, entry, padded, text_of
from pipeline.search.settings import LEARNING_RATE, Setting, argument, plain_name, value_text
from pipeline.training.trial import Trial

_MOST_TIPS = 500  # trials that can be pointed at in one panel
_MOST_PANELS = 12
_WIDTH = 0.62  # of the place of a value that its marks are in


def search_figures(
    trials: Sequence[Trial],
    metric: Metric,
    evidence: Evidence | None = None,
    searched: Searched | None = None,
) -> dict[str, Plot]:
    """The figures of a search by file name: landscape_accuracy and one for each other metric,
    curves; of its other settings slices. There are none where no trial completed.

    Those of the learning rate are left out where it was not searched, and those of other settings
    where there is nothing to say of them."""
    figures: dict[str, Plot] = {}
    done = completed(trials)
    if not done:
        return figures
    # Where nothing is known of the settings, the learning rate counts as searched.
    settings = searched.settings if searched is not None and searched.trials else None
    is_searched = settings is None or any(setting.name == LEARNING_RATE for setting in settings)
    if is_searched and any(trial.lr > 0 for trial in done):
        tolerances = evidence.tolerances if evidence is not None else ()
        for each in with_objective(metric):
            figures[f"landscape_{each.name}"] = landscape(trials, each, tolerances, metric)
    figures["curves"] = learning_curves(trials, metric)
    if searched is not None and searched.others and completed(searched.trials):
        figures["slices"] = slices(searched)
    return figures


def _heights(trials: Iterable[Trial], metric: Metric) -> list[float]:
    """Where the scores of complete trials are on the axis."""
    return [metric.scale * trial.scores[metric.name] for trial in trials]


def _scatter(
    axes: Panel, trials: Sequence[Trial], x: Callable[[Trial], float], metric: Metric
) -> None:
    """A mark for each trial.

    Those without a score are at the bottom edge. The axes have their y limits: trials beyond these
    are hollow marks at the edge."""
    low, high = axes.get_ylim()
    edge = axes.get_xaxis_transform()  # whose heights are from 0 to 1
    off: dict[str, Any] = {"size": 4.5, "transform": edge, "clip_on": False, "hollow": True}
    looks: dict[str, dict[str, Any]] = {
        "scored": {"size": 5.5, "alpha": 0.8, "markeredgewidth": 0.7},
        "beyond": {**off, "markerfacecolor": PAPER},
        "FAIL": {**off, "marker": "x", "markeredgewidth": 1.5},
        "PRUNED": {**off, "marker": "+", "markeredgewidth": 1.5},
    }
    groups: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for trial in trials:
        across, y, kind = x(trial), 0.025, "FAIL" if trial.state == "FAIL" else "PRUNED"
        if trial.is_complete:
            (y,), kind = _heights([trial], metric), "scored"
            if not low <= y <= high:
                kind, y = "beyond", 0.025 if y < low else 0.975
        groups.setdefault((trial.optimizer, kind), []).append((across, y))
        if len(axes.tips) < _MOST_TIPS:
            axes.say(across, y, _about(trial, metric), None if kind == "scored" else edge)
    for (optimizer, kind), points in groups.items():
        places, values = zip(*points, strict=True)
        axes.mark(places, values, optimizer_style(optimizer), **looks[kind])


def _about(trial: Trial, metric: Metric) -> str:
    """What is said of a trial that is pointed at, in lines."""
    lines = [f"Trial {trial.number}: {trial.optimizer}, learning rate {formats.number(trial.lr)}"]
    if trial.is_complete:
        scores = (
            f"{each.words} {each.text_with(trial.score(each), trial.deviation(each))}"
            for each in with_objective(metric)
        )
        lines.append(", ".join(scores))
    else:
        lines.append(f"{trial.state}: {trial.reason or 'no reason recorded'}")
    for path, value in list(trial.params.items())[:8]:
        if (name := argument(path)) != LEARNING_RATE:
            lines.append(f"{plain_name(name)}: {value_text(value)}")
    return "\n".join(formats.shorten(line, 90) for line in lines)


def landscape(
    trials: Sequence[Trial], metric: Metric, tolerances: Sequence[Tolerance], objective: Metric
) -> Plot:
    """Panels of one optimizer each: its trials, and the range of learning rates within one standard
    error of its best.

    Args:
        trials: one is complete, at a learning rate above 0, at least.
        tolerances: of the same search; for the range.
        objective: which the range is of, and the order of the optimizers."""
    shown = [trial for trial in trials if trial.lr > 0]  # 0 has no place on a log axis
    panels_of = {
        best.optimizer: [trial for trial in shown if trial.optimizer == best.optimizer]
        for best in best_per_optimizer(shown, objective)[:_MOST_PANELS]
    }
    ranges = {
        tolerance.optimizer: tolerance
        for tolerance in tolerances
        if tolerance.optimizer in panels_of and tolerance.lr_low and tolerance.lr_high
    }
    subtitle = "One mark per trial; at the lower edge: × failed, + pruned; hollow: off the scale"
    if ranges:
        within = f"within one standard error of the optimizer's best {objective.words}"
        subtitle += f"; bar: rates {within}"
    title = f"What the learning rate does to the validation {metric.words}"
    plot = Plot(title, subtitle, [0.9] * len(panels_of))
    shown = [trial for trial in shown if trial.optimizer in panels_of]
    for axes, (label, group) in zip(plot.panels, panels_of.items(), strict=True):
        axes.log_x([trial.lr for trial in shown])
        axes.limit_values(_heights(completed(shown), metric), metric)
        _scatter(axes, group, lambda trial: trial.lr, metric)
        note = _range(axes, ranges[label]) if label in ranges else ""
        axes.caption(text_of(label), note, optimizer_style(label)[0])
    plot.panels[len(panels_of) // 2].set_ylabel(metric.axis)
    plot.panels[-1].set_xlabel("Learning rate (log scale)")
    return plot


def _range(axes: Panel, tolerance: Tolerance) -> str:
    """The range as a bar along the upper edge, and in words."""
    ends = tolerance.lr_low or 0.0, tolerance.lr_high or 0.0
    axes.plot(ends, [0.97, 0.97], transform=axes.get_xaxis_transform(), color=INK, linewidth=3,
              solid_capstyle="butt", zorder=6, clip_on=False)  # fmt: skip
    low, high, width = (formats.number(value, 2) for value in (*ends, tolerance.decades))
    return f"{low} to {high} ({width} decades)" if tolerance.decades else "one rate only"


def learning_curves(trials: Sequence[Trial], metric: Metric) -> Plot:
    """Each metric per epoch of the best trial of each optimizer, `metric` first; of trials one is
    complete at least."""
    metrics = sorted(with_objective(metric), key=lambda each: each != metric)
    best = best_per_optimizer(trials, metric)
    whose = "each optimizer" if len(best) > 1 else text_of(best[0].optimizer)
    plot = Plot(
        f"How the best trial of {whose} learns",
        "Mean over folds on validation rows, of which those that have stopped count with their "
        "last value; mark: best epoch, mean over folds",
        [1.75] * len(metrics),
        legend=[entry(t.optimizer, text=f", lr {formats.number(t.lr, 2)}") for t in best],
    )
    for axes, each in zip(plot.panels, metrics, strict=True):
        for order, trial in enumerate(best):
            epochs, values = _points(trial, each)
            color, marker = optimizer_style(trial.optimizer)
            alone = marker if len(epochs) == 1 else None
            axes.plot(epochs, values, color=color, linewidth=2.2 if order == 0 else 1.6,
                      marker=alone, zorder=4 - order / 100)  # fmt: skip
            if trial.best_epoch is not None:
                # At the edge: the score is each fold's at its own best epoch, not the curve's.
                axes.mark([trial.best_epoch], [0.0], (color, marker), clip_on=False,
                          transform=axes.get_xaxis_transform())  # fmt: skip
        values = np.concatenate([_points(trial, each)[1] for trial in best])
        if len(values):
            # A learning rate too high starts far from what matters: leave the few such epochs out.
            ends = each.sign * np.quantile(each.sign * values, [0.02, 1.0])
            axes.set_ylim(padded(ends.min(), ends.max(), 0.08))
        axes.set(xlim=(0, None), ylabel=each.axis)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    plot.panels[-1].set_xlabel("Epoch")
    return plot


def _points(trial: Trial, metric: Metric) -> tuple[npt.NDArray[np.intp], Floats]:
    """The epochs [P], from 1, that the curve has a value for, and these on the axis [P].

    A long curve that was read back has values for some of its epochs only."""
    curve = np.asarray(trial.curves.get(metric.curve, ()), dtype=np.float64)
    places = np.flatnonzero(np.isfinite(curve))
    return places + 1, metric.scale * curve[places]


def slices(searched: Searched) -> Plot:
    """A panel for each setting beside the optimizer and its learning rate, one at least,
    in the order of their importances."""
    metric, trials = searched.metric, searched.trials
    ranked = [each.setting for each in searched.importances]
    settings = [each for each in ranked or searched.others if each in searched.others]
    shown = settings[:_MOST_PANELS]
    part = f"; {len(shown)} of {len(settings)} settings" if len(shown) < len(settings) else ""
    what = text_of(shown[0].label) if len(shown) == 1 else "each setting"
    plot = Plot(
        f"The score against {what}",
        "One mark per trial, whose other settings differ too; ringed: the best; line: median of a "
        f"value; at the lower edge: × failed, + pruned; hollow at an edge: off the scale{part}",
        [1.05 if len(shown) > 1 else 1.9] * len(shown), sharex="none",
        legend=[entry(label, line=False) for label in dict.fromkeys(t.optimizer for t in trials)],
    )  # fmt: skip
    best = best_trial(trials, metric)
    for axes, setting in zip(plot.panels, shown, strict=True):
        axes.limit_values(_heights(completed(trials), metric), metric)
        having = [trial for trial in trials if setting.has(trial)]
        place = _places(axes, setting, having)
        _scatter(axes, having, place, metric)
        ring = [trial for trial in having if trial is best]
        axes.mark([*map(place, ring)], _heights(ring, metric), (INK, "o"), 12.5, True,
                  markeredgewidth=1.6, zorder=6)  # fmt: skip
        if setting.categorical:
            _medians(axes, setting, completed(having), metric)
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
    axes.set_xticks(range(len(texts)), texts)
    if len(texts) > 5:
        axes.tick_params(axis="x", labelsize=7.5)
    axes.set_xlim(-0.5, len(texts) - 0.5)
    axes.grid(visible=False, axis="x")
    # Beside each other, evenly: by the golden ratio.
    return lambda trial: setting.category(trial) + _WIDTH * (trial.number * 0.618034 % 1 - 0.5)


def _medians(axes: Panel, setting: Setting, scored: Sequence[Trial], metric: Metric) -> None:
    """A line for each value of a choice."""
    for category in {setting.category(trial) for trial in scored}:
        of_it = [trial for trial in scored if setting.category(trial) == category]
        ends = np.array([-1, 1]) * (_WIDTH / 2 + 0.04) + category
        axes.hlines(np.median(_heights(of_it, metric)), *ends, color=INK, linewidth=1.6, zorder=7)
