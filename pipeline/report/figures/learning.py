"""Figures of a search: the learning rates, the order of trials, and how the best ones learn."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from pipeline.analysis.comparison import Floats
from pipeline.analysis.evidence import Tolerance
from pipeline.analysis.ranking import best_per_optimizer, best_trial, completed, ranking
from pipeline.common import text as formats
from pipeline.models.metrics import METRICS, Metric
from pipeline.report.figures.colours import INK, MUTED, PAPER, optimizer_style
from pipeline.report.figures.plot import Entry, Panel, Plot, build, empty, entry, padded, text_of
from pipeline.search.settings import LEARNING_RATE, argument, plain_name, value_text
from pipeline.training.trial import FOLDS_RUNNING, Trial

EDGE = "hollow at the edge: off the scale"
_MOST_TIPS = 500  # trials that can be pointed at in one figure; the best of them
_BANDWIDTH = 0.2  # decades; standard deviation of the Gaussian kernel
_MOST_PANELS = 12
_NOTABLE = 0.3  # decades; a narrower range is no merit
_MOST_EPOCHS = 120  # places along the epochs that can be pointed at


def height(trial: Trial, metric: Metric) -> float | None:
    """Where the trial's score is on the axis; None: it has none."""
    score = trial.score(metric) if trial.is_complete else None
    return metric.scale * score if score is not None and math.isfinite(score) else None


def heights(trials: Iterable[Trial], metric: Metric) -> list[float]:
    """Of those that have a score."""
    return [y for trial in trials if (y := height(trial, metric)) is not None]


def with_score(trials: Iterable[Trial], metric: Metric) -> list[Trial]:
    return [trial for trial in trials if height(trial, metric) is not None]


def trial_legend(trials: Sequence[Trial], metric: Metric) -> list[Entry]:
    """An entry for each optimizer, the best first, and for the kinds of marks that there are."""
    ranked = [trial.optimizer for trial in best_per_optimizer(trials, metric)]
    labels = ranked + sorted({trial.optimizer for trial in trials} - set(ranked))
    entries = [entry(label, line=False) for label in labels]
    look: dict[str, Any] = {"linestyle": "none", "color": MUTED, "markeredgewidth": 1.5}
    for state, text, marker in (("PRUNED", "pruned", "+"), ("FAIL", "failed", "x")):
        if any(trial.state == state for trial in trials):
            entries.append((Line2D([], [], marker=marker, markersize=6, **look), text))
    return entries


def scatter(
    axes: Panel,
    trials: Sequence[Trial],
    x: Callable[[Trial], float | None],
    metric: Metric,
    alpha: float = 0.85,
    size: float = 7,
    best: Trial | None = None,
) -> None:
    """A mark for each trial that has a place along x, and a ring around the best one's.

    Those without a score are at the bottom edge. The axes have their y limits: trials beyond these
    are hollow marks at the edge."""
    low, high = axes.get_ylim()
    edge = axes.get_xaxis_transform()  # whose heights are from 0 to 1
    off: dict[str, Any] = {"size": size - 1, "transform": edge, "clip_on": False, "hollow": True}
    looks: dict[str, dict[str, Any]] = {
        "scored": {"size": size, "alpha": alpha, "markeredgewidth": 0.7},
        "beyond": {**off, "markerfacecolor": PAPER},
        "failed": {**off, "marker": "x", "markeredgewidth": 1.5},
        "pruned": {**off, "marker": "+", "markeredgewidth": 1.5},
    }
    few = trials
    if len(trials) > _MOST_TIPS:
        few = sorted(completed(trials), key=lambda trial: ranking(trial, metric))[:_MOST_TIPS]
    pointed = {trial.number for trial in few}
    groups: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for trial in trials:
        across, y = x(trial), height(trial, metric)
        if across is None:
            continue
        if y is None:
            kind, y = ("failed" if trial.state == "FAIL" else "pruned"), 0.025
        elif not low <= y <= high:
            kind, y = "beyond", 0.025 if y < low else 0.975
        else:
            kind = "scored"
        groups.setdefault((trial.optimizer, kind), []).append((across, y))
        if trial is best and kind == "scored":
            axes.mark(across, y, (INK, "o"), size + 7, True, markeredgewidth=1.6, zorder=6,
                      clip_on=False)  # fmt: skip
        if trial.number in pointed:
            axes.say(across, y, about(trial), None if kind == "scored" else edge)
    for (optimizer, kind), points in groups.items():
        places, values = zip(*points, strict=True)
        axes.mark(places, values, optimizer_style(optimizer), **looks[kind])


