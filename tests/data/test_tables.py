"""Tables as people have them: each cell is read as it is meant, or it is said that it is not."""

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import config
from pipeline.common.errors import UserError
from pipeline.data.given import given as table_of
from pipeline.data.prepared import PreparedData, load_test, load_training, prepare
from pipeline.inference.rows import MISSING, InputError, Reader


def prepared(place: Path, source: Path | pd.DataFrame, **data: Any) -> PreparedData:
    frame = source if isinstance(source, pd.DataFrame) else None
    name = "a data frame" if frame is not None else str(source)
    checked = config.check(
        {"data": {"source": name, "target": "y", **data}, "validation": {"folds": 2, "final": None}}
    )
    rows = None if frame is None else table_of(frame)
    return prepare(checked, place / "prepared", rows)


def raw_of(data: PreparedData) -> pd.DataFrame:
    """The raw values of all rows, in the order of their column `row`."""
    both = np.concatenate([load_training(data).raw, load_test(data).raw])
    frame = pd.DataFrame(both, columns=[column.name for column in data.schema.columns])
    return frame.sort_values("row").reset_index(drop=True)


FORMS = {".csv": "to_csv", ".parquet": "to_parquet", ".feather": "to_feather", ".jsonl": "to_json"}


@pytest.mark.parametrize("ending", [*FORMS, ".xlsx", "frame"])
def test_text_means_the_same_in_every_file(tmp_path: Path, ending: str) -> None:
    rows = pd.DataFrame(
        {
            "row": range(60),
            "price": [f"$ {1000 + 7 * i:,}" if i % 9 else "-" for i in range(60)],
            "share": [f"{i / 2}%" if i % 7 else "n/a" for i in range(60)],
            "zip": [f"{i % 5:05}" for i in range(60)],
            "day": [f"{1 + i % 28:02}/{1 + i % 12:02}/2023" for i in range(60)],
            "weight": ["5O1" if i == 13 else str(i) for i in range(60)],
            "y": ["no", "yes"] * 30,
        }
    )
    if ending == ".xlsx":
        pytest.importorskip("openpyxl")
        rows.to_excel(tmp_path / "t.xlsx", index=False)
    elif ending == ".jsonl":
        rows.to_json(tmp_path / "t.jsonl", orient="records", lines=True)
    elif ending != "frame":
        options = {"index": False} if ending in (".csv", ".parquet") else {}
        getattr(rows, FORMS[ending])(tmp_path / f"t{ending}", **options)
    data = prepared(tmp_path, rows if ending == "frame" else tmp_path / f"t{ending}")
    kinds = {column.name: column.kind for column in data.schema.columns}
    assert kinds == dict(zip(rows, ["number"] * 3 + ["category", "date", "number"], strict=False))
    raw = raw_of(data)
    expected = [1000 + 7 * i if i % 9 else np.nan for i in range(60)]
    np.testing.assert_array_equal(raw["price"], expected)
    np.testing.assert_array_equal(raw["share"], [i / 2 if i % 7 else np.nan for i in range(60)])
    days = pd.to_datetime(rows["day"], format="%d/%m/%Y") - pd.Timestamp(0)
    np.testing.assert_array_equal(raw["day"], days / pd.Timedelta(days=1))
    assert np.flatnonzero(raw["weight"].isna()).tolist() == [13]
    (warning,) = [text for text in data.warnings if "weight" in text]
    assert "1 value is no number ('5O1') and counts as missing" in warning
    reader = Reader(data.schema.to_dict())
    again = reader.read(rows.drop(13))[0]
    np.testing.assert_array_equal(again, raw.drop(13))
    with pytest.raises(InputError, match=r"'weight': expected a number; got '5O1'"):
        reader.read(rows)


