"""Sections of the page about the run: the search, test rows, the model, how to do it again."""

from collections import Counter

from pipeline.common import text as formats
from pipeline.report.changes import what_would_change
from pipeline.report.facts import validation_words
from pipeline.report.markup import Safe, element
from pipeline.report.page_parts import code, details, facts, figures, note, table
from pipeline.report.tables import optimizer_rows
from pipeline.report.words import Report, loading_code, ui_command

_NOISE = {
    "paired": "Noise: trials share their folds; 95 % interval of the differences per fold, "
    "widened because training parts overlap (Nadeau and Bengio, 2003).",
    "unpaired": "Noise: 95 % interval from the spread over folds.",
    "rows": "Noise: 95 % binomial interval on the validation rows of the single split.",
}


def search(report: Report) -> Safe:
    """Every trial, the curves, the budget, and a line for each optimizer."""
    names = [name for name in ("learning_rate", "budget", "curves", "history")
             if name in report.figures]  # fmt: skip
    parts = [
        element("h2", "The search"),
        figures([(name, report.figures[name]) for name in names]),
    ]
    head, rows = optimizer_rows(report)
    if rows:
        text = (
            "Scores on validation rows at the epoch that was kept, mean over folds. The best of "
            "many trials is chosen by this score, so it is a little optimistic; "
        )
        text += (
            "the final round and the test score are not."
            if report.evidence is not None
            else "the test score is not. "
        )
        if report.evidence is None and report.comparisons:
            text += _NOISE.get(report.comparisons[0].basis, "")
        parts += [table(head, rows, optimizers=1), note(text.strip())]
    return element("section", *parts, _failures(report))


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
    count = formats.count(reasons.total(), "failed trial")
    return details(count, element("ul", *lines))


def test(report: Report) -> Safe:
    """What the model does on rows that nothing was chosen by."""
    evaluation, labels = report.evaluation, report.facts.labels
    if evaluation is None:
        return Safe("")
    scores = evaluation.scores
    several = len(labels) > 2
    listed = [
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
    return element(
        "section",
        element("h2", "On test rows"),
        figures([(name, report.figures[name]) for name in names]),
        note("The test rows were opened once, for the model that had been chosen without them."),
        facts(listed),
    )


def champion(report: Report) -> Safe:
    """Which alias the model got, and why; how to load it."""
    if not report.registered and not report.facts.model_uri:
        return Safe("")
    parts = [element("h2", "The model")]
    if report.registered:
        parts.append(element("p", report.registered))
    if report.facts.model_uri:
        parts += [element("p", "Load it:"), code(loading_code(report.facts.model_uri))]
    return element("section", *parts)


def changes(report: Report) -> Safe:
    """What would change the answer."""
    found = what_would_change(report)
    if not found:
        return Safe("")
    lines = [element("li", sentence) for sentence in found]
    return element("section", element("h2", "What would change the answer"), element("ul", *lines))


def asked(report: Report) -> Safe:
    """The question, in a list, with every setting."""
    known = report.facts
    rows = formats.count(known.rows.get("train", 0), "training row")
    if "test" in known.rows:
        rows += f", {formats.count(known.rows['test'], 'test row')}"
    aim = "validation accuracy" if known.objective == "val_accuracy" else "validation loss"
    labels = formats.shorten(", ".join(map(str, known.labels)), 300)
    listed = [
        ("Table", known.source),
        ("Rows", rows),
        ("Label", f"{known.target}: {labels}"),
        ("Optimizers", ", ".join(known.optimizers)),
        ("Budget", f"{formats.count(known.trials, 'trial')}, at most {known.epochs} epochs each"),
        ("Chosen by", aim),
        ("Validation", validation_words(known)),
    ]
    parts = [element("h2", "What was asked"), facts(listed)]
    if known.settings:
        parts.append(details("Every setting", facts(list(known.settings.items()), "mono")))
    return element("section", *parts)


def data(report: Report) -> Safe:
    """The table's columns."""
    known = report.facts
    used = [
        element("li", element("code", name), f" {kind}") for name, kind in known.columns.items()
    ]
    columns = element("ul", *used, class_="columns")
    count = f"{formats.count(len(used), 'column')} used"
    parts = [element("h2", "The table")]
    if len(used) > 40:
        parts.append(details(count, columns))
    else:
        parts += [element("p", f"{count}:"), columns]
    if known.left_out:
        left = [
            element("li", element("code", name), f": {reason}")
            for name, reason in known.left_out.items()
        ]
        parts += [
            element("p", f"{formats.count(len(left), 'column')} left out:"),
            element("ul", *left),
        ]
    else:
        parts.append(element("p", "No column was left out."))
    return element("section", *parts)


def again(report: Report) -> Safe:
    """How to reproduce it, and the versions that it was done with."""
    known = report.facts
    parts = [element("h2", "Do it again")]
    if known.command:
        parts += [element("p", "The same search:"), code(known.command)]
    parts += [element("p", "Open all trials:"), code(ui_command(known.tracking_uri))]
    listed = [
        ("Fingerprint of the rows", known.fingerprint),
        ("SHA-256 of the table", known.digest),
        ("Versions", ", ".join(f"{name} {number}" for name, number in known.versions.items())),
    ]
    parts.append(facts([(name, value) for name, value in listed if value], "mono"))
    return element("section", *parts)
