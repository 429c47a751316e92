"""Sections of the page about the final round: ranking, differences, learning rates, baselines."""

from pipeline.analysis.evidence import Evidence, Finalist, Forgiveness
from pipeline.common import text as formats
from pipeline.report import figures as plots
from pipeline.report.markup import Safe, element
from pipeline.report.page_parts import details, figures, note, table
from pipeline.report.words import Report

RANKING = (
    "The best trial of each optimizer, trained again from fresh weights on fresh folds, the same "
    "for all. Each row is scored at an epoch that other rows chose. The interval is for the mean "
    "over folds, widened because their training parts overlap (Nadeau and Bengio, 2003). Optimism: "
    "how much better the search had made it look; of it stopping: what comes of scoring each "
    "network at the epoch that the scored rows like best."
)
TOGETHER = (
    " Together: the mean answer of the {repeats} networks that did not train on a row, as the "
    "registered ensemble answers."
)
PAIRS = (
    "Intervals and p-values by the corrected resampled t-test; together: intervals that hold for "
    "all pairs with 95 % (Bonferroni), p-values by Holm. The last column is the Bayesian "
    "correlated t-test (Benavoli et al., 2017)."
)


def ranking(report: Report) -> Safe:
    """The optimizers in the order of the final round, with intervals."""
    evidence = report.evidence
    if evidence is None:
        return Safe("")
    loss = evidence.objective == "val_loss"
    head = ["Optimizer", "Loss" if loss else "Accuracy", "95 % interval", "Together"]
    head += ["In the search", "Optimism", "of it stopping", "Learning rate", "Kept epoch", "Trial"]
    lines = [head, *(_finalist(one, evidence) for one in evidence.finalists)]
    said = RANKING
    if evidence.repeats > 1:
        said += TOGETHER.format(repeats=evidence.repeats)
    else:
        lines = [[*line[:3], *line[4:]] for line in lines]
    return element(
        "section",
        element("h2", "Ranking"),
        figures([(name, report.figures[name]) for name in ("final_scores", "pairs")]),
        table(lines[0], lines[1:], optimizers=1),
        note(said),
        _pairs(evidence),
    )


def _finalist(one: Finalist, evidence: Evidence) -> list[str]:
    rate, trial = formats.number(one.lr), str(one.trial)
    loss = evidence.objective == "val_loss"
    searched = formats.number(one.search_loss, 4) if loss else formats.percent(one.search_accuracy)
    if not one.completed:
        return [one.optimizer, "diverged", "–", "–", searched, "–", "–", rate, "–", trial]
    if loss:
        low, high = plots.score_interval(one.loss, evidence.folds)
        score, interval = formats.number(one.loss_mean, 4), f"{low:.4f} to {high:.4f}"
        ensemble = formats.number(one.ensemble_loss, 4)
        optimism, stopping = f"{one.optimism_loss:+.4f}", f"{one.stopping_loss:+.4f}"
    else:
        low, high = plots.score_interval(one.accuracy, evidence.folds, highest=1.0)
        score = formats.percent(one.accuracy_mean)
        interval = f"{100 * low:.1f} to {100 * high:.1f}"
        ensemble = formats.percent(one.ensemble_accuracy)
        optimism = f"{100 * one.optimism_accuracy:+.1f}"
        stopping = f"{100 * one.stopping_accuracy:+.1f}"
    epoch = "–" if one.best_epoch is None else f"{one.best_epoch:.0f}"
    row = [one.optimizer, score, interval, ensemble, searched, optimism, stopping]
    return [*row, rate, epoch, trial]


def _pairs(evidence: Evidence) -> Safe:
    if not evidence.pairs:
        return Safe("")
    loss = evidence.objective == "val_loss"
    scale, digits = (1, 4) if loss else (100, 1)
    margin = f"{formats.number(scale * evidence.pairs[0].margin, 2)} {'nats' if loss else 'points'}"
    head = ["Better", "Worse", "By", "95 % interval", "All together", "p", "Holm"]
    head.append(f"Chance of more than {margin}")
    rows = []
    for pair in evidence.pairs:
        values = (pair.low, pair.high, pair.low_all, pair.high_all)
        low, high, low_all, high_all = (f"{scale * value:+.{digits}f}" for value in values)
        rows.append(
            [
                pair.better,
                pair.worse,
                f"{scale * pair.difference:.{digits}f}",
                f"{low} to {high}",
                f"{low_all} to {high_all}",
                f"{pair.p_value:.2g}",
                f"{pair.p_adjusted:.2g}",
                formats.percent(pair.probability_better, 0),
            ]
        )
    count = formats.count(len(rows), "comparison")
    return details(f"All {count}" if len(rows) > 1 else count, table(head, rows, 2), note(PAIRS))


