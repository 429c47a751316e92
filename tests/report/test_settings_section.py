"""What is shown of the settings beside optimizer and learning rate."""

import csv
import html
import io
import json
import re
import warnings
from dataclasses import replace

import numpy as np
import pytest

from pipeline.analysis.importance import LEAST_TRIALS
from pipeline.analysis.ranking import best_per_optimizer, best_trial
from pipeline.report import figures as plots
from pipeline.report.numbers import as_csv, content, tables
from pipeline.report.page import page
from pipeline.report.words import Report, verdict
from tests.study import NASTY, settings_search, study_evidence, study_facts

CONFIG = "data: {source: none.csv, target: none}\n"
RATES = "optimizers: [{name: SGD, lr: {low: 1e-3, high: 1.0, log: true}}]\n"
SHOWN = ["importances", "slices", "parallel"]


@pytest.fixture(autouse=True)
def _warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def _effect(_, params):
    """Nothing but the batch size has an effect, and a dropout above 0.45 fails."""
    fails = params["model.dropout"] > 0.45
    return np.nan if fails else {32: 0.0, 64: 0.1, 128: 0.05}[params["training.batch_size"]]


@pytest.fixture(scope="module")
def searched():
    return settings_search(_effect)


def _report(searched, **changed):
    facts = study_facts(objective=searched.objective)
    return Report(facts, searched.trials, searched=searched, **changed)


def _section(report):
    """The section's rows of cells, and its text."""
    found = re.search(r"<h2>Which settings matter</h2>.*?</section>", page(report), re.DOTALL)
    if found is None:
        return None
    first = re.search("<table>.*?</table>", found[0], re.DOTALL)[0]
    rows = [
        [html.unescape(re.sub("<[^>]+>", "", cell)).replace("\xa0", " ") for cell in cells]
        for cells in (
            re.findall(r"<t[hd][ >].*?</t[hd]>", row) for row in re.findall("<tr>.*?</tr>", first)
        )
    ]
    return rows, html.unescape(re.sub("<[^>]+>", "", found[0])).replace("\xa0", " ")


