"""A figure with its heading, legend, plain axes and marks, and how it is written as SVG."""

import html
import io
import math
import re
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import Transform
from numpy.typing import ArrayLike

from pipeline.common import text as formats
from pipeline.models.metrics import Metric
from pipeline.report.figures import colours
from pipeline.report.figures.colours import FAINT, INK, MUTED, PAPER, css_name, optimizer_style

WIDTH = 4.8
"""Inches: on a phone a point of its text is about a pixel."""
_REACH = 8  # points around a mark within which it is pointed at

Entry = tuple[Line2D, str]  # of a legend
Range = tuple[float, float]


@dataclass(frozen=True)
class Tip:
    """What is said of a place: of a point, or of a rectangle."""

    transform: Transform
    corners: npt.NDArray[np.float64]  # [2, 2] its low and high (x, y); equal for a point
    text: str


class Panel(Axes):
    """Axes with two spines and a light grid, which know what to say of their marks."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.tips: list[Tip] = []
        self.set(facecolor="none", axisbelow=True)
        self.grid(visible=True, color=colours.GRID, linewidth=0.8)
        self.spines[["top", "right"]].set_visible(False)
        self.spines[["left", "bottom"]].set_color(FAINT)
        self.tick_params(colors=MUTED, labelsize=9, length=3, color=FAINT)
        for axis in (self.xaxis, self.yaxis):
            axis.label.set(color=INK, fontsize=9.5)

    def say(
        self, x: float | Range, y: float | Range, text: str, transform: Transform | None = None
    ) -> None:
        """Say `text` of the mark at (x, y), or of the rectangle over these ranges, in data
        coordinates unless told otherwise."""
        corners = np.stack([np.broadcast_to(np.asarray(side, float), 2) for side in (x, y)], axis=1)
        self.tips.append(Tip(transform or self.transData, corners, text))

    def say_of_row(self, place: int, text: str) -> None:
        """Say `text` of a row of `build`."""
        self.say((0, 1), (place - 0.5, place + 0.5), text, self.get_yaxis_transform())

    def mark(
        self,
        x: ArrayLike,
        y: ArrayLike,
        style: tuple[str, str],
        size: float = 7,
        hollow: bool = False,
        **look: Any,
    ) -> None:
        """Marks of a colour and marker, without a line; `look` goes to Matplotlib."""
        color, marker = style
        edge: dict[str, Any] = {"markeredgecolor": PAPER, "markeredgewidth": 1}
        if hollow:
            edge = {"markerfacecolor": "none", "markeredgecolor": color, "markeredgewidth": 1.2}
        edge |= {"color": color, "marker": marker, "markersize": size, "zorder": 5}
        self.plot(x, y, linestyle="none", **(edge | look))

    def caption(self, title: str, note: str = "", color: str = INK) -> None:
        """A title at the left above the axes, a note at the right."""
        self.text(0, 1.05, title, fontsize=9.5, fontweight="bold", color=color,
                  transform=self.transAxes)  # fmt: skip
        self.text(1, 1.05, note, fontsize=8.5, ha="right", color=MUTED, transform=self.transAxes)

    def limit_values(self, values: Sequence[float], metric: Metric) -> None:
        """Limits for `value_range`, with room for the marks of what is not in it."""
        if len(values):
            self.set_ylim(padded(*value_range(values, metric), 0.18))
        else:
            self.set(ylim=(0, 1), yticks=[])

    def log_x(self, values: Sequence[float]) -> None:
        """A log x axis with room for the values, which are > 0, and at most eight ticks."""
        ends = min(values, default=1e-3), max(values, default=1e-1)
        low, high = np.clip(ends, 1e-60, 1e60)  # room to divide
        pad = max((high / low) ** 0.05, 1.15 if high > low else 3.0)
        low, high = low / pad, high * pad
        subs = (1.0,) if high / low > 100 else (1.0, 2.0, 5.0)
        for locator in (LogLocator(10, subs=subs, numticks=30), MaxNLocator(4)):
            ticks = [tick for tick in locator.tick_values(low, high) if low <= tick <= high]
            if len(ticks) > 1:
                break
        self.set(xscale="log", xlim=(low, high), xticks=ticks[:: math.ceil(len(ticks) / 8)])
        self.xaxis.set_minor_locator(NullLocator())
        self.xaxis.set_major_formatter("{x:.4g}")


class Plot(Figure):
    """A figure, 200 pixels per inch, that knows its heading: `title` and `subtitle` are plain text,
    which a page sets; `head` inches at the top are theirs."""

    def __init__(self, title: str, subtitle: str, head: float, size: Range) -> None:
        super().__init__(figsize=size, dpi=200, facecolor=colours.WHITE)
        FigureCanvasAgg(self)
        self.title, self.subtitle = (text.replace(r"\$", "$") for text in (title, subtitle))
        self.head = head

    @property
    def tips(self) -> list[Tip]:
        """What is shown of a mark that is pointed at, in the order of drawing."""
        return [tip for panel in self.axes if isinstance(panel, Panel) for tip in panel.tips]

    def savefig(self, *args: Any, **options: Any) -> None:
        with _without_glyph_warnings():
            super().savefig(*args, **options)


def text_of(value: Any, width: int = 28) -> str:
    """Text from data, of at most `width` characters, in one line and not read as mathematics."""
    return formats.shorten(formats.printable(str(value)), width).replace("$", r"\$")


def build(
    title: str,
    subtitle: str,
    heights: Sequence[float] = (2.5,),
    *,
    width: float = WIDTH,
    left: float = 0.68,
    right: float = 0.15,
    bottom: float = 0.55,
    gap: float = 0.25,
    above: float = 0.12,
    legend: Sequence[Entry] = (),
    rows: Sequence[str] = (),
) -> tuple[Plot, list[Panel]]:
    """A plot with its heading and legend, and axes of these heights below each other, in inches.

    `rows` are names, as `text_of` gives them, for y = 0, 1, ... downwards in the only axes."""
    if rows:
        heights = ((0.42 if any("\n" in row for row in rows) else 0.34) * len(rows) + 0.1,)
    # A percent sign stays with its number.
    lines, small = (
        textwrap.wrap(text.replace(" %", "\u00a0%"), int((width - 0.2) / letter))
        for text, letter in ((title, 0.102), (subtitle, 0.072))
    )
    columns, entry_rows = _legend_shape([name for _, name in legend], width)
    head = 0.18 + 0.21 * len(lines) + 0.17 * len(small)
    top = head + above + (0.19 * entry_rows + 0.04 if legend else 0.0)
    height = top + sum(heights) + gap * (len(heights) - 1) + bottom
    plot = Plot(title, subtitle, head, (width, height))
    if rows:
        ticks = plot.text(0, 0, "\n".join(rows), fontsize=9)
        with _without_glyph_warnings():
            left = min(0.22 + ticks.get_window_extent().width / plot.dpi, 0.6 * width)
        ticks.remove()
    look: dict[str, Any] = {"ha": "left", "va": "top", "linespacing": 1.2}
    plot.text(0.12 / width, 1 - 0.12 / height, "\n".join(lines), fontsize=12, fontweight="bold",
              color=INK, **look)  # fmt: skip
    plot.text(0.12 / width, 1 - (0.14 + 0.21 * len(lines)) / height, "\n".join(small), fontsize=9,
              color=MUTED, **look)  # fmt: skip
    if legend:
        anchor = 0.12 / width, 1 - (head + 0.02) / height
        look = {"handlelength": 1.3, "handletextpad": 0.45, "columnspacing": 1.1}
        look |= {"labelspacing": 0.35, "borderpad": 0.0, "borderaxespad": 0.0, "frameon": False}
        plot.legend(*zip(*legend, strict=True), loc="upper left", bbox_to_anchor=anchor,
                    ncols=columns, fontsize=9, labelcolor=INK, **look)  # fmt: skip
    panels: list[Panel] = []
    for tall in heights:
        bounds = (left / width, 1 - (top + tall) / height, (width - left - right) / width)
        panels.append(Panel(plot, (*bounds, tall / height)))
        panels[-1].xaxis.set_major_locator(MaxNLocator(6))
        panels[-1].yaxis.set_major_locator(MaxNLocator(6 if tall > 1.5 else 4))
        plot.add_axes(panels[-1])
        top += tall + gap
    if rows:
        panels[0].set_yticks(range(len(rows)), rows, fontsize=9)
        panels[0].set_ylim(len(rows) - 0.4, -0.6)
        panels[0].tick_params(axis="y", length=0, colors=INK)
        panels[0].grid(visible=False, axis="y")
        panels[0].spines["left"].set_visible(False)
    return plot, panels


def _legend_shape(names: Sequence[str], width: float) -> tuple[int, int]:
    """Columns and rows of a legend with these names."""
    longest = max((len(name.replace(r"\$", "$")) for name in names), default=0)
    columns = max(1, min(len(names), int((width - 0.2) / (0.42 + 0.078 * longest))))
    rows = math.ceil(len(names) / columns)
    return math.ceil(len(names) / max(1, rows)), rows


@contextmanager
def _without_glyph_warnings() -> Iterator[None]:
    """A label may hold characters that the font has not: a box is drawn for them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def empty(title: str, message: str) -> Plot:
    """A plot that says why there is nothing to draw."""
    plot, (axes,) = build(title, "", (1.2,))
    axes.set_axis_off()
    axes.text(0.5, 0.5, message, ha="center", va="center", color=MUTED, fontsize=11)
    return plot


