"""Columns of a table as raw numbers, and these as the inputs of a network."""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from pipeline.common.errors import refuse
from pipeline.common.text import count, few
from pipeline.data import values
from pipeline.data.schema import Column, Schema, missing_columns
from pipeline.inference.rows import misfit

CLIP = 10.0
"""Encoded numbers lie within [-CLIP, CLIP] standard deviations of the mean."""

_ROWS_AT_ONCE = 65_536
_NUMBERS_AT_ONCE = 2**22


def to_raw(table: pa.Table, schema: Schema) -> np.ndarray:
    """The columns of the schema as numbers, in its order; other columns are ignored.

    Returns:
        float64 [rows, columns]: numbers as they are (infinities as missing), booleans 0 and 1,
        dates in days since 1970-01-01 UTC with their fraction, categories as their position in
        the column's categories (unseen: -1), missing NaN. A value that cannot be read as its
        column's kind counts as missing.

    Raises UserError: the table lacks columns."""
    refuse(missing_columns(table.column_names, [column.name for column in schema.columns]))
    raw = np.empty((table.num_rows, len(schema.columns)), dtype=np.float64)
    for position, column in enumerate(schema.columns):
        raw[:, position] = values.as_kind(table.column(column.name), column.like)
    return raw


def to_raw_or_reasons(
    table: pa.Table, columns: Sequence[Mapping[str, Any]], decimal: str | None = None
) -> tuple[np.ndarray, dict[int, str]]:
    """As `to_raw`, of a table from anywhere, and for each row that does not fit the reason.

    Args:
        table: holds the columns; text in them may be any kind of value.
        columns: those of schema.json.
        decimal: the sign of numbers in the file, where that is known; else the columns' own."""
    raw = np.empty((table.num_rows, len(columns)), dtype=np.float64)
    reasons: dict[int, str] = {}
    for position, column in enumerate(columns):
        column = {**column, "decimal": decimal} if decimal else column
        content = table.column(column["name"])
        raw[:, position], unfit = values.reading(content, column)
        for row in np.flatnonzero(unfit).tolist():
            reason = misfit(column, content[row].as_py())
            reasons[row] = f"{reasons[row]}; {reason}" if row in reasons else reason
    return raw, reasons


class Misfits(NamedTuple):
    """Values of a column that cannot be read as its kind. rows: ascending, int64."""

    column: Column
    rows: np.ndarray
    examples: list[str]

    def __str__(self) -> str:
        wanted = {"number": "number", "date": "date of its form", "boolean": "true or false"}
        shown = ", ".join(few(self.examples[:3], 3, len(self.examples)))
        verb = "is" if len(self.rows) == 1 else "are each"
        what = f"{verb} no {wanted.get(self.column.kind, 'text')}"
        return f"column {self.column.name!r}: {count(len(self.rows), 'value')} {what} ({shown})"


def misfits(table: pa.Table, schema: Schema, decimal: str = "") -> list[Misfits]:
    """Of each column of the schema that has values which cannot be read, those. decimal: the sign
    of numbers in the table's file, where that is known; else the columns' own."""
    found = []
    for column in schema.columns:
        content = table.column(column.name)
        own = {"decimal": decimal} if decimal else {}
        _, unfit = values.reading(content, {**column.like, **own})
        if len(rows := np.flatnonzero(unfit)):
            strange = pc.unique(values.plain(content).take(pa.array(rows))).to_pylist()
            found.append(Misfits(column, rows, [repr(value) for value in strange]))
    return found


class Encoding(torch.nn.Module):
    """What turns raw rows [B, ...] into inputs [S, B, ...].

    Attributes:
        of_members: names of the buffers that have a row for each of the S members."""

    of_members: tuple[str, ...] = ()

    def of(self, members: Sequence[int]) -> Self:
        """The same for some of the members."""
        some = copy.copy(self)
        chosen = {name: getattr(self, name)[list(members)] for name in self.of_members}
        some._buffers = {**self._buffers, **chosen}
        return some


