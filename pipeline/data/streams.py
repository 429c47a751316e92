"""Tables of any length: read and written in blocks of rows, in constant memory."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from pipeline.common.files import whole
from pipeline.data.sources import Part, opened
from pipeline.data.table_files import Block, blocks, is_parquet
from pipeline.data.text_files import separator_of

WRITTEN = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")
"""Endings of what is written."""


@contextmanager
def reading(source: str, columns: Sequence[str]) -> Iterator[Iterator[Block]]:
    """The blocks of a table: a path, a URL, a folder, a pattern or sklearn:NAME, as
    `sources.opened` takes them. Raises UserError: no such table. While the blocks are read: columns
    that it lacks, or that stand twice in its header; a file that is damaged."""
    with opened(source) as table:
        yield _of_parts(table.parts, columns)


def _of_parts(parts: Sequence[Part], columns: Sequence[str]) -> Iterator[Block]:
    """The parts one after the other, their rows numbered through."""
    before = 0
    for position, part in enumerate(parts):
        last = 0
        own = [name for name in columns if name not in part.constants]
        for block in blocks(part.name, part.place, own):
            last = max([last, *block.numbers[-1:], *(number for number, _ in block.malformed)])
            yield replace(
                block,
                table=part.completed(block.table).select(columns),
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
