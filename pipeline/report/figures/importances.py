"""Which setting mattered: a bar for each, beside what chance gives."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from pipeline.analysis.importance import Importance
from pipeline.common import text as formats
from pipeline.report.figures.axes import Entry, Plot, build, text_of
from pipeline.report.figures.colours import ACCENT, FAINT, INK, PAPER, optimizer_style

_ROW = 0.34  # inches
MOST_SETTINGS = 12


def importances(found: Sequence[Importance]) -> Plot:
    """A row for each setting, the most important first; marks: within one optimizer's trials.

    Args:
        found: over all trials, one at least, and for each optimizer.
    """
    over_all = [one for one in found if one.optimizer is None]
    rows = over_all[:MOST_SETTINGS]
    within = list(dict.fromkeys(one.optimizer for one in found if one.optimizer is not None))
    legend: list[Entry] = []
    for name in within:
        color, marker = optimizer_style(_class(name))
        handle = Line2D([], [], linestyle="none", color=color, marker=marker, markersize=7)
        legend.append((handle, f"{text_of(name, 14)} alone"))
    more = f"; {len(rows)} of {len(over_all)} are shown" if len(rows) < len(over_all) else ""
    plot, (axes,) = build(
        _title(over_all),
        "Share of the variance of the score over the whole space that a setting explains by itself "
        f"(fANOVA, {formats.count(rows[0].trials, 'trial')}); line: what one without any effect "
        f"reaches in 1 of 20 cases; grey or hollow: no more{more}",
        (_ROW * len(rows) + 0.1,),
        left=1.62,
        legend=legend,
    )
    places = {one.setting.label: place for place, one in enumerate(rows)}
    for place, one in enumerate(rows):
        _bar(axes, place, one)
        own = [o for o in found if o.optimizer and o.setting.label == one.setting.label]
        text = "\n".join([one.setting.label, *[_said(o) for o in [one, *own]]])
        plot.box(axes, (0.0, 1.0), (place - 0.5, place + 0.5), text, axes.get_yaxis_transform())
    for one in found:
        if one.optimizer is not None and one.setting.label in places:
            color, marker = optimizer_style(_class(one.optimizer))
            axes.plot(
                [100 * one.share], [places[one.setting.label]], marker=marker, markersize=6.5,
                color=color if one.stands_out else "none", markeredgewidth=1.1, zorder=5,
                markeredgecolor=PAPER if one.stands_out else color,
            )  # fmt: skip
    axes.set_ylim(len(rows) - 0.5, -0.5)
    highest = max(max(100 * o.share, 100 * o.chance if o.optimizer is None else 0) for o in found)
    axes.set_xlim(0, min(100, 1.08 * highest) or 1)
    axes.set_yticks(range(len(rows)), [text_of(one.setting.label, 22) for one in rows], fontsize=9)
    axes.tick_params(axis="y", length=0, colors=INK)
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.set_xlabel("Share of the variance (%)")
    return plot


def _title(over_all: Sequence[Importance]) -> str:
    first = over_all[0]
    if not any(one.stands_out for one in over_all):
        return "No setting stands out from chance"
    if not first.stands_out:
        first = next(one for one in over_all if one.stands_out)
    name, share = text_of(first.setting.label, 26), formats.percent(first.share, 0)
    return f"{name[:1].upper()}{name[1:]} matters most: {share} of the variance"


def _bar(axes: Axes, place: int, one: Importance) -> None:
    color = ACCENT if one.stands_out else FAINT
    axes.barh([place], [100 * one.share], height=0.55, color=color, zorder=2)
    axes.plot([100 * one.chance] * 2, [place - 0.38, place + 0.38], color=INK, linewidth=1.6,
              zorder=4)  # fmt: skip


def _said(one: Importance) -> str:
    whose = f"all {formats.count(one.trials, 'trial')}"
    if one.optimizer is not None:
        whose = f"{formats.count(one.trials, 'trial')} of {one.optimizer}"
    return f"{whose}: {formats.percent(one.share)}, by chance up to {formats.percent(one.chance)}"


def _class(name: str) -> str:
    """The optimizer's class: entries of one class are told apart by their index, as `Adam [2]`."""
    return name.partition(" [")[0]
