"""What would change the answer: where the evidence is thin, in plain sentences."""

from collections.abc import Iterator

from pipeline.analysis.evidence import Evidence, Finalist
from pipeline.common import text as formats
from pipeline.report.words import Report

_EDGE_TRIALS = 4  # tried learning rates from which on the outermost one says something
_MOST_TIMES = 50  # as many rows; beyond, no number of rows is worth naming
_LEAST_GAIN = 0.005  # accuracy, or nats, that more trials are worth naming for


def what_would_change(report: Report) -> list[str]:
    """The sentences, the weightiest first; empty when no trial completed."""
    if report.best is None:
        return []
    found = [*_baselines(report), *_closest(report), *_limits(report), *_test_rows(report)]
    return found or ["Nothing that this run can see."]


def _baselines(report: Report) -> Iterator[str]:
    evidence = report.evidence
    if evidence is None or evidence.winner is None:
        return
    winner = evidence.winner
    best = max(winner.accuracy_mean, winner.ensemble_accuracy or 0.0)
    for one in evidence.baselines:
        ahead = one.accuracy_mean - best
        if ahead > 0:
            yield (
                f"{_first_upper(one.name)} is {100 * ahead:.1f} points ahead of the best networks "
                "in cross-validation: for this table another kind of model may serve better than "
                "any optimizer."
            )


def _closest(report: Report) -> Iterator[str]:
    """How much it would take to tell the winner from the nearest other one."""
    evidence = report.evidence
    if evidence is None or evidence.winner is None:
        return
    own = [pair for pair in evidence.pairs if pair.better == evidence.winner.optimizer]
    open_ = [pair for pair in own if not pair.is_clear]
    if not open_:
        return
    nearest = min(open_, key=lambda pair: pair.difference)
    half = (nearest.high_all - nearest.low_all) / 2
    names = f"{nearest.better} and {nearest.worse}"
    times = (half / nearest.difference) ** 2 if nearest.difference > 0 else float("inf")
    if times > _MOST_TIMES:
        yield (
            f"{names} are so close that no number of rows that is worth collecting would tell "
            "them apart; choose by another need, such as speed or how much it forgives."
        )
    else:
        yield (
            f"About {formats.number(times, 2)} times as many rows would tell {names} apart, if the "
            "difference stays as it is: an interval narrows with the square root of the rows. More "
            "repeats of the folds narrow it little, since they hold the same rows."
        )


def _limits(report: Report) -> Iterator[str]:
    yield from _edges(report)
    evidence = report.evidence
    if evidence is not None and evidence.winner is not None:
        yield from _epochs(report, evidence.winner)
        yield from _budget(report, evidence)


def _edges(report: Report) -> Iterator[str]:
    """Optimizers whose best learning rate is the lowest or the highest that was tried."""
    for summary in report.summaries:
        rates = sorted({t.lr for t in report.trials if t.optimizer == summary.optimizer})
        if summary.lr is None or len(rates) < _EDGE_TRIALS:
            continue
        for edge, word, way in ((rates[0], "lowest", "down"), (rates[-1], "highest", "up")):
            if summary.lr == edge:
                yield (
                    f"{summary.optimizer} was best at the {word} learning rate that was tried, "
                    f"{formats.number(edge)}: it may be better further {way}, so widen its range."
                )


def _epochs(report: Report, winner: Finalist) -> Iterator[str]:
    limit = report.facts.epochs
    if winner.best_epoch is None or not limit.isdigit():
        return
    if winner.best_epoch >= 0.9 * int(limit):
        yield (
            f"{winner.optimizer} was still getting better when its {limit} epochs were over (kept: "
            f"{winner.best_epoch:.0f} on average): with more training.epochs it may get further."
        )


def _budget(report: Report, evidence: Evidence) -> Iterator[str]:
    tried = {one.optimizer: one.trials for one in evidence.forgiveness}
    few, many = min(tried.values(), default=0), max(tried.values(), default=0)
    if few and many >= 2 * few:
        rarest = [name for name, count in tried.items() if count == few]
        yield (
            f"The search spent {many} trials on one optimizer and {few} on "
            f"{formats.listing(rarest)}; with search.budget=equal each has the same chance."
        )
    for one in evidence.forgiveness:
        if one.standard_error is None or len(one.expected_best) < 4:
            continue
        gain = abs(
            float(one.expected_best[-1] - one.expected_best[len(one.expected_best) // 2 - 1])
        )
        if gain > max(one.standard_error, _LEAST_GAIN):
            said = (
                f"{100 * gain:.1f} points"
                if evidence.objective == "val_accuracy"
                else f"{gain:.3f} nats"
            )
            yield (
                f"The second half of the trials of {one.optimizer} was still worth {said}: more "
                "trials may find a better setting."
            )


def _test_rows(report: Report) -> Iterator[str]:
    if report.evaluation is None:
        return
    scores = report.evaluation.scores
    half = 50 * (scores.accuracy_high - scores.accuracy_low)
    yield (
        f"{formats.count(scores.n, 'test row')} fix the test accuracy to about ± {half:.1f} "
        "points: models that differ by less cannot be told apart on them."
    )


def _first_upper(text: str) -> str:
    return text[:1].upper() + text[1:]
