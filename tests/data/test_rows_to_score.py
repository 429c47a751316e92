"""Rows as a model reads them: the same as through pandas, and what does not fit is named."""

import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data import values
from pipeline.data.encoding import to_raw_or_reasons
from pipeline.inference import InputError
from pipeline.inference.rows import MISSING
from tests.small_model import COLUMNS, NAMES, RAW, make_rows, make_schema, to_raw


def same(found: np.ndarray, expected: object) -> bool:
    return np.allclose(found, np.asarray(expected, dtype=float), rtol=1e-14, equal_nan=True)


def text_table(rows: list[list[str]]) -> pa.Table:
    return pa.table({name: [row[i] for row in rows] for i, name in enumerate(NAMES)})


def test_typed_columns() -> None:
    raw, reasons = to_raw_or_reasons(pa.Table.from_pandas(make_rows()), COLUMNS)
    assert reasons == {}
    assert same(raw, RAW)
    assert same(raw, to_raw(make_rows(), make_schema([0, 1])))


def test_text_columns() -> None:
    raw, reasons = to_raw_or_reasons(
        text_table(
            [
                ["31", "1.5", "yes", "2020-05-17T06:00:00", "red"],
                ["NA", "", "null", "", "NA"],
                [" 42 ", "inf", "No", "1970-01-02", "green"],
                ["1e3", "-2", "1", "?", "3"],
            ]
        ),
        COLUMNS,
    )
    assert reasons == {}
    nan = np.nan
    assert same(
        raw, [[31, 1.5, 1, 18399.25, 2], [nan] * 5, [42, nan, 0, 1, -1], [1000, -2, 1, nan, 0]]
    )


def test_values_that_do_not_fit() -> None:
    raw, reasons = to_raw_or_reasons(
        text_table([["1", "2", "yes", "", ""], ["old", "2", "maybe", "31/05/2024", "x" * 99]]),
        COLUMNS,
    )
    assert reasons == {
        1: "column 'age': expected a number; got 'old'; "
        "column 'member': expected true or false (or yes, no, 1, 0); got 'maybe'; "
        "column 'since': expected a date (a datetime, or ISO 8601 text such as 2024-05-31); "
        "got '31/05/2024'"
    }
    assert same(raw[0], [1, 2, 1, np.nan, np.nan])


@pytest.mark.parametrize(
    ("values", "misfits"),
    [
        (pa.array([1.0, None, float("nan"), float("inf")]), 0),
        (pa.array([1, 0, None, 2]), 0),
        (pa.array([True, None, False, True]), 0),
        (pa.array(["1", "x", None, ""]), 1),
        (pa.array([datetime.date(2020, 1, 1)] * 3 + [None]), 3),
        (pa.array(["a", "b", "1", None]).dictionary_encode(), 2),
    ],
)
def test_numbers_from_any_type(values: pa.Array, misfits: int) -> None:
    raw, reasons = to_raw_or_reasons(pa.table({"age": values}), COLUMNS[:1])
    assert len(reasons) == misfits
    assert raw.shape == (4, 1)
    assert not np.isinf(raw).any()


def test_decimals_are_read_to_the_last_bit() -> None:
    texts = [f"{number / 100}" for number in range(-5000, 5000, 7)]
    column = pa.chunked_array([pa.array(map(Decimal, texts))])
    raw = values.as_kind(column, {"kind": "number", "decimal": ","})
    assert raw.tolist() == list(map(float, texts))


def test_as_through_pandas() -> None:
    frame = pd.concat([make_rows()] * 50, ignore_index=True)
    frame["age"] = frame["age"].astype(float).where(np.arange(200) % 7 > 0)
    raw, reasons = to_raw_or_reasons(pa.Table.from_pandas(frame), COLUMNS)
    assert reasons == {}
    assert same(raw, to_raw(frame, make_schema([0, 1])))


WORDS = st.one_of(
    st.floats().map(repr),
    st.integers().map(str),
    st.dates().map(str),
    st.datetimes(timezones=st.timezones()).map(str),
    st.times().map(str),
    st.sampled_from(["", " ", "-nan", " Yes", "OFF", "1.0", "red", "3", "now", "2024", "1e400"]),
    st.sampled_from(["1,234", "1.234", "1.234,5", "1,234.5", "5O1", "39 %", "$ 1,000", "(12)"]),
    st.sampled_from(["31/12/2023", "12/31/2023", "2023-12-31", "-999", "n.v.", "\u22125", "1 000"]),
    st.sampled_from(sorted(MISSING)).map(lambda mark: f" {mark.upper()}"),
    st.text(max_size=3),
)
OTHERWISE: list[dict[str, Any]] = [
    {"name": "comma", "kind": "number", "categories": [], "decimal": ","},
    {"name": "marked", "kind": "number", "categories": [], "marks": ["-999", "n.v."]},
    {"name": "day", "kind": "date", "categories": [], "format": "%d/%m/%Y"},
    {"name": "word", "kind": "category", "categories": ["1,234", "39 %"], "marks": ["n.v."]},
]


@pytest.mark.parametrize("column", [*COLUMNS, *OTHERWISE], ids=lambda column: column["name"])
@settings(max_examples=150)
@given(data=st.data())
def test_text_means_the_same_in_a_file_and_in_a_frame(column: dict[str, Any], data: Any) -> None:
    texts = data.draw(st.lists(WORDS, min_size=1, max_size=3))
    raw, unfit = values.reading(pa.chunked_array([texts]), column)
    frame = pd.DataFrame({column["name"]: texts})
    schema = make_schema([0, 1], [column])
    for row in np.flatnonzero(unfit).tolist():
        with pytest.raises(InputError):
            to_raw(frame[row : row + 1], schema)
    assert same(raw[~unfit], to_raw(frame[~unfit], schema)[:, 0])
