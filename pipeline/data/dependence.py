"""Rows that depend on each other: those of one group, such as a patient, and those in an order.

Splits are then by whole groups, with the labels balanced as far as groups allow, or by time: what
trains comes before what validates."""

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.common.errors import UserError
from pipeline.data import values
from pipeline.data.schema import NO_RULES, ColumnRules
from pipeline.data.sources import Index

if TYPE_CHECKING:
    from pipeline.config.sections import Validation

Pair = tuple[np.ndarray, np.ndarray]
"""Row numbers that train and that are held out, int64, ascending."""

GROUPS, ORDER = "validation.groups", "validation.order"
"""The keys that name a column."""

BLOCKS = 20
"""Rows in an order are dependent within a stretch of time; so many stretches count as groups."""

_TRIES = 200
_MOST_NUMBERS = 2**21


@dataclass(frozen=True)
class Dependence:
    """What makes N rows depend on each other: nothing, `groups` or `order`.

    groups: int64 [N], equal for rows of one group.
    order: float64 [N], finite, equal for rows of one moment.
    column: whose values these are."""

    groups: np.ndarray | None = None
    order: np.ndarray | None = None
    column: str = ""

    def take(self, rows: np.ndarray) -> "Dependence":
        """That of some rows, by their numbers or a mask."""
        groups, order = (None if a is None else a[rows] for a in (self.groups, self.order))
        return Dependence(groups, order, self.column)

    @property
    def clusters(self) -> np.ndarray | None:
        """int64 [N], what counts as one observation where uncertainty is estimated: the groups, or
        `BLOCKS` stretches of time with as many rows; None: each row is one."""
        if self.order is None:
            return self.groups
        _, moment = np.unique(self.order, return_inverse=True)
        before = np.searchsorted(np.sort(moment), moment)  # rows of earlier moments
        return before * BLOCKS // max(len(moment), 1)

    @property
    def count(self) -> int:
        """How many groups or moments there are; 0: rows are independent."""
        either = self.groups if self.groups is not None else self.order
        return 0 if either is None else len(np.unique(either))


INDEPENDENT = Dependence()


def group_names(column: pa.ChunkedArray) -> np.ndarray:
    """Text [N], the same for values that a CSV, a Parquet file or a data frame writes otherwise
    (1, 1.0 and "1"); None where missing."""
    column = values.plain(column)
    if pa.types.is_floating(column.type) or pa.types.is_decimal(column.type):
        whole = values.as_kind(column, {"kind": "number"})
        if (np.isnan(whole) | (whole == np.floor(whole))).all() and not (whole >= 2**53).any():
            column = pc.cast(pa.chunked_array([pa.array(whole, from_pandas=True)]), pa.int64())
    elif pa.types.is_string(column.type):
        column = pc.replace_substring_regex(values.present(column), r"^(\d+)\.0+$", r"\1")
    return np.array(pc.cast(column, pa.string()).to_pylist(), dtype=object)


def moments(column: pa.ChunkedArray, name: str, rules: ColumnRules = NO_RULES) -> np.ndarray:
    """float64 [N]: days of dates, seconds of times, numbers; NaN where missing. Raises UserError:
    the column holds something else, or dates of which it is open what comes first."""
    if form := rules.dates.get(name):
        return values.as_kind(column, {"kind": "date", "format": form, "marks": rules.marks})
    with suppress(ValueError):
        said = values.kind_of(column, name, marks=rules.marks)
        if said.format and said.doubt:
            raise UserError(f"validation.order: {said.doubt}")
        if said.kind in ("date", "number"):
            return values.as_kind(column, vars(said) | {"marks": rules.marks})
    example = next((value for value in column.to_pylist() if value is not None), None)
    raise UserError(
        f"validation.order: must name a column of dates or numbers; {name!r} holds values such "
        f"as {example!r}"
    )


class DependenceReader:
    """Reads the columns that a configuration names, the same group with the same number in every
    table.

    Attributes:
        told: the column by its key; may be empty.
        rules: what the configuration says of columns."""

    def __init__(self, validation: "Validation", rules: ColumnRules = NO_RULES) -> None:
        self.rules = rules
        columns = {GROUPS: validation.groups, ORDER: validation.order}
        self.told = {key: column for key, column in columns.items() if column is not None}
        self._numbers: dict[str, int] = {}

    def read(self, table: pa.Table, rows: Callable[[Index], str]) -> Dependence:
        """What makes the rows of a table depend on each other. Raises UserError: a row without a
        group or a moment, a column that has no order."""
        for key, column in self.told.items():
            content = table.column(column)
            if key == GROUPS:
                names, what = group_names(content), "group"
                absent = np.array([name is None for name in names])
                numbers = [self._numbers.setdefault(name, len(self._numbers)) for name in names]
                found = Dependence(groups=np.array(numbers, dtype=np.int64), column=column)
            else:
                order, what = moments(content, column, self.rules), "place in the order"
                absent = np.isnan(order)
                found = Dependence(order=order, column=column)
            if absent.any():
                raise UserError(
                    f"{key}: every row must have a {what}; column {column!r} has no value in "
                    f"{rows(np.flatnonzero(absent))}; fill it in, or leave these rows out"
                )
            return found
        return INDEPENDENT


