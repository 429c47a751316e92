"""The numbers behind the report, for other programs: `report.json`, and a CSV for each table.

Fractions are fractions (0.975, not 97.5 %), losses are nats, durations seconds. What is unknown or
not finite is null in JSON and empty in CSV.
"""

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.analysis.evaluation import Evaluation
from pipeline.analysis.evidence import Evidence
from pipeline.analysis.importance import Searched
from pipeline.analysis.ranking import TrialResult, best_per_optimizer
from pipeline.report.changes import what_would_change
from pipeline.report.words import Report, verdict

Row = Mapping[str, Any]
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how a cell starts that spreadsheets compute


def content(report: Report) -> dict[str, Any]:
    """`report.json`: all that the page shows, as plain lists, texts and finite numbers."""
    evaluation = report.evaluation
    found: dict[str, Any] = _plain(
        {
            "answer": verdict(report),
            "registered": report.registered,
            "what_would_change": what_would_change(report),
            "facts": asdict(report.facts),
            "optimizers": [asdict(one) for one in report.summaries],
            "trials": [_trial(one) for one in report.trials],
            "settings": _settings(report.searched),
            "importances": [*_importances(report.searched)],
            "evidence": report.evidence.to_plain() if report.evidence else None,
            "test": asdict(evaluation) if evaluation is not None else None,
        }
    )
    return found


def tables(report: Report) -> dict[str, list[Row]]:
    """The rows of each CSV by its name without the ending; tables without rows are left out."""
    found: dict[str, Iterable[Row]] = {
        "trials": map(_trial_row, report.trials),
        "importances": _importances(report.searched),
        "curves": _curves(best_per_optimizer(report.trials, report.facts.objective)),
    }
    if report.evidence is not None:
        found |= _evidence(report.evidence)
    if report.evaluation is not None:
        found |= _evaluation(report.evaluation, [str(label) for label in report.facts.labels])
    listed = {name: list(rows) for name, rows in found.items()}
    return {name: rows for name, rows in listed.items() if rows}


def as_csv(rows: Sequence[Row]) -> str:
    """CSV with a head; columns in the order of their first appearance.

    A text that a spreadsheet would compute gets an apostrophe before it.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow([_cell(name) for name in names])
    writer.writerows([_cell(row.get(name)) for name in names] for row in rows)
    return target.getvalue()


def write(report: Report, folder: Path) -> list[Path]:
    """Writes `report.json` and the tables into `folder`, in UTF-8; where they are, that first."""
    text = json.dumps(content(report), indent=1, ensure_ascii=False, allow_nan=False)
    files = {"report.json": text + "\n"}
    files |= {f"{name}.csv": as_csv(rows) for name, rows in tables(report).items()}
    paths = []
    for name, written in files.items():
        paths.append(folder / name)
        paths[-1].write_text(written, encoding="utf-8")
    return paths


def _trial(trial: TrialResult) -> dict[str, Any]:
    return {
        "number": trial.number,
        "optimizer": trial.optimizer,
        "lr": trial.lr,
        "state": trial.state,
        "accuracy": trial.accuracy,
        "accuracy_std": trial.accuracy_std,
        "loss": trial.loss,
        "best_epoch": trial.best_epoch,
        "seconds": trial.seconds,
        "reason": trial.reason,
        "params": dict(trial.params),
    }


def _trial_row(trial: TrialResult) -> Row:
    """As in JSON, with a column for each searched leaf."""
    row = _trial(trial)
    params = row.pop("params")
    return row | {f"params.{name}": value for name, value in params.items()}


def _settings(searched: Searched | None) -> list[dict[str, Any]]:
    """What was searched: each setting with its range, by the optimizer entry that has it."""
    return [
        {
            "name": one.name,
            "label": one.label,
            "ranges": {
                str(entry): {"choice": axis.values}
                if axis.categorical
                else {"low": axis.low, "high": axis.high, "log": axis.log}
                for entry, axis in one.axes.items()
            },
        }
        for one in (searched.settings if searched is not None else ())
    ]


def _importances(searched: Searched | None) -> Iterable[Row]:
    """Over all trials (optimizer empty), then within those of each optimizer."""
    for one in searched.importances if searched is not None else ():
        yield {
            "setting": one.setting.label,
            "optimizer": one.optimizer,
            "share": one.share,
            "chance": one.chance,
            "stands_out": one.stands_out,
            "trials": one.trials,
        }


def _curves(best: Sequence[TrialResult]) -> Iterable[Row]:
    for trial in best:
        epochs = max((len(curve) for curve in trial.curves.values()), default=0)
        for epoch in range(epochs):
            values = {
                name: float(curve[epoch]) if epoch < len(curve) else None
                for name, curve in trial.curves.items()
            }
            yield {"optimizer": trial.optimizer, "trial": trial.number, "epoch": epoch + 1} | values


def _evidence(evidence: Evidence) -> dict[str, Iterable[Row]]:
    folds = evidence.folds
    return {
        "final_round": (
            {
                "optimizer": one.optimizer,
                "trial": one.trial,
                "repeat": place // folds + 1,
                "fold": place % folds + 1,
                "accuracy": float(one.accuracy[place]),
                "loss": float(one.loss[place]),
            }
            for one in evidence.finalists
            for place in range(len(one.accuracy))
        ),
        "pairs": (asdict(pair) | {"is_clear": pair.is_clear} for pair in evidence.pairs),
        "learning_rates": (
            {name: value for name, value in asdict(one).items() if name != "expected_best"}
            for one in evidence.forgiveness
        ),
        "budget": (
            {"optimizer": one.optimizer, "trials": count, "expected_best": float(value)}
            for one in evidence.forgiveness
            for count, value in enumerate(one.expected_best, start=1)
        ),
        "baselines": (
            {
                "name": one.name,
                "accuracy": one.accuracy_mean,
                "loss": one.loss_mean,
                "test_accuracy": one.test_accuracy,
                "test_loss": one.test_loss,
            }
            for one in evidence.baselines
        ),
    }


def _evaluation(evaluation: Evaluation, labels: Sequence[str]) -> dict[str, Iterable[Row]]:
    calibration = asdict(evaluation.calibration)
    columns = [name for name, values in calibration.items() if isinstance(values, np.ndarray)]
    bins = range(len(evaluation.calibration.count))
    return {
        "confusion": (
            {"true": true, "predicted": said, "rows": int(count)}
            for true, row in zip(labels, evaluation.scores.confusion, strict=True)
            for said, count in zip(labels, row, strict=True)
        ),
        "calibration": ({name: calibration[name][place] for name in columns} for place in bins),
        "roc": (
            {"label": labels[curve.label], "false_positive_rate": x, "true_positive_rate": y}
            for curve in evaluation.roc
            for x, y in zip(
                curve.false_positive_rate.tolist(), curve.true_positive_rate.tolist(), strict=True
            )
        ),
        "precision_recall": (
            {"label": labels[curve.label], "recall": x, "precision": y}
            for curve in evaluation.precision_recall
            for x, y in zip(curve.recall.tolist(), curve.precision.tolist(), strict=True)
        ),
    }


def _cell(value: Any) -> Any:
    value = _plain(value)
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return "" if value is None else value


def _plain(value: Any) -> Any:
    """Only what JSON has."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
