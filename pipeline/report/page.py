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

from pipeline.analysis.importance import LEAST_TRIALS
from pipeline.common.text import count, listing, number, percent, printable, shorten
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
        landscapes=[name for name in report.figures if name.startswith("landscape_")],
        cards=_cards(report),
        failures=Counter((t.optimizer, t.reason or "no reason recorded") for t in failed),
        script=Markup(script),
        script_digest=digest,
        style=Markup((_HERE / "page.css").read_text(encoding="utf-8")),
        color=lambda optimizer: figures.optimizer_style(optimizer)[0],
        svg=lambda plot, name: Markup(figures.svg(plot, name.replace("_", "-"))),
        lines=lambda text: Markup("\n").join(_shown(line) for line in text.split("\n")),
        LEAST_TRIALS=LEAST_TRIALS,
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
    kind = "Cross-validated" if report.facts.folds > 1 else "Validation"
    metric = report.metric
    score, deviation = best.score(metric), best.deviation(metric)
    standing, spread = "", f"{metric.spread(deviation)} over folds" if deviation else ""
    trial = best.number
    if evidence is not None and winner is not None:
        kind, score, trial = "Cross-validated", winner.mean(metric), winner.trial
        folds = "forward" if evidence.is_forward else "fresh"
        spread = f"{metric.spread(winner.deviation(metric))} over {folds} folds"
        if evidence.repeats > 1:
            together = metric.text(winner.ensemble[metric.name])
            spread += f"; {evidence.repeats} networks together {together}"
        if len(evidence.finalists) > 1:
            standing = "clearly ahead" if evidence.winner_is_clear else "not clearly ahead"
    leader = winner or best
    cards = [
        ("Best optimizer", leader.optimizer, standing),
        ("Learning rate", number(leader.lr), f"trial {trial}"),
        (f"{kind} {metric.words}", metric.text(score), spread),
    ]
    if report.evaluation is not None:
        scores = report.evaluation.scores
        interval = f"95 %: {100 * scores.accuracy_low:.1f} to {100 * scores.accuracy_high:.1f} %"
        cards.append(("Test accuracy", percent(scores.accuracy), interval))
        if metric.name in scores.further:
            ends = [metric.amount(end) for end in scores.intervals.get(metric.name, ())]
            value = metric.text(scores.further[metric.name])
            interval = f"95 %: {' to '.join(ends)}" if ends else ""
            cards.append((f"Test {metric.words}", value, interval))
    return cards
