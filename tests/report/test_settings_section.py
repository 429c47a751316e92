"""What is shown of the settings beside optimizer and learning rate."""

import json
from dataclasses import replace

import pytest

from pipeline.analysis.ranking import best_trial
from pipeline.models.metrics import ACCURACY
from pipeline.report.numbers import content
from pipeline.report.page import page
from pipeline.report.report import Report
from pipeline.report.words import verdict
from tests.study import NASTY, settings_search, study_evidence, study_facts

CONFIG = "data: {source: none.csv, target: none}\n"
RATES = "optimizers: [{name: SGD, lr: {low: 1e-3, high: 1.0, log: true}}]\n"

pytestmark = pytest.mark.filterwarnings("error")


def _report(searched, **changed):
    return Report(study_facts(), searched.trials, settings=searched.settings, **changed)


def test_the_numbers_are_the_searchs(searched):
    document = json.loads(json.dumps(content(_report(searched)), allow_nan=False))
    ranges = {setting["label"]: setting["ranges"] for setting in document["settings"]}
    assert ranges["hidden"]["AdamW"] == {"choice": [[32], [64, 32]]}
    assert ranges["learning rate"] == {
        "SGD": {"low": 0.001, "high": 1.0, "log": True},
        "AdamW": {"low": 0.0001, "high": 0.1, "log": True},
    }
    assert list(ranges["momentum (SGD)"]) == ["SGD"]


def test_rates_that_were_not_searched_are_no_landscape():
    fixed = CONFIG + "optimizers: [{name: SGD, lr: 0.1}, {name: Adam, lr: 0.01}]"
    searched = settings_search(lambda entry, _: 0.1 * entry, 2, config=fixed)
    evidence = study_evidence({"SGD": 0.7, "Adam": 0.69})
    report = _report(searched, evidence=evidence)
    assert "each learning rate reached" not in page(report)
    rates = settings_search(lambda *_: 0.0, 2, config=CONFIG + RATES)
    assert "each learning rate reached" in page(_report(rates))


def test_other_settings_are_part_of_the_answer(searched):
    best = best_trial(searched.trials, ACCURACY)
    sentence = verdict(_report(searched))[0]
    assert f"(hidden {list(best.params['model.hidden'])}, dropout " in sentence
    assert "batch_size 64" in sentence
    evidence = study_evidence({"SGD": 0.7})
    assert "learning rate 0.01 did best" in verdict(_report(searched, evidence=evidence))[0]


def test_values_are_text():
    searched = settings_search(lambda *_: 0.0, 12)
    odd = [replace(trial, optimizer=NASTY) for trial in searched.trials]
    text = page(_report(searched._replace(trials=odd)))
    assert text.count("<script>") == 1
    assert "<script>alert" not in text
