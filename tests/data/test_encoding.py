import datetime as dt
import json
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from pipeline.common.errors import UserError
from pipeline.data import encoding
from pipeline.data.encoding import Encoder, encoded, encoder_for, misfits, to_raw
from pipeline.data.labels import ids_of, labels_of, read_labels
from pipeline.data.schema import Column, ColumnRules, Inputs, Schema, infer_columns

UTC = dt.UTC


def with_label(column: Any, name: str = "c") -> pa.Table:
    values = column if isinstance(column, pa.Array | pa.ChunkedArray) else pa.array(column)
    return pa.table({name: values, "y": [i % 2 for i in range(len(values))]})


def infer_schema(
    table: pa.Table, target: str, positive: Any = None, training: Any = None
) -> tuple[Schema, dict[str, str]]:
    columns, left_out, _ = infer_columns(table, target, training=training)
    return Schema(
        columns, target, labels_of(read_labels(table[target], target), target, positive)
    ), left_out


def infer_one(column: Any) -> Column | str:
    try:
        schema, _ = infer_schema(with_label(column), "y")
    except UserError as error:
        return str(error)
    return schema.columns[0]


def raw_of(column: Any) -> list[float | None]:
    table = with_label(column)
    raw = to_raw(table, infer_schema(table, "y")[0])
    return [None if np.isnan(value) else value for value in raw[:, 0]]


DAY = 19_000.0  # 2022-01-08
READINGS: list[tuple[str, Any, str, list[float | None]]] = [
    ("int8", pa.array([1, -2, None], pa.int8()), "number", [1, -2, None]),
    ("uint64", pa.array([2**63, 0], pa.uint64()), "number", [2.0**63, 0]),
    ("float16", pa.array([1.5, 2], pa.float16()), "number", [1.5, 2]),
    ("infinite", pa.array([np.inf, 1.0, -np.inf, np.nan, 2]), "number", [None, 1, None, None, 2]),
    ("decimal", pa.array([Decimal("1.25"), None, Decimal(3)]), "number", [1.25, None, 3]),
    ("boolean", pa.array([True, None, False]), "boolean", [1, None, 0]),
    ("yes and no", ["Yes", "no", None], "boolean", [1, 0, None]),
    ("t and f", ["t", "f", "t"], "boolean", [1, 0, 1]),
    ("numbers as text", [" 1", "-2.5e1", "nan", ".5"], "number", [1, -25, None, 0.5]),
    ("times as text", ["09:30", "9:30:01.5", None], "number", [34_200, 34_201.5, None]),
    ("time32", pa.array([dt.time(1), dt.time(0, 1)], pa.time32("ms")), "number", [3600, 60]),
    ("time64", pa.array([dt.time(1), dt.time(0, 1)], pa.time64("ns")), "number", [3600, 60]),
    ("duration", pa.array([1500, None, 0], pa.duration("ms")), "number", [1.5, None, 0]),
    ("date32", pa.array([19_000, None, 0], pa.date32()), "date", [DAY, None, 0]),
    ("date64", pa.array([19_000 * 86_400_000, 0], pa.date64()), "date", [DAY, 0]),
    ("timestamp", pa.array([43_200, 0], pa.timestamp("s")), "date", [0.5, 0]),
    (
        "zoned timestamp",
        pa.array([dt.datetime(1970, 1, 2, tzinfo=UTC), None], pa.timestamp("ns", "Asia/Tokyo")),
        "date",
        [1, None],
    ),
    (
        "dates as text",
        ["2022-01-08", "2022-01-08T12:00Z", "2022-01-08 12:00:00.0+02:00", "1969-12-31 18:00"],
        "date",
        [DAY, DAY + 0.5, DAY + 10 / 24, -0.25],
    ),
    ("words", ["b", "a", None, "b"], "category", [1, 0, None, 1]),
    ("pair with one more", ["yes", "no", "maybe", "no"], "category", [2, 1, 0, 1]),
    ("large_string", pa.array(["b", "a", "b"], pa.large_string()), "category", [1, 0, 1]),
    ("string_view", pa.array(["b", "a", "b"], pa.string_view()), "category", [1, 0, 1]),
    ("dictionary", pa.array(["b", "a", "b"]).dictionary_encode(), "category", [1, 0, 1]),
    ("dictionary of ints", pa.array([7, 3, 7]).dictionary_encode(), "number", [7, 3, 7]),
    ("mixed", ["1", "a", "1", "a"], "category", [0, 1, 0, 1]),
]


