"""What makes a table's rows other than independent, or gives the label away: named, not mended.

Rows of one value are compared with rows of neighbouring values and with any rows. Where a column
measures something, neighbouring values are as good as equal ones; where it says whom or what a row
is of, only rows of equal values are alike."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from pipeline.common.text import count, few, percent, printable, shorten, some
from pipeline.data import values
from pipeline.data.kinds import Kind
from pipeline.data.schema import Label

_MOST_ROWS = 100_000  # that are looked at, but for copies
_FEWEST_ROWS = 40  # of fewer, too little can be said
_CLOCKS = ((1800, 2100), (19_000_101, 21_001_231), (9e8, 2.1e9), (9e11, 2.1e12))
"""Years, dates such as 20261231, seconds and milliseconds since 1970."""


@dataclass(frozen=True)
class _Column:
    """`codes` int64 [N]: the rank of each row's value, -1 where missing; whole numbers from `low`
    to `high`, else NaN; `example`: the first value as it stands in the table."""

    name: str
    kind: Kind
    codes: np.ndarray
    low: float = np.nan
    high: float = np.nan
    example: str = ""

    @cached_property
    def sizes(self) -> np.ndarray:
        """The rows of each value, int64 [D]."""
        return np.bincount(self.codes[self.codes >= 0])

    def counts(self, rows: int) -> bool:
        """Whether the values number so many rows, or are distinct numbers that sort them."""
        span = self.high / rows - self.low / rows
        near = span <= 1.05 or (self.kind == "number" and self.sorts())
        return near and len(self.sizes) >= 0.95 * len(self.codes)

    def sorts(self) -> bool:
        """Whether the rows stand in the order of the values, ascending or descending."""
        steps = np.diff(self.codes[self.codes >= 0])
        back, forth = sorted((int((steps < 0).sum()), int((steps > 0).sum())))
        return back <= 0.01 * forth

    def is_time(self) -> bool:
        """Whether the values are dates, or look like times that are written as numbers."""
        clocks = (low <= self.low and self.high <= high for low, high in _CLOCKS)
        return self.kind == "date" or any(clocks)

    def apart(self, rows: np.ndarray, others: np.ndarray) -> float:
        """How far pairs are apart: the share that differs, of numbers the mean square of ranks."""
        steps = (self.codes[rows] - self.codes[others]).astype(np.float64)
        return float(np.mean(steps != 0 if self.kind in ("category", "boolean") else steps**2))


def suspicions(
    table: pa.Table,
    target: str,
    y: np.ndarray,
    labels: Sequence[Label],
    training: np.ndarray,
    told: Collection[str] = (),
    dropped: Collection[str] = (),
    test: pa.Table | None = None,
) -> list[str]:
    """At most one sentence for each kind: the columns, a value, counts and the key to set.

    Args:
        table: all columns of the N rows as read; of more than 100,000 rows a fixed sample serves.
        y: class ids, int64 [N], from 0; `labels` are their names.
        training: bool [N], the rows that train; the others test.
        told: columns that the configuration names as groups or order: then neither is looked for.
        dropped: columns that are no input, so that they cannot give the label away.
        test: the rows of a test file, where there is one."""
    if len(y) < _FEWEST_ROWS:
        return []
    rows = np.arange(len(y))
    if len(y) > _MOST_ROWS:
        rows = np.sort(np.random.default_rng(0).choice(rows, _MOST_ROWS, replace=False))
    names = [name for name in table.column_names if name != target and name not in told]
    looked_at = table if len(rows) == len(y) else table.take(rows)
    columns = [column for name in names if (column := _read(name, looked_at.column(name)))]
    label = _Column(target, "category", y[rows])
    inputs = [column for column in columns if column.name not in dropped]
    counters = {column.name for column in inputs if column.counts(len(y))}
    rules = {c.name: t for c in inputs if (t := _as_rule(c, label, labels, c.name in counters))}
    said = []
    if not told:
        groups = _groups(columns, label, rules)
        said = _on_groups(groups) + _on_order([c for c in columns if c.name not in rules])
        rules = {name: text for name, text in rules.items() if name not in groups}
    if rules:
        texts = few([f"column {name!r} {text}" for name, text in rules.items()], 3)
        drop = f"set data.drop: {_yaml(list(rules))}"
        said.append(f"{'; '.join(texts)}; unless it is known before the label is, {drop}")
    compared = [column for column in inputs if column.name not in counters]
    return said + _on_copies(table, target, training, compared, test)


def _read(name: str, content: Any) -> _Column | None:
    """None: there is no value, or none of a type that can be ordered."""
    content = values.present(content)
    try:
        said = values.kind_of(content)
    except ValueError:
        return None
    if content.null_count == len(content):
        return None
    first = content.drop_null()[0].cast(pa.string()).as_py()
    example = shorten(printable(repr(first) if pa.types.is_string(content.type) else first), 40)
    numbers = np.full(len(content), np.nan)
    if said.kind != "category":
        numbers = values.as_kind(content, vars(said))
        if not pa.types.is_integer(content.type):
            content = pa.chunked_array([pa.array(numbers, from_pandas=True)])
    ranks = np.asarray(pc.rank(content, tiebreaker="dense")).astype(np.int64)
    codes = np.where(content.is_valid(), ranks - 1, -1)
    numbers = numbers[~np.isnan(numbers)]
    whole = said.kind == "number" and len(numbers) and np.all(numbers == np.floor(numbers))
    low, high = (numbers.min(), numbers.max()) if whole else (np.nan, np.nan)
    return _Column(name, said.kind, codes, low, high, example)


def _as_rule(column: _Column, label: _Column, labels: Sequence[Label], counts: bool) -> str | None:
    """What shows that the column alone decides the label of rows that did not set the rule, a tree;
    found on at most 5,000 rows in four folds. What `counts` rows must do so only mostly."""
    from sklearn.model_selection import KFold, cross_val_predict
    from sklearn.tree import DecisionTreeClassifier

    rows = np.random.default_rng(0).permutation(len(column.codes))[:5000]
    x, y = column.codes[rows, None], label.codes[rows]
    often = int(np.bincount(y).max())
    changes = np.count_nonzero(np.diff(y[np.argsort(x[:, 0], kind="stable")]))
    if len(y) - often < 10 or changes > 0.4 * (len(y) - often):  # a look that most do not pass
        return None
    tree = DecisionTreeClassifier(min_samples_leaf=5, random_state=0)
    wrong = np.count_nonzero(cross_val_predict(tree, x, y, cv=KFold(4)) != y)
    if wrong > 0.5 + (0.25 if counts else 0.01) * (len(y) - often):
        return None
    first = labels[label.codes[np.argmax(column.codes >= 0)]]
    return (
        f"{'numbers the rows and ' if counts else ''}alone is right for "
        f"{percent(1 - wrong / len(y))} of {len(y):,} rows that did not set the rule (the most "
        f"frequent label: {percent(often / len(y))}), as {column.example} goes with {first!r}"
    )


def _groups(
    columns: list[_Column], label: _Column, rules: Collection[str]
) -> dict[str, tuple[float, str]]:
    """How surely the values of a column stand for groups, and what shows it; the surest first."""
    found = {}
    for column in columns:
        is_text = column.kind == "category" and (
            any(map(str.isalpha, column.example)) or column.example[1:-1].isalnum()
        )  # other text is of numbers or dates that could not be read
        if len(column.sizes) >= 10 and (is_text or np.isfinite(column.low)):
            others = [other for other in columns if other is not column][:: 1 + len(columns) // 50]
            if group := _group(column, others, label, column.name in rules):
                found[column.name] = group
    return dict(sorted(found.items(), key=lambda item: -item[1][0]))


def _pairs(codes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Rows, int64 [3, P], P at most 4,000: one, another of its value, one of a value beside it."""
    random = np.random.default_rng(0)
    order = random.permutation(np.flatnonzero(codes >= 0))
    order = order[np.argsort(codes[order], kind="stable")]
    own, starts = codes[order], np.cumsum(sizes) - sizes
    at = random.permutation(np.flatnonzero(own[1:] == own[:-1]))[:4000]
    beside = np.where(own[at] < len(sizes) - 1, own[at] + 1, own[at] - 1)
    neighbours = starts[beside] + (random.random(len(at)) * sizes[beside]).astype(np.int64)
    pairs: np.ndarray = order[np.stack([at, at + 1, neighbours])]
    return pairs


