import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.suspicions import suspicions

Random = np.random.Generator
Columns = dict[str, Any]


def suspected(columns: Columns, y: Any, **options: Any) -> list[str]:
    """A quarter of the rows tests, unless there is a test table."""
    ids = np.asarray(y).astype(np.int64)
    training = np.random.default_rng(1).random(len(ids)) >= 0.25
    if options.get("test") is not None:
        training[:] = True
    table = pa.table({**columns, "y": ids})
    return suspicions(table, "y", ids, ["no", "yes"], training, **options)


def one(columns: Columns, y: Any, *parts: str, **options: Any) -> str:
    """The only sentence, in which all parts stand."""
    (sentence,) = suspected(columns, y, **options)
    for part in parts:
        assert part in sentence
    return sentence


def numbers(random: Random, rows: int, names: str = "abcd") -> Columns:
    return {name: random.normal(size=rows) for name in names}


def coins(random: Random, rows: int) -> np.ndarray:
    return random.integers(0, 2, rows)


@pytest.fixture
def random() -> Random:
    return np.random.default_rng(0)


def patients(random: Random, sizes: np.ndarray, alike: int = 0) -> tuple[Columns, np.ndarray]:
    """Shuffled rows; `alike` numbers, and group numbers of four digits without an order."""
    group = random.permutation(np.repeat(np.arange(len(sizes)), sizes))
    columns = numbers(random, len(group))
    for name in list("abcd")[:alike]:
        columns[name] = random.normal(size=len(sizes))[group] + 0.2 * columns[name]
    return {**columns, "patient": random.permutation(9000)[group] + 1000}, group


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize("dropped", [(), ("patient",)])
def test_groups_are_told_by_the_label(random: Random, as_text: bool, dropped: Any) -> None:
    columns, group = patients(random, np.full(200, 5))
    if as_text:
        columns["patient"] = [f"P{number}" for number in columns["patient"]]
    sentence = one(columns, coins(random, 200)[group], dropped=dropped)
    assert sentence.startswith("column 'patient' repeats as groups do: 200 values such as ")
    shown = repr(columns["patient"][0]) if as_text else str(columns["patient"][0])
    assert f"200 values such as {shown}, most of them in 5 rows" in sentence
    assert "the same label in 100 % of pairs" in sentence
    assert "set validation.groups: patient" in sentence


def test_groups_are_told_by_other_columns(random: Random) -> None:
    columns, group = patients(random, random.integers(1, 12, 150), alike=3)
    one(columns, coins(random, len(group)), "'patient'", "alike in 'a', 'b', 'c'")


def test_groups_of_one_size_that_follow_one_another_need_nothing_else(random: Random) -> None:
    columns = {**numbers(random, 600), "shop": np.repeat(random.permutation(100), 6)}
    one(columns, coins(random, 600), "'shop'", "100 values", "most of them in 6 rows")


def test_columns_that_say_the_same_groups_share_a_sentence(random: Random) -> None:
    columns, group = patients(random, np.full(120, 4))
    columns["name"] = [f"name {number}" for number in columns["patient"]]
    sentence = one(columns, coins(random, 120)[group])
    assert "'patient'" in sentence
    assert "'name'" in sentence


def test_whoever_named_groups_or_order_hears_nothing_of_them(random: Random) -> None:
    columns, group = patients(random, np.full(200, 5))
    columns["day"] = pd.date_range("2024-01-01", periods=1000)
    y = coins(random, 200)[group]
    assert len(suspected(columns, y)) == 2
    assert suspected(columns, y, told=["patient"]) == []
    assert suspected(columns, y, told=["day"]) == []


@pytest.mark.parametrize("start", [0, 1, 1000])
@pytest.mark.parametrize("shuffled", [False, True])
def test_a_column_that_counts_rows_sorted_by_label(
    random: Random, start: int, shuffled: bool
) -> None:
    rows = random.permutation(300) if shuffled else np.arange(300)
    columns = {name: values[rows] for name, values in numbers(random, 300).items()}
    columns["Id"] = rows + start
    y = rows >= 140
    sentence = one(
        columns, y, "column 'Id' numbers the rows and ", f"as {rows[0] + start} goes with"
    )
    assert "alone is right for " in sentence
    assert "data.drop: [Id]" in sentence
    assert suspected(columns, y, dropped=["Id"]) == []
    assert suspected(columns, coins(random, 300)) == []


