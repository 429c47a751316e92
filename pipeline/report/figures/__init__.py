"""The figures of a run: each says in its title what is seen in it.

Every function returns a `Plot` that belongs to nobody else: pyplot and its global state are not
used. `png` draws it on white at twice the screen's resolution, `svg` for a page whose style sheet
holds `css_variables`, so that one drawing serves light and dark.
"""

from collections.abc import Sequence
from typing import Any

from pipeline.analysis.evaluation import Evaluation
from pipeline.analysis.evidence import Evidence
from pipeline.analysis.importance import Searched
from pipeline.analysis.ranking import Objective, TrialResult, completed, summarize
from pipeline.report.figures.axes import Plot, Tip
from pipeline.report.figures.colours import css_name, css_variables, optimizer_style
from pipeline.report.figures.drawing import png, save, svg
from pipeline.report.figures.final import budget, final_scores, pair_differences, score_interval
from pipeline.report.figures.importances import importances
from pipeline.report.figures.label_curves import precision_recall, roc
from pipeline.report.figures.landscape import landscape
from pipeline.report.figures.learning import history, learning_curves, learning_rate
from pipeline.report.figures.parallel import parallel
from pipeline.report.figures.predictions import calibration, confusion
from pipeline.report.figures.slices import slices
from pipeline.search.settings import LEARNING_RATE

_FOR_PARALLEL = 8  # completed trials; below, a table of them says more

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
    "importances",
    "landscape",
    "learning_curves",
    "learning_rate",
    "optimizer_style",
    "pair_differences",
    "parallel",
    "png",
    "precision_recall",
    "roc",
    "save",
    "score_interval",
    "search_figures",
    "slices",
    "svg",
]


def search_figures(
    trials: Sequence[TrialResult],
    objective: Objective = "val_accuracy",
    evidence: Evidence | None = None,
    searched: Searched | None = None,
) -> dict[str, Plot]:
    """The figures of a search by file name: learning_rate, landscape_accuracy, landscape_loss,
    curves, history; of its other settings importances, slices, parallel.

    Those of the learning rate are left out where it was not searched, and those of other settings
    where there is nothing to say of them.
    """
    figures = _of_rates(trials, objective, evidence) if _has_rates(searched) else {}
    figures["curves"] = learning_curves(trials, objective)
    figures["history"] = history(trials, objective)
    return figures | (_of_settings(searched) if searched is not None else {})


def _has_rates(searched: Searched | None) -> bool:
    """Whether the learning rate was searched; so it is taken where nothing else is known."""
    if searched is None or not searched.trials:
        return True
    return any(one.name == LEARNING_RATE for one in searched.settings)


def _of_rates(
    trials: Sequence[TrialResult], objective: Objective, evidence: Evidence | None
) -> dict[str, Plot]:
    order = [summary.optimizer for summary in summarize(trials, objective)]
    forgiving = evidence.forgiveness if evidence is not None else ()
    return {
        "learning_rate": learning_rate(trials, objective),
        "landscape_accuracy": landscape(trials, "val_accuracy", order, forgiving, objective),
        "landscape_loss": landscape(trials, "val_loss", order, forgiving, objective),
    }


def _of_settings(searched: Searched) -> dict[str, Plot]:
    found: dict[str, Plot] = {}
    done = len(completed(searched.trials))
    if not searched.others or not done:
        return found
    if searched.importances:
        found["importances"] = importances(searched.importances)
    found["slices"] = slices(searched)
    if len(searched.others) > 1 and done >= _FOR_PARALLEL:
        found["parallel"] = parallel(searched)
    return found


def evidence_figures(evidence: Evidence) -> dict[str, Plot]:
    """The figures of a final round: final_scores, pairs, and, where an optimizer had several
    trials, budget."""
    figures = {"final_scores": final_scores(evidence), "pairs": pair_differences(evidence)}
    if any(len(one.expected_best) > 1 for one in evidence.forgiveness):
        figures["budget"] = budget(evidence.forgiveness, evidence)
    return figures


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
