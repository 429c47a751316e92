import contextlib
import datetime
import decimal
import json
import math
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.data.encoding import Encoder
from pipeline.data.schema import Schema
from pipeline.inference import InputError, ModelError, TabularModel, load
from pipeline.inference.program import read_program
from pipeline.inference.rows import MISSING
from pipeline.models.export import MLPEnsemble, export
from pipeline.models.flavor import save_model
from pipeline.models.mlp import MLP
from tests.small_model import (
    COLUMNS,
    NAMES,
    RAW,
    SmallModel,
    make_rows,
    make_schema,
    shared_program,
    to_raw,
)

SCHEMA = make_schema(["no", "yes"])
NUMBER, BOOLEAN, DATE, CATEGORY = COLUMNS[0], COLUMNS[2], COLUMNS[3], COLUMNS[4]


def column_raw(column: dict[str, Any], values: Any) -> list[float]:
    raw = to_raw(pd.DataFrame({column["name"]: values}), make_schema([0, 1], [column]))
    return list(raw[:, 0])


def same(found: Any, expected: Any) -> bool:
    return np.array_equal(np.asarray(found), np.asarray(expected, dtype=float), equal_nan=True)


@pytest.fixture(scope="module")
def model() -> TabularModel:
    return TabularModel(SmallModel(5, 2), SCHEMA)


# to_raw ------------------------------------------------------------------------------------------


def test_raw_values_of_every_kind() -> None:
    raw = to_raw(make_rows(), SCHEMA)
    assert raw.dtype == np.float64
    assert raw.flags.c_contiguous
    np.testing.assert_allclose(raw, RAW, rtol=1e-15)


def test_columns_by_name_in_any_order_and_others_ignored() -> None:
    rows = make_rows()
    shuffled = rows[["colour", "income", "since", "age", "member"]].assign(other="x", **{"1": 1})
    assert same(to_raw(shuffled, SCHEMA), to_raw(rows, SCHEMA))


def test_the_frame_is_left_as_it_was() -> None:
    frame = pd.DataFrame({"age": [1.0, np.inf]})
    to_raw(frame, make_schema([0, 1], [NUMBER]))
    assert list(frame["age"]) == [1.0, np.inf]


@pytest.mark.parametrize(
    "convert",
    [
        lambda frame: frame.convert_dtypes(),
        lambda frame: frame.convert_dtypes(dtype_backend="pyarrow"),
        lambda frame: frame.astype(object),
        lambda frame: frame.astype(object).where(frame.notna(), None),
        lambda frame: frame.astype(object).where(frame.notna(), pd.NA),
        lambda frame: frame.astype({"colour": "category", "member": "category", "age": "category"}),
        lambda frame: frame.astype({"age": "float32", "since": "datetime64[s]"}),
        lambda frame: frame.astype({"age": "uint8", "since": "datetime64[ns]"}),
        lambda frame: frame.assign(since=frame["since"].dt.tz_localize("UTC")),
        lambda frame: frame.assign(since=frame["since"].astype(str)),
        lambda frame: pa.Table.from_pandas(frame).to_pandas(types_mapper=pd.ArrowDtype),
        lambda frame: frame.astype({"age": str, "income": str}),
    ],
)
def test_dtypes_do_not_matter(convert: Any) -> None:
    assert same(to_raw(convert(make_rows()), SCHEMA), to_raw(make_rows(), SCHEMA))


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NaT, pd.NA, np.datetime64("NaT")])
@pytest.mark.parametrize("column", COLUMNS, ids=NAMES)
def test_missing_values_in_any_kind(column: dict[str, Any], missing: Any) -> None:
    for present in ({"number": 2, "boolean": 1, "date": "1970-01-03", "category": "red"},):
        value = present[column["kind"]]
        raw = column_raw(column, pd.Series([missing, value, missing], dtype=object))
        assert math.isnan(raw[0])
        assert math.isnan(raw[2])
        assert raw[1] == {"number": 2, "boolean": 1, "date": 2, "category": 2}[column["kind"]]
    assert same(column_raw(column, pd.Series([missing], dtype=object)), [np.nan])


