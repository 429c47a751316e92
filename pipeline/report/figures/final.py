"""Figures of the final round: the ranking, the differences, and what more trials bring."""

from collections.abc import Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator

from pipeline.analysis.comparison import Pair, mean_interval
from pipeline.analysis.evidence import Baseline, Evidence, Finalist
from pipeline.common import text as formats
from pipeline.models.metrics import Metric
from pipeline.report.figures.colours import FAINT, MUTED, optimizer_style
from pipeline.report.figures.plot import Panel, Plot, build, empty, entry, padded, text_of

_MOST_PAIRS = 15  # those of the winner first; a table has all


def final_scores(evidence: Evidence) -> Plot:
    """Each finalist's mean with its interval and its folds, the search's estimate, baselines."""
    metric = evidence.metric
    done = [finalist for finalist in evidence.finalists if finalist.completed]
    if not done:
        return empty("The final round", "Every optimizer diverged.")
    rows: list[Finalist | Baseline] = [*done, *evidence.baselines]
    again = f", {evidence.repeats} times" if evidence.repeats > 1 else ""
    plot, (axes,) = build(
        f"{text_of(done[0].optimizer)} is ahead with {metric.name} "
        f"{metric.text(done[0].mean(metric))}",
        f"Final round on {evidence.folds} fresh folds{again}: mean, 95 % interval, folds (ticks); "
        "hollow: what the search had estimated; grey: models that are no networks",
        rows=[text_of(_name(row)) for row in rows],
    )
    axes.set(xlim=_ranking_limits(done, evidence.baselines, metric), xlabel=metric.axis)
    for place, row in enumerate(rows):
        axes.say_of_row(place, _draw_score(axes, place, row, evidence))
    return plot


def _name(row: Finalist | Baseline) -> str:
    return row.optimizer if isinstance(row, Finalist) else row.name


def _ranking_limits(
    done: Sequence[Finalist], baselines: Sequence[Baseline], metric: Metric
) -> tuple[float, float]:
    """All folds of the finalists; a baseline's mean unless it is far away."""
    values = np.concatenate(
        [[*finalist.scores[metric.name], finalist.search[metric.name]] for finalist in done]
    )
    span = max(float(np.ptp(values)), 0.01)
    means = np.array([model.mean(metric) for model in baselines])
    near = means[(values.min() - span < means) & (means < values.max() + span)]
    values = metric.scale * np.append(values, near)
    return padded(float(values.min()), float(values.max()), 0.05)


def _draw_score(axes: Panel, place: int, row: Finalist | Baseline, evidence: Evidence) -> str:
    """A row of the ranking; returns what is said of it."""
    metric, scale = evidence.metric, evidence.metric.scale
    values, mean = row.scores[metric.name], row.mean(metric)
    n, top = evidence.folds, metric.highest
    interval = mean_interval(values, n, top) if len(values) > 1 else (mean, mean)
    start, end, lowest, highest = map(metric.text, (*interval, values.min(), values.max()))
    lines = [
        _name(row),
        f"{metric.text(mean)}, 95 % interval {start} to {end}",
        f"folds: {lowest} to {highest}",
    ]
    color, marker = MUTED, "o"
    if isinstance(row, Finalist):
        color, marker = optimizer_style(row.optimizer)
        estimate = row.search[metric.name]
        axes.mark([scale * estimate], [place], (color, marker), hollow=True, zorder=3)
        lines.append(f"the search had {metric.text(estimate)}")
        lines.append(f"learning rate {formats.number(row.lr)}, trial {row.trial}")
    low, high = axes.get_xlim()
    if low <= scale * mean <= high:
        axes.plot(scale * values, [place + 0.27] * len(values), linestyle="none", marker="|",
                  markersize=4, color=color, alpha=0.55, zorder=2)  # fmt: skip
        axes.plot(scale * np.array(interval), [place, place], color=color, linewidth=2.4, zorder=3,
                  solid_capstyle="butt")  # fmt: skip
        axes.mark([scale * mean], [place], (color, marker), 8)
    else:
        x, side, text = (low, "left", "‹ {}") if scale * mean < low else (high, "right", "{} ›")
        axes.text(x, place, text.format(metric.text(mean)), ha=side, va="center", color=MUTED,
                  fontsize=9)  # fmt: skip
    return "\n".join(lines)


