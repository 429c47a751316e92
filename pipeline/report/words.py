"""What a run has to say, in words, as plain text.

`page` makes `report.html` of it and `descriptions` the Markdown that MLflow shows.
"""

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from pipeline.analysis.comparison import Comparison, compare
from pipeline.analysis.evaluation import Evaluation
from pipeline.analysis.evidence import Evidence, Finalist
from pipeline.analysis.importance import Searched
from pipeline.analysis.ranking import (
    Objective,
    OptimizerSummary,
    TrialResult,
    best_trial,
    completed,
    summarize,
)
from pipeline.common import text as formats
from pipeline.report.comparison_words import comparison_sentence
from pipeline.report.facts import Facts
from pipeline.search.settings import others_text

if TYPE_CHECKING:
    from pipeline.report import figures as plots


@dataclass(frozen=True)
class Report:
    """Everything that the page and the descriptions are made of.

    `evaluation` is None until the test rows have been scored, `evidence` where there is no final
    round, `searched` where the settings that were searched do not matter; `registered` says what
    became of the model, empty where none was registered.
    """

    facts: Facts
    trials: Sequence[TrialResult]
    evaluation: Evaluation | None = None
    evidence: Evidence | None = None
    registered: str = ""
    searched: Searched | None = None

    @cached_property
    def best(self) -> TrialResult | None:
        return best_trial(self.trials, self.facts.objective)

    @cached_property
    def summaries(self) -> list[OptimizerSummary]:
        """One for each optimizer, in the order of the final round, else of the search."""
        found = summarize(self.trials, self.facts.objective)
        if self.evidence is None:
            return found
        order = [one.optimizer for one in self.evidence.finalists]
        return sorted(
            found,
            key=lambda item: order.index(item.optimizer) if item.optimizer in order else len(order),
        )

    @cached_property
    def comparisons(self) -> list[Comparison]:
        facts = self.facts
        rows = round(facts.rows.get("train", 0) * facts.fraction) if facts.folds == 1 else None
        return compare(
            self.trials,
            facts.objective,
            folds=facts.folds,
            repeats=facts.repeats,
            fraction=facts.fraction,
            validation_rows=rows,
        )

    @cached_property
    def figures(self) -> "dict[str, plots.Plot]":
        """Of the search, the final round and the evaluation, as far as there are, by file name."""
        from pipeline.report import figures as plots  # slow to import, and words need none

        figures = plots.search_figures(
            self.trials, self.facts.objective, self.evidence, self.searched
        )
        if self.evidence is not None:
            figures |= plots.evidence_figures(self.evidence)
        if self.evaluation is not None:
            figures |= plots.evaluation_figures(self.evaluation, self.facts.labels)
        return figures


# The answer in words -----------------------------------------------------------------------------


def verdict(report: Report) -> list[str]:
    """The answer in three plain sentences: the best, against the others, on test rows.

    A fourth where the network is not worth having.
    """
    best = report.best
    if best is None:
        return [_nothing_completed(report)]
    evidence = report.evidence
    winner = evidence.winner if evidence is not None else None
    if evidence is not None and winner is not None:
        sentences = [_winner_sentence(report, evidence, winner), comparison_sentence(evidence)]
    else:
        sentences = [_best_sentence(report, best), _noise_sentence(report, best)]
    if report.evaluation is not None:
        scores = report.evaluation.scores
        sentences.append(
            f"On {formats.count(scores.n, 'test row')}, which the search never saw, the model is "
            f"right for {formats.percent(scores.accuracy)} (95 % interval "
            f"{formats.percent(scores.accuracy_low)} to {formats.percent(scores.accuracy_high)}); "
            f"always answering the most frequent label would be right for "
            f"{formats.percent(scores.baseline)}."
        )
    if evidence is not None and evidence.beats_majority is False:
        sentences.append(_majority_sentence(evidence))
    return sentences


def _nothing_completed(report: Report) -> str:
    if not report.trials:
        return "No trial has run yet."
    reasons = Counter(t.reason or "no reason recorded" for t in report.trials if t.state == "FAIL")
    common = f": {reasons.most_common(1)[0][0]}" if reasons else ""
    return (
        f"No trial completed: {reasons.total()} of {formats.count(len(report.trials), 'trial')} "
        f"failed{common}."
    )


