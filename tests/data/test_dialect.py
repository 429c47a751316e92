"""Text files of every dialect give the rows that were written, whatever they are called."""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.common.errors import UserError
from pipeline.data import values
from pipeline.data.dialect import Told
from pipeline.data.schema import check_columns
from pipeline.data.sources import opened

ROWS = pd.DataFrame(
    {
        "size": [1.5, 2.25, 1234.5, np.nan, 17.0, 3.75],
        "place": ["Köln, Dom", "a;b", 'the "old" town', "São Paulo", "x\ty", "Łódź"],
        "n": [3, 4, 5, 6, 7, 8],
        "y": ["no", "yes", "no", "yes", "no", "yes"],
    }
)


def read(path: Path, told: Told | None = None, wanted: tuple[str, ...] = ("y",)) -> pd.DataFrame:
    with opened(str(path), told=told or Told()) as source:
        table = source.table(wanted, wanted)
    decimal = (table.schema.metadata or {}).get(b"decimal", b".").decode()
    columns = {}
    for name in table.column_names:
        kind = vars(values.kind_of(table[name], name, decimal))
        is_number = kind["kind"] == "number"
        columns[name] = (
            values.as_kind(table[name], kind)
            if is_number
            else values.present(table[name]).to_pylist()
        )
    return pd.DataFrame(columns)


def same(found: pd.DataFrame, expected: pd.DataFrame = ROWS) -> None:
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)


@pytest.mark.parametrize("ending", [".csv", ".txt", ".data", ".tsv"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
def test_separators_and_quotes(tmp_path: Path, ending: str, separator: str, quoting: int) -> None:
    path = tmp_path / f"t{ending}"
    ROWS.to_csv(path, sep=separator, quoting=quoting, index=False)
    same(read(path))


@pytest.mark.parametrize(
    ("settings", "more"),
    [
        ({"encoding": "utf-8-sig"}, None),
        ({"encoding": "utf-16"}, None),
        ({"sep": ";", "decimal": ","}, None),
        ({"sep": ";", "decimal": ",", "encoding": "utf-16"}, None),
        ({"sep": "\t", "decimal": ","}, None),
        ({"lineterminator": "\r\n"}, None),
        ({"lineterminator": "\r"}, None),
        ({"sep": ";"}, "sep=;\n"),
        ({}, "# made on Monday\n# by hand\n"),
        ({}, "Report\n\n\n"),
        ({"quotechar": "'", "quoting": csv.QUOTE_ALL}, None),
    ],
)
def test_what_programs_write(tmp_path: Path, settings: dict[str, Any], more: str | None) -> None:
    path = tmp_path / "t.csv"
    rows = ROWS if "quotechar" not in settings else ROWS.replace('the "old" town', "the old town")
    rows.to_csv(path, index=False, **settings)
    if more:
        path.write_text(more + path.read_text())
    same(read(path), rows)


@pytest.mark.parametrize(
    ("texts", "encoding"),
    [
        (["Größe", "naïve", "10 °C"], "cp1252"),
        (["señor", "£5", "São Paulo"], "latin-1"),
        (["Привет", "мир и да", "Москва"], "cp1251"),
        (["東京都", "大阪", "京都市"], "shift_jis"),
    ],
)
def test_encodings_are_found_and_said(tmp_path: Path, texts: list[str], encoding: str) -> None:
    rows = pd.DataFrame({"c": texts * 40, "n": np.arange(120) % 7, "y": ["p", "q"] * 60})
    path = tmp_path / "t.csv"
    rows.to_csv(path, index=False, encoding=encoding)
    with opened(str(path)) as source:
        assert source.table(["y"])["c"].to_pylist() == list(rows["c"])
        assert any(note.startswith("in ") for note in source.notes())
    late = (
        "a,y\n" + "1,x\n" * 300_000 + "".join(f"2,{text}\n" for text in texts)
    )  # far behind what is looked at first
    path.write_bytes(late.encode(encoding))
    with opened(str(path)) as source:
        assert source.table(["y"])["y"][-3:].to_pylist() == texts


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a,b,y,\n1,2,n,\n3,4,p,\n", ["a", "b", "y", "Unnamed: 3"]),
        ("a,b,y,\n1,2,n\n3,4,p\n", ["a", "b", "y"]),
        ("a,b,y\n1,2,n,\n3,4,p,\n", ["a", "b", "y", "Unnamed: 3"]),
        ("a,b,y\n1,2,n,,\n3,4,p,,\n", ["a", "b", "y", "Unnamed: 3", "Unnamed: 4"]),
        ('"a","b","y"\n"1",1,2,"n"\n"2",3,4,"p"\n', ["Unnamed: 0", "a", "b", "y"]),  # R
        (",a,b,y\n0,1,2,n\n1,3,4,p\n", ["Unnamed: 0", "a", "b", "y"]),  # pandas
        ("a , b, y \n1, 2, n\n3 ,4,p\n", ["a", "b", "y"]),
        (" a   b  y\n 1 2   n \n\n3\t4 p\n", ["a", "b", "y"]),
        ("sep=|\na|b|y\n1|2|n\n3|4|p\n", ["a", "b", "y"]),
        ("a,b,y\n1,2,n\na,b,y\n3,4,p\n", ["a", "b", "y"]),
    ],
)
def test_headers_as_people_have_them(tmp_path: Path, text: str, names: list[str]) -> None:
    path = tmp_path / "t.txt"
    path.write_text(text)
    found = read(path)
    assert list(found.columns) == names
    assert found["a"].tolist() == [1, 3]
    assert found["b"].tolist() == [2, 4]
    assert found["y"].tolist() == ["n", "p"]


