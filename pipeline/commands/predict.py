"""Score the rows of a file with a registered model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import inference
from pipeline.common import text as formats
from pipeline.common.errors import UserError
from pipeline.data import scoring
from pipeline.data.sources import is_parquet
from pipeline.data.streams import OUTPUTS, Block, Sink, reading, writing
from pipeline.report.console import Console
from pipeline.tracking.connection import connect, quiet
from pipeline.tracking.registry import downloaded


@dataclass(frozen=True)
class Scored:
    """How many rows have a prediction, how many were rejected, and where those are."""

    rows: int
    rejected: int
    rejected_path: Path


def predict(
    model_uri: str,
    source: str,
    output: Path,
    *,
    keep: Sequence[str] = (),
    threshold: float | None = None,
    rejected: Path | None = None,
) -> Scored:
    """Write a row of predictions for each row of `source` that the model can read, in its order.

    The table is read and written in blocks, so its length does not matter. Both files are written
    under temporary names and renamed, so that no half file is ever found. No code from the model's
    folder runs.

    Args:
        keep: columns to copy into the output, before the model's own.
        threshold: where the positive label begins, of a model with two labels.
        rejected: file for the rows that have no prediction: `row` (from 1), `reason` and the
            row's values. By default beside the output; there is none when all rows fit.

    Raises:
        UserError: the model, the table, a column or the output cannot be used; no row fits.
    """
    rejected = rejected or output.with_name(f"{_stem(output)}.rejected.csv")
    _check_outputs(output, rejected)
    console = Console()
    quiet()
    with downloaded(connect(), model_uri) as folder:
        try:
            model = inference.load(folder)
        except inference.ModelError as error:
            problem = str(error).replace(f"{folder}/", "")
            raise UserError(f"--model: {model_uri}: {problem}") from error
    scorer = _Scorer(model, keep, threshold, as_text=not is_parquet(output.name))
    good, bad = Sink(output), Sink(rejected)
    with (
        reading(source, scorer.columns) as blocks,
        console.rows() as progress,
        writing(good, bad),
    ):
        for block in blocks:
            predictions, reasons = scorer.score(block)
            good.write(predictions)
            if len(reasons):
                bad.write(reasons)
            progress.update(len(predictions), len(reasons), block.done)
        if not progress.scored and progress.rejected:
            raise UserError(f"{source}: the model can read none of its rows; {scorer.first_reason}")
        if not progress.rejected:
            rejected.unlink(missing_ok=True)  # of an earlier call, for other rows
    return Scored(progress.scored, progress.rejected, rejected)


class _Scorer:
    """Blocks of rows in, predictions and rejected rows out."""

    def __init__(
        self,
        model: inference.TabularModel,
        keep: Sequence[str],
        threshold: float | None,
        as_text: bool = False,
    ) -> None:
        self._model, self._keep = model, list(dict.fromkeys(keep))
        self._wanted = model.schema["columns"]
        given = {} if threshold is None else {"threshold": threshold}
        try:
            self._threshold = inference.threshold_of(given, model.schema)
        except inference.InputError as error:
            raise UserError(f"--threshold: {error}") from error
        self._labels = _label_array(model.schema["labels"], as_text)
        self._names = inference.probability_names(model.schema["labels"])
        names = [column["name"] for column in self._wanted]
        self.columns = [*self._keep, *(name for name in names if name not in self._keep)]
        self.first_reason = ""
        if taken := set(self._keep) & {"prediction", *self._names}:
            raise UserError(f"--keep: the model's own output has a column {sorted(taken)[0]!r}")

    def score(self, block: Block) -> tuple[pa.Table, pa.Table]:
        """Predictions for the rows that fit, and a table of those that do not."""
        raw, reasons = scoring.to_raw(block.table, self._wanted)
        kept = block.table.select(self._keep)
        if reasons:
            fits = np.ones(len(raw), dtype=bool)
            fits[list(reasons)] = False
            raw, kept = raw[fits], kept.filter(pa.array(fits))
        probabilities = self._model.scores(raw)
        columns: dict[str, Any] = {name: kept.column(name) for name in self._keep}
        ids = inference.decide(probabilities, self._threshold)
        columns["prediction"] = self._labels.take(pa.array(ids))
        shown = probabilities[:, 1:] if len(self._names) == 1 else probabilities
        for position, name in enumerate(self._names):
            columns[name] = pa.array(np.ascontiguousarray(shown[:, position]))
        return pa.table(columns), self._rejected(block, reasons)

    def _rejected(self, block: Block, reasons: dict[int, str]) -> pa.Table:
        rows = sorted(reasons)
        numbers = [*block.numbers[rows].tolist(), *(number for number, _ in block.malformed)]
        texts = [*(reasons[row] for row in rows), *(reason for _, reason in block.malformed)]
        if texts and not self.first_reason:
            self.first_reason = f"row {numbers[0]}: {texts[0]}"
        nothing = [None] * len(block.malformed)
        columns: dict[str, Any] = {"row": pa.array(numbers, pa.int64()), "reason": texts}
        for name in self.columns:
            if name not in columns:
                found = [str(v) if v is not None else None for v in _values(block, name, rows)]
                columns[name] = pa.array([*found, *nothing], pa.string())
        columns["reason"] = pa.array(texts, pa.string())
        table = pa.table(columns)
        return table.take(pa.array(np.argsort(numbers, kind="stable"))) if numbers else table


def _label_array(labels: Sequence[Any], as_text: bool) -> pa.Array:
    """The labels to take predictions from; with `as_text` as a text file shows them.

    Arrow's writer of text makes true of True and 1 of 1.0.
    """
    if as_text and isinstance(labels[0], (bool, float)):
        return pa.array([str(label) for label in labels])
    return pa.array(labels)


def _values(block: Block, name: str, rows: Sequence[int]) -> list[Any]:
    found: list[Any] = block.table.column(name).take(pa.array(rows, pa.int64())).to_pylist()
    return found


def _stem(path: Path) -> str:
    """The name without its ending."""
    ending = next((end for end in sorted(OUTPUTS, key=len)[::-1] if path.name.endswith(end)), "")
    return path.name.removesuffix(ending) or path.name


def _check_outputs(output: Path, rejected: Path) -> None:
    for option, path in (("--output", output), ("--rejected", rejected)):
        if not path.name.endswith(OUTPUTS):
            raise UserError(
                f"{option}: must end in one of {formats.listing(list(OUTPUTS))}; got {path}"
            )
        if path.is_dir():
            raise UserError(f"{option}: must be a file; got the folder {path}")
        if not path.parent.is_dir():
            raise UserError(f"{option}: no such folder: {path.parent}")
    if output == rejected:
        raise UserError(f"--rejected: must be another file than --output; got {rejected}")