def _shares(y: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each row's group as a position [N], and what part of each label's rows and of all groups
    every group is, [G, C + 1]."""
    found, place = np.unique(groups, return_inverse=True)
    counts = np.zeros((len(found), int(y.max()) + 2))
    np.add.at(counts, (place, y), 1)
    counts[:, -1] = 1
    return place, counts / counts.sum(axis=0).clip(min=1)


def held_groups(y: np.ndarray, groups: np.ndarray, fraction: float, seed: int) -> Pair:
    """ceil(fraction * G) of the G groups held out: of many drawings the one whose labels are
    nearest to the whole's."""
    place, shares = _shares(y, groups)
    count = len(shares)
    rng = np.random.default_rng(seed)
    tries = max(1, min(_TRIES, _MOST_NUMBERS // count))
    held = np.tile(np.arange(count) < math.ceil(fraction * count), (tries, 1))
    held = rng.permuted(held, axis=1)
    of_label = held @ shares
    absent = ((of_label <= 0) | (of_label >= 1)).sum(axis=1)
    best = held[np.argmin(absent + np.abs(of_label - fraction).mean(axis=1))]
    return np.flatnonzero(~best[place]), np.flatnonzero(best[place])


def group_folds(y: np.ndarray, groups: np.ndarray, folds: int, seed: int) -> list[Pair]:
    """Folds of whole groups: the largest first, each goes to the fold that has the least of its
    labels, as in scikit-learn's StratifiedGroupKFold; in an order shuffled by `seed`, of which
    several are tried, so that repeats have other folds too."""
    place, shares = _shares(y, groups)
    rng = np.random.default_rng(seed)
    best, least = np.zeros(0, dtype=int), math.inf
    for _ in range(max(1, min(10, _MOST_NUMBERS // (8 * len(shares))))):
        size = shares.max(axis=1) * np.exp(rng.normal(scale=0.5, size=len(shares)))
        filled, fold = np.zeros((folds, shares.shape[1])), np.empty(len(shares), dtype=int)
        for group in np.argsort(-size):
            # Least where the sum of squares over folds, and so their variance, grows least.
            fold[group] = chosen = int(np.argmin(filled @ shares[group]))
            filled[chosen] += shares[group]
        unevenness = (filled == 0).sum() + np.abs(filled - 1 / folds).mean()
        if unevenness < least:
            best, least = fold, unevenness
    of_row = best[place]
    return [(np.flatnonzero(of_row != k), np.flatnonzero(of_row == k)) for k in range(folds)]


def forward(order: np.ndarray, folds: int, fraction: float, column: str) -> list[Pair]:
    """What trains before what is held out; rows of one moment stay together.

    The later half of the rows is held out in `folds` parts, one after the other, each with all
    rows before it to train on; with one fold, the latest `fraction`.

    Raises UserError: there are fewer moments than it takes."""
    found, moment, rows = np.unique(order, return_inverse=True, return_counts=True)
    starts = np.cumsum(rows)[:-1]  # rows before each moment but the first
    if len(starts) < folds:
        raise UserError(
            f"validation.order: {folds + 1} different values or more are needed for "
            f"{folds} forward validations; {column!r} has {len(found)}"
        )
    total = len(order)
    wanted = total * (1 + np.arange(folds) / folds) / 2 if folds > 1 else [total * (1 - fraction)]
    edges: list[int] = []  # the first moment of each part
    for place, row in enumerate(wanted):
        low, high = (edges[-1] if edges else 0), len(starts) - (folds - 1 - place)
        edges.append(low + int(np.argmin(np.abs(starts[low:high] - row))) + 1)
    ends = [*edges[1:], len(found)]
    return [
        (np.flatnonzero(moment < start), np.flatnonzero((moment >= start) & (moment < end)))
        for start, end in zip(edges, ends, strict=True)
    ]


def dealt(rows: np.ndarray, y: np.ndarray, dependence: Dependence, shares: int) -> list[np.ndarray]:
    """Rows in so many shares, some of them empty if there is less to deal out: in turn, ordered by
    label, so that each share has every label in proportion; whole groups; of an order stretches."""
    if dependence.order is not None:
        in_order = rows[np.argsort(dependence.order[rows], kind="stable")]
        return np.array_split(in_order, shares)
    if dependence.groups is None:
        by_label = rows[np.argsort(y[rows], kind="stable")]
        return [by_label[share::shares] for share in range(shares)]
    groups = dependence.groups[rows]
    _, first, place = np.unique(groups, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=int)
    rank[np.argsort(y[rows][first], kind="stable")] = np.arange(len(first))
    return [rows[rank[place] % shares == share] for share in range(shares)]