def encoder_for(
    raw: Tensor, schema: Schema, training_rows: Sequence[Tensor], as_columns: bool, pieces: int = 0
) -> Encoding:
    """What turns raw rows [B, ...] into a network's inputs [S, B, ...], a row of them each split.

    Args:
        raw: [N, F] float64 of a table, [N, *shape] of arrays.
        training_rows: of each of the S splits, row numbers int64.
        as_columns: of arrays: whether a row is flattened to D numbers, standardised by what the
            training rows of each split say. Else arrays stay as they are, for all splits the same
            [1, B, *shape]: whole numbers int64, others float32, uint8 divided by 255.
        pieces: of a table: see `Encoder.fit`."""
    if schema.inputs is None:
        return Encoder.fit(raw, schema, training_rows, pieces)
    return Columns(*_of_members(raw, training_rows, _statistics)) if as_columns else Unchanged()


@torch.no_grad()
def encoded(encoder: torch.nn.Module, blocks: Iterable[Tensor], rows: int) -> Tensor:
    """The inputs [S, N, ...] of N raw rows, in blocks of one or more, without gradients; beside
    them one block is held."""
    inputs: Tensor | None = None
    start = 0
    for block in blocks:
        x = encoder(block)
        inputs = x.new_empty(len(x), rows, *x.shape[2:]) if inputs is None else inputs
        inputs[:, start : start + len(block)] = x
        start += len(block)
    assert inputs is not None
    return inputs


