"""The figures of a search and of an evaluation: each says in its title what is seen in it.

Every function returns a `matplotlib.figure.Figure` that belongs to nobody else: pyplot and its
global state are not used. `png` draws it on white at twice the screen's resolution, `svg` for a
page whose style sheet holds `css_variables`, so that one drawing serves light and dark.
"""

import io
import re
import textwrap
import warnings
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from pipeline import formats
from pipeline.evaluation import Calibration, Evaluation, PrecisionRecallCurve, RocCurve, Scores
from pipeline.ranking import (
    Objective,
    TrialResult,
    best_per_optimizer,
    best_trial,
    completed,
    ranking,
)

PIXELS_PER_INCH = 200  # twice the 100 of a page, at which a figure of 6.4 inches is 640 pixels wide

INK, MUTED, FAINT, GRID, BAND, PAPER = (
    "#1f2328",
    "#5b636b",
    "#a9b0b7",
    "#e6e8eb",
    "#dfe3e8",
    "#fefefe",
)
WHITE = "#ffffff"
# Okabe and Ito's palette first, then Paul Tol's muted one: both told apart by colour-blind readers;
# each optimizer has a marker of its own besides.
_STYLES = {
    "SGD": ("#0072b2", "o"),
    "Adagrad": ("#e69f00", "s"),
    "RMSprop": ("#009e73", "^"),
    "Adam": ("#d55e00", "D"),
    "AdamW": ("#cc79a7", "v"),
    "NAdam": ("#56b4e9", "P"),
    "RAdam": ("#332288", "p"),
    "Adamax": ("#882255", "h"),
    "Adadelta": ("#6b7280", "<"),
    "ASGD": ("#999933", ">"),
    "Rprop": ("#44aa99", "8"),
    "Adafactor": ("#117733", "d"),
}
ACCENT = "#0072b2"
# What each colour becomes on a dark page.
_DARK = {
    INK: "#e8eaed",
    MUTED: "#a4abb3",
    FAINT: "#6c757f",
    GRID: "#2b3036",
    BAND: "#333a42",
    PAPER: "#15181c",
    "#0072b2": "#4ba3e3",
    "#e69f00": "#f0b429",
    "#009e73": "#2bc59a",
    "#d55e00": "#f47b3a",
    "#cc79a7": "#e29bc3",
    "#56b4e9": "#8fd0f7",
    "#332288": "#9a8cf0",
    "#882255": "#d9668f",
    "#6b7280": "#9aa3af",
    "#999933": "#c2c25a",
    "#44aa99": "#6fd0c0",
    "#117733": "#5cc07c",
}
_MOST_LABELS = 8  # lines that a reader tells apart; of more labels the worst are drawn in colour


def optimizer_style(name: str) -> tuple[str, str]:
    """Colour (hex) and marker of an optimizer: fixed per name, in every figure of every search."""
    if name in _STYLES:
        return _STYLES[name]
    return list(_STYLES.values())[zlib.crc32(name.encode()) % len(_STYLES)]


def css_name(color: str) -> str:
    """The custom property that stands for a colour of these figures in `svg` output."""
    return f"--plot-{color.lstrip('#')}"


def css_variables(dark: bool = False) -> str:
    """Declarations of every colour, for the style sheet of the page that holds `svg` output."""
    return "".join(f"{css_name(light)}:{_DARK[light] if dark else light};" for light in _DARK)


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