def value_range(values: Sequence[float], metric: Metric) -> Range:
    """From the lowest to the highest value, in the units of the axis, without the few that are far
    on the bad side: a trial that diverged would flatten all others."""
    signed = metric.sign * np.asarray(values)
    best = signed.max()
    reach = 4 * max(best - float(np.median(signed)), 0.01 * metric.scale)
    ends = metric.sign * best, metric.sign * max(float(signed.min()), best - reach)
    return min(ends), max(ends)


def padded(low: float, high: float, room: float) -> Range:
    """Limits beyond low..high by a share of their span, which counts as 2 % of `high` at least."""
    span = max(high - low, 0.02 * max(abs(high), 1e-3))
    middle, reach = (low + high) / 2, (0.5 + room) * span
    return middle - reach, middle + reach


def entry(label: str, line: bool = True, text: str = "") -> Entry:
    """An optimizer's in a legend: its marker, with a line or alone."""
    color, marker = optimizer_style(label)
    handle = Line2D([], [], color=color, marker=marker, markersize=6 if line else 7,
                    linewidth=1.7 if line else 0)  # fmt: skip
    return handle, text_of(label) + text


def svg(plot: Plot, prefix: str) -> str:
    """The plot without its heading as an `<svg>` element: transparent, real text, CSS colours.

    What is said of a mark is a `<title>` in a transparent shape of the class `tip` over it.
    `prefix` (letters, digits, `-`) keeps the ids of several plots on one page apart."""
    target = io.StringIO()
    metadata = {"Date": None, "Creator": None}
    for line in plot.texts:
        line.set_visible(False)
    try:
        with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": prefix}):
            plot.savefig(target, format="svg", facecolor="none", metadata=metadata)
    finally:
        for line in plot.texts:
            line.set_visible(True)
    body = re.sub(r"<(metadata|style)\b.*?</\1>", "", target.getvalue(), flags=re.DOTALL)
    body = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", body)
    body = re.sub("|".join(colours.DARK), lambda match: f"var({css_name(match.group())})", body)
    body = body[body.index(">", body.index("<svg")) + 1 : body.rindex("</svg>")]
    # Without the line breaks and the many digits that nobody sees.
    places = r'\b(?:d|x|y|transform)="[^"]*"'
    body = re.sub(places, lambda match: re.sub(r"(\.\d\d)\d+", r"\1", match.group()), body)
    body = re.sub(r"\s*\n\s*", "\n", body)
    width, height, head = (72 * float(inches) for inches in (*plot.get_size_inches(), plot.head))
    label = html.escape(". ".join(text for text in (plot.title, plot.subtitle) if text))
    return (
        f'<svg role="img" aria-label="{label}" viewBox="0 {head:.1f} {width:.1f} '
        f'{height - head:.1f}" xmlns="http://www.w3.org/2000/svg" '
        'xmlns:xlink="http://www.w3.org/1999/xlink" version="1.1">'
        f"{body}<g>{''.join(_shape(plot, tip) for tip in plot.tips)}</g></svg>"
    )


def _shape(plot: Plot, tip: Tip) -> str:
    """What is pointed at for a tip."""
    corners = tip.transform.transform(tip.corners) * 72 / plot.dpi
    (left, low), (right, high) = corners.min(axis=0), corners.max(axis=0)
    top = 72 * plot.get_figheight() - high
    shape = f'rect class="tip" x="{left:.1f}" y="{top:.1f}" '
    shape += f'width="{right - left:.1f}" height="{high - low:.1f}"'
    if (tip.corners[0] == tip.corners[1]).all():
        shape = f'circle class="tip" cx="{left:.1f}" cy="{top:.1f}" r="{_REACH}"'
    text = html.escape("\n".join(formats.printable(line) for line in tip.text.split("\n")))
    return f"<{shape}><title>{text}</title></{shape.split()[0]}>"
