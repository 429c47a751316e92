import csv
import io
import json

import numpy as np
import pytest

from pipeline.analysis.evaluation import evaluate
from pipeline.report.numbers import as_csv, content, tables, write
from pipeline.report.words import Report
from tests.study import (
    NASTY,
    StandInTrial,
    failed,
    nasty_facts,
    predictions,
    search,
    study_evidence,
    study_facts,
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
        "report.json", "trials.csv", "curves.csv", "final_round.csv", "pairs.csv",
        "learning_rates.csv", "budget.csv", "baselines.csv", "confusion.csv", "calibration.csv",
        "roc.csv", "precision_recall.csv",
    ]  # fmt: skip
    read = {name: _read(path.read_text()) for name, path in paths.items() if "csv" in name}
    trials = read["trials.csv"]
    assert [int(row["number"]) for row in trials] == [trial.number for trial in report.trials]
    assert [row["accuracy"] for row in trials] == [
        "" if trial.accuracy is None else repr(trial.accuracy) for trial in report.trials
    ]
    finalist = report.evidence.finalists[0]
    folds = [row for row in read["final_round.csv"] if row["optimizer"] == finalist.optimizer]
    assert [float(row["accuracy"]) for row in folds] == finalist.accuracy.tolist()
    assert (folds[-1]["repeat"], folds[-1]["fold"]) == ("4", "5")
    counts = [int(row["rows"]) for row in read["confusion.csv"]]
    assert counts == report.evaluation.scores.confusion.ravel().tolist()
    told = json.loads(paths["report.json"].read_text())
    assert told["registered"] == "It is."
    assert told["test"]["scores"]["accuracy"] == report.evaluation.scores.accuracy
    assert len(told["trials"]) == len(report.trials)


def test_nothing_that_json_has_not():
    odd = StandInTrial(0, loss=float("inf"), curves={"val_loss": np.array([np.nan, 0.5])})
    text = json.dumps(content(Report(study_facts(), [odd, failed(1)])), allow_nan=False)
    assert json.loads(text)["trials"][0]["loss"] is None
    assert [row["val_loss"] for row in _read(as_csv(tables(Report(study_facts(), [odd]))["curves"]))
            ] == ["", "0.5"]  # fmt: skip
    assert tables(Report(study_facts(), [])) == {}


def test_text_of_the_data_is_no_formula():
    told = evaluate(*predictions(2, 20))
    made = tables(Report(nasty_facts(), [StandInTrial(0, reason='a "b",\nc')], told))
    assert _read(as_csv(made["confusion"]))[0]["true"] == NASTY
    assert _read(as_csv(made["trials"]))[0]["reason"] == 'a "b",\nc'
    assert as_csv([{"=1": "=HYPERLINK(1)", "b": -0.5}]) == "'=1,b\n'=HYPERLINK(1),-0.5\n"
