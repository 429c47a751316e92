import gzip
import hashlib
import http.server
import os
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from sklearn.datasets import load_breast_cancer, load_digits

from pipeline.common import files
from pipeline.common.errors import UserError
from pipeline.data import sources as tables
from pipeline.data import values
from pipeline.data.streams import reading
from pipeline.data.table_files import ENDINGS
from pipeline.inference.rows import MISSING

CSV = "a,b,label\n1,x,0\n2.5,,1\nNA,z,0\n"


def write(path: Path, content: str | bytes) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def read(source: str, sha256: str | None = None) -> tuple[pa.Table, str]:
    with tables.opened(source, sha256) as opened:
        return opened.table(), opened.digest


def type_of(tmp_path: Path, *values: str) -> pa.DataType:
    source = write(tmp_path / "t.csv", "\n".join(["column,other", *(f"{v},1" for v in values)]))
    return read(source)[0].schema.field("column").type


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    handler = partial(QuietHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def save(path: Path, rows: pd.DataFrame) -> None:
    """As its ending says, by another program."""
    name = path.name
    if name.endswith(".parquet"):
        rows.to_parquet(path)
    elif name.endswith((".feather", ".arrow")):
        rows.to_feather(path)
    elif name.endswith(".orc"):
        rows.to_orc(path)
    elif name.endswith(("jsonl", "ndjson")):
        rows.to_json(path, orient="records", lines=True)
    elif name.endswith(".xlsx"):
        pytest.importorskip("openpyxl")
        rows.to_excel(path, index=False)
    else:
        rows.to_csv(path, index=False, sep="\t" if ".tsv" in name else ",")


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_ending_gives_the_same_rows(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"table{ending}"
    rows = pd.DataFrame({"a": [1.0, 2.5, None], "b": ["x", None, "z"], "label": [0, 1, 0]})
    save(path, rows)
    table, digest = read(str(path))
    assert table["a"].to_pylist() == [1.0, 2.5, None]
    assert values.present(table["b"]).to_pylist() == ["x", None, "z"]
    assert table["label"].to_pylist() == [0, 1, 0]
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("query", ["", "?download=1"])
def test_urls_give_what_the_file_gives(server: str, tmp_path: Path, query: str) -> None:
    path = write(tmp_path / "my table.csv", CSV)
    expected = read(path)
    assert read(f"{server}/my%20table.csv{query}") == expected
    assert read((tmp_path / "my table.csv").as_uri()) == expected


def test_what_cannot_be_fetched_names_the_url_and_the_reason(server: str) -> None:
    with pytest.raises(UserError, match=r"absent\.csv: cannot be fetched: HTTP 404"):
        read(f"{server}/absent.csv")
    with pytest.raises(UserError, match=r"http://127\.0\.0\.1:1/t\.csv: cannot be fetched"):
        read("http://127.0.0.1:1/t.csv")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["1", "-2"], pa.int64()),
        (["1", "2.5"], pa.float64()),
        (["1e-4", "inf"], pa.float64()),
        (["99999999999999999999", "1"], pa.float64()),
        (["1", "x"], pa.string()),
        (["01", "10"], pa.string()),
        (["1", "NA"], pa.int64()),
    ],
)
def test_types_of_csv_columns(tmp_path: Path, values: list[str], expected: pa.DataType) -> None:
    assert type_of(tmp_path, *values) == expected


@pytest.mark.parametrize("spelling", sorted(MISSING))
def test_missing_spellings(tmp_path: Path, spelling: str) -> None:
    for mark in (spelling, spelling.upper(), f" {spelling} "):
        table, _ = read(write(tmp_path / "t.csv", f"a,b\n1,x\n{mark},{mark}\n2,y\n"))
        numbers = values.as_kind(table["a"], {"kind": "number"}).tolist()
        assert numbers == [1, pytest.approx(np.nan, nan_ok=True), 2]
        assert values.present(table["b"]).to_pylist() == ["x", None, "y"]


@pytest.mark.parametrize(
    ("late", "dtype"), [("2.5", "double"), ("word", "string"), ("", "int64"), (" 7", "int64")]
)
def test_a_value_far_down_that_does_not_fit_the_first_ones(
    tmp_path: Path, late: str, dtype: str
) -> None:
    rows = [f"{i},{'x' * 20}" for i in range(60_000)]
    path = write(tmp_path / "t.csv", "\n".join(["a,b", *rows, f"{late},x"]) + "\n")
    table, _ = read(path)
    assert str(table.schema.field("a").type) == dtype
    plain = pd.to_numeric(pd.read_csv(path, dtype=str)["a"], errors="coerce")
    np.testing.assert_array_equal(values.as_kind(table["a"], {"kind": "number"}), plain)


def test_quoted_newlines_across_blocks(tmp_path: Path) -> None:
    text = "several\nlines " * 20
    rows = "".join(f'{i},"{text}"\n' for i in range(10_000))
    table, _ = read(write(tmp_path / "t.csv", "a,b\n" + rows))
    assert table["a"].to_pylist() == list(range(10_000))
    assert set(table["b"].to_pylist()) == {text}


def test_named_columns_stay_text(tmp_path: Path) -> None:
    with tables.opened(write(tmp_path / "t.csv", "a,b\n01,1\n02,2\n")) as source:
        assert source.table(text=["a"]).to_pydict() == {"a": ["01", "02"], "b": [1, 2]}


