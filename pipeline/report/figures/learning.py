"""Figures of a search: what the learning rates do, and how the best trials learn."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.ticker import MaxNLocator

from pipeline.analysis.comparison import Floats
from pipeline.analysis.evidence import Tolerance
from pipeline.analysis.ranking import best_per_optimizer, completed
from pipeline.common import text as formats
from pipeline.models.metrics import ACCURACY, Metric, with_objective
from pipeline.report.figures.colours import INK, PAPER, optimizer_style
from pipeline.report.figures.plot import Panel, Plot, build, entry, padded, text_of
from pipeline.search.settings import LEARNING_RATE, argument, plain_name, value_text
from pipeline.training.trial import Trial

_MOST_TIPS = 500  # trials that can be pointed at in one panel
_BANDWIDTH = 0.2  # decades; standard deviation of the Gaussian kernel
_MOST_PANELS = 12


def heights(trials: Iterable[Trial], metric: Metric) -> list[float]:
    """Where the scores of complete trials are on the axis."""
    return [metric.scale * trial.scores[metric.name] for trial in trials]


def scatter(
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
            (y,), kind = heights([trial], metric), "scored"
            if not low <= y <= high:
                kind, y = "beyond", 0.025 if y < low else 0.975
        groups.setdefault((trial.optimizer, kind), []).append((across, y))
        if len(axes.tips) < _MOST_TIPS:
            axes.say(across, y, about(trial, metric), None if kind == "scored" else edge)
    for (optimizer, kind), points in groups.items():
        places, values = zip(*points, strict=True)
        axes.mark(places, values, optimizer_style(optimizer), **looks[kind])


def about(trial: Trial, metric: Metric = ACCURACY) -> str:
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
    """Panels of one optimizer each: its trials, their local mean with a band, and the range of
    learning rates within one standard error of its best.

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
    subtitle = "Line and band: local mean ± standard deviation of the trials near that rate"
    if ranges:
        within = f"within one standard error of the optimizer's best {objective.words}"
        subtitle += f"; bar: rates {within}"
    title = f"What the learning rate does to the validation {metric.words}"
    plot, panels = build(title, subtitle, [0.9] * len(panels_of), gap=0.3, above=0.32)
    shown = [trial for trial in shown if trial.optimizer in panels_of]
    for axes, (label, group) in zip(panels, panels_of.items(), strict=True):
        axes.log_x([trial.lr for trial in shown])
        axes.limit_values(heights(completed(shown), metric), metric)
        rates = np.log10([trial.lr for trial in completed(group)])
        scores, color = np.array(heights(completed(group), metric)), optimizer_style(label)[0]
        draw_local_mean(axes, rates, scores, metric, color, _BANDWIDTH)
        scatter(axes, group, lambda trial: trial.lr, metric)
        note = _range(axes, ranges[label]) if label in ranges else ""
        axes.caption(text_of(label), note, color)
        axes.tick_params(labelbottom=axes is panels[-1])
    panels[len(panels) // 2].set_ylabel(metric.axis)
    panels[-1].set_xlabel("Learning rate (log scale)")
    return plot


def local_mean(x: Floats, y: Floats, at: Floats, bandwidth: float) -> tuple[Floats, Floats]:
    """Mean [A] and standard deviation [A] of y [N] near `at` [A], weighted by a Gaussian of the
    distance in x [N]; NaN where nothing is within two bandwidths."""
    distance = np.abs(at[:, None] - x[None, :]) / bandwidth
    weights = np.exp(-0.5 * distance**2)
    weights[distance.min(axis=1) > 2] = np.nan
    weights /= weights.sum(axis=1, keepdims=True)
    mean = (weights * y).sum(axis=1)
    variance = (weights * (y[None, :] - mean[:, None]) ** 2).sum(axis=1)
    return mean, np.sqrt(variance)


def draw_local_mean(
    axes: Panel, x: Floats, y: Floats, metric: Metric, color: str, bandwidth: float
) -> None:
    """A line with its band: local mean and standard deviation of scores y [N], in the units of the
    axis. On a log axis x [N] and the bandwidth are decades."""
    if len(x) < 3 or not np.ptp(x):
        return
    # A few losses of trials that diverge are of another order: their mean is geometric.
    log = not metric.is_share and bool((y > 0).all())
    at = np.linspace(x.min(), x.max(), 80)
    mean, deviation = local_mean(x, np.log(y) if log else y, at, bandwidth)
    lines = np.array([mean - deviation, mean, mean + deviation])
    low, mean, high = np.exp(lines) if log else lines
    at = 10**at if axes.get_xscale() == "log" else at
    axes.fill_between(at, low, high, color=color, alpha=0.12, linewidth=0, zorder=2)
    axes.plot(at, mean, color=color, linewidth=1.8, zorder=4)


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
    plot, panels = build(
        f"How the best trial of {whose} learns",
        "Mean over folds on validation rows, of which those that have stopped count with their "
        "last value; mark: best epoch, mean over folds",
        [1.75] * len(metrics),
        legend=[entry(t.optimizer, text=f", lr {formats.number(t.lr, 2)}") for t in best],
    )
    for axes, each in zip(panels, metrics, strict=True):
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
        axes.tick_params(labelbottom=axes is panels[-1])
    panels[-1].set_xlabel("Epoch")
    return plot


def _points(trial: Trial, metric: Metric) -> tuple[npt.NDArray[np.intp], Floats]:
    """The epochs [P], from 1, that the curve has a value for, and these on the axis [P].

    A long curve that was read back has values for some of its epochs only."""
    curve = np.asarray(trial.curves.get(metric.curve, ()), dtype=np.float64)
    places = np.flatnonzero(np.isfinite(curve))
    return places + 1, metric.scale * curve[places]
