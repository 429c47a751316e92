"""A figure with its heading, legend and plain axes: what all figures are drawn on."""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import Transform

from pipeline.analysis.ranking import Objective
from pipeline.common import text as formats
from pipeline.report.figures.colours import FAINT, GRID, INK, MUTED, WHITE

WIDTH = 4.8
"""Inches: on a phone a point of its text is about a pixel."""

Entry = tuple[Line2D, str]  # of a legend


@dataclass(frozen=True)
class Tip:
    """What is said of a place: of a point, or of a rectangle, in the coordinates of `transform`."""

    transform: Transform
    low: tuple[float, float]
    high: tuple[float, float]
    text: str


class Plot(Figure):
    """A figure that knows its heading, which a page sets as text, and what to say of its marks.

    Attributes:
        title, subtitle: plain text.
        head: inches that the heading takes at the top.
        heading: the texts of the heading, which `svg` leaves out.
        tips: what is shown of a mark that is pointed at.
    """

    title: str = ""
    subtitle: str = ""
    head: float = 0.0

    def __init__(self, width: float, height: float) -> None:
        super().__init__(figsize=(width, height), dpi=100, facecolor=WHITE)
        FigureCanvasAgg(self)
        self.heading: list[Text] = []
        self.tips: list[Tip] = []

    def point(
        self, axes: Axes, x: float, y: float, text: str, transform: Transform | None = None
    ) -> None:
        """Say `text` of the mark at (x, y), in data coordinates unless told otherwise."""
        self.tips.append(Tip(transform or axes.transData, (x, y), (x, y), text))

    def box(
        self,
        axes: Axes,
        x: tuple[float, float],
        y: tuple[float, float],
        text: str,
        transform: Transform | None = None,
    ) -> None:
        """Say `text` of the rectangle over these ranges."""
        self.tips.append(Tip(transform or axes.transData, (x[0], y[0]), (x[1], y[1]), text))


def text_of(value: Any, width: int) -> str:
    """Text from data, short, in one line and not read as mathematics."""
    return formats.shorten(formats.printable(str(value)), width).replace("$", r"\$")


def build(
    title: str,
    subtitle: str,
    heights: Sequence[float] = (2.5,),
    *,
    width: float = WIDTH,
    left: float = 0.62,
    right: float = 0.15,
    bottom: float = 0.55,
    gap: float = 0.25,
    above: float = 0.12,
    legend: Sequence[Entry] = (),
) -> tuple[Plot, list[Axes]]:
    """A plot with its heading and legend, and axes of these heights below each other, in inches."""
    # A percent sign stays with its number.
    title, subtitle = (part.replace(" %", "\u00a0%") for part in (title, subtitle))
    lines = textwrap.wrap(title, int((width - 0.2) / 0.098)) or [""]
    small = textwrap.wrap(subtitle, int((width - 0.2) / 0.072))
    head = 0.12 + 0.21 * len(lines) + 0.17 * len(small) + 0.06
    columns, rows = _legend_shape([name for _, name in legend], width)
    top = head + above + (0.19 * rows + 0.04 if rows else 0.0)
    height = top + sum(heights) + gap * (len(heights) - 1) + bottom
    plot = Plot(width, height)
    plot.title, plot.subtitle = (
        part.replace(r"\$", "$").replace("\u00a0", " ") for part in (title, subtitle)
    )
    plot.head = head
    plot.set_label(". ".join(part for part in (plot.title, plot.subtitle) if part))
    look: dict[str, Any] = {"ha": "left", "va": "top", "linespacing": 1.2}
    plot.heading = [
        plot.text(
            0.12 / width,
            1 - 0.12 / height,
            "\n".join(lines),
            fontsize=12,
            fontweight="bold",
            color=INK,
            **look,
        ),
        plot.text(
            0.12 / width,
            1 - (0.14 + 0.21 * len(lines)) / height,
            "\n".join(small),
            fontsize=9,
            color=MUTED,
            **look,
        ),
    ]
    if legend:
        plot.legend(
            [handle for handle, _ in legend],
            [name for _, name in legend],
            loc="upper left",
            bbox_to_anchor=(0.12 / width, 1 - (head + 0.02) / height),
            ncols=columns,
            frameon=False,
            fontsize=9,
            labelcolor=INK,
            handlelength=1.3,
            handletextpad=0.45,
            columnspacing=1.1,
            labelspacing=0.35,
            borderpad=0.0,
            borderaxespad=0.0,
        )
    found, above = [], top
    for tall in heights:
        found.append(
            plot.add_axes(
                (
                    left / width,
                    1 - (above + tall) / height,
                    (width - left - right) / width,
                    tall / height,
                )
            )
        )
        plain(found[-1])
        above += tall + gap
    return plot, found


