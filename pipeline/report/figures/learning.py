"""The figure of the learning rates."""

from collections.abc import Iterable, Sequence
from typing import Any

from pipeline.analysis.ranking import best_per_optimizer, completed
from pipeline.models.metrics import Metric
from pipeline.report.figures.colours import PAPER, optimizer_style
from pipeline.report.figures.plot import Panel, Plot, text_of
from pipeline.training.trial import Trial

_MOST_PANELS = 12


def _heights(trials: Iterable[Trial], metric: Metric) -> list[float]:
    """Where the scores of complete trials are on the axis."""
    return [metric.scale * trial.scores[metric.name] for trial in trials]


def _scatter(axes: Panel, trials: Sequence[Trial], metric: Metric) -> None:
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
        groups.setdefault((trial.optimizer, kind), []).append((trial.lr, y, spread))
    for (optimizer, kind), points in groups.items():
        places, values, spreads = zip(*points, strict=True)
        style = optimizer_style(optimizer)
        if kind == "scored":
            axes.errorbar(places, values, spreads, fmt="none", ecolor=style[0], elinewidth=1,
                          alpha=0.35)  # fmt: skip
        axes.mark(places, values, style, **looks[kind])


def landscape(trials: Sequence[Trial], metric: Metric) -> Plot | None:
    """Panels of one optimizer each with its trials; None where no optimizer has complete trials at
    several learning rates."""
    tried = {(trial.optimizer, trial.lr) for trial in completed(trials) if trial.lr > 0}
    if len(tried) == len({optimizer for optimizer, _ in tried}):
        return None
    shown = [trial for trial in trials if trial.lr > 0]  # 0 has no place on a log axis
    labels = [best.optimizer for best in best_per_optimizer(shown, metric)][:_MOST_PANELS]
    shown = [trial for trial in shown if trial.optimizer in labels]
    plot = Plot(
        f"What {metric.words} each learning rate reached",
        "One mark per trial, line: its spread over the folds; at the lower edge: × failed, "
        "+ stopped early; hollow: off the scale. Where a good range ends, single trials do not say",
        [0.62] * len(labels),
    )
    for axes, label in zip(plot.panels, labels, strict=True):
        axes.log_x([trial.lr for trial in shown])
        axes.limit_values(_heights(completed(shown), metric), metric)
        of_it = [trial for trial in shown if trial.optimizer == label]
        _scatter(axes, of_it, metric)
        axes.set_title(text_of(label), loc="left", fontsize=9.5, fontweight="bold",
                       color=optimizer_style(label)[0])  # fmt: skip
    plot.panels[len(labels) // 2].set_ylabel(metric.axis)
    plot.panels[-1].set_xlabel("Learning rate (each step to the right is ten times as much)")
    return plot
