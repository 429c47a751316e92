"""Figures of a search: learning rates, the order of trials, and how the best ones learn."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from pipeline.analysis.ranking import (
    Objective,
    TrialResult,
    best_per_optimizer,
    best_trial,
    completed,
    ranking,
)
from pipeline.common import text as formats
from pipeline.report.figures.axes import (
    Entry,
    Plot,
    build,
    empty,
    limits,
    log_axis,
    text_of,
    value_limits,
)
from pipeline.report.figures.colours import INK, MUTED, PAPER, optimizer_style
from pipeline.search.settings import LEARNING_RATE, argument, plain_name, value_text

_MOST_TIPS = 500  # trials that can be pointed at in one figure; the best of them
EDGE = "hollow at the edge: off the scale"
_MOST_EPOCHS = 120  # places along the epochs that can be pointed at


def learning_rate(trials: Sequence[TrialResult], objective: Objective = "val_accuracy") -> Plot:
    """Learning rate (log) against the objective, one mark per trial; the best is ringed."""
    value, axis = objective_of(objective)
    best = best_trial(trials, objective)
    shown = [trial for trial in trials if trial.lr > 0]  # 0 has no place on a log axis
    legend = optimizer_legend(shown)
    if best is None:
        plot, (axes,) = build("No trial completed", _states(trials), legend=legend)
    else:
        title = (
            f"{text_of(best.optimizer, 20)} at learning rate {formats.number(best.lr, 2)} is best: "
            f"{_reached(best, objective)}"
        )
        mean = f", mean of {len(best.fits)} folds" if len(best.fits) > 1 else ""
        subtitle = f"One mark per trial{mean}; ringed: the best; {EDGE}"
        plot, (axes,) = build(title, subtitle, legend=legend)
    value_limits(axes, [v for t in shown if (v := value(t)) is not None], objective)
    scatter(plot, axes, shown, lambda trial: trial.lr, value)
    log_axis(axes, [trial.lr for trial in shown])
    if best is not None and best.lr > 0:
        ring(axes, best.lr, value(best) or 0.0)
    axes.set_xlabel("Learning rate (log scale)")
    axes.set_ylabel(axis)
    return plot


def history(trials: Sequence[TrialResult], objective: Objective = "val_accuracy") -> Plot:
    """The objective of each trial in the order of asking, and the best so far."""
    value, axis = objective_of(objective)
    done = sorted(completed(trials), key=lambda trial: trial.number)
    best = best_trial(done, objective)
    legend = optimizer_legend(trials, best_so_far=best is not None)
    if best is None:
        plot, (axes,) = build("No trial completed", _states(trials), legend=legend)
    else:
        of = formats.count(len(trials), "trial")
        title = f"Trial {best.number} is the best of {of}: {_reached(best, objective)}"
        subtitle = f"One mark per trial; line: the best so far; {EDGE}"
        plot, (axes,) = build(title, subtitle, legend=legend)
    value_limits(axes, [v for t in trials if (v := value(t)) is not None], objective)
    scatter(plot, axes, trials, lambda trial: float(trial.number), value, alpha=0.6)
    if best is not None:
        numbers, record, steps = [], done[0], []
        for trial in done:
            record = min(record, trial, key=lambda t: ranking(t, objective))
            numbers.append(trial.number)
            steps.append(value(record) or 0.0)
        last = max(trial.number for trial in trials)
        axes.step(
            [*numbers, last], [*steps, steps[-1]], where="post", color=INK, linewidth=1.6, zorder=4
        )
        ring(axes, best.number, value(best) or 0.0)
    first = min((trial.number for trial in trials), default=0)
    last = max((trial.number for trial in trials), default=1)
    pad = max(1.0, (last - first) * 0.03)
    axes.set_xlim(first - pad, last + pad)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.set_xlabel("Trial number")
    axes.set_ylabel(axis)
    return plot


def learning_curves(trials: Sequence[TrialResult], objective: Objective = "val_accuracy") -> Plot:
    """Validation loss and accuracy per epoch of the best trial of each optimizer."""
    best = [
        trial
        for trial in best_per_optimizer(trials, objective)
        if np.isfinite(trial.curves.get("val_loss", ())).any()
    ]
    if not best:
        return empty("Learning curves", "No trial completed.")
    title = (
        "How the best trial of each optimizer learns"
        if len(best) > 1
        else (f"How the best trial of {text_of(best[0].optimizer, 20)} learns")
    )
    legend: list[Entry] = []
    for trial in best:
        color, marker = optimizer_style(trial.optimizer)
        handle = Line2D([], [], color=color, marker=marker, markersize=6, linewidth=1.8)
        rate = formats.number(trial.lr, 2)
        legend.append((handle, f"{text_of(trial.optimizer, 14)}, lr {rate}"))
    plot, panels = build(
        title,
        "Mean over folds on validation rows; mark: the epoch that is kept",
        (1.75, 1.75),
        legend=legend,
    )
    longest = max(len(trial.curves.get("val_loss", ())) for trial in best)
    for axes, key, label, scale in zip(
        panels,
        ("val_loss", "val_accuracy"),
        ("Validation loss (nats)", "Validation accuracy (%)"),
        (1.0, 100.0),
        strict=True,
    ):
        _curves(axes, best, key, scale)
        axes.set_xlim(0, max(longest, 2) * 1.02)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.set_ylabel(label)
        _epoch_tips(plot, axes, best, key, longest)
    panels[0].tick_params(labelbottom=False)
    panels[-1].set_xlabel("Epoch")
    return plot


def _curves(axes: Axes, best: Sequence[TrialResult], key: str, scale: float) -> None:
    drawn = []
    for order, trial in enumerate(best):
        color, marker = optimizer_style(trial.optimizer)
        values = np.asarray(trial.curves.get(key, ()), dtype=np.float64) * scale
        finite = np.isfinite(values)
        if not finite.any():
            continue
        drawn.append(values[finite])
        epochs = np.arange(1, len(values) + 1)
        axes.plot(
            epochs[finite],
            values[finite],
            color=color,
            linewidth=2.0 if order == 0 else 1.3,
            zorder=10 - order / 100,
            solid_capstyle="round",
            marker=marker if finite.sum() == 1 else None,
        )
        if trial.best_epoch is not None:
            kept = min(max(trial.best_epoch, 1.0), float(len(values)))
            height = float(np.interp(kept, epochs[finite], values[finite]))
            axes.plot(
                [kept],
                [height],
                marker=marker,
                markersize=7,
                color=color,
                markeredgecolor=PAPER,
                markeredgewidth=1,
                zorder=12,
            )
    if drawn:
        everything = np.concatenate(drawn)
        # A learning rate too high starts far above what matters: leave the few such epochs out.
        low, high = np.quantile(everything, [0.0, 0.98] if scale == 1 else [0.02, 1.0])
        limits(axes, low, high, smallest=0.02 * scale)


def _epoch_tips(
    plot: Plot, axes: Axes, best: Sequence[TrialResult], key: str, longest: int
) -> None:
    step = max(1, round(longest / _MOST_EPOCHS))
    for epoch in range(1, longest + 1, step):
        lines = [f"Epoch {epoch}"]
        for trial in best:
            curve = trial.curves.get(key, ())
            if epoch <= len(curve) and np.isfinite(curve[epoch - 1]):
                value = float(curve[epoch - 1])
                said = formats.percent(value) if key == "val_accuracy" else f"{value:.4f}"
                lines.append(f"{trial.optimizer}: {said}")
        plot.box(
            axes,
            (epoch - step / 2, epoch + step / 2),
            (0.0, 1.0),
            "\n".join(lines),
            axes.get_xaxis_transform(),
        )


def objective_of(objective: Objective) -> tuple[Callable[[TrialResult], float | None], str]:
    """What is drawn of a trial, and the label of its axis."""
    if objective == "val_accuracy":
        return _accuracy_percent, "Validation accuracy (%)"
    return _loss, "Validation loss (nats)"


def _reached(trial: TrialResult, objective: Objective) -> str:
    if objective == "val_accuracy":
        return formats.percent(trial.accuracy)
    return f"loss {formats.number(trial.loss)}"


def _states(trials: Sequence[TrialResult]) -> str:
    if not trials:
        return "There are no trials yet"
    failed = sum(trial.state == "FAIL" for trial in trials)
    pruned = sum(trial.state == "PRUNED" for trial in trials)
    return f"{formats.count(len(trials), 'trial')}: {failed} failed, {pruned} pruned"


def _accuracy_percent(trial: TrialResult) -> float | None:
    known = trial.accuracy is not None and np.isfinite(trial.accuracy)
    return 100 * trial.accuracy if known and trial.accuracy is not None else None


def _loss(trial: TrialResult) -> float | None:
    return trial.loss if trial.loss is not None and np.isfinite(trial.loss) else None


def scatter(
    plot: Plot,
    axes: Axes,
    trials: Sequence[TrialResult],
    x: Callable[[TrialResult], float],
    y: Callable[[TrialResult], float | None],
    alpha: float = 0.85,
    size: float = 7,
) -> None:
    """A mark for each trial; those that failed or have no score are at the bottom edge.

    The axes have their y limits: trials beyond these are hollow marks at the edge.
    """
    lowest, highest = axes.get_ylim()
    groups: dict[tuple[str, str], list[tuple[float, float]]] = {}
    told = {trial.number for trial in _first(trials)}
    for trial in trials:
        height = y(trial)
        transform = None
        if trial.state == "FAIL" or height is None:
            # At the bottom edge: a height in the axes' own units.
            state, height = ("failed" if trial.state == "FAIL" else "unscored"), 0.025
            transform = axes.get_xaxis_transform()
        elif not lowest <= height <= highest:
            state, height = "beyond", 0.025 if height < lowest else 0.975
            transform = axes.get_xaxis_transform()
        else:
            state = "pruned" if trial.state == "PRUNED" else "complete"
        groups.setdefault((trial.optimizer, state), []).append((x(trial), height))
        if trial.number in told:
            plot.point(axes, x(trial), height, about(trial), transform)
    looks: dict[str, dict[str, Any]] = {
        "complete": {"markersize": size, "markeredgecolor": PAPER, "markeredgewidth": 0.7},
        "pruned": {"markersize": size - 1, "markerfacecolor": PAPER, "markeredgewidth": 1.2},
        "unscored": {"markersize": size - 1, "markerfacecolor": PAPER, "markeredgewidth": 1.2},
        "beyond": {"markersize": size - 1, "markerfacecolor": PAPER, "markeredgewidth": 1.2},
        "failed": {"markersize": size - 1, "markeredgewidth": 1.5},
    }
    for (optimizer, state), points in groups.items():
        color, marker = optimizer_style(optimizer)
        look: dict[str, Any] = {"color": color, "marker": marker} | looks[state]
        if state == "complete":
            look["alpha"] = alpha
        if state == "failed":
            look["marker"] = "x"
        if state in ("failed", "unscored", "beyond"):
            look |= {"transform": axes.get_xaxis_transform(), "clip_on": False}
        axes.plot(*zip(*points, strict=True), linestyle="none", zorder=5, **look)


def _first(trials: Sequence[TrialResult]) -> Sequence[TrialResult]:
    """Those that can be pointed at: all, or the best of very many."""
    if len(trials) <= _MOST_TIPS:
        return trials
    return sorted(completed(trials), key=ranking)[:_MOST_TIPS]


def about(trial: TrialResult) -> str:
    """What is said of a trial that is pointed at, in lines."""
    lines = [f"Trial {trial.number}: {trial.optimizer}, learning rate {formats.number(trial.lr)}"]
    if trial.state != "FAIL" and trial.accuracy is not None:
        spread = f" ± {100 * trial.accuracy_std:.1f}" if trial.accuracy_std else ""
        loss = f", loss {formats.number(trial.loss)}" if trial.loss is not None else ""
        lines.append(f"{formats.percent(trial.accuracy)}{spread}{loss}")
    if trial.state != "COMPLETE":
        reason = f": {formats.shorten(trial.reason, 90)}" if trial.reason else ""
        lines.append(("failed" if trial.state == "FAIL" else "pruned") + reason)
    lines += [
        formats.shorten(f"{plain_name(argument(path))}: {value_text(value)}", 90)
        for path, value in list(trial.params.items())[:8]
        if argument(path) != LEARNING_RATE
    ]
    return "\n".join(lines)


def ring(axes: Axes, x: float, y: float, size: float = 15) -> None:
    axes.plot(
        [x],
        [y],
        marker="o",
        markersize=size,
        markerfacecolor="none",
        markeredgecolor=INK,
        markeredgewidth=1.6,
        zorder=6,
        clip_on=False,
    )


def optimizer_legend(trials: Sequence[TrialResult], best_so_far: bool = False) -> list[Entry]:
    """An entry for each optimizer, the best first, and for the kinds of marks that there are."""
    ranked = [trial.optimizer for trial in best_per_optimizer(trials)]
    names = ranked + sorted({trial.optimizer for trial in trials} - set(ranked))
    entries: list[Entry] = []
    for name in names:
        color, marker = optimizer_style(name)
        handle = Line2D([], [], linestyle="none", color=color, marker=marker, markersize=7)
        entries.append((handle, text_of(name, 14)))
    look: dict[str, Any] = {"linestyle": "none", "color": MUTED, "markersize": 6}
    if best_so_far:
        entries.append((Line2D([], [], color=INK, linewidth=1.6), "best so far"))
    if any(trial.state == "PRUNED" for trial in trials):
        entries.append((Line2D([], [], marker="o", markerfacecolor="none", **look), "pruned"))
    if any(trial.state == "FAIL" for trial in trials):
        entries.append((Line2D([], [], marker="x", markeredgewidth=1.5, **look), "failed"))
    return entries
