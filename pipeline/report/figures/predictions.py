"""Figures of predictions: which labels are taken for which, what probabilities are worth, and the
curves of each label against the rest."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from pipeline.analysis.comparison import Floats
from pipeline.analysis.evaluation import Calibration, Curve, Evaluation, Scores
from pipeline.common import text as formats
from pipeline.report.figures import colours
from pipeline.report.figures.colours import ACCENT, FAINT, INK, PAPER, STYLES, WHITE
from pipeline.report.figures.plot import WIDTH, Entry, Plot, text_of

_MOST_CELLS = 30  # labels that a confusion matrix can show
_MOST_CURVES = 8  # lines that a reader tells apart
_GUESS: dict[str, Any] = {"color": FAINT, "linewidth": 1, "linestyle": (0, (4, 3)), "zorder": 2}


def evaluation_figures(evaluation: Evaluation, labels: Sequence[Any]) -> dict[str, Plot]:
    """The figures of an evaluation: confusion (of 30 labels at most), calibration, and, where the
    rows hold several labels, roc and precision_recall.

    `labels[i]` is the name of class id i."""
    figures: dict[str, Plot] = {}
    if len(labels) <= _MOST_CELLS:
        figures["confusion"] = confusion(evaluation.scores, labels)
    figures["calibration"] = calibration(evaluation.calibration, labels)
    if evaluation.roc:
        figures["roc"] = roc(evaluation, labels)
        figures["precision_recall"] = precision_recall(evaluation, labels)
    return figures


def confusion(scores: Scores, labels: Sequence[Any]) -> Plot:
    """Rows of each true label by predicted label: counts, shaded by the share of the true label."""
    counts, classes = scores.confusion, len(labels)
    names = [text_of(label, 18) for label in labels]
    longest = 0.078 * max(map(len, names))  # inches, as the tick labels are
    width = max(WIDTH, 0.8 + longest + 0.42 * classes)
    cell = (width - 0.8 - longest) / classes
    is_flat = longest < cell
    interval = f"{formats.percent(scores.accuracy_low)} to {formats.percent(scores.accuracy_high)}"
    rows = formats.count(scores.n, "row")
    plot = Plot(
        f"{formats.percent(scores.accuracy)} of {rows} are labelled right",
        f"95 % interval {interval}. Numbers: rows; shade: share of the true label",
        (max(2.7, 0.36 * classes + (0 if is_flat else longest)),),
        width=width,
    )
    (axes,) = plot.panels
    size = min(14.0, 72 * cell / (0.65 * max(3, len(f"{counts.max():,}"))))
    shares = counts / counts.sum(axis=1, keepdims=True).clip(1)
    for true, predicted in np.argwhere(counts):
        count, share = counts[true, predicted], float(shares[true, predicted])
        shade = (ACCENT if true == predicted else colours.WRONG, round(0.04 + 0.9 * share, 3))
        corner = predicted - 0.5, true - 0.5
        axes.add_patch(Rectangle(corner, 1, 1, facecolor=shade, edgecolor=PAPER))
        text = f"{count:,}\n{formats.percent(share, 0)}" if classes <= 4 else f"{count:,}"
        axes.text(predicted, true, text, fontsize=size, color=WHITE if share > 0.5 else INK,
                  ha="center", va="center")  # fmt: skip
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.set_xticks(range(classes), names, rotation=0 if is_flat else 90)
    axes.set_yticks(range(classes), names)
    axes.tick_params(length=0, pad=5)
    axes.set(xlabel="Predicted label", ylabel="True label")
    axes.set(xlim=(-0.5, classes - 0.5), ylim=(classes - 0.5, -0.5))
    return plot


def calibration(curve: Calibration, labels: Sequence[Any]) -> Plot:
    """Predicted probability against observed frequency, with the band of a calibrated model."""
    error = formats.number(100 * curve.error, 2)
    plot = Plot(
        f"Probabilities are off by {error} points on average",
        "Grey bars: where 95 % of perfectly calibrated models would be in each bin",
        (2.5, 0.7),
    )
    axes, below = plot.panels
    band = 100 * curve.band_low, 100 * curve.band_high
    axes.vlines(curve.predicted, *band, color=colours.BAND, linewidth=14, zorder=1)
    axes.plot([0, 1], [0, 100], **_GUESS)
    axes.plot(curve.predicted, 100 * curve.observed, color=ACCENT, linewidth=1.8, marker="o",
              markersize=7, markeredgecolor=PAPER, zorder=4, clip_on=False)  # fmt: skip
    below.bar(curve.predicted, curve.count, 0.05, color=ACCENT, alpha=0.55)
    below.yaxis.set_major_locator(MaxNLocator(2, integer=True))
    below.yaxis.set_major_formatter("{x:,.0f}")
    y, x = "Share of these right (%)", "Probability of the predicted label"
    if len(labels) == 2:
        y = f"Observed share of {text_of(labels[1], 18)} (%)"
        x = f"Predicted probability of {text_of(labels[1], 30)}"
    axes.set(xlim=(0, 1), ylim=(0, 100), ylabel=y)
    below.set(xlabel=x, ylabel="Rows")
    return plot


def roc(evaluation: Evaluation, labels: Sequence[Any]) -> Plot:
    """ROC curves with the point at which the model works (its predicted labels)."""
    counts = evaluation.scores.confusion
    hits, said, true = counts.diagonal(), counts.sum(axis=0), counts.sum(axis=1)
    points = np.array([(said - hits) / (counts.sum() - true).clip(1), hits / true.clip(1)])
    names = ("ROC AUC", "False positive rate (%)", "True positive rate (%)")
    return _against_the_rest(evaluation.roc, points, labels, names, (0.0, 1.0))


def precision_recall(evaluation: Evaluation, labels: Sequence[Any]) -> Plot:
    """Precision-recall curves with the point at which the model works; a label that is never
    predicted has none."""
    counts = evaluation.scores.confusion
    hits, said, true = counts.diagonal(), counts.sum(axis=0), counts.sum(axis=1)
    points = np.array([hits / true.clip(1), np.where(said, hits / said.clip(1), np.nan)])
    names = ("average precision", "Recall (%)", "Precision (%)")
    # What guessing reaches is another for each of several labels.
    guess = (true[1] / counts.sum(),) * 2 if len(labels) == 2 else None
    return _against_the_rest(
        evaluation.precision_recall, points, labels, names, guess, "steps-post"
    )


def _against_the_rest(
    curves: Sequence[Curve],
    points: Floats,
    labels: Sequence[Any],
    names: tuple[str, str, str],
    guess: tuple[float, float] | None,
    drawstyle: Literal["default", "steps-post"] = "default",
) -> Plot:
    """The curves, one at least, of too many labels those with the smallest area.

    Args:
        points: (x, y) [2, C] of the predicted labels.
        names: of the area, and of what is along x and y.
        guess: heights of the line of guessing at x = 0 and 1."""
    area, *sides = names
    hardest = sorted(curves, key=lambda curve: curve.area)[:_MOST_CURVES]
    # In the order of the labels, so that one has the same colour in both figures.
    styled = list(
        zip(sorted(hardest, key=lambda curve: curve.label), STYLES.values(), strict=False)
    )
    title = f"{text_of(labels[hardest[0].label], 20)}: {area} {hardest[0].area:.3f}"
    subtitle = "Dot: the predicted labels" + ("; dashed: guessing" if guess is not None else "")
    legend: list[Entry] = []
    if len(labels) > 2:
        title = f"Hardest is {title}"
        whose = "Each label" if len(hardest) == len(curves) else f"{_MOST_CURVES} labels, each"
        subtitle = f"{whose} against the rest, with its {area}. {subtitle}"
        for curve, (color, marker) in styled:
            handle = Line2D([], [], markersize=6, linewidth=1.8, color=color, marker=marker)
            legend.append((handle, f"{text_of(labels[curve.label], 14)}, {curve.area:.3f}"))
    plot = Plot(title, subtitle, (3.3,), legend=legend)
    (axes,) = plot.panels
    if guess is not None:
        axes.plot([0, 100], 100 * np.array(guess), **_GUESS)
    for curve, (color, marker) in styled:
        axes.plot(100 * curve.x, 100 * curve.y, color=color, linewidth=1.8, drawstyle=drawstyle,
                  zorder=4, clip_on=False)  # fmt: skip
        x, y = 100 * points[:, curve.label]
        axes.mark([x], [y], (color, marker), 9, clip_on=False)
    axes.set(xlim=(0, 100), ylim=(0, 100.5), xlabel=sides[0], ylabel=sides[1])
    return plot