def test_a_time_as_a_number_in_rows_sorted_by_label(random: Random) -> None:
    times = 1_700_000_000 + random.integers(1, 1000, 400).cumsum()
    one({**numbers(random, 400), "at": times}, np.arange(400) < 150, "'at'", "data.drop: [at]")


LEAKS: dict[str, Callable[[np.ndarray, Random], Any]] = {
    "numbers": lambda y, random: np.where(y, 8, 7),
    "text": lambda y, random: np.where(y, "paid", "default"),
    "further words": lambda y, random: np.where(y, random.choice(["won", "win"], len(y)), "lost"),
    "negated": lambda y, random: y == 0,
    "missing": lambda y, random: pa.array(random.normal(size=len(y)), mask=y == 0),
    "threshold": lambda y, random: y + random.random(len(y)),
    "between": lambda y, random: np.where(
        y, random.random(len(y)), random.choice([-1.5, 1.5], len(y)) + random.random(len(y))
    ),
    "errors": lambda y, random: np.where(np.arange(len(y)) % 500 == 7, 1 - y, y),
}  # fmt: skip


@pytest.mark.parametrize("name", LEAKS)
def test_a_column_that_decides_the_label(random: Random, name: str) -> None:
    y = coins(random, 1000)
    columns = {**numbers(random, 1000), "status": LEAKS[name](y, random)}
    sentence = one(columns, y, "column 'status' alone is right for", "data.drop: [status]")
    assert ("99.8 % of 1,000 rows" if name == "errors" else "% of 1,000 rows") in sentence
    assert suspected(columns, y, dropped=["status"]) == []


def test_a_column_that_nearly_decides_the_label_is_honest(random: Random) -> None:
    y = coins(random, 1000)
    assert (
        suspected({**numbers(random, 1000), "c": np.where(random.random(1000) < 0.03, 1 - y, y)}, y)
        == []
    )


def test_many_leaks_make_one_sentence(random: Random) -> None:
    y = coins(random, 400)
    copies = {f"copy{i}": y + i for i in range(6)}
    one({**numbers(random, 400), **copies}, y, "and 3 more", ", ".join(copies))


def test_the_keys_can_be_copied_into_a_configuration(random: Random) -> None:
    y = coins(random, 400)
    sentence = one({**numbers(random, 400), "Unnamed: 0": y, "no": y, "größe": y}, y)
    names = yaml.safe_load(sentence.partition("set data.drop: ")[2])
    assert names == ["Unnamed: 0", "no", "größe"]


def copied(random: Random, columns: Columns, y: np.ndarray) -> tuple[Columns, np.ndarray]:
    """The first 100 rows stand twice."""
    rows = random.permutation(np.append(np.arange(len(y)), np.arange(100)))
    return {name: values[rows] for name, values in columns.items()}, y[rows]


def test_copies_are_counted_as_pandas_does(random: Random) -> None:
    columns, y = copied(random, numbers(random, 500), coins(random, 500))
    frame = pd.DataFrame(columns)
    training = np.random.default_rng(1).random(len(y)) >= 0.25
    expected = frame[~training].merge(frame[training].drop_duplicates()).shape[0]
    assert expected > 20
    one(
        columns,
        y,
        f"{expected} of {(~training).sum()} test rows",
        "data.duplicates: drop",
        ", 0 of them",
    )
    one({**columns, "Id": np.arange(600)}, y, f"{expected} of")


