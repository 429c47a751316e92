"""The figures of a run: each says in its title what is seen in it.

Every function returns a `Plot` that belongs to nobody else: pyplot and its global state are not
used. `png` draws it on white at twice the screen's resolution, `svg` for a page whose style sheet
holds `css_variables`, so that one drawing serves light and dark.
"""

from collections.abc import Sequence
from typing import Any

from pipeline.evaluation import Evaluation
from pipeline.evidence import Evidence
from pipeline.ranking import Objective, TrialResult, summarize
from pipeline.report.plots.axes import Plot, Tip
from pipeline.report.plots.colours import css_name, css_variables, optimizer_style
from pipeline.report.plots.drawing import png, save, svg
from pipeline.report.plots.evaluation import calibration, confusion
from pipeline.report.plots.final import budget, final_scores, pair_differences, score_interval
from pipeline.report.plots.label_curves import precision_recall, roc
from pipeline.report.plots.landscape import landscape
from pipeline.report.plots.search import history, learning_curves, learning_rate

__all__ = [
    "Plot",
    "Tip",
    "budget",
    "calibration",
    "confusion",
    "css_name",
    "css_variables",
    "evaluation_figures",
    "evidence_figures",
    "final_scores",
    "history",
    "landscape",
    "learning_curves",
    "learning_rate",
    "optimizer_style",
    "pair_differences",
    "png",
    "precision_recall",
    "roc",
    "save",
    "score_interval",
    "search_figures",
    "svg",
]


def search_figures(
    trials: Sequence[TrialResult],
    objective: Objective = "val_accuracy",
    evidence: Evidence | None = None,
) -> dict[str, Plot]:
    """The figures of a search by file name: learning_rate, landscape_accuracy, landscape_loss,
    curves, history."""
    order = [summary.optimizer for summary in summarize(trials, objective)]
    forgiving = evidence.forgiveness if evidence is not None else ()
    return {
        "learning_rate": learning_rate(trials, objective),
        "landscape_accuracy": landscape(trials, "val_accuracy", order, forgiving, objective),
        "landscape_loss": landscape(trials, "val_loss", order, forgiving, objective),
        "curves": learning_curves(trials, objective),
        "history": history(trials, objective),
    }


def evidence_figures(evidence: Evidence) -> dict[str, Plot]:
    """The figures of a final round: final_scores, pairs, budget."""
    return {
        "final_scores": final_scores(evidence),
        "pairs": pair_differences(evidence),
        "budget": budget(evidence.forgiveness, evidence),
    }


def evaluation_figures(evaluation: Evaluation, labels: Sequence[Any]) -> dict[str, Plot]:
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
