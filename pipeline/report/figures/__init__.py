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
from pipeline.models.metrics import Metric, with_objective
from pipeline.report.figures.colours import css_name as css_name
from pipeline.report.figures.colours import css_variables as css_variables
from pipeline.report.figures.colours import optimizer_style as optimizer_style
from pipeline.report.figures.final import final_scores, pair_differences
from pipeline.report.figures.learning import landscape, learning_curves, slices
from pipeline.report.figures.plot import Plot as Plot
from pipeline.report.figures.plot import svg as svg
from pipeline.report.figures.predictions import (
    MOST_CELLS,
    calibration,
    confusion,
    precision_recall,
    roc,
)
from pipeline.search.settings import LEARNING_RATE
from pipeline.training.trial import Trial


def search_figures(
    trials: Sequence[Trial],
    metric: Metric,
    evidence: Evidence | None = None,
    searched: Searched | None = None,
) -> dict[str, Plot]:
    """The figures of a search by file name: landscape_accuracy and one for each other metric,
    curves; of its other settings slices. There are none where no trial completed.

    Those of the learning rate are left out where it was not searched, and those of other settings
    where there is nothing to say of them."""
    figures: dict[str, Plot] = {}
    done = completed(trials)
    if not done:
        return figures
    # Where nothing is known of the settings, the learning rate counts as searched.
    settings = searched.settings if searched is not None and searched.trials else None
    is_searched = settings is None or any(setting.name == LEARNING_RATE for setting in settings)
    if is_searched and any(trial.lr > 0 for trial in done):
        tolerances = evidence.tolerances if evidence is not None else ()
        for each in with_objective(metric):
            figures[f"landscape_{each.name}"] = landscape(trials, each, tolerances, metric)
    figures["curves"] = learning_curves(trials, metric)
    if searched is not None and searched.others and completed(searched.trials):
        figures["slices"] = slices(searched)
    return figures


def evidence_figures(evidence: Evidence) -> dict[str, Plot]:
    """The figures of a final round, of what completed: final_scores, pairs."""
    figures: dict[str, Plot] = {}
    if evidence.winner is not None:
        figures["final_scores"] = final_scores(evidence)
    if evidence.pairs:
        figures["pairs"] = pair_differences(evidence)
    return figures


def evaluation_figures(evaluation: Evaluation, labels: Sequence[Any]) -> dict[str, Plot]:
    """The figures of an evaluation: confusion (of 30 labels at most), calibration, and, where the
    rows hold several labels, roc and precision_recall.

    `labels[i]` is the name of class id i."""
    figures: dict[str, Plot] = {}
    if len(labels) <= MOST_CELLS:
        figures["confusion"] = confusion(evaluation.scores, labels)
    figures["calibration"] = calibration(evaluation.calibration, labels)
    if evaluation.roc:
        figures["roc"] = roc(evaluation, labels)
        figures["precision_recall"] = precision_recall(evaluation, labels)
    return figures
