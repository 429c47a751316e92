"""The Markdown descriptions of runs and models; of the pipeline's and the train run the answer."""

import html
import re
from collections.abc import Mapping

from pipeline.common.addresses import masked
from pipeline.common.text import count, few, printable
from pipeline.data.prepared import PreparedData
from pipeline.data.schema import Schema
from pipeline.report.report import Report
from pipeline.report.tables import Table, optimizer_table
from pipeline.report.words import loading_code, validation_words, verdict

_SPECIAL = re.compile(
    r"(?P<sign>[\\`*\[\]#~|>@])|(?P<html>[<&])|(?<=[^\W_])_+(?=[^\W_])|(?P<line>_)"
)


def markdown(text: str) -> str:
    """Text as Markdown that shows exactly it, in one line and within a table's cell, and that reads
    well as it stands: only what means something is escaped."""

    def escaped(found: re.Match[str]) -> str:
        text = found.group()
        if found["html"]:
            return html.escape(text)
        return f"\\{text}" if found["sign"] or found["line"] else text

    return _SPECIAL.sub(escaped, printable(masked(text)))


def markdown_table(table: Table) -> str:
    """The table as Markdown."""
    lines = [
        [markdown(column.heading) for column in table.columns],
        ["--:" if column.kind == "number" else ":--" for column in table.columns],
        *[[markdown(cell) for cell in row] for row in table.rows],
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def links(pages: Mapping[str, str]) -> str:
    """Pages by what they show, as Markdown."""
    return " · ".join(f"[{markdown(name)}]({page})" for name, page in pages.items())


def inputs_text(schema: Schema) -> str:
    """What rows a model takes, as Markdown: each column with its kind, or the form of arrays."""
    if schema.inputs is None:
        columns = _each_with({column.name: column.kind for column in schema.columns})
        text = f"Rows have the columns {columns}."
    else:
        shape = ", ".join(map(str, schema.inputs.shape))
        text = f"Rows are an array \\[rows, {shape}\\] of {schema.inputs.dtype}."
    return f"{text} The {markdown(schema.positive)}." if schema.positive else text


def prepare_description(parts: PreparedData, unit: str) -> str:
    """The description of the prepare run: how many rows, which columns and which not, and why, and
    what is to be said of the rows. `unit`: what rows come in, a group or a moment."""
    train, test = (
        count(parts.rows[subset], "row")
        + (f" of {count(n, unit)}" if (n := parts.groups.get(subset)) else "")
        for subset in ("train", "test")
    )
    text = f"{train} to train and validate on, {test} held out for the test."
    text += f" {inputs_text(parts.schema)}"
    text += f" Left out: {_each_with(parts.left_out)}." if parts.left_out else ""
    return "\n\n".join([text, *(f"**Warning:** {markdown(each)}" for each in parts.warnings)])


def _each_with(columns: Mapping[str, str], shown: int = 40) -> str:
    """Columns, each with its text, as far as a description holds them."""
    named = [f"{markdown(name)} ({markdown(text)})" for name, text in list(columns.items())[:shown]]
    return ", ".join(few(named, shown, len(columns)))


def search_description(report: Report) -> str:
    """The description of the pipeline's and the train run: the answer, the table, how to load."""
    facts = report.facts
    first, *others = verdict(report)
    parts = [f"**{markdown(first)}** {markdown(' '.join(others))}".strip()]
    parts += [markdown(report.registered)] if report.registered else []
    parts += [markdown_table(optimizer_table(report))] if report.summaries else []
    parts.append(
        f"Table: {markdown(facts.source)}, label {markdown(facts.target)}, "
        f"{count(facts.rows.get('train', 0), 'training row')}, {markdown(facts.form)}. "
        f"Validation: {validation_words(facts)}."
    )
    if facts.model_uri:
        code = loading_code(facts).replace("```", "'''")
        parts.append(f"```python\n{code}\n```")
    return "\n\n".join(parts) + "\n"
