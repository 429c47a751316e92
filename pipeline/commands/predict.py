"""Score the rows of a file with a registered model."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import inference
from pipeline.common import text as formats
from pipeline.common.errors import UserError
from pipeline.data.array_streams import Readable, array_blocks, rejected_rows
from pipeline.data.encoding import to_raw_or_reasons
from pipeline.data.streams import WRITTEN, reading, writing
from pipeline.data.table_files import Block, is_parquet
from pipeline.report.console import Console, RowProgress
from pipeline.tracking.connection import connect, quiet
from pipeline.tracking.registry import downloaded


@dataclass(frozen=True)
class Scored:
    """How many rows have a prediction, how many were rejected, and where those are. positive: of
    two labels the one that `probability` is of; else None."""

    rows: int
    rejected: int
    rejected_path: Path
    positive: Any = None


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

    A table is read and written in blocks, so its length does not matter. Both files are written
    under temporary names and renamed, so that no half file is ever found. No code from the model's
    folder runs.

    Args:
        source: a table; where the model takes arrays, a .npz file with x, or a folder of images,
            whose names are then the column `file` of both files.
        keep: columns to copy into the output, before the model's own.
        threshold: where the positive label begins, of a model with two labels.
        rejected: file for the rows that have no prediction: `row` (from 1), `reason` and the
            row's values. By default beside the output; there is none when all rows fit.

    Raises:
        UserError: the model, the table, a column or the output cannot be used; no row fits."""
    if rejected is None:
        endings = [ending for ending in WRITTEN if output.name.endswith(ending)]
        stem = output.name.removesuffix(max(endings, key=len, default="")) or output.name
        rejected = output.with_name(f"{stem}.rejected.csv")
    _check_outputs(output, rejected)
    quiet()
    with downloaded(connect(), model_uri) as folder:
        try:
            model = inference.load(folder)
        except inference.ModelError as error:
            problem = str(error).replace(f"{folder}/", "")
            raise UserError(f"--model: {model_uri}: {problem}") from error
    scorer = _Scorer(model, keep, threshold, as_text=not is_parquet(output.name))
    with (
        scorer.reading(source) as blocks,
        RowProgress(Console()) as progress,
        writing(rejected) as write_rejected,
        writing(output) as write,
    ):
        first: dict[str, Any] = {}
        for block in blocks:
            predictions = scorer.predictions(block)
            write(predictions)
            if len(block.rejected):
                first = first or block.rejected.slice(0, 1).to_pylist()[0]
                write_rejected(block.rejected)
            progress.update(len(predictions), len(block.rejected), block.done)
        if not progress.scored and progress.rejected:
            file = "" if scorer.columns or "file" not in first else f"{first['file']}: "
            why = f"row {first['row']}: {file}{first['reason']}"
            raise UserError(f"{source}: the model can read none of its rows; {why}")
        if not progress.rejected:
            rejected.unlink(missing_ok=True)  # of an earlier call, for other rows
    labels = model.schema["labels"]
    positive = labels[1] if len(labels) == 2 else None
    return Scored(progress.scored, progress.rejected, rejected, positive)


class _Scorer:
    """Blocks of rows in, predictions and rejected rows out."""

    def __init__(
        self,
        model: inference.TabularModel,
        keep: Sequence[str],
        threshold: float | None,
        as_text: bool,
    ) -> None:
        self._model, self._keep = model, list(dict.fromkeys(keep))
        self._schema_columns = model.schema["columns"]
        params = {} if threshold is None else {"threshold": threshold}
        try:
            self._threshold = inference.threshold_of(params, model.schema)
        except inference.InputError as error:
            raise UserError(f"--threshold: {error}") from error
        labels = model.schema["labels"]
        if as_text and isinstance(labels[0], (bool, float)):
            # Arrow's writer of text makes true of True and 1 of 1.0.
            labels = [str(label) for label in labels]
        self._labels = pa.array(labels)
        self._names = inference.probability_names(model.schema["labels"])
        names = [column["name"] for column in self._schema_columns]
        self.columns = list(dict.fromkeys([*self._keep, *names]))
        if taken := set(self._keep) & {"prediction", *self._names}:
            raise UserError(f"--keep: the model's own output has a column {sorted(taken)[0]!r}")

    @contextmanager
    def reading(self, source: str) -> Iterator[Iterator[Readable]]:
        """The blocks of a table; or of arrays or images, where the model takes these."""
        reader = self._model.reader
        if not isinstance(reader, inference.ArrayReader):
            with reading(source, self.columns) as of_table:
                yield map(self._of_table, of_table)
            return
        if self._keep:
            raise UserError("--keep: is for tables; the model takes arrays, which have no columns")
        size = self._model.schema["inputs"].get("size")
        yield array_blocks(source, reader, None if size is None else (size[0], size[1]))

    def predictions(self, block: Readable) -> pa.Table:
        """What was kept, the predicted label and the probabilities of each row."""
        probabilities = self._model.scores(block.raw)
        columns = dict(block.kept)
        ids = inference.decide(probabilities, self._threshold)
        columns["prediction"] = self._labels.take(pa.array(ids))
        shown = probabilities[:, 1:] if len(self._names) == 1 else probabilities
        for position, name in enumerate(self._names):
            columns[name] = pa.array(np.ascontiguousarray(shown[:, position]))
        return pa.table(columns)

    def _of_table(self, block: Block) -> Readable:
        raw, reasons = to_raw_or_reasons(block.table, self._schema_columns, block.decimal)
        kept = block.table.select(self._keep)
        rows = sorted(reasons)
        misfits = block.table.take(pa.array(rows, pa.int64())).to_pylist()
        rejected = [{"row": number, "reason": reason} for number, reason in block.malformed]
        for row, number, values in zip(rows, block.numbers[rows].tolist(), misfits, strict=True):
            texts = {name: v if v is None else str(v) for name, v in values.items()}
            rejected.append({**texts, "row": number, "reason": reasons[row]})
        if reasons:
            fits = ~np.isin(np.arange(len(raw)), rows)
            raw, kept = raw[fits], kept.filter(pa.array(fits))
        of_kept = {name: kept.column(name) for name in self._keep}
        return Readable(raw, of_kept, rejected_rows(rejected, *self.columns), block.done)


def _check_outputs(output: Path, rejected: Path) -> None:
    endings = formats.listing(list(WRITTEN))
    for option, path in (("--output", output), ("--rejected", rejected)):
        if not path.name.endswith(WRITTEN):
            raise UserError(f"{option}: must end in one of {endings}; got {path}")
        if path.is_dir():
            raise UserError(f"{option}: must be a file; got the folder {path}")
        if not path.parent.is_dir():
            raise UserError(f"{option}: no such folder: {path.parent}")
    if output == rejected:
        raise UserError(f"--rejected: must be another file than --output; got {rejected}")