def test_copies_in_a_test_file_with_another_label_and_other_types(random: Random) -> None:
    columns = {**numbers(random, 300, "abc"), "n": random.integers(0, 50, 300)}
    y = coins(random, 300)
    test = pa.table({
        "y": 1 - y[:40], "n": columns["n"][:40].astype(float), "more": np.arange(40),
        **{name: columns[name][:40] for name in "cba"},
    })  # fmt: skip
    one(columns, y, "40 of 40 test rows equal training rows", "40 of them with another", test=test)
    assert suspected(columns, y, test=test.drop_columns("c")) == []
    assert suspected(columns, y, test=test.set_column(0, "a", [["text"] * 40])) == []


@pytest.mark.parametrize("places", ["badc", "cdab", "dcba"])
def test_rows_of_the_same_values_in_other_columns_are_no_copies(
    random: Random, places: str
) -> None:
    columns, y = numbers(random, 300, "abcd"), coins(random, 300)
    swapped = {name: columns[place][:40] for name, place in zip("abcd", places, strict=True)}
    test = pa.table({"y": y[:40], **swapped})
    assert suspected(columns, y, test=test) == []


def test_rows_of_few_values_are_equal_by_chance(random: Random) -> None:
    coarse = {f"c{i}": random.integers(0, 4, 2000) for i in range(5)}
    assert suspected(coarse, coins(random, 2000)) == []
    one_hot = {f"o{i}": (coarse["c0"] * 4 + coarse["c1"] == i).astype(int) for i in range(16)}
    assert suspected({**one_hot, "age": random.integers(18, 90, 2000)}, coins(random, 2000)) == []


DAYS = pd.date_range("2024-01-01", periods=400)
SORTED: dict[str, Any] = {
    "dates": DAYS.date,
    "newest first": DAYS[::-1],
    "text": DAYS.strftime("%Y-%m-%d"),
    "numbers": DAYS.strftime("%Y%m%d").astype(int),
    "years": np.arange(400) // 16 + 1990,
}


@pytest.mark.parametrize("name", SORTED)
def test_rows_in_the_order_of_a_date(random: Random, name: str) -> None:
    columns = {**numbers(random, 400), "day": SORTED[name]}
    distinct = len(set(SORTED[name]))
    one(columns, coins(random, 400), "'day'", f"{distinct} values", "set validation.order: day")
    order = random.permutation(400)
    shuffled = {**columns, "day": np.asarray(SORTED[name])[order]}
    assert suspected(shuffled, coins(random, 400)) == []


