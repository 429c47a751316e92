"""The answer in words, as plain text, and what would change it.

`page` makes `report.html` of it and `descriptions` the Markdown that MLflow shows."""

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence

from pipeline.analysis.comparison import Pair
from pipeline.analysis.evidence import Evidence, Finalist
from pipeline.analysis.ranking import completed
from pipeline.common.text import count, listing, number, percent
from pipeline.models.metrics import ACCURACY, Metric
from pipeline.report.report import Facts, Report
from pipeline.search.settings import others_text
from pipeline.training.trial import Trial

_EDGE_TRIALS = 4  # tried learning rates from which on the outermost one says something
_MOST_TIMES = 50  # as many rows; beyond, no number of rows is worth naming
_LEAST_GAIN = 0.005  # accuracy, or nats, that more trials are worth naming for


def verdict(report: Report) -> list[str]:
    """The answer in three plain sentences: the best, against the others, on test rows.

    A fourth where the network is not worth having."""
    best, evidence = report.best, report.evidence
    if best is None and not report.trials:
        return ["No trial has run yet."]
    if best is None:
        failed = [trial for trial in report.trials if trial.state == "FAIL"]
        reasons = Counter(trial.reason or "no reason recorded" for trial in failed)
        common = f": {reasons.most_common(1)[0][0]}" if reasons else ""
        trials = count(len(report.trials), "trial")
        return [f"No trial completed: {len(failed)} of {trials} failed{common}."]
    sentences = [_best_sentence(report, best), _search_comparison(report, best)]
    if evidence is not None and evidence.winner is not None:
        first = _winner_sentence(report, evidence, evidence.winner)
        sentences = [first, comparison_sentence(evidence)]
    if report.evaluation is not None:
        scores = report.evaluation.scores
        right = f"{percent(scores.accuracy_low)} to {percent(scores.accuracy_high)}"
        sentences.append(
            f"On {count(scores.n, 'test row')}, which the search never saw, the model is right for "
            f"{percent(scores.accuracy)} (95 % interval {right}); always answering the most "
            f"frequent label would be right for {percent(scores.baseline)}."
        )
    majority = evidence.baseline("majority label") if evidence is not None else None
    if evidence is not None and majority is not None and evidence.beats_majority is False:
        sentences.append(
            "The network does not beat always answering the most frequent label "
            f"({percent(majority.mean(ACCURACY))} on the same folds): these columns may say "
            "nothing about the label."
        )
    return sentences


def _best_sentence(report: Report, best: Trial) -> str:
    """The search's estimate."""
    facts, metric = report.facts, report.metric
    kind, unit = ("cross-validated", "fold") if facts.folds > 1 else ("validation", "split")
    members, deviation = facts.folds * facts.repeats, best.deviation(metric)
    score = f"{kind} {metric.name} {metric.text(best.score(metric))}"
    if deviation is not None and members > 1:
        score += f" ({metric.spread(deviation)}, standard deviation over {count(members, unit)})"
    done = count(len(completed(report.trials)), "completed trial")
    return f"{_with_settings(best)} did best: {score}, the best of {done}."


def _winner_sentence(report: Report, evidence: Evidence, winner: Finalist) -> str:
    """The final round's estimate, and how much the search had flattered it."""
    metric, repeats = evidence.metric, evidence.repeats
    again = f", {repeats} times" if repeats > 1 else ""
    score = (
        f"{metric.name} {metric.text(winner.mean(metric))} on {evidence.folds} fresh folds{again} "
        f"({metric.spread(winner.deviation(metric))}, standard deviation over folds; the "
        f"search had {metric.text(winner.search[metric.name])})"
    )
    if repeats > 1:
        score += f", {metric.text(winner.ensemble[metric.name])} with {repeats} networks together"
    done = count(len(completed(report.trials)), "completed trial")
    return f"{_with_settings(winner)} did best: {score}, of {done}."


def _with_settings(trial: Trial | Finalist) -> str:
    """`AdamW with learning rate 0.003 (dropout 0.2, hidden [64, 32])`."""
    others = others_text(trial.params)
    rate = f"{trial.optimizer} with learning rate {number(trial.lr)}"
    return f"{rate} ({others})" if others else rate