def test_the_page_says_what_was_found(searched):
    (head, *rows), text = _section(_report(searched))
    few = -(-sum(trial.state == "COMPLETE" for trial in searched.trials) // 10)
    assert few > 5
    assert head == ["Setting", "Importance", "By chance up to", "Best trial", f"Best {few} trials",
                    "Searched"]  # fmt: skip
    over_all = [one for one in searched.importances if one.optimizer is None]
    assert [row[:3] for row in rows] == [
        [one.setting.label, f"{100 * one.share:.1f} %", f"{100 * one.chance:.1f} %"]
        for one in over_all
    ]
    assert rows[0] == [
        "batch_size",
        rows[0][1],
        rows[0][2],
        "64",
        f"64 ({few} of {few})",
        "32, 64, 128",
    ]
    assert "Batch_size matters most" in text
    rest = 100 * (1 - sum(one.share for one in over_all))
    assert f"here {rest:.0f} %" in text
    best = best_per_optimizer(searched.trials)
    for trial in best:
        rate = trial.params[f"optimizers.{trial.entry}.lr"]
        assert f"{trial.optimizer}{rate:.3g}" in text


def test_the_numbers_are_the_searchs(searched):
    report = _report(searched)
    rows = list(csv.DictReader(io.StringIO(as_csv(tables(report)["importances"]))))
    assert [(row["setting"], row["optimizer"], float(row["share"]), float(row["chance"]))
            for row in rows] == [
        (one.setting.label, one.optimizer or "", one.share, one.chance)
        for one in searched.importances
    ]  # fmt: skip
    told = json.loads(json.dumps(content(report), allow_nan=False))
    assert [one["share"] for one in told["importances"]] == [o.share for o in searched.importances]
    ranges = {one["label"]: one["ranges"] for one in told["settings"]}
    assert ranges["hidden"]["1"] == {"choice": [[32], [64, 32]]}
    assert ranges["learning rate"] == {
        "0": {"low": 0.001, "high": 1.0, "log": True},
        "1": {"low": 0.0001, "high": 0.1, "log": True},
    }
    assert list(ranges["momentum (SGD)"]) == ["0"]


def test_bars_are_the_shares(searched):
    (axes,) = plots.importances(searched.importances).axes
    over_all = [one for one in searched.importances if one.optimizer is None]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx(
        [100 * one.share for one in over_all]
    )
    chance = [line.get_xdata()[0] for line in axes.lines if len(line.get_xdata()) == 2]
    assert chance == pytest.approx([100 * one.chance for one in over_all])
    by_color = {}
    for bar, one in zip(axes.patches, over_all, strict=True):
        by_color.setdefault(bar.get_facecolor(), set()).add(one.stands_out)
    assert sorted(by_color.values(), key=str) == [{False}, {True}]
    marks = [line for line in axes.lines if len(line.get_xdata()) == 1]
    within = [one for one in searched.importances if one.optimizer is not None]
    assert sorted(mark.get_xdata()[0] for mark in marks) == pytest.approx(
        sorted(100 * one.share for one in within)
    )


def test_noise_is_said_to_be_none():
    plot = plots.importances(settings_search(lambda *_: 0.0, 30).over_all())
    assert plot.title == "No setting stands out from chance"


def test_slices_mark_every_trial_at_its_value(searched):
    plot = plots.slices(searched)
    panels = {axes.texts[0].get_text(): axes for axes in plot.axes}
    assert next(iter(panels)) == "batch_size"
    assert set(panels) == {"batch_size", "hidden", "dropout", "momentum (SGD)"}
    marks = {
        name: np.concatenate([line.get_xdata() for line in axes.lines
                              if line.get_linestyle() == "None" and line.get_markersize() < 10])
        for name, axes in panels.items()
    }  # fmt: skip
    assert sorted(marks["dropout"]) == pytest.approx(
        sorted(trial.params["model.dropout"] for trial in searched.trials)
    )
    momenta = [v for t in searched.trials if (v := t.params.get("optimizers.0.momentum"))]
    assert sorted(marks["momentum (SGD)"]) == pytest.approx(sorted(momenta))
    sizes = [(32, 64, 128).index(t.params["training.batch_size"]) for t in searched.trials]
    assert sorted(np.round(marks["batch_size"])) == sorted(sizes)
    best = best_trial(searched.trials)
    (ring,) = [line for line in panels["dropout"].lines if line.get_markersize() > 10]
    assert ring.get_xdata()[0] == best.params["model.dropout"]
    medians = [line.get_ydata()[0] for line in panels["batch_size"].lines
               if len(line.get_xdata()) == 2 and line.get_linestyle() == "-"]  # fmt: skip
    assert medians == pytest.approx([50, 60, 55], abs=0.1)


def test_a_line_for_each_completed_trial(searched):
    (axes,) = plots.parallel(searched).axes
    done = [trial for trial in searched.trials if trial.state == "COMPLETE"]
    lines = [line for line in axes.lines if len(line.get_xdata()) > 2]
    assert len(lines) == len(done)
    # SGD has a row more, which the lines of AdamW pass by.
    rows = len(searched.settings) + 1
    assert {len(line.get_xdata()) for line in lines} == {rows, rows - 1}
    thick = max(lines, key=lambda line: line.get_linewidth())
    best = searched.best[0]
    places = {one.label: row for row, one in enumerate(searched.settings)}
    at = dict(zip(thick.get_ydata(), thick.get_xdata(), strict=True))
    assert at[places["dropout"]] == pytest.approx(best.params["model.dropout"] / 0.5)
    assert at[rows - 1] == pytest.approx(1)


def test_only_where_there_is_something_to_say(searched):
    trials = searched.trials
    names = [list(_report(settings_search(_effect, n)).figures) for n in (4, LEAST_TRIALS + 10)]
    assert [name in names[0] for name in SHOWN] == [False, True, False]
    assert [name in names[1] for name in SHOWN] == [True, True, True]
    alone = replace(searched, settings=searched.settings[:2])
    for report in (Report(study_facts(), trials), _report(alone)):
        assert _section(report) is None
        assert not set(SHOWN) & set(report.figures)
        assert "importances" not in tables(report)
    nothing = replace(searched, trials=[])
    assert _section(_report(nothing)) is None


def test_a_page_without_importances_says_why():
    (head, *rows), text = _section(_report(settings_search(_effect, 12)))
    assert head == ["Setting", "Best trial", "Best 5 trials", "Searched"]
    assert [row[0] for row in rows][:2] == ["optimizer", "learning rate"]
    assert f"from {LEAST_TRIALS} completed trials on" in text


def test_one_optimizer_at_one_rate():
    one = CONFIG + "training: {batch_size: {low: 16, high: 512, log: true}}\n"
    one += "optimizers: [{name: SGD, lr: 0.1}]"
    searched = settings_search(lambda _, p: p["training.batch_size"] / 1e4, 24, config=one)
    report = _report(searched)
    assert set(report.figures) == {"curves", "history", "slices"}
    (_, row), text = _section(report)
    assert row[0] == "batch_size"
    assert row[-1] == "16 to 512 (log)"
    assert "Importance" not in text
    assert "Learning rates" not in page(report)


def test_rates_that_were_not_searched_are_no_landscape():
    fixed = CONFIG + "optimizers: [{name: SGD, lr: 0.1}, {name: Adam, lr: 0.01}]"
    searched = settings_search(lambda e, _: 0.1 * e, 2, config=fixed)
    evidence = study_evidence({"SGD": 0.7, "Adam": 0.69})
    report = _report(searched, evidence=evidence)
    assert not {"learning_rate", "landscape_accuracy", "landscape_loss"} & set(report.figures)
    text = page(report)
    assert "How fast they learn" in text
    assert "one standard error" not in text
    assert ">Learning rates<" not in text
    rates = settings_search(lambda *_: 0.0, 2, config=CONFIG + RATES)
    assert "landscape_accuracy" in _report(rates).figures


def test_other_settings_are_part_of_the_answer(searched):
    best = best_trial(searched.trials)
    sentence = verdict(_report(searched))[0]
    assert f"(hidden {list(best.params['model.hidden'])}, dropout " in sentence
    assert "batch_size 64" in sentence
    evidence = study_evidence({"SGD": 0.7})
    assert "learning rate 0.01 did best" in verdict(_report(searched, evidence=evidence))[0]


def test_what_is_said_of_a_trial_names_settings_as_the_file_does(searched):
    text = page(_report(searched))
    assert "momentum: 0." in text
    assert "optimizers.0.momentum:" not in text


@pytest.mark.parametrize("objective", ["val_accuracy", "val_loss"])
def test_odd_searches_are_drawn(objective):
    many = "model: {hidden: {choice: [[1], [2], [3], [4], [5], [6], [7], [8], [9], [10]]},"
    many += " batch_norm: {choice: [true, false]}}\n"
    many += "training: {patience: {choice: [null, 5]}, epochs: {low: 1, high: 3}}\n"
    for config in (CONFIG + many + RATES, CONFIG + many):
        for trials in (1, 9, 24):
            found = settings_search(
                lambda *_: 0.0, trials, config=config, noise=0.0, objective=objective
            )
            assert found.importances == ()
            figures = [plots.slices(found), plots.parallel(found)]
            for figure in figures:
                drawn = plots.svg(figure, "x")
                assert not re.search(r"\bnan\b", drawn)
                assert plots.png(figure)


def test_values_are_text():
    searched = settings_search(lambda *_: 0.0, 12)
    odd = [replace(trial, optimizer=NASTY) for trial in searched.trials]
    text = page(_report(replace(searched, trials=odd)))
    assert text.count("<script>") == 1
    assert "<script>alert" not in text
