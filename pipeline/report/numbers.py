"""The numbers behind the report, for other programs: `report.json`, and CSVs of its tables.

Fractions are fractions (0.975, not 97.5 %), losses are nats, durations seconds; a score stands
under its metric's name. What is unknown or not finite is null in JSON and empty in CSV."""

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from pipeline.analysis.ranking import OptimizerSummary, best_per_optimizer
from pipeline.models.metrics import METRICS
from pipeline.report.report import Report
from pipeline.report.words import verdict, what_would_change
from pipeline.search.settings import Setting
from pipeline.training.trial import Trial

Record = dict[str, Any]
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how a cell starts that spreadsheets compute


def content(report: Report) -> dict[str, Any]:
    """`report.json`: all that the page shows, as plain lists, texts and finite numbers."""
    searched = report.searched
    plain: dict[str, Any] = _plain(
        {
            "answer": verdict(report),
            "registered": report.registered,
            "what_would_change": what_would_change(report),
            "facts": asdict(report.facts),
            "optimizers": [_optimizer(summary) for summary in report.summaries],
            "pairs": [asdict(pair) | {"is_clear": pair.is_clear} for pair in report.pairs],
            "trials": [_trial(trial) for trial in report.trials],
            "curves": [
                {"optimizer": trial.optimizer, "trial": trial.number, **trial.curves}
                for trial in best_per_optimizer(report.trials, report.metric)
            ],
            "settings": [_setting(setting) for setting in searched.settings] if searched else [],
            "importances": [
                asdict(each) | {"setting": each.setting.label, "stands_out": each.stands_out}
                for each in (searched.importances if searched is not None else ())
            ],
            "evidence": report.evidence.to_plain() if report.evidence is not None else None,
            "test": asdict(report.evaluation) if report.evaluation is not None else None,
        }
    )
    return plain


def tables(content: Record) -> dict[str, list[Record]]:
    """Each CSV's records by its name without the ending; tables without records are left out.

    Args:
        content: of `report.json`."""
    records: dict[str, list[Record]] = {
        "trials": [
            _without(trial, "params") | {f"params.{path}": v for path, v in trial["params"].items()}
            for trial in content["trials"]
        ],
        "importances": content["importances"],
        "curves": _places(content["curves"], "epoch"),
        "pairs": content["pairs"],
    }
    if content["evidence"] is not None:
        records |= _final_round(content["evidence"])
    if content["test"] is not None:
        records |= _evaluation(content["test"], content["facts"]["labels"])
    return {name: table for name, table in records.items() if table}


def as_csv(records: Sequence[Record]) -> str:
    """The records as CSV with a head, its columns in the order of their first appearance. A text
    that a spreadsheet would compute gets an apostrophe before it."""
    headings = dict.fromkeys(heading for record in records for heading in record)
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(_cell(heading) for heading in headings)
    for record in records:
        writer.writerow(_cell(record.get(heading)) for heading in headings)
    return target.getvalue()


def write(report: Report, folder: Path) -> list[Path]:
    """Writes `report.json` and the tables into `folder`, in UTF-8; where they are, that first."""
    plain = content(report)
    files = {"report.json": json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False) + "\n"}
    files |= {f"{name}.csv": as_csv(table) for name, table in tables(plain).items()}
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in files]


def _optimizer(summary: OptimizerSummary) -> Record:
    best = _trial(summary.best) if summary.best is not None else {}
    counts = ("optimizer", "trials", "complete", "failed", "pruned", "seconds")
    record = {name: getattr(summary, name) for name in counts} | {"best": best.get("number")}
    scores = (name + of for name in METRICS for of in ("", "_std"))
    record |= {name: best.get(name) for name in ("lr", *scores)}
    return record | {f"median_{name}": summary.medians.get(name) for name in METRICS}


def _trial(trial: Trial) -> dict[str, Any]:
    """Scores with their standard deviations over the folds."""
    names = ("number", "optimizer", "lr", "state", "best_epoch", "seconds", "reason")
    record = {name: getattr(trial, name) for name in names}
    for name in METRICS:
        record[name] = trial.scores.get(name)
        record[f"{name}_std"] = trial.deviations.get(name)
    return record | {"params": dict(trial.params)}


def _setting(setting: Setting) -> Record:
    """What was searched: the ranges by the label of the optimizer that has them."""
    ranges = {}
    for optimizer, axis in setting.axes.items():
        ends = {"low": axis.low, "high": axis.high, "log": axis.log}
        ranges[optimizer] = {"choice": axis.values} if axis.categorical else ends
    return {"name": setting.name, "label": setting.label, "ranges": ranges}


def _places(records: Iterable[Record], heading: str, *names: str) -> list[Record]:
    """A record for each place in the lists of each record: the place from 1 below `heading`, the
    lists' values there, None past a list's end, and all that is no list; only `names`, if given."""
    rows: list[Record] = []
    for record in records:
        chosen = {name: record[name] for name in names or record}
        lists = {name: values for name, values in chosen.items() if isinstance(values, list)}
        for place, values in enumerate(zip_longest(*lists.values()), start=1):
            rows.append({**chosen, heading: place, **dict(zip(lists, values, strict=True))})
    return rows


def _without(record: Record, name: str) -> Record:
    return {key: value for key, value in record.items() if key != name}


def _final_round(evidence: Record) -> dict[str, list[Record]]:
    folds, tolerances = evidence["folds"], evidence["tolerances"]
    scores = [
        {"optimizer": finalist["optimizer"], "trial": finalist["trial"]}
        | {f"cross_fitted_{name}": values for name, values in finalist["scores"].items()}
        for finalist in evidence["finalists"]
    ]
    final_round = _places(scores, "fold")
    for row in final_round:
        repeat, fold = divmod(row["fold"] - 1, folds)
        row |= {"repeat": repeat + 1, "fold": fold + 1}
    return {
        "final_round": final_round,
        "learning_rates": [_without(tolerance, "expected_best") for tolerance in tolerances],
        "budget": _places(tolerances, "trials", "optimizer", "expected_best"),
        "baselines": [
            {"name": baseline["name"]}
            | {name: None if None in v else fmean(v) for name, v in baseline["scores"].items()}
            | {f"test_{name}": baseline["test_scores"].get(name) for name in METRICS}
            for baseline in evidence["baselines"]
        ],
    }


def _evaluation(test: Record, labels: Sequence[Any]) -> dict[str, list[Record]]:
    bins = ("low_edge", "high_edge", "predicted", "observed", "count", "band_low", "band_high")
    roc, precision_recall = (
        [curve | {"label": labels[curve["label"]]} for curve in test[name]]
        for name in ("roc", "precision_recall")
    )
    return {
        "confusion": [
            {"true": true, "predicted": predicted, "rows": count}
            for true, row in zip(labels, test["scores"]["confusion"], strict=True)
            for predicted, count in zip(labels, row, strict=True)
        ],
        "calibration": _places([test["calibration"]], "bin", *bins),
        "roc": _places(roc, "point", "label", "false_positive_rate", "true_positive_rate"),
        "precision_recall": _places(precision_recall, "point", "label", "recall", "precision"),
    }


def _cell(value: Any) -> Any:
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
