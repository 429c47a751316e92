"""The table with a line for each optimizer, as plain text."""

from pipeline.analysis.evidence import Evidence
from pipeline.analysis.ranking import OptimizerSummary
from pipeline.common import text as formats
from pipeline.report.words import Report


def _against_best(report: Report, summary: OptimizerSummary) -> str:
    """How the optimizer stands to the best one: of the final round, else of the search."""
    if report.evidence is not None and report.evidence.winner is not None:
        return _against_winner(report.evidence, summary.optimizer)
    if report.best is None or summary.best is None:
        return "–"
    if summary.best == report.best.number:
        return "best"
    item = next(item for item in report.comparisons if item.other == summary.optimizer)
    behind = (
        f"−{item.difference:.3f}"
        if report.facts.objective == "val_loss"
        else f"−{100 * item.difference:.1f} points"
    )
    if item.basis == "none":
        return behind
    return f"{behind}, within noise" if item.within_noise else f"{behind}, beyond noise"


def _against_winner(evidence: Evidence, optimizer: str) -> str:
    winner = evidence.winner
    assert winner is not None
    if optimizer == winner.optimizer:
        return "best"
    pair = evidence.pair(winner.optimizer, optimizer)
    if pair is None:
        known = any(one.optimizer == optimizer for one in evidence.finalists)
        return "diverged in the final round" if known else "–"
    behind = (
        f"−{pair.difference:.3f}"
        if evidence.objective == "val_loss"
        else f"−{100 * pair.difference:.1f} points"
    )
    return f"{behind}, beyond noise" if pair.is_clear else f"{behind}, within noise"


def final_scores(report: Report) -> dict[str, str]:
    """Each finalist's score in the final round, as text; nothing without one."""
    if report.evidence is None:
        return {}
    loss = report.facts.objective == "val_loss"
    return {
        one.optimizer: (
            f"{formats.number(one.loss_mean)} ± {formats.number(one.loss_std, 2)}"
            if loss
            else f"{formats.percent(one.accuracy_mean)} ± {100 * one.accuracy_std:.1f}"
        )
        for one in report.evidence.finalists
        if one.completed
    }


def optimizer_rows(report: Report) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the table per optimizer, as plain text."""
    loss = report.facts.objective == "val_loss"
    score = "loss" if loss else "accuracy"
    head = ["Optimizer", f"Best {score}", "Best learning rate", "Against the best"]
    head += [f"Median {score}", "Trials", "Completed", "Failed", "Pruned", "Time"]
    final = final_scores(report)
    if final:
        head.insert(1, f"Final {score}")
    rows = []
    for item in report.summaries:
        spread = f" ± {100 * item.accuracy_std:.1f}" if item.accuracy_std else ""
        best = formats.number(item.loss) if loss else formats.percent(item.accuracy) + spread
        middle = formats.number(item.median_loss) if loss else formats.percent(item.median_accuracy)
        counts = [str(n) for n in (item.trials, item.complete, item.failed, item.pruned)]
        row = [item.optimizer, best, formats.number(item.lr), _against_best(report, item), middle]
        if final:
            row.insert(1, final.get(item.optimizer, "–"))
        rows.append([*row, *counts, formats.duration(item.seconds)])
    return head, rows