def rows_at_once(numbers: int) -> int:
    """Rows of a block, of so many numbers a row."""
    return max(1, min(_ROWS_AT_ONCE, _NUMBERS_AT_ONCE // max(1, numbers)))


class Unchanged(Encoding):
    """Arrays [B, *shape] as a network of people's own takes them, [1, B, *shape]."""

    def forward(self, raw: Tensor) -> Tensor:
        """int64 stays; uint8 becomes float32 in [0, 1]."""
        x = raw.to(torch.float32) / 255 if raw.dtype == torch.uint8 else raw
        return x.unsqueeze(0)


class Columns(Encoding):
    """Arrays [B, *shape] as D standardised numbers, with the statistics of each of S members'
    training rows, in buffers, so that they travel in an exported graph and can be swapped:

    - `mean`, `scale`: float64 [S, D], means and population standard deviations. `scale` is 1 for a
      number without spread, and infinite where no row holds a value, which encodes all as 0."""

    of_members: tuple[str, ...] = "mean", "scale"
    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)

    def standardised(self, numbers: Tensor) -> Tensor:
        """float64 [B, D] -> [S, B, D]: (x - mean) / standard deviation, clipped to [-10, 10]."""
        standard = (numbers - self.mean.unsqueeze(1)) / self.scale.unsqueeze(1)
        return standard.clamp(-CLIP, CLIP)

    def forward(self, raw: Tensor) -> Tensor:
        """[B, *shape] -> float32 [S, B, D]; B may be 0."""
        return self.standardised(raw.flatten(1).to(torch.float64)).float()


class Encoder(Columns):
    """Raw columns to network inputs, `mean` and `scale` of the Fn columns that are numbers,
    booleans or dates.

    - `known`: bool [S, C], the categories that occur in a member's training rows;
    - `start`, `width`: float64 [S, Q], the pieces between the quantiles of the columns `piece` [Q].
      Of a member that has fewer of them the rest has an infinite width and is encoded as 0."""

    known: Tensor
    start: Tensor
    width: Tensor
    piece: Tensor
    numeric: Tensor
    category_column: Tensor
    category_code: Tensor
    missing_column: Tensor

    def __init__(
        self, schema: Schema, mean: Tensor, scale: Tensor, known: Tensor, edges: "Edges" = ()
    ) -> None:
        super().__init__(mean, scale)
        categories = [
            (position, code)
            for position, column in enumerate(schema.columns)
            for code in range(len(column.categories))
        ]
        missing = [position for position, column in enumerate(schema.columns) if column.missing]
        device = mean.device

        def positions(columns: Sequence[int]) -> Tensor:
            return torch.tensor(columns, dtype=torch.int64, device=device)

        self.register_buffer("known", known)
        self.register_buffer("numeric", positions(schema.numeric))
        self.register_buffer("category_column", positions([column for column, _ in categories]))
        self.register_buffer("category_code", positions([code for _, code in categories]).double())
        self.register_buffer("missing_column", positions(missing))
        starts, widths, piece = _pieces(edges, schema.numeric, len(mean))
        self.has_pieces = len(piece) > 0
        self.of_members = "mean", "scale", "known"
        if self.has_pieces:  # a graph without them is none the larger
            self.of_members += "start", "width"
            self.register_buffer("start", torch.from_numpy(starts).to(device))
            self.register_buffer("width", torch.from_numpy(widths).to(device))
            self.register_buffer("piece", positions(piece))

    @staticmethod
    def fit(
        raw: Tensor, schema: Schema, training_rows: Sequence[Tensor], pieces: int = 0
    ) -> "Encoder":
        """The statistics and known categories of S members, on the device of `raw`.

        Args:
            raw: float64 [N, F], as `to_raw` gives it.
            training_rows: S tensors of row numbers, int64.
            pieces: that quantiles part a column's numbers into, at most; 0: none."""
        mean, scale, known = _of_members(raw, training_rows, partial(_fit_member, schema))
        table = raw.detach().cpu().numpy()
        edges = [_edges(table, r.cpu().numpy(), schema.numeric, pieces) for r in training_rows]
        return Encoder(schema, mean, scale, known, edges)

    def forward(self, raw: Tensor) -> Tensor:
        """float64 [B, F] -> float32 [S, B, D], all finite; B may be 0.

        Numbers: `standardised`, 0 where missing.
        Categories: an indicator each, all 0 for a category that the member does not know.
        Then an indicator for each column that was seen missing; then how far through each piece a
        number is, from 0 before to 1 after it (Gorishniy et al. 2022), 0 where missing."""
        absent = ~torch.isfinite(raw)
        members = self.mean.shape[0]
        numbers = raw.index_select(1, self.numeric)
        standard = self.standardised(numbers)
        standard = standard.masked_fill(absent.index_select(1, self.numeric), 0.0).float()
        codes = raw.index_select(1, self.category_column)
        indicators = (codes == self.category_code) & self.known.unsqueeze(1)
        missing = absent.index_select(1, self.missing_column).expand(members, -1, -1)
        parts = [standard, indicators.float(), missing.float()]
        if self.has_pieces:
            beyond = raw.index_select(1, self.piece) - self.start.unsqueeze(1)
            shares = (beyond / self.width.unsqueeze(1)).clamp(0, 1)
            gaps = absent.index_select(1, self.piece)
            parts.append(shares.masked_fill(gaps, 0.0).float())
        return torch.cat(parts, dim=2)


def _of_members(
    raw: Tensor,
    training_rows: Sequence[Tensor],
    fit: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, ...]],
) -> Iterator[Tensor]:
    """What `fit` gives of a table [N, D] and the rows of each of S members, stacked [S, ...]."""
    table = raw.detach().cpu().numpy().reshape(len(raw), -1)
    fitted = [fit(table, rows.cpu().numpy()) for rows in training_rows]
    for of_each in zip(*fitted, strict=True):
        yield torch.from_numpy(np.stack(of_each)).to(raw.device)