TYPOS = ["5O1", "1.2.3", "12kg", "about 5", "<0.1", "7-8", "twelve", "1,2,3", "x"]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_cell_is_lost_without_a_word(tmp_path: Path, data: Any) -> None:
    """Every value is that of the clean table; or missing where a mark stands; or missing, and a
    warning names the column; or the table is refused."""
    rows = data.draw(st.integers(24, 60))
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    numbers = random.choice([0.1, 1, 1000], rows).cumsum().round(2) + random.integers(0, 9, rows)
    days = [date(2020, 1, 1) + timedelta(int(n)) for n in random.integers(0, 2000, rows)]
    write = data.draw(
        st.sampled_from([str, "{:,}".format, "{}%".format, "€{:,}".format, " {} ".format])
    )
    form = data.draw(st.sampled_from(["%Y-%m-%d", "%d/%m/%Y", "%d %b %Y", "%m-%d-%y"]))
    texts = {"x": [write(float(n)) for n in numbers], "when": [d.strftime(form) for d in days]}
    dirt = {
        "x": st.sampled_from([*sorted(MISSING), *TYPOS]),
        "when": st.sampled_from([*sorted(MISSING), "soon", "2020-13-45", "31/31/2020", "May"]),
    }
    soiled: dict[str, dict[int, str]] = {"x": {}, "when": {}}
    for name, column in texts.items():
        cells = data.draw(st.dictionaries(st.integers(0, rows - 1), dirt[name], max_size=rows // 5))
        for row, text in cells.items():
            column[row], soiled[name][row] = text, text
    frame = pd.DataFrame(
        {"row": range(rows), **texts, "y": ["a", "b"] * (rows // 2) + ["a"] * (rows % 2)}
    )
    path = tmp_path / f"t{data.draw(st.integers(0, 10**9))}.csv"
    frame.to_csv(path, index=False, sep=data.draw(st.sampled_from(",;\t")))
    try:
        found = prepared(tmp_path, path)
    except UserError:
        return
    raw = raw_of(found)
    clean = {"x": numbers, "when": np.array([(d - date(1970, 1, 1)).days for d in days], float)}
    for name, expected in clean.items():
        told = any(f"'{name}'" in warning for warning in (*found.warnings, *found.left_out))
        told |= name in found.left_out
        if name not in raw:
            assert told
            continue
        kind = next(column.kind for column in found.schema.columns if column.name == name)
        assert kind != "category" or told, (name, texts[name])
        for row in range(rows) if kind != "category" else ():
            value, text = raw[name][row], soiled[name].get(row)
            if text is None:
                assert value == pytest.approx(expected[row]), (name, row, texts[name][row])
            elif text.strip().lower() in MISSING:
                assert np.isnan(value)
            else:
                assert told or not np.isnan(value), (name, text)


def test_settings_of_columns(tmp_path: Path) -> None:
    rows = pd.DataFrame(
        {
            "row": range(40),
            "shop": [i % 4 for i in range(40)],
            "day": [f"{1 + i % 12:02}/{1 + i % 9:02}/2023" for i in range(40)],
            "x": [-999 if i % 5 == 0 else i for i in range(40)],
            "t": ["n.v." if i % 5 == 0 else str(i) for i in range(40)],
            "city": [f"c{i % 10}" for i in range(40)],
            "y": ["a", "b"] * 20,
        }
    )
    rows.to_csv(tmp_path / "t.csv", index=False)
    data = prepared(
        tmp_path,
        tmp_path / "t.csv",
        categorical=["shop"],
        dates={"day": "%d/%m/%Y"},
        missing=[-999, "n.v."],
        max_categories=4,
    )
    columns = {column.name: column for column in data.schema.columns}
    assert columns["shop"].categories == ("0", "1", "2", "3")
    assert columns["x"].missing
    assert columns["t"].missing
    raw = raw_of(data)
    assert np.flatnonzero(raw["x"].isna()).tolist() == list(range(0, 40, 5))
    assert np.flatnonzero(raw["t"].isna()).tolist() == list(range(0, 40, 5))
    days = pd.to_datetime(rows["day"], format="%d/%m/%Y") - pd.Timestamp(0)
    np.testing.assert_array_equal(raw["day"], days / pd.Timedelta(days=1))
    (warning,) = [text for text in data.warnings if "categories" in text]
    assert "'city' has 10 categories, of which the 4 most frequent are kept" in warning
    np.testing.assert_array_equal(Reader(data.schema.to_dict()).read(rows)[0], raw)
    with pytest.raises(UserError, match=r"data\.categorical must name .*did you mean 'shop'"):
        prepared(tmp_path, tmp_path / "t.csv", categorical=["shpo"])


def test_a_category_that_somebody_made_stays_one(tmp_path: Path) -> None:
    rows = pd.DataFrame({"row": range(40), "shop": [str(i % 12) for i in range(40)]})
    rows = rows.assign(y=["a", "b"] * 20).astype({"shop": "category"})
    rows.to_parquet(tmp_path / "t.parquet")
    for source in (tmp_path / "t.parquet", rows):
        column = prepared(tmp_path, source).schema.columns[1]
        assert (column.kind, len(column.categories)) == ("category", 12)


def test_indexes_and_names_that_are_none(tmp_path: Path) -> None:
    rows = pd.DataFrame({"row": range(40), "y": ["a", "b"] * 20})
    rows.set_index(pd.Index([*range(39), 50], name="record")).to_parquet(tmp_path / "named.parquet")
    rows.assign(x=1.5).rename(columns={"x": ""}).to_csv(tmp_path / "t.csv")
    why = "it is the index of the data frame that wrote the file"
    assert prepared(tmp_path, tmp_path / "named.parquet").left_out == {"record": why}
    assert prepared(tmp_path, tmp_path / "t.csv").left_out == {
        "Unnamed: 0": "it has no name",
        "Unnamed: 3": "it has no name",
    }
    rows.set_index("y").to_parquet(tmp_path / "target.parquet")
    assert prepared(tmp_path, tmp_path / "target.parquet").schema.names == ["row", "y"]


def parts(tmp_path: Path, rows: pd.DataFrame) -> None:
    for i, name in enumerate(["year=2023/a", "year=2023/b", "year=2024/a"]):
        for kind in ("parquet", "csv"):
            path = tmp_path / kind / f"{name}.{kind}"
            path.parent.mkdir(parents=True, exist_ok=True)
            part = rows[i * 20 : i * 20 + 20]
            part.to_parquet(path) if kind == "parquet" else part.to_csv(path, index=False)
            (path.parent / "_SUCCESS").touch()


@pytest.mark.parametrize("kind", ["parquet", "csv"])
@pytest.mark.parametrize("pattern", ["{kind}", "{kind}/*/*.{kind}"])
def test_folders_and_patterns(tmp_path: Path, kind: str, pattern: str) -> None:
    rows = pd.DataFrame({"row": range(60), "x": np.arange(60) / 4, "y": ["a", "b"] * 30})
    parts(tmp_path, rows)
    source = tmp_path / pattern.format(kind=kind)
    raw = raw_of(prepared(tmp_path, source))
    np.testing.assert_array_equal(raw["x"], rows["x"])
    assert raw["year"].tolist() == [2023] * 40 + [2024] * 20
    bad = tmp_path / kind / "year=2024" / "b"
    if kind == "csv":
        bad.with_suffix(".csv").write_text("row,x,y\n1,2,a\n1,2,\n")
        message = r"year=2024/b.csv: line 3"
    else:
        pa.parquet.write_table(pa.table({"row": [1], "z": [2], "y": ["a"]}), f"{bad}.parquet")
        message = r"b.parquet: must have the columns of .*a.parquet; it lacks 'x'"
    with pytest.raises(UserError, match=message):
        prepared(tmp_path, source)


def test_a_test_file_that_is_written_otherwise(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    x = random.integers(1000, 9999, 200)
    rows = pd.DataFrame({"x": x, "z": x / 10, "row": range(200), "y": ["a", "b"] * 100})
    rows.to_csv(tmp_path / "t.csv", index=False)
    other = rows[["y", "z", "row", "x"]].assign(x=[f"{n:,}".replace(",", ".") for n in x], more=1)
    other.assign(z=rows["z"] + 1).to_csv(tmp_path / "test.csv", sep=";", decimal=",", index=False)
    test = load_test(prepared(tmp_path, tmp_path / "t.csv", test=str(tmp_path / "test.csv")))
    np.testing.assert_allclose(test.raw[:, 0], x)
    np.testing.assert_allclose(test.raw[:, 1], rows["z"] + 1)
    strange = other.assign(x=[*["about 5"] * 3, *x[3:]])
    strange.to_csv(tmp_path / "test.csv", index=False)
    with pytest.raises(UserError, match=r"'x': 3 values are each no number .*at most 1 %"):
        prepared(tmp_path, tmp_path / "t.csv", test=str(tmp_path / "test.csv"))
    other.assign(x=["about 5", *x[1:]]).to_csv(tmp_path / "test.csv", index=False)
    data = prepared(tmp_path, tmp_path / "t.csv", test=str(tmp_path / "test.csv"))
    assert any("test.csv: column 'x': 1 value is no number" in text for text in data.warnings)


@pytest.mark.parametrize(
    ("content", "ending", "words"),
    [
        (b"PAR1", ".csv", "a Parquet file; call it t.parquet"),
        (b"PK\x03\x04", ".csv", "a zip archive"),
        (b"\x1f\x8b\x08", ".csv", "packed by gzip; call it"),
        (b"<!doctype html>", ".csv", "a page of HTML"),
        (b'  {"a": 1}', ".csv", "JSON; call it t.jsonl"),
        (b"version https://git-lfs.github.com/spec/v1", ".parquet", "a pointer of Git LFS"),
        (b"\xd0\xcf\x11\xe0", ".xlsx", "an old workbook"),
        (b"SQLite format 3\0", ".csv", "a SQLite database"),
    ],
)
def test_another_content_than_the_name_says(
    tmp_path: Path, content: bytes, ending: str, words: str
) -> None:
    (tmp_path / f"t{ending}").write_bytes(content + b"\n1,2\n")
    with pytest.raises(UserError, match=f"another than its name says: {words}"):
        prepared(tmp_path, tmp_path / f"t{ending}")
