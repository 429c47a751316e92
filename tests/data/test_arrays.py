"""Arrays, images and people's data sets: prepared, and what is wrong with them."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from sklearn.model_selection import StratifiedShuffleSplit

from pipeline.common.errors import UserError
from pipeline.config import Config, loads
from pipeline.data.arrays import kind_of
from pipeline.data.prepared import PreparedData, load_test, load_training, open_prepared, prepare
from tests.small_array_model import save_image, save_images

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(40, 2, 3))
Y = np.array(["a", "b"] * 20)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def config(source: str, more: str = "") -> Config:
    data = f"data: {{source: {source}, {more}}}\nvalidation: {{folds: 2, final: null}}\n"
    return loads(f"{data}optimizers: [{{name: SGD, lr: 0.1}}]\n", "x.yaml")


def prepared(source: str, more: str = "", given: Any = None) -> PreparedData:
    return prepare(config(source, more), Path("prepared"), given)


def all_rows(data: PreparedData) -> tuple[np.ndarray, np.ndarray]:
    """The rows of both parts, sorted by their content."""
    parts = [load_training(data), load_test(data)]
    x, y = (np.concatenate([getattr(part, key) for part in parts]) for key in ("raw", "y"))
    order = np.lexsort(x.reshape(len(x), -1).T)
    return x[order], y[order]


def test_both_parts_of_a_file_hold_its_rows_once() -> None:
    np.savez("a.npz", x=X, y=Y)
    data = prepared("a.npz")
    x, y = all_rows(data)
    order = np.lexsort(X.astype(np.float32).reshape(40, -1).T)
    assert x.dtype == np.float32
    assert (x == X.astype(np.float32)[order]).all()
    assert (y == (Y == "b")[order]).all()
    assert data.schema.labels == ("a", "b")
    assert data.schema.inputs is not None
    assert (data.schema.inputs.shape, data.schema.inputs.dtype) == ((2, 3), "float32")
    assert data.schema.width == 6
    assert data.counts == {"train": (15, 15), "test": (5, 5)}
    assert data.digests["source"] == hashlib.sha256(Path("a.npz").read_bytes()).hexdigest()
    rows = load_training(data)
    assert (rows.given(slice(3)) == rows.raw[:3]).all()


def test_the_split_is_that_of_scikit_learn() -> None:
    np.savez("a.npz", x=X, y=Y)
    from pipeline.common.seeds import Purpose, seed32

    divider = StratifiedShuffleSplit(1, test_size=0.25, random_state=seed32(0, Purpose.TEST_SPLIT))
    training, _ = next(divider.split(X, Y))
    found = load_training(prepared("a.npz")).raw
    assert (found == X[np.sort(training)].astype(np.float32)).all()


def test_rows_are_written_once_and_opened_again() -> None:
    np.savez("a.npz", x=X, y=Y)
    first, again = prepared("a.npz"), prepared("a.npz")
    assert (first.reused, again.reused) == (False, True)
    assert open_prepared(config("a.npz"), Path("prepared")).digests == first.digests
    other = prepared("a.npz", "positive: a")
    assert other.directory != first.directory
    assert other.schema.labels == ("b", "a")
    (first.directory / "test.npz").write_bytes(b"altered")
    with pytest.raises(UserError, match="gone or altered"):
        load_test(first)


DTYPES = {"float16": "float32", "float64": "float32", "bool": "float32", "uint8": "uint8"}
DTYPES |= {"int32": "int64", "uint16": "int64", "int8": "int64"}


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes(dtype: str) -> None:
    x = RANDOM.integers(0, 2, (40, 3)).astype(dtype)
    np.savez_compressed("a.npz", x=x, y=Y == "b")
    data = prepared("a.npz")
    assert data.schema.inputs is not None
    assert data.schema.inputs.dtype == DTYPES[dtype]
    assert data.schema.labels == (False, True)
    assert load_training(data).raw.dtype == DTYPES[dtype]


LABELS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "text": (Y, ("a", "b")),
    "whole floats": ((Y == "b") * 2.0, (0, 2)),
    "integers": ((Y == "b").astype(np.uint8) - 0, (0, 1)),
    "a tensor": (torch.tensor([0, 5] * 20), (0, 5)),
    "a list": (["x", "y"] * 20, ("x", "y")),
    "text of any length": (Y.astype(np.dtypes.StringDType()), ("a", "b")),
    "objects of one kind": (np.array(["x", "y"] * 20, dtype=object), ("x", "y")),
}


@pytest.mark.parametrize("case", LABELS)
def test_labels(case: str) -> None:
    y, expected = LABELS[case]
    assert prepared("arrays", given=(X, y)).schema.labels == expected


INPUTS: dict[str, Callable[[], Any]] = {
    "NumPy": lambda: X,
    "torch": lambda: torch.from_numpy(X),
    "bfloat16": lambda: torch.from_numpy(X).bfloat16(),
    "needs gradients": lambda: torch.from_numpy(X).requires_grad_(),
    "lists": lambda: X.tolist(),
    "a list of arrays": lambda: list(X),
    "a list of tensors": lambda: list(torch.from_numpy(X)),
}


@pytest.mark.parametrize("case", INPUTS)
def test_arrays_handed_over(case: str) -> None:
    data = prepared("arrays", given=(INPUTS[case](), Y))
    x, _ = all_rows(data)
    tolerance = 0.02 if case == "bfloat16" else 0
    assert np.abs(np.sort(x, axis=0) - np.sort(X.astype(np.float32), axis=0)).max() <= tolerance
    assert prepared("arrays", given=(INPUTS[case](), Y)).reused


def test_other_content_is_another_data_set() -> None:
    first = prepared("arrays", given=(X, Y))
    assert prepared("arrays", given=(X, Y[::-1])).directory != first.directory
    assert prepared("arrays", given=(X + 1, Y)).directory != first.directory


def test_a_table_handed_over_is_known_by_its_content() -> None:
    table = pa.table({"a": list(range(40)), "b": pa.array(["u", None] * 20), "y": Y.tolist()})
    first = prepared("frame", "target: y", given=table)
    chunks = pa.concat_tables([table.slice(0, 7), table.slice(7)])
    assert prepared("frame", "target: y", given=chunks).reused
    other = table.set_column(0, "a", pa.array(list(range(1, 41))))
    assert prepared("frame", "target: y", given=other).directory != first.directory
    assert load_training(first).given(slice(2)).columns.tolist() == ["a", "b"]
    with pytest.raises(UserError, match=r"data\.test: must be a table, as frame is"):
        prepared("frame", "target: y, test: t.npz", given=table)


# Images ------------------------------------------------------------------------------------------


def test_images_are_what_pillow_reads() -> None:
    images = save_images(Path("im"), ["cat", "dog"], 8)
    Path("im/cat/.hidden").write_text("no image")
    data = prepared("im")
    x, y = all_rows(data)
    assert data.schema.inputs is not None
    assert (data.schema.inputs.shape, data.schema.inputs.dtype) == ((1, 4, 6), "uint8")
    expected = {pixels.tobytes(): name.startswith("dog") for name, pixels in images.items()}
    assert {row.tobytes(): bool(label) for row, label in zip(x, y, strict=True)} == expected


def test_grey_images_among_coloured_ones_become_coloured() -> None:
    grey = save_images(Path("im"), ["a"], 8)
    coloured = save_images(Path("im"), ["b"], 8, (4, 6, 3))
    x, _ = all_rows(prepared("im"))
    assert x.shape == (16, 3, 4, 6)
    rows = {row.transpose(1, 2, 0).tobytes() for row in x}
    assert rows == {
        *(np.repeat(pixels[..., None], 3, axis=2).tobytes() for pixels in grey.values()),
        *(pixels.tobytes() for pixels in coloured.values()),
    }


def test_images_are_brought_to_a_size_bilinearly() -> None:
    images = save_images(Path("im"), ["a", "b"], 4, (9, 5))
    images |= save_images(Path("im"), ["b"], 4, (4, 6))
    data = prepared("im", "size: [4, 6]")
    x, _ = all_rows(data)
    assert data.schema.inputs is not None
    assert data.schema.inputs.size == (4, 6)
    expected = {
        np.asarray(Image.fromarray(p).resize((6, 4), Image.Resampling.BILINEAR)).tobytes()
        for p in images.values()
    }
    assert {row.tobytes() for row in x} == expected


def test_kinds_of_images() -> None:
    folder = Path("im")
    save_images(folder, ["a", "b"], 4, (4, 6, 3))
    pixels = RANDOM.integers(0, 256, (4, 6, 4), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "a" / "alpha.png")
    Image.fromarray((pixels[..., 0].astype(np.uint16) << 8) + 7).save(folder / "a" / "deep.png")
    Image.fromarray(pixels[..., :3]).quantize(4).save(folder / "b" / "palette.gif")
    turned = Image.Exif()
    turned[0x0112] = 6  # a quarter clockwise
    Image.fromarray(np.rot90(pixels[..., :3])).save(folder / "b" / "turned.png", exif=turned)
    x, _ = all_rows(prepared("im"))
    rows = {row.transpose(1, 2, 0).tobytes() for row in x}
    assert len(x) == 12
    upright = pixels[..., :3].tobytes()
    assert sum(row.transpose(1, 2, 0).tobytes() == upright for row in x) == 2
    assert np.repeat(pixels[..., :1], 3, axis=2).tobytes() in rows


def test_a_test_folder_of_its_own() -> None:
    save_images(Path("train"), ["a", "b"], 6, (4, 6, 3))
    save_images(Path("test"), ["a", "b"], 2)  # grey
    data = prepared("train", "test: test")
    assert data.rows == {"train": 12, "test": 4}
    assert load_test(data).raw.shape == (4, 3, 4, 6)


# People's code -----------------------------------------------------------------------------------

CODE = """
import numpy as np, torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, TensorDataset, DataLoader