def _group(
    column: _Column, others: list[_Column], label: _Column, is_rule: bool
) -> tuple[float, str] | None:
    sizes, pairs = column.sizes, _pairs(column.codes, column.sizes)
    if others:  # copied rows are alike in everything
        pairs = pairs[:, np.any([o.codes[pairs[0]] != o.codes[pairs[1]] for o in others], axis=0)]
    rows, mates, neighbours = pairs
    if max(sizes.max() / 0.2, (sizes == 1).sum() / 0.7) > sizes.sum() or len(rows) < 20:
        return None
    anyone = np.random.default_rng(0).permutation(rows)

    def likeness(other: _Column) -> float:
        """0: rows of one value are no closer than those of neighbouring values; 1: they equal."""
        chance = other.apart(rows, anyone)
        far = min(chance, other.apart(rows, neighbours))
        return max(0.0, far - other.apart(rows, mates)) / chance if chance > 0 else 0.0

    # Not indicators, most rows of which are the same.
    varied = [o for o in others if np.bincount(o.codes + 1).max() < 0.8 * len(o.codes)]
    degrees = {other.name: likeness(other) for other in varied}
    shared = [name for name, degree in degrees.items() if degree >= 0.5]
    degree = sum(degrees.values()) / max(1, len(degrees))
    same, near = (1 - label.apart(rows, them) for them in (mates, neighbours))
    sure = (same - near) * len(rows) ** 0.5 > 4 * (2 - same - near) ** 0.5
    of_label = likeness(label) if sure else 0.0
    mean, runs = sizes.mean(), 1 + np.count_nonzero(np.diff(column.codes[column.codes >= 0]))
    one_size = mean >= 2 and sizes.var() <= 0.05 * mean and not column.is_time()
    signs = int(runs == len(sizes)) + int(one_size)
    formed = len(sizes) >= 15 and signs + int(degree >= 0.25) >= 2
    alike = degree >= 0.3 and len(shared) >= 2 and (mean >= 2 or 2 * len(shared) >= len(degrees))
    agreeing = of_label >= 0.75 and mean >= 1.5 and len(sizes) >= 20
    if not formed and (not (alike or agreeing) or (is_rule and mean > 20)):
        return None
    most = count(int(np.argmax(np.bincount(sizes))), "row")
    text = f"{len(sizes):,} values such as {column.example}, most of them in {most}"
    if of_label >= 0.2:
        text += f", the same label in {percent(same, 0)} of pairs of rows of one value"
    if degree >= 0.2:
        text += f", alike in {some(shared, 3) or 'the other columns'}"
    return signs + max(degree, of_label), text


