"""Plots as PNG for files and as SVG for the page."""

import html
import io
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from pipeline.common import text as formats
from pipeline.report.figures.axes import Plot
from pipeline.report.figures.colours import DARK, WHITE, css_name

PIXELS_PER_INCH = 200
POINTS_PER_INCH = 72
_REACH = 8  # points around a mark within which it is pointed at


def png(figure: Figure) -> bytes:
    """The figure as PNG on white, 200 pixels per inch."""
    target = io.BytesIO()
    with warnings.catch_warnings():
        # A label may hold characters that the font has not: a box is drawn for them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        FigureCanvasAgg(figure).print_figure(
            target, format="png", dpi=PIXELS_PER_INCH, facecolor=WHITE
        )
    return target.getvalue()


def svg(plot: Plot, prefix: str) -> str:
    """The plot without its heading as an `<svg>` element: transparent, real text, CSS colours.

    What is said of a mark is a `<title>` in a transparent shape of the class `tip` over it.
    `prefix` (letters, digits, `-`) keeps the ids of several plots on one page apart.
    """
    target = io.BytesIO()
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": prefix}
    for line in plot.heading:
        line.set_visible(False)
    try:
        with warnings.catch_warnings(), matplotlib.rc_context(settings):
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            FigureCanvasSVG(plot).print_figure(
                target, format="svg", facecolor="none", metadata={"Date": None, "Creator": None}
            )
    finally:
        for line in plot.heading:
            line.set_visible(True)
    text = target.getvalue().decode("utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r"<(metadata|style)\b.*?</\1>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", text)
    width, height = (POINTS_PER_INCH * float(inches) for inches in plot.get_size_inches())
    head = POINTS_PER_INCH * plot.head
    label = html.escape(formats.printable(str(plot.get_label())))
    start = (
        f'<svg role="img" aria-label="{label}" viewBox="0 {head:.1f} {width:.1f} '
        f'{height - head:.1f}" xmlns="http://www.w3.org/2000/svg" '
        'xmlns:xlink="http://www.w3.org/1999/xlink" version="1.1">'
    )
    body = text[text.index(">") + 1 : text.rindex("</svg>")]
    colors = re.compile("|".join(DARK))
    body = colors.sub(lambda match: f"var({css_name(match.group())})", _shortened(body))
    return f"{start}{body}{_tips(plot, height)}</svg>"


def _shortened(body: str) -> str:
    """Without the line breaks and the many digits that nobody sees."""
    body = re.sub(
        r'\b(?:d|x|y|transform)="[^"]*"',
        lambda found: re.sub(r"(\.\d\d)\d+", r"\1", found.group()),
        body,
    )
    return re.sub(r"\s*\n\s*", "\n", body)


def _tips(plot: Plot, height: float) -> str:
    """The shapes to point at, in the order of drawing: the last is on top."""
    scale = POINTS_PER_INCH / plot.dpi
    shapes = []
    for tip in plot.tips:
        x0, y0, x1, y1 = (
            float(value) * scale
            for value in (*tip.transform.transform(tip.low), *tip.transform.transform(tip.high))
        )
        said = html.escape("\n".join(formats.printable(line) for line in tip.text.split("\n")))
        if tip.low == tip.high:
            shape = f'circle class="tip" cx="{x0:.1f}" cy="{height - y0:.1f}" r="{_REACH}"'
        else:
            left, top = min(x0, x1), height - max(y0, y1)
            shape = (
                f'rect class="tip" x="{left:.1f}" y="{top:.1f}" width="{abs(x1 - x0):.1f}" '
                f'height="{abs(y1 - y0):.1f}"'
            )
        shapes.append(f"<{shape}><title>{said}</title></{shape.split()[0]}>")
    return f"<g>{''.join(shapes)}</g>" if shapes else ""


def save(figures: Mapping[str, Figure], directory: Path) -> list[Path]:
    """Writes NAME.png for each figure into `directory`, which is made when missing."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, figure in figures.items():
        path = directory / f"{name}.png"
        path.write_bytes(png(figure))
        paths.append(path)
    return paths
