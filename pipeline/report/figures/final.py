"""Figures of the final round: the ranking, the differences, and what more trials bring."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from pipeline.analysis.comparison import Pair
from pipeline.analysis.evidence import Baseline, Evidence, Finalist, Forgiveness
from pipeline.analysis.resampled import Floats, MeanDifference, overlap
from pipeline.common import text as formats
from pipeline.report.figures.axes import Entry, Plot, build, empty, text_of
from pipeline.report.figures.colours import FAINT, INK, MUTED, PAPER, optimizer_style

_MOST_PAIRS = 15  # those of the winner first; a table has all
_ROW = 0.36  # inches


def score_interval(scores: Floats, folds: int, highest: float = math.inf) -> tuple[float, float]:
    """The 95 % interval of a mean score over folds [k], k >= 2, whose training parts overlap.

    It is cut at 0 and at `highest`, since it is symmetric and scores are not.
    """
    low, high = MeanDifference.of(scores, overlap(folds)).interval()
    return max(0.0, low), min(highest, high)


def final_scores(evidence: Evidence) -> Plot:
    """Each finalist's mean with its interval and its folds, the search's estimate, baselines."""
    by_accuracy = evidence.objective == "val_accuracy"
    scale, what = (100.0, "accuracy") if by_accuracy else (1.0, "loss")
    done = [one for one in evidence.finalists if one.completed]
    if not done:
        return empty("The final round", "Every optimizer diverged.")
    rows: list[Finalist | Baseline] = [*done, *evidence.baselines]
    scores = [scale * (one.accuracy if by_accuracy else one.loss) for one in rows]
    unit = " %" if by_accuracy else ""
    best = scores[0].mean()
    title = f"{text_of(done[0].optimizer, 20)} is ahead with {best:.1f}{unit}"
    if not by_accuracy:
        title = f"{text_of(done[0].optimizer, 20)} is ahead with loss {best:.4f}"
    again = f", {evidence.repeats} times" if evidence.repeats > 1 else ""
    plot, (axes,) = build(
        title,
        f"Final round on {evidence.folds} fresh folds{again}: mean, 95 % interval, folds (ticks); "
        "hollow: what the search had estimated; grey: models that are no networks",
        (_ROW * len(rows) + 0.1,),
        left=1.35,
    )
    shown = np.concatenate(scores[: len(done)])
    low, high = _ranking_limits(shown, scores[len(done) :], done, scale, by_accuracy)
    for place, (one, values) in enumerate(zip(rows, scores, strict=True)):
        _score_row(plot, axes, place, one, values, (low, high), evidence)
    axes.set_xlim(low, high)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    names = [one.optimizer if isinstance(one, Finalist) else one.name for one in rows]
    _row_names(axes, names)
    axes.set_xlabel("Validation accuracy (%)" if by_accuracy else f"Validation {what} (nats)")
    axes.xaxis.set_major_locator(MaxNLocator(6))
    return plot


def _ranking_limits(
    shown: Floats,
    baselines: Sequence[Floats],
    done: Sequence[Finalist],
    scale: float,
    by_accuracy: bool,
) -> tuple[float, float]:
    """All folds of the finalists; a baseline's mean unless it is far away."""
    estimates = [scale * (o.search_accuracy if by_accuracy else o.search_loss) for o in done]
    values = [*shown.tolist(), *estimates]
    low, high = min(values), max(values)
    span = max(high - low, 0.01 * scale)
    near = [float(v.mean()) for v in baselines if low - span < v.mean() < high + span]
    low, high = min([low, *near]), max([high, *near])
    pad = 0.05 * max(high - low, 0.01 * scale)
    return low - pad, high + pad


