"""Arrays from anywhere: a .npz file, a folder of images, people's code, or handed over."""

import hashlib
import sys
import tempfile
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import pyarrow as pa

from pipeline.common.errors import UserError, did_you_mean, naming, refuse
from pipeline.common.files import file_digest
from pipeline.common.imports import reason_of
from pipeline.common.text import some
from pipeline.data.examples import Examples, checked, examples_of
from pipeline.data.images import Size, folder_digest, read_folder
from pipeline.data.labels import LabelColumn, ids_of, ordered_labels
from pipeline.data.schema import Dtype, Inputs, Label, Schema
from pipeline.data.sources import check_digest, is_many, is_url, local_file
from pipeline.data.splits import Division, Subset, check_splits, holdout
from pipeline.data.table_files import ENDINGS, check_memory

if TYPE_CHECKING:
    from pipeline.config import Config

TARGET = "label"
"""The name of the labels of arrays in schema.json."""

NPZ = ".npz"

Kind = Literal["table", "npz", "images", "code", "given"]
"""What rows come from; given: Python code has them."""


def kind_of(source: str) -> Kind:
    """What a source is, by its name; a folder by being there. Raises UserError: none of these."""
    name = source.lower().partition("?")[0] if is_url(source) else source.lower()
    if name.endswith(NPZ):
        return "npz"
    is_table = "://" in source or name.startswith("sklearn:") or name.endswith(ENDINGS)
    if is_table or is_many(source):
        return "table"
    with suppress(OSError, ValueError):
        if Path(source).expanduser().is_dir():
            return "images"
    if is_code(source):
        return "code"
    suffix = Path(source).suffix
    raise UserError(
        f"{source}: the name must end with one of {', '.join((*ENDINGS, NPZ))}; or it must be a "
        "folder of images, or FILE.py:NAME or package.module.NAME"
        f"{did_you_mean(suffix, (*ENDINGS, NPZ)) if suffix else ''}"
    )


def is_code(source: str) -> bool:
    """Whether it is `FILE.py:NAME`, or `package.module.NAME` of a package that is there."""
    file, colon, _ = source.partition(":")
    if colon:
        return file.endswith(".py")
    package, *names = source.split(".")
    is_dotted = len(names) > 0 and all(map(str.isidentifier, [package, *names]))
    return is_dotted and (package in sys.modules or find_spec(package) is not None)


def check_settings(config: "Config", kinds: Collection[Kind]) -> None:
    """UserError for settings that no source of these kinds has."""
    data, how = config.data, config.validation
    wrong: dict[str, Any] = {
        "data.arguments: is for FILE.py:NAME": data.arguments and "code" not in kinds,
        "data.size: is for images": data.size and not {"code", "images", "given"} & set(kinds),
    }
    if "table" not in kinds:
        keys: dict[str, Any] = {"data.target": data.target, "data.drop": data.drop}
        keys |= {"data.categorical": data.categorical, "data.dates": data.dates}
        keys |= {"validation.groups": how.groups, "validation.order": how.order}
        wrong |= {f"{key}: names columns of tables": value for key, value in keys.items()}
        wrong["data.duplicates: is for tables"] = data.duplicates != "keep"
    refuse([f"{rule}; data.source is {data.source}" for rule, is_so in wrong.items() if is_so])


@dataclass(frozen=True)
class ArraySource:
    """Arrays that are at hand: a .npz file, a folder of images, or the arrays themselves."""

    name: str
    place: Path | Examples
    size: Size | None = None

    @cached_property
    def digest(self) -> str:
        """SHA-256: of a file's bytes, of a folder's names and bytes, else of the content."""
        if isinstance(self.place, Path):
            return (folder_digest if self.place.is_dir() else file_digest)(self.place)
        digest = hashlib.sha256()
        for array in self.place:
            digest.update(f"{array.dtype.str} {array.shape}\n".encode())
            digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        return digest.hexdigest()

    def examples(self, like: Inputs | None = None) -> Examples:
        """The rows; of images with as many channels as `like` says. Raises UserError."""
        if not isinstance(self.place, Path):
            return self.place
        if self.place.is_dir():
            return Examples(*read_folder(self.place, self.size, like.shape[0] if like else None))
        arrays = read_npz(self.place, ("x", "y"))
        return checked(arrays["x"], arrays["y"])