HONEST: dict[str, Callable[[np.ndarray, Random], Any]] = {
    "age": lambda x, random: (40 + 15 * x).round().astype(int),
    "zip code": lambda x, random: random.integers(0, 300, len(x)) * 37 + 10_000,
    "zip code as text": lambda x, random: [f"Z{i}" for i in random.integers(0, 300, len(x)) * 37],
    "month": lambda x, random: random.integers(1, 13, len(x)),
    "rounded": lambda x, random: (x + random.normal(0, 0.1, len(x))).round(1),
    "fifty values": lambda x, random: np.array([f"kind {i}" for i in range(50)])[
        np.searchsorted(np.linspace(-2, 2, 49), x)
    ],
    "income": lambda x, random: (np.exp(x + 8) // 100 * 100).astype(int),
    "dates of birth": lambda x, random: pd.Timestamp("1980-01-01") + pd.to_timedelta(x * 1000, "D"),
    "days before months": lambda x, random: (
        pd.Timestamp("2020-01-01") + pd.to_timedelta(x.round(1) * 100, "D")
    ).strftime("%d/%m/%Y"),
    "sorted numbers": lambda x, random: np.sort(random.normal(size=len(x))),
    "sorted whole numbers": lambda x, random: np.sort(random.integers(0, 60, len(x))),
    "row numbers": lambda x, random: np.arange(len(x)),
    "distinct text": lambda x, random: [f"name {i}" for i in random.permutation(len(x))],
    "mostly nought": lambda x, random: np.where(x < 1, 0, random.integers(0, 20, len(x))),
}  # fmt: skip


@pytest.mark.parametrize("name", HONEST)
@pytest.mark.parametrize("seed", range(3))
def test_an_honest_column_is_not_suspected(name: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    x = random.normal(size=1200)
    y = x + random.logistic(size=1200) > 0
    columns = {**numbers(random, 1200), "x": x, "square": x.round(1) ** 2}
    assert suspected({**columns, "honest": HONEST[name](x, random)}, y) == []


def test_one_hot_columns_of_honest_rows(random: Random) -> None:
    kinds = random.integers(0, 12, 1000)
    one_hot = {f"k{i}": (kinds == i).astype(int) for i in range(12)}
    y = random.random(1000) < 0.1 + 0.06 * kinds
    assert suspected({**numbers(random, 1000), "kind": kinds, **one_hot}, y) == []


def test_groups_among_more_rows_than_are_looked_at(random: Random) -> None:
    rows = 120_000
    group = random.permutation(np.repeat(np.arange(rows // 4), 4))
    columns = {**numbers(random, rows, "ab"), "user": random.permutation(rows)[group]}
    y = coins(random, rows // 4)[group]
    first = one(columns, y, "'user'", "values", "most of them in 4 rows", "100 % of pairs")
    assert suspected(columns, y) == [first]


STRANGE = [
    pa.array(np.arange(60).astype(np.float16)),
    pa.array(np.arange(60).astype(np.uint64) + np.uint64(2**63)),
    pa.array([f"a\n{i}" for i in range(60)], pa.large_string()),
    pa.array([{"a": i} for i in range(60)]),
    pa.array([pa.MonthDayNano([1, i, 0]) for i in range(60)]),
    pa.array(np.arange(60) * 7 % 60 * 10**15 + 10**17, pa.timestamp("s")),
    pa.DictionaryArray.from_arrays(pa.array([0, 1, None] * 20), pa.array(["a", None])),
    pa.DictionaryArray.from_arrays(pa.array([0, 1] * 30), pa.array([[1], [2]])),
    pa.nulls(60),
]


@pytest.mark.parametrize("column", STRANGE, ids=lambda column: str(column.type))
def test_no_type_is_too_strange(random: Random, column: Any) -> None:
    columns, y = {**numbers(random, 60), "strange": column}, coins(random, 60)
    assert suspected(columns, y) == []
    one(columns, y, "60 of 60", test=pa.table({**columns, "y": y}))


CELLS = [
    st.one_of(st.none(), st.integers(-3, 3)),
    st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
    st.one_of(st.none(), st.floats(width=64)),
    st.one_of(st.none(), st.text(max_size=3)),
    st.one_of(st.none(), st.booleans()),
    st.one_of(st.none(), st.dates()),
    st.one_of(st.none(), st.times()),
    st.one_of(st.none(), st.datetimes()),
    st.one_of(st.none(), st.timedeltas(dt.timedelta(-9), dt.timedelta(9))),
    st.one_of(st.none(), st.binary(max_size=2)),
    st.one_of(st.none(), st.lists(st.integers(0, 1), max_size=2)),
    st.none(),
    st.just(Decimal("1.5")),
]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_table_is_too_strange(data: st.DataObject) -> None:
    few = data.draw(st.integers(1, 12))
    times = data.draw(st.sampled_from([1, 8, 20]))
    columns: Columns = {}
    for position in range(data.draw(st.integers(0, 4))):
        cells = data.draw(st.lists(data.draw(st.sampled_from(CELLS)), min_size=few, max_size=few))
        column = pa.array(cells * times)
        if data.draw(st.booleans()) and pa.types.is_string(column.type):
            column = column.dictionary_encode()
        columns[f"c{position}"] = column
    y = np.array(data.draw(st.lists(st.integers(0, 2), min_size=few, max_size=few)) * times)
    table = pa.table({**columns, "y": y})
    training = np.random.default_rng(0).random(len(y)) < 0.5
    test = table if data.draw(st.booleans()) else None
    said = suspicions(table, "y", y, [0, 1, 2], training, test=test)
    assert len(said) <= 5
    assert all("'y'" not in sentence for sentence in said)
    assert said == suspicions(table, "y", y, [0, 1, 2], training, test=test)
