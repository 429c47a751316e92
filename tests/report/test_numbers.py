import json

import numpy as np
import pytest

from pipeline.analysis.evaluation import evaluate
from pipeline.report.numbers import content
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


def test_the_document_is_what_was_found_out(report):
    document = json.loads(json.dumps(content(report)))
    assert document["registered"] == "It is."
    assert document["test"]["scores"]["accuracy"] == report.evaluation.scores.accuracy
    assert len(document["trials"]) == len(report.trials)
    assert [trial["scores"] for trial in document["trials"]] == [
        trial.scores for trial in report.trials
    ]
    counts = report.evaluation.scores.confusion
    assert document["test"]["scores"]["confusion"] == counts.tolist()
    for optimizer, summary in zip(document["optimizers"], report.summaries, strict=True):
        (best,) = [t for t in document["trials"] if t["number"] == optimizer["best"]]
        assert optimizer["optimizer"] == best["optimizer"] == summary.optimizer
        assert best["deviations"] == summary.best.deviations
    winner = report.evidence.winner
    finalist = document["evidence"]["finalists"][0]
    assert finalist["scores"]["loss"] == winner.scores["loss"].tolist()
    baseline = document["evidence"]["baselines"][-1]
    assert (baseline["name"], baseline["test_scores"]) == (
        "gradient boosting", {"accuracy": 0.67, "loss": 0.6},
    )  # fmt: skip
    assert finalist["cross_fitted_accuracy"] == pytest.approx(np.mean(winner.scores["accuracy"]))


def test_nothing_that_json_has_not():
    odd = trial(0, loss=float("inf"), curves={"val_loss": np.array([np.nan, 0.5])})
    text = json.dumps(content(Report(study_facts(), [odd, failed(1)])), allow_nan=False)
    assert json.loads(text)["trials"][0]["scores"]["loss"] is None
    curve = json.loads(text)["curves"][0]
    assert curve["val_loss"] == [None, 0.5]


def test_text_of_the_data_is_text():
    report = Report(nasty_facts(), [trial(0, reason='a "b",\nc')], evaluate(*predictions(2, 20)))
    document = json.loads(json.dumps(content(report)))
    assert document["facts"]["labels"][0] == NASTY
    assert document["trials"][0]["reason"] == 'a "b",\nc'