def svg(figure: Figure, prefix: str) -> str:
    """The figure as an `<svg>` element with transparent ground, real text and CSS colours.

    `prefix` (letters, digits, `-`) keeps the ids of several figures on one page apart.
    """
    target = io.BytesIO()
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": prefix}
    with warnings.catch_warnings(), matplotlib.rc_context(settings):
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        FigureCanvasSVG(figure).print_figure(
            target, format="svg", facecolor="none", metadata={"Date": None, "Creator": None}
        )
    text = target.getvalue().decode("utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r"<(metadata|style)\b.*?</\1>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", text)
    text = re.sub(r'(<svg [^>]*?) (?:width|height)="[^"]*"', r"\1", text)
    text = re.sub(r'(<svg [^>]*?) (?:width|height)="[^"]*"', r"\1", text)
    colors = re.compile("|".join(_DARK))
    return colors.sub(lambda match: f"var({css_name(match.group())})", text)


def save(figures: Mapping[str, Figure], directory: Path) -> list[Path]:
    """Writes NAME.png for each figure into `directory`, which is made when missing."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, figure in figures.items():
        path = directory / f"{name}.png"
        path.write_bytes(png(figure))
        paths.append(path)
    return paths


def search_figures(
    trials: Sequence[TrialResult], objective: Objective = "val_accuracy"
) -> dict[str, Figure]:
    """The figures of a search by file name: learning_rate, curves, history."""
    return {
        "learning_rate": learning_rate(trials, objective),
        "curves": learning_curves(trials, objective),
        "history": history(trials, objective),
    }


def evaluation_figures(evaluation: Evaluation, labels: Sequence[Any]) -> dict[str, Figure]:
    """The figures of an evaluation: confusion, calibration, roc, precision_recall.

    `labels[i]` is the name of class id i.
    """
    return {
        "confusion": confusion(evaluation.scores, labels),
        "calibration": calibration(evaluation.calibration, labels),
        "roc": roc(evaluation.roc, labels, evaluation.scores.n),
        "precision_recall": precision_recall(
            evaluation.precision_recall, labels, evaluation.scores.n
        ),
    }


# Search ------------------------------------------------------------------------------------------


def learning_rate(trials: Sequence[TrialResult], objective: Objective = "val_accuracy") -> Figure:
    """Learning rate (log) against the objective, one mark per trial; the best is ringed."""
    value, axis = _objective(objective)
    best = best_trial(trials, objective)
    shown = [trial for trial in trials if trial.lr > 0]  # 0 has no place on a log axis
    if best is None:
        figure, axes = _figure("No trial completed", _states(trials), right=1.45)
    else:
        title = (
            f"{_text(best.optimizer, 20)} at learning rate {formats.number(best.lr, 2)} is best: "
            f"{_reached(best, objective)}"
        )
        mean = f", mean of {len(best.fits)} folds" if len(best.fits) > 1 else ""
        figure, axes = _figure(title, f"One mark per trial{mean}; ringed: the best", right=1.45)
    _scatter(axes, shown, lambda trial: trial.lr, value)
    _log_axis(axes, [trial.lr for trial in shown])
    if best is not None and best.lr > 0:
        _ring(axes, best.lr, value(best) or 0.0)
    _value_limits(axes, [v for t in shown if (v := value(t)) is not None], objective)
    axes.set_xlabel("Learning rate (log scale)")
    axes.set_ylabel(axis)
    _optimizer_legend(axes, shown)
    return figure


def learning_curves(trials: Sequence[TrialResult], objective: Objective = "val_accuracy") -> Figure:
    """Validation loss and accuracy per epoch of the best trial of each optimizer."""
    best = [
        trial
        for trial in best_per_optimizer(trials, objective)
        if np.isfinite(trial.curves.get("val_loss", ())).any()
    ]
    if not best:
        return _empty("Learning curves", "No trial completed.", width=8.0)
    title = (
        "How the best trial of each optimizer learns"
        if len(best) > 1
        else (f"How the best trial of {_text(best[0].optimizer, 20)} learns")
    )
    figure, left = _figure(
        title, "Mean over folds on validation rows; dot: the epoch that is kept", 8.0, right=4.8
    )
    _, right = _panel(figure, 8.0, 4.0, left=4.2, right=1.6)
    panels: tuple[tuple[Axes, str, str, float], ...] = (
        (left, "val_loss", "Validation loss (nats)", 1.0),
        (right, "val_accuracy", "Validation accuracy (%)", 100.0),
    )
    for axes, key, label, scale in panels:
        drawn = []
        for order, trial in enumerate(best):
            color, marker = optimizer_style(trial.optimizer)
            values = np.asarray(trial.curves.get(key, ()), dtype=np.float64) * scale
            finite = np.isfinite(values)
            if not finite.any():
                continue
            drawn.append(values[finite])
            epochs = np.arange(1, len(values) + 1)
            axes.plot(
                epochs[finite],
                values[finite],
                color=color,
                linewidth=2.0 if order == 0 else 1.3,
                zorder=10 - order / 100,
                solid_capstyle="round",
                marker=marker if finite.sum() == 1 else None,
            )
            if trial.best_epoch is not None:
                kept = min(max(trial.best_epoch, 1.0), float(len(values)))
                height = float(np.interp(kept, epochs[finite], values[finite]))
                axes.plot(
                    [kept],
                    [height],
                    marker=marker,
                    markersize=7,
                    color=color,
                    markeredgecolor=PAPER,
                    markeredgewidth=1,
                    zorder=12,
                )
        if drawn:
            everything = np.concatenate(drawn)
            # A learning rate too high starts far above what matters: leave the few such epochs out.
            low, high = np.quantile(everything, [0.0, 0.99] if scale == 1 else [0.01, 1.0])
            _limits(axes, low, high, smallest=0.02 * scale)
        longest = max(len(trial.curves.get(key, ())) for trial in best)
        axes.set_xlim(0, max(longest, 2) * 1.02)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set_xlabel("Epoch")
        axes.set_ylabel(label)
    handles, names = [], []
    for trial in best:
        color, marker = optimizer_style(trial.optimizer)
        handles.append(Line2D([], [], color=color, marker=marker, markersize=6, linewidth=1.8))
        between = "\nlr " if len(best) <= 8 else " "
        names.append(f"{_text(trial.optimizer, 14)}{between}{formats.number(trial.lr, 2)}")
    _legend(right, handles, names)
    return figure


def history(trials: Sequence[TrialResult], objective: Objective = "val_accuracy") -> Figure:
    """The objective of each trial in the order of asking, and the best so far."""
    value, axis = _objective(objective)
    done = sorted(completed(trials), key=lambda trial: trial.number)
    best = best_trial(done, objective)
    if best is None:
        figure, axes = _figure("No trial completed", _states(trials), right=1.45)
    else:
        of = formats.count(len(trials), "trial")
        title = f"Trial {best.number} is the best of {of}: {_reached(best, objective)}"
        figure, axes = _figure(title, "One mark per trial; line: the best so far", right=1.45)
    _scatter(axes, trials, lambda trial: float(trial.number), value, alpha=0.6)
    if best is not None:
        numbers, record, steps = [], done[0], []
        for trial in done:
            record = min(record, trial, key=lambda t: ranking(t, objective))
            numbers.append(trial.number)
            steps.append(value(record) or 0.0)
        last = max(trial.number for trial in trials)
        axes.step(
            [*numbers, last], [*steps, steps[-1]], where="post", color=INK, linewidth=1.6, zorder=4
        )
        _ring(axes, best.number, value(best) or 0.0)
    _value_limits(axes, [v for t in trials if (v := value(t)) is not None], objective)
    first = min((trial.number for trial in trials), default=0)
    last = max((trial.number for trial in trials), default=1)
    pad = max(1.0, (last - first) * 0.03)
    axes.set_xlim(first - pad, last + pad)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.set_xlabel("Trial number")
    axes.set_ylabel(axis)
    _optimizer_legend(axes, trials, best_so_far=best is not None)
    return figure


def _objective(
    objective: Objective,
) -> tuple[Callable[[TrialResult], float | None], str]:
    """What is drawn of a trial, and the label of its axis."""
    if objective == "val_accuracy":
        return _accuracy_percent, "Validation accuracy (%)"
    return _loss, "Validation loss (nats)"


def _reached(trial: TrialResult, objective: Objective) -> str:
    if objective == "val_accuracy":
        return formats.percent(trial.accuracy)
    return f"loss {formats.number(trial.loss)}"


def _states(trials: Sequence[TrialResult]) -> str:
    if not trials:
        return "There are no trials yet"
    failed = sum(trial.state == "FAIL" for trial in trials)
    pruned = sum(trial.state == "PRUNED" for trial in trials)
    return f"{formats.count(len(trials), 'trial')}: {failed} failed, {pruned} pruned"


def _accuracy_percent(trial: TrialResult) -> float | None:
    known = trial.accuracy is not None and np.isfinite(trial.accuracy)
    return 100 * trial.accuracy if known and trial.accuracy is not None else None


def _loss(trial: TrialResult) -> float | None:
    return trial.loss if trial.loss is not None and np.isfinite(trial.loss) else None


def _scatter(
    axes: Axes,
    trials: Sequence[TrialResult],
    x: Callable[[TrialResult], float],
    y: Callable[[TrialResult], float | None],
    alpha: float = 0.85,
) -> None:
    groups: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for trial in trials:
        height = y(trial)
        if trial.state == "FAIL" or height is None:
            # At the bottom edge: a height in the axes' own units.
            state, height = ("failed" if trial.state == "FAIL" else "unscored"), 0.025
        else:
            state = "pruned" if trial.state == "PRUNED" else "complete"
        groups.setdefault((trial.optimizer, state), []).append((x(trial), height))
    looks: dict[str, dict[str, Any]] = {
        "complete": {"markersize": 7, "markeredgecolor": PAPER, "markeredgewidth": 0.7},
        "pruned": {"markersize": 6, "markerfacecolor": PAPER, "markeredgewidth": 1.2},
        "unscored": {"markersize": 6, "markerfacecolor": PAPER, "markeredgewidth": 1.2},
        "failed": {"markersize": 6, "markeredgewidth": 1.5},
    }
    for (optimizer, state), points in groups.items():
        color, marker = optimizer_style(optimizer)
        look: dict[str, Any] = {"color": color, "marker": marker} | looks[state]
        if state == "complete":
            look["alpha"] = alpha
        if state == "failed":
            look["marker"] = "x"
        if state in ("failed", "unscored"):
            look |= {"transform": axes.get_xaxis_transform(), "clip_on": False}
        axes.plot(*zip(*points, strict=True), linestyle="none", zorder=5, **look)


def _ring(axes: Axes, x: float, y: float) -> None:
    axes.plot(
        [x],
        [y],
        marker="o",
        markersize=15,
        markerfacecolor="none",
        markeredgecolor=INK,
        markeredgewidth=1.6,
        zorder=6,
        clip_on=False,
    )


def _optimizer_legend(axes: Axes, trials: Sequence[TrialResult], best_so_far: bool = False) -> None:
    ranked = [trial.optimizer for trial in best_per_optimizer(trials)]
    names = ranked + sorted({trial.optimizer for trial in trials} - set(ranked))
    handles: list[Line2D] = []
    for name in names:
        color, marker = optimizer_style(name)
        handles.append(Line2D([], [], linestyle="none", color=color, marker=marker, markersize=7))
    labels = [_text(name, 14) for name in names]
    look: dict[str, Any] = {"linestyle": "none", "color": MUTED, "markersize": 6}
    if best_so_far:
        handles.append(Line2D([], [], color=INK, linewidth=1.6))
        labels.append("best so far")
    if any(trial.state == "PRUNED" for trial in trials):
        handles.append(Line2D([], [], marker="o", markerfacecolor="none", **look))
        labels.append("pruned")
    if any(trial.state == "FAIL" for trial in trials):
        handles.append(Line2D([], [], marker="x", markeredgewidth=1.5, **look))
        labels.append("failed")
    _legend(axes, handles, labels)


# Evaluation --------------------------------------------------------------------------------------


def _most_mistaken(
    counts: npt.NDArray[Any], labels: Sequence[Any], shown: int = 30
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


def confusion(scores: Scores, labels: Sequence[Any]) -> Figure:
    """Rows of each true label by predicted label: counts, shaded by the share of the true label.

    Of more than 30 labels those that are mistaken most, and the others together.
    """
    counts, labels = _most_mistaken(scores.confusion, labels)
    classes = len(counts)
    names = [_text(label, 14 if classes > 4 else 18) for label in labels]
    longest = max(len(name) for name in names)
    left = 0.62 + 0.078 * longest
    wide = max(6.4, left + 0.42 * classes + 0.25)
    across = (wide - left - 0.25) / classes  # inches of a cell
    down = {2: 1.45, 3: 1.1, 4: 0.85}.get(classes, max(0.36, min(0.7, 4.2 / classes)))
    flat = longest * 0.078 < across
    bottom = 0.75 if flat else 0.6 + 0.06 * longest
    right = formats.percent(scores.accuracy)
    title = f"{right} of {formats.count(scores.n, 'row')} are labelled right"
    interval = f"{formats.percent(scores.accuracy_low)} to {formats.percent(scores.accuracy_high)}"
    subtitle = f"95 % interval {interval}. Numbers: rows; shade: share of the true label"
    figure, axes = _figure(
        title, subtitle, wide, bottom + classes * down + 0.7, left=left, bottom=bottom
    )
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    size = max(6.5, min(17.0, down * 15))
    for true in range(classes):
        for said in range(classes):
            share, count = float(shares[true, said]), int(counts[true, said])
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
            if classes > 30 or (count == 0 and classes > 8):
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
    return figure


def calibration(curve: Calibration, labels: Sequence[Any]) -> Figure:
    """Predicted probability against observed frequency, with the band of a calibrated model."""
    error = formats.number(100 * curve.error, 2)
    figure, axes = _figure(
        f"Probabilities are off by {error} points on average",
        "Grey boxes: where 95 % of perfectly calibrated models would be in each bin",
        height=4.9,
        bottom=1.55,
    )
    _, below = _panel(figure, 6.4, 4.9, bottom=0.6, top=4.9 - 1.4)
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
    axes.set_ylim(0, 100)
    axes.tick_params(labelbottom=False)
    if curve.of_predicted_label:
        axes.set_ylabel("Share of these right (%)")
        below.set_xlabel("Probability of the predicted label")
    else:
        axes.set_ylabel(f"Observed share of {_text(labels[1], 18)} (%)")
        below.set_xlabel(f"Predicted probability of {_text(labels[1], 30)}")
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
    return figure


def roc(curves: Sequence[RocCurve], labels: Sequence[Any], n: int) -> Figure:
    """ROC curves with the point at which the model works (its predicted labels)."""
    if not curves:
        return _empty("ROC curve", "Undefined: the rows hold a single label.")
    if len(labels) == 2:
        one = curves[0]
        title = f"Telling {_text(labels[1], 18)} from {_text(labels[0], 18)}: ROC AUC {one.auc:.3f}"
        subtitle = (
            f"{formats.count(n, 'row')}; dot: the predicted labels, "
            f"{formats.percent(one.operating_point[1], 0)} found at "
            f"{formats.percent(one.operating_point[0], 0)} false alarms"
        )
    else:
        worst = min(curves, key=lambda curve: curve.auc)
        title = f"Hardest to tell apart: {_text(labels[worst.label], 20)}, ROC AUC {worst.auc:.3f}"
        subtitle = f"Each label against the rest, {formats.count(n, 'row')}; dot: predicted labels"
    figure, axes = _square(title, subtitle, several=len(labels) > 2)
    axes.plot([0, 100], [0, 100], color=FAINT, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    lines = [
        _Line(curve.label, curve.false_positive_rate, curve.true_positive_rate, curve.auc,
              curve.operating_point)
        for curve in curves
    ]  # fmt: skip
    _label_lines(axes, lines, labels, "AUC")
    axes.set_xlabel("False positive rate (%)")
    axes.set_ylabel("True positive rate (%)")
    return figure


def precision_recall(
    curves: Sequence[PrecisionRecallCurve], labels: Sequence[Any], n: int
) -> Figure:
    """Precision-recall curves with the point at which the model works (its predicted labels)."""
    if not curves:
        return _empty("Precision and recall", "Undefined: the rows hold a single label.")
    if len(labels) == 2:
        one = curves[0]
        name = _text(labels[1], 24)
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
            f"Hardest to find: {_text(labels[worst.label], 20)}, "
            f"average precision {worst.average_precision:.3f}"
        )
        subtitle = f"Each label against the rest, {formats.count(n, 'row')}; dot: predicted labels"
    figure, axes = _square(title, subtitle, several=len(labels) > 2)
    if len(labels) == 2:
        axes.axhline(100 * curves[0].prevalence, color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
    lines = [
        _Line(curve.label, curve.recall, curve.precision, curve.average_precision,
              curve.operating_point)
        for curve in curves
    ]  # fmt: skip
    _label_lines(axes, lines, labels, "AP", step=True)
    axes.set_xlabel("Recall (%)")
    axes.set_ylabel("Precision (%)")
    return figure


class _Line:
    """A curve of one label against the rest, in percent and thin enough to draw."""

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


def _label_lines(
    axes: Axes, lines: list[_Line], labels: Sequence[Any], area: str, step: bool = False
) -> None:
    style = "steps-post" if step else "default"
    colors = list(_STYLES.values())
    ranked = sorted(lines, key=lambda line: line.area)
    colored = ranked[: _MOST_LABELS if len(lines) <= _MOST_LABELS else 5]
    for line in ranked[len(colored) :]:
        axes.plot(line.x, line.y, color=FAINT, linewidth=0.8, alpha=0.7, drawstyle=style)
    handles, names = [], []
    for order, line in enumerate(colored):
        place = line.label if len(labels) <= _MOST_LABELS else order
        color, marker = colors[place % len(colors)] if len(labels) > 2 else (ACCENT, "o")
        axes.plot(
            line.x,
            line.y,
            color=color,
            linewidth=2.2 if len(labels) == 2 else 1.6,
            drawstyle=style,
            solid_joinstyle="round",
            zorder=5 - order / 100,
            clip_on=False,
        )
        if len(labels) == 2:
            axes.fill_between(line.x, line.y, color=color, alpha=0.08, linewidth=0,
                              step="post" if step else None)  # fmt: skip
        if line.point:
            axes.plot(
                [line.point[0]],
                [line.point[1]],
                marker=marker,
                markersize=9,
                color=color,
                markeredgecolor=PAPER,
                markeredgewidth=1.3,
                zorder=6,
                clip_on=False,
            )
        handles.append(Line2D([], [], color=color, marker=marker, markersize=6, linewidth=1.8))
        names.append(f"{_text(labels[line.label], 14)}\n{area} {line.area:.3f}")
    rest = ranked[len(colored) :]
    if rest:
        handles.append(Line2D([], [], color=FAINT, linewidth=1))
        names.append(f"{len(rest)} others\n{area} {rest[0].area:.2f} to {rest[-1].area:.2f}")
    if len(labels) > 2:
        _legend(axes, handles, names)
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 100.5)


# Shared parts ------------------------------------------------------------------------------------


def _text(value: Any, width: int) -> str:
    """Text from data, short, in one line and not read as mathematics."""
    return formats.shorten(formats.printable(str(value)), width).replace("$", r"\$")


def _figure(
    title: str,
    subtitle: str,
    width: float = 6.4,
    height: float = 4.0,
    *,
    left: float = 0.75,
    right: float = 0.25,
    bottom: float = 0.6,
) -> tuple[Figure, Axes]:
    """A figure of that size in inches with its heading, and its axes within the margins."""
    figure = Figure(figsize=(width, height), dpi=100, facecolor=WHITE)
    FigureCanvasAgg(figure)
    lines = textwrap.wrap(title, int((width - 0.3) / 0.098)) or [""]
    small = textwrap.wrap(subtitle, int((width - 0.3) / 0.072))
    head = 0.14 + 0.21 * len(lines) + 0.19 * len(small) + 0.16
    extra = max(0.0, head - 0.7)
    figure.set_size_inches(width, height + extra)
    height += extra
    top = height - 0.12
    look: dict[str, Any] = {"ha": "left", "va": "top", "linespacing": 1.2}
    figure.text(
        0.15 / width,
        top / height,
        "\n".join(lines),
        fontsize=12.5,
        fontweight="bold",
        color=INK,
        **look,
    )
    figure.text(
        0.15 / width,
        (top - 0.215 * len(lines) - 0.02) / height,
        "\n".join(small),
        fontsize=9.5,
        color=MUTED,
        **look,
    )
    figure.set_label(". ".join(part.replace(r"\$", "$") for part in (title, subtitle) if part))
    return _panel(figure, width, height, left, right, bottom, head)


def _panel(
    figure: Figure,
    width: float,
    height: float,
    left: float = 0.75,
    right: float = 0.25,
    bottom: float = 0.6,
    top: float = 0.7,
) -> tuple[Figure, Axes]:
    """Axes with those margins in inches, plain: two spines and a light grid."""
    axes = figure.add_axes(
        (left / width, bottom / height, (width - left - right) / width,
         (height - bottom - top) / height)
    )  # fmt: skip
    axes.set_facecolor("none")
    axes.set_axisbelow(True)
    axes.grid(visible=True, color=GRID, linewidth=0.8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    axes.tick_params(colors=MUTED, labelsize=9.5, length=3, color=FAINT)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set_color(INK)
        axis.label.set_fontsize(10)
        axis.labelpad = 5
    return figure, axes


def _square(title: str, subtitle: str, several: bool) -> tuple[Figure, Axes]:
    return _figure(title, subtitle, 6.4, 4.9, right=1.55 if several else 0.3)


def _empty(title: str, message: str, width: float = 6.4) -> Figure:
    figure, axes = _figure(title, "", width)
    axes.set_axis_off()
    axes.text(0.5, 0.5, message, ha="center", va="center", color=MUTED, fontsize=12)
    return figure


def _legend(axes: Axes, handles: Sequence[Line2D], labels: Iterable[str]) -> None:
    labels = list(labels)
    if not labels:
        return
    axes.legend(
        handles,
        labels,
        loc="upper left",
        bbox_to_anchor=(1.02, 1.02),
        frameon=False,
        fontsize=9 if len(labels) <= 9 else 8,
        labelcolor=INK,
        handlelength=1.4,
        handletextpad=0.6,
        labelspacing=0.55,
        borderaxespad=0.0,
    )


def _limits(axes: Axes, low: float, high: float, smallest: float) -> None:
    """Limits a little beyond low..high, at least `smallest` apart."""
    span = max(high - low, smallest)
    middle = (low + high) / 2
    axes.set_ylim(middle - span * 0.56, middle + span * 0.56)


def _value_limits(axes: Axes, values: Sequence[float], objective: Objective) -> None:
    """Room for all values, a tenth more at the bottom, where failed trials are marked."""
    if not values:
        axes.set_ylim(0, 1)
        axes.yaxis.set_major_locator(NullLocator())
        return
    low, high = min(values), max(values)
    if objective == "val_loss":  # a diverging trial's loss would flatten all others
        middle = float(np.median(values))
        high = min(high, low + 4 * max(middle - low, 0.01))
    span = max(high - low, 0.02 * max(abs(high), 1e-3))
    axes.set_ylim(low - 0.16 * span, high + 0.09 * span)
    axes.yaxis.set_major_locator(MaxNLocator(6))


def _log_axis(axes: Axes, values: Sequence[float]) -> None:
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
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.2g}"))
