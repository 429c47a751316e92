"""The answer in words, as plain text, and what would change it.

`page` makes `report.html` of it and `descriptions` the Markdown that MLflow shows."""

import json
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.analysis.evaluation import Evaluation, Scores
from pipeline.analysis.evidence import Evidence, Finalist
from pipeline.analysis.plausibility import Shift
from pipeline.analysis.ranking import completed
from pipeline.common.addresses import HIDDEN
from pipeline.common.text import count, listing, number, percent
from pipeline.models.metrics import ACCURACY
from pipeline.report.report import Facts, Report
from pipeline.training.trial import Trial

_EDGE_TRIALS = 4  # tried learning rates from which on the outermost one says something
_MOST_TIMES = 50  # as many rows; beyond, no number of rows is worth naming
_MOST_LABELS = 3  # rare ones that the answer names


def headline(report: Report) -> str:
    """The answer in a line, no surer than it is."""
    best, evidence = report.best, report.evidence
    if best is None:
        return "No trial completed" if report.trials else "No trial has run yet"
    if evidence is None or evidence.winner is None:
        return f"{best.optimizer} did best in the search"
    first, *level = evidence.level
    if not level:
        how = "is the best optimizer here" if evidence.winner_is_clear else "did best"
        return f"{first} {how}"
    others = listing(level) if len(level) < 4 else f"{len(level)} others"
    return f"No clear winner: {first} is ahead, {others} may be as good"


def verdict(report: Report) -> list[str]:
    """The answer in plain sentences: what is doubtful about it, the best, against the others, on
    test rows, labels that are rare, against models that are no networks."""
    best, evidence = report.best, report.evidence
    if best is None and not report.trials:
        return ["No trial has run yet."]
    if best is None:
        failed = [trial for trial in report.trials if trial.state == "FAIL"]
        reasons = Counter(trial.reason or "no reason recorded" for trial in failed)
        common = f": {reasons.most_common(1)[0][0]}" if reasons else ""
        trials = count(len(report.trials), "trial")
        return [f"No trial completed: {len(failed)} of {trials} failed{common}."]
    sentences = [_best_sentence(report, best)]
    if evidence is not None and evidence.winner is not None:
        sentences = [_winner_sentence(report, evidence, evidence.winner)]
    if evidence is not None:
        where = "on these data" if report.facts.arrays else "on this table"
        sentences.append(comparison_sentence(evidence, where))
    elif len(report.summaries) > 1:
        sentences.append(
            "Without a final round (validation.final) nothing tells optimizers from luck."
        )
    if report.evaluation is not None:
        sentences.append(_test_sentence(report, report.evaluation.scores))
        sentences += [f"But mind: {warning}." for warning in report.facts.warnings]
        sentences += _rare_labels(report.evaluation, report.facts.labels)
    no_better = _no_better(report)
    sentences += [no_better] if no_better else []
    return [*warnings(report.evaluation), *sentences, *_beside(report, bool(no_better))]


def warnings(evaluation: Evaluation | None) -> list[str]:
    """Test scores that cross-validation does not allow, with the likeliest reasons."""
    if evaluation is None or not evaluation.gaps:
        return []
    told = []
    for gap in evaluation.gaps:
        metric = gap.metric
        low, high = (metric.amount(end, "+") for end in (gap.low, gap.high))
        told.append(
            f"test {metric.words} {metric.text(gap.test)} where {metric.text(gap.expected)} was to "
            f"be expected (99 % interval of the difference {low} to {high}"
            f"{' points' if metric.is_share else ''})"
        )
    way, reasons = "better", "rows of the test file are in training too, or it is easier"
    if any(gap.is_worse for gap in evaluation.gaps):
        way = "worse"
        reasons = (
            "the test rows are of another time or source, rows of one group or copies of one row "
            "stand on both sides of the folds, or labels are wrong"
        )
    text = (
        f"Do not rely on these scores yet: on test rows the model is {way} than cross-validation "
        f"allows, {listing(told)}. Likely reasons: {reasons}."
    )
    return [f"{text} {shift_sentence(evaluation.shift)}" if evaluation.shift else text]


def shift_sentence(shift: Shift) -> str:
    """Whether training and test rows can be told apart by their inputs."""
    auc = f"(AUC {shift.auc:.2f}, 99 % interval {shift.low:.2f} to {shift.high:.2f})"
    if not shift.is_clear:
        return f"Training and test rows cannot be told apart {auc}."
    names = listing([repr(name) for name in shift.columns])
    most = f", most by {names}" if names else ""
    return f"Training and test rows can be told apart {auc}{most}."


