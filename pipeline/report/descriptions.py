"""The Markdown descriptions of the pipeline's and the train run: the answer first."""

import re
from collections.abc import Mapping

from pipeline import formats
from pipeline.report.answer import Report, loading_code, optimizer_rows, validation_words, verdict


def markdown(text: str) -> str:
    """Text as Markdown that shows exactly it, in one line and within a table's cell."""
    text = formats.printable(text)
    return re.sub(r"[^\w\s%±−–,;:/'\"().+=?-]|_", lambda m: f"&#{ord(m.group())};", text).replace(
        "://", "&#58;//"
    )


def columns_text(columns: Mapping[str, str], shown: int = 40) -> str:
    """What rows a model takes, as Markdown: each column with its kind."""
    named = [f"{markdown(name)} ({kind})" for name, kind in list(columns.items())[:shown]]
    more = f", and {len(columns) - shown} more" if len(columns) > shown else ""
    return f"Rows have the columns {', '.join(named)}{more}."


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
