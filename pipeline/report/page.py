"""`report.html`: what was found out, shown on one page that needs no other file.

Everything that came from data or configuration is escaped by `markup.element`.
"""

import html
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from pipeline import formats
from pipeline.report import plots
from pipeline.report.answer import (
    Report,
    loading_code,
    optimizer_rows,
    ui_command,
    validation_words,
    verdict,
)
from pipeline.report.markup import Safe, element, join
from pipeline.report.page_style import STYLE


def page(report: Report) -> str:
    """`report.html`: one page that needs no other file, no script and no network."""
    facts = report.facts
    title = f"{facts.experiment}: which optimizer, and which learning rate?"
    head = join(
        [
            Safe('<meta charset="utf-8">'),
            Safe('<meta name="viewport" content="width=device-width, initial-scale=1">'),
            Safe('<meta name="color-scheme" content="light dark">'),
            Safe(
                '<meta http-equiv="Content-Security-Policy" '
                "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">"
            ),
            element("title", title),
            element("style", Safe(_style())),
        ]
    )
    sections = [
        _header(report),
        _optimizers(report),
        _figures(report, "The search", ("learning_rate", "history", "curves")),
    ]
    if report.evaluation is not None:
        sections.append(_test(report))
    sections += [_failures(report), _asked(report), _table(report), _again(report)]
    body = element("main", *[section for section in sections if section])
    return (
        "<!DOCTYPE html>\n"
        + element("html", element("head", head), element("body", body), lang="en")
        + "\n"
    )


def write(report: Report, path: Path) -> Path:
    """Writes the page to `path`, in UTF-8."""
    path.write_text(page(report), encoding="utf-8")
    return path


def _style() -> str:
    light, dark = plots.css_variables(), plots.css_variables(dark=True)
    return (
        f":root{{{light}}}@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}{STYLE}"
    )


def _header(report: Report) -> Safe:
    facts, best = report.facts, report.best
    first, *others = verdict(report)
    answer = element("p", element("strong", first), " ", " ".join(others), class_="answer")
    cards = []
    if best is not None:
        kind = "Cross-validated accuracy" if facts.folds > 1 else "Validation accuracy"
        spread = f"± {100 * best.accuracy_std:.1f} over folds" if best.accuracy_std else ""
        cards = [
            _card("Best optimizer", best.optimizer, f"trial {best.number}", best.optimizer),
            _card("Learning rate", formats.number(best.lr), ""),
            _card(kind, formats.percent(best.accuracy), spread),
        ]
        if report.evaluation is not None:
            scores = report.evaluation.scores
            interval = (
                f"95 %: {100 * scores.accuracy_low:.1f} to {100 * scores.accuracy_high:.1f} %"
            )
            cards.append(_card("Test accuracy", formats.percent(scores.accuracy), interval))
    return element(
        "header",
        element("p", facts.experiment, class_="over"),
        element("h1", "Which optimizer, and which learning rate?"),
        element("dl", *cards, class_="cards") if cards else Safe(""),
        answer,
    )


def _card(name: str, value: str, note: str, optimizer: str | None = None) -> Safe:
    mark = _swatch(optimizer) if optimizer else Safe("")
    return element(
        "div",
        element("dt", name),
        element("dd", mark, value),
        element("dd", note, class_="note") if note else Safe(""),
    )


def _swatch(optimizer: str) -> Safe:
    color, _ = plots.optimizer_style(optimizer)
    return element("i", class_="swatch", style=f"background:var({plots.css_name(color)})")


def _optimizers(report: Report) -> Safe:
    head, rows = optimizer_rows(report)
    if not rows:
        return Safe("")
    lines = []
    for row in rows:
        name, *numbers = row
        cells = [element("th", _swatch(name), name, scope="row")]
        cells += [element("td", number, class_="number") for number in numbers]
        lines.append(element("tr", *cells))
    note = (
        "Scores on validation rows at the epoch that was kept, mean over folds. The best of many "
        "trials is chosen by this score, so it is a little optimistic; the test score is not. "
    )
    note += {
        "paired": "Noise: trials share their folds; 95 % interval of the differences per fold, "
        "widened because training parts overlap (Nadeau and Bengio, 2003).",
        "unpaired": "Noise: 95 % interval from the spread over folds.",
        "rows": "Noise: 95 % binomial interval on the validation rows of the single split.",
    }.get(report.comparisons[0].basis if report.comparisons else "", "")
    return element(
        "section",
        element("h2", "Optimizers"),
        _scrolling(
            element(
                "table",
                element("thead", element("tr", *[element("th", h, scope="col") for h in head])),
                element("tbody", *lines),
            )
        ),
        element("p", note.strip(), class_="note"),
    )


def _scrolling(table: Safe) -> Safe:
    return element("div", table, class_="scroll", tabindex="0")