def about(trial: Trial) -> str:
    """What is said of a trial that is pointed at, in lines."""
    lines = [f"Trial {trial.number}: {trial.optimizer}, learning rate {formats.number(trial.lr)}"]
    if trial.is_complete:
        scores = (
            f"{name} {metric.text_with(trial.score(metric), trial.deviation(metric))}"
            for name, metric in METRICS.items()
        )
        lines.append(", ".join(scores))
    else:
        state = {"FAIL": "failed", "PRUNED": "pruned"}.get(trial.state, "not finished")
        reason = f": {formats.shorten(trial.reason, 90)}" if trial.reason else ""
        lines.append(state + reason)
    for path, value in list(trial.params.items())[:8]:
        if (name := argument(path)) != LEARNING_RATE:
            lines.append(formats.shorten(f"{plain_name(name)}: {value_text(value)}", 90))
    return "\n".join(lines)


def learning_rate(trials: Sequence[Trial], metric: Metric) -> Plot:
    """Learning rate (log) against the metric, one mark per trial; the best is ringed."""
    plot, axes = _in_one_panel(
        trials,
        metric,
        lambda trial: trial.lr or None,  # 0 has no place on a log axis
        lambda best: (
            f"{text_of(best.optimizer)} at learning rate {formats.number(best.lr, 2)} is best"
        ),
        "ringed: the best",
    )
    axes.log_x([trial.lr for trial in trials if trial.lr])
    axes.set_xlabel("Learning rate (log scale)")
    return plot


def history(trials: Sequence[Trial], metric: Metric) -> Plot:
    """The metric of each trial in the order of asking, and the best so far."""
    count = formats.count(len(trials), "trial")
    plot, axes = _in_one_panel(
        trials,
        metric,
        lambda trial: trial.number,
        lambda best: f"Trial {best.number} is the best of {count}",
        "line: the best so far",
        alpha=0.6,
    )
    numbers = [trial.number for trial in trials] or [0, 1]
    first, last = min(numbers), max(numbers)
    if done := sorted(with_score(trials, metric), key=lambda trial: trial.number):
        leaders = accumulate(done, lambda *two: min(two, key=lambda t: ranking(t, metric)))
        steps = heights(leaders, metric)
        axes.step([*(trial.number for trial in done), last], [*steps, steps[-1]], where="post",
                  color=INK, linewidth=1.6, zorder=4)  # fmt: skip
    pad = max(1.0, (last - first) * 0.03)
    axes.set(xlim=(first - pad, last + pad), xlabel="Trial number")
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    return plot


def _in_one_panel(
    trials: Sequence[Trial],
    metric: Metric,
    x: Callable[[Trial], float | None],
    headline: Callable[[Trial], str],
    note: str,
    alpha: float = 0.85,
) -> tuple[Plot, Panel]:
    """One mark per trial; `headline` says in the title which is the best."""
    states = Counter(trial.state for trial in trials)
    title, subtitle = "No trial completed", formats.count(len(trials), "trial")
    subtitle += f": {states['FAIL']} failed, {states['PRUNED']} pruned"
    best = best_trial(trials, metric)
    if best is not None:
        title = f"{headline(best)}: {metric.name} {metric.text(best.score(metric))}"
        folds = len(best.fold_scores.get(metric.name, ()))
        mean = f", mean of {folds} folds" if folds > 1 else ""
        subtitle = f"One mark per trial{mean}; {note}; {EDGE}"
    plot, (axes,) = build(title, subtitle, legend=trial_legend(trials, metric))
    axes.limit_values(heights(trials, metric), metric)
    scatter(axes, trials, x, metric, alpha, best=best)
    axes.set_ylabel(metric.axis)
    return plot, axes