def _score_row(
    plot: Plot,
    axes: Axes,
    place: int,
    one: Finalist | Baseline,
    values: Floats,
    limits: tuple[float, float],
    evidence: Evidence,
) -> None:
    by_accuracy = evidence.objective == "val_accuracy"
    unit = " %" if by_accuracy else ""
    mean = float(values.mean())
    if isinstance(one, Finalist):
        name, (color, marker) = one.optimizer, optimizer_style(one.optimizer)
    else:
        name, color, marker = one.name, MUTED, "o"
    highest = 100.0 if by_accuracy else math.inf
    start, end = (
        score_interval(values, evidence.folds, highest) if len(values) > 1 else (mean, mean)
    )
    digits = 1 if by_accuracy else 4
    said = [
        name,
        f"{mean:.{digits}f}{unit}, 95 % interval {start:.{digits}f} to {end:.{digits}f}{unit}",
        f"folds: {values.min():.{digits}f} to {values.max():.{digits}f}{unit}",
    ]
    if not limits[0] <= mean <= limits[1]:
        left = mean < limits[0]
        axes.text(
            limits[0] if left else limits[1],
            place,
            f"‹ {mean:.{digits}f}{unit}" if left else f"{mean:.{digits}f}{unit} ›",
            ha="left" if left else "right",
            va="center",
            color=MUTED,
            fontsize=9,
        )
    else:
        axes.plot(values, [place + 0.27] * len(values), linestyle="none", marker="|",
                  markersize=4, color=color, alpha=0.55, zorder=2)  # fmt: skip
        axes.plot([start, end], [place, place], color=color, linewidth=2.4, zorder=3,
                  solid_capstyle="butt")  # fmt: skip
        axes.plot([mean], [place], color=color, marker=marker, markersize=8,
                  markeredgecolor=PAPER, markeredgewidth=1, zorder=4)  # fmt: skip
    if isinstance(one, Finalist):
        estimate = 100 * one.search_accuracy if by_accuracy else one.search_loss
        axes.plot([estimate], [place], marker=marker, markersize=7, markerfacecolor="none",
                  markeredgecolor=color, markeredgewidth=1.1, zorder=3)  # fmt: skip
        said.append(f"the search had {estimate:.{digits}f}{unit}")
        said.append(f"learning rate {formats.number(one.lr)}, trial {one.trial}")
    plot.box(axes, (0.0, 1.0), (place - 0.5, place + 0.5), "\n".join(said),
             axes.get_yaxis_transform())  # fmt: skip


def pair_differences(evidence: Evidence) -> Plot:
    """Every optimizer against every other one: difference and intervals, those of the winner first.

    Thick: the interval of the pair alone; thin: that which holds for all pairs together.
    """
    if not evidence.pairs:
        return empty("Optimizers against each other", "There are no two to compare.")
    winner = evidence.winner
    own = winner.optimizer if winner is not None else ""
    ordered = sorted(evidence.pairs, key=lambda pair: pair.better != own)
    rows = ordered[:_MOST_PAIRS]
    clear = sum(pair.is_clear for pair in evidence.pairs)
    count = len(evidence.pairs)
    verb = "is" if 1 in (clear, count) else "are"
    title = f"{clear} of {formats.count(count, 'difference')} {verb} more than luck"
    more = f"; {len(rows)} of {count} are shown" if len(rows) < count else ""
    plot, (axes,) = build(
        title,
        "Mean difference over the same folds. Thick: 95 % interval of the pair; thin: of all pairs "
        f"together; an interval that holds 0 is within luck{more}",
        (0.3 * len(rows) + 0.15,),
        left=1.35,
    )
    scale, unit = (100.0, " points") if evidence.objective == "val_accuracy" else (1.0, " nats")
    axes.axvline(0, color=FAINT, linewidth=1.2, zorder=1)
    for place, pair in enumerate(rows):
        color = optimizer_style(pair.better)[0] if pair.is_clear else MUTED
        all_pairs = [scale * pair.low_all, scale * pair.high_all]
        alone = [scale * pair.low, scale * pair.high]
        axes.plot(all_pairs, [place] * 2, color=color, linewidth=1, zorder=2)
        axes.plot(alone, [place] * 2, color=color, linewidth=3.2, solid_capstyle="butt", zorder=3)
        axes.plot([scale * pair.difference], [place], marker="o", markersize=6.5, color=color,
                  markeredgecolor=PAPER, markeredgewidth=1, zorder=4)  # fmt: skip
        plot.box(axes, (0.0, 1.0), (place - 0.5, place + 0.5), _about_pair(pair, scale, unit),
                 axes.get_yaxis_transform())  # fmt: skip
    axes.set_ylim(len(rows) - 0.5, -0.5)
    _row_names(axes, [f"{_short(pair.better)} – {_short(pair.worse)}" for pair in rows])
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.set_xlabel(f"Better by ({unit.strip()})")
    return plot