def comparison_sentence(evidence: Evidence) -> str:
    """Which optimizers cannot be told apart in the final round, which are beaten and by how much.

    By the intervals that hold for all pairs together with 95 %."""
    if evidence.winner is None:
        return "Every optimizer diverged in the final round, so there is nothing to compare."
    diverged = [finalist.optimizer for finalist in evidence.finalists if not finalist.completed]
    lost = f"; {listing(diverged)} diverged there" if diverged else ""
    return _comparison(evidence.winner.optimizer, evidence.pairs, evidence.metric, lost)


def _search_comparison(report: Report, best: Trial) -> str:
    """The same of the best trials of the search."""
    others = [each for each in report.summaries if each.optimizer != best.optimizer]
    failed = [each.optimizer for each in others if each.best is None]
    lost = f"; no trial of {listing(failed)} completed" if failed else ""
    if len(failed) < len(others) and not any(p.better == best.optimizer for p in report.pairs):
        lead = "Without the scores of several splits, differences between optimizers"
        return f"{lead} cannot be told from noise{lost}."
    caveat = "nothing corrects for choosing each optimizer's best trial"
    return _comparison(best.optimizer, report.pairs, report.metric, lost, f"; {caveat}")


def _comparison(
    best: str, pairs: Sequence[Pair], metric: Metric, lost: str, caveat: str = ""
) -> str:
    against = [pair for pair in pairs if pair.better == best]
    if not against:
        return f"No other optimizer is there to compare {best} with{lost}."
    level = [best, *[pair.worse for pair in against if not pair.is_clear]]
    beaten = [pair for pair in against if pair.is_clear]
    parts = [f"{listing(level)} cannot be told apart on this table"] if len(level) > 1 else []
    parts += [_beaten(level, beaten, pairs, metric)] if beaten else []
    together = f"s for all {len(pairs)} comparisons together" if len(pairs) > 1 else ""
    return f"{'; '.join(parts)}{lost} (95 % interval{together}{caveat})."


def _beaten(
    level: Sequence[str], beaten: Sequence[Pair], pairs: Sequence[Pair], metric: Metric
) -> str:
    """Those at the top against those behind: all of them when each beats each, else the winner."""
    behind = [pair.worse for pair in beaten]
    clear = [p for p in pairs if p.is_clear and p.better in level and p.worse in behind]
    verb = "beat"
    if len(level) == 1 or len(clear) < len(level) * len(behind):
        clear, who, verb = list(beaten), level[0], "beats"
    else:
        who = "both" if len(level) == 2 else f"all {len(level)}"
    low, high = min(pair.low_all for pair in clear), max(pair.high_all for pair in clear)
    return f"{who} {verb} {listing(behind)} by {metric.amount(low)} to {metric.difference(high)}"


def loading_code(model_uri: str, arrays: str = "") -> str:
    """Python that loads the registered model and scores rows with it."""
    module, rows = "pandas as pd", 'pd.read_csv("rows.csv")'
    if arrays:
        module, rows = "numpy as np", 'np.load("rows.npz")["x"]'
    load = f"model = mlflow.pyfunc.load_model({model_uri!r})"
    return f"import mlflow, {module}\n\n{load}\nmodel.predict({rows})"


NOT_KEPT = "No model was kept: tracking.keep_models is none."


def ui_command(tracking_uri: str) -> str:
    """The shell command that opens MLflow's pages on that store."""
    if tracking_uri.startswith(("http://", "https://")):
        return tracking_uri
    store = f" --backend-store-uri {shlex.quote(tracking_uri)}" if tracking_uri else ""
    return f"mlflow ui{store}"


def validation_words(facts: Facts) -> str:
    """How trials were validated, without a full stop."""
    again = f", repeated {facts.repeats} times" if facts.repeats > 1 else ""
    if facts.folds > 1:
        return f"{facts.folds} folds{again}"
    return f"one hold-out of {percent(facts.fraction, 0)} of the rows{again}"


