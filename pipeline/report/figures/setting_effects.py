"""Figures of the searched settings: which of them mattered, and where the best trials lie."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator

from pipeline.analysis.importance import Importance, Searched
from pipeline.analysis.ranking import best_per_optimizer, best_trial, ranking
from pipeline.common import text as formats
from pipeline.models.metrics import Metric
from pipeline.report.figures import learning
from pipeline.report.figures.colours import ACCENT, FAINT, INK, MUTED, PAPER, optimizer_style
from pipeline.report.figures.learning import height, heights, with_score
from pipeline.report.figures.plot import Panel, Plot, build, entry, text_of, value_range
from pipeline.search.settings import Setting, value_text
from pipeline.training.trial import Trial

_MOST_SETTINGS = 12
_MOST_PANELS = 10
_BANDWIDTH = 0.1  # of the trials' range; standard deviation of the Gaussian kernel
_LEAST_FOR_MEAN = 8  # trials
_LANES = 0.62  # of the place of a value; marks of each optimizer beside those of the others
_MANY = 10  # lines in colour, from which on they are thin


def importances(shares: Sequence[Importance]) -> Plot:
    """A row for each setting, the most important first, with a bar beside what chance gives; marks:
    within one optimizer's trials.

    Args:
        shares: over all trials, one at least, and for each optimizer."""
    over_all = [importance for importance in shares if importance.optimizer is None]
    rows = over_all[:_MOST_SETTINGS]
    within = [importance for importance in shares if importance.optimizer is not None]
    labels = dict.fromkeys(importance.optimizer or "" for importance in within)
    plot, (axes,) = build(
        _most_important(over_all),
        "Share of the variance of the score over the whole space that a setting explains by itself "
        f"(fANOVA, {formats.count(rows[0].trials, 'trial')}); line: what one without any effect "
        "reaches in 1 of 20 cases; grey or hollow: no more"
        f"{_part_of(len(rows), len(over_all))}",
        legend=[entry(label, line=False, text=" alone") for label in labels],
        rows=[text_of(importance.setting.label) for importance in rows],
    )
    for place, row in enumerate(rows):
        color = ACCENT if row.stands_out else FAINT
        axes.barh([place], [100 * row.share], height=0.55, color=color, zorder=2)
        axes.plot([100 * row.chance] * 2, [place - 0.38, place + 0.38], color=INK, linewidth=1.6,
                  zorder=4)  # fmt: skip
        marks = [each for each in within if each.setting.label == row.setting.label]
        for each in marks:
            style = optimizer_style(each.optimizer or "")
            axes.mark([100 * each.share], [place], style, 6.5, hollow=not each.stands_out)
        lines = [row.setting.label, *(_share_text(each) for each in (row, *marks))]
        axes.say_of_row(place, "\n".join(lines))
    highest = max(*(each.share for each in shares), *(each.chance for each in over_all))
    axes.set(xlim=(0, min(100, 108 * highest) or 1), xlabel="Share of the variance (%)")
    return plot


def _most_important(over_all: Sequence[Importance]) -> str:
    first = next((importance for importance in over_all if importance.stands_out), None)
    if first is None:
        return "No setting stands out from chance"
    name, share = text_of(first.setting.label), formats.percent(first.share, 0)
    return f"{name[:1].upper()}{name[1:]} matters most: {share} of the variance"


def _share_text(importance: Importance) -> str:
    trials = formats.count(importance.trials, "trial")
    whose = f"{trials} of {importance.optimizer}" if importance.optimizer else f"all {trials}"
    share, chance = map(formats.percent, (importance.share, importance.chance))
    return f"{whose}: {share}, by chance up to {chance}"


def _part_of(shown: int, count: int) -> str:
    """The end of a subtitle where not all settings are shown."""
    return f"; {shown} of {count} settings" if shown < count else ""


def slices(searched: Searched) -> Plot:
    """A panel for each setting beside the optimizer and its learning rate, one at least,
    in the order of their importances."""
    metric, trials = searched.metric, searched.trials
    notes = {}
    for each in searched.importances:
        if each.optimizer is None:
            share, chance = (formats.percent(part, 0) for part in (each.share, each.chance))
            notes[each.setting.label] = f"importance {share}, by chance {chance}"
    order = {label: place for place, label in enumerate(notes)}
    settings = sorted(searched.others, key=lambda each: order.get(each.label, len(order)))
    shown = settings[:_MOST_PANELS]
    what = text_of(shown[0].label) if len(shown) == 1 else "each setting"
    legend = learning.trial_legend(trials, metric)
    plot, panels = build(
        f"The score against {what}",
        "One mark per trial, whose other settings differ too; ringed: the best; line and band: "
        "local mean ± standard deviation, or median of a value; "
        f"{learning.EDGE}{_part_of(len(shown), len(settings))}",
        [1.05 if len(shown) > 1 else 1.9] * len(shown), bottom=0.35, gap=0.68, above=0.34,
        legend=legend,
    )  # fmt: skip
    best = best_trial(trials, metric)
    for axes, setting in zip(panels, shown, strict=True):
        axes.limit_values(heights(trials, metric), metric)
        having = [trial for trial in trials if setting.has(trial)]
        place = _places(axes, setting, having)
        learning.scatter(axes, having, place, metric, alpha=0.7, size=5.5, best=best)
        _middle(axes, setting, with_score(having, metric), metric)
        axes.caption(text_of(setting.label, 40), notes.get(setting.label, ""))
    panels[len(panels) // 2].set_ylabel(metric.axis)
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
    labels = list(dict.fromkeys(trial.optimizer for trial in trials))
    texts = [text_of(value_text(value), 16) for value in setting.axis.values or ()]
    axes.set_xticks(range(len(texts)), texts)
    if len(texts) > 5:
        axes.tick_params(axis="x", labelsize=7.5)
    axes.set_xlim(-0.5, len(texts) - 0.5)
    axes.grid(visible=False, axis="x")
    lane = _LANES / max(len(labels), 1)

    def place(trial: Trial) -> float:
        lanes = labels.index(trial.optimizer) + 0.5 + 0.8 * _aside(trial)
        return setting.category(trial) - _LANES / 2 + lane * lanes

    return place


def _aside(trial: Trial) -> float:
    """From -0.5 to 0.5, even over the trials by the golden ratio, and the same at each drawing."""
    return trial.number * 0.6180339887 % 1 - 0.5


def _middle(axes: Panel, setting: Setting, scored: Sequence[Trial], metric: Metric) -> None:
    """The median of each value; along a range of numbers, the local mean."""
    y = np.array(heights(scored, metric))
    if setting.categorical:
        categories = np.array([setting.category(trial) for trial in scored])
        for category in np.unique(categories):
            middle = float(np.median(y[categories == category]))
            ends = [category - _LANES / 2 - 0.04, category + _LANES / 2 + 0.04]
            axes.plot(ends, [middle, middle], color=INK, linewidth=1.6, zorder=7)
    elif len(scored) >= _LEAST_FOR_MEAN:
        x = np.array([float(setting.value(trial)) for trial in scored])
        x = np.log10(x) if axes.get_xscale() == "log" else x
        learning.draw_local_mean(axes, x, y, metric, INK, _BANDWIDTH * float(np.ptp(x)))


def parallel(searched: Searched) -> Plot:
    """Parallel coordinates, turned for narrow pages: a row for each setting, a line for each trial.

    The best tenth of the completed trials in colour, five at least, all others in grey: where the
    lines of the best run together, they agree. There must be a completed trial."""
    metric, best = searched.metric, searched.best
    done = sorted(with_score(searched.trials, metric), key=lambda trial: ranking(trial, metric))
    settings, count = searched.settings[:_MOST_SETTINGS], len(searched.settings)
    common = f"What the best {len(best)} trials have in common"
    plot, (axes,) = build(
        common if len(best) > 1 else "The only completed trial",
        f"A line down for each of {formats.count(len(done), 'completed trial')}, through its value "
        f"of each setting; in colour: the best{_part_of(len(settings), count)}",
        (0.62 * (len(settings) + 1),),
        left=0.3,
        right=0.3,
        bottom=0.12,
        above=0.0,
        legend=[entry(trial.optimizer) for trial in best_per_optimizer(best, metric)],
    )
    axes.set(xlim=(-0.02, 1.02), ylim=(len(settings) + 0.45, -0.55))
    axes.set_axis_off()
    for row, setting in enumerate(settings):
        _draw_rail(axes, row, setting.label, _ticks(setting))
    low, high = value_range(heights(done, metric), metric)
    ticks = [(end, formats.number(low + end * (high - low))) for end in (0.0, 0.5, 1.0)]
    _draw_rail(axes, len(settings), metric.axis, ticks if high > low else ticks[:1])
    for trial in reversed(done):
        score = ((height(trial, metric) or 0.0) - low) / ((high - low) or 1.0)
        places = [*(_place(setting, trial) for setting in settings), min(max(score, 0.0), 1.0)]
        points = [(place, row) for row, place in enumerate(places) if place is not None]
        across, down = zip(*points, strict=True)
        if trial not in best:
            axes.plot(across, down, color=FAINT, linewidth=0.7, alpha=0.5, zorder=2)
            continue
        color, marker = optimizer_style(trial.optimizer)
        first, thin = trial is best[0], 1.2 if len(best) <= _MANY else 0.7
        axes.plot(across, down, color=color, linewidth=2.4 if first else thin, marker=marker,
                  alpha=1.0 if first else 0.75, markersize=6, markeredgecolor=PAPER,
                  markeredgewidth=0.7, zorder=6 if first else 4)  # fmt: skip
        for point in points:
            axes.say(*point, learning.about(trial))
    return plot


def _place(setting: Setting, trial: Trial) -> float | None:
    """Where a trial is from the left, 0 to 1; None where it has no such setting."""
    if not setting.has(trial):
        return None
    if setting.categorical:
        return (setting.category(trial) + 0.5 + 0.5 * _aside(trial)) / len(setting.axis.labels)
    return setting.position(trial)


def _ticks(setting: Setting) -> list[tuple[float, str]]:
    """Places and their texts."""
    axis = setting.axis
    if setting.categorical:
        texts = [text_of(value_text(value), 14) for value in axis.values or ()]
        ticks = [((place + 0.5) / len(texts), text) for place, text in enumerate(texts)]
        return ticks if len(ticks) <= 8 else [ticks[0], ticks[-1]]
    if len({(axis.low, axis.high, axis.log) for axis in setting.axes.values()}) > 1:
        return [(0.0, "low end of the optimizer's range"), (1.0, "high end")]
    low, high = float(axis.low), float(axis.high)
    middle = math.sqrt(low * high) if setting.log else (low + high) / 2
    ticks = [(0.0, value_text(axis.low)), (0.5, value_text(middle)), (1.0, value_text(axis.high))]
    return [ticks[0], ticks[2]] if axis.whole else ticks


def _draw_rail(axes: Panel, place: int, label: str, ticks: Sequence[tuple[float, str]]) -> None:
    """The row of a setting or of the score."""
    axes.plot([0, 1], [place, place], color=FAINT, linewidth=1, zorder=1)
    behind = {"facecolor": PAPER, "edgecolor": "none", "alpha": 0.8, "pad": 0.6}
    axes.text(0, place - 0.16, text_of(label, 40), fontsize=9, color=INK, fontweight="bold",
              va="bottom", bbox=behind, zorder=8)  # fmt: skip
    for x, text in ticks:
        axes.plot([x, x], [place - 0.06, place + 0.06], color=MUTED, linewidth=1, zorder=1)
        side = "left" if x == 0 else "right" if x == 1 else "center"
        axes.text(x, place + 0.13, text, fontsize=8, color=MUTED, ha=side, va="top",
                  bbox=behind, zorder=8)  # fmt: skip