def _about_pair(pair: Pair, scale: float, unit: str) -> str:
    digits = 2 if scale == 100 else 4
    parts = [scale * value for value in (pair.difference, pair.low_all, pair.high_all)]
    mean, low, high = (f"{value:+.{digits}f}" for value in parts)
    margin = f"{formats.number(scale * pair.margin, 2)}{unit}"
    return "\n".join(
        [
            f"{pair.better} – {pair.worse}: {mean}{unit}",
            f"all pairs together, 95 %: {low} to {high}",
            f"p = {pair.p_value:.2g}, Holm {pair.p_adjusted:.2g}",
            f"better by more than {margin}: {formats.percent(pair.probability_better, 0)}",
        ]
    )


def _short(name: str) -> str:
    return text_of(name, 9)


def _row_names(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), [text_of(name, 20) for name in names], fontsize=9)
    axes.tick_params(axis="y", length=0, colors=INK)
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False, axis="y")


def budget(forgiving: Sequence[Forgiveness], evidence: Evidence) -> Plot:
    """The best validation score to be expected of so many trials, for each optimizer."""
    by_accuracy = evidence.objective == "val_accuracy"
    scale = 100.0 if by_accuracy else 1.0
    shown = [one for one in forgiving if len(one.expected_best)]
    if not shown:
        return empty("What more trials bring", "No trial completed.")
    legend: list[Entry] = []
    for one in shown:
        color, marker = optimizer_style(one.optimizer)
        handle = Line2D([], [], color=color, marker=marker, markersize=6, linewidth=1.6)
        legend.append((handle, text_of(one.optimizer, 14)))
    plot, (axes,) = build(
        "What more trials bring",
        "Best validation score to be expected of so many of the optimizer's trials, drawn at "
        "random (Dodge et al., 2019)",
        legend=legend,
    )
    for one in shown:
        color, marker = optimizer_style(one.optimizer)
        n = np.arange(1, len(one.expected_best) + 1)
        values = scale * one.expected_best
        axes.plot(n, values, color=color, linewidth=1.7, zorder=3)
        axes.plot(n[-1:], values[-1:], color=color, marker=marker, markersize=7,
                  markeredgecolor=PAPER, zorder=4)  # fmt: skip
        step = max(1, len(n) // 60)
        for trials, value in zip(n[::step].tolist(), values[::step].tolist(), strict=True):
            said = f"{value:.1f} %" if by_accuracy else f"{value:.4f}"
            text = f"{one.optimizer}: {said} expected of {formats.count(trials, 'trial')}"
            plot.point(axes, trials, value, text)
    ends = np.concatenate([scale * one.expected_best for one in shown])
    axes.set_ylim(*_clipped(ends, by_accuracy))
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.set_xlabel("Trials of the optimizer")
    axes.set_ylabel("Validation accuracy (%)" if by_accuracy else "Validation loss (nats)")
    return plot


def _clipped(values: Floats, by_accuracy: bool) -> tuple[float, float]:
    """Room for all values, but for the few far from the good end."""
    low, high = float(values.min()), float(values.max())
    middle = float(np.median(values))
    if by_accuracy:
        low = max(low, high - 5 * max(high - middle, 0.2))
    else:
        high = min(high, low + 5 * max(middle - low, 0.002))
    pad = 0.06 * max(high - low, 1e-6)
    return low - pad, high + pad