def pair_differences(evidence: Evidence) -> Plot:
    """Every optimizer against every other one: difference and intervals, those of the winner first.

    Thick: the interval of the pair alone; thin: that which holds for all pairs together."""
    if not evidence.pairs or evidence.winner is None:
        return empty("Optimizers against each other", "There are no two to compare.")
    winner, metric = evidence.winner.optimizer, evidence.metric
    rows = sorted(evidence.pairs, key=lambda pair: pair.better != winner)[:_MOST_PAIRS]
    clear, count = sum(pair.is_clear for pair in evidence.pairs), len(evidence.pairs)
    verb = "is" if 1 in (clear, count) else "are"
    more = f"; {len(rows)} of {count} are shown" if len(rows) < count else ""
    plot, (axes,) = build(
        f"{clear} of {formats.count(count, 'difference')} {verb} more than luck",
        "Mean difference over the same folds. Thick: 95 % interval of the pair; thin: of all pairs "
        f"together; an interval that holds 0 is within luck{more}",
        rows=[_versus(pair) for pair in rows],
    )
    axes.axvline(0, color=FAINT, linewidth=1.2, zorder=1)
    for place, pair in enumerate(rows):
        color = optimizer_style(pair.better)[0] if pair.is_clear else MUTED
        for ends, width in (((pair.low_all, pair.high_all), 1), ((pair.low, pair.high), 3.2)):
            axes.plot(metric.scale * np.array(ends), [place, place], color=color, linewidth=width,
                      solid_capstyle="butt", zorder=2 + width / 10)  # fmt: skip
        axes.mark([metric.scale * pair.difference], [place], (color, "o"), 6.5)
        axes.say_of_row(place, _about_pair(pair, metric))
    axes.set_xlabel(f"Better by ({metric.unit})".removesuffix(" ()"))
    return plot


def _versus(pair: Pair) -> str:
    """Both labels in a line, or below each other where they are long."""
    better, worse = text_of(pair.better, 24), text_of(pair.worse, 22)
    return f"{better}{' ' if len(better + worse) <= 22 else chr(10)}– {worse}"


def _about_pair(pair: Pair, metric: Metric) -> str:
    likely = formats.percent(pair.probability_better, 0)
    ends = f"{metric.amount(pair.low_all)} to {metric.difference(pair.high_all)}"
    return (
        f"{pair.better} – {pair.worse}: {metric.difference(pair.difference)}\n"
        f"all pairs together, 95 %: {ends}\n"
        f"p = {pair.p_value:.2g}, Holm {pair.p_adjusted:.2g}\n"
        f"better by more than {metric.difference(pair.margin)}: {likely}"
    )


def budget(evidence: Evidence) -> Plot:
    """The best validation score to be expected of so many trials, for each optimizer."""
    metric = evidence.metric
    shown = [tolerance for tolerance in evidence.tolerances if len(tolerance.expected_best)]
    if not shown:
        return empty("What more trials bring", "No trial completed.")
    plot, (axes,) = build(
        "What more trials bring",
        "Best validation score to be expected of so many of the optimizer's trials, drawn at "
        "random (Dodge et al., 2019)",
        legend=[entry(tolerance.optimizer) for tolerance in shown],
    )
    for tolerance in shown:
        color, marker = optimizer_style(tolerance.optimizer)
        n = np.arange(1, len(tolerance.expected_best) + 1)
        values = metric.scale * tolerance.expected_best
        axes.plot(n, values, color=color, linewidth=1.7, zorder=3)
        axes.mark(n[-1:], values[-1:], (color, marker))
        step = max(1, len(n) // 60)
        for trials, value in zip(n[::step].tolist(), values[::step].tolist(), strict=True):
            score, of = metric.text(value / metric.scale), formats.count(trials, "trial")
            axes.say(trials, value, f"{tolerance.optimizer}: {score} expected of {of}")
    everything = metric.scale * np.concatenate([tolerance.expected_best for tolerance in shown])
    axes.limit_values(everything.tolist(), metric)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.set(xlabel="Trials of the optimizer", ylabel=metric.axis)
    return plot
