import csv
import io
import json

import numpy as np
import pytest

from pipeline.analysis.evaluation import evaluate
from pipeline.report.numbers import as_csv, content, tables, write
from pipeline.report.report import Report
from tests.study import (
    NASTY,
    failed,
    nasty_facts,
    predictions,
    search,
    study_evidence,
    study_facts,
    trial,
)


@pytest.fixture(scope="module")
def report():
    evidence = study_evidence({"SGD": 0.7, "Adam": 0.69, "Rprop": None})
    return Report(study_facts(), search(), evaluate(*predictions(2, 100)), evidence, "It is.")


def _read(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_files_are_what_was_found_out(report, tmp_path):
    paths = {path.name: path for path in write(report, tmp_path)}
    assert list(paths) == [
        "report.json", "trials.csv", "curves.csv", "pairs.csv", "final_round.csv",
        "learning_rates.csv", "budget.csv", "baselines.csv", "confusion.csv", "calibration.csv",
        "roc.csv", "precision_recall.csv",
    ]  # fmt: skip
    read = {name: _read(path.read_text()) for name, path in paths.items() if "csv" in name}
    trials = read["trials.csv"]
    assert [int(row["number"]) for row in trials] == [trial.number for trial in report.trials]
    assert [row["accuracy"] for row in trials] == [
        repr(trial.scores["accuracy"]) if trial.scores else "" for trial in report.trials
    ]
    finalist = report.evidence.finalists[0]
    folds = [row for row in read["final_round.csv"] if row["optimizer"] == finalist.optimizer]
    for name in ("accuracy", "loss"):
        scores = [float(row[f"cross_fitted_{name}"]) for row in folds]
        assert scores == finalist.scores[name].tolist()
    assert (folds[-1]["repeat"], folds[-1]["fold"]) == ("4", "5")
    counts = [int(row["rows"]) for row in read["confusion.csv"]]
    assert counts == report.evaluation.scores.confusion.ravel().tolist()
    boosting = read["baselines.csv"][-1]
    assert [boosting[name] for name in ("name", "test_accuracy", "test_loss")] == [
        "gradient boosting", "0.67", "0.6",
    ]  # fmt: skip
    assert [row["lr_high"] for row in read["learning_rates.csv"]] == ["0.1"] * 3


def test_the_document_is_what_was_found_out(report):
    document = json.loads(json.dumps(content(report)))
    assert document["registered"] == "It is."
    assert document["test"]["scores"]["accuracy"] == report.evaluation.scores.accuracy
    assert len(document["trials"]) == len(report.trials)
    for optimizer, summary in zip(document["optimizers"], report.summaries, strict=True):
        (best,) = [t for t in document["trials"] if t["number"] == optimizer["best"]]
        assert optimizer["optimizer"] == best["optimizer"] == summary.optimizer
        for name in ("lr", "accuracy", "accuracy_std", "loss", "loss_std"):
            assert optimizer[name] == best[name]
        assert optimizer["median_loss"] == summary.medians["loss"]
    winner = report.evidence.winner
    finalist = document["evidence"]["finalists"][0]
    assert finalist["cross_fitted_accuracy"] == pytest.approx(np.mean(winner.scores["accuracy"]))
    assert finalist["early_stopping_bias_accuracy"] == pytest.approx(0.003)
    assert document["evidence"]["tolerances"][0]["decades"] == 2.0


def test_nothing_that_json_has_not():
    odd = trial(0, loss=float("inf"), curves={"val_loss": np.array([np.nan, 0.5])})
    text = json.dumps(content(Report(study_facts(), [odd, failed(1)])), allow_nan=False)
    assert json.loads(text)["trials"][0]["loss"] is None
    curves = as_csv(tables(content(Report(study_facts(), [odd])))["curves"])
    assert [(row["epoch"], row["val_loss"]) for row in _read(curves)] == [("1", ""), ("2", "0.5")]
    assert tables(content(Report(study_facts(), []))) == {}


def test_text_of_the_data_is_no_formula():
    evaluation = evaluate(*predictions(2, 20))
    report = Report(nasty_facts(), [trial(0, reason='a "b",\nc')], evaluation)
    made = tables(content(report))
    assert _read(as_csv(made["confusion"]))[0]["true"] == NASTY
    assert _read(as_csv(made["trials"]))[0]["reason"] == 'a "b",\nc'
    assert as_csv([{"=1": "=HYPERLINK(1)", "b": -0.5}]) == "'=1,b\n'=HYPERLINK(1),-0.5\n"


def test_a_search_without_a_final_round_has_pairs():
    report = Report(study_facts(), search())
    rows = _read(as_csv(tables(content(report))["pairs"]))
    assert [(row["better"], row["worse"]) for row in rows] == [
        (pair.better, pair.worse) for pair in report.pairs
    ]
    assert [float(row["low"]) for row in rows] == [pair.low for pair in report.pairs]


def test_records_that_differ():
    assert as_csv([{"a": 1}, {"b": 2, "a": 3}]) == "a,b\n1,\n3,2\n"