def _fit_member(
    schema: Schema, table: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One member's mean [Fn], scale [Fn] and known categories [C]."""
    known = [
        np.bincount(codes[codes >= 0].astype(np.int64), minlength=len(column.categories)) > 0
        for position, column in enumerate(schema.columns)
        if column.kind == "category"
        for codes in [table[rows, position]]
    ]
    mean, scale = _statistics(table, rows, list(schema.numeric))
    return mean, scale, np.concatenate([np.zeros(0, dtype=bool), *known])


Edges = Sequence[Sequence[np.ndarray]]
"""Of each member's columns that are numbers: ascending, between them the pieces."""


def _edges(
    table: np.ndarray, rows: np.ndarray, columns: Sequence[int], pieces: int
) -> list[np.ndarray]:
    """The quantiles of some rows of these columns that part them into `pieces`, no value twice."""
    edges = []
    for column in columns if pieces else ():
        values = table[rows, column]
        values = np.sort(values[np.isfinite(values)])
        at = np.linspace(0, len(values) - 1, pieces + 1).round().astype(int)
        edges.append(np.unique(values[at]) if len(values) else values)
    return edges


def _pieces(
    edges: Edges, columns: Sequence[int], members: int
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """`start`, `width` and `piece` of an `Encoder`. Of a column of two values, or one, there is no
    piece: standardised it says as much."""
    starts, widths, place = [], [], []
    for position, of_members in zip(columns, zip(*edges, strict=True), strict=False):
        count = max(len(each) for each in of_members) - 1
        if count < 2:
            continue
        start, width = np.zeros((members, count)), np.full((members, count), np.inf)
        for s, each in enumerate(of_members):
            start[s, : max(0, len(each) - 1)] = each[:-1]
            with np.errstate(over="ignore"):  # an infinite width is of no piece
                widest = np.minimum(np.diff(each), np.finfo(np.float64).max)
            width[s, : max(0, len(each) - 1)] = widest
        starts.append(start)
        widths.append(width)
        place += [position] * count
    empty = np.zeros((members, 0))
    return np.concatenate([empty, *starts], 1), np.concatenate([empty, *widths], 1), place


def _statistics(
    table: np.ndarray, rows: np.ndarray, columns: list[int] | slice = slice(None)
) -> tuple[np.ndarray, np.ndarray]:
    """The mean [Fn] and the scale [Fn] of some rows of these columns.

    Passes over blocks of rows in NumPy: the sums do not depend on the number of threads."""
    width = table[:0, columns].shape[1]
    count = np.zeros(width)
    low, high = np.full(width, np.inf), np.full(width, -np.inf)
    for block in _blocks(table, rows, columns):
        count += np.isfinite(block).sum(axis=0)
        low = np.fmin(low, np.fmin.reduce(block, axis=0, initial=np.inf))
        high = np.fmax(high, np.fmax.reduce(block, axis=0, initial=-np.inf))
    # Dividing by a power of two is exact, and no sum or square of what is left overflows.
    largest = np.where(count > 0, np.maximum(np.abs(low), np.abs(high)), 1.0)
    unit = np.ldexp(1.0, np.frexp(np.where(largest > 0, largest, 1.0))[1] - 1)
    total, squares = np.zeros(width), np.zeros(width)
    for block in _blocks(table, rows, columns):
        total += np.nansum(block / unit, axis=0)
    mean = total / np.maximum(count, 1)
    for block in _blocks(table, rows, columns):
        squares += np.nansum((block / unit - mean) ** 2, axis=0)
    scale = np.sqrt(squares / np.maximum(count, 1)) * unit
    scale = np.where((low == high) | (scale == 0), 1.0, scale)
    scale = np.where(count == 0, np.inf, scale)
    return np.where(low == high, low, mean * unit), scale


def _blocks(
    table: np.ndarray, rows: np.ndarray, columns: list[int] | slice
) -> Iterator[np.ndarray]:
    """Copies [at most 65,536, Fn] of the rows' columns, NaN for what is not finite."""
    at_once = rows_at_once(table.shape[1])
    for start in range(0, len(rows), at_once):
        block = table[rows[start : start + at_once]][:, columns].astype(np.float64)
        block[~np.isfinite(block)] = np.nan
        yield block
