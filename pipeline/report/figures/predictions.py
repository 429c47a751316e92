"""Figures of predictions: which labels are taken for which, and what probabilities are worth."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.analysis.evaluation import Calibration, Evaluation, Scores
from pipeline.common import text as formats
from pipeline.report.figures import colours
from pipeline.report.figures.colours import ACCENT, FAINT, INK, PAPER, WHITE
from pipeline.report.figures.plot import WIDTH, Plot, text_of

_MOST_CELLS = 30  # labels that a confusion matrix can show


def evaluation_figures(evaluation: Evaluation, labels: Sequence[Any]) -> dict[str, Plot]:
    """The figures of an evaluation: confusion (of 30 labels at most) and calibration.

    `labels[i]` is the name of class id i."""
    figures: dict[str, Plot] = {}
    if len(labels) <= _MOST_CELLS:
        figures["confusion"] = confusion(evaluation.scores, labels)
    figures["calibration"] = calibration(evaluation.calibration, labels)
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
    places = np.arange(classes + 1) - 0.5
    axes.pcolormesh(places, places, shares, cmap="Blues", vmin=0, vmax=1.1, edgecolors=PAPER)
    for true, predicted in np.argwhere(counts):
        color = WHITE if shares[true, predicted] > 0.5 else INK
        axes.text(predicted, true, f"{counts[true, predicted]:,}", fontsize=size, color=color,
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
    bins = formats.count(len(curve.count), "group")
    title = f"No sign that probabilities are off, in {bins} of rows"
    if curve.off:
        title = f"Probabilities are off in {curve.off} of {bins} of rows, beyond chance"
    plot = Plot(
        title,
        f"Groups of about {round(float(curve.count.mean())):,} rows each, by their probability. "
        "Grey: where 95 % of models would be whose probabilities hold",
        (2.7,),
    )
    (axes,) = plot.panels
    axes.plot([0, 100], [0, 100], color=FAINT, linewidth=1, linestyle=(0, (4, 3)), zorder=2)
    predicted, observed = 100 * curve.predicted, 100 * curve.observed
    band = 100 * curve.band_low, 100 * curve.band_high
    axes.vlines(predicted, *band, color=colours.BAND, linewidth=9, zorder=1)
    axes.mark(predicted, observed, (ACCENT, "o"), clip_on=False)
    y, x = "Share of these right (%)", "Probability of the predicted label (%)"
    if len(labels) == 2:
        y = f"Observed share of {text_of(labels[1], 18)} (%)"
        x = f"Predicted probability of {text_of(labels[1], 26)} (%)"
    axes.set(xlim=(0, 100), ylim=(0, 100), xlabel=x, ylabel=y)
    return plot
