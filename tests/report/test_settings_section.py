"""What is shown of the settings beside optimizer and learning rate."""

import html
import json
import re
from dataclasses import replace

import pytest

from pipeline.analysis.importance import LEAST_TRIALS
from pipeline.analysis.ranking import best_trial
from pipeline.models.metrics import ACCURACY
from pipeline.report.numbers import content
from pipeline.report.page import page
from pipeline.report.report import Report
from pipeline.report.words import verdict
from tests.study import NASTY, batch_size_effect, settings_search, study_evidence, study_facts

CONFIG = "data: {source: none.csv, target: none}\n"
RATES = "optimizers: [{name: SGD, lr: {low: 1e-3, high: 1.0, log: true}}]\n"

pytestmark = pytest.mark.filterwarnings("error")


def _report(searched, **changed):
    facts = study_facts(metric=searched.metric)
    return Report(facts, searched.trials, searched=searched, **changed)


def _section(report):
    """The section's rows of cells, and its text."""
    section = re.search(r"<h2>Which settings matter</h2>.*?</section>", page(report), re.DOTALL)
    if section is None:
        return None
    first = re.search("<table>.*?</table>", section[0], re.DOTALL)[0]
    rows = [
        [html.unescape(re.sub("<[^>]+>", "", cell)).replace("\xa0", " ") for cell in cells]
        for cells in (
            re.findall(r"<t[hd][ >].*?</t[hd]>", row) for row in re.findall("<tr>.*?</tr>", first)
        )
    ]
    return rows, html.unescape(re.sub("<[^>]+>", "", section[0])).replace("\xa0", " ")


def test_the_page_says_what_mattered(searched):
    (head, *rows), text = _section(_report(searched))
    few = -(-sum(trial.state == "COMPLETE" for trial in searched.trials) // 10)
    assert few > 5
    headings = ["Setting", "Importance", "By chance up to", "Best trial", f"Best {few} trials"]
    assert head == headings
    over_all = searched.importances
    assert [row[:3] for row in rows] == [
        [each.setting.label, f"{100 * each.share:.1f} %", f"{100 * each.chance:.1f} %"]
        for each in over_all
    ]
    assert rows[0] == ["batch_size", rows[0][1], rows[0][2], "64", f"64 ({few} of {few})"]
    rest = 100 * (1 - sum(each.share for each in over_all))
    assert f"here {rest:.0f} %" in text


def test_the_numbers_are_the_searchs(searched):
    document = json.loads(json.dumps(content(_report(searched)), allow_nan=False))
    names = ("setting", "share", "chance")
    assert [[row[name] for name in names] for row in document["importances"]] == [
        [each.setting.label, each.share, each.chance] for each in searched.importances
    ]
    ranges = {setting["label"]: setting["ranges"] for setting in document["settings"]}
    assert ranges["hidden"]["AdamW"] == {"choice": [[32], [64, 32]]}
    assert ranges["learning rate"] == {
        "SGD": {"low": 0.001, "high": 1.0, "log": True},
        "AdamW": {"low": 0.0001, "high": 0.1, "log": True},
    }
    assert list(ranges["momentum (SGD)"]) == ["SGD"]


def test_only_where_there_is_something_to_say(searched):
    trials = searched.trials
    assert "slices" in _report(settings_search(batch_size_effect, 4)).figures
    alone = replace(searched, settings=searched.settings[:2])
    for report in (Report(study_facts(), trials), _report(alone)):
        assert _section(report) is None
        assert "slices" not in report.figures
        assert content(report)["importances"] == []
    nothing = replace(searched, trials=[])
    assert _section(_report(nothing)) is None


def test_a_page_without_importances_says_why():
    (head, *rows), text = _section(_report(settings_search(batch_size_effect, 12)))
    assert head == ["Setting", "Best trial", "Best 5 trials"]
    assert [row[0] for row in rows][:2] == ["optimizer", "learning rate"]
    assert f"from {LEAST_TRIALS} completed trials on" in text


def test_one_optimizer_at_one_rate():
    config = CONFIG + "training: {batch_size: {low: 16, high: 512, log: true}}\n"
    config += "optimizers: [{name: SGD, lr: 0.1}]"
    searched = settings_search(lambda _, p: p["training.batch_size"] / 1e4, 24, config=config)
    report = _report(searched)
    assert set(report.figures) == {"curves", "slices"}
    (_, row), text = _section(report)
    assert row[0] == "batch_size"
    assert "Importance" not in text
    assert "Learning rates" not in page(report)


def test_rates_that_were_not_searched_are_no_landscape():
    fixed = CONFIG + "optimizers: [{name: SGD, lr: 0.1}, {name: Adam, lr: 0.01}]"
    searched = settings_search(lambda entry, _: 0.1 * entry, 2, config=fixed)
    evidence = study_evidence({"SGD": 0.7, "Adam": 0.69})
    report = _report(searched, evidence=evidence)
    assert not {"landscape_accuracy", "landscape_loss"} & set(report.figures)
    text = page(report)
    assert "one standard error" not in text
    assert ">Learning rates<" not in text
    rates = settings_search(lambda *_: 0.0, 2, config=CONFIG + RATES)
    assert "landscape_accuracy" in _report(rates).figures


def test_other_settings_are_part_of_the_answer(searched):
    best = best_trial(searched.trials, ACCURACY)
    sentence = verdict(_report(searched))[0]
    assert f"(hidden {list(best.params['model.hidden'])}, dropout " in sentence
    assert "batch_size 64" in sentence
    evidence = study_evidence({"SGD": 0.7})
    assert "learning rate 0.01 did best" in verdict(_report(searched, evidence=evidence))[0]


def test_what_is_said_of_a_trial_names_settings_as_the_file_does(searched):
    text = page(_report(searched))
    assert "momentum: 0." in text
    assert "optimizers.0.momentum:" not in text


def test_values_are_text():
    searched = settings_search(lambda *_: 0.0, 12)
    odd = [replace(trial, optimizer=NASTY) for trial in searched.trials]
    text = page(_report(replace(searched, trials=odd)))
    assert text.count("<script>") == 1
    assert "<script>alert" not in text
