"""The learning rate against validation accuracy and loss, one panel for each optimizer."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from pipeline.analysis.evidence import Forgiveness
from pipeline.analysis.ranking import Objective, TrialResult
from pipeline.common import text as formats
from pipeline.report.figures.axes import Plot, build, empty, log_axis, text_of, value_range
from pipeline.report.figures.colours import INK, MUTED, optimizer_style
from pipeline.report.figures.learning import objective_of, scatter

Floats = npt.NDArray[np.float64]

BANDWIDTH = 0.2  # decades; standard deviation of the Gaussian kernel
_MOST_PANELS = 12
_NOTABLE = 0.3  # decades; a narrower range is no merit


def landscape(
    trials: Sequence[TrialResult],
    score: Objective,
    order: Sequence[str],
    forgiving: Sequence[Forgiveness] = (),
    objective: Objective = "val_accuracy",
) -> Plot:
    """Panels of one optimizer each: its trials, their local mean with a band, and the range of
    learning rates within one standard error of its best.

    Args:
        order: the optimizers from above; others are left out.
        forgiving: of the same search; for the range.
        objective: which the range is of.
    """
    value, label = objective_of(score)
    shown = {
        name: [t for t in trials if t.optimizer == name and t.lr > 0]
        for name in order[:_MOST_PANELS]
    }
    shown = {name: own for name, own in shown.items() if any(map(_scored(value), own))}
    what = "accuracy" if score == "val_accuracy" else "loss"
    if not shown:
        return empty(f"Learning rate and {what}", "No trial has a score.")
    known = {one.optimizer: one for one in forgiving}
    ranges = [r for name in shown if (r := known.get(name)) is not None and r.decades is not None]
    title = f"What the learning rate does to the validation {what}"
    subtitle = "Line and band: local mean ± standard deviation of the trials near that rate"
    if ranges:
        of = "accuracy" if objective == "val_accuracy" else "loss"
        subtitle += f"; bar: rates within one standard error of the optimizer's best {of}"
        title = (_most_forgiving(ranges) if score == objective else "") or title
    tall = 1.0 if len(shown) <= 6 else 0.8
    plot, panels = build(title, subtitle, [tall] * len(shown), gap=0.3, above=0.32)
    heights = [v for own in shown.values() for t in own if (v := value(t)) is not None]
    low, high = _shared_limits(heights, score)
    rates = [trial.lr for own in shown.values() for trial in own]
    for axes, (name, own) in zip(panels, shown.items(), strict=True):
        axes.set_ylim(low, high)
        _panel(plot, axes, own, value, log=score == "val_loss")
        log_axis(axes, rates)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.text(
            0.0,
            1.05,
            text_of(name, 24),
            transform=axes.transAxes,
            fontsize=9.5,
            fontweight="bold",
            color=optimizer_style(name)[0],
        )
        if name in known:
            _range(plot, axes, known[name])
        if axes is not panels[-1]:
            axes.tick_params(labelbottom=False)
    panels[len(panels) // 2].set_ylabel(label)
    panels[-1].set_xlabel("Learning rate (log scale)")
    return plot


def local_mean(x: Floats, y: Floats, at: Floats, bandwidth: float) -> tuple[Floats, Floats]:
    """Mean [A] and standard deviation [A] of y [N] near `at` [A], weighted by a Gaussian of the
    distance in x [N]; NaN where nothing is within two bandwidths."""
    distance = np.abs(at[:, None] - x[None, :]) / bandwidth
    weights = np.exp(-0.5 * distance**2)
    weights[distance.min(axis=1) > 2] = np.nan
    weights /= weights.sum(axis=1, keepdims=True)
    mean = (weights * y).sum(axis=1)
    variance = (weights * (y[None, :] - mean[:, None]) ** 2).sum(axis=1)
    return mean, np.sqrt(variance)


def _scored(
    value: Callable[[TrialResult], float | None],
) -> Callable[[TrialResult], bool]:
    return lambda trial: trial.state != "FAIL" and value(trial) is not None


def _panel(
    plot: Plot,
    axes: Axes,
    own: Sequence[TrialResult],
    value: Callable[[TrialResult], float | None],
    log: bool,
) -> None:
    color, _ = optimizer_style(own[0].optimizer)
    scored = [trial for trial in own if _scored(value)(trial)]
    x = np.log10([trial.lr for trial in scored])
    y = np.array([value(trial) for trial in scored], dtype=np.float64)
    if len(scored) > 2 and np.ptp(x) > 0:
        # A few losses of trials that diverge are of another order: their mean is geometric.
        y = np.log(np.maximum(y, 1e-12)) if log else y
        at = np.linspace(x.min(), x.max(), 80)
        mean, spread = local_mean(x, y, at, BANDWIDTH)
        low, high = mean - spread, mean + spread
        if log:
            mean, low, high = np.exp(mean), np.exp(low), np.exp(high)
        axes.fill_between(10**at, low, high, color=color, alpha=0.16, linewidth=0, zorder=2)
        axes.plot(10**at, mean, color=color, linewidth=1.8, zorder=3)
    scatter(plot, axes, own, lambda trial: trial.lr, value, size=5.5)


def _range(plot: Plot, axes: Axes, one: Forgiveness) -> None:
    """The range as a bar along the upper edge."""
    if one.lr_low is None or one.lr_high is None or one.lr_low <= 0:
        return
    upper = axes.get_xaxis_transform()
    axes.plot(
        [one.lr_low, one.lr_high],
        [0.97, 0.97],
        transform=upper,
        color=INK,
        linewidth=3,
        solid_capstyle="butt",
        zorder=6,
        clip_on=False,
    )
    width = formats.number(one.decades, 2)
    rates = f"{formats.number(one.lr_low, 2)} to {formats.number(one.lr_high, 2)}"
    axes.text(
        1.0,
        1.05,
        f"{rates} ({width} decades)" if one.decades else "one rate only",
        transform=axes.transAxes,
        ha="right",
        fontsize=8.5,
        color=MUTED,
    )


def _most_forgiving(ranges: Sequence[Forgiveness]) -> str:
    """The title when one optimizer's range is wider than that of all others."""
    widths: Mapping[str, float] = {one.optimizer: one.decades or 0.0 for one in ranges}
    first, *rest = sorted(widths, key=lambda name: -widths[name])
    if not rest or widths[first] < max(_NOTABLE, 1.15 * widths[rest[0]]):
        return ""
    return (
        f"{text_of(first, 20)} forgives most: good over {formats.number(widths[first], 2)} decades "
        "of learning rate"
    )


def _shared_limits(values: Sequence[float], score: Objective) -> tuple[float, float]:
    """Of all panels, with room for the bar above and the marks at the edges."""
    low, high = value_range(values, score)
    span = max(high - low, 0.02 * max(abs(high), 1e-3))
    return low - 0.2 * span, high + 0.2 * span
