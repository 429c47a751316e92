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
from pipeline.data.array_streams import ArrayBlock, array_blocks
from pipeline.data.encoding import to_raw_or_reasons
from pipeline.data.sources import ENDINGS, is_parquet
from pipeline.data.streams import Block, reading, writing
from pipeline.report.console import Console, RowProgress
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
        endings = [ending for ending in ENDINGS if output.name.endswith(ending)]
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
        for block in blocks:
            predictions = scorer.predictions(block)
            write(predictions)
            if len(block.rejected):
                write_rejected(block.rejected)
            progress.update(len(predictions), len(block.rejected), block.done)
        if not progress.scored and progress.rejected:
            raise UserError(f"{source}: the model can read none of its rows; {scorer.first_reason}")
        if not progress.rejected:
            rejected.unlink(missing_ok=True)  # of an earlier call, for other rows
    return Scored(progress.scored, progress.rejected, rejected)


@dataclass(frozen=True)
class _Readable:
    """`raw`: rows that the model can read; `kept`: columns that are copied; the other rows are in
    the table `rejected`. `done` is the part of the source that has been read."""

    raw: np.ndarray
    kept: dict[str, Any]
    rejected: pa.Table
    done: float


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
        self.columns = [*self._keep, *(name for name in names if name not in self._keep)]
        self.first_reason = ""
        if taken := set(self._keep) & {"prediction", *self._names}:
            raise UserError(f"--keep: the model's own output has a column {sorted(taken)[0]!r}")

    @contextmanager
    def reading(self, source: str) -> Iterator[Iterator[_Readable]]:
        """The blocks of a table; or of arrays or images, where the model takes these."""
        reader = self._model.reader
        if not isinstance(reader, inference.ArrayReader):
            with reading(source, self.columns) as of_table:
                yield map(self._of_table, of_table)
            return
        if self._keep:
            raise UserError("--keep: is for tables; the model takes arrays, which have no columns")
        size = self._model.schema["inputs"].get("size")
        blocks = array_blocks(source, reader, None if size is None else (size[0], size[1]))
        yield map(self._of_arrays, blocks)

    def predictions(self, block: _Readable) -> pa.Table:
        """What was kept, the predicted label and the probabilities of each row."""
        probabilities = self._model.scores(block.raw)
        columns = dict(block.kept)
        ids = inference.decide(probabilities, self._threshold)
        columns["prediction"] = self._labels.take(pa.array(ids))
        shown = probabilities[:, 1:] if len(self._names) == 1 else probabilities
        for position, name in enumerate(self._names):
            columns[name] = pa.array(np.ascontiguousarray(shown[:, position]))
        return pa.table(columns)

    def _of_arrays(self, block: ArrayBlock) -> _Readable:
        kept = {} if block.files is None else {"file": pa.array(block.files, pa.string())}
        numbers, reasons, files = zip(*block.rejected, strict=True) if block.rejected else ((),) * 3
        columns = {"row": pa.array(numbers, pa.int64()), "reason": pa.array(reasons, pa.string())}
        if block.files is not None:
            columns["file"] = pa.array(files, pa.string())
        return _Readable(block.raw, kept, self._rejected(columns), block.done)

    def _of_table(self, block: Block) -> _Readable:
        raw, reasons = to_raw_or_reasons(block.table, self._schema_columns)
        kept = block.table.select(self._keep)
        if reasons:
            fits = np.ones(len(raw), dtype=bool)
            fits[list(reasons)] = False
            raw, kept = raw[fits], kept.filter(pa.array(fits))
        rows = sorted(reasons)
        numbers = [*block.numbers[rows].tolist(), *(number for number, _ in block.malformed)]
        texts = [*(reasons[row] for row in rows), *(reason for _, reason in block.malformed)]
        columns = {"row": pa.array(numbers, pa.int64()), "reason": pa.array(texts, pa.string())}
        misfits = block.table.take(pa.array(rows, pa.int64()))
        nothing = [None] * len(block.malformed)
        for name in self.columns:
            if name not in columns:
                values = [v if v is None else str(v) for v in misfits.column(name).to_pylist()]
                columns[name] = pa.array([*values, *nothing], pa.string())
        of_kept = {name: kept.column(name) for name in self._keep}
        return _Readable(raw, of_kept, self._rejected(columns), block.done)

    def _rejected(self, columns: dict[str, Any]) -> pa.Table:
        """A table of the rows that do not fit, in their order."""
        rejected = pa.table(columns).sort_by("row")
        if len(rejected) and not self.first_reason:
            file = f"{rejected['file'][0]}: " if "file" in columns and not self.columns else ""
            self.first_reason = f"row {rejected['row'][0]}: {file}{rejected['reason'][0]}"
        return rejected


def _check_outputs(output: Path, rejected: Path) -> None:
    endings = formats.listing(list(ENDINGS))
    for option, path in (("--output", output), ("--rejected", rejected)):
        if not path.name.endswith(ENDINGS):
            raise UserError(f"{option}: must end in one of {endings}; got {path}")
        if path.is_dir():
            raise UserError(f"{option}: must be a file; got the folder {path}")
        if not path.parent.is_dir():
            raise UserError(f"{option}: no such folder: {path.parent}")
    if output == rejected:
        raise UserError(f"--rejected: must be another file than --output; got {rejected}")