@pytest.mark.parametrize(
    ("column", "kind", "expected"),
    [case[1:] for case in READINGS],
    ids=[case[0] for case in READINGS],
)
def test_every_type_has_a_kind_and_a_reading(
    column: Any, kind: str, expected: list[float | None]
) -> None:
    found = infer_one(column)
    assert isinstance(found, Column)
    assert found.kind == kind
    assert found.missing == (None in expected)
    assert raw_of(column) == pytest.approx(expected)


@settings(max_examples=100)
@given(
    st.datetimes(timezones=st.just(UTC)),
    st.integers(-14 * 60, 14 * 60),
    st.sampled_from(["T", " "]),
)
def test_dates_as_text_agree_with_the_standard_library(
    moment: dt.datetime, offset: int, separator: str
) -> None:
    try:
        local = moment.astimezone(dt.timezone(dt.timedelta(minutes=offset)))
    except OverflowError:
        return
    expected = (moment - dt.datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() / 86_400
    assume(expected != 1)  # a column of one value informs about nothing
    written = local.isoformat(separator)
    assert raw_of([written, "1970-01-02"]) == pytest.approx([expected, 1], abs=1e-8)


@pytest.mark.parametrize("never", ["2023-02-29", "2022-13-01", "2022-00-10", "2022-01-08T25:00"])
def test_days_that_no_calendar_has_are_no_dates(never: str) -> None:
    found = infer_one([never, "2022-01-01", never, "2022-01-01"])
    assert isinstance(found, Column)
    assert found.kind == "category"


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        ([3, 3, 3], "it is 3 in every training row"),
        (["a", "a", "a"], "it is 'a' in every training row"),
        ([True, True, True], "it is True in every training row"),
        (["1", "1.0", "1"], "it is 1 in every training row"),
        ([None, None, None], "missing in every training row"),
        ([np.nan, np.inf, None], "missing in every training row"),
        (["", "", None], "missing in every training row"),
        (["a", "b", None, "c"], "a distinct string in every training row"),
        ([*"abcdefghijkl" * 2, *(f"v{i}" for i in range(250))], "of its 274 texts are distinct"),
        ([[1], [2], [3]], "list<item: int64> are not supported"),
        ([{"a": 1}, {"a": 2}, {"a": 3}], "struct<a: int64> are not supported"),
        ([b"a", b"b", b"a"], "binary are not supported"),
    ],
)
def test_columns_that_cannot_inform_are_left_out_with_the_reason(column: Any, reason: str) -> None:
    table = with_label(column).append_column("good", pa.array(range(len(column))))
    schema, left_out = infer_schema(table, "y")
    assert [found.name for found in schema.columns] == ["good"]
    assert reason in left_out["c"]


@pytest.mark.parametrize("name", ["", "__index_level_0__"])
def test_index_columns_are_left_out(name: str) -> None:
    table = pa.table({name: [0, 1, 2], "x": [1, 2, 3], "y": [0, 1, 0]})
    schema, left_out = infer_schema(table, "y")
    assert [found.name for found in schema.columns] == ["x"]
    assert list(left_out) == [name]


def test_missing_counts_as_a_value() -> None:
    assert infer_one([3, None, 3]) == Column("c", "number", missing=True)
    assert infer_one(["a", None, "a"]) == Column("c", "category", ("a",), missing=True)


def test_only_training_rows_teach() -> None:
    table = pa.table(
        {
            "x": [1.0, 2, 3, None],
            "n": ["1", "2", "3", "far"],
            "c": ["a", "b", "a", "unseen"],
            "k": [5, 5, 5, 6],
            "y": [0, 1, 0, 1],
        }
    )
    schema, left_out = infer_schema(table, "y", training=np.array([True, True, True, False]))
    assert schema.columns == (
        Column("x", "number"),
        Column("n", "number"),
        Column("c", "category", ("a", "b")),
    )
    assert list(left_out) == ["k"]
    raw = to_raw(table, schema)
    assert np.isnan(raw[3, :2]).all()
    assert raw[3, 2] == -1


