"""The numbers behind the report, for other programs: `report.json`.

Fractions are fractions (0.975, not 97.5 %), losses natural logarithms, durations seconds;
scores stand under their metrics' names. What is unknown or not finite is null."""

from dataclasses import asdict
from typing import Any

from pydantic_core import to_jsonable_python

from pipeline.analysis.ranking import best_per_optimizer
from pipeline.report.report import Report
from pipeline.report.words import verdict, what_would_change
from pipeline.training.trial import Trial

Record = dict[str, Any]


def content(report: Report) -> dict[str, Any]:
    """`report.json`: all that the page shows, as plain lists, texts and finite numbers."""
    scored = report.evaluation
    gaps = [asdict(gap) | {"metric": gap.metric.name} for gap in (scored.gaps if scored else ())]
    plain: dict[str, Any] = to_jsonable_python(
        {
            "answer": verdict(report),
            "registered": report.registered,
            "what_would_change": what_would_change(report),
            "facts": asdict(report.facts)
            | {"metric": report.metric.name, "objective": report.metric.curve},
            "optimizers": [
                vars(each) | {"best": each.best.number if each.best is not None else None}
                for each in report.summaries
            ],
            "trials": [_trial(trial) for trial in report.trials],
            "curves": [
                {"optimizer": trial.optimizer, "trial": trial.number, **trial.curves}
                for trial in best_per_optimizer(report.trials, report.metric)
            ],
            "evidence": report.evidence.to_plain() if report.evidence is not None else None,
            "test": asdict(scored) | {"gaps": gaps} if scored is not None else None,
        },
        fallback=lambda value: value.tolist() if hasattr(value, "tolist") else str(value),
        inf_nan_mode="null",
    )
    return plain


def _trial(trial: Trial) -> Record:
    """Scores with their standard deviations over the folds."""
    names = ("number", "optimizer", "lr", "params", "state", "reason", "best_epoch", "seconds")
    return {name: getattr(trial, name) for name in (*names, "scores", "deviations")}
