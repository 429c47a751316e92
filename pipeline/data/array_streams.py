"""Arrays and images to be scored, in blocks of rows."""

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.common.errors import UserError, naming
from pipeline.data.arrays import NPZ, read_npz
from pipeline.data.images import Size, decoded, files_below
from pipeline.data.sources import local_file
from pipeline.inference import ArrayReader, InputError

_BLOCK_NUMBERS = 1 << 24


@dataclass(frozen=True)
class Readable:
    """Some rows of a source, and how far the reading is.

    raw: the rows that the model can read; of arrays [rows, *shape] in its dtype.
    kept: columns that are copied for these; of images their names in the folder, as `file`.
    rejected: of the other rows `row` (its number, from 1), `reason`, and what names or fills them.
    done: the part that has been read, in [0, 1]."""

    raw: np.ndarray
    kept: Mapping[str, Any]
    rejected: pa.Table
    done: float


def rejected_rows(rows: Sequence[Mapping[str, Any]], *columns: str) -> pa.Table:
    """A table of `row`, `reason` and further columns of text, in the order of the rows' numbers."""
    names = dict.fromkeys(("row", "reason", *columns), pa.string()) | {"row": pa.int64()}
    return pa.Table.from_pylist(sorted(rows, key=itemgetter("row")), pa.schema(names))


def array_blocks(source: str, reader: ArrayReader, size: Size | None) -> Iterator[Readable]:
    """The blocks of a .npz file with x, or of a folder of images, flat or nested, by their names.

    Args:
        size: what images are brought to; None: they must have the size that the model takes.

    Raises UserError: no such file or folder, arrays of another shape."""
    folder = Path(source).expanduser()
    read = partial(_image_blocks, size=size) if folder.is_dir() else _npz_blocks
    return read(source, reader, max(1, _BLOCK_NUMBERS // math.prod(reader.shape)))


def _npz_blocks(source: str, reader: ArrayReader, at_once: int) -> Iterator[Readable]:
    with tempfile.TemporaryDirectory(prefix="arrays-") as folder, naming(source):
        path = local_file(source, Path(folder), (NPZ,))
        try:
            array = reader.array(read_npz(path, ("x",))["x"])
        except InputError as error:
            raise UserError(f"x: {error}") from error
    for start in range(0, max(len(array), 1), at_once):
        block = array[start : start + at_once]
        raw, unfit = reader.converted(block)
        rejected = [
            {"row": start + row + 1, "reason": reader.misfit(block[row])}
            for row in np.flatnonzero(unfit).tolist()
        ]
        done = (start + len(block)) / max(len(array), 1)
        yield Readable(raw[~unfit], {}, rejected_rows(rejected), done)


def _image_blocks(
    source: str, reader: ArrayReader, at_once: int, size: Size | None
) -> Iterator[Readable]:
    folder, shape = Path(source).expanduser(), reader.shape
    if reader.dtype != np.uint8 or len(shape) != 3 or shape[0] not in (1, 3):
        takes = f"arrays {list(shape)} {reader.dtype}, not images"
        raise UserError(f"{source}: the model takes {takes}; give them as a .npz file with x")
    files = files_below(folder)
    if not files:
        raise UserError(f"{source}: the folder holds no images")
    for start in range(0, len(files), at_once):
        block = files[start : start + at_once]
        images, names = [np.empty((0, *shape), np.uint8)], []
        rejected: list[dict[str, Any]] = []
        for row, image in enumerate(decoded(block, size, shape[0]), start + 1):
            name = block[row - start - 1].relative_to(folder).as_posix()
            if not isinstance(image, str) and image.shape != shape:
                expected, got = (f"{s[1]} x {s[2]}" for s in (shape, image.shape))
                image = f"expected {expected} pixels; got {got}"
            if isinstance(image, str):
                rejected.append({"row": row, "reason": image, "file": name})
            else:
                images.append(image[np.newaxis])
                names.append(name)
        done = (start + len(block)) / len(files)
        kept = {"file": pa.array(names, pa.string())}
        yield Readable(np.concatenate(images), kept, rejected_rows(rejected, "file"), done)
