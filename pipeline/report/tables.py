"""The report's tables: each is made here alone, whatever shows it (page, Markdown, console)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pipeline.analysis.ranking import OptimizerSummary
from pipeline.common.text import number, percent, shorten
from pipeline.models.metrics import Metric, with_objective
from pipeline.search.settings import Setting, value_text
from pipeline.training.trial import Trial

if TYPE_CHECKING:  # The console needs `Table`, and none of what takes long to import.
    from pipeline.analysis.comparison import Floats, Pair
    from pipeline.analysis.evidence import Evidence, Finalist
    from pipeline.analysis.importance import Importance, Searched
    from pipeline.analysis.rare_labels import LabelScores
    from pipeline.report.report import Report

NOTHING = "–"

Kind = Literal["optimizer", "text", "number"]
Item = TypeVar("Item")


@dataclass(frozen=True)
class Column:
    """A heading, and what stands below it: an `optimizer` has a colour, a `number` is set right."""

    heading: str
    kind: Kind


@dataclass(frozen=True)
class Table:
    """Columns, and rows with a cell of text for each."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]

    @classmethod
    def of(
        cls,
        items: Iterable[Item],
        cells: Mapping[str, Callable[[Item], str]],
        kinds: Sequence[Kind] = ("text",),
    ) -> Table:
        """A row for each item.

        Args:
            cells: by the heading what stands below it.
            kinds: of the first columns; the others are numbers."""
        numbers: list[Kind] = ["number"] * (len(cells) - len(kinds))
        columns = map(Column, cells, [*kinds, *numbers])
        rows = tuple(tuple(cell(item) for cell in cells.values()) for item in items)
        return cls(tuple(columns), rows)

    def records(self) -> list[dict[str, str]]:
        """Each row by heading."""
        headings = [column.heading for column in self.columns]
        return [dict(zip(headings, row, strict=True)) for row in self.rows]


def optimizer_table(report: Report) -> Table:
    """Each optimizer by its best trial, in the final round and in the search, and its trials."""
    metric, evidence, summaries = report.metric, report.evidence, report.summaries
    final = {
        finalist.optimizer: metric.text_with(finalist.mean(metric), finalist.deviation(metric))
        for finalist in (evidence.finalists if evidence is not None else ())
        if finalist.completed
    }
    cells: dict[str, Callable[[OptimizerSummary], str]] = {
        "Optimizer": lambda summary: summary.optimizer,
        f"Final {metric.words}": lambda summary: final.get(summary.optimizer, NOTHING),
        f"Best {metric.words}": lambda summary: (
            metric.text_with(best.score(metric), best.deviation(metric))
            if (best := summary.best)
            else NOTHING
        ),
        "Best learning rate": lambda summary: number(summary.best.lr if summary.best else None),
        f"Median {metric.words}": lambda summary: metric.text(summary.medians.get(metric.name)),
        "Trials": lambda summary: str(summary.trials),
        "Failed": lambda summary: str(summary.failed),
        "Pruned": lambda summary: str(summary.pruned),
    }
    empty = {
        f"Final {metric.words}": not final,
        "Failed": not any(summary.failed for summary in summaries),
        "Pruned": not any(summary.pruned for summary in summaries),
    }
    cells = {heading: cell for heading, cell in cells.items() if not empty.get(heading)}
    return Table.of(summaries, cells, ["optimizer"])


def ranking_table(evidence: Evidence) -> Table:
    """The finalists in the order of the final round."""
    metric = evidence.metric

    def scored(cell: Callable[[Finalist], str]) -> Callable[[Finalist], str]:
        return lambda finalist: cell(finalist) if finalist.completed else NOTHING

    cells: dict[str, Callable[[Finalist], str]] = {
        "Optimizer": lambda finalist: finalist.optimizer,
        metric.heading: lambda finalist: (
            metric.text(finalist.mean(metric)) if finalist.completed else "diverged"
        ),
        "95 % interval": scored(lambda finalist: _interval(finalist.scores[metric.name], evidence)),
        "Together": scored(lambda finalist: metric.text(finalist.ensemble[metric.name])),
        "In the search": lambda finalist: metric.text(finalist.search[metric.name]),
        "Optimism": scored(lambda finalist: metric.amount(finalist.optimism(metric), "+")),
        "Learning rate": lambda finalist: number(finalist.lr),
        "Best epoch": scored(lambda finalist: f"{finalist.best_epoch:.0f}"),
        "Trial": lambda finalist: str(finalist.trial),
    }
    if evidence.repeats == 1:
        del cells["Together"]
    return Table.of(evidence.finalists, cells, ["optimizer"])


