"""Columns of a table as raw numbers, and these as the inputs of a network."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from pipeline.common.errors import UserError, refuse
from pipeline.common.text import shorten, some
from pipeline.data import values
from pipeline.data.schema import NameRows, Schema, check_columns, missing_columns
from pipeline.data.sources import row_numbers
from pipeline.data.text_files import MISSING
from pipeline.inference.rows import EXPECTED

CLIP = 10.0
"""Encoded numbers lie within [-CLIP, CLIP] standard deviations of the mean."""

_ROWS_AT_ONCE = 65_536
_MISSING = pa.array(MISSING, pa.string())


def to_raw(table: pa.Table, schema: Schema) -> np.ndarray:
    """The columns of the schema as numbers, in its order; other columns are ignored.

    Returns:
        float64 [rows, columns]: numbers as they are (infinities as missing), booleans 0 and 1,
        dates in days since 1970-01-01 UTC with their fraction, categories as their position in
        the column's categories (unseen: -1), missing NaN. A value that cannot be read as its
        column's kind counts as missing.

    Raises:
        UserError: the table lacks columns.
    """
    refuse(missing_columns(table.column_names, [column.name for column in schema.columns]))
    raw = np.empty((table.num_rows, len(schema.columns)), dtype=np.float64)
    for position, column in enumerate(schema.columns):
        raw[:, position] = values.as_kind(table.column(column.name), column.kind, column.categories)
    return raw


def to_raw_or_reasons(
    table: pa.Table, columns: Sequence[Mapping[str, Any]]
) -> tuple[np.ndarray, dict[int, str]]:
    """As `to_raw`, of a table from anywhere, and for each row that does not fit the reason.

    Args:
        table: holds the columns; text in them may be any kind of value, and one of `MISSING` is a
            missing one.
        columns: those of schema.json.
    """
    raw = np.empty((table.num_rows, len(columns)), dtype=np.float64)
    reasons: dict[int, str] = {}
    for position, column in enumerate(columns):
        content = values.plain(table.column(column["name"]))
        if pa.types.is_string(content.type):
            content = pc.if_else(pc.is_in(content, value_set=_MISSING), None, content)
        raw[:, position] = values.as_kind(content, column["kind"], column["categories"])
        absent = np.isnan(raw[:, position])
        if content.null_count == absent.sum():
            continue
        for row in np.flatnonzero(absent & values.present(content)).tolist():
            reason = (
                f"column {column['name']!r}: expected {EXPECTED[column['kind']]}; "
                f"got {shorten(repr(content[row].as_py()), 60)}"
            )
            reasons[row] = f"{reasons[row]}; {reason}" if row in reasons else reason
    return raw, reasons


def check_readable(table: pa.Table, schema: Schema) -> None:
    """Whether each column holds at least one value of its kind, if it holds any value.

    Single values that cannot be read count as missing; a column of which none can be read is
    another column than the one that the schema describes.

    Raises:
        UserError: names each such column and a value.
    """
    problems = []
    for column in schema.columns:
        content = table.column(column.name)
        if not np.isnan(values.as_kind(content, column.kind, column.categories)).all():
            continue
        present = np.flatnonzero(values.present(content))
        if len(present):
            problems.append(
                f"column {column.name!r} must hold a {column.kind}, as in the training rows; "
                f"got values such as {content[int(present[0])].as_py()!r}"
            )
    refuse(problems)


def label_ids(table: pa.Table, schema: Schema, rows: NameRows = row_numbers) -> np.ndarray:
    """The class id of every row, int64 [rows] in 0..C-1. `rows` names rows in messages.

    Raises:
        UserError: no target column, a row without a label, a label that the schema has not.
    """
    check_columns(table, schema.target)
    column = table.column(schema.target)
    if isinstance(schema.labels[0], str):
        content, labels = values.text(column), pa.array(schema.labels, pa.string())
    elif type(schema.labels[0]) is int and pa.types.is_integer(column.type):
        content = pc.cast(column, pa.int64(), safe=False)
        labels = pa.array(schema.labels, pa.int64())
    else:
        read = values.booleans if isinstance(schema.labels[0], bool) else values.numbers
        content = pa.chunked_array([pa.array(read(column), from_pandas=True)])
        labels = pa.array([float(label) for label in schema.labels])
    position = pc.index_in(content, value_set=labels)
    unknown = np.flatnonzero(~np.asarray(position.is_valid()))
    if len(unknown):
        strange = column.take(pa.array(unknown))
        unlabelled = unknown[~values.present(strange)]
        if len(unlabelled):
            raise UserError(
                "every row must have a label; "
                f"column {schema.target!r} has none in {rows(unlabelled)}"
            )
        raise UserError(
            f"column {schema.target!r} must hold only labels that training has "
            f"({some(schema.labels)}); got {some(pc.unique(strange).to_pylist())} in "
            f"{rows(unknown)}"
        )
    return np.asarray(position, dtype=np.int64)


class Encoder(torch.nn.Module):
    """Raw columns to network inputs, with the statistics of each of S members' training rows.

    All that was fitted is in buffers, so that it travels in an exported graph and can be swapped:

    - `mean`, `scale`: float64 [S, Fn], of the Fn columns that are numbers, booleans or dates.
      `scale` is infinite where a member's training rows hold no value, which encodes all as 0.
    - `known`: bool [S, C], the categories that occur in a member's training rows.
    """

    mean: Tensor
    scale: Tensor
    known: Tensor
    numeric: Tensor
    category_column: Tensor
    category_code: Tensor
    missing_column: Tensor

    def __init__(self, schema: Schema, mean: Tensor, scale: Tensor, known: Tensor) -> None:
        super().__init__()
        self.schema = schema
        categories = [
            (position, code)
            for position, column in enumerate(schema.columns)
            for code in range(len(column.categories))
        ]
        missing = [position for position, column in enumerate(schema.columns) if column.missing]
        device = mean.device

        def positions(columns: Sequence[int]) -> Tensor:
            return torch.tensor(columns, dtype=torch.int64, device=device)

        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)
        self.register_buffer("known", known)
        self.register_buffer("numeric", positions(schema.numeric))
        self.register_buffer("category_column", positions([column for column, _ in categories]))
        self.register_buffer("category_code", positions([code for _, code in categories]).double())
        self.register_buffer("missing_column", positions(missing))

    @staticmethod
    def fit(raw: Tensor, schema: Schema, training_rows: Sequence[Tensor]) -> "Encoder":
        """Means, population standard deviations and known categories per member.

        Args:
            raw: float64 [N, F], as `to_raw` gives it.
            training_rows: S tensors of row numbers, int64.

        Returns:
            An encoder of S members, on the device of `raw`. A column without spread has scale 1.
        """
        table = raw.detach().cpu().numpy()
        fitted = [_fit_member(table, schema, np.asarray(rows.cpu())) for rows in training_rows]
        mean, scale, known = (
            torch.from_numpy(np.stack(of_each)).to(raw.device)
            for of_each in zip(*fitted, strict=True)
        )
        return Encoder(schema, mean, scale, known)

    def forward(self, raw: Tensor) -> Tensor:
        """float64 [B, F] -> float32 [S, B, D], all finite; B may be 0.

        Numbers: (x - mean) / standard deviation, clipped to [-10, 10], 0 where missing.
        Categories: an indicator each, all 0 for a category that the member does not know.
        Then an indicator for each column that was seen missing.
        """
        absent = ~torch.isfinite(raw)
        members = self.mean.shape[0]
        numbers = raw.index_select(1, self.numeric)
        standard = (numbers - self.mean.unsqueeze(1)) / self.scale.unsqueeze(1)
        standard = standard.clamp(-CLIP, CLIP)
        standard = standard.masked_fill(absent.index_select(1, self.numeric), 0.0).float()
        codes = raw.index_select(1, self.category_column)
        indicators = (codes == self.category_code) & self.known.unsqueeze(1)
        missing = absent.index_select(1, self.missing_column).expand(members, -1, -1)
        return torch.cat((standard, indicators.float(), missing.float()), dim=2)

    def encode(self, raw: Tensor) -> Tensor:
        """As `forward`, without gradients and in blocks of rows, to hold little at a time."""
        members = self.mean.shape[0]
        encoded = raw.new_empty((members, len(raw), self.schema.width), dtype=torch.float32)
        with torch.no_grad():
            for start in range(0, len(raw), _ROWS_AT_ONCE):
                block = slice(start, start + _ROWS_AT_ONCE)
                encoded[:, block] = self(raw[block])
        return encoded

    def select(self, index: Tensor) -> "Encoder":
        """An encoder of the members at `index`, int64 [K]; a member may occur several times."""
        return Encoder(self.schema, self.mean[index], self.scale[index], self.known[index])


def _fit_member(
    table: np.ndarray, schema: Schema, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One member's mean [Fn], scale [Fn] and known categories [C].

    Passes over blocks of rows in NumPy: the sums do not depend on the number of threads.
    """
    width = len(schema.numeric)
    count = np.zeros(width)
    low, high = np.full(width, np.inf), np.full(width, -np.inf)
    for block in _blocks(table, schema.numeric, rows):
        count += np.isfinite(block).sum(axis=0)
        low = np.fmin(low, np.fmin.reduce(block, axis=0, initial=np.inf))
        high = np.fmax(high, np.fmax.reduce(block, axis=0, initial=-np.inf))
    # Dividing by a power of two is exact, and no sum or square of what is left overflows.
    largest = np.where(count > 0, np.maximum(np.abs(low), np.abs(high)), 1.0)
    unit = np.ldexp(1.0, np.frexp(np.where(largest > 0, largest, 1.0))[1] - 1)
    total, squares = np.zeros(width), np.zeros(width)
    for block in _blocks(table, schema.numeric, rows):
        total += np.nansum(block / unit, axis=0)
    mean = total / np.maximum(count, 1)
    for block in _blocks(table, schema.numeric, rows):
        squares += np.nansum((block / unit - mean) ** 2, axis=0)
    scale = np.sqrt(squares / np.maximum(count, 1)) * unit
    scale = np.where((low == high) | (scale == 0), 1.0, scale)
    scale = np.where(count == 0, np.inf, scale)
    mean = np.where(low == high, low, mean * unit)
    known = [
        np.bincount(codes[codes >= 0].astype(np.int64), minlength=len(column.categories)) > 0
        for position, column in enumerate(schema.columns)
        if column.kind == "category"
        for codes in [table[rows, position]]
    ]
    return mean, scale, np.concatenate([np.zeros(0, dtype=bool), *known])


def _blocks(table: np.ndarray, numeric: Sequence[int], rows: np.ndarray) -> Iterator[np.ndarray]:
    """Copies [at most 65,536, Fn] of the rows' numeric columns, NaN for what is not finite."""
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        block = table[rows[start : start + _ROWS_AT_ONCE]][:, list(numeric)]
        block[~np.isfinite(block)] = np.nan
        yield block
