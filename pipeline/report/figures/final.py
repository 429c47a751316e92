"""The figure of the final round: optimizers in order, with their intervals."""

from pipeline.analysis.evidence import Baseline, Evidence, Finalist
from pipeline.report.figures.colours import MUTED, optimizer_style
from pipeline.report.figures.plot import Plot, padded, text_of


def final_scores(evidence: Evidence) -> Plot:
    """Each finalist's mean with its interval, and those of models that are no networks; one of the
    finalists completed."""
    metric = evidence.metric
    done = [finalist for finalist in evidence.finalists if finalist.completed]
    scored = (model for model in evidence.baselines if metric.name in model.scores)
    rows: list[Finalist | Baseline] = [*done, *scored]
    first, level = text_of(done[0].optimizer), len(evidence.level) - 1
    title = f"{first} came first"
    if len(done) > 1:
        others = "the" if level == len(done) - 1 else f"{level} of {len(done) - 1}"
        title += f", but {others} others may be as good" if level else ", clearly"
    plot = Plot(
        title,
        f"Mean {metric.words} on rows that were not trained on, and where it lies with 95 % "
        "certainty. Grey: models that are no networks",
        rows=[text_of(row.optimizer if isinstance(row, Finalist) else row.name) for row in rows],
    )
    (axes,) = plot.panels
    ends = [metric.scale * end for row in done for end in evidence.interval_of(row)]
    low, high = padded(min(ends), max(ends), 0.1)
    axes.set(xlim=(low, high), xlabel=metric.axis)
    for place, row in enumerate(rows):
        mean = metric.scale * row.mean(metric)
        if low <= mean <= high:
            style = optimizer_style(row.optimizer) if isinstance(row, Finalist) else (MUTED, "o")
            interval = [metric.scale * end for end in evidence.interval_of(row)]
            axes.plot(interval, [place, place], color=style[0], linewidth=2.4, zorder=3,
                      solid_capstyle="butt")  # fmt: skip
            axes.mark([mean], [place], style, 8)
        else:
            x, side, note = (low, "left", "‹ {}") if mean < low else (high, "right", "{} ›")
            axes.text(x, place, note.format(metric.text(row.mean(metric))), ha=side, va="center",
                      color=MUTED, fontsize=9)  # fmt: skip
    return plot