def _legend_shape(names: Sequence[str], width: float) -> tuple[int, int]:
    """Columns and rows of a legend with these names."""
    if not names:
        return 0, 0
    longest = max(len(name.replace(r"\$", "$")) for name in names)
    columns = min(len(names), max(1, int((width - 0.2) / (0.42 + 0.078 * longest))))
    rows = math.ceil(len(names) / columns)
    return math.ceil(len(names) / rows), rows


def plain(axes: Axes) -> None:
    """Two spines and a light grid."""
    axes.set_facecolor("none")
    axes.set_axisbelow(True)
    axes.grid(visible=True, color=GRID, linewidth=0.8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    axes.tick_params(colors=MUTED, labelsize=9, length=3, color=FAINT)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set_color(INK)
        axis.label.set_fontsize(9.5)
        axis.labelpad = 4


def empty(title: str, message: str) -> Plot:
    """A plot that says why there is nothing to draw."""
    plot, (axes,) = build(title, "", (1.2,))
    axes.set_axis_off()
    axes.text(0.5, 0.5, message, ha="center", va="center", color=MUTED, fontsize=11)
    return plot


def limits(axes: Axes, low: float, high: float, smallest: float) -> None:
    """Limits a little beyond low..high, at least `smallest` apart."""
    span = max(high - low, smallest)
    middle = (low + high) / 2
    axes.set_ylim(middle - span * 0.56, middle + span * 0.56)


def value_range(values: Sequence[float], objective: Objective) -> tuple[float, float]:
    """From the lowest to the highest value, without the few that are far on the bad side: a trial
    that diverged would flatten all others."""
    low, high = min(values), max(values)
    middle = float(np.median(values))
    if objective == "val_loss":
        return low, min(high, low + 4 * max(middle - low, 0.01))
    return max(low, high - 4 * max(high - middle, 1.5)), high


def value_limits(axes: Axes, values: Sequence[float], objective: Objective, ticks: int = 6) -> None:
    """Limits for `value_range`, with room at both ends for the marks of what is not in it."""
    if not values:
        axes.set_ylim(0, 1)
        axes.yaxis.set_major_locator(NullLocator())
        return
    low, high = value_range(values, objective)
    span = max(high - low, 0.02 * max(abs(high), 1e-3))
    axes.set_ylim(low - 0.16 * span, high + (0.09 if objective == "val_accuracy" else 0.14) * span)
    axes.yaxis.set_major_locator(MaxNLocator(ticks))


def _tick(value: float) -> str:
    return f"{value:.0f}" if 100 <= value < 10_000 else f"{value:.2g}"


def log_axis(axes: Axes, values: Sequence[float]) -> None:
    """A log x axis with room for the values, which are > 0, and at most eight ticks."""
    axes.set_xscale("log")
    low, high = (min(values), max(values)) if values else (1e-3, 1e-1)
    low, high = (min(max(end, 1e-60), 1e60) for end in (low, high))  # room to divide
    pad = max((high / low) ** 0.05, 1.15 if high > low else 3.0)
    low, high = low / pad, high * pad
    axes.set_xlim(low, high)
    decades = np.log10(high / low)
    subs = (1.0,) if decades > 2 else (1.0, 2.0, 5.0)
    ticks = LogLocator(10, subs=subs, numticks=30).tick_values(low, high)
    ticks = [tick for tick in ticks if low <= tick <= high]
    while len(ticks) > 8:
        ticks = ticks[::2]
    if len(ticks) < 2:
        ticks = list(np.geomspace(low, high, 5)[1:-1])
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))
