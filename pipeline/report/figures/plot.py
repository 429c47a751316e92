"""A figure with its heading, plain axes and marks, and how it is written as SVG."""

import html
import io
import re
import textwrap
import warnings
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import LogLocator, NullLocator
from numpy.typing import ArrayLike

from pipeline.common import text as formats
from pipeline.models.metrics import Metric
from pipeline.report.figures import colours
from pipeline.report.figures.colours import FAINT, INK, MUTED, PAPER

WIDTH = 4.8
"""Inches: on a phone a point of its text is about a pixel."""
_HEADING = "heading", "subheading", "paper"  # what a page has of its own


class Panel(Axes):
    """Axes with two spines and a light grid."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.set(facecolor="none", axisbelow=True)
        self.grid(visible=True, color=colours.GRID, linewidth=0.8)
        self.spines[["top", "right"]].set_visible(False)
        self.spines[["left", "bottom"]].set_color(FAINT)
        self.tick_params(colors=MUTED, labelsize=9, length=3, color=FAINT)
        for axis in (self.xaxis, self.yaxis):
            axis.label.set(color=INK, fontsize=9.5)

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

    def limit_values(self, values: Sequence[float], metric: Metric) -> None:
        """Limits around values in units of the axis, with room for the marks of the few that are
        far on the bad side and beyond them: a trial that diverged would flatten all others."""
        signed = metric.sign * np.asarray(values)
        best, middle = signed.max(), float(np.median(signed))
        reach = 4 * max(best - middle, 0.01 * metric.scale)
        ends = metric.sign * np.array([best, max(float(signed.min()), best - reach)])
        self.set_ylim(padded(ends.min(), ends.max(), 0.18))

    def log_x(self, values: Sequence[float]) -> None:
        """A log x axis with room for the values, which are > 0, and at most eight ticks."""
        low, high = np.clip((min(values), max(values)), 1e-60, 1e60)  # room to divide
        pad = max((high / low) ** 0.05, 1.15 if high > low else 3.0)
        self.set(xscale="log", xlim=(low / pad, high * pad))
        subs = (1.0,) if high / low > 50 else (1.0, 2.0, 5.0)
        self.xaxis.set_major_locator(LogLocator(10, subs=subs, numticks=8))
        self.xaxis.set_minor_locator(NullLocator())
        self.xaxis.set_major_formatter("{x:.4g}")


class Plot(Figure):
    """Panels below each other under a heading.

    A page sets the heading itself, so it is told `title` and `subtitle` as plain text, and that
    `head` inches at the top are theirs.

    Args:
        heights: of the panels, about, in inches.
        rows: names, as `text_of` gives them, for y = 0, 1, ... downwards in the only panel."""

    def __init__(
        self,
        title: str,
        subtitle: str,
        heights: Sequence[float] = (2.5,),
        *,
        width: float = WIDTH,
        rows: Sequence[str] = (),
    ) -> None:
        if rows:
            heights = (0.34 * len(rows) + 0.1,)
        # A percent sign stays with its number.
        lines, small = (
            textwrap.wrap(text.replace(" %", "\u00a0%"), int((width - 0.2) / letter))
            for text, letter in ((title, 0.102), (subtitle, 0.072))
        )
        self.head = 0.18 + 0.21 * len(lines) + 0.17 * len(small)
        # Around a panel there are its ticks, a caption or a label.
        height = self.head + sum(heights) + 0.3 * len(heights) + 0.35
        free = ConstrainedLayoutEngine(rect=(0, 0, 1, 1 - self.head / height), h_pad=0.06)
        look: dict[str, Any] = {"facecolor": colours.WHITE, "layout": free}
        super().__init__(figsize=(width, height), **look)
        FigureCanvasAgg(self)
        self.title, self.subtitle = (text.replace(r"\$", "$") for text in (title, subtitle))
        look = {"x": 0.12 / width, "va": "top", "linespacing": 1.2, "in_layout": False}
        self.text(y=1 - 0.12 / height, s="\n".join(lines), fontsize=12, fontweight="bold",
                  color=INK, gid=_HEADING[0], **look)  # fmt: skip
        self.text(y=1 - (0.14 + 0.21 * len(lines)) / height, s="\n".join(small), fontsize=9,
                  color=MUTED, gid=_HEADING[1], **look)  # fmt: skip
        self.patch.set_gid(_HEADING[2])
        panel_class: dict[str, Any] = {"axes_class": Panel}
        self.subplots(len(heights), sharex="all", height_ratios=heights, subplot_kw=panel_class)
        if rows:
            (panel,) = self.panels
            panel.set_yticks(range(len(rows)), rows, fontsize=9)
            panel.set_ylim(len(rows) - 0.4, -0.6)
            panel.tick_params(axis="y", length=0, colors=INK)
            panel.grid(visible=False, axis="y")
            panel.spines["left"].set_visible(False)

    @property
    def panels(self) -> list[Panel]:
        """From above."""
        return [axes for axes in self.axes if isinstance(axes, Panel)]

    @cached_property
    def drawn(self) -> str:
        """The plot as an SVG file, with real text. For characters that the font has not, boxes are
        drawn."""
        target = io.StringIO()
        with (
            warnings.catch_warnings(),
            matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": self.title}),
        ):
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            self.savefig(target, format="svg", metadata={"Date": None, "Creator": None})
        return target.getvalue()


def text_of(value: Any, width: int = 28) -> str:
    """Text from data, of at most `width` characters, in one line and not read as mathematics."""
    return formats.shorten(formats.printable(str(value)), width).replace("$", r"\$")


def padded(low: float, high: float, room: float) -> tuple[float, float]:
    """Limits beyond low..high by a share of their span, which counts as 2 % of `high` at least."""
    span = max(high - low, 0.02 * max(abs(high), 1e-3))
    middle, reach = (low + high) / 2, (0.5 + room) * span
    return middle - reach, middle + reach


def svg(plot: Plot, prefix: str) -> str:
    """The plot without its heading as an `<svg>` element: transparent, with real text.

    `prefix` (letters, digits, `-`) keeps the ids of several plots on one page apart."""
    body = plot.drawn
    for part in _HEADING:
        body = re.sub(rf'\n  <g id="{part}">.*?\n  </g>', "", body, flags=re.DOTALL)
    body = re.sub(r"<(metadata|style)\b.*?</\1>", "", body, flags=re.DOTALL)
    body = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", body)
    body = body[body.index(">", body.index("<svg")) + 1 : body.rindex("</svg>")]
    width, height, head = (72 * float(inches) for inches in (*plot.get_size_inches(), plot.head))
    label = html.escape(". ".join(text for text in (plot.title, plot.subtitle) if text))
    return (
        f'<svg role="img" aria-label="{label}" viewBox="0 {head:.1f} {width:.1f} '
        f'{height - head:.1f}" xmlns="http://www.w3.org/2000/svg" '
        f'xmlns:xlink="http://www.w3.org/1999/xlink" version="1.1">{body}</svg>'
    )
