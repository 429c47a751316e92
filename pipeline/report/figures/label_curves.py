"""ROC and precision-recall curves: of the positive label, or of each label against the rest."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from pipeline.analysis.evaluation import PrecisionRecallCurve, RocCurve
from pipeline.common import text as formats
from pipeline.report.figures.axes import Entry, Plot, build, empty, text_of
from pipeline.report.figures.colours import ACCENT, FAINT, PAPER, STYLES

MOST_LABELS = 8  # lines that a reader tells apart; of more labels the worst are drawn in colour
_TIPS = 30  # places along a curve that can be pointed at


def roc(curves: Sequence[RocCurve], labels: Sequence[Any], n: int) -> Plot:
    """ROC curves with the point at which the model works (its predicted labels)."""
    if not curves:
        return empty("ROC curve", "Undefined: the rows hold a single label.")
    if len(labels) == 2:
        one = curves[0]
        title = (
            f"Telling {text_of(labels[1], 18)} from {text_of(labels[0], 18)}: ROC AUC {one.auc:.3f}"
        )
        subtitle = (
            f"{formats.count(n, 'row')}; dot: the predicted labels, "
            f"{formats.percent(one.operating_point[1], 0)} found at "
            f"{formats.percent(one.operating_point[0], 0)} false alarms"
        )
    else:
        worst = min(curves, key=lambda curve: curve.auc)
        title = (
            f"Hardest to tell apart: {text_of(labels[worst.label], 20)}, ROC AUC {worst.auc:.3f}"
        )
        subtitle = f"Each label against the rest, {formats.count(n, 'row')}; dot: predicted labels"
    lines = _styled(
        [
            _Line(curve.label, curve.false_positive_rate, curve.true_positive_rate, curve.auc,
                  curve.operating_point)
            for curve in curves
        ],
        labels,
    )  # fmt: skip
    plot, (axes,) = build(title, subtitle, (3.3,), legend=_legend(lines, labels, "AUC"))
    axes.plot([0, 100], [0, 100], color=FAINT, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    _draw(plot, axes, lines, labels, ("false alarms", "found"))
    axes.set_xlabel("False positive rate (%)")
    axes.set_ylabel("True positive rate (%)")
    return plot


def precision_recall(curves: Sequence[PrecisionRecallCurve], labels: Sequence[Any], n: int) -> Plot:
    """Precision-recall curves with the point at which the model works (its predicted labels)."""
    if not curves:
        return empty("Precision and recall", "Undefined: the rows hold a single label.")
    if len(labels) == 2:
        one = curves[0]
        name = text_of(labels[1], 24)
        title = f"Finding {name}: average precision {one.average_precision:.3f}"
        guess = f"dashed: guessing, {formats.percent(one.prevalence, 0)}"
        if one.operating_point is None:
            subtitle = f"{formats.count(n, 'row')}; never predicted; {guess}"
        else:
            recall, precision = one.operating_point
            subtitle = (
                f"{formats.count(n, 'row')}; dot: recall {formats.percent(recall, 0)}, "
                f"precision {formats.percent(precision, 0)}; {guess}"
            )
    else:
        worst = min(curves, key=lambda curve: curve.average_precision)
        title = (
            f"Hardest to find: {text_of(labels[worst.label], 20)}, "
            f"average precision {worst.average_precision:.3f}"
        )
        subtitle = f"Each label against the rest, {formats.count(n, 'row')}; dot: predicted labels"
    lines = _styled(
        [
            _Line(curve.label, curve.recall, curve.precision, curve.average_precision,
                  curve.operating_point)
            for curve in curves
        ],
        labels,
    )  # fmt: skip
    plot, (axes,) = build(title, subtitle, (3.3,), legend=_legend(lines, labels, "AP"))
    if len(labels) == 2:
        axes.axhline(100 * curves[0].prevalence, color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
    _draw(plot, axes, lines, labels, ("recall", "precision"), step=True)
    axes.set_xlabel("Recall (%)")
    axes.set_ylabel("Precision (%)")
    return plot


class _Line:
    """A curve of one label against the rest, in percent and thin enough to draw.

    `color` is None for those that are drawn in grey, because there are too many.
    """

    def __init__(
        self,
        label: int,
        x: npt.NDArray[Any],
        y: npt.NDArray[Any],
        area: float,
        point: tuple[float, float] | None,
    ) -> None:
        keep = np.unique(np.linspace(0, len(x) - 1, 300).round().astype(int))
        self.label, self.area = label, area
        self.x, self.y = 100 * x[keep], 100 * y[keep]
        self.point = (100 * point[0], 100 * point[1]) if point else None
        self.color: str | None = None
        self.marker = "o"


def _styled(lines: list[_Line], labels: Sequence[Any]) -> list[_Line]:
    """The smallest area first; as many in colour as a reader tells apart."""
    colors = list(STYLES.values())
    ranked = sorted(lines, key=lambda line: line.area)
    for order, line in enumerate(ranked[: MOST_LABELS if len(lines) <= MOST_LABELS else 5]):
        place = line.label if len(labels) <= MOST_LABELS else order
        two = len(labels) == 2
        line.color, line.marker = (ACCENT, "o") if two else colors[place % len(colors)]
    return ranked


def _legend(lines: Sequence[_Line], labels: Sequence[Any], area: str) -> list[Entry]:
    """Nothing for two labels, whose only curve is named in the title."""
    if len(labels) == 2:
        return []
    entries: list[Entry] = []
    for line in lines:
        if line.color is not None:
            look: dict[str, Any] = {"color": line.color, "marker": line.marker}
            handle = Line2D([], [], markersize=6, linewidth=1.8, **look)
            entries.append((handle, f"{text_of(labels[line.label], 14)}, {area} {line.area:.3f}"))
    rest = [line for line in lines if line.color is None]
    if rest:
        name = f"{len(rest)} others, {rest[0].area:.2f} to {rest[-1].area:.2f}"
        entries.append((Line2D([], [], color=FAINT, linewidth=1), name))
    return entries


def _draw(
    plot: Plot,
    axes: Axes,
    lines: Sequence[_Line],
    labels: Sequence[Any],
    names: tuple[str, str],
    step: bool = False,
) -> None:
    style = "steps-post" if step else "default"
    two = len(labels) == 2
    for order, line in enumerate(lines):
        if line.color is None:
            axes.plot(line.x, line.y, color=FAINT, linewidth=0.8, alpha=0.7, drawstyle=style)
            continue
        axes.plot(
            line.x,
            line.y,
            color=line.color,
            linewidth=2.2 if two else 1.6,
            drawstyle=style,
            solid_joinstyle="round",
            zorder=5 - order / 100,
            clip_on=False,
        )
        if two:
            axes.fill_between(line.x, line.y, color=line.color, alpha=0.08, linewidth=0,
                              step="post" if step else None)  # fmt: skip
        if line.point:
            axes.plot(
                [line.point[0]],
                [line.point[1]],
                marker=line.marker,
                markersize=9,
                color=line.color,
                markeredgecolor=PAPER,
                markeredgewidth=1.3,
                zorder=6,
                clip_on=False,
            )
        _tips(plot, axes, line, labels, names)
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 100.5)


def _tips(
    plot: Plot, axes: Axes, line: _Line, labels: Sequence[Any], names: tuple[str, str]
) -> None:
    places = np.unique(np.linspace(0, len(line.x) - 1, _TIPS).round().astype(int))
    points = [(float(line.x[place]), float(line.y[place]), "") for place in places]
    if line.point:
        points.append((*line.point, " (predicted labels)"))
    for x, y, note in points:
        said = f"{labels[line.label]}: {names[0]} {x:.1f} %, {names[1]} {y:.1f} %{note}"
        plot.point(axes, x, y, said)