def test_the_64_most_frequent_categories_are_kept_ties_by_name() -> None:
    names = [f"v{i:03}" for i in range(100)]
    table = with_label([*names[10:], *names[90:], *names[:10], *names[90:]])
    (found,), _, (warning,) = infer_columns(table, "y")
    assert found.categories == (*names[:54], *names[90:])
    assert "'c' has 100 categories, of which the 64 most frequent" in warning
    assert "36 of 120 rows have others (data.max_categories)" in warning
    (few,), _, _ = infer_columns(table, "y", rules=ColumnRules(categories=3))
    assert few.categories == tuple(names[90:93])


@pytest.mark.parametrize(
    ("labels", "positive", "expected"),
    [
        ([1, 0, 1, 0], None, (0, 1)),
        ([1, 0, 1, 0], 0, (1, 0)),
        (["no", "yes", "no", "yes"], None, ("no", "yes")),
        (["no", "yes", "no", "yes"], "no", ("yes", "no")),
        ([True, False, True, False], None, (False, True)),
        ([True, False, True, False], False, (True, False)),
        ([1.0, 2.0, 1.0, 2.0], 1, (2.0, 1.0)),
        (["c", "a", "b", "c"], None, ("a", "b", "c")),
        ([10, 9, -1, 2], None, (-1, 2, 9, 10)),
        ([Decimal(1), Decimal(0), Decimal(1), Decimal(0)], None, (0.0, 1.0)),
    ],
)
def test_labels_are_ordered_and_kept_as_they_stood(
    labels: list[Any], positive: Any, expected: tuple[Any, ...]
) -> None:
    table = pa.table({"x": [1, 2, 3, 4], "y": pa.array(labels)})
    schema, _ = infer_schema(table, "y", positive)
    assert schema.labels == expected
    assert [type(label) for label in schema.labels] == [type(label) for label in expected]
    assert [
        schema.labels[i]
        for i in ids_of(read_labels(table[schema.target], schema.target), schema)[0]
    ] == labels
    encoded = table.set_column(1, "y", table["y"].dictionary_encode())
    assert [
        schema.labels[i]
        for i in ids_of(read_labels(encoded[schema.target], schema.target), schema)[0]
    ] == labels


@pytest.mark.parametrize(
    ("trained", "given_later"),
    [
        ([0, 1], [0.0, 1.0]),
        ([0.0, 1.0], [0, 1]),
        ([False, True], ["no", "Yes"]),
        ([0, 1], ["0", "1"]),
    ],
)
def test_labels_of_another_type_match_by_value(trained: list[Any], given_later: list[Any]) -> None:
    schema, _ = infer_schema(pa.table({"x": [1, 2], "y": trained}), "y")
    assert ids_of(read_labels(pa.chunked_array([given_later]), "y"), schema)[0].tolist() == [0, 1]


def test_json_restores_the_schema() -> None:
    table = pa.table(
        {"x": [1.5, None, 2], "c": ["ä", "b", "b"], "d": ["no", "yes", None], "y": ["p", "q", "p"]}
    )
    schema, _ = infer_schema(table, "y")
    content = json.loads(json.dumps(schema.to_dict()))
    assert Schema.from_dict(content) == schema
    with pytest.raises(ValueError, match="version must be 1; got 2"):
        Schema.from_dict(content | {"version": 2})


@pytest.mark.parametrize("size", [None, (8, 6)])
def test_json_restores_the_schema_of_arrays(size: tuple[int, int] | None) -> None:
    schema = Schema((), "label", ("p", "q"), Inputs((3, 8, 6), "uint8", size))
    content = json.loads(json.dumps(schema.to_dict()))
    assert Schema.from_dict(content) == schema
    assert (schema.width, schema.form) == (144, "[3, 8, 6] uint8")
    with pytest.raises(ValueError, match=r"inputs\.dtype"):
        Schema.from_dict(content | {"inputs": {"shape": [1], "dtype": "float8"}})


def example(rows: int = 60, seed: int = 0) -> tuple[pa.Table, Schema, torch.Tensor]:
    random = np.random.default_rng(seed)
    number = random.normal(1e4, 3, rows)
    number[random.random(rows) < 0.2] = np.nan
    table = pa.table(
        {
            "number": pa.array(number, from_pandas=True),
            "word": pa.array(random.choice(["a", "b", "c", None], rows).tolist()),
            "flag": random.random(rows) < 0.3,
            "y": [i % 2 for i in range(rows)],
        }
    )
    schema, _ = infer_schema(table, "y")
    return table, schema, torch.from_numpy(to_raw(table, schema))


