"""The figures of a run: each says in its title what is seen in it.

Every function returns a `Plot` that belongs to nobody else: pyplot and its global state are not
used. `savefig` draws it on white at twice the screen's resolution, `svg` for a page whose style
sheet holds `css_variables`, so that one drawing serves light and dark."""

from collections.abc import Sequence
from typing import Any

from pipeline.analysis.evaluation import Evaluation
from pipeline.analysis.evidence import Evidence
from pipeline.analysis.importance import Searched
from pipeline.analysis.ranking import completed
from pipeline.models.metrics import METRICS, Metric
from pipeline.report.figures.colours import css_name as css_name
from pipeline.report.figures.colours import css_variables as css_variables
from pipeline.report.figures.colours import optimizer_style as optimizer_style
from pipeline.report.figures.final import budget, final_scores, pair_differences
from pipeline.report.figures.learning import history, landscape, learning_curves, learning_rate
from pipeline.report.figures.plot import Plot as Plot
from pipeline.report.figures.plot import svg as svg
from pipeline.report.figures.predictions import calibration, confusion, precision_recall, roc
from pipeline.report.figures.setting_effects import importances, parallel, slices
from pipeline.search.settings import LEARNING_RATE
from pipeline.training.trial import Trial

_FOR_PARALLEL = 8  # completed trials; below, a table of them says more


def search_figures(
    trials: Sequence[Trial],
    metric: Metric,
    evidence: Evidence | None = None,
    searched: Searched | None = None,
) -> dict[str, Plot]:
    """The figures of a search by file name: learning_rate, landscape_accuracy and one for each
    other metric, curves, history; of its other settings importances, slices, parallel.

    Those of the learning rate are left out where it was not searched, and those of other settings
    where there is nothing to say of them."""
    figures: dict[str, Plot] = {}
    # Where nothing is known of the settings, the learning rate counts as searched.
    settings = searched.settings if searched is not None and searched.trials else None
    if settings is None or any(setting.name == LEARNING_RATE for setting in settings):
        tolerances = evidence.tolerances if evidence is not None else ()
        figures["learning_rate"] = learning_rate(trials, metric)
        for each in METRICS.values():
            figures[f"landscape_{each.name}"] = landscape(trials, each, tolerances, metric)
    figures["curves"] = learning_curves(trials, metric)
    figures["history"] = history(trials, metric)
    if searched is not None and searched.others and (done := len(completed(searched.trials))):
        if searched.importances:
            figures["importances"] = importances(searched.importances)
        figures["slices"] = slices(searched)
        if len(searched.others) > 1 and done >= _FOR_PARALLEL:
            figures["parallel"] = parallel(searched)
    return figures


def evidence_figures(evidence: Evidence) -> dict[str, Plot]:
    """The figures of a final round: final_scores, pairs, and, where an optimizer had several
    trials, budget."""
    figures = {"final_scores": final_scores(evidence), "pairs": pair_differences(evidence)}
    if any(len(tolerance.expected_best) > 1 for tolerance in evidence.tolerances):
        figures["budget"] = budget(evidence)
    return figures


def evaluation_figures(evaluation: Evaluation, labels: Sequence[Any]) -> dict[str, Plot]:
    """The figures of an evaluation: confusion, calibration, roc, precision_recall.

    `labels[i]` is the name of class id i."""
    n = evaluation.scores.n
    return {
        "confusion": confusion(evaluation.scores, labels),
        "calibration": calibration(evaluation.calibration, labels),
        "roc": roc(evaluation.roc, labels, n),
        "precision_recall": precision_recall(evaluation.precision_recall, labels, n),
    }