def _interval(scores: Floats, evidence: Evidence) -> str:
    return " to ".join(evidence.metric.amount(end) for end in evidence.interval(scores))


def pair_table(evidence: Evidence) -> Table:
    """Every optimizer against every other one."""
    amount = evidence.metric.amount
    margin = evidence.metric.difference(evidence.pairs[0].margin if evidence.pairs else 0.0)
    cells: dict[str, Callable[[Pair], str]] = {
        "Better": lambda pair: pair.better,
        "Worse": lambda pair: pair.worse,
        "By": lambda pair: amount(pair.difference),
        "95 % interval": lambda pair: f"{amount(pair.low, '+')} to {amount(pair.high, '+')}",
        "All together": lambda pair: f"{amount(pair.low_all, '+')} to {amount(pair.high_all, '+')}",
        "p": lambda pair: f"{pair.p_value:.2g}",
        "Holm": lambda pair: f"{pair.p_adjusted:.2g}",
        f"Chance of more than {margin}": lambda pair: percent(pair.probability_better, 0),
    }
    return Table.of(evidence.pairs, cells, ["optimizer", "optimizer"])


def baseline_table(report: Report, evidence: Evidence) -> Table:
    """The winner's networks beside models that are no networks; the first row has the scores of the
    registered model on the test rows."""
    models: list[tuple[str, Mapping[str, float], Mapping[str, float]]] = []
    if (winner := evidence.winner) is not None:
        tested = report.evaluation.scores.by_metric if report.evaluation is not None else {}
        models = [(f"network, {winner.optimizer}", winner.means(), tested)]
        if evidence.repeats > 1:
            name = f"{evidence.repeats} networks together, {winner.optimizer}"
            models = [(name, winner.ensemble, tested), ("one network", winner.means(), {})]
    models += [(model.name, model.means(), model.test_scores) for model in evidence.baselines]

    def score(place: int, metric: Metric) -> Callable[[tuple[Any, ...]], str]:
        return lambda model: metric.text(model[place].get(metric.name))

    metrics = with_objective(evidence.metric)
    cells = {metric.heading: score(1, metric) for metric in metrics}
    tests = {f"Test {metric.words}": score(2, metric) for metric in metrics}
    return Table.of(models, {"Model": lambda model: model[0]} | cells | tests)


def label_table(report: Report) -> Table:
    """The labels on test rows, the rarest first; no rows where none is rare."""
    labels = report.facts.labels
    cells: dict[str, Callable[[LabelScores], str]] = {
        "Label": lambda each: shorten(str(labels[each.label]), 40),
        "Of training rows": lambda each: percent(each.share),
        "Test rows": lambda each: f"{each.rows:,}",
        "Found": lambda each: f"{each.found:,}",
        "Recall": lambda each: percent(each.recall),
        "Predicted": lambda each: f"{each.predicted:,}",
        "Precision": lambda each: percent(each.precision),
    }
    return Table.of(report.evaluation.by_label if report.evaluation else (), cells)


def setting_table(searched: Searched) -> Table:
    """Each searched setting with its importance, the most important first; in the order of the
    configuration, without those columns, where there are none."""
    ranked = [(each.setting, each) for each in searched.importances]
    best = searched.best
    cells: dict[str, Callable[[tuple[Setting, Importance | None]], str]] = {
        "Setting": lambda row: row[0].label,
        "Importance": lambda row: percent(row[1].share if row[1] else None),
        "By chance up to": lambda row: percent(row[1].chance if row[1] else None),
        "Best trial": lambda row: _values(row[0], best[:1]),
        f"Best {len(best)} trials": lambda row: _values(row[0], best),
    }
    if not ranked:
        del cells["Importance"], cells["By chance up to"]
    if len(best) < 2:
        del cells[f"Best {len(best)} trials"]
    return Table.of(ranked or [(setting, None) for setting in searched.settings], cells)


def _values(setting: Setting, trials: Sequence[Trial]) -> str:
    """The values of these trials: from the lowest to the highest, or the most frequent ones."""
    values = [setting.value(trial) for trial in trials if setting.has(trial)]
    if not values:
        return NOTHING
    if setting.categorical:
        counts = Counter(value_text(value) for value in values).most_common(2)
        if len(values) == 1:
            return counts[0][0]
        return ", ".join(f"{text} ({times} of {len(values)})" for text, times in counts)
    low, high = value_text(min(values)), value_text(max(values))
    return low if low == high else f"{low} to {high}"
