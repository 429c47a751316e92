"""Images as arrays [channels, height, width] of uint8, and folders of them."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from pipeline.common.errors import UserError, refuse
from pipeline.common.files import file_digest
from pipeline.common.imports import reason_of
from pipeline.common.text import few, shorten

Size = tuple[int, int]
"""Height and width."""

_MODES = {1: "L", 3: "RGB"}
_GREY = ("1", "L", "LA", "La")
_AT_ONCE = 1024


def pixels(image: Any, size: Size | None = None, channels: int | None = None) -> np.ndarray:
    """A Pillow image, upright, as uint8 [channels, height, width].

    Args:
        size: what it is brought to, bilinearly; None: it stays as large as it is.
        channels: 1 or 3; None: 1 for an image that is grey, else 3. Transparency is left out.

    Raises ValueError: pixels of 32 bits; OSError and others of Pillow: a damaged file."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError("its pixels are numbers of 32 bits; save it with 8 bits")
    image = image.convert(_MODES[channels or (1 if image.mode in _GREY else 3)])
    if size is not None and image.size != size[::-1]:
        image = image.resize(size[::-1], Image.Resampling.BILINEAR)
    array = np.asarray(image)
    return array[np.newaxis] if array.ndim == 2 else array.transpose(2, 0, 1)


def is_image(value: Any) -> bool:
    """Whether it is an image of Pillow."""
    return isinstance(value, Image.Image)


def decoded(
    files: Sequence[Path], size: Size | None = None, channels: int | None = None
) -> Iterator[np.ndarray | str]:
    """The pixels of each file, or the reason why it has none; read in as many threads as there
    are cores."""

    def decode(file: Path) -> np.ndarray | str:
        try:
            with Image.open(file) as image:
                return pixels(image, size, channels)
        except Exception as error:  # each of Pillow's readers has errors of its own
            what = "no image that Pillow knows"
            return what if "cannot identify" in str(error) else shorten(reason_of(error), 200)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(files), _AT_ONCE):
            yield from pool.map(decode, files[start : start + _AT_ONCE])


def files_below(folder: Path) -> list[Path]:
    """All files of a folder and the folders in it, by their names; hidden ones are ignored."""
    return sorted(
        path
        for path in folder.rglob("*")
        if (path.is_file() or not path.exists())  # a link to nowhere
        and not any(p.startswith(".") for p in path.relative_to(folder).parts)
    )


def folder_digest(folder: Path) -> str:
    """SHA-256 of the files' names in the folder and their bytes. Raises UserError: a file that
    cannot be read."""
    digest = hashlib.sha256()
    for file in files_below(folder):
        name = file.relative_to(folder).as_posix()
        try:
            content = file_digest(file)
        except OSError as error:
            raise UserError(f"{folder}: {name}: cannot be read: {error.strerror}") from error
        digest.update(f"{name}\0{content}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def read_folder(
    folder: Path, size: Size | None = None, channels: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Images from a folder with a folder for each label.

    Returns:
        uint8 [N, channels, height, width], channels 1 where every image is grey; and labels [N],
        the folders' names. In the order of the files' names.

    Raises UserError: no label folders, one without images, a file beside them, files that are no
    images, images of unequal size. They are named."""
    folders = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not folders:
        raise UserError("the folder must hold a folder for each label, with images in it; has none")
    files = files_below(folder)
    names = [file.relative_to(folder) for file in files]
    labels = [name.parts[0] for name in names]
    refuse(
        [
            f"every image must lie in the folder of its label; {name} lies beside them"
            for name in names
            if len(name.parts) == 1
        ]
        + [
            f"every label folder must hold an image; {label.name!r} holds none"
            for label in folders
            if label.name not in labels
        ]
    )
    problems: list[str] = []

    def sound() -> Iterator[np.ndarray]:
        for name, image in zip(names, decoded(files, size, channels), strict=True):
            if isinstance(image, str):
                problems.append(f"every file must be an image; {name}: {image}")
            elif not problems:
                yield image

    x = stacked(sound(), len(files), lambda row: str(names[row]), images=True)
    refuse(few(problems, 5))
    return x, np.array(labels)


def stacked(
    rows: Iterable[np.ndarray], count: int, name: Callable[[int], str], images: bool = False
) -> np.ndarray:
    """So many rows of one shape and dtype as one array [count, *shape], held once.

    Args:
        name: what row i is called in messages.
        images: rows [channels, height, width]; grey ones among coloured ones become coloured.

    Raises UserError: a row of another shape or dtype than the first; both are named."""
    x = np.empty((count, 0), dtype=np.float32)
    for i, row in enumerate(rows):
        if i == 0:
            x = np.empty((count, *row.shape), row.dtype)
        if images and len(row) > x.shape[1]:
            x = x.repeat(len(row), axis=1)
        rule = "rows must be of one shape and dtype"
        first, other = (f"{list(a.shape)} {a.dtype}" for a in (x[0], row))
        if images:
            rule = "images must be of one size, or data.size: [height, width] brings them to one"
            first, other = (f"{a.shape[-2]} x {a.shape[-1]}" for a in (x, row))
        if first != other:
            raise UserError(f"{rule}; got {first} ({name(0)}) and {other} ({name(i)})")
        x[i] = row
    return x
