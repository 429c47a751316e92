"""The report's tables: each is made here alone, whatever shows it (page, Markdown, console)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pipeline.analysis.ranking import OptimizerSummary
from pipeline.common.text import number, percent, shorten
from pipeline.models.metrics import Metric, with_objective

if TYPE_CHECKING:  # The console needs `Table`, and none of what takes long to import.
    from pipeline.analysis.comparison import Pair
    from pipeline.analysis.evidence import Evidence
    from pipeline.analysis.rare_labels import LabelScores
    from pipeline.analysis.reliance import Reliance
    from pipeline.report.report import Report

NOTHING = "–"
_MOST_COLUMNS = 10  # that a model relies on

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
    """Each optimizer in the final round, and its best trial in the search."""
    metric, evidence, summaries = report.metric, report.evidence, report.summaries
    finalists = evidence.finalists if evidence is not None else ()
    final = {finalist.optimizer: finalist for finalist in finalists if finalist.completed}

    def interval(summary: OptimizerSummary) -> str:
        if evidence is None or summary.optimizer not in final:
            return NOTHING
        return " to ".join(map(metric.amount, evidence.interval_of(final[summary.optimizer])))

    def searched(summary: OptimizerSummary) -> str:
        best = summary.best
        if best is None:
            return NOTHING
        spread = None if final else best.deviation(metric)
        return metric.text_with(best.score(metric), spread)

    cells: dict[str, Callable[[OptimizerSummary], str]] = {
        "Optimizer": lambda summary: summary.optimizer,
        metric.heading: lambda summary: (
            metric.text(final[summary.optimizer].mean(metric))
            if summary.optimizer in final
            else NOTHING
        ),
        "95 % interval": interval,
        f"{metric.heading} in the search": searched,
        "Learning rate": lambda summary: number(summary.best.lr if summary.best else None),
        "Trials": lambda summary: str(summary.trials),
        "Failed": lambda summary: str(summary.failed),
        "Pruned": lambda summary: str(summary.pruned),
    }
    empty = {
        metric.heading: not final,
        "95 % interval": not final,
        "Failed": not any(summary.failed for summary in summaries),
        "Pruned": not any(summary.pruned for summary in summaries),
    }
    cells = {heading: cell for heading, cell in cells.items() if not empty.get(heading)}
    return Table.of(summaries, cells, ["optimizer"])


def pair_table(evidence: Evidence) -> Table:
    """Every optimizer against every other one."""
    amount = evidence.metric.amount
    cells: dict[str, Callable[[Pair], str]] = {
        "Better": lambda pair: pair.better,
        "Worse": lambda pair: pair.worse,
        "By": lambda pair: amount(pair.difference),
        "95 % interval": lambda pair: f"{amount(pair.low, '+')} to {amount(pair.high, '+')}",
        "All together": lambda pair: f"{amount(pair.low_all, '+')} to {amount(pair.high_all, '+')}",
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
            name = f"average of {evidence.repeats} networks, {winner.optimizer}"
            models = [(name, winner.ensemble, tested), ("one network", winner.means(), {})]
    models += [(model.name, model.means(), model.test_scores) for model in evidence.baselines]

    def score(place: int, metric: Metric) -> Callable[[tuple[Any, ...]], str]:
        return lambda model: metric.text(model[place].get(metric.name))

    metrics = with_objective(evidence.metric)
    cells = {metric.heading: score(1, metric) for metric in metrics}
    tests = {f"Test {metric.words}": score(2, metric) for metric in metrics}
    return Table.of(models, {"Model": lambda model: model[0]} | cells | tests)


def label_table(report: Report) -> Table:
    """The labels on test rows, the rarest first."""
    labels = report.facts.labels
    cells: dict[str, Callable[[LabelScores], str]] = {
        "Label": lambda each: shorten(str(labels[each.label]), 40),
        "Of training rows": lambda each: percent(each.share),
        "Test rows": lambda each: f"{each.rows:,}",
        "Found (recall)": lambda each: percent(each.recall),
        "Right where predicted (precision)": lambda each: percent(each.precision),
    }
    return Table.of(report.evaluation.by_label if report.evaluation else (), cells)


def reliance_table(report: Report) -> Table:
    """The columns that the model relies on most."""
    metric = report.metric
    cells: dict[str, Callable[[Reliance], str]] = {
        "Column": lambda each: shorten(each.column, 40),
        f"{metric.heading} worse by": lambda each: metric.amount(each.loss),
        "±": lambda each: metric.amount(each.deviation),
    }
    columns = report.evaluation.reliance if report.evaluation else ()
    return Table.of([each for each in columns if each.stands_out][:_MOST_COLUMNS], cells)
