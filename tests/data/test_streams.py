"""Tables in blocks: read back by pandas, whatever their length and format."""

import gzip
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from pipeline.common.errors import UserError
from pipeline.data import table_files, text_files
from pipeline.data.streams import WRITTEN, reading, writing


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "_BLOCK_BYTES", 64)
    monkeypatch.setattr(table_files, "_BLOCK_ROWS", 3)


def read(path: Path | str, columns: list[str]) -> tuple[pd.DataFrame, list[int], list[int]]:
    """All blocks together: rows, their numbers, and the numbers of the malformed ones."""
    frames, numbers, malformed, done = [], [], [], []
    with reading(str(path), columns) as blocks:
        for block in blocks:
            frames.append(block.table.to_pandas())
            numbers += block.numbers.tolist()
            malformed += [number for number, _ in block.malformed]
            done.append(block.done)
            assert len(block.numbers) == block.table.num_rows
    assert done == sorted(done)
    assert 0 < done[-1] <= 1
    return pd.concat(frames, ignore_index=True), numbers, malformed


def rows(count: int = 20) -> pd.DataFrame:
    return pd.DataFrame({"a": np.arange(count), "b": [f"t{i}, x" for i in range(count)], "c": 0.5})


@pytest.mark.parametrize("ending", WRITTEN)
def test_what_is_written_is_read(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"t{ending}"
    with writing(path) as write:
        for start in range(0, 20, 7):
            write(pa.Table.from_pandas(rows()[start : start + 7], preserve_index=False))
        assert not path.exists()
    assert [file.name for file in tmp_path.iterdir()] == [f"t{ending}"]
    if ending == ".parquet":
        again = pd.read_parquet(path)
    else:
        again = pd.read_csv(path, sep="\t" if "tsv" in ending else ",")
    pd.testing.assert_frame_equal(again, rows())
    found, numbers, malformed = read(path, ["b", "a"])
    assert list(found.columns) == ["b", "a"]
    assert list(found["a"].astype(int)) == list(range(20))
    assert list(found["b"]) == list(rows()["b"])
    assert numbers == list(range(1, 21))
    assert malformed == []


def test_text_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('id,x\n007,NA\nNA,\n"a\nb",1.50\n')
    found, _, _ = read(tmp_path / "t.csv", ["id", "x"])
    assert found.to_numpy().tolist() == [["007", "NA"], ["NA", ""], ["a\nb", "1.50"]]


def test_malformed_rows_are_set_aside_and_counted(tmp_path: Path) -> None:
    lines = [f"{i},{i}" if i % 5 else f"{i},{i},{i}" for i in range(1, 41)]
    text = "a,b\n" + "\n".join(lines[:10]) + "\n\n" + "\n".join(lines[10:]) + "\n"
    for name, content in (("t.csv", text.encode()), ("t.csv.gz", gzip.compress(text.encode()))):
        (tmp_path / name).write_bytes(content)
        found, numbers, malformed = read(tmp_path / name, ["a"])
        assert malformed == list(range(5, 41, 5))
        assert numbers == [i for i in range(1, 41) if i % 5]
        assert [int(a) for a in found["a"]] == numbers


def test_shipped_tables() -> None:
    found, numbers, _ = read("sklearn:iris", ["sepal length (cm)", "target"])
    assert len(found) == len(numbers) == 150


def test_sources_that_cannot_be_read(tmp_path: Path) -> None:
    for name, content, message in (
        ("a.csv", b"", "the file is empty"),
        ("b.csv", b"a,b,a\n1,2,3\n", "column 'a' stands 2 times"),
        ("c.csv", b"A,b\n1,2\n", "must have a column 'a'; did you mean 'A'"),
        ("e.csv", b'a\n"' + b"x" * 2000, "longer than"),
        ("f.parquet", b"PAR1 no more", "cannot be read"),
        ("g.csv.gz", gzip.compress(b"a\n" + b"1\n" * 5000)[:-9], "cannot be read"),
        ("h.md", b"a\n1\n", "the name must end with"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError) as caught:
            read(tmp_path / name, ["a"])
        assert message in str(caught.value), name
    with pytest.raises(UserError, match="does not exist"):
        read(tmp_path / "none.csv", ["a"])


def _fail_in(path: Path) -> None:
    with writing(path) as write:
        write(pa.table({"a": [1]}))
        raise KeyError


def test_nothing_is_left_of_what_failed(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("before")
    for name in ("t.csv", "u.parquet", "v.csv.gz"):
        with pytest.raises(KeyError):
            _fail_in(tmp_path / name)
    assert [file.name for file in tmp_path.iterdir()] == ["t.csv"]
    assert (tmp_path / "t.csv").read_text() == "before"


def test_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    with writing(path) as write:
        write(pa.table({"a": pa.array([], pa.int64())}))
    assert pd.read_csv(io.StringIO(path.read_text())).columns.tolist() == ["a"]
    with writing(tmp_path / "never.csv"):
        pass
    assert list(tmp_path.iterdir()) == [path]
