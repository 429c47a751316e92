"""`report.html`: what was found out, shown on one page that needs no other file and no network.

`page.html` is its template; `page.js` goes into it as it is."""

import base64
import hashlib
from collections import Counter

from markupsafe import Markup

from pipeline.common.text import count, number, percent
from pipeline.models.metrics import ACCURACY
from pipeline.report import tables, words
from pipeline.report.report import Report
from pipeline.report.templates import HERE, rendered, shown


def page(report: Report) -> str:
    """The page as HTML; its content security policy allows its own script only."""
    script = (HERE / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    failed = [trial for trial in report.trials if trial.state == "FAIL"]
    return rendered(
        "page.html",
        report=report,
        cards=_cards(report),
        failures=Counter((t.optimizer, t.reason or "no reason recorded") for t in failed),
        script=Markup(script),
        script_digest=digest,
        lines=lambda text: Markup("\n").join(shown(line) for line in text.split("\n")),
        tables=tables,
        words=words,
    )


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
