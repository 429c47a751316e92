import html
import re

from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from pipeline.analysis.evaluation import evaluate
from pipeline.common.addresses import masked
from pipeline.common.text import printable
from pipeline.data.schema import Column, Inputs, Schema
from pipeline.report.descriptions import inputs_text, markdown, search_description
from pipeline.report.report import Report
from pipeline.report.tables import optimizer_table
from pipeline.report.words import verdict
from tests.study import NASTY, failed, nasty_facts, predictions, search, study_facts, trial

RENDER = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render


def _shown(rendered):
    return html.unescape(re.sub(r"<[^>]+>", "", rendered)).strip()


@given(st.text(max_size=30))
@settings(max_examples=60)
def test_markdown_shows_exactly_the_text(text):
    line = " ".join(f"x{printable(text)}x".split())
    rendered = RENDER(markdown(line)).strip()
    assert rendered.startswith("<p>")
    assert "<" not in rendered[3:-4]
    assert html.unescape(rendered[3:-4]) == masked(line)


def test_search_description_renders():
    report = Report(study_facts(), search(trials=20), evaluate(*predictions(2, 100)))
    rendered = RENDER(search_description(report))
    first, *others = verdict(report)
    assert f"<strong>{html.escape(first, quote=False)}</strong>" in rendered
    assert all(sentence in _shown(rendered) for sentence in others)
    rows = optimizer_table(report).rows
    assert rendered.count("<tr>") == len(rows) + 1
    assert rendered.count("<td") == sum(map(len, rows))
    assert "mlflow.pyfunc.load_model" in rendered


def test_description_before_the_test_rows_are_scored():
    text = search_description(Report(study_facts(model_uri=""), search(trials=8)))
    assert "test" not in text.split("Table:")[0]
    assert "load_model" not in text


def test_names_from_data_are_text():
    facts = nasty_facts()
    trials = [trial(0, NASTY), failed(1, NASTY)]
    rendered = RENDER(search_description(Report(facts, trials)))
    assert "<script" not in rendered
    assert not re.search(r"<(em|a|img|h\d)\b", rendered)
    assert rendered.count("<td") == 5
    assert _shown(rendered).count(NASTY) >= 4


def test_description_without_a_completed_trial():
    assert "No trial completed" in search_description(Report(study_facts(), [failed(0)]))
    assert "No trial has run yet" in search_description(Report(study_facts(), []))


def test_columns():
    columns = (Column("a_b", "number"), Column("c", "category", ("u", "v")))
    assert inputs_text(Schema(columns, "y", (0, 1))) == (
        "Rows have the columns a_b (number), c (category). The probability is that of 1."
    )
    many = tuple(Column(str(i), "date") for i in range(50))
    assert inputs_text(Schema(many, "y", (0, 1, 2))).endswith("39 (date), and 10 more.")


def test_arrays():
    schema = Schema((), "label", (0, 1), Inputs((3, 8, 8), "uint8"))
    assert (
        inputs_text(schema)
        == "Rows are an array \\[rows, 3, 8, 8\\] of uint8. The probability is that of 1."
    )
