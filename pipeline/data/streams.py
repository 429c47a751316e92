"""Tables of any length: read and written in blocks of rows, in constant memory."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from pipeline.common.errors import refuse
from pipeline.common.files import whole
from pipeline.data.dialect import NOTHING_TOLD
from pipeline.data.schema import missing_columns
from pipeline.data.sources import Part, opened
from pipeline.data.table_files import Block, blocks, column_names, is_parquet, table_blocks
from pipeline.data.text_files import separator_of

WRITTEN = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")
"""Endings of what is written."""


@contextmanager
def reading(source: str, columns: Sequence[str]) -> Iterator[Iterator[Block]]:
    """The blocks of a table: a path, a URL, a folder, a pattern or sklearn:NAME, as
    `sources.opened` takes them. Raises UserError: no such table; columns that it lacks, or that
    stand twice in its header. While the blocks are read: a file that is damaged."""
    with opened(source) as table:
        place = table.place
        if isinstance(place, pa.Table):
            _check_names(source, place.column_names, columns)
            yield table_blocks(place.select(list(columns)))
            return
        for part in place:
            own = [name for name in columns if name not in part.constants]
            _check_names(part.name, column_names(part.name, part.path, own, NOTHING_TOLD), own)
        yield _of_parts(place, list(columns))


def _check_names(source: str, names: list[str], columns: Sequence[str]) -> None:
    problems = missing_columns(names, columns) + [
        f"column {name!r} stands {names.count(name)} times in the header"
        for name in columns
        if names.count(name) > 1
    ]
    refuse([f"{source}: {problem}" for problem in problems])


def _of_parts(parts: Sequence[Part], columns: list[str]) -> Iterator[Block]:
    """The parts one after the other, their rows numbered through."""
    before = 0
    for position, part in enumerate(parts):
        last = 0
        own = [name for name in columns if name not in part.constants]
        for block in blocks(part.name, part.path, own, NOTHING_TOLD):
            table = block.table
            for name, value in part.constants.items():
                if name in columns:
                    values = pa.repeat(pa.scalar(value, pa.string()), table.num_rows)
                    table = table.append_column(name, values)
            last = max([last, *block.numbers[-1:], *(number for number, _ in block.malformed)])
            yield replace(
                block,
                table=table,
                numbers=block.numbers + before,
                malformed=[(number + before, text) for number, text in block.malformed],
                done=(position + block.done) / len(parts),
            )
        before += int(last)


@contextmanager
def writing(path: Path) -> Iterator[Callable[[pa.Table], None]]:
    """Gives what writes a table block by block, as the ending of `path` says: one of `WRITTEN`.

    The file gets its name when the `with` block ends well; nothing stays of one that does not. The
    first table makes it, so a table without rows makes a file with a header and no rows."""
    with whole(path) as temporary, ExitStack() as stack:
        writers: list[Any] = []

        def write(table: pa.Table) -> None:
            if not writers:
                writers.append(_writer(stack, temporary, path.name, table.schema))
            writers[0].write_table(table)

        yield write


def _writer(stack: ExitStack, path: Path, name: str, schema: pa.Schema) -> Any:
    """pyarrow's writer for a file of this name; `stack` closes it."""
    if is_parquet(name):
        return stack.enter_context(pa.parquet.ParquetWriter(path, schema))
    stream = stack.enter_context(pa.OSFile(str(path), "wb"))
    if name.lower().endswith(".gz"):
        stream = stack.enter_context(pa.CompressedOutputStream(stream, "gzip"))
    options = pa.csv.WriteOptions(delimiter=separator_of(name), quoting_style="needed")
    return stack.enter_context(pa.csv.CSVWriter(stream, schema, write_options=options))
