"""`report.html`: what was found out, shown on one page that needs no other file and no network.

`page.html` is its template, which escapes all that it is given; `page.css` and `page.js` go into it
as they are."""

import base64
import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.common.text import count, listing, number, percent, printable, shorten
from pipeline.models.metrics import ACCURACY
from pipeline.report import figures, tables, words
from pipeline.report.report import Report

_HERE = Path(__file__).parent


def page(report: Report) -> str:
    """The page as HTML; its content security policy allows its own script only."""
    script = (_HERE / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    failed = [trial for trial in report.trials if trial.state == "FAIL"]
    blocks: dict[str, Any] = {"trim_blocks": True, "lstrip_blocks": True}
    strict: dict[str, Any] = {"autoescape": True, "undefined": StrictUndefined, "finalize": _shown}
    environment = Environment(loader=FileSystemLoader(_HERE), **strict, **blocks)
    return environment.get_template("page.html").render(
        report=report,
        cards=_cards(report),
        failures=Counter((t.optimizer, t.reason or "no reason recorded") for t in failed),
        script=Markup(script),
        script_digest=digest,
        style=Markup((_HERE / "page.css").read_text(encoding="utf-8")),
        color=lambda optimizer: figures.optimizer_style(optimizer)[0],
        svg=lambda plot, name: Markup(figures.svg(plot, name.replace("_", "-"))),
        lines=lambda text: Markup("\n").join(_shown(line) for line in text.split("\n")),
        **{helper.__name__: helper for helper in (count, listing, percent, shorten)},
        tables=tables,
        words=words,
    )


def _shown(value: Any) -> Any:
    """Text without control characters, a percent sign with its number; markup as it is."""
    return value if isinstance(value, Markup) else printable(str(value)).replace(" %", "\xa0%")


def _cards(report: Report) -> list[tuple[str, str, str]]:
    """What is read first: name, value and note; the first value is an optimizer."""
    best, evidence, winner = report.best, report.evidence, report.winner
    if best is None:
        return []
    metric, leader = report.metric, winner or best
    standing, note = "", "on validation rows, which flatters"
    score = best.score(metric)
    if evidence is not None and winner is not None:
        score, ends = winner.mean(metric), map(metric.amount, evidence.interval_of(winner))
        note = f"on rows not trained on; 95 % interval {' to '.join(ends)}"
        if len(evidence.finalists) > 1:
            standing = "clearly ahead" if evidence.winner_is_clear else "not clearly ahead"
    cards = [
        ("Optimizer", leader.optimizer, standing),
        ("Learning rate", number(leader.lr), ""),
        (metric.heading, metric.text(score), note),
    ]
    if report.evaluation is not None:
        scores = report.evaluation.scores
        ends = map(ACCURACY.amount, (scores.accuracy_low, scores.accuracy_high))
        note = f"on {count(scores.n, 'row')} kept back; 95 % interval {' to '.join(ends)}"
        cards.append(("Test accuracy", percent(scores.accuracy), note))
    return cards
