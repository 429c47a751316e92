"""What a column of text holds, however its cells are written, against pandas and datetime."""

from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data import values
from pipeline.data.kinds import text_kind

NUMBERS = [1250.5, -3.25, 17.75, 0.5, 2_345_678.125, 1000.0]


def read(texts: list[str], **known: Any) -> tuple[str, np.ndarray]:
    """The kind of a column, and its raw values."""
    kind = text_kind(texts, "x", **known)
    if kind.kind == "category":
        return "category", np.zeros(0)
    marks = known.get("marks", ())
    return kind.kind, values.as_kind(pa.chunked_array([texts]), vars(kind) | {"marks": marks})


@pytest.mark.parametrize(
    "write",
    [
        lambda x: f"{x:,}",
        lambda x: f" {x} ",
        lambda x: f"{x}%",
        lambda x: f"$ {x:,}",
        lambda x: f"{x:,} €",
        lambda x: f"{x:_}".replace("_", " "),
        lambda x: f"{x:_}".replace("_", "\u00a0"),
        lambda x: f"{x:_}".replace("_", "'"),
        lambda x: str(x).replace("-", "\u2212"),
        lambda x: f"({-x})" if x < 0 else str(x),
        lambda x: f"{x:.12e}",
        lambda x: f"+{x}" if x > 0 else str(x),
        lambda x: str(x).replace(".", ","),
        lambda x: f"{x:,}".translate({ord(","): ".", ord("."): ","}),
        lambda x: f"{x:,} €".translate({ord(","): ".", ord("."): ","}),
    ],
)
def test_numbers_however_they_are_written(write: Any) -> None:
    texts = [write(x) for x in NUMBERS]
    kind, raw = read([*texts, "n/a"])
    assert kind == "number"
    np.testing.assert_array_equal(raw, [*NUMBERS, np.nan])


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["1,234", "5,678"], [1234, 5678]),  # thousands, unless the file shows decimal commas
        (["inf", "-inf", "∞", "3"], [np.nan, np.nan, np.nan, 3]),
        (["9:30", "12:00:30"], [34200, 43230]),
        (["1", "2", "5O1", "7", "8"], [1, 2, np.nan, 7, 8]),
        (["1", "2", "unknown", "7"], [1, 2, np.nan, 7]),
        (["1", "-999", "2", "3"], [1, np.nan, 2, 3]),
    ],
)
def test_most_distinct_values_decide(texts: list[str], expected: list[float]) -> None:
    kind, raw = read(texts, marks=("-999",))
    assert kind == "number"
    np.testing.assert_array_equal(raw, expected)


def test_a_files_decimal_sign_decides_where_the_column_is_in_doubt() -> None:
    assert read(["1,234", "5,678"], decimal=",")[1].tolist() == [1.234, 5.678]
    assert read(["1.234", "5.678"], decimal=",")[1].tolist() == [1234, 5678]
    assert read(["1.5", "5.678"], decimal=",")[1].tolist() == [1.5, 5.678]


@pytest.mark.parametrize(
    "texts",
    [
        ["01234", "94501", "10115"],
        ["01", "02", "10"],
        ["001", "7", "0012", "13"],
        ["s2", "s10", "s8"],
        ["1-2", "3-4", "5-6"],
        ["192.168.0.1", "10.0.0.1"],
        ["1.2.3", "1.2.4"],
        ["a", "b", "1"],
        ["Mon", "Tue"],
        ["3+", "2+", "1"],
        ["12 kg", "13 kg"],
        ["", "-", "NA"],
    ],
)
def test_words_stay_words(texts: list[str]) -> None:
    assert read(texts)[0] == "category"


@pytest.mark.parametrize("pair", ["no yes", "N Y", "FALSE TRUE", "f t", "off On"])
def test_true_and_false(pair: str) -> None:
    no, yes = pair.split()
    kind, raw = read([f" {no}", yes, "NA"])
    assert kind == "boolean"
    np.testing.assert_array_equal(raw, [0, 1, np.nan])


@pytest.mark.parametrize(
    "form",
    [
        *(
            "%Y-%m-%d",
            "%Y/%m/%d",
            "%Y-%m-%d %H:%M:%S",
            "%Y-%m-%dT%H:%M:%SZ",
            "%d/%m/%Y",
            "%m/%d/%Y",
        ),
        *("%d.%m.%Y", "%d-%m-%y", "%d %b %Y", "%B %d, %Y", "%d-%b-%Y", "%b %d %Y", "%a, %d %b %Y"),
        *("%m/%d/%Y %I:%M %p", "%d/%m/%Y %H:%M", "%Y/%m/%d %H:%M:%S.%f", "%Y-%m", "%m/%Y", "%b %Y"),
        *("%d. %m. %Y",),
    ],
)
@settings(max_examples=20, deadline=None)
@given(st.lists(st.datetimes(datetime(1970, 1, 1), datetime(2068, 1, 1)), min_size=1, max_size=8))
def test_dates_are_read_as_strptime_reads_them(form: str, days: list[datetime]) -> None:
    texts = [day.strftime(form) for day in [*days, datetime(2021, 6, 30), datetime(1999, 5, 17)]]
    expected = [datetime.strptime(text, form) for text in texts]
    kind, raw = read(texts)
    assert kind == "date"
    days_since = (pd.Series(expected) - pd.Timestamp(0)) / pd.Timedelta(days=1)
    np.testing.assert_allclose(raw, days_since, atol=1e-9)


def test_an_open_order_of_day_and_month_is_told() -> None:
    for texts, form in ((["05/08/2023", "07/01/2023"], "%m/%d/%Y"), (["5.8.23"], "%d.%m.%y")):
        kind = text_kind(texts, "opened")
        assert (kind.kind, kind.format) == ("date", form)
        assert f"set data.dates: {{opened: '{form}'}}" in kind.doubt
    assert text_kind(["05/08/2023", "25/01/2023"], "x").doubt == ""


def test_dates_of_another_form_are_not_of_the_columns() -> None:
    kind, raw = read(["25/01/2023", "26/01/2023", "2023-01-27", "Jan 28, 2023"])
    assert kind == "date"
    np.testing.assert_array_equal(np.diff(raw), [1, 1, np.nan])  # ISO 8601 is read anywhere


def test_numbers_of_several_units_are_told() -> None:
    assert "no sign and '%'" in text_kind(["3%", "0.4", "0.5"], "rate").doubt
    assert "'$' and '€'" in text_kind(["$3", "€4"], "price").doubt
    assert text_kind(["$3", "$4", "<5", "1e5$"], "price").doubt == ""


@settings(max_examples=200)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=20))
def test_numbers_that_python_writes(numbers: list[float]) -> None:
    texts = [repr(x) for x in numbers]
    kind, raw = read(texts)
    if kind == "number":  # else codes such as 00, which Python does not write
        np.testing.assert_array_equal(raw, numbers)
    else:
        raise AssertionError(texts)
