"""Figures of an evaluation: which labels are taken for which, and what probabilities are worth."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from pipeline.analysis.evaluation import Calibration, Scores
from pipeline.common import text as formats
from pipeline.report.figures.axes import WIDTH, Plot, build, text_of
from pipeline.report.figures.colours import ACCENT, BAND, FAINT, INK, MUTED, PAPER, WHITE

_MOST_LABELS = 30  # of more, all but the most mistaken ones are one


def most_mistaken(
    counts: npt.NDArray[Any], labels: Sequence[Any], shown: int = _MOST_LABELS
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

    Of more than 30 labels those that are mistaken most, and the others together.
    """
    counts, labels = most_mistaken(scores.confusion, labels)
    classes = len(counts)
    names = [text_of(label, 14 if classes > 4 else 18) for label in labels]
    longest = max(len(name) for name in names)
    left = 0.62 + 0.078 * longest
    wide = max(WIDTH, left + 0.42 * classes + 0.15)
    across = (wide - left - 0.15) / classes  # inches of a cell
    down = {2: 1.3, 3: 0.95, 4: 0.75}.get(classes, max(0.36, min(0.65, 4.0 / classes)))
    flat = longest * 0.078 < across
    bottom = 0.75 if flat else 0.6 + 0.06 * longest
    right = formats.percent(scores.accuracy)
    title = f"{right} of {formats.count(scores.n, 'row')} are labelled right"
    interval = f"{formats.percent(scores.accuracy_low)} to {formats.percent(scores.accuracy_high)}"
    subtitle = f"95 % interval {interval}. Numbers: rows; shade: share of the true label"
    plot, (axes,) = build(title, subtitle, (classes * down,), width=wide, left=left, bottom=bottom)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    size = max(6.5, min(17.0, down * 15))
    for true in range(classes):
        for said in range(classes):
            share, count = float(shares[true, said]), int(counts[true, said])
            plot.box(
                axes,
                (said - 0.5, said + 0.5),
                (true - 0.5, true + 0.5),
                f"True {labels[true]}, predicted {labels[said]}\n"
                f"{formats.count(count, 'row')}, {formats.percent(share)} of the true label",
            )
            hit = true == said
            axes.add_patch(
                Rectangle(
                    (said - 0.5, true - 0.5),
                    1,
                    1,
                    facecolor=ACCENT if hit else "#d55e00",
                    alpha=round(0.04 + 0.9 * share, 3) if count else 0.0,
                    linewidth=0,
                )
            )
            if count == 0 and classes > 8:
                continue
            color = WHITE if share > 0.5 else (INK if count else FAINT)
            lift = 0.11 if classes <= 3 else 0.0
            number = f"{count:,}" if count < 100_000 or classes <= 5 else f"{count / 1000:,.0f}k"
            axes.text(
                said,
                true - lift,
                number,
                ha="center",
                va="center",
                color=color,
                fontsize=min(size, across * 72 / (0.65 * max(len(number), 3))),
                fontweight="bold" if hit and classes <= 8 else "normal",
            )
            if classes <= 3:
                axes.text(
                    said,
                    true + 0.2,
                    formats.percent(share, 0),
                    ha="center",
                    va="center",
                    color=WHITE if share > 0.5 else MUTED,
                    fontsize=10.5,
                )
    edges = np.arange(classes + 1) - 0.5
    axes.hlines(edges, -0.5, classes - 0.5, color=PAPER, linewidth=1.2)
    axes.vlines(edges, -0.5, classes - 0.5, color=PAPER, linewidth=1.2)
    axes.set_xlim(-0.5, classes - 0.5)
    axes.set_ylim(classes - 0.5, -0.5)
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xticks(
        range(classes),
        names,
        rotation=0 if flat else 45,
        ha="center" if flat else "right",
        rotation_mode="anchor",
        fontsize=9,
    )
    axes.set_yticks(range(classes), names, fontsize=9)
    axes.tick_params(length=0, pad=5)
    axes.set_xlabel("Predicted label")
    axes.set_ylabel("True label")
    return plot


def calibration(curve: Calibration, labels: Sequence[Any]) -> Plot:
    """Predicted probability against observed frequency, with the band of a calibrated model."""
    error = formats.number(100 * curve.error, 2)
    plot, (axes, below) = build(
        f"Probabilities are off by {error} points on average",
        "Grey boxes: where 95 % of perfectly calibrated models would be in each bin",
        (2.5, 0.7),
        gap=0.15,
    )
    for low, high, start, end in zip(
        curve.band_low, curve.band_high, curve.low_edge, curve.high_edge, strict=True
    ):
        axes.add_patch(
            Rectangle(
                (start + 0.006, 100 * low),
                end - start - 0.012,
                max(100 * (high - low), 0.6),
                facecolor=BAND,
                linewidth=0,
                zorder=1,
            )
        )
    axes.plot([0, 1], [0, 100], color=FAINT, linewidth=1, linestyle=(0, (4, 3)), zorder=2)
    axes.plot(
        curve.predicted,
        100 * curve.observed,
        color=ACCENT,
        linewidth=1.8,
        marker="o",
        markersize=7,
        markeredgecolor=PAPER,
        zorder=4,
        clip_on=False,
    )
    for place in range(len(curve.count)):
        plot.box(
            axes,
            (float(curve.low_edge[place]), float(curve.high_edge[place])),
            (0, 100),
            f"{formats.count(int(curve.count[place]), 'row')}\n"
            f"predicted {formats.percent(float(curve.predicted[place]))}, "
            f"came true {formats.percent(float(curve.observed[place]))}\n"
            f"calibrated: {formats.percent(float(curve.band_low[place]), 0)} to "
            f"{formats.percent(float(curve.band_high[place]), 0)}",
        )
    axes.set_ylim(0, 100)
    axes.tick_params(labelbottom=False)
    if curve.of_predicted_label:
        axes.set_ylabel("Share of these right (%)")
        below.set_xlabel("Probability of the predicted label")
    else:
        axes.set_ylabel(f"Observed share of {text_of(labels[1], 18)} (%)")
        below.set_xlabel(f"Predicted probability of {text_of(labels[1], 30)}")
    below.bar(
        curve.low_edge,
        curve.count,
        curve.high_edge - curve.low_edge - 0.012,
        align="edge",
        color=ACCENT,
        alpha=0.55,
        linewidth=0,
    )
    below.set_ylabel("Rows")
    below.yaxis.set_major_locator(MaxNLocator(2, integer=True, min_n_ticks=1))
    below.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    for part in (axes, below):
        part.set_xlim(0, 1)
        part.set_xticks(np.linspace(0, 1, 6))
    return plot
