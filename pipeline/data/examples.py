"""What a network can be trained on: arrays of numbers, and a label for each of their rows; as they
are, or as people's code gives them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.common import imports
from pipeline.common.errors import UserError, collecting, naming, refuse
from pipeline.common.imports import reason_of
from pipeline.data.images import Size, is_image, pixels, stacked
from pipeline.data.labels import read_labels, unlabelled
from pipeline.inference.tensors import on_the_cpu


class Examples(NamedTuple):
    """x: [N, *shape] float32, uint8 or int64, finite. y: labels [N], text, int64 or bool."""

    x: np.ndarray
    y: np.ndarray


def checked(x: Any, y: Any, size: Size | None = None) -> Examples:
    """The examples that are meant by NumPy's or torch's arrays, lists or images of Pillow.

    x: floats and booleans become float32, uint8 stays, other whole numbers become int64.

    Raises UserError: all that is wrong with either of them."""
    problems: list[str] = []
    with collecting(problems):
        x = _rows(x, size)
    with collecting(problems):
        y = _labels(y)
    if not problems and len(x) != len(y):
        problems.append(f"x and y must have as many rows; x has {len(x):,}, y has {len(y):,}")
    refuse(problems)
    return Examples(x, y)


def _rows(x: Any, size: Size | None) -> np.ndarray:
    is_list = isinstance(x, list | tuple)
    images = is_list and len(x) > 0 and is_image(x[0])
    check_size(size, images)
    array = _stacked(x, size, images) if is_list else numbers(x)
    if array.ndim < 2 or array.size == 0:
        hint = "; of one number for each row: x.reshape(-1, 1)" if array.ndim == 1 else ""
        rule = "x must be [rows, ...], numbers for each row"
        raise UserError(f"{rule}; got {[*array.shape] or type(x).__name__}{hint}")
    if array.dtype == np.float32 and not (finite := np.isfinite(array)).all():
        first = int(np.argmin(finite.reshape(len(array), -1).all(axis=1)))
        raise UserError(
            "x must hold finite numbers (of float32); "
            f"{np.count_nonzero(~finite):,} of {array.size:,} are not, the first in x[{first}]"
        )
    return array


def _stacked(x: Sequence[Any], size: Size | None, images: bool) -> np.ndarray:
    """A list of rows as an array."""
    if len(x) == 0 or not (images or hasattr(x[0], "shape")):
        with suppress(ValueError):  # of unequal shape: named below
            return numbers(np.asarray(x))
    return stacked((numbers(row, size) for row in x), len(x), "x[{}]".format, images)


def check_size(size: Size | None, are_images: bool) -> None:
    """UserError for a size of what are no images."""
    if size is not None and not are_images:
        raise UserError("data.size: is for images; x holds arrays")


def numbers(value: Any, size: Size | None = None) -> np.ndarray:
    """An array of float32, uint8 or int64. UserError for what holds no numbers."""
    if is_image(value):
        try:
            return pixels(value, size)
        except (OSError, ValueError) as error:
            raise UserError(f"x holds an image that cannot be read: {error}") from error
    array = _plain(value, "x")
    if array.dtype.kind in "fb":
        with np.errstate(over="ignore"):
            return np.asarray(array, dtype=np.float32)
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind not in "iu":
        raise UserError(f"x must hold numbers; got {array.dtype.name}")
    if array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
        raise UserError("whole numbers of x must be less than 2**63")
    return array.astype(np.int64)


def _plain(value: Any, name: str) -> np.ndarray:
    """As NumPy has it; torch's tensors too, of any device and precision."""
    if np.ma.is_masked(value):
        raise UserError(f"{name} must not be masked: {name}.filled(...)")
    try:
        return np.asarray(on_the_cpu(value))
    except (TypeError, ValueError) as error:
        if "inhomogeneous" in str(error):
            raise UserError(f"rows of {name} must be of one shape; got some that differ") from error
        raise UserError(f"{name} is no array: {reason_of(error)}") from error