def test_numbers() -> None:
    values = [
        1,
        2.5,
        True,
        "3.5",
        " 4 ",
        decimal.Decimal("5.25"),
        np.float32(0.5),
        2**70,
        "",
        -np.inf,
    ]
    raw = column_raw(NUMBER, pd.Series(values, dtype=object))
    assert same(raw, [1, 2.5, 1, 3.5, 4, 5.25, 0.5, 2.0**70, np.nan, np.nan])
    assert column_raw(NUMBER, np.array([True, False])) == [1, 0]
    assert column_raw(NUMBER, ["9:30", "23:59:59.5"]) == [34200, 86399.5]
    assert column_raw(NUMBER, [datetime.time(9, 30), datetime.timedelta(hours=1)]) == [34200, 3600]
    assert same(column_raw(NUMBER, pd.to_timedelta(["1D", None])), [86400, np.nan])
    assert column_raw(NUMBER, np.array([2**63 + 2048], dtype=np.uint64)) == [2.0**63 + 2048]
    decimals = pd.array([decimal.Decimal("1.5"), None], dtype=pd.ArrowDtype(pa.decimal128(4, 2)))
    assert same(column_raw(NUMBER, decimals), [1.5, np.nan])


def test_booleans() -> None:
    values = [True, False, 1, 0, 1.0, "true", "False", "TRUE", " 0", "1", np.True_, ""]
    raw = column_raw(BOOLEAN, pd.Series(values, dtype=object))
    assert same(raw, [1, 0, 1, 0, 1, 1, 0, 1, 0, 1, 1, np.nan])
    assert same(column_raw(BOOLEAN, [1.0, np.nan, 0.0]), [1, np.nan, 0])
    assert column_raw(BOOLEAN, ["yes", "NO", "t", "off"]) == [1, 0, 1, 0]
    assert column_raw(BOOLEAN, np.array([1, 0])) == [1, 0]


def test_dates() -> None:
    values = [
        "1970-01-02",
        "1970-01-01T12:00:00",
        "1970-01-01 00:00:00+02:00",
        datetime.date(1970, 1, 2),
        datetime.datetime(1969, 12, 31, 18),
        datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=6))),
        pd.Timestamp("1970-01-02", tz="Asia/Tokyo"),
        np.datetime64("1970-01-03"),
        " ",
    ]
    raw = column_raw(DATE, pd.Series(values, dtype=object))
    expected = [1, 0.5, -2 / 24, 1, -0.25, -0.25, 1 - 9 / 24, 2, np.nan]
    np.testing.assert_allclose(raw, expected, rtol=1e-15, atol=1e-15)
    arrow = pd.array([datetime.date(1970, 1, 5), None], dtype=pd.ArrowDtype(pa.date32()))
    assert same(column_raw(DATE, arrow), [4, np.nan])
    assert column_raw(DATE, [datetime.date(9999, 12, 31)]) == [2932896]


def test_fractions_of_a_second() -> None:
    raw = column_raw(DATE, pd.to_datetime(["2024-01-01T06:00:00.000001"]))
    assert raw[0] - 19723.25 == pytest.approx(1e-6 / 86400, abs=4e-12)


def test_categories() -> None:
    values = ["red", "blue", "green", None, 3, 3.0, "3", True, "Red", ""]
    raw = column_raw(CATEGORY, pd.Series(values, dtype=object))
    assert same(raw, [2, 1, -1, np.nan, 0, 0, 0, -1, -1, np.nan])
    assert same(column_raw(CATEGORY, pd.array([3, None], dtype="Int64")), [0, np.nan])
    assert same(column_raw(CATEGORY, [3.0, np.nan, 3.5]), [0, np.nan, -1])
    assert same(column_raw(CATEGORY, [np.nan, np.nan]), [np.nan, np.nan])
    unused = pd.Categorical(["blue", None, "x"], categories=["red", "x", "blue"])
    assert same(column_raw(CATEGORY, unused), [1, np.nan, -1])
    truth = {**CATEGORY, "categories": ["false", "true"]}
    assert column_raw(truth, [True, False]) == [1, 0]
    coded = pa.array(["red", None]).dictionary_encode()
    assert same(column_raw(CATEGORY, pd.array(coded, dtype=pd.ArrowDtype(coded.type))), [2, np.nan])