@contextmanager
def opened(
    source: str, arguments: Mapping[str, Any], size: Size | None, sha256: str | None, key: str
) -> Iterator[ArraySource]:
    """Bring the arrays of any source but a table here; a download is removed at the end.

    Raises UserError: missing or unreadable, code that fails, another digest than `sha256`."""
    kind = kind_of(source)
    with tempfile.TemporaryDirectory(prefix="arrays-") as folder:
        place: Path | Examples
        if kind == "code":
            place = examples_of(source, arguments, size, key)
        elif kind == "images":
            place = Path(source).expanduser()
        else:
            place = local_file(source, Path(folder), (NPZ,))
        arrays = ArraySource(source, place, size)
        check_digest(source, sha256, lambda: arrays.digest)
        yield arrays


def divided(config: "Config", source: ArraySource, test: ArraySource | None) -> Division:
    """Read, check and divide the rows; without a `test` source, test rows are drawn."""
    with naming(source.name):
        x, y = source.examples()
        labels = ordered_labels(np.unique(y).tolist(), "y", config.data.positive)
        ids = _label_ids(y, labels)
        inputs = Inputs(x.shape[1:], cast(Dtype, x.dtype.name), source.size)
        training = np.arange(len(ids))
        if test is None:
            training, testing = holdout(ids, float(config.data.test), config.seed, labels)
        check_splits(config, ids[training], labels)
    train = _subset(x, ids, training)
    if test is None:
        return Division(Schema((), TARGET, labels, inputs), train, _subset(x, ids, testing))
    with naming(test.name):
        x, y = test.examples(like=inputs)
        if (x.shape[1:], x.dtype.name) != (inputs.shape, inputs.dtype):
            raise UserError(
                f"rows must be {list(inputs.shape)} {inputs.dtype}, as {source.name} has; "
                f"got {list(x.shape[1:])} {x.dtype}"
            )
        tested = _subset(x, _label_ids(y, labels), np.arange(len(y)))
    return Division(Schema((), TARGET, labels, inputs), train, tested)


def _subset(x: np.ndarray, ids: np.ndarray, rows: np.ndarray) -> Subset:
    return Subset(ids[rows], lambda path: np.savez(path, x=x[rows], y=ids[rows]))


def _label_ids(y: np.ndarray, labels: tuple[Label, ...]) -> np.ndarray:
    """The class id of every row, int64 [N]."""
    column = LabelColumn(pa.chunked_array([y]))
    return ids_of(column, Schema((), TARGET, labels), lambda rows: f"y[{rows[0]}]")[0]


def load(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Rows [N, *shape] and class ids int64 [N] of a prepared file."""
    with np.load(path, allow_pickle=False) as file:
        return file["x"], file["y"]


def read_npz(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """These arrays of a .npz file. Raises UserError: no such file of NumPy, an array that it lacks,
    objects, damage."""
    saving = f"np.savez(FILE, {', '.join(f'{name}={name}' for name in names)})"
    if not zipfile.is_zipfile(path):
        raise UserError(f"the file must be one of NumPy, made by {saving}; it is not")
    try:
        with zipfile.ZipFile(path) as archive:
            wanted = [f"{name}.npy" for name in names]
            sizes = [e.file_size for e in archive.infolist() if e.filename in wanted]
            check_memory(path.name, sum(sizes), "the arrays")
        with np.load(path, allow_pickle=False) as file:
            holds = some([str(name) for name in file.files]) or "none"
            rule = "the file must hold an array {!r}, as {} makes it; it holds {}"
            refuse([rule.format(name, saving, holds) for name in names if name not in file.files])
            return {name: file[name] for name in names}
    except UserError:
        raise
    except Exception as error:  # of zipfile, zlib and NumPy, whatever is wrong with the bytes
        if "allow_pickle" in str(error):
            raise UserError(
                "arrays must hold numbers, and y may hold text; one holds objects, which "
                "need pickle: x.astype(float), or y.astype(str), before they are saved"
            ) from error
        raise UserError(f"cannot be read: {reason_of(error)}") from error
