"""Score the rows of a file with a registered model."""

import os
import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from pipeline import inference, tables
from pipeline.errors import UserError
from pipeline.tracking import connect, downloaded, quiet

ENDINGS = (".csv", ".parquet")


def predict(model_uri: str, source: str, output: Path) -> int:
    """Write one row of predictions for each row of `source`, in its order; the number of rows.

    The output has the columns that `predict` of the model gives. It is written under a temporary
    name and renamed, so that no half file is ever found. No code from the model's folder runs.

    Raises:
        UserError: the model, the table or the output cannot be used.
    """
    if output.suffix not in ENDINGS:
        raise UserError(f"--output: must end in {' or '.join(ENDINGS)}; got {output}")
    if output.is_dir():
        raise UserError(f"--output: must be a file; got the folder {output}")
    if not output.parent.is_dir():
        raise UserError(f"--output: no such folder: {output.parent}")
    quiet()
    with downloaded(connect(), model_uri) as folder:
        try:
            model = inference.load(folder)
        except inference.ModelError as error:
            problem = str(error).replace(f"{folder}/", "")
            raise UserError(f"--model: {model_uri}: {problem}") from error
    table, _ = tables.read(source)
    try:
        predictions = model.predict(table.to_pandas())
    except inference.InputError as error:
        raise UserError([f"{source}: {problem}" for problem in error.problems]) from error
    _write(pa.Table.from_pandas(predictions, preserve_index=False), output)
    return len(predictions)


def _write(table: pa.Table, output: Path) -> None:
    temporary = output.with_name(f".{output.name}.{uuid.uuid4().hex[:8]}")
    try:
        if output.suffix == ".csv":
            pa.csv.write_csv(table, temporary)
        else:
            pa.parquet.write_table(table, temporary)
        os.replace(temporary, output)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