def what_would_change(report: Report) -> list[str]:
    """The sentences, the weightiest first; empty when no trial completed."""
    if report.best is None:
        return []
    evidence, winner = report.evidence, report.winner
    sentences = [*_edges(report)]
    if evidence is not None and winner is not None:
        before = [*_baselines(evidence, winner), *_closest(evidence, winner)]
        sentences = [*before, *sentences, *_epochs(report, winner), *_budget(evidence)]
    if report.evaluation is not None:
        scores = report.evaluation.scores
        half = 50 * (scores.accuracy_high - scores.accuracy_low)
        sentences.append(
            f"{count(scores.n, 'test row')} fix the test accuracy to about ± {half:.1f} "
            "points: models that differ by less cannot be told apart on them."
        )
    return sentences or ["Nothing that this run can see."]


def _baselines(evidence: Evidence, winner: Finalist) -> Iterator[str]:
    best = max(winner.mean(ACCURACY), winner.ensemble[ACCURACY.name])
    for model in evidence.baselines:
        if (ahead := model.mean(ACCURACY) - best) > 0:
            yield (
                f"{model.name.capitalize()} is {ACCURACY.difference(ahead)} ahead of the best "
                "networks in cross-validation: for this table another kind of model may serve "
                "better than any optimizer."
            )


def _closest(evidence: Evidence, winner: Finalist) -> Iterator[str]:
    """How much it would take to tell the winner from the nearest other one."""
    against = [pair for pair in evidence.pairs if pair.better == winner.optimizer]
    unclear = [pair for pair in against if not pair.is_clear]
    if not unclear:
        return
    nearest = min(unclear, key=lambda pair: pair.difference)
    half = (nearest.high_all - nearest.low_all) / 2
    names = f"{nearest.better} and {nearest.worse}"
    times = (half / nearest.difference) ** 2 if nearest.difference > 0 else float("inf")
    if times > _MOST_TIMES:
        yield (
            f"{names} are so close that no number of rows that is worth collecting would tell them "
            "apart; choose by another need, such as speed or a wide range of good learning rates."
        )
    else:
        yield (
            f"About {number(times, 2)} times as many rows would tell {names} apart, if the "
            "difference stays as it is: an interval narrows with the square root of the rows. More "
            "repeats of the folds narrow it little, since they hold the same rows."
        )


def _edges(report: Report) -> Iterator[str]:
    """Optimizers whose best learning rate is the lowest or the highest that was tried."""
    for summary in report.summaries:
        rates = sorted({t.lr for t in report.trials if t.optimizer == summary.optimizer})
        if summary.best is None or len(rates) < _EDGE_TRIALS:
            continue
        for edge, word, way in ((rates[0], "lowest", "down"), (rates[-1], "highest", "up")):
            if summary.best.lr == edge:
                yield (
                    f"{summary.optimizer} was best at the {word} learning rate that was tried, "
                    f"{number(edge)}: it may be better further {way}, so widen its range."
                )


def _epochs(report: Report, winner: Finalist) -> Iterator[str]:
    limit, best = report.facts.epochs, winner.best_epoch
    if best is not None and limit.isdigit() and best >= 0.9 * int(limit):
        yield (
            f"{winner.optimizer} was still getting better when its {limit} epochs were over (best: "
            f"{best:.0f} on average): with more training.epochs it may get further."
        )


def _budget(evidence: Evidence) -> Iterator[str]:
    tried = {tolerance.optimizer: tolerance.trials for tolerance in evidence.tolerances}
    few, many = min(tried.values(), default=0), max(tried.values(), default=0)
    if few and many >= 2 * few:
        rarest = listing([name for name, trials in tried.items() if trials == few])
        yield (
            f"The search spent {many} trials on one optimizer and {few} on {rarest}; with "
            "search.budget=equal each has the same chance."
        )
    for tolerance in evidence.tolerances:
        expected = tolerance.expected_best
        if tolerance.standard_error is None or len(expected) < 4:
            continue
        gain = abs(float(expected[-1] - expected[len(expected) // 2 - 1]))
        if gain > max(tolerance.standard_error, _LEAST_GAIN):
            yield (
                f"The second half of the trials of {tolerance.optimizer} was still worth "
                f"{evidence.metric.difference(gain)}: more trials may find a better setting."
            )