CELLS = st.one_of(st.none(), st.sampled_from([float("nan"), pd.NA, pd.NaT]))
NUMBERS = st.one_of(st.integers(-(2**60), 2**60), st.floats(), st.booleans())
WORDS = st.one_of(st.text(max_size=3), st.sampled_from(["red", "blue"]))


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=st.lists(
        st.tuples(
            st.one_of(CELLS, NUMBERS), st.one_of(CELLS, st.booleans()), st.one_of(CELLS, WORDS)
        ),
        max_size=12,
    )
)
def test_cell_by_cell(rows: list[tuple[Any, Any, Any]]) -> None:
    """The same as a plain reading of each cell, whatever stands beside it."""
    frame = pd.DataFrame(rows, columns=["age", "member", "colour"], dtype=object)
    known = CATEGORY["categories"]

    def plain(value: Any, kind: str) -> float:
        if value is None or value is pd.NA or value is pd.NaT or value != value:
            return math.nan
        if kind == "category":
            word = value.strip() if isinstance(value, str) else value
            if str(word).lower() in MISSING:
                return math.nan
            return float(known.index(word)) if word in known else -1.0
        return float(value) if math.isfinite(value) else math.nan

    expected = [
        [plain(age, "number"), plain(member, "boolean"), plain(colour, "category")]
        for age, member, colour in rows
    ]
    raw = to_raw(frame, make_schema([0, 1], [NUMBER, BOOLEAN, CATEGORY]))
    assert same(raw, np.array(expected, dtype=float).reshape(len(rows), 3))


