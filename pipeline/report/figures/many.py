"""Figures of a sweep: optimizers over many tables."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.analysis.across import MARGIN, Across, AcrossPair, Searched
from pipeline.analysis.common_rate import CommonRate, tuning_curve
from pipeline.common import text as formats
from pipeline.models.metrics import Metric
from pipeline.report.figures.colours import FAINT, optimizer_style
from pipeline.report.figures.plot import Plot, padded, text_of

_MOST_LINES = 6
"""Curves in one panel, of the best optimizers."""


def overview_figures(
    compared: Across, rates: Sequence[CommonRate], searches: Sequence[Searched]
) -> dict[str, Plot]:
    """By name: differences, where optimizers can be compared; rates and tuning, where learning
    rates were searched."""
    figures: dict[str, Plot] = {}
    if compared.pairs:
        figures["differences"] = differences(compared)
    if rates:
        order = {name: place for place, name in enumerate(compared.optimizers)}
        rates = sorted(rates, key=lambda rate: order.get(rate.optimizer, len(order)))
        figures["rates"] = rate_ranges(rates, compared.metric)
        shown = [rate.optimizer for rate in rates][:_MOST_LINES]
        figures["tuning"] = tuning(searches, shown, compared.metric)
    return figures


def differences(compared: Across) -> Plot:
    """The leader against every other optimizer: the mean over tables with its interval, and each
    table."""
    metric, leader = compared.metric, compared.winner or compared.optimizers[0]
    others = [pair for pair in compared.pairs if leader in (pair.better, pair.worse)]
    plot = Plot(
        f"{leader} against the others, over {formats.count(len(compared.scores), 'table')}",
        "Mean difference with the interval that holds for all pairs; ticks are tables",
        rows=[text_of(_other(pair, leader)) for pair in others],
    )
    (axes,) = plot.panels
    axes.axvline(0, color=FAINT, linewidth=1, zorder=1)
    ends = []
    for place, pair in enumerate(others):
        sign = 1 if pair.better == leader else -1
        name = _other(pair, leader)
        color, marker = optimizer_style(name)
        low, high = sorted((sign * pair.low * metric.scale, sign * pair.high * metric.scale))
        mean = sign * pair.effect.mean * metric.scale
        tables = [
            metric.sign * metric.scale * (each[leader] - each[name])
            for each in compared.scores.values()
            if leader in each and name in each
        ]
        axes.plot(tables, [place + 0.27] * len(tables), linestyle="none", marker="|", markersize=4,
                  color=color, alpha=0.55, zorder=2)  # fmt: skip
        axes.plot([low, high], [place, place], color=color, linewidth=2.4, zorder=3,
                  solid_capstyle="butt")  # fmt: skip
        axes.mark([mean], [place], (color, marker), 8)
        ends += [low, high, *np.quantile(tables, [0.05, 0.95])]
    axes.set(xlim=padded(min(ends), max(ends), 0.1))
    axes.set_xlabel(f"{leader} is better by{_unit(metric)}")
    return plot


def _unit(metric: Metric) -> str:
    return " (points)" if metric.is_share else ""


def _other(pair: AcrossPair, leader: str) -> str:
    return pair.worse if pair.better == leader else pair.better


def rate_ranges(rates: Sequence[CommonRate], metric: Metric) -> Plot:
    """The learning rate of each optimizer that serves all tables, and how far it may be missed."""
    plot = Plot(
        "One learning rate for all tables",
        "Marks: the rate that loses least. Bars: rates that lose up to "
        f"{metric.difference(MARGIN)} more. Thin lines: where the middle half of the tables have "
        "their best rate",
        rows=[text_of(rate.optimizer) for rate in rates],
    )
    (axes,) = plot.panels
    for place, rate in enumerate(rates):
        color, marker = optimizer_style(rate.optimizer)
        best = int(np.nanargmin(rate.loss))
        far = np.flatnonzero(rate.loss > rate.loss[best] + MARGIN)
        place_of = np.searchsorted(far, best)
        between = slice([-1, *far][place_of] + 1, [*far, len(rate.loss)][place_of])
        near = rate.rates[between][np.isfinite(rate.loss[between])]  # not tried: nothing is known
        ends = near[[0, -1]]
        axes.plot(ends, [place, place], color=color, linewidth=6, alpha=0.4, zorder=3,
                  solid_capstyle="butt")  # fmt: skip
        axes.plot([rate.best_low, rate.best_high], [place, place], color=color, linewidth=1.4,
                  zorder=4)  # fmt: skip
        axes.mark([rate.rate], [place], (color, marker), 8)
    axes.log_x([lr for rate in rates for lr in rate.rates])
    axes.set_xlabel("Learning rate")
    return plot


def tuning(searches: Sequence[Searched], optimizers: Sequence[str], metric: Metric) -> Plot:
    """What is lost by trying fewer learning rates."""
    plot = Plot(
        "What fewer trials lose",
        "The expected best of n trials of an optimizer against the best of all its trials, mean "
        "over tables",
        (2.5,),
    )
    (axes,) = plot.panels
    for name in optimizers:
        color, marker = optimizer_style(name)
        losses = metric.scale * tuning_curve(searches, metric, name)
        trials = np.arange(1, len(losses) + 1)
        look: dict[str, Any] = {"marker": marker, "markersize": 4.5, "linewidth": 1.7}
        axes.plot(trials, losses, color=color, label=text_of(name), zorder=4, **look)
    axes.set(ylim=(0, None), xlabel="Trials of the optimizer")
    axes.set_ylabel(f"Behind the best of all{_unit(metric)}")
    axes.legend(loc="upper right", fontsize=8, frameon=False, handlelength=1.6)
    return plot
