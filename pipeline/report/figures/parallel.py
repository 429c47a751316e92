"""Parallel coordinates, turned for narrow pages: a row for each setting, a line for each trial.

Where the lines of the best trials run together, they agree.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from pipeline.analysis.importance import Searched
from pipeline.analysis.ranking import TrialResult, best_per_optimizer, completed, ranking
from pipeline.common import text as formats
from pipeline.report.figures.axes import Entry, Plot, build, text_of, value_range
from pipeline.report.figures.colours import FAINT, INK, MUTED, PAPER, optimizer_style
from pipeline.report.figures.learning import about, objective_of
from pipeline.search.settings import Setting, value_text

MOST_ROWS = 12
_ROW = 0.62  # inches
_MANY = 10  # lines in colour, from which on they are thin


@dataclass(frozen=True)
class _Row:
    """A setting or the score, from left to right.

    place: where a trial is, 0 to 1; None where it has no such setting.
    ticks: places and their texts.
    """

    label: str
    place: Callable[[TrialResult], float | None]
    ticks: Sequence[tuple[float, str]]


def parallel(searched: Searched) -> Plot:
    """The best tenth of the completed trials in colour, five at least, all others in grey.

    There must be a completed trial.
    """
    done = sorted(completed(searched.trials), key=lambda t: ranking(t, searched.objective))
    best = searched.best
    names = [trial.optimizer for trial in best_per_optimizer(best, searched.objective)]
    legend: list[Entry] = []
    for name in names:
        color, marker = optimizer_style(name)
        handle = Line2D([], [], color=color, marker=marker, markersize=6, linewidth=1.6)
        legend.append((handle, text_of(name, 14)))
    rows = [_row(one) for one in searched.settings[:MOST_ROWS]]
    rows.append(_score_row(searched, done))
    many = len(searched.settings)
    more = f"; {MOST_ROWS} of {many} settings" if many > MOST_ROWS else ""
    plot, (axes,) = build(
        f"What the best {formats.count(len(best), 'trial')} have in common"
        if len(best) > 1
        else "The only completed trial",
        f"A line down for each of {formats.count(len(done), 'completed trial')}, through its value "
        f"of each setting; in colour: the best{more}",
        (_ROW * len(rows),),
        left=0.3,
        right=0.3,
        bottom=0.12,
        above=0.0,
        legend=legend,
    )
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(len(rows) - 0.55, -0.55)
    axes.set_axis_off()
    for place, row in enumerate(rows):
        _rail(axes, place, row)
    for trial in reversed(done):
        points = [(x, y) for y, row in enumerate(rows) if (x := row.place(trial)) is not None]
        _line(plot, axes, trial, points, best)
    return plot


def _row(setting: Setting) -> _Row:
    if setting.categorical:
        count = len(setting.axis.labels)
        texts = [text_of(value_text(value), 14) for value in setting.axis.values or ()]
        ticks = [((i + 0.5) / count, text) for i, text in enumerate(texts)]
        return _Row(
            setting.label,
            lambda t: (setting.category(t) + _aside(t)) / count if setting.has(t) else None,
            ticks if count <= 8 else [ticks[0], ticks[-1]],
        )
    axes = list(setting.axes.values())
    if len({(axis.low, axis.high, axis.log) for axis in axes}) > 1:
        ends = [(0.0, "low end of the optimizer's range"), (1.0, "high end")]
    else:
        ends = [(0.0, value_text(axes[0].low)), (1.0, value_text(axes[0].high))]
        low, high = float(axes[0].low), float(axes[0].high)
        middle = math.sqrt(low * high) if setting.log else (low + high) / 2
        if not axes[0].whole:
            ends.insert(1, (0.5, value_text(middle)))
    return _Row(setting.label, lambda t: setting.position(t) if setting.has(t) else None, ends)


def _aside(trial: TrialResult) -> float:
    """Where within the place of a value: lines of one value lie beside each other."""
    return 0.5 + (trial.number * 0.6180339887 % 1 - 0.5) * 0.5


def _score_row(searched: Searched, done: Sequence[TrialResult]) -> _Row:
    value, label = objective_of(searched.objective)
    values = [v for trial in done if (v := value(trial)) is not None]
    low, high = value_range(values, searched.objective)
    span = (high - low) or 1.0

    def place(trial: TrialResult) -> float | None:
        found = value(trial)
        return None if found is None else min(max((found - low) / span, 0.0), 1.0)

    ends = [(end, formats.number(low + end * span)) for end in (0.0, 0.5, 1.0)]
    return _Row(label, place, ends if high > low else ends[:1])


def _rail(axes: Axes, place: int, row: _Row) -> None:
    axes.plot([0, 1], [place, place], color=FAINT, linewidth=1, zorder=1)
    behind = {"facecolor": PAPER, "edgecolor": "none", "alpha": 0.8, "pad": 0.6}
    axes.text(0, place - 0.16, text_of(row.label, 40), fontsize=9, color=INK, fontweight="bold",
              va="bottom", bbox=behind, zorder=8)  # fmt: skip
    for x, text in row.ticks:
        axes.plot([x, x], [place - 0.06, place + 0.06], color=MUTED, linewidth=1, zorder=1)
        side = "left" if x == 0 else "right" if x == 1 else "center"
        axes.text(x, place + 0.13, text, fontsize=8, color=MUTED, ha=side, va="top",
                  bbox=behind, zorder=8)  # fmt: skip


def _line(
    plot: Plot,
    axes: Axes,
    trial: TrialResult,
    points: Sequence[tuple[float, float]],
    best: Sequence[TrialResult],
) -> None:
    x, y = zip(*points, strict=True)
    if trial not in best:
        axes.plot(x, y, color=FAINT, linewidth=0.7, alpha=0.5, zorder=2)
        return
    color, marker = optimizer_style(trial.optimizer)
    first = trial is best[0]
    thin = 1.2 if len(best) <= _MANY else 0.7
    axes.plot(
        x,
        y,
        color=color,
        linewidth=2.4 if first else thin,
        alpha=1.0 if first else 0.75,
        marker=marker,
        markersize=6,
        markeredgecolor=PAPER,
        markeredgewidth=0.7,
        zorder=6 if first else 4,
    )
    for one in points:
        plot.point(axes, *one, about(trial))