@pytest.mark.parametrize(
    ("column", "values", "expected"),
    [
        (NUMBER, ["1", "old", "new"], "column 'age': expected a number; got 'old' (str) in row 1"),
        (NUMBER, ["1", "old", "new"], "and in 1 more row"),
        (NUMBER, pd.to_datetime(["2020-01-01"]), "got Timestamp('2020-01-01 00:00:00')"),
        (NUMBER, [b"1"], "got b'1' (bytes)"),
        (NUMBER, [1 + 2j], "(complex128)"),
        (NUMBER, [[1], [2]], "got [1] (list) in row 0, and in 1 more row"),
        (NUMBER, ["24:61"], "got '24:61' (str)"),
        (
            BOOLEAN,
            [0, 2],
            "column 'member': expected true or false (or yes, no, 1, 0); got 2 (int64)",
        ),
        (BOOLEAN, ["maybe"], "got 'maybe' (str)"),
        (BOOLEAN, [datetime.date(2020, 1, 1)], "expected true or false"),
        (DATE, [20200101], "column 'since': expected a date"),
        (DATE, ["31/05/2024"], "got '31/05/2024' (str)"),
        (DATE, [{"year": 2020}], "(dict)"),
        (DATE, [datetime.time(1)], "(time)"),
        (CATEGORY, [["red"]], "column 'colour': expected text; got ['red'] (list)"),
        (CATEGORY, pd.to_datetime(["2020-01-01"]), "expected text"),
        (CATEGORY, [b"red"], "expected text"),
        (CATEGORY, ["x", "y" * 100, {"a": "z" * 100}], "zzz... (dict) in row 2"),
    ],
)
def test_wrong_types_are_named(column: dict[str, Any], values: Any, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        column_raw(column, values)
    assert expected in str(caught.value)
    assert len(str(caught.value)) < 250


def test_every_wrong_column_is_named_at_once() -> None:
    rows = make_rows().assign(age="x", member="maybe", since=5)
    with pytest.raises(InputError) as caught:
        to_raw(rows, SCHEMA)
    assert [problem.split("'")[1] for problem in caught.value.problems] == [
        "age",
        "member",
        "since",
    ]


def test_missing_columns_are_named_at_once() -> None:
    with pytest.raises(InputError, match="columns missing: 'income', 'colour'; the rows have: "):
        to_raw(make_rows()[["since", "age", "member"]], SCHEMA)


def test_a_column_given_twice() -> None:
    rows = make_rows()
    twice = pd.concat([rows, rows[["age"]]], axis=1)
    with pytest.raises(InputError, match="more than once: 'age'"):
        to_raw(twice, SCHEMA)
    others_twice = rows.assign(z=1).set_axis([*NAMES, "z"], axis=1)
    others_twice = pd.concat([others_twice, others_twice[["z"]]], axis=1)
    assert same(to_raw(others_twice, SCHEMA), to_raw(rows, SCHEMA))


# predict -----------------------------------------------------------------------------------------


def test_prediction_and_probability(model: TabularModel) -> None:
    rows = make_rows()
    found = model.predict(rows)
    expected = SmallModel(5, 2)(torch.tensor(RAW, dtype=torch.float64)).detach().numpy()
    assert list(found.columns) == ["prediction", "probability"]
    assert found.index.equals(rows.index)
    np.testing.assert_allclose(found["probability"], expected[:, 1], atol=1e-6)
    assert list(found["prediction"]) == ["yes" if p > 0.5 else "no" for p in expected[:, 1]]


@pytest.mark.parametrize(
    "labels", [["a", "b", "c"], [3, 5, 9], [0.5, 1.5, 2.5], ["no", "yes"], [0, 1], [False, True]]
)
def test_labels_come_back_as_they_stood(labels: list[Any]) -> None:
    model = TabularModel(SmallModel(5, len(labels)), make_schema(labels))
    found = model.predict(make_rows())
    probabilities = model.probabilities(make_rows())
    assert probabilities.dtype == np.float32
    assert [type(value) for value in found["prediction"].tolist()] == [type(labels[0])] * 4
    expected = [labels[i] for i in probabilities.argmax(axis=1)]
    assert found["prediction"].tolist() == expected
    if len(labels) > 2:
        names = [f"probability_{label}" for label in labels]
        assert list(found.columns) == ["prediction", *names]
        assert np.array_equal(found[names].to_numpy(), probabilities)


def test_threshold(model: TabularModel) -> None:
    rows = make_rows()
    probability = model.predict(rows)["probability"]
    for threshold in (0, 0.3, 1, np.float64(0.7), float(probability.iloc[0])):
        found = model.predict(rows, {"threshold": threshold})["prediction"]
        assert list(found) == ["yes" if p > threshold else "no" for p in probability.tolist()]
    assert model.predict(rows, {"threshold": None}).equals(model.predict(rows, {}))


@pytest.mark.parametrize("threshold", [1.5, -0.1, "0.5", True, float("nan"), [0.5]])
def test_wrong_thresholds(model: TabularModel, threshold: Any) -> None:
    with pytest.raises(InputError, match="threshold must be a number from 0 to 1; got "):
        model.predict(make_rows(), {"threshold": threshold})


def test_unknown_parameters(model: TabularModel) -> None:
    with pytest.raises(InputError, match="unknown parameters: 'treshold'; known: threshold"):
        model.predict(make_rows(), {"treshold": 0.3})
    several = TabularModel(SmallModel(5, 3), make_schema([0, 1, 2]))
    with pytest.raises(InputError, match="more than two labels"):
        several.predict(make_rows(), {"threshold": 0.3})


def test_rows_as_dictionaries(model: TabularModel) -> None:
    rows = make_rows().astype(object).where(make_rows().notna(), None)
    expected = model.predict(rows).reset_index(drop=True)
    assert model.predict(rows.to_dict("list")).equals(expected)
    assert model.predict(rows.to_dict("records")).equals(expected)
    # as MLflow's server hands on records
    packed = [{k: np.array(v) for k, v in row.items()} for row in rows.to_dict("records")]
    assert model.predict(packed).equals(expected)


def test_tables_of_other_libraries(model: TabularModel) -> None:
    rows = make_rows().reset_index(drop=True)
    table = pa.Table.from_pandas(rows.assign(other=[[1], [2], [3], [4]]))
    assert model.predict(table).equals(model.predict(rows))
    with pytest.raises(InputError, match="columns missing: 'age'"):
        model.predict(table.drop(["age"]))
    polars = pytest.importorskip("polars")
    assert model.predict(polars.from_pandas(rows)[["since", *NAMES[:3], "colour"]]).equals(
        model.predict(rows)
    )


def test_the_schemas_own_threshold(model: TabularModel) -> None:
    rows = make_rows()
    probability = model.predict(rows)["probability"]
    own = TabularModel(model.module, {**SCHEMA, "threshold": 0.9})
    assert list(own.predict(rows)["prediction"]) == [
        "yes" if p > 0.9 else "no" for p in probability
    ]
    assert own.predict(rows, {"threshold": 0.5}).equals(model.predict(rows))


def test_no_rows_and_one_row(model: TabularModel) -> None:
    rows = make_rows()
    for empty in (rows[:0], pd.DataFrame({name: [] for name in NAMES}), {n: [] for n in NAMES}):
        found = model.predict(empty)
        assert list(found.columns) == ["prediction", "probability"]
        assert len(found) == 0
    pd.testing.assert_frame_equal(model.predict(rows[2:3]), model.predict(rows)[2:3])


@pytest.mark.parametrize("rows", [None, 5, "age", np.zeros((2, 5))])
def test_rows_that_are_no_table(model: TabularModel, rows: Any) -> None:
    with pytest.raises(InputError, match="rows must be a DataFrame"):
        model.predict(rows)
    with pytest.raises(InputError, match="do not make a table"):
        model.predict({"age": [1, 2], "income": [1]})
    with pytest.raises(InputError, match="columns missing: 'age'"):
        model.predict([[1, 2, 3, 4, 5]])


def test_many_rows_go_through_in_parts(model: TabularModel) -> None:
    rows = pd.concat([make_rows()] * 5000, ignore_index=True)
    found = model.predict(rows)
    assert len(found) == 20_000
    assert found[:4].equals(found[-4:].set_axis(range(4)))


# folders -----------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    save_model(
        path,
        program=shared_program(),
        schema=SCHEMA,
        input_example=make_rows(),
        requirements=["mlflow", "torch==2.0"],
    )
    return path