def test_a_repeated_header_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,y\n1,n\na,y\n3,p\n\na,y\n")
    with opened(str(tmp_path / "t.csv")) as source:
        assert source.table(["y"])["a"].to_pylist() == ["1", "3"]
        (warning,) = source.warnings()
        assert "lines 3, 6 of the file repeat the header" in warning
        assert source.rows([1]) == "line 4"


def test_no_header(tmp_path: Path) -> None:
    path = tmp_path / "iris.data"
    path.write_text("5.1,3.5,setosa\n4.9,3.0,setosa\n6.3,2.5,virginica\n")
    assert list(read(path, wanted=("2",)).columns) == ["0", "1", "2"]
    assert len(read(path, Told(header=0), ("2",))) == 3
    with pytest.raises(UserError, match=r"must have a column 'kind'; .* set data\.header: 0"):
        read(path, wanted=("kind",))
    with opened(str(path)) as source:
        assert source.table(["setosa"]).num_rows == 2
        assert "looks like one of data" in source.warnings()[0]
    path.write_text("0,1,2\n5.1,3.5,a\n4.9,3.0,b\n")  # as pandas names an array's columns
    assert len(read(path, wanted=("2",))) == 2


def test_a_value_that_is_called_as_the_target_is_no_header(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b,y\nu,v,no\nw,no,yes\n")
    with pytest.raises(UserError, match="must have a column 'no'"), opened(str(path)) as source:
        check_columns(source.table(["no"]), "no")
    path.write_text("Report,,\n,,\na,b,y \nu,v,no\nw,x,yes\n")
    assert list(read(path, wanted=("y ",)).columns) == ["a", "b", "y "]


def test_what_is_told_is_done(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes("x y,z\nhéader;y\n1,5;n\n2,5;p\n".encode("mac_roman"))
    found = read(path, Told("mac_roman", ";", ",", 2), ("y",))
    assert found["héader"].tolist() == [1.5, 2.5]
    with pytest.raises(UserError, match=r"data\.encoding: the file is not utf-8"):
        read(path, Told(encoding="utf-8"))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_table_that_pandas_writes_is_read(tmp_path: Path, data: Any) -> None:
    words = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1)
    rows = data.draw(st.integers(2, 12))
    table = pd.DataFrame(
        {
            "t": data.draw(st.lists(words, min_size=rows, max_size=rows)),
            "x": data.draw(st.lists(st.floats(-1e6, 1e6), min_size=rows, max_size=rows)),
            "label": ["a", "b"] * (rows // 2) + ["a"] * (rows % 2),
        }
    )
    separator = data.draw(st.sampled_from(",;\t|"))
    quoting = data.draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    text = io.StringIO()
    table.to_csv(text, sep=separator, index=False, quoting=quoting)
    path = tmp_path / "t.csv"
    path.write_text(text.getvalue(), newline="")
    with opened(str(path)) as source:
        found = source.table(["label"], ["t", "label"])
    assert found["t"].to_pylist() == list(table["t"])
    assert found["label"].to_pylist() == list(table["label"])
    np.testing.assert_array_equal(found["x"].to_numpy().astype(float), table["x"])