def halves(rows: int) -> list[torch.Tensor]:
    return [torch.arange(0, rows // 2), torch.arange(rows // 3, rows)]


def test_encoder_agrees_with_scikit_learn() -> None:
    table, schema, raw = example()
    training = halves(len(raw))
    encoded = Encoder.fit(raw, schema, training)(raw)
    assert schema.width == encoded.shape[2] == 2 + 3 + 2
    numbers = raw[:, [0, 2]].numpy()
    words = np.array(table["word"].to_pylist(), dtype=object).reshape(-1, 1)
    for member, rows in enumerate(training):
        scaler = StandardScaler().fit(numbers[rows])
        imputer = SimpleImputer(strategy="mean").fit(numbers[rows])
        known = sorted({word for word in words[rows, 0] if word is not None})
        one_hot = OneHotEncoder(categories=[known], handle_unknown="ignore", sparse_output=False)
        expected = np.hstack(
            [
                scaler.transform(imputer.transform(numbers)),
                one_hot.fit(np.array(known, dtype=object).reshape(-1, 1)).transform(words),
                np.isnan(numbers[:, :1]),
                words == None,  # noqa: E711
            ]
        )
        np.testing.assert_allclose(encoded[member].numpy(), expected, rtol=1e-5, atol=1e-5)


def test_pieces_say_between_which_quantiles_a_number_is() -> None:
    """By their sum, which is NumPy's interpolation of the quantiles' numbers."""
    draw = np.random.default_rng(0)
    rows = 200
    columns = {
        "skewed": draw.lognormal(size=rows),
        "repeated": draw.integers(0, 5, rows).astype(float),
        "two": draw.integers(0, 2, rows).astype(float),
        "gaps": np.where(draw.random(rows) < 0.2, np.nan, draw.normal(size=rows)),
    }
    table = pa.table({**columns, "y": [i % 2 for i in range(rows)]})
    schema, _ = infer_schema(table, "y")
    raw = torch.from_numpy(to_raw(table, schema))
    parts = [torch.arange(start, rows, 2) for start in range(2)]
    found = Encoder.fit(raw, schema, parts, pieces=6)(raw).numpy()
    plain = Encoder.fit(raw, schema, parts)(raw).numpy()
    np.testing.assert_array_equal(found[..., : plain.shape[2]], plain)
    assert found.shape[2] == plain.shape[2] + 6 + 4 + 6  # none of a column of two values
    for member, training in enumerate(parts):
        start = plain.shape[2]
        for name, pieces in (("skewed", 6), ("repeated", 4), ("gaps", 6)):
            values = columns[name]
            known = values[training.numpy()]
            known = known[~np.isnan(known)]
            edges = np.unique(np.quantile(known, np.linspace(0, 1, 7), method="nearest"))
            expected = np.interp(values, edges, np.arange(len(edges)))
            shares = found[member, :, start : start + pieces]
            np.testing.assert_allclose(shares.sum(axis=1), np.nan_to_num(expected), atol=1e-5)
            assert ((np.diff(shares, axis=1) <= 0) & (shares[:, 1:] >= 0)).all()
            start += pieces


def test_encoder_in_float64_agrees_to_rounding() -> None:
    _, schema, raw = example()
    training = halves(len(raw))
    encoder = Encoder.fit(raw, schema, training)
    for member, rows in enumerate(training):
        scaler = StandardScaler().fit(raw[rows][:, [0, 2]].numpy())
        np.testing.assert_allclose(encoder.mean[member], scaler.mean_, rtol=1e-13)
        np.testing.assert_allclose(encoder.scale[member], scaler.scale_, rtol=1e-10)


def test_nothing_outside_the_training_rows_moves_the_statistics() -> None:
    _, schema, raw = example()
    rows = halves(len(raw))[:1]
    altered = raw.clone()
    altered[len(raw) // 2 :] = 1e6
    one, other = (Encoder.fit(given, schema, rows).state_dict() for given in (raw, altered))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_category_unseen_in_a_fold_is_all_zero_there() -> None:
    schema = Schema((Column("c", "category", ("a", "b")),), "y", (0, 1))
    raw = torch.tensor([[0.0], [1.0], [-1.0], [torch.nan]], dtype=torch.float64)
    encoded = Encoder.fit(raw, schema, [torch.tensor([0, 3]), torch.tensor([0, 1])])(raw)
    assert encoded.tolist() == [[[1, 0], [0, 0], [0, 0], [0, 0]], [[1, 0], [0, 1], [0, 0], [0, 0]]]


@pytest.mark.parametrize(
    "column",
    [
        [1e300, 1e300, 1e300, 1.0],
        [1.7e308, -1.7e308, 1.7e308, 0.0],
        [5e-324, 1e-323, 0.0, 0.0],
        [0.1, 0.1, 0.1, 7.0],
        [torch.nan, torch.nan, torch.nan, 19_000.0],
        [1.0, torch.inf, -torch.inf, 2.0],
    ],
)
def test_extreme_columns_stay_finite(column: list[float]) -> None:
    schema = Schema((Column("c", "number"),), "y", (0, 1))
    raw = torch.tensor(column, dtype=torch.float64).unsqueeze(1)
    encoded = Encoder.fit(raw, schema, [torch.arange(3)])(raw)
    in_pieces = Encoder.fit(raw, schema, [torch.arange(3)], pieces=2)(raw)
    assert torch.isfinite(in_pieces).all()
    assert in_pieces.abs().max() <= 10
    assert torch.equal(in_pieces[..., : encoded.shape[2]], encoded)
    if raw[:3].unique().numel() == 1 or raw[:3].isnan().all():
        assert (encoded[0, :3] == 0).all()
    if raw[:3].isnan().all():
        assert encoded[0, 3] == 0


def test_encoding_in_blocks_gives_the_same_bits() -> None:
    _, schema, raw = example(rows=70_000)
    encoder = Encoder.fit(raw, schema, halves(len(raw)))
    assert torch.equal(encoded(encoder, torch.split(raw, 9_999), len(raw)), encoder(raw))


SCHEMAS = {
    "all kinds": example()[1],
    "numbers only": Schema((Column("x", "number"),), "y", (0, 1)),
    "categories only": Schema((Column("c", "category", ("a", "b"), True),), "y", (0, 1)),
}


@pytest.mark.parametrize("pieces", [0, 5])
def test_some_members_are_encoded_as_among_all(pieces: int) -> None:
    _, schema, raw = example()
    few_values = [torch.arange(3), *halves(len(raw))]  # of which three values make fewer pieces
    encoder = Encoder.fit(raw, schema, few_values, pieces)
    assert torch.equal(encoder.of([0])(raw), encoder(raw)[:1])
    assert torch.equal(encoder.of([2, 1])(raw), encoder(raw)[[2, 1]])


@pytest.mark.parametrize("pieces", [0, 2])
@pytest.mark.parametrize("name", SCHEMAS)
def test_encoder_can_be_exported_with_any_number_of_rows(name: str, pieces: int) -> None:
    schema = SCHEMAS[name]
    random = torch.Generator().manual_seed(0)
    raw = torch.randint(-1, 2, (20, len(schema.columns)), generator=random).double()
    raw[torch.rand(raw.shape, generator=random) < 0.2] = torch.nan
    encoder = Encoder.fit(raw, schema, halves(20), pieces)
    program = torch.export.export(
        encoder, (raw[:4],), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)
    )
    exported = program.module()
    for rows in (0, 1, 2, 20):
        assert torch.equal(exported(raw[:rows]), encoder(raw[:rows]))
    other = Encoder.fit(raw, schema, halves(20)[::-1], pieces)
    exported.load_state_dict(other.state_dict())
    assert torch.equal(exported(raw), other(raw))


VALUES = {
    "numbers": st.floats(allow_nan=True, allow_infinity=True),
    "integers": st.integers(-(2**63), 2**63 - 1),
    "words": st.text(max_size=4),
    "dates": st.dates(),
    "booleans": st.booleans(),
    "spelled": st.one_of(st.floats().map(str), st.sampled_from(["yes", "no", "", "9:30"])),
}
COLUMNS = st.sampled_from(sorted(VALUES)).flatmap(
    lambda name: st.lists(st.none() | VALUES[name], min_size=8, max_size=8)
)


@settings(max_examples=100)
@given(columns=st.lists(COLUMNS, min_size=1, max_size=5), cut=st.integers(2, 7))
def test_any_table_has_a_finite_encoding_of_the_promised_width(
    columns: list[list[Any]], cut: int
) -> None:
    table = pa.table({f"c{i}": pa.array(column) for i, column in enumerate(columns)})
    table = table.append_column("y", pa.array([0, 1] * 4))
    table = table.append_column("informs", pa.array(range(8)))
    schema, left_out = infer_schema(table, "y", training=np.arange(8) < cut)
    assert len(schema.columns) + len(left_out) == len(columns) + 1
    raw = to_raw(table, schema)
    assert raw.shape == (8, len(schema.columns))
    assert not np.isinf(raw).any()
    encoded = Encoder.fit(torch.from_numpy(raw), schema, [torch.arange(cut)])(torch.from_numpy(raw))
    assert encoded.shape == (1, 8, schema.width)
    assert encoded.dtype == torch.float32
    assert torch.isfinite(encoded).all()
    in_pieces = Encoder.fit(torch.from_numpy(raw), schema, [torch.arange(cut)], pieces=3)
    assert torch.isfinite(in_pieces(torch.from_numpy(raw))).all()
    numbers = len(schema.numeric)
    position = numbers
    for index, column in enumerate(schema.columns):
        indicators = encoded[0, :, position : position + len(column.categories)]
        position += len(column.categories)
        if column.kind == "category":
            seen = raw[:, index] >= 0
            assert indicators.sum(1).tolist() == seen.astype(float).tolist()
    assert encoded[0, :, numbers:].unique().tolist() in ([], [0], [1], [0, 1])


def test_values_that_are_not_of_their_columns_kind_are_counted() -> None:
    schema = Schema((Column("x", "number"), Column("b", "boolean")), "y", (0, 1))
    assert misfits(pa.table({"x": ["nan", "-"], "b": [0, 1]}), schema) == []
    of_x, of_b = misfits(pa.table({"x": ["1", "far", "far"], "b": [None, 2, 1]}), schema)
    assert of_x.rows.tolist() == [1, 2]
    assert of_b.rows.tolist() == [1]
    assert str(of_x) == "column 'x': 2 values are each no number ('far')"


def test_positive_of_another_type_is_named() -> None:
    table = pa.table({"y": ["malignant", "benign"]})
    with pytest.raises(UserError, match="'malignan'; did you mean 'malignant'"):
        labels_of(read_labels(table["y"], "y"), "y", "malignan")


# Arrays ------------------------------------------------------------------------------------------


def of_arrays(raw: np.ndarray, rows: list[torch.Tensor], as_columns: bool) -> torch.nn.Module:
    schema = Schema((), "label", (0, 1), Inputs(raw.shape[1:], raw.dtype.name))
    return encoder_for(torch.from_numpy(raw), schema, rows, as_columns)


@pytest.mark.parametrize("dtype", ["float32", "uint8", "int64"])
def test_arrays_as_columns_are_those_of_scikit_learn(dtype: str) -> None:
    raw = (np.random.default_rng(0).normal(size=(50, 2, 3)) * 30 + 100).astype(dtype)
    raw[:, 1, 1] = 7  # without spread
    rows = halves(len(raw))
    encoder = of_arrays(raw, rows, as_columns=True)
    found = encoder(torch.from_numpy(raw))
    assert found.dtype == torch.float32
    flat = raw.reshape(50, 6)
    expected = [StandardScaler().fit(flat[part.numpy()]).transform(flat) for part in rows]
    np.testing.assert_allclose(found, np.clip(expected, -10, 10), atol=2e-5)
    assert torch.equal(encoded(encoder, [torch.from_numpy(raw)], len(raw)), found)
    assert encoder(torch.from_numpy(raw[:0])).shape == (2, 0, 6)


def test_arrays_for_a_network_of_their_own_stay_as_they_are() -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 2, 2), dtype=np.uint8)
    given = of_arrays(images, [torch.arange(4)] * 3, as_columns=False)(torch.from_numpy(images))
    assert torch.equal(given, torch.from_numpy(images / 255).float().unsqueeze(0))
    ids = np.arange(6).reshape(2, 3)
    same = of_arrays(ids, [torch.arange(2)], as_columns=False)(torch.from_numpy(ids))
    assert torch.equal(same, torch.from_numpy(ids).unsqueeze(0))
    assert same.dtype == torch.int64


def test_statistics_of_arrays_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = np.random.default_rng(0).normal(size=(64, 5)).astype(np.float32)
    whole = of_arrays(raw, [torch.arange(64)], as_columns=True).state_dict()
    monkeypatch.setattr(encoding, "_NUMBERS_AT_ONCE", 37)
    for name, value in of_arrays(raw, [torch.arange(64)], as_columns=True).state_dict().items():
        torch.testing.assert_close(value, whole[name], rtol=1e-14, atol=1e-14)