def _rare_labels(evaluation: Evaluation, labels: Sequence[Any]) -> Iterator[str]:
    """How many test rows of each rare label are found, and what to set where most are not."""
    rare = [each for each in evaluation.by_label if each.is_rare]
    for each in rare[:_MOST_LABELS]:
        name, right = repr(labels[each.label]), f"it calls no row {labels[each.label]!r}"
        if each.predicted:
            right = f"of the {count(each.predicted, 'row')} that it calls {name}, {each.found} are"
        positive = ", the positive label," if len(labels) == 2 and each.label == 1 else ""
        rows = f"the {count(each.rows, 'test row')} labelled {name}{positive}"
        yield f"Of {rows} the model finds {each.found}; {right}."
    if any(each.found < each.rows / 2 for each in rare):
        threshold = ", registry.threshold=f1 or youden" if len(labels) == 2 else ""
        yield (
            "Accuracy hardly counts rare labels; to find more of them, set search.objective="
            f"val_auroc or val_balanced_accuracy{threshold}, or training.class_weight=balanced."
        )


def _no_better(report: Report) -> str:
    """What is true of a model that is not more often right than the most frequent label; "": it is.

    By the folds of the final round, else by the test rows."""
    evidence, evaluation, scores, ranks = report.evidence, report.evaluation, None, False
    ahead = evidence.ahead("majority label", ACCURACY) if evidence is not None else None
    always = "the most frequent label"
    if evaluation is not None:
        scores = evaluation.scores
        rows = scores.confusion.sum(axis=1)
        always = repr(report.facts.labels[rows.argmax()])
        ranks = scores.intervals.get("auroc", (0.0, 1.0))[0] > 0.5
    if evidence is not None and ahead is not None and evidence.beats_majority is not None:
        more_right, beats = ahead.interval()[0] > 0, evidence.beats_majority
    elif evaluation is not None and (on_test := evaluation.majority) is not None:
        more_right, beats = on_test.by_accuracy == "better", on_test.by_loss == "better"
    else:
        return ""
    if more_right:
        return ""
    if not (ranks or beats):
        what = "these data" if report.facts.arrays else "these columns"
        nothing = f"{what} may say nothing about the label"
        return f"The network does not beat always answering {always}: {nothing}."
    but = "its probabilities are"
    if ranks and scores is not None:
        area = scores.further["auroc"]
        but = f"it ranks rows: the area under the ROC curve is {area:.3f} on test rows"
    return f"By accuracy the network is no better than always answering {always}, but {but}."


def _beside(report: Report, is_no_better: bool) -> Iterator[str]:
    """Whether a network is worth having, by the best model that is none.

    is_no_better: than the most frequent label; then only another model that is says more."""
    evidence, evaluation = report.evidence, report.evaluation
    model = evidence.best_baseline if evidence is not None else None
    ahead = evidence.ahead(model.name, evidence.metric) if evidence and model else None
    if evidence is None or model is None or ahead is None:
        return
    metric, (low, high) = evidence.metric, ahead.interval()
    if is_no_better and high >= 0:
        return
    worth, noise = "worth" if low > 0 else "not worth", "beyond"
    if low <= 0 <= high:
        worth, noise = "not clearly worth", "within"
    theirs, scores = model.mean(metric), evaluation.scores if evaluation is not None else None
    said = (
        f"A network is {worth} having here: on the same rows it has {metric.words} "
        f"{metric.text(theirs + metric.sign * ahead.mean)} and {model.name}, the best other model, "
        f"{metric.text(theirs)} (95 % interval of the difference {metric.amount(low, '+')} to "
        f"{metric.amount(high, '+')}, {noise} noise)"
    )
    tested = [scores.by_metric if scores is not None else {}, model.test_scores]
    if all(metric.name in each for each in tested):
        on_test = [each[metric.name] for each in tested]
        said += f"; on test rows {listing([metric.text(score) for score in on_test])}"
    yield f"{said}."


def _test_sentence(report: Report, scores: Scores) -> str:
    """How the model did on the test rows, and what the interval counts."""
    facts, evidence, metric = report.facts, report.evidence, report.metric
    rows, right = test_rows_words(facts), percent(scores.accuracy)
    between = f"95 % interval {percent(scores.accuracy_low)} to {percent(scores.accuracy_high)}"
    if facts.groups:
        between += f", which counts groups ({facts.groups}) and not rows"
    elif evidence is not None and evidence.ageing is not None:
        between += ", also for a period as long that comes after"
    objective = ""
    if metric.name in scores.further:
        objective = f" Its test {metric.words} is {metric.text(scores.further[metric.name])}"
        if metric.name in scores.intervals:
            low, high = map(metric.amount, scores.intervals[metric.name])
            objective += f" (95 % interval {low} to {high})"
        objective += "."
    return (
        f"On {rows}, which the search never saw, the model gets {right} right ({between}); "
        f"always answering the most frequent label would get {percent(scores.baseline)} right."
        f"{objective}"
    )