def _on_groups(groups: Mapping[str, tuple[float, str]]) -> list[str]:
    names = list(groups)
    beside = f" (as do {some(names[1:], 3)})" if names[1:] else ""
    return [
        f"column {name!r} repeats as groups do{beside}: {groups[name][1]}; set "
        f"validation.groups: {_yaml([name])[1:-1]}, or the scores hold only for known groups"
        for name in names[:1]
    ]


def _on_order(columns: list[_Column]) -> list[str]:
    """On the first column of times whose order the rows have."""
    times = (c for c in columns if len(c.sizes) >= 10 and c.is_time() and c.sorts())
    return [
        f"column {column.name!r} is sorted: the rows stand in the order of its "
        f"{len(column.sizes):,} values, from {column.example} on; set validation.order: "
        f"{_yaml([column.name])[1:-1]}, or the scores do not hold for later rows"
        for column in list(times)[:1]
    ]


def _on_copies(
    table: pa.Table,
    target: str,
    training: np.ndarray,
    columns: list[_Column],
    test: pa.Table | None,
) -> list[str]:
    """On test rows that are training rows too, unless by chance: then more pairs are equal in half
    of the columns than in all, or these columns would often be equal if they were independent."""
    columns = sorted(columns, key=lambda column: -len(column.sizes))
    names = [target, *(column.name for column in columns)]

    def compared(rows: pa.Table) -> pa.Table:
        return pa.table({name: values.plain(rows.column(name)) for name in names})

    rows = compared(table)
    if test is not None:
        with suppress(pa.ArrowException, KeyError):  # columns that are not there, or of other types
            rows = pa.concat_tables([rows, compared(test)], promote_options="permissive")
        training = np.arange(rows.num_rows) < table.num_rows
    if len(columns) < 3 or training.all():
        return []
    odd, even = range(1, len(names), 2), range(2, len(names), 2)
    label, half, other_half = (_hashes(rows, places) for places in ([0], odd, even))
    hashes = half + other_half, half, half + other_half + label
    equal, in_half, with_label = (_equal_rows(each, training) for each in hashes)
    n, total = np.count_nonzero(equal), len(equal)
    shares = [np.square(column.sizes / len(column.codes)).sum() for column in columns[::2]]
    by_chance = (len(training) - total) * total * np.prod(shares)
    if n < max(3, 0.005 * total) or equal.sum() < max(0.8 * in_half.sum(), 10 * by_chance):
        return []
    return [
        f"{n:,} of {total:,} test rows equal training rows in all columns ({names[1]!r} and "
        f"{len(columns) - 1:,} more), {n - np.count_nonzero(with_label):,} of them with another "
        "label, so that the test score flatters what remembers rows; set data.duplicates: drop"
    ]


def _hashes(rows: pa.Table, places: Iterable[int]) -> npt.NDArray[np.uint64]:
    """Of each row, of the columns at these places; a column after the other, to hold little else.
    Sums of them are hashes of all their columns."""
    total = np.zeros(rows.num_rows, np.uint64)
    for place in places:
        column = pd.util.hash_pandas_object(rows.column(place).to_pandas(), index=False)
        total += column.to_numpy() * np.uint64(2 * place + 1)
    return total


def _equal_rows(hashes: np.ndarray, training: np.ndarray) -> np.ndarray:
    """How many training rows each test row equals."""
    known, new = np.sort(hashes[training]), hashes[~training]
    return np.asarray(np.searchsorted(known, new, "right") - np.searchsorted(known, new, "left"))


def _yaml(names: list[str]) -> str:
    """A list as a configuration has it."""
    return yaml.safe_dump(names, default_flow_style=True, allow_unicode=True, width=10**9).strip()