def pair(rows=40, shift=0.0):
    x = np.arange(rows * 3.0).reshape(rows, 3) + shift
    return x, np.arange(rows) % 2

def tensors(rows):
    return TensorDataset(*map(torch.as_tensor, pair(rows)))

class Images(Dataset):
    def __init__(self, rows=12):
        self.rows = rows
    def __len__(self):
        return self.rows
    def __getitem__(self, row):
        shape = (5, 4, 3) if row % 4 == 0 else (5, 4)
        return Image.fromarray(np.full(shape, row, np.uint8)), row % 2

class Items:
    def __init__(self, *items, count=12):
        self.items, self.count = items, count
    def __len__(self):
        return self.count
    def __getitem__(self, row):
        return self.items[row % len(self.items)]

def fails():
    raise KeyError("nothing there")

class Fails(Images):
    def __getitem__(self, row):
        return super().__getitem__(row // (row < 7))

class Stream(IterableDataset):
    def __iter__(self):
        yield 1, 2

def triples(): return Items((1, 2, 3))
def scalars(): return Items(5)
def changes(): return Items(([1.0, 2.0], 0), ([1.0], 1))
def mixes(): return Items(([1.0, 2.0], 0), ([1, 2], 1))
def empty(): return Items(count=0)
def loader(): return DataLoader(tensors(20))
def array(): return pair()[0]
def nothing(): return None
def half(): return pair()[0], np.arange(40) / 2
value = 3
"""


def test_a_function_and_its_arguments() -> None:
    Path("my.py").write_text(CODE)
    data = prepared("my.py:pair", "arguments: {rows: 20, shift: 0.5}")
    x, y = all_rows(data)
    assert (x == np.arange(60.0).reshape(20, 3) + 0.5).all()
    assert (y == np.arange(20) % 2).all()
    assert prepared("my.py:pair", "arguments: {rows: 20, shift: 0.5}").reused
    assert data.rows == {"train": 15, "test": 5}


def test_a_dataset_of_torch() -> None:
    Path("my.py").write_text(CODE)
    x, _ = all_rows(prepared("my.py:tensors", "arguments: {rows: 16}"))
    assert (x == np.arange(48.0).reshape(16, 3)).all()


def test_a_dataset_of_images() -> None:
    Path("my.py").write_text(CODE)
    x, y = all_rows(prepared("my.py:Images"))
    assert x.dtype == np.uint8
    assert (x == np.arange(12).reshape(12, 1, 1, 1)).all()
    assert x.shape == (12, 3, 5, 4)
    assert (y == np.arange(12) % 2).all()
    assert all_rows(prepared("my.py:Images", "size: [2, 2]"))[0].shape == (12, 3, 2, 2)


def test_a_test_set_by_code() -> None:
    Path("my.py").write_text(CODE + "\ndef other(rows): return pair(6, 0.25)\n")
    data = prepared("my.py:pair", "arguments: {rows: 20}, test: 'my.py:other'")
    assert data.rows == {"train": 20, "test": 6}
    np.savez("t.npz", x=np.zeros((3, 3)), y=[0, 1, 1])
    assert prepared("my.py:pair", "arguments: {rows: 20}, test: t.npz").rows["test"] == 3


# What is wrong -----------------------------------------------------------------------------------


def save(**arrays: Any) -> None:
    np.savez("a.npz", **arrays)


def with_code(name: str) -> str:
    Path("my.py").write_text(CODE)
    return f"'my.py:{name}'"


def images(**changes: Any) -> str:
    save_images(Path("im"), ["cat", "dog"], 3)
    return "im"


def damaged() -> str:
    images()
    content = Path("im/cat/1.png").read_bytes()
    Path("im/cat/1.png").write_bytes(content[: len(content) // 2])
    Path("im/dog/notes.txt").write_text("no image")
    return "im"


def spoilt(value: float) -> np.ndarray:
    x = X.copy()
    x[7, 1] = x[9, 0, 0] = value
    return x


def another_size() -> str:
    images()
    save_image(Path("im/dog/wide.png"), np.zeros((4, 7), np.uint8))
    return "im"


def test_npz(**arrays: Any) -> str:
    save(x=X, y=Y)
    np.savez("t.npz", **arrays)
    return "a.npz"


test_npz.__test__ = False  # type: ignore[attr-defined]
N = "a.npz"
WRONG: dict[str, tuple[Callable[[], Any], str, list[str]]] = {
    "no x": (lambda: save(X=X, y=Y), "", ["must hold an array 'x'", "it holds 'X', 'y'"]),
    "neither": (lambda: save(a=X), "", ["an array 'x'", "an array 'y'"]),
    "unequal": (lambda: save(x=X, y=Y[:-1]), "", ["x has 40, y has 39"]),
    "objects": (lambda: save(x=X, y=Y.astype(object)), "", ["holds objects", "astype(str)"]),
    "text in x": (lambda: save(x=X.astype(str), y=Y), "", ["x must hold numbers; got str"]),
    "complex": (lambda: save(x=X * 1j, y=Y), "", ["x must hold numbers; got complex"]),
    "NaN": (lambda: save(x=spoilt(np.nan), y=Y), "", ["4 of 240 are not", "x[7]"]),
    "infinite": (lambda: save(x=spoilt(np.inf), y=Y), "", ["4 of 240 are not", "x[7]"]),
    "no rows": (lambda: save(x=X[:0], y=Y[:0]), "", ["numbers for each row; got [0"]),
    "no numbers": (lambda: save(x=X[:, :0], y=Y), "", ["numbers for each row; got [40, 0, 3]"]),
    "one dimension": (lambda: save(x=X[:, 0, 0], y=Y), "", ["[40]", "x.reshape(-1, 1)"]),
    "fractions": (lambda: save(x=X, y=np.arange(40) / 4), "", ["0.25 in y[1]"]),
    "one-hot": (lambda: save(x=X, y=np.eye(2)[(Y == "b") * 1]), "", ["[40, 2]", "y.argmax(1)"]),
    "a column": (lambda: save(x=X, y=np.zeros((40, 1))), "", ["[40, 1]", "y[:, 0]"]),
    "NaN labels": (lambda: save(x=X, y=np.full(40, np.nan)), "", ["none in y[0] (40 of 40 rows)"]),
    "an empty label": (
        lambda: save(x=X, y=np.where(np.arange(40) == 3, "", Y)),
        "",
        ["none in y[3] (1 of 40 rows)"],
    ),
    "dates": (lambda: save(x=X, y=np.zeros(40, "M8[D]")), "", ["labels must be text", "date32"]),
    "one label": (lambda: save(x=X, y=np.zeros(40)), "", ["two labels or more; got 0"]),
    "a rare label": (
        lambda: save(x=X, y=["c", *Y[1:]]),
        "",
        ["at least 2 rows", "label 'c' has 1"],
    ),
    "two at once": (
        lambda: save(x=X[:, 0, 0], y=np.zeros((40, 2))),
        "",
        ["x must be [rows, ...]", "y must be [rows]"],
    ),
    "text in place": (lambda: Path(N).write_text("x,y\n1,2\n"), "", ["must be one of NumPy"]),
    "truncated": (
        lambda: (save(x=X, y=Y), Path(N).write_bytes(Path(N).read_bytes()[:700])),
        "",
        ["must be one of NumPy"],
    ),
    "damaged": (
        lambda: (
            save(x=X, y=Y),
            Path(N).write_bytes(Path(N).read_bytes().replace(X[:1].tobytes(), b"\1" * 48)),
        ),
        "",
        ["cannot be read", "CRC"],
    ),
    "absent": (lambda: save(x=X, y=Y) or "b.npz", "", ["does not exist", "'a.npz'"]),
    "another digest": (lambda: save(x=X, y=Y), f"sha256: {'a' * 64}", ["expected aaaa"]),
    "a target": (lambda: save(x=X, y=Y), "target: y", ["data.target: names columns of tables"]),
    "dropped": (lambda: save(x=X, y=Y), "drop: [a]", ["data.drop: names columns of tables"]),
    "a size": (lambda: save(x=X, y=Y), "size: [4, 4]", ["data.size: is for images"]),
    "arguments": (lambda: save(x=X, y=Y), "arguments: {a: 1}", ["data.arguments: is for FILE.py"]),
    "no such label": (lambda: save(x=X, y=Y), "positive: c", ["a label of y; got 'c'"]),
    "test of another shape": (
        lambda: test_npz(x=X[:, 0], y=Y),
        "test: t.npz",
        ["t.npz: rows must be [2, 3] float32, as a.npz has; got [3] float32"],
    ),
    "test of another dtype": (
        lambda: test_npz(x=X.astype(int), y=Y),
        "test: t.npz",
        ["got [2, 3] int64"],
    ),
    "test with another label": (
        lambda: test_npz(x=X + 1, y=[*Y[:-1], "c"]),
        "test: t.npz",
        ["('a', 'b')", "got 'c' in y[39]"],
    ),
    "the same test": (lambda: test_npz(x=X, y=Y), "test: t.npz", ["whose content is the same"]),
    "a table as test": (lambda: test_npz(x=X, y=Y), "test: t.csv", ["must be arrays", "a table"]),
    "no label folders": (lambda: Path("im").mkdir() or "im", "", ["a folder for each label"]),
    "an empty label folder": (
        lambda: Path(images(), "bird").mkdir() or "im",
        "",
        ["'bird' holds none"],
    ),
    "images beside": (
        lambda: (save_image(Path("im/x.png"), np.zeros((4, 6), np.uint8)), images())[1],
        "",
        ["x.png lies beside them"],
    ),
    "broken images": (
        damaged,
        "",
        ["cat/1.png: OSError", "dog/notes.txt: no image that Pillow knows"],
    ),
    "a link to nowhere": (
        lambda: Path(images(), "dog", "x.png").symlink_to("nowhere") or "im",
        "",
        ["im: dog/x.png: cannot be read: No such file"],
    ),
    "unequal images": (
        another_size,
        "",
        ["data.size", "4 x 6 (cat/0.png) and 4 x 7 (dog/wide.png)"],
    ),
    "no such file": (lambda: "my.py:pair", "", ["my.py: no such file"]),
    "no such function": (lambda: with_code("pear"), "", ["has no 'pear'", "did you mean 'pair'"]),
    "no function": (lambda: with_code("value"), "", ["must be a function or a class", "int"]),
    "unknown argument": (
        lambda: with_code("pair"),
        "arguments: {row: 3}",
        ["data.arguments.row: unknown argument of pair; did you mean 'rows'?"],
    ),
    "missing argument": (lambda: with_code("tensors"), "", ["rows: must be given: tensors has"]),
    "a function that fails": (
        lambda: with_code("fails"),
        "",
        ["data.source: my.py:fails: my.py:31: KeyError: 'nothing there'"],
    ),
    "an item that fails": (lambda: with_code("Fails"), "", ["item 7: my.py:35: ZeroDivisionError"]),
    "a stream": (lambda: with_code("Stream"), "", ["with __len__ and __getitem__; got Stream"]),
    "triples": (lambda: with_code("triples"), "", ["must be a pair (x, y); item 0 is tuple of 3"]),
    "no pairs": (lambda: with_code("scalars"), "", ["item 0 is int"]),
    "rows that change": (lambda: with_code("changes"), "", ["[2] float32 (item 0)", "(item 1)"]),
    "dtypes that change": (lambda: with_code("mixes"), "", ["[2] int64 (item 1)"]),
    "an empty Dataset": (lambda: with_code("empty"), "", ["Items has no rows"]),
    "a DataLoader": (lambda: with_code("loader"), "", ["got DataLoader; return its dataset"]),
    "an array": (lambda: with_code("array"), "", ["must give (x, y)", "got ndarray"]),
    "nothing": (lambda: with_code("nothing"), "", ["must give (x, y)", "got NoneType"]),
    "half labels": (lambda: with_code("half"), "", ["0.5 in y[1]"]),
    "a test function that fails": (
        lambda: with_code("pair"),
        "test: 'my.py:fails'",
        ["data.test: my.py:fails: my.py:31: KeyError"],
    ),
    "size of arrays": (lambda: with_code("pair"), "size: [2, 2]", ["data.size: is for images"]),
    "no kind": (lambda: "nothing.at.all", "", ["must end with one of", ".npz", "FILE.py:NAME"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_data_sets_are_refused_by_name(case: str) -> None:
    make, more, words = WRONG[case]
    source = make()
    with pytest.raises(UserError) as caught:
        prepared(source if isinstance(source, str) else N, more)
    text = str(caught.value)
    assert [word for word in words if word not in text] == [], text
    assert not list(Path("prepared").glob("*"))


HANDED: dict[str, tuple[Any, Any, list[str]]] = {
    "unequal rows": ([[1, 2], [3]], [0, 1], ["one shape and dtype", "(x[1])"]),
    "unequal arrays": ([np.zeros(2), np.zeros(3)], [0, 1], ["[2] float32 (x[0])"]),
    "objects": ([object()], [0], ["x must hold numbers; got object"]),
    "no array": (3, [0], ["numbers for each row; got int"]),
    "an empty list": ([], [], ["numbers for each row; got [0"]),
    "too large": (np.full((2, 1), 2**63, np.uint64), [0, 1], ["less than 2**63"]),
    "None as label": (X, [None, *Y[1:]], ["none in y[0] (1 of 40 rows)", "y[0]"]),
    "masked": (np.ma.masked_less(X, 0), Y, ["x must not be masked"]),
    "sparse": (torch.eye(2).to_sparse(), [0, 1], ["x is no array", "to_dense()"]),
    "a set": (X, set(Y), ["a label for each row; got set"]),
    "large labels": (X, [0.0, 1e300] * 20, ["less than 2**63"]),
    "larger labels": (X, np.array([0, 2**63] * 20, np.uint64), ["less than 2**63"]),
    "mixed labels": (
        X,
        np.array([3, "a"] * 20, dtype=object),
        ["y must hold labels: ", "got object"],
    ),
}


@pytest.mark.parametrize("case", HANDED)
def test_wrong_arrays_handed_over(case: str) -> None:
    x, y, words = HANDED[case]
    with pytest.raises(UserError) as caught:
        prepared("arrays", given=(x, y))
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)


KINDS = {
    "a.npz": "npz",
    "https://x.org/a.NPZ?download=1": "npz",
    "data/t.csv": "table",
    "sklearn:iris": "table",
    "s3://x/t": "table",
    "my.py:f": "code",
    "code/my.py:Class.make": "code",
    "json.loads": "code",
}


@pytest.mark.parametrize("source", KINDS)
def test_kinds_of_sources(source: str) -> None:
    assert kind_of(source) == KINDS[source]
