"""Figures of the final round: the ranking and the differences."""

import numpy as np

from pipeline.analysis.comparison import Pair
from pipeline.analysis.evidence import Baseline, Evidence, Finalist
from pipeline.common import text as formats
from pipeline.report.figures.colours import FAINT, MUTED, optimizer_style
from pipeline.report.figures.plot import Panel, Plot, padded, text_of

_MOST_PAIRS = 15  # those of the winner first; a table has all


def evidence_figures(evidence: Evidence) -> dict[str, Plot]:
    """The figures of a final round, of what completed: final_scores, pairs."""
    figures: dict[str, Plot] = {}
    if evidence.winner is not None:
        figures["final_scores"] = final_scores(evidence)
    if evidence.pairs:
        figures["pairs"] = pair_differences(evidence)
    return figures


def final_scores(evidence: Evidence) -> Plot:
    """Each finalist's mean with its interval and its folds, the search's estimate, baselines; of
    the finalists one completed at least."""
    metric = evidence.metric
    done = [finalist for finalist in evidence.finalists if finalist.completed]
    scored = (model for model in evidence.baselines if metric.name in model.scores)
    rows: list[Finalist | Baseline] = [*done, *scored]
    kind = "forward" if evidence.is_forward else "fresh"
    again = f", {evidence.repeats} times" if evidence.repeats > 1 else ""
    plot = Plot(
        f"{text_of(done[0].optimizer)} is ahead with {metric.words} "
        f"{metric.text(done[0].mean(metric))}",
        f"Final round on {evidence.folds} {kind} folds{again}: mean, 95 % interval, folds (ticks); "
        "hollow: what the search had estimated; grey: models that are no networks",
        rows=[text_of(_name(row)) for row in rows],
    )
    (axes,) = plot.panels
    shown = [[*each.scores[metric.name], each.search[metric.name]] for each in done]
    values = metric.scale * np.concatenate(shown)
    axes.set(xlim=padded(values.min(), values.max(), 0.25), xlabel=metric.axis)
    for place, row in enumerate(rows):
        _draw_score(axes, place, row, evidence)
    return plot


def _name(row: Finalist | Baseline) -> str:
    return row.optimizer if isinstance(row, Finalist) else row.name


def _draw_score(axes: Panel, place: int, row: Finalist | Baseline, evidence: Evidence) -> None:
    """A row of the ranking."""
    metric, scale = evidence.metric, evidence.metric.scale
    values, mean = row.scores[metric.name], row.mean(metric)
    interval = evidence.interval(values) if len(values) > 1 else (mean, mean)
    start, end, lowest, highest = map(metric.text, (*interval, values.min(), values.max()))
    text = f"{_name(row)}\n{metric.text(mean)}, 95 % interval {start} to {end}\n"
    text += f"folds: {lowest} to {highest}"
    color, marker = MUTED, "o"
    if isinstance(row, Finalist):
        color, marker = optimizer_style(row.optimizer)
        estimate = row.search[metric.name]
        axes.mark([scale * estimate], [place], (color, marker), hollow=True, zorder=3)
        text += f"\nthe search had {metric.text(estimate)}\n"
        text += f"learning rate {formats.number(row.lr)}, trial {row.trial}"
    low, high = axes.get_xlim()
    axes.say(min(max(scale * mean, low), high), place, text)
    if low <= scale * mean <= high:
        axes.plot(scale * values, [place + 0.27] * len(values), linestyle="none", marker="|",
                  markersize=4, color=color, alpha=0.55, zorder=2)  # fmt: skip
        axes.plot(scale * np.array(interval), [place, place], color=color, linewidth=2.4, zorder=3,
                  solid_capstyle="butt")  # fmt: skip
        axes.mark([scale * mean], [place], (color, marker), 8)
    else:
        x, side, note = (low, "left", "‹ {}") if scale * mean < low else (high, "right", "{} ›")
        axes.text(x, place, note.format(metric.text(mean)), ha=side, va="center", color=MUTED,
                  fontsize=9)  # fmt: skip


def pair_differences(evidence: Evidence) -> Plot:
    """Every optimizer against every other one: difference and intervals, those of the winner first;
    there are two at least.

    Thick: the interval of the pair alone; thin: that which holds for all pairs together."""
    winner, metric = evidence.winner, evidence.metric
    first = winner.optimizer if winner is not None else ""
    rows = sorted(evidence.pairs, key=lambda pair: pair.better != first)[:_MOST_PAIRS]
    clear, count = sum(pair.is_clear for pair in evidence.pairs), len(evidence.pairs)
    more = f"; {len(rows)} of {count} are shown" if len(rows) < count else ""
    plot = Plot(
        f"More than luck: {clear} of {formats.count(count, 'difference')}",
        "Mean difference over the same folds. Thick: 95 % interval of the pair; thin: of all pairs "
        f"together; an interval that holds 0 is within luck{more}",
        rows=[_versus(pair) for pair in rows],
    )
    (axes,) = plot.panels
    axes.axvline(0, color=FAINT, linewidth=1.2, zorder=1)
    for place, pair in enumerate(rows):
        color = optimizer_style(pair.better)[0] if pair.is_clear else MUTED
        for ends, width in (((pair.low_all, pair.high_all), 1), ((pair.low, pair.high), 3.2)):
            axes.plot(metric.scale * np.array(ends), [place, place], color=color, linewidth=width,
                      solid_capstyle="butt", zorder=2 + width / 10)  # fmt: skip
        axes.mark([metric.scale * pair.difference], [place], (color, "o"), 6.5)
    axes.set_xlabel(f"Better by ({metric.unit})".removesuffix(" ()"))
    return plot


def _versus(pair: Pair) -> str:
    """Both labels in a line, or below each other where they are long."""
    better, worse = text_of(pair.better, 24), text_of(pair.worse, 22)
    return f"{better}{' ' if len(better + worse) <= 22 else chr(10)}– {worse}"