def test_rows_are_named_as_an_editor_shows_them(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", '\na,b\n1,"x\ny"\n\n2,z\n3,w\n')
    with tables.opened(path) as source:
        assert source.table()["a"].to_pylist() == [1, 2, 3]
        assert source.rows([0]) == "line 3"
        assert source.rows([1, 2]) == "lines 6, 7"
    pa.parquet.write_table(pa.table({"a": [1, 2]}), tmp_path / "t.parquet")
    with tables.opened(str(tmp_path / "t.parquet")) as source:
        assert source.rows([1]) == "row 2"
    assert tables.row_numbers(range(12)) == "rows 1, 2, 3, 4, 5, and 7 more"


def test_byte_order_mark_and_windows_newlines(tmp_path: Path) -> None:
    table, _ = read(write(tmp_path / "t.csv", b"\xef\xbb\xbfa,b\r\n1,x\r\n"))
    assert table.to_pydict() == {"a": [1], "b": ["x"]}


def test_parquet_in_a_folder_that_looks_like_a_partition(tmp_path: Path) -> None:
    (tmp_path / "year=2024").mkdir()
    path = tmp_path / "year=2024" / "t.parquet"
    pd.DataFrame({"a": [1, 2]}).to_parquet(path)
    assert read(str(path))[0].column_names == ["a"]


def test_sklearn_tables() -> None:
    table, digest = read("sklearn:breast_cancer")
    bunch = load_breast_cancer()
    assert table.column_names == [*bunch.feature_names, "target"]
    assert table["target"].to_pylist() == [str(bunch.target_names[i]) for i in bunch.target]
    assert table["mean area"].to_pylist() == bunch.data[:, 3].tolist()
    assert read("sklearn:breast_cancer", digest)[1] == digest
    digits, other = read("sklearn:digits")
    assert digits["target"].to_pylist() == load_digits().target.tolist()
    assert other != digest


def test_digest_is_checked_before_the_content(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", b"\xff not a table")
    found = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    with pytest.raises(UserError, match=f"expected {'0' * 64}, found {found}"):
        read(path, "0" * 64)
    good = write(tmp_path / "good.csv", CSV)
    digest = read(good)[1]
    assert read(good, digest.upper())[1] == digest
    with pytest.raises(UserError, match="expected 00, found"):
        read("sklearn:iris", "00")


def test_what_is_no_file(tmp_path: Path) -> None:
    pipe, device, socket_ = (tmp_path / f"{name}.csv" for name in ("pipe", "device", "loop"))
    os.mkfifo(pipe)
    device.symlink_to("/dev/zero")
    socket_.symlink_to(socket_)
    for path in (pipe, device):
        with pytest.raises(UserError, match="must be a file, but is a folder, a pipe or a device"):
            read(str(path))
    for source in (str(socket_), "~nobody-of-this-name/x.csv", "file:///tmp/%00.csv"):
        with pytest.raises(UserError):
            read(source)
    with pytest.raises(UserError, match="Invalid IPv6"):
        read("http://[::1/t.csv")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,y\n" + b"x" * 3_000_000 + b",1\n2,2\n", "a row is longer than 1 MiB"),
        (b"a" * 3_000_000 + b",y\n1,2\n", "its first row is longer than 128 KiB"),
        (b'a,y\n"' + b"x\n" * 1_500_000, "or a quote is never closed"),
        (b"\n\n\n", "empty"),
        (
            b",".join(b"%d" % i for i in range(20_000)) + b"\n" + b"1," * 19_999 + b"1\n",
            "at most 10,000 columns; got 20,000",
        ),
    ],
)
def test_texts_that_are_no_table(tmp_path: Path, content: bytes, message: str) -> None:
    for name, packed in (("t.csv", content), ("t.csv.gz", gzip.compress(content, 1))):
        with pytest.raises(UserError, match=message):
            read(write(tmp_path / name, packed))


def test_tables_beyond_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = write(tmp_path / "t.csv", b"a,y\n" + b"1,2\n" * 300_000)
    column = pa.array([0.0]).take(pa.array([0] * 1_000_000))
    pa.parquet.write_table(pa.table({"a": column, "y": column}), tmp_path / "t.parquet")
    assert read(plain)[0].num_rows == 300_000
    monkeypatch.setattr(files, "memory_limit", lambda: 2_000_000)
    for source in (plain, str(tmp_path / "t.parquet")):
        with pytest.raises(UserError, match=r"must fit into half of the memory, 0\.0 GB here"):
            read(source)


def test_text_of_a_parquet_file_that_is_no_utf_8_is_refused(tmp_path: Path) -> None:
    offsets = pa.py_buffer(np.array([0, 1, 3], np.int32).tobytes())
    text = pa.Array.from_buffers(pa.string(), 2, [None, offsets, pa.py_buffer(b"a\xff\xfe")])
    path = tmp_path / "x.parquet"
    pa.parquet.write_table(pa.table({"y": [0, 1], "text": text}), path)
    with pytest.raises(UserError, match=r"x\.parquet: cannot be read"):
        read(str(path))
    with pytest.raises(UserError, match=r"x\.parquet"), reading(str(path), ["text"]) as blocks:
        list(blocks)
