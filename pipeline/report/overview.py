"""What a sweep says of the optimizers over many tables: sentences, tables, and a page."""

import csv
import io
import math
from collections.abc import Callable, Sequence

from pipeline.analysis.across import FEWEST_TABLES, MARGIN, Across, AcrossPair, Searched
from pipeline.analysis.common_rate import CommonRate
from pipeline.common.text import count, listing, number, percent
from pipeline.report.figures.many import overview_figures
from pipeline.report.tables import NOTHING, Table
from pipeline.report.templates import rendered


def answer(compared: Across, rates: Sequence[CommonRate], searches: int) -> list[str]:
    """In plain sentences: who is ahead over the tables, by how much, and one rate for all."""
    metric, n = compared.metric, len(compared.scores)
    of = f"{count(n, 'table')} ({count(searches, 'search', 'searches')})"
    if compared.ranks is None or not compared.pairs:
        return [
            f"Over {of} optimizers are not compared: that takes two optimizers and "
            f"{FEWEST_TABLES} tables at least."
        ]
    leader = compared.winner or compared.optimizers[0]
    against = [pair for pair in compared.pairs if leader in (pair.better, pair.worse)]
    sentences = [f"{leader} has the best mean rank over {of}, {compared.ranks.means[leader]:.1f}."]
    if compared.winner:
        least = min(against, key=lambda pair: pair.effect.mean)
        sentences = [
            f"{leader} is the best over {of}: on average ahead of every other optimizer by "
            f"{metric.difference(least.effect.mean)} or more, and by more than luck."
        ]
    else:
        beaten = [pair.worse for pair in against if pair.better == leader and pair.is_clear]
        others = [name for name in compared.optimizers if name != leader and name not in beaten]
        if beaten:
            sentences.append(f"It is ahead of {listing(beaten)} by more than luck.")
        reach = max(max(abs(pair.low), abs(pair.high)) for pair in compared.pairs)
        if reach <= MARGIN:
            level = (
                f"Over {of} no optimizer is ahead of another by more than "
                f"{metric.difference(reach)} on average, with 95 % certainty for all pairs "
                "together: tuned, they do as well."
            )
            sentences.insert(0, level)
        else:
            sentences.append(f"Against {listing(others)} these tables do not decide.")
    sentences += [
        f"On a new table the chance that {pair.better} is better than {pair.worse} by more than "
        f"{metric.difference(MARGIN)} is {percent(pair.chance, 0)}."
        for pair in against[:1]
    ]
    for rate in rates:
        if rate.optimizer == leader:
            sentences.append(
                f"If one learning rate must serve all tables, {number(rate.rate, 2)} loses least "
                f"for {leader}: {metric.difference(rate.cost)} against tuning it on each table."
            )
    return sentences


def optimizer_table(compared: Across, rates: Sequence[CommonRate]) -> Table:
    """Each optimizer over the tables, the best mean rank first."""
    of = {rate.optimizer: rate for rate in rates}
    metric, scores = compared.metric, compared.scores
    ranks = compared.ranks.means if compared.ranks is not None else {}

    def cost(name: str) -> str:
        if name not in of:
            return NOTHING
        rate = of[name]
        error = "" if math.isnan(rate.error) else f" ± {metric.amount(rate.error)}"
        return f"{metric.amount(rate.cost)}{error}"

    def mean(name: str) -> float:
        values = [each[name] for each in scores.values() if name in each]
        return sum(values) / len(values)

    best = [
        max(each, key=lambda name: metric.sign * each[name]) for each in scores.values() if each
    ]
    names = compared.optimizers or sorted({name for each in scores.values() for name in each})
    cells: dict[str, Callable[[str], str]] = {
        "Optimizer": str,
        "Mean rank": lambda name: f"{ranks[name]:.2f}" if name in ranks else NOTHING,
        f"Mean {metric.words}": lambda name: metric.text(mean(name)),
        "Best on": lambda name: str(best.count(name)),
        "Diverged on": lambda name: str(sum(name not in each for each in scores.values())),
        "One rate for all": lambda name: number(of[name].rate, 2) if name in of else NOTHING,
        "Its cost": cost,
    }
    return Table.of(names, cells, ["optimizer"])


def pair_table(compared: Across) -> Table:
    """Every optimizer against every other one over the tables; first those of the leader."""
    amount = compared.metric.amount
    cells: dict[str, Callable[[AcrossPair], str]] = {
        "Better": lambda pair: pair.better,
        "Worse": lambda pair: pair.worse,
        "By": lambda pair: amount(pair.effect.mean),
        "95 %, all together": lambda pair: f"{amount(pair.low, '+')} to {amount(pair.high, '+')}",
        "p, all together": lambda pair: f"{pair.p_adjusted:.2g}",
        "p, signed ranks": lambda pair: f"{pair.wilcoxon:.2g}",
        "Ahead on": lambda pair: f"{pair.wins} of {pair.effect.tables}",
        "Between tables ±": lambda pair: amount(pair.effect.between),
        f"New table: by > {amount(MARGIN)}": lambda pair: percent(pair.chance, 0),
        "The other": lambda pair: percent(pair.chance_worse, 0),
    }
    leader = compared.winner or next(iter(compared.optimizers), "")
    pairs = sorted(compared.pairs, key=lambda pair: leader not in (pair.better, pair.worse))
    return Table.of(pairs, cells, ["optimizer", "optimizer"])


def score_table(compared: Across) -> Table:
    """Each table with the score of each optimizer."""
    scores, metric = compared.scores, compared.metric
    names = compared.optimizers or sorted({name for each in scores.values() for name in each})
    cells: dict[str, Callable[[str], str]] = {"Table": str}
    for name in names:
        cells[name] = lambda table, name=name: metric.text(scores[table].get(name))  # type: ignore[misc]
    return Table.of(sorted(scores), cells)


def csv_text(table: Table) -> str:
    """The table as CSV with a header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(column.heading for column in table.columns)
    writer.writerows(table.rows)
    return text.getvalue()


def page(
    compared: Across,
    rates: Sequence[CommonRate],
    searches: Sequence[Searched],
    sentences: Sequence[str],
    problems: Sequence[str],
    address: str,
) -> str:
    """`sweep.html`: all of it on one page without scripts. `address`: where the pages of runs are;
    "" where no server is known."""
    return rendered(
        "overview.html",
        answer=sentences,
        problems=problems,
        compared=compared,
        searches=sorted(searches, key=lambda each: (each.table, each.run_id)),
        address=address,
        figures=overview_figures(compared, rates, searches),
        tables=(optimizer_table(compared, rates), pair_table(compared), score_table(compared)),
    )