def landscape(
    trials: Sequence[Trial], metric: Metric, tolerances: Sequence[Tolerance], objective: Metric
) -> Plot:
    """Panels of one optimizer each: its trials, their local mean with a band, and the range of
    learning rates within one standard error of its best.

    Args:
        tolerances: of the same search; for the range.
        objective: which the range is of, and the order of the optimizers."""
    shown = [trial for trial in trials if trial.lr > 0]  # 0 has no place on a log axis
    panels_of = {
        best.optimizer: [trial for trial in shown if trial.optimizer == best.optimizer]
        for best in best_per_optimizer(with_score(shown, metric), objective)[:_MOST_PANELS]
    }
    if not panels_of:
        return empty(f"Learning rate and {metric.name}", "No trial has a score.")
    ranges = {
        tolerance.optimizer: tolerance
        for tolerance in tolerances
        if tolerance.optimizer in panels_of and tolerance.lr_low and tolerance.lr_high
    }
    title = f"What the learning rate does to the validation {metric.name}"
    subtitle = "Line and band: local mean ± standard deviation of the trials near that rate"
    if ranges:
        within = f"within one standard error of the optimizer's best {objective.name}"
        subtitle += f"; bar: rates {within}"
        title = (_most_tolerant(ranges) if metric is objective else "") or title
    tall = 1.0 if len(panels_of) <= 6 else 0.8
    plot, panels = build(title, subtitle, [tall] * len(panels_of), gap=0.3, above=0.32)
    shown = [trial for trial in shown if trial.optimizer in panels_of]
    for axes, (label, group) in zip(panels, panels_of.items(), strict=True):
        axes.log_x([trial.lr for trial in shown])
        axes.limit_values(heights(shown, metric), metric)
        rates = np.log10([trial.lr for trial in with_score(group, metric)])
        scores, color = np.array(heights(group, metric)), optimizer_style(label)[0]
        draw_local_mean(axes, rates, scores, metric, color, _BANDWIDTH)
        scatter(axes, group, lambda trial: trial.lr, metric, size=5.5)
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


def _most_tolerant(ranges: dict[str, Tolerance]) -> str:
    """The title when one optimizer's range is wider than that of all others."""
    widths = {label: tolerance.decades or 0.0 for label, tolerance in ranges.items()}
    first, *others = sorted(widths, key=lambda label: -widths[label])
    if not others or widths[first] < max(_NOTABLE, 1.15 * widths[others[0]]):
        return ""
    decades = f"{formats.number(widths[first], 2)} decades of learning rate"
    return f"{text_of(first)} does well over {decades}, the most of all"