def _best_sentence(report: Report, best: TrialResult) -> str:
    facts = report.facts
    members = facts.folds * facts.repeats
    kind = "cross-validated" if facts.folds > 1 else "validation"
    spread = ""
    if best.accuracy_std is not None and members > 1:
        over = formats.count(members, "fold" if facts.folds > 1 else "split")
        spread = f" (± {100 * best.accuracy_std:.1f}, standard deviation over {over})"
    lead = f"{_with_settings(best)} did best"
    score = f"{formats.percent(best.accuracy)} {kind} accuracy{spread}"
    if facts.objective == "val_loss":
        score = f"{kind} loss {formats.number(best.loss)}, {score}"
    done = len(completed(report.trials))
    return f"{lead}: {score}, the best of {formats.count(done, 'completed trial')}."


def _winner_sentence(report: Report, evidence: Evidence, winner: Finalist) -> str:
    """The final round's estimate, and how much the search had flattered it."""
    again = f", {evidence.repeats} times" if evidence.repeats > 1 else ""
    score = (
        f"{formats.percent(winner.accuracy_mean)} accuracy on {evidence.folds} fresh folds{again} "
        f"(± {100 * winner.accuracy_std:.1f}, standard deviation over folds; the search had "
        f"{formats.percent(winner.search_accuracy)})"
    )
    if evidence.objective == "val_loss":
        score = (
            f"loss {formats.number(winner.loss_mean)} on {evidence.folds} fresh folds{again} (the "
            f"search had {formats.number(winner.search_loss)}), "
            f"{formats.percent(winner.accuracy_mean)} accuracy"
        )
    if evidence.repeats > 1:
        several = formats.percent(winner.ensemble_accuracy)
        if evidence.objective == "val_loss":
            several = formats.number(winner.ensemble_loss)
        score += f", {several} with {evidence.repeats} networks together"
    done = formats.count(len(completed(report.trials)), "completed trial")
    return f"{_with_settings(winner)} did best: {score}, of {done}."


def _with_settings(one: TrialResult | Finalist) -> str:
    """`AdamW with learning rate 0.003 (dropout 0.2, hidden [64, 32])`."""
    others = others_text(one.params)
    rate = f"{one.optimizer} with learning rate {formats.number(one.lr)}"
    return f"{rate} ({others})" if others else rate


def _majority_sentence(evidence: Evidence) -> str:
    majority = evidence.baseline("majority label")
    assert majority is not None
    return (
        "The network does not beat always answering the most frequent label "
        f"({formats.percent(majority.accuracy_mean)} on the same folds): these columns may say "
        "nothing about the label."
    )


def _noise_sentence(report: Report, best: TrialResult) -> str:
    unknown = [item.other for item in report.comparisons if item.basis == "none"]
    near = [i.other for i in report.comparisons if i.within_noise and i.basis != "none"]
    behind = [item for item in report.comparisons if not item.within_noise]
    if not report.comparisons:
        tried = {trial.optimizer for trial in report.trials}
        if len(tried) == 1:
            return (
                "It is the only optimizer that was tried, so there is nothing to compare it with."
            )
        return "No trial of another optimizer completed, so there is nothing to compare it with."
    parts = []
    if near:
        those = formats.listing(near)
        verb, noun = ("is", "trial") if len(near) == 1 else ("are", "trials")
        parts.append(f"the best {noun} of {those} {verb} within the noise of it")
        if not behind and not unknown:
            return f"{_upper(parts[0])}: this search does not tell which of them is better."
    if behind:
        ahead = formats.listing(
            [f"{item.other} by {_difference(item, report.facts.objective)}" for item in behind]
        )
        parts.append(f"it is ahead of {ahead}, more than the noise explains")
    if unknown:
        parts.append(
            f"how it differs from {formats.listing(unknown)} cannot be told from noise with a "
            "single split"
        )
    return _upper("; ".join(parts)) + "."


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _difference(item: Comparison, objective: Objective) -> str:
    if item.low is None or item.high is None:
        return ""
    if objective == "val_loss":
        return f"{item.difference:.3f} nats (95 %: {item.low:.3f} to {item.high:.3f})"
    low, high = 100 * item.low, 100 * item.high
    return f"{100 * item.difference:.1f} points (95 %: {low:.1f} to {high:.1f})"


def loading_code(model_uri: str) -> str:
    """Python that loads the registered model and scores rows with it."""
    return (
        "import mlflow, pandas as pd\n\n"
        f"model = mlflow.pyfunc.load_model({model_uri!r})\n"
        'model.predict(pd.read_csv("rows.csv"))'
    )


def ui_command(tracking_uri: str) -> str:
    """The shell command that opens MLflow's pages on that store."""
    if tracking_uri.startswith(("http://", "https://")):
        return tracking_uri
    store = f" --backend-store-uri {shlex.quote(tracking_uri)}" if tracking_uri else ""
    return f"mlflow ui{store}"