def test_a_folder_loads(folder: Path, model: TabularModel) -> None:
    pd.testing.assert_frame_equal(load(folder).predict(make_rows()), model.predict(make_rows()))


@pytest.mark.parametrize(("labels", "widths"), [(2, (6,)), (3, (6, 4)), (2, ())])
def test_the_program_is_what_torch_reads(
    tmp_path: Path, labels: int, widths: tuple[int, ...]
) -> None:
    """An ensemble over every kind of column, read here and by torch.export.load."""
    architecture = MLP(1, widths, 1 if labels == 2 else labels, "gelu", True)
    schema = Schema.from_dict({**make_schema(list(range(labels))), "columns": COLUMNS})
    raw = torch.tensor(RAW, dtype=torch.float64)
    encoder = Encoder.fit(raw, schema, [torch.arange(4), torch.arange(3)])
    architecture = replace(architecture, inputs=schema.width)
    size = architecture.size + sum(architecture.statistics)
    states = torch.rand((2, size), generator=torch.Generator().manual_seed(1))
    torch.export.save(
        export(MLPEnsemble(encoder, architecture, states), (5,)), tmp_path / "model.pt2"
    )
    program = read_program(tmp_path / "model.pt2")
    assert type(program).__name__ == "Program"
    module = torch.export.load(tmp_path / "model.pt2").module()
    for rows in (raw, raw[:1], raw[:0], raw.repeat(100, 1)):
        assert torch.equal(program(rows), module(rows))


def test_a_program_that_only_torch_reads(tmp_path: Path) -> None:
    class Sized(torch.nn.Module):
        def forward(self, raw: torch.Tensor) -> torch.Tensor:
            return torch.full((raw.shape[0], 2), 0.5) + 0 * raw[:, :2].nan_to_num().float()

    example = (torch.zeros((2, 5), dtype=torch.float64),)
    rows = ({0: torch.export.Dim("rows")},)
    torch.export.save(
        torch.export.export(Sized(), example, dynamic_shapes=rows), tmp_path / "model.pt2"
    )
    program = read_program(tmp_path / "model.pt2")
    assert program(torch.zeros((3, 5), dtype=torch.float64)).tolist() == [[0.5, 0.5]] * 3