def test_rows_words(facts: Facts) -> str:
    """`375 test rows of 75 groups`, `the latest 375 test rows`."""
    rows = count(facts.rows.get("test", 0), "test row")
    if facts.order:
        return f"the latest {rows}"
    return f"{rows} of {count(facts.counts.get('test', 0), 'group')}" if facts.groups else rows


def round_words(evidence: Evidence) -> str:
    """What the final round's scores are of: `20 new trainings, each scored on rows ...`."""
    rows = "that came after those it trained on" if evidence.is_forward else "it did not train on"
    trainings = count(evidence.folds * evidence.repeats, "new training")
    return f"{trainings}, each scored on rows {rows}"


def _best_sentence(report: Report, best: Trial) -> str:
    """The search's estimate, where there is no other."""
    facts, metric = report.facts, report.metric
    kind, unit = ("cross-validated", "fold") if facts.folds > 1 else ("validation", "split")
    members, deviation = facts.folds * facts.repeats, best.deviation(metric)
    score = f"{kind} {metric.words} {metric.text(best.score(metric))}"
    if deviation is not None and members > 1:
        score += f" ({metric.spread(deviation)} between {count(members, unit)})"
    done = count(len(completed(report.trials)), "completed trial")
    return f"{_with_settings(best)} did best: {score}, the best of {done}."


def _winner_sentence(report: Report, evidence: Evidence, winner: Finalist) -> str:
    """The final round's estimate, and what the search had shown."""
    metric, own = evidence.metric, [t.optimizer for t in completed(report.trials)]
    low, high = map(metric.text, evidence.interval_of(winner))
    tried = own.count(winner.optimizer)
    flatters = f", which flatters: it is the best of {tried} trials of {winner.optimizer}"
    clearly = ", but not clearly" if len(evidence.level) > 1 else ""
    return (
        f"{_with_settings(winner)} did best{clearly}: {metric.words} "
        f"{metric.text(winner.mean(metric))} on average over {round_words(evidence)} (95 % "
        f"interval {low} to {high}). The search had shown {metric.text(winner.search[metric.name])}"
        f"{flatters if tried > 1 else ''}."
    )


def _with_settings(trial: Trial | Finalist) -> str:
    """`AdamW with learning rate 0.003 (dropout 0.2, hidden [64, 32])`."""
    others = others_text(trial.params)
    rate = f"{trial.optimizer} with learning rate {number(trial.lr)}"
    return f"{rate} ({others})" if others else rate


def others_text(params: Mapping[str, Any], most: int = 5) -> str:
    """The params of a trial but its learning rate: `dropout 0.2, hidden [64, 32]`; may be empty."""
    shown = []
    for path, value in params.items():
        name = re.sub(r"^(model|training|optimizers\.\d+)\.", "", path)
        text = number(value) if isinstance(value, float) else value
        if name != "lr":
            shown.append(f"{name} {text if isinstance(text, str) else json.dumps(text)}")
    if len(shown) > most:
        shown[most:] = [count(len(shown) - most, "other setting")]
    return ", ".join(shown)


def comparison_sentence(evidence: Evidence, where: str = "on this table") -> str:
    """Which optimizers cannot be told apart in the final round, which are beaten and by how much.

    By the intervals that hold for all pairs together with 95 %."""
    if evidence.winner is None:
        return "Every optimizer diverged in the final round, so there is nothing to compare."
    metric, (best, *level) = evidence.metric, evidence.level
    diverged = [finalist.optimizer for finalist in evidence.finalists if not finalist.completed]
    lost = f"; {listing(diverged)} diverged there" if diverged else ""
    if not evidence.pairs:
        return f"No other optimizer is there to compare {best} with{lost}."
    parts = [f"{listing([best, *level])} cannot be told apart {where}"] if level else []
    beaten = [pair for pair in evidence.pairs if pair.better == best and pair.is_clear]
    if beaten:
        low, high = min(pair.low_all for pair in beaten), max(pair.high_all for pair in beaten)
        by = f"{metric.amount(low)} to {metric.difference(high)}"
        parts.append(f"{best} beats {listing([pair.worse for pair in beaten])} by {by}")
    comparisons = len(evidence.pairs)
    together = f"s for all {comparisons} comparisons together" if comparisons > 1 else ""
    return f"{'; '.join(parts)}{lost} (95 % interval{together})."


