"""Figures of predictions: which labels are taken for which, what probabilities are worth, and the
curves of each label against the rest."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from pipeline.analysis.evaluation import Calibration, PrecisionRecallCurve, RocCurve, Scores
from pipeline.common import text as formats
from pipeline.report.figures import colours
from pipeline.report.figures.colours import ACCENT, FAINT, INK, MUTED, PAPER, WHITE
from pipeline.report.figures.plot import WIDTH, Entry, Panel, Plot, build, empty, text_of

_MOST_CELLS = 30  # labels of a confusion matrix; of more, all but the most mistaken ones are one
_MOST_LABELS = 8  # lines that a reader tells apart; of more labels the worst are drawn in colour
_TIPS = 30  # places along a curve that can be pointed at
_DASHED = (0, (4, 3))


def most_mistaken(
    counts: npt.NDArray[Any], labels: Sequence[Any], shown: int = _MOST_CELLS
) -> tuple[npt.NDArray[Any], Sequence[Any]]:
    """A confusion matrix of at most `shown` labels, the last of which stands for all others."""
    if len(labels) <= shown:
        return counts, labels
    wrong = counts.sum(axis=0) + counts.sum(axis=1) - 2 * np.diagonal(counts)
    kept = np.sort(np.argsort(-wrong, kind="stable")[: shown - 1])
    place = np.full(len(labels), shown - 1)
    place[kept] = np.arange(shown - 1)
    folded = np.zeros((shown, shown), dtype=counts.dtype)
    np.add.at(folded, (place[:, None], place[None, :]), counts)
    others = f"{len(labels) - shown + 1} others"
    return folded, [*(labels[index] for index in kept), others]


def confusion(scores: Scores, labels: Sequence[Any]) -> Plot:
    """Rows of each true label by predicted label: counts, shaded by the share of the true label.

    Of more than 30 labels those that are mistaken most, and the others together."""
    counts, labels = most_mistaken(scores.confusion, labels)
    classes = len(counts)
    names = [text_of(label, 14 if classes > 4 else 18) for label in labels]
    longest = max(len(name) for name in names)
    left = 0.62 + 0.078 * longest
    wide = max(WIDTH, left + 0.42 * classes + 0.15)
    down = {2: 1.3, 3: 0.95, 4: 0.75}.get(classes, max(0.36, min(0.65, 4.0 / classes)))
    flat = longest * 0.078 < (wide - left - 0.15) / classes  # a name is narrower than a cell
    rows = formats.count(scores.n, "row")
    interval = f"{formats.percent(scores.accuracy_low)} to {formats.percent(scores.accuracy_high)}"
    plot, (axes,) = build(
        f"{formats.percent(scores.accuracy)} of {rows} are labelled right",
        f"95 % interval {interval}. Numbers: rows; shade: share of the true label",
        (classes * down,),
        width=wide,
        left=left,
        bottom=0.75 if flat else 0.6 + 0.06 * longest,
    )
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    for true, predicted in np.ndindex(classes, classes):
        count, share = int(counts[true, predicted]), float(shares[true, predicted])
        text = f"True {labels[true]}, predicted {labels[predicted]}\n"
        text += f"{formats.count(count, 'row')}, {formats.percent(share)} of the true label"
        axes.say((predicted - 0.5, predicted + 0.5), (true - 0.5, true + 0.5), text)
        _cell(axes, true, predicted, count, share, classes)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    look: dict[str, Any] = {"ha": "center"} if flat else {"ha": "right", "rotation": 45}
    axes.set_xticks(range(classes), names, rotation_mode="anchor", fontsize=9, **look)
    axes.set_yticks(range(classes), names, fontsize=9)
    axes.tick_params(length=0, pad=5)
    axes.set(xlabel="Predicted label", ylabel="True label")
    axes.set(xlim=(-0.5, classes - 0.5), ylim=(classes - 0.5, -0.5))
    return plot


def _cell(axes: Panel, true: int, predicted: int, count: int, share: float, classes: int) -> None:
    """The cell of a label, its number as large as the cell allows."""
    right = true == predicted
    color, alpha = (
        ACCENT if right else colours.WRONG,
        round(0.04 + 0.9 * share, 3) if count else 0.0,
    )
    corner = predicted - 0.5, true - 0.5
    axes.add_patch(Rectangle(corner, 1, 1, facecolor=(color, alpha), edgecolor=PAPER))
    if count == 0 and classes > 8:
        return
    few, dark = classes <= 3, share > 0.5
    number = f"{count:,}" if count < 100_000 or classes <= 5 else f"{count / 1000:,.0f}k"
    across, down = (float(pixels) / axes.figure.dpi / classes for pixels in axes.bbox.size)
    size = min(max(6.5, min(17.0, down * 15)), across * 72 / (0.65 * max(len(number), 3)))
    look: dict[str, Any] = {"ha": "center", "va": "center"}
    axes.text(predicted, true - (0.11 if few else 0.0), number, fontsize=size,
              color=WHITE if dark else INK if count else FAINT,
              fontweight="bold" if right and classes <= 8 else "normal", **look)  # fmt: skip
    if few:
        axes.text(predicted, true + 0.2, formats.percent(share, 0), fontsize=10.5,
                  color=WHITE if dark else MUTED, **look)  # fmt: skip


def calibration(curve: Calibration, labels: Sequence[Any]) -> Plot:
    """Predicted probability against observed frequency, with the band of a calibrated model."""
    error = formats.number(100 * curve.error, 2)
    plot, (axes, below) = build(
        f"Probabilities are off by {error} points on average",
        "Grey boxes: where 95 % of perfectly calibrated models would be in each bin",
        (2.5, 0.7),
        gap=0.15,
    )
    starts, widths = curve.low_edge + 0.006, curve.high_edge - curve.low_edge - 0.012
    band = np.maximum(100 * (curve.band_high - curve.band_low), 0.6)
    axes.bar(starts, band, widths, 100 * curve.band_low, align="edge", color=colours.BAND, zorder=1)
    axes.plot([0, 1], [0, 100], color=FAINT, linewidth=1, linestyle=_DASHED, zorder=2)
    axes.plot(curve.predicted, 100 * curve.observed, color=ACCENT, linewidth=1.8, marker="o",
              markersize=7, markeredgecolor=PAPER, zorder=4, clip_on=False)  # fmt: skip
    for place, count in enumerate(curve.count.tolist()):
        predicted, observed = map(formats.percent, (curve.predicted[place], curve.observed[place]))
        ends = (formats.percent(band[place], 0) for band in (curve.band_low, curve.band_high))
        text = f"{formats.count(count, 'row')}\npredicted {predicted}, came true {observed}\n"
        text += f"calibrated: {' to '.join(ends)}"
        axes.say((curve.low_edge[place], curve.high_edge[place]), (0, 100), text)
    below.bar(starts, curve.count, widths, align="edge", color=ACCENT, alpha=0.55)
    below.yaxis.set_major_locator(MaxNLocator(2, integer=True))
    below.yaxis.set_major_formatter("{x:,.0f}")
    for panel in (axes, below):
        panel.set(xlim=(0, 1), xticks=np.linspace(0, 1, 6))
    y, x = "Share of these right (%)", "Probability of the predicted label"
    if not curve.of_predicted_label:
        y = f"Observed share of {text_of(labels[1], 18)} (%)"
        x = f"Predicted probability of {text_of(labels[1], 30)}"
    axes.set(ylim=(0, 100), ylabel=y)
    axes.tick_params(labelbottom=False)
    below.set(xlabel=x, ylabel="Rows")
    return plot


@dataclass(frozen=True)
class _Line:
    """A curve of one label against the rest, in shares."""

    label: int
    x: npt.NDArray[Any]
    y: npt.NDArray[Any]
    area: float
    point: tuple[float, float] | None  # where the predicted labels lie

    def percent(self, most: int = 300) -> npt.NDArray[Any]:
        """Places along it [2, at most `most`] in per cent, even along the thresholds."""
        keep = np.unique(np.linspace(0, len(self.x) - 1, most).round().astype(int))
        return 100 * np.stack([self.x[keep], self.y[keep]])


def roc(curves: Sequence[RocCurve], labels: Sequence[Any], n: int) -> Plot:
    """ROC curves on `n` rows with the point at which the model works (its predicted labels)."""
    if not curves:
        return empty("ROC curve", "Undefined: the rows hold a single label.")
    lines = [
        _Line(c.label, c.false_positive_rate, c.true_positive_rate, c.auc, c.operating_point)
        for c in curves
    ]
    task = "Hardest to tell apart"
    if len(labels) == 2:
        task = f"Telling {text_of(labels[1], 18)} from {text_of(labels[0], 18)}"
    names = ("ROC AUC", "false positive rate", "true positive rate")
    return _against_the_rest(lines, labels, n, task, names, guess=(0.0, 1.0))


def precision_recall(curves: Sequence[PrecisionRecallCurve], labels: Sequence[Any], n: int) -> Plot:
    """Precision-recall curves on `n` rows with the point at which the model works."""
    if not curves:
        return empty("Precision and recall", "Undefined: the rows hold a single label.")
    lines = [
        _Line(c.label, c.recall, c.precision, c.average_precision, c.operating_point)
        for c in curves
    ]
    task, guess = "Hardest to find", None  # what guessing reaches differs by label
    if len(labels) == 2:
        task, guess = f"Finding {text_of(labels[1], 24)}", (curves[0].prevalence,) * 2
    names = ("average precision", "recall", "precision")
    return _against_the_rest(lines, labels, n, task, names, guess, step=True)


def _against_the_rest(
    lines: Sequence[_Line],
    labels: Sequence[Any],
    n: int,
    task: str,
    names: tuple[str, str, str],
    guess: tuple[float, float] | None,
    step: bool = False,
) -> Plot:
    """The curves in colour, the smallest area first; of too many labels the others in grey.

    Args:
        task: what is hardest with the label that has the smallest area; of two labels, what their
            only curve is of.
        names: of the area, and of what is along x and y.
        guess: heights of the line of guessing at x = 0 and 1."""
    two, rows = len(labels) == 2, formats.count(n, "row")
    ranked = sorted(lines, key=lambda line: line.area)
    count = len(ranked) if len(ranked) <= _MOST_LABELS else 5
    worst, others = ranked[0], ranked[count:]
    legend: list[Entry] = []
    area, *sides = names
    if two:
        styles = [(ACCENT, "o")]
        title, subtitle = f"{task}: {area} {worst.area:.3f}", f"{rows}; never predicted"
        if worst.point is not None:
            x, y = (formats.percent(share, 0) for share in worst.point)
            subtitle = f"{rows}; dot: the predicted labels, {sides[0]} {x}, {sides[1]} {y}"
    else:
        title = f"{task}: {text_of(labels[worst.label], 20)}, {area} {worst.area:.3f}"
        subtitle = f"Each label against the rest, {rows}, with its {area}; dot: predicted labels"
        palette = [*colours.STYLES.values()]
        few = len(labels) <= _MOST_LABELS
        styles = [palette[ranked[place].label if few else place] for place in range(count)]
        for line, (color, marker) in zip(ranked, styles, strict=False):
            handle = Line2D([], [], markersize=6, linewidth=1.8, color=color, marker=marker)
            legend.append((handle, f"{text_of(labels[line.label], 14)}, {line.area:.3f}"))
    if others:
        name = f"{len(others)} others, {others[0].area:.2f} to {others[-1].area:.2f}"
        legend.append((Line2D([], [], color=FAINT, linewidth=1), name))
    if guess is not None:
        level = f", {formats.percent(guess[0], 0)}" if guess[0] == guess[1] else ""
        subtitle += f"; dashed: guessing{level}"
    plot, (axes,) = build(title, subtitle, (3.3,), legend=legend)
    if guess is not None:
        axes.plot([0, 100], 100 * np.array(guess), color=FAINT, linewidth=1, linestyle=_DASHED)
    style: Any = "steps-post" if step else "default"
    for line in others:
        axes.plot(*line.percent(), color=FAINT, linewidth=0.8, alpha=0.7, drawstyle=style)
    for order, (line, (color, marker)) in enumerate(zip(ranked, styles, strict=False)):
        x, y = line.percent()
        axes.plot(x, y, color=color, linewidth=2.2 if two else 1.6, drawstyle=style,
                  solid_joinstyle="round", zorder=4.5 - order / 100, clip_on=False)  # fmt: skip
        if two:
            axes.fill_between(x, y, color=color, alpha=0.08, linewidth=0,
                              step="post" if step else None)  # fmt: skip
        points = [(*point, "") for point in line.percent(_TIPS).T.tolist()]
        if line.point is not None:
            across, up = (100 * share for share in line.point)
            axes.mark([across], [up], (color, marker), 9, clip_on=False)
            points.append((across, up, " (predicted labels)"))
        for across, up, what in points:
            text = f"{labels[line.label]}: {sides[0]} {across:.1f} %, {sides[1]} {up:.1f} %{what}"
            axes.say(across, up, text)
    axes.set(xlim=(0, 100), ylim=(0, 100.5))
    axes.set(xlabel=f"{sides[0].capitalize()} (%)", ylabel=f"{sides[1].capitalize()} (%)")
    return plot