ACTIVATIONS: list[Any] = [
    torch.nn.Threshold(0.1, 20.0),
    torch.nn.Softmin(dim=1),
    torch.nn.Softmax(dim=1),
    torch.nn.LogSoftmax(dim=1),
    *(
        getattr(torch.nn, name)()
        for name in torch.nn.modules.activation.__all__
        if name not in ("Threshold", "MultiheadAttention", "Softmin", "Softmax", "LogSoftmax")
        and name != "Softmax2d"  # of images
    ),
]


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda module: type(module).__name__)
def test_every_activation_of_torch_is_admitted(activation: Any, tmp_path: Path) -> None:
    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.activation = activation

        def forward(self, raw: torch.Tensor) -> torch.Tensor:
            return torch.softmax(self.activation(raw.float()), dim=1)

    raw = torch.linspace(-5, 5, 40, dtype=torch.float64).reshape(10, 4)
    program = torch.export.export(
        Network().eval(), (raw,), dynamic_shapes=({0: torch.export.Dim("rows")},)
    )
    torch.export.save(program, tmp_path / "model.pt2")
    read = read_program(tmp_path / "model.pt2")
    assert type(read).__name__ == "Program"
    assert torch.equal(read(raw[:7]), Network().eval()(raw[:7]))


def damage_version(folder: Path) -> None:
    (folder / "schema.json").write_text(json.dumps({**SCHEMA, "version": 2}))


def damage_labels(folder: Path) -> None:
    (folder / "schema.json").write_text(json.dumps({**SCHEMA, "labels": ["a", "b", "c"]}))


def damage_columns(folder: Path) -> None:
    (folder / "schema.json").write_text(json.dumps({**SCHEMA, "columns": COLUMNS[:4]}))


def damage_kind(folder: Path) -> None:
    (folder / "schema.json").write_text(json.dumps({**SCHEMA, "columns": [{"name": "a"}]}))


def damage_threshold(folder: Path) -> None:
    (folder / "schema.json").write_text(json.dumps({**SCHEMA, "threshold": 7}))


def cut_program(folder: Path) -> None:
    content = (folder / "model.pt2").read_bytes()
    (folder / "model.pt2").write_bytes(content[: len(content) // 2])


def flip_weights(folder: Path) -> None:
    with zipfile.ZipFile(folder / "model.pt2") as archive:
        weights = archive.read(next(n for n in archive.namelist() if n.endswith("weight_0")))
    content = (folder / "model.pt2").read_bytes()
    assert content.count(weights) == 1
    (folder / "model.pt2").write_bytes(content.replace(weights, bytes(len(weights))))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_version, "schema version 2 is unknown; this code reads version 1"),
        (damage_labels, "gives 2 probabilities, but schema.json has 3 labels"),
        (damage_columns, "model.pt2: damaged, or made for another schema"),
        (damage_kind, "schema.json: damaged"),
        (damage_threshold, "schema.json: damaged"),
        (lambda folder: (folder / "schema.json").unlink(), "schema.json: missing"),
        (lambda folder: (folder / "schema.json").write_text("{"), "schema.json: cannot be read"),
        (lambda folder: (folder / "schema.json").write_text("{}"), "it has no version"),
        (lambda folder: (folder / "schema.json").write_text("[" * 100_000), "cannot be read"),
        (lambda folder: (folder / "model.pt2").unlink(), "no model.pt2"),
        (lambda folder: (folder / "model.pt2").write_bytes(b""), "model.pt2: damaged"),
        (cut_program, "model.pt2: damaged"),
        (flip_weights, "model.pt2: damaged"),
    ],
)
def test_damaged_folders(folder: Path, damage: Any, message: str) -> None:
    damage(folder)
    with pytest.raises(ModelError) as caught:
        load(folder)
    assert message in str(caught.value)


def test_no_folder_at_all(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not the folder of a model"):
        load(tmp_path / "nowhere")


class Trap:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("trapped"),))