def learning_curves(trials: Sequence[Trial], metric: Metric) -> Plot:
    """Each metric per epoch of the best trial of each optimizer, `metric` first."""
    metrics = [metric, *(other for other in METRICS.values() if other is not metric)]
    best = best_per_optimizer(trials, metric)
    best = [t for t in best if any(len(_points(t, each)[0]) for each in metrics)]
    if not best:
        return empty("Learning curves", "No trial completed.")
    whose = "each optimizer" if len(best) > 1 else text_of(best[0].optimizer)
    stopped = any(len(set(trial.curves.get(FOLDS_RUNNING, ()))) > 1 for trial in best)
    thin = "thin: some folds have stopped and count with their last value; " if stopped else ""
    plot, panels = build(
        f"How the best trial of {whose} learns",
        f"Mean over folds on validation rows; {thin}mark: best epoch, mean over folds",
        [1.75] * len(metrics),
        legend=[entry(t.optimizer, text=f", lr {formats.number(t.lr, 2)}") for t in best],
    )
    longest = max(len(trial.curves.get(each.curve, ())) for trial in best for each in metrics)
    for axes, each in zip(panels, metrics, strict=True):
        for order, trial in enumerate(best):
            _curve(axes, trial, each, order)
        values = np.concatenate([_points(trial, each)[1] for trial in best])
        if len(values):
            # A learning rate too high starts far from what matters: leave the few such epochs out.
            ends = each.sign * np.quantile(each.sign * values, [0.02, 1.0])
            axes.set_ylim(padded(ends.min(), ends.max(), 0.08))
        axes.set(xlim=(0, max(longest, 2) * 1.02), ylabel=each.axis)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.tick_params(labelbottom=axes is panels[-1])
        step = max(1, round(longest / _MOST_EPOCHS))
        for epoch in range(1, longest + 1, step):
            lines = [f"Epoch {epoch}", *(_at_epoch(trial, each, epoch) for trial in best)]
            text = "\n".join(line for line in lines if line)
            reach = (epoch - step / 2, epoch + step / 2)
            axes.say(reach, (0.0, 1.0), text, axes.get_xaxis_transform())
    panels[-1].set_xlabel("Epoch")
    return plot


def _points(trial: Trial, metric: Metric) -> tuple[npt.NDArray[np.intp], Floats]:
    """The epochs [P], from 1, that the curve has a value for, and these on the axis [P].

    A long curve that was read back has values for some of its epochs only."""
    curve = np.asarray(trial.curves.get(metric.curve, ()), dtype=np.float64)
    places = np.flatnonzero(np.isfinite(curve))
    return places + 1, metric.scale * curve[places]


def _folds_running(trial: Trial, epochs: npt.NDArray[np.intp]) -> Floats:
    """How many folds run in these epochs [E]; where it is not known, 1 in all."""
    running = np.asarray(trial.curves.get(FOLDS_RUNNING, ()))
    return running[np.minimum(epochs, len(running)) - 1] if len(running) else np.ones(len(epochs))


def _curve(axes: Panel, trial: Trial, metric: Metric, order: int) -> None:
    """The curve of the trial that is at this place among the best, from 0."""
    epochs, values = _points(trial, metric)
    color, marker = optimizer_style(trial.optimizer)
    running = _folds_running(trial, epochs)
    whole = int((running == running.max(initial=0)).sum())  # points before the first fold stops
    look: dict[str, Any] = {"color": color, "zorder": 10 - order / 100}
    look |= {"solid_capstyle": "round", "marker": marker if len(epochs) == 1 else None}
    axes.plot(epochs[:whole], values[:whole], linewidth=2.2 if order == 0 else 1.6, **look)
    if whole < len(epochs):
        rest = slice(max(whole - 1, 0), None)
        axes.plot(epochs[rest], values[rest], linewidth=0.8, alpha=0.75, **look)
    if trial.best_epoch is not None:
        # At the edge: the score is each fold's at its own best epoch, not the curve's height.
        edge = axes.get_xaxis_transform()
        axes.mark([trial.best_epoch], [0.0], (color, marker), transform=edge, clip_on=False,
                  zorder=12)  # fmt: skip


def _at_epoch(trial: Trial, metric: Metric, epoch: int) -> str:
    """What is said of the trial in an epoch; nothing where its curve has none."""
    epochs, values = _points(trial, metric)
    if not len(epochs) or not epochs[0] <= epoch <= epochs[-1]:
        return ""
    value = float(np.interp(epoch, epochs, values)) / metric.scale
    running, folds = _folds_running(trial, np.array([epoch, 1]))
    part = f" ({running:.0f} of {folds:.0f} folds still run)" if running < folds else ""
    return f"{trial.optimizer}: {metric.text(value)}{part}"
