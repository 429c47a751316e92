"""`report.html`: what was found out, shown on one page that needs no other file.

Everything that came from data or configuration is escaped by `markup.element`.
"""

from pathlib import Path

from pipeline.common import text as formats
from pipeline.report import figures as plots
from pipeline.report import sections_evidence as evidence
from pipeline.report import sections_run as run
from pipeline.report import sections_settings as searched
from pipeline.report.facts import validation_words
from pipeline.report.markup import Safe, element
from pipeline.report.page_parts import card
from pipeline.report.page_script import SCRIPT, script_hash
from pipeline.report.page_style import STYLE
from pipeline.report.words import Report, verdict


def page(report: Report) -> str:
    """The page as HTML, which needs no other file and no network; its script only shows more."""
    sections = [
        _header(report),
        evidence.ranking(report),
        evidence.learning_rates(report),
        searched.settings(report),
        run.search(report),
        evidence.baselines(report),
        run.test(report),
        run.champion(report),
        run.changes(report),
        run.asked(report),
        run.data(report),
        run.again(report),
    ]
    body = element("main", *[section for section in sections if section])
    script = element("script", Safe(SCRIPT))
    whole = element("html", _head(report), element("body", body, script), lang="en")
    return f"<!DOCTYPE html>\n{whole}\n"


def write(report: Report, path: Path) -> Path:
    """Writes the page to `path`, in UTF-8."""
    path.write_text(page(report), encoding="utf-8")
    return path


def _head(report: Report) -> Safe:
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src {script_hash()}"
    )
    return element(
        "head",
        Safe('<meta charset="utf-8">'),
        Safe('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Safe('<meta name="color-scheme" content="light dark">'),
        Safe(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        element("title", f"{report.facts.experiment}: which optimizer, and which learning rate?"),
        element("style", Safe(_style())),
    )


def _style() -> str:
    light, dark = plots.css_variables(), plots.css_variables(dark=True)
    return (
        f":root{{{light}}}@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}{STYLE}"
    )


def _header(report: Report) -> Safe:
    first, *others = verdict(report)
    cards = _cards(report)
    return element(
        "header",
        element("p", report.facts.experiment, class_="over"),
        element("h1", "Which optimizer, and which learning rate?"),
        element("p", _question(report), class_="question"),
        element("dl", *cards, class_="cards") if cards else Safe(""),
        element("p", element("strong", first), " ", " ".join(others), class_="answer"),
    )


def _question(report: Report) -> str:
    """What was asked, in a sentence."""
    facts = report.facts
    rows = formats.count(facts.rows.get("train", 0), "row")
    return (
        f"{formats.listing(list(facts.optimizers))} on {formats.shorten(facts.source, 80)}: "
        f"{facts.target} from {formats.count(len(facts.columns), 'column')}, {rows} to learn from. "
        f"{formats.count(facts.trials, 'trial')}, {validation_words(facts)}."
    )


def _cards(report: Report) -> list[Safe]:
    best = report.best
    if best is None:
        return []
    found = report.evidence
    winner = found.winner if found is not None else None
    if found is not None and winner is not None:
        clear = "clearly ahead" if found.winner_is_clear else "not clearly ahead"
        if len(found.finalists) < 2:
            clear = f"trial {winner.trial}"
        spread = f"± {100 * winner.accuracy_std:.1f} over fresh folds"
        if found.repeats > 1:
            spread += (
                f"; {found.repeats} networks together {formats.percent(winner.ensemble_accuracy)}"
            )
        cards = [
            card("Best optimizer", winner.optimizer, clear, winner.optimizer),
            card("Learning rate", formats.number(winner.lr), f"trial {winner.trial}"),
            card("Cross-validated accuracy", formats.percent(winner.accuracy_mean), spread),
        ]
    else:
        kind = "Cross-validated accuracy" if report.facts.folds > 1 else "Validation accuracy"
        spread = f"± {100 * best.accuracy_std:.1f} over folds" if best.accuracy_std else ""
        cards = [
            card("Best optimizer", best.optimizer, f"trial {best.number}", best.optimizer),
            card("Learning rate", formats.number(best.lr), ""),
            card(kind, formats.percent(best.accuracy), spread),
        ]
    if report.evaluation is not None:
        scores = report.evaluation.scores
        interval = f"95 %: {100 * scores.accuracy_low:.1f} to {100 * scores.accuracy_high:.1f} %"
        cards.append(card("Test accuracy", formats.percent(scores.accuracy), interval))
    return cards
