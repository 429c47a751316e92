"""The Markdown descriptions of runs and models; of the pipeline's and the train run the answer."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pipeline.common import text as formats
from pipeline.report.facts import validation_words
from pipeline.report.tables import optimizer_rows
from pipeline.report.words import Report, loading_code, verdict

if TYPE_CHECKING:
    from pipeline.data.dataset import Parts


def markdown(text: str) -> str:
    """Text as Markdown that shows exactly it, in one line and within a table's cell."""
    text = formats.printable(text)
    return re.sub(r"[^\w\s%±−–,;:/'\"().+=?-]|_", lambda m: f"&#{ord(m.group())};", text).replace(
        "://", "&#58;//"
    )


def columns_text(columns: Mapping[str, str]) -> str:
    """What rows a model takes, as Markdown: each column with its kind."""
    return f"Rows have the columns {_each_with(columns)}."


def prepare_description(parts: "Parts") -> str:
    """The description of the prepare run: how many rows, which columns and which not, and why."""
    train, test = (formats.count(parts.rows[part], "row") for part in ("train", "test"))
    text = f"{train} to train and validate on, {test} held out for the test."
    columns = columns_text({column.name: column.kind for column in parts.schema.columns})
    return f"{text} {columns}" + (
        f" Left out: {_each_with(parts.left_out)}." if parts.left_out else ""
    )


def _each_with(columns: Mapping[str, str], shown: int = 40) -> str:
    """Columns, each with what is said of it, as far as a description holds them."""
    named = [f"{markdown(name)} ({markdown(said)})" for name, said in list(columns.items())[:shown]]
    return ", ".join(named) + (f", and {len(columns) - shown} more" if len(columns) > shown else "")


def pipeline_description(report: Report) -> str:
    """The description of the pipeline's run: the answer, the table, how to load."""
    return _description(report)


def train_description(report: Report) -> str:
    """The description of the train run: as the pipeline's, without the test rows."""
    return _description(Report(report.facts, report.trials, evidence=report.evidence))


def _description(report: Report) -> str:
    facts = report.facts
    first, *others = verdict(report)
    parts = [f"**{markdown(first)}** {markdown(' '.join(others))}".strip()]
    head, rows = optimizer_rows(report)
    if rows:
        lines = [head, [":--"] + ["--:"] * (len(head) - 1)]
        lines += [[markdown(cell) for cell in row] for row in rows]
        parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    parts.append(
        f"Table: {markdown(facts.source)}, label {markdown(facts.target)}, "
        f"{formats.count(facts.rows.get('train', 0), 'training row')}, "
        f"{formats.count(len(facts.columns), 'column')}. "
        f"Validation: {validation_words(facts)}."
    )
    if facts.model_uri:
        parts.append(f"```python\n{_fenced(loading_code(facts.model_uri))}\n```")
    return "\n\n".join(parts) + "\n"


def _fenced(code: str) -> str:
    return code.replace("```", "'''")
