"""Arrays and images to be scored, in blocks of rows."""

import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.common.errors import UserError, naming
from pipeline.data.arrays import NPZ, read_npz
from pipeline.data.images import Size, decoded, files_below
from pipeline.data.sources import local_file
from pipeline.inference import ArrayReader, InputError

_BLOCK_NUMBERS = 1 << 24


@dataclass(frozen=True)
class ArrayBlock:
    """Some rows of a source, and how far the reading is.

    raw: [rows, *shape] in the model's dtype, those that it can read.
    files: of images the name of each of them in the folder; None for arrays.
    rejected: number (from 1), reason and file of the other rows.
    done: the part that has been read, in [0, 1]."""

    raw: np.ndarray
    files: list[str] | None
    rejected: list[tuple[int, str, str]]
    done: float


def array_blocks(source: str, reader: ArrayReader, size: Size | None) -> Iterator[ArrayBlock]:
    """The blocks of a .npz file with x, or of a folder of images, flat or nested, by their names.

    Args:
        size: what images are brought to; None: they must have the size that the model takes.

    Raises UserError: no such file or folder, arrays of another shape."""
    folder = Path(source).expanduser()
    read = partial(_image_blocks, size=size) if folder.is_dir() else _npz_blocks
    return read(source, reader, max(1, _BLOCK_NUMBERS // math.prod(reader.shape)))


def _npz_blocks(source: str, reader: ArrayReader, at_once: int) -> Iterator[ArrayBlock]:
    with tempfile.TemporaryDirectory(prefix="arrays-") as folder, naming(source):
        path = local_file(source, Path(folder), (NPZ,))
        try:
            array = reader.array(read_npz(path, ("x",))["x"])
        except InputError as error:
            raise UserError(f"x: {error}") from error
    for start in range(0, max(len(array), 1), at_once):
        block = array[start : start + at_once]
        raw, unfit = reader.converted(block)
        rows = np.flatnonzero(unfit).tolist()
        rejected = [(start + row + 1, reader.misfit(block[row]), "") for row in rows]
        done = (start + len(block)) / max(len(array), 1)
        yield ArrayBlock(raw[~unfit], None, rejected, done)


def _image_blocks(
    source: str, reader: ArrayReader, at_once: int, size: Size | None
) -> Iterator[ArrayBlock]:
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
        rejected: list[tuple[int, str, str]] = []
        for row, image in enumerate(decoded(block, size, shape[0]), start + 1):
            name = block[row - start - 1].relative_to(folder).as_posix()
            if not isinstance(image, str) and image.shape == shape:
                images.append(image[np.newaxis])
                names.append(name)
                continue
            if not isinstance(image, str):
                expected, got = (f"{s[1]} x {s[2]}" for s in (shape, image.shape))
                image = f"expected {expected} pixels; got {got}"
            rejected.append((row, image, name))
        done = (start + len(block)) / len(files)
        yield ArrayBlock(np.concatenate(images), names, rejected, done)