def _labels(y: Any) -> np.ndarray:
    """Labels [N] as text, int64 or bool."""
    array = _plain(y, "y")
    if array.ndim != 1:
        hint = "y[:, 0]" if array.shape[1:] == (1,) else "y.argmax(1), of a column for each label"
        raise UserError(
            "y must be [rows], a label for each row; "
            f"got {[*array.shape] or type(y).__name__}{f': {hint}' if array.ndim == 2 else ''}"
        )
    try:
        content = array.tolist() if array.dtype.kind in "OT" else array
        labels = pa.chunked_array([pa.array(content, from_pandas=True)])
        found = read_labels(labels, "y", lambda rows: f"y[{rows[0]}]")
        unlabelled(found, "y", lambda rows: f"y[{rows[0]}]")
        labels = found.values
        if pa.types.is_floating(labels.type):
            labels = pc.cast(labels, pa.int64())
    except (pa.ArrowException, OverflowError) as error:
        rule = "y must hold labels: text, booleans or whole numbers less than 2**63"
        raise UserError(f"{rule}; got {array.dtype.name}") from error
    return np.array(labels.to_pylist())


def examples_of(path: str, arguments: Mapping[str, Any], size: Size | None, key: str) -> Examples:
    """What a function gives, or a class makes: (x, y), or a map-style Dataset; its path stands at
    `key`. Raises UserError for what is not there, fails, or gives no examples."""
    maker = imports.load(path, key)
    if not callable(maker):
        kind = type(maker).__name__
        raise UserError(f"{key}: {path}: must be a function or a class; it is of type {kind}")
    imports.check_arguments(maker, arguments, "data.arguments")
    with naming(f"{key}: {path}"):
        with _explained(path):
            made = maker(**arguments)
        if isinstance(made, tuple) and len(made) == 2:
            return checked(*made, size)
        return _from_dataset(path, made, size)


@contextmanager
def _explained(path: str, what: str = "") -> Iterator[None]:
    """An error of people's code as theirs, with the last line of their file that was at work."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        file = imports.source_file(path)
        line = imports.line_of(error, file) if file is not None else ""
        where = f"{file}{line}: " if line else ""
        raise UserError(f"{what}{where}{imports.reason_of(error)}") from error


def _from_dataset(path: str, dataset: Any, size: Size | None) -> Examples:
    kind = type(dataset).__name__
    is_values = isinstance(dataset, str | list | tuple | Mapping) or hasattr(dataset, "dtype")
    if is_values or not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")):
        hint = "; return its dataset" if hasattr(dataset, "dataset") else ""
        rule = "must give (x, y) or a map-style Dataset, with __len__ and __getitem__"
        raise UserError(f"{rule}; got {kind}{hint}")
    with _explained(path):
        count = len(dataset)
    if count == 0:
        raise UserError(f"{kind} has no rows")
    images = is_image(_item(path, dataset, 0)[0])
    check_size(size, images)
    y: list[Any] = []

    def rows() -> Iterator[np.ndarray]:
        for row in range(count):
            x, label = _item(path, dataset, row)
            is_one = hasattr(label, "item") and math.prod(label.shape) == 1
            y.append(label.item() if is_one else label)
            with naming(f"item {row}"):
                yield numbers(x, size)

    return checked(stacked(rows(), count, "item {}".format, images), y)


def _item(path: str, dataset: Any, row: int) -> tuple[Any, Any]:
    with _explained(path, f"item {row}: "):
        item = dataset[row]
    if not isinstance(item, tuple | list) or len(item) != 2:
        size = f" of {len(item)}" if isinstance(item, tuple | list) else ""
        got = f"item {row} is {type(item).__name__}{size}"
        raise UserError(f"every item must be a pair (x, y); {got}")
    return item[0], item[1]