def learning_rates(report: Report) -> Safe:
    """How much each optimizer forgives a wrong learning rate; of rates that were not searched only
    how fast it learns."""
    names = [name for name in ("landscape_accuracy", "landscape_loss") if name in report.figures]
    if not names:
        return _speed(report)
    parts = [
        element("h2", "Learning rates"),
        figures([(name, report.figures[name]) for name in names]),
    ]
    evidence = report.evidence
    if evidence is not None:
        head = ["Optimizer", "Rates within one standard error", "Decades", "Diverged", "Trials"]
        head += ["Epochs to target", "Time to target"]
        rows = []
        for one in evidence.forgiveness:
            known = one.lr_low is not None and one.lr_high is not None
            rates = f"{formats.number(one.lr_low, 2)} to {formats.number(one.lr_high, 2)}"
            rows.append(
                [
                    one.optimizer,
                    rates if known else "–",
                    formats.number(one.decades, 2),
                    formats.percent(one.diverged, 0),
                    str(one.trials),
                    *_to_target(one),
                ]
            )
        parts += [table(head, rows, optimizers=1), note(_target(evidence))]
    return element("section", *parts)


def _speed(report: Report) -> Safe:
    """Epochs and time to the common target, where there is one."""
    evidence = report.evidence
    if evidence is None or all(one.target is None for one in evidence.forgiveness):
        return Safe("")
    head = ["Optimizer", "Epochs to target", "Time to target", "Diverged", "Trials"]
    rows = [
        [one.optimizer, *_to_target(one), formats.percent(one.diverged, 0), str(one.trials)]
        for one in evidence.forgiveness
    ]
    heading = element("h2", "How fast they learn")
    return element("section", heading, table(head, rows, optimizers=1), note(_target_of(evidence)))


def _to_target(one: Forgiveness) -> tuple[str, str]:
    epochs = "–" if one.epochs_to_target is None else str(one.epochs_to_target)
    seconds = one.seconds_to_target
    return epochs, "–" if seconds is None else f"{seconds:.2g} s"


def _target(evidence: Evidence) -> str:
    text = (
        "Scores of the search, at each network's kept epoch: that flatters high rates more than "
        "low ones, by up to a point or so on small tables. Standard error: of the optimizer's best "
        "trial, over its folds. The range ends before the first tried rate that is worse by more."
    )
    return f"{text} {_target_of(evidence)}".strip()


def _target_of(evidence: Evidence) -> str:
    """What the target is; empty without one."""
    target = next((one.target for one in evidence.forgiveness if one.target is not None), None)
    if target is None:
        return ""
    said = (
        f"accuracy {formats.percent(target)}"
        if evidence.objective == "val_accuracy"
        else f"loss {formats.number(target)}"
    )
    return f"Target: validation {said}, which the best trial of every optimizer reached."


def baselines(report: Report) -> Safe:
    """The network beside models that are none."""
    evidence = report.evidence
    if evidence is None or not evidence.baselines:
        return Safe("")
    head = ["Model", "Accuracy", "Loss", "Test accuracy", "Test loss"]
    rows = []
    winner = evidence.winner
    if winner is not None:
        scores = report.evaluation.scores if report.evaluation is not None else None
        tested = [
            formats.percent(scores.accuracy if scores else None),
            f"{scores.loss:.3f}" if scores else "–",
        ]
        alone = [formats.percent(winner.accuracy_mean), f"{winner.loss_mean:.3f}"]
        if evidence.repeats > 1:
            name = f"{evidence.repeats} networks together, {winner.optimizer}"
            score = [formats.percent(winner.ensemble_accuracy), f"{winner.ensemble_loss:.3f}"]
            rows.append([name, *score, *tested])
            rows.append(["one network", *alone, "–", "–"])
        else:
            rows.append([f"network, {winner.optimizer}", *alone, *tested])
    for one in evidence.baselines:
        rows.append(
            [
                one.name,
                formats.percent(one.accuracy_mean),
                f"{one.loss_mean:.3f}",
                formats.percent(one.test_accuracy),
                "–" if one.test_loss is None else f"{one.test_loss:.3f}",
            ]
        )
    text = (
        "Is a network worth having here? Accuracy and loss (nats) on the folds of the final round, "
        "of rows that neither trained nor stopped a model; the others are scikit-learn's with "
        "their defaults, trained on the same rows."
    )
    if report.evaluation is not None:
        text += " The test scores in the first line are those of the registered model."
    return element("section", element("h2", "Beside other models"), table(head, rows), note(text))