@pytest.mark.parametrize("where", ["sample_inputs", "weights", "constants", "extra"])
def test_a_pickle_in_the_archive_is_refused(
    folder: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pickle

    monkeypatch.chdir(folder)
    file = folder / "model.pt2"
    with zipfile.ZipFile(file) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    root = next(iter(records)).partition("/")[0]
    if where == "sample_inputs":
        torch.save(Trap(), folder / "trap")
        name = next(n for n in records if "sample_inputs" in n)
        records[name] = (folder / "trap").read_bytes()
    elif where == "weights":
        name = next(n for n in records if n.endswith("weights_config.json"))
        records[name] = records[name].replace(b'"use_pickle": false', b'"use_pickle": true')
        assert b'"use_pickle": true' in records[name]
    elif where == "constants":
        records[f"{root}/data/constants/opaque_obj_0"] = pickle.dumps(Trap())
    else:
        records[f"{root}/data/aotinductor/model/x.so"] = b"\x7fELF"
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in records.items():
            archive.writestr(name, content)
    if where == "sample_inputs":
        load(folder)  # which nobody reads
    else:
        with pytest.raises(ModelError):
            load(folder)
    assert not Path("trapped").exists()


TOUCH = "__import__('pathlib').Path('trapped').touch()"


def first_node(program: Any) -> Any:
    return program["graph_module"]["graph"]["nodes"][0]


def evaluated_size(program: Any) -> None:
    size = program["graph_module"]["graph"]["tensor_values"]["raw"]["sizes"][0]
    size["as_expr"]["expr_str"] = TOUCH


def evaluated_guard(program: Any) -> None:
    program["guards_code"] = [TOUCH + " is None"]


def called_function(program: Any) -> None:
    node = first_node(program)
    node["target"] = "torch.serialization.os.mkdir"
    node["inputs"] = [{"name": "path", "arg": {"as_string": "trapped"}, "kind": 1}]


def renamed_input(program: Any) -> None:
    def rename(value: Any) -> Any:
        if isinstance(value, dict):
            return {rename(key): rename(below) for key, below in value.items()}
        if isinstance(value, list):
            return [rename(one) for one in value]
        return f"raw={TOUCH}" if value == "raw" else value

    program.update(rename(program))


def operator_as_argument(program: Any) -> None:
    first_node(program)["inputs"][1]["arg"] = {"as_operator": "torch.serialization.os.mkdir"}


def other_containers(program: Any) -> None:
    signature = program["graph_module"]["module_call_graph"][0]["signature"]
    signature["in_spec"] = signature["in_spec"].replace("builtins.tuple", "os.system")


def custom_object(program: Any) -> None:
    graph = program["graph_module"]["graph"]
    graph["custom_obj_values"] = {"x": {"name": "x", "class_fqn": "os.system"}}


@pytest.mark.parametrize(
    "change",
    [
        evaluated_size,
        evaluated_guard,
        called_function,
        renamed_input,
        operator_as_argument,
        other_containers,
        custom_object,
    ],
)
def test_code_in_the_graph_is_refused(
    folder: Path, change: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch.export.load itself runs the first two."""
    monkeypatch.chdir(folder)
    rewrite(folder / "model.pt2", change)
    with pytest.raises(ModelError, match="is none of a graph of tensors"):
        load(folder)
    assert not Path("trapped").exists()
    if change in (evaluated_size, evaluated_guard):
        with contextlib.suppress(Exception):
            torch.export.load("model.pt2").module()(torch.zeros(2, 5, dtype=torch.float64))
        assert Path("trapped").exists()


def test_notes_in_the_graph_are_left_out(folder: Path, model: TabularModel) -> None:
    def note(program: Any) -> None:
        first_node(program)["metadata"] = {"stack_trace": f"\n{TOUCH}", "torch_fn": "a;b"}

    rewrite(folder / "model.pt2", note)
    pd.testing.assert_frame_equal(load(folder).predict(make_rows()), model.predict(make_rows()))


def test_compressed_and_doubled_records_are_refused(folder: Path) -> None:
    file = folder / "model.pt2"
    original = file.read_bytes()
    rewrite(file, lambda program: None, zipfile.ZIP_DEFLATED)
    with pytest.raises(ModelError, match="none of a graph with plain tensors"):
        load(folder)
    file.write_bytes(original)
    with zipfile.ZipFile(file, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(archive.namelist()[0], b"")
    with pytest.raises(ModelError, match="twice"):
        load(folder)


def rewrite(file: Path, change: Any, compression: int = zipfile.ZIP_STORED) -> None:
    """The archive with its graph changed in place by `change`."""
    with zipfile.ZipFile(file) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    name = next(name for name in records if name.endswith("/models/model.json"))
    program = json.loads(records[name])
    change(program)
    records[name] = json.dumps(program).encode()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for record, content in records.items():
            archive.writestr(record, content)