def loading_code(facts: Facts) -> str:
    """Python that loads the registered model, from any folder, and scores rows with it."""
    module, rows = "pandas as pd", 'pd.read_csv("rows.csv")'
    if facts.arrays:
        module, rows = "numpy as np", 'np.load("rows.npz")["x"]'
    load = f"model = mlflow.pyfunc.load_model({facts.model_uri!r})"
    if facts.tracking_uri and HIDDEN not in facts.tracking_uri:
        load = f"mlflow.set_tracking_uri({facts.tracking_uri!r})\n{load}"
    return f"import mlflow, {module}\n\n{load}\nmodel.predict({rows})"


NOT_KEPT = "No model was kept: tracking.keep_models is none."


def ui_command(tracking_uri: str, page: str = "") -> str:
    """How to open MLflow's pages on that store: an address, or a shell command and the address.
    `page`: of the pages, relative to where they are served."""
    if tracking_uri.startswith(("http://", "https://")):
        return f"{tracking_uri.rstrip('/')}/{page}"
    store = f" --backend-store-uri {shlex.quote(tracking_uri)}" if tracking_uri else ""
    return f"mlflow ui{store}" + (f"\n# then open http://127.0.0.1:5000/{page}" if page else "")


def validation_words(facts: Facts) -> str:
    """How trials were validated, without a full stop."""
    again = f", repeated {facts.repeats} times" if facts.repeats > 1 else ""
    if facts.folds > 1:
        how = f"{facts.folds} folds"
        if facts.order:
            how = f"{facts.folds} forward folds by {facts.order}"
        return f"{how} of whole groups ({facts.groups}){again}" if facts.groups else how + again
    if facts.order:
        return f"the latest {percent(facts.fraction, 0)} of the training rows by {facts.order}"
    held = f"groups ({facts.groups})" if facts.groups else "rows"
    return f"one hold-out of {percent(facts.fraction, 0)} of the {held}{again}"


def what_would_change(report: Report) -> list[str]:
    """What to do next, the weightiest first; empty when no trial completed."""
    if report.best is None:
        return []
    evidence, winner = report.evidence, report.winner
    steps = [*_edges(report)]
    if evidence is not None and winner is not None:
        simpler = _simpler(evidence)
        steps = [*_closest(evidence, winner), *simpler, *steps, *_epochs(report, winner)]
    return steps or ["Nothing more is needed, as far as this run can see."]


def _closest(evidence: Evidence, winner: Finalist) -> Iterator[str]:
    """How much it would take to tell the winner from the nearest other one."""
    against = [pair for pair in evidence.pairs if pair.better == winner.optimizer]
    nearest = min(against, key=lambda p: (p.is_clear, p.difference), default=None)
    if nearest is None or nearest.is_clear:
        return
    half = (nearest.high_all - nearest.low_all) / 2
    names = f"{nearest.better} and {nearest.worse}"
    times = (half / nearest.difference) ** 2 if nearest.difference > 0 else float("inf")
    if times <= _MOST_TIMES:
        yield (
            f"Collect about {number(times, 2)} times as many rows to tell {names} apart, if the "
            "difference stays as it is."
        )
    else:
        yield f"Take either of {names}: no number of rows worth collecting would tell them apart."


def _simpler(evidence: Evidence) -> Iterator[str]:
    """A model that is no network and does as well or better."""
    model = evidence.best_baseline
    ahead = evidence.ahead(model.name, evidence.metric) if model is not None else None
    if model is not None and ahead is not None and (ends := ahead.interval())[0] <= 0:
        well = "did better" if ends[1] < 0 else "may be as good"
        yield f"Consider {model.name}, which {well} and is simpler."


def _edges(report: Report) -> Iterator[str]:
    """Optimizers whose best learning rate is the lowest or the highest that was tried."""
    for summary in report.summaries:
        rates = sorted({t.lr for t in report.trials if t.optimizer == summary.optimizer})
        if summary.best is None or len(rates) < _EDGE_TRIALS:
            continue
        for edge, word, way in ((rates[0], "lowest", "down"), (rates[-1], "highest", "up")):
            if summary.best.lr == edge:
                yield (
                    f"Widen the range of {summary.optimizer}'s learning rate further {way}: it was "
                    f"best at the {word} that was tried, {number(edge)}."
                )


def _epochs(report: Report, winner: Finalist) -> Iterator[str]:
    limit, best = report.facts.epochs, winner.best_epoch
    if best is not None and limit.isdigit() and best >= 0.9 * int(limit):
        yield (
            f"Raise training.epochs: {winner.optimizer} was still getting better when its {limit} "
            f"epochs were over (best: {best:.0f} on average)."
        )
