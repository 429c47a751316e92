import base64
import hashlib
import re
import tomllib
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from pipeline.analysis.evaluation import evaluate
from pipeline.analysis.reliance import Reliance
from pipeline.models.metrics import ACCURACY, LOSS
from pipeline.report.page import page
from pipeline.report.report import Report
from pipeline.report.words import comparison_sentence, headline, verdict, what_would_change
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

VOID = {"meta", "br"}


class _Page(HTMLParser):
    """Elements, attributes and text of a page; fails on elements that are not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.texts, self._open = [], [], [], []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return " ".join("".join(self.texts).replace("\xa0", " ").split())


@pytest.fixture(scope="module")
def usual():
    report = Report(study_facts(), search(trials=20), evaluate(*predictions(2, 100)))
    return report, _Page(page(report))


def test_page_answers_and_shows(usual):
    report, shown = usual
    for sentence in verdict(report):
        assert sentence in shown.text
    assert shown.tags.count("svg") == 3
    assert shown.tags.count("h1") == 1
    for part in ("Potability", "a distinct string in every row", "a1b2c3d4e5f6", "torch 2.13.0",
                 "models:/water-potability@champion", "5 folds", "40 trials"):  # fmt: skip
        assert part in shown.text


def test_page_needs_no_other_file(usual):
    _, shown = usual
    assert not {"link", "iframe", "img", "object"} & set(shown.tags)
    for name, value in shown.attributes:
        if name in ("href", "xlink:href", "src"):
            assert value.startswith("#")
        if name == "style":
            assert "url(" not in value or "url(#" in value


def test_the_only_script_is_the_one_that_the_policy_allows(usual):
    report, shown = usual
    text = page(report)
    (script,) = re.findall("<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = [value for _, value in shown.attributes if value and "default-src" in value]
    assert policy.startswith("default-src 'none';")
    assert policy.endswith(f"script-src 'sha256-{digest}'")
    assert not any(name.startswith("on") for name, _ in shown.attributes)


def test_page_says_what_the_final_round_found():
    evidence = study_evidence({"SGD": 0.7, "Adam": 0.69, "Rprop": None})
    registered = "Version 2 of water is @challenger: worse than version 1."
    report = Report(
        study_facts(), search(trials=8), evaluate(*predictions(2, 50)), evidence, registered
    )
    shown = _Page(page(report))
    assert shown.tags.count("svg") == 4
    for part in (registered, comparison_sentence(evidence), *what_would_change(report)):
        assert part in shown.text
    winner = evidence.winner
    low, high = np.array(evidence.interval(winner.scores["accuracy"])) * 100
    row = f"{winner.optimizer} {100 * winner.mean(ACCURACY):.1f} % {low:.1f} to {high:.1f}"
    assert row.replace(" ", "") in shown.text.replace(" ", "")
    assert "gradient boosting" in shown.text
    for pair in evidence.pairs:
        assert f"{pair.better}{pair.worse}{100 * pair.difference:.1f}" in shown.text


def test_the_contents_lead_to_what_is_folded(usual):
    report, shown = usual
    text = page(report)
    links = [v[1:] for name, v in shown.attributes if name == "href" and not v.startswith("#x")]
    folded = re.findall('<details id="(.*?)">', text)
    assert folded == ["optimizers", "test", "asked", "again", "words"]
    assert links[: len(folded) + 1] == ["next", *folded]
    # What is read first is no part of it: the answer, and what the learning rates reached.
    first = text[: text.index("<details")]
    assert first.count("<svg") == 1
    assert headline(report) in first


def test_a_commit_and_a_machine_are_there_to_do_it_again():
    facts = study_facts(commit="c0ffee", machine="Linux, 2 processors")
    text = _Page(page(Report(facts, [trial(0)]))).text
    assert "Seed0" in text
    assert "Commitc0ffee" in text
    assert "MachineLinux, 2 processors" in text


def test_columns_that_the_model_relies_on():
    columns = Reliance("ph", 0.05, 0.01), Reliance("Hardness", 0.001, 0.01)
    scored = replace(evaluate(*predictions(2, 100)), reliance=columns)
    text = _Page(page(Report(study_facts(), [trial(0)], scored))).text
    assert "ph5.01.0" in text.replace(" ", "")
    assert "Hardness0.1" not in text.replace(" ", "")
    nothing = replace(scored, reliance=columns[1:])
    assert "None by itself" in _Page(page(Report(study_facts(), [trial(0)], nothing))).text


def test_page_ids_are_unique(usual):
    _, shown = usual
    ids = [value for name, value in shown.attributes if name == "id"]
    assert len(ids) == len(set(ids))


def test_page_has_both_colour_schemes(usual):
    report, _ = usual
    text = page(report)
    assert "prefers-color-scheme" in text
    assert "@media print" in text
    assert "filter: invert(1)" in text


def test_nothing_from_data_or_configuration_is_markup():
    plain = page(Report(study_facts(), [trial(0), failed(1)], evaluate(*predictions(2, 40))))
    trials = [trial(0, NASTY), trial(1, NASTY, state="FAIL", reason=NASTY, scores={})]
    shown = _Page(page(Report(nasty_facts(), trials, evaluate(*predictions(2, 40)))))
    assert set(shown.tags) <= set(_Page(plain).tags)
    assert shown.tags.count("script") == 1
    assert shown.text.count(" ".join(NASTY.split())) > 10
    assert not any(name.startswith("on") for name, _ in shown.attributes)


@pytest.mark.parametrize(
    ("trials", "drawings"), [([], 0), ([failed(0), failed(1)], 0), (search(("SGD",), 2), 1)]
)
def test_page_of_little(trials, drawings):
    shown = _Page(page(Report(study_facts(left_out={}, rows={"train": 10}), trials)))
    assert shown.tags.count("svg") == drawings
    assert "Test rows" not in shown.text


def test_data_cannot_break_a_line_or_turn_the_text_round():
    facts = study_facts(command="first\n\x1b[31msecond", target="a\u202eb")
    shown = _Page(page(Report(facts, [trial(0)])))
    assert "first\n\\x1b[31msecond" in "".join(shown.texts)
    assert "a\\u202eb" in shown.text
    assert not any(control in "".join(shown.texts) for control in ("\x1b", "\u202e"))


def test_a_percent_sign_stays_with_its_number():
    text = re.sub("<svg.*?</svg>", "", page(Report(study_facts(), [trial(0)])), flags=re.DOTALL)
    assert "70.0\xa0%" in text
    assert "70.0 %" not in text


def test_a_page_of_losses_speaks_of_losses():
    evidence = study_evidence({"SGD": 0.7, "Adam": 0.69}, metric=LOSS)
    facts = study_facts(metric=LOSS)
    shown = _Page(page(Report(facts, search(("SGD", "Adam")), None, evidence)))
    for text in ("Chosen byvalidation loss", "Loss in the search"):
        assert text in shown.text


def test_the_page_is_part_of_the_package():
    """What `page` reads lies beside it and is named as package data."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["pipeline"]
    for name in ("page.html", "page.css", "page.js"):
        assert (files("pipeline.report") / name).is_file()
        assert any(Path(f"report/{name}").match(pattern) for pattern in patterns)