def _figures(report: Report, heading: str, names: Sequence[str]) -> Safe:
    drawn = [_figure(report.figures[name], name) for name in names]
    return element("section", element("h2", heading), element("div", *drawn, class_="figures"))


def _figure(figure: Figure, name: str) -> Safe:
    label = html.escape(formats.printable(str(figure.get_label())))
    drawing = plots.svg(figure, name.replace("_", "-"))
    drawing = drawing.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
    wide = "wide" if figure.get_figwidth() > 7 else "narrow"
    return element("figure", Safe(drawing), class_=wide)


def _test(report: Report) -> Safe:
    evaluation, labels = report.evaluation, report.facts.labels
    if evaluation is None:
        return Safe("")
    scores = evaluation.scores
    several = len(labels) > 2
    facts = [
        ("Rows", f"{scores.n:,}"),
        (
            "Accuracy",
            f"{formats.percent(scores.accuracy)} (95 % Wilson interval "
            f"{formats.percent(scores.accuracy_low)} to {formats.percent(scores.accuracy_high)})",
        ),
        ("Most frequent label", formats.percent(scores.baseline)),
        ("Loss (cross entropy)", f"{scores.loss:.3f} nats"),
        (
            "ROC AUC, mean over labels" if several else "ROC AUC",
            "undefined: a label is absent" if scores.roc_auc is None else f"{scores.roc_auc:.3f}",
        ),
    ]
    names = ("confusion", "calibration", "roc", "precision_recall")
    drawn = _figures(report, "On test rows", names)
    note = "The test rows were opened once, for the model that the search had selected."
    return join([drawn, element("p", note, class_="note"), _list(facts)])


def _failures(report: Report) -> Safe:
    reasons = Counter(
        (trial.optimizer, trial.reason or "no reason recorded")
        for trial in report.trials
        if trial.state == "FAIL"
    )
    if not reasons:
        return Safe("")
    lines = [
        element("li", f"{formats.count(times, 'trial')} of {optimizer}: {reason}")
        for (optimizer, reason), times in reasons.most_common(12)
    ]
    return element("section", element("h2", "Failed trials"), element("ul", *lines))


def _asked(report: Report) -> Safe:
    facts = report.facts
    rows = formats.count(facts.rows.get("train", 0), "training row")
    if "test" in facts.rows:
        rows += f", {formats.count(facts.rows['test'], 'test row')}"
    aim = "validation accuracy" if facts.objective == "val_accuracy" else "validation loss"
    listed = [
        ("Table", facts.source),
        ("Rows", rows),
        ("Label", f"{facts.target}: {formats.shorten(', '.join(map(str, facts.labels)), 300)}"),
        ("Optimizers", ", ".join(facts.optimizers)),
        ("Budget", f"{formats.count(facts.trials, 'trial')}, at most {facts.epochs} epochs each"),
        ("Chosen by", aim),
        ("Validation", validation_words(facts)),
    ]
    parts = [element("h2", "What was asked"), _list(listed)]
    if facts.settings:
        parts.append(
            element(
                "details",
                element("summary", "Every setting"),
                _list(list(facts.settings.items()), class_="mono"),
            )
        )
    return element("section", *parts)


def _table(report: Report) -> Safe:
    facts = report.facts
    used = [
        element("li", element("code", name), f" {kind}") for name, kind in facts.columns.items()
    ]
    parts = [
        element("h2", "The table"),
        element("p", f"{formats.count(len(used), 'column')} used:"),
        element("ul", *used, class_="columns"),
    ]
    if facts.left_out:
        left = [
            element("li", element("code", name), f": {reason}")
            for name, reason in facts.left_out.items()
        ]
        parts += [
            element("p", f"{formats.count(len(left), 'column')} left out:"),
            element("ul", *left),
        ]
    else:
        parts.append(element("p", "No column was left out."))
    return element("section", *parts)


def _again(report: Report) -> Safe:
    facts = report.facts
    parts = [element("h2", "Do it again")]
    if facts.command:
        parts += [element("p", "The same search:"), _code(facts.command)]
    if facts.model_uri:
        parts += [element("p", "Load the model:"), _code(loading_code(facts.model_uri))]
    parts += [element("p", "Open all trials:"), _code(ui_command(facts.tracking_uri))]
    listed = [
        ("Fingerprint of the rows", facts.fingerprint),
        ("SHA-256 of the table", facts.digest),
        ("Versions", ", ".join(f"{name} {number}" for name, number in facts.versions.items())),
    ]
    parts.append(_list([(name, value) for name, value in listed if value], class_="mono"))
    return element("section", *parts)


def _code(code: str) -> Safe:
    lines = Safe("\n".join(join([line]) for line in code.split("\n")))
    return element("pre", element("code", lines), tabindex="0")


def _list(items: Sequence[tuple[str, str]], class_: str = "") -> Safe:
    children = [
        part for name, value in items for part in (element("dt", name), element("dd", value))
    ]
    return element("dl", *children, class_=f"facts {class_}".strip())
