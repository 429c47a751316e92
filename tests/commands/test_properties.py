"""Generated configurations and tables: either it works or it is refused with a message.

`PIPELINE_EXAMPLES=5000 pytest -m slow -n 0 tests/test_properties.py` draws more of them.
"""

import csv
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pipeline import __main__ as command_line
from pipeline import config as configuration
from pipeline.common.errors import UserError
from pipeline.data import prepared as data
from tests.soundness import assert_sound

MANY = int(os.environ.get("PIPELINE_EXAMPLES", "1000"))
LOOSE = {
    "suppress_health_check": list(HealthCheck),
    # Explaining a failure traces every line of a whole run.
    "phases": [Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
}

# Configurations ----------------------------------------------------------------------------------

number = st.one_of(
    st.integers(-2, 300),
    st.floats(0, 1),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0, 1, 2**31, 2**63, 10**30, 1e-300, 1e38, 1e39]),
)
word = st.one_of(
    st.sampled_from(["SGD", "Adam", "relu", "tpe", "auto", "cuda", "", "null", "1e-3", "..", "y"]),
    st.text(max_size=8),
)
scalar = st.one_of(st.none(), st.booleans(), number, word)
range_ = st.one_of(
    st.fixed_dictionaries(
        {"low": number, "high": number},
        optional={"log": st.booleans(), "step": number, "choice": st.lists(scalar, max_size=2)},
    ),
    st.fixed_dictionaries({"choice": st.lists(scalar | st.lists(number, max_size=2), max_size=3)}),
)
junk = st.recursive(
    scalar | range_,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(word, below, max_size=3),
    max_leaves=6,
)
ARGUMENTS = ["lr", "momentum", "betas", "eps", "weight_decay", "nesterov", "alpha", "d", "fused"]
optimizer = st.fixed_dictionaries(
    {"name": st.sampled_from(["SGD", "Adam", "Adagrad", "Adafactor", "Rprop", "LBFGS"]) | scalar},
    optional=dict.fromkeys(ARGUMENTS, junk),
)
SECTIONS: dict[str, Any] = {
    "data": ["source", "sha256", "target", "positive", "drop", "test"],
    "validation": ["folds", "repeats", "fraction"],
    "model": ["hidden", "activation", "dropout", "batch_norm"],
    "training": ["epochs", "batch_size", "patience", "device"],
    "search": ["trials", "objective", "sampler", "pruner"],
    "registry": ["name"],
}
wild = st.fixed_dictionaries(
    {"data": st.fixed_dictionaries({"source": word, "target": word})},
    optional={
        "experiment": scalar,
        "seed": scalar,
        "optimizers": st.lists(optimizer, max_size=2) | junk,
        **{
            section: st.fixed_dictionaries({}, optional=dict.fromkeys(keys, junk)) | junk
            for section, keys in SECTIONS.items()
            if section != "data"
        },
    },
)
YAML = st.lists(
    st.sampled_from("ab01:-?,[]{}&*!|>'\"%@`#~.e+ \n\t\\")
    | st.sampled_from(["data", "<<: ", "!!", "\ufeff", "&a ", "*a", "\\u", "optimizers: ", ": "]),
    max_size=60,
).map("".join)


def load(text: str) -> configuration.Config | None:
    """The configuration, or None when it was refused with a message."""
    with suppress(UserError):
        return configuration.loads(text, "x.yaml")
    return None


def check_configuration(mapping: dict[str, Any]) -> None:
    config = load(json.dumps(mapping))
    if config is not None:
        assert load(config.to_yaml()) == config
        configuration.check(config.to_plain())
        assert all(isinstance(text, str) for text in config.flat().values())


@settings(max_examples=100, **LOOSE)
@given(wild)
def test_configurations(mapping: dict[str, Any]) -> None:
    check_configuration(mapping)


@settings(max_examples=200, **LOOSE)
@given(YAML | st.text(max_size=40))
def test_texts(text: str) -> None:
    load(text)
    load("data: {source: a.csv, target: y}\n" + text)


@pytest.mark.slow
@settings(max_examples=20 * MANY, **LOOSE)
@given(wild, YAML)
def test_many_configurations(mapping: dict[str, Any], text: str) -> None:
    check_configuration(mapping)
    load(text)


# Tables ------------------------------------------------------------------------------------------

CELLS = [
    st.floats(allow_nan=True, allow_infinity=True).map(repr),
    st.integers(-(10**20), 10**20).map(str),
    st.sampled_from(["", "NA", "nan", "inf", "-0", "1e999", "0x10", "1_000", "true", "f", "yes"]),
    st.sampled_from(["2024-02-30", "0000-00-00", "9999-12-31T23:59:59Z", "12:30", "99:99", "=1"]),
    st.text(max_size=4),
    st.sampled_from(["red", "blue"]),
]
NAMES = st.text(max_size=6) | st.sampled_from(["a", "b", "y", "prediction", "__index_level_0__"])


@st.composite
def csv_texts(draw: st.DrawFn, sound: bool = False) -> bytes:
    """Mostly a table with the label column y; unless it is to be sound, sometimes with a blow."""
    rows = draw(st.integers(24 if sound else 0, 24))
    names = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    names = [name for name in names if name != "y"]
    columns = []
    for _ in names:
        kind = draw(st.sampled_from(CELLS))
        columns.append(draw(st.lists(kind, min_size=rows, max_size=rows)))
    labels = draw(st.sampled_from([["0", "1"], ["a", "b", "c"], ["true", "false"], ["1.0"], ["é"]]))
    if sound:
        columns.append([str(row % 2) for row in range(rows)])
    else:
        label = st.sampled_from([*labels, *draw(st.sampled_from([[], ["", "9"]]))])
        columns.append(draw(st.lists(label, min_size=rows, max_size=rows)))
    text = io.StringIO()
    writer = csv.writer(text, quoting=draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])))
    writer.writerow([*names, "y"])
    writer.writerows(zip(*columns, strict=True))
    content = text.getvalue().encode("utf-8", "surrogatepass")
    if not sound and draw(st.integers(0, 3)) == 0:
        place = draw(st.integers(0, len(content)))
        blow = draw(st.binary(max_size=4) | st.sampled_from([b'"', b",", b"\n", b"\r", b"\0"]))
        content = content[:place] + blow + content[place + draw(st.integers(0, 3)) :]
    return content


TYPES = [
    *(pa.int64(), pa.uint64(), pa.float64(), pa.float16(), pa.bool_(), pa.string(), pa.date32()),
    *(pa.timestamp("ns"), pa.duration("us"), pa.time64("us"), pa.binary(), pa.null()),
    *(pa.decimal128(20, 3), pa.list_(pa.int64()), pa.dictionary(pa.int8(), pa.string())),
]


@st.composite
def parquet_files(draw: st.DrawFn) -> bytes:
    rows = draw(st.integers(0, 24))
    columns: dict[str, Any] = {}
    for name in draw(st.lists(NAMES, min_size=1, max_size=3, unique=True)):
        kind = draw(st.sampled_from(TYPES))
        numbers = draw(st.lists(st.integers(-3, 120), min_size=rows, max_size=rows))
        with suppress(pa.ArrowException, TypeError, ValueError):
            columns[name] = pa.array(numbers, pa.int64()).cast(kind, safe=False)
    label = draw(st.sampled_from([pa.int8(), pa.string(), pa.bool_(), pa.float32()]))
    ids = draw(st.lists(st.integers(0, 1), min_size=rows, max_size=rows))
    columns["y"] = pa.array(ids).cast(label)
    sink = io.BytesIO()
    pa.parquet.write_table(pa.table(columns), sink)
    content = sink.getvalue()
    if draw(st.integers(0, 3)) == 0:
        place = draw(st.integers(0, len(content) - 1))
        content = content[:place] + draw(st.binary(min_size=1, max_size=3)) + content[place + 1 :]
    return content


def prepare(content: bytes, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(content)
        config = configuration.check(
            {"data": {"source": str(path), "target": "y"}, "validation": {"folds": 2}}
        )
        root = Path(folder, "prepared")
        parts = None
        with suppress(UserError):
            parts = data.prepare(config, root)
        if parts is None:
            assert not any(root.glob("*"))
            return
        for rows, part in ((data.load_training(parts), "train"), (data.load_test(parts), "test")):
            assert rows.raw.shape == (parts.rows[part], len(parts.schema.columns))
            assert not np.isinf(rows.raw).any()
            assert np.bincount(rows.y, minlength=2).tolist() == list(parts.counts[part])


@settings(max_examples=60, **LOOSE)
@given(csv_texts())
def test_csv_tables(content: bytes) -> None:
    prepare(content, "t.csv")


@settings(max_examples=40, **LOOSE)
@given(parquet_files())
def test_parquet_tables(content: bytes) -> None:
    prepare(content, "t.parquet")


@pytest.mark.slow
@settings(max_examples=10 * MANY, **LOOSE)
@given(csv_texts(), parquet_files())
def test_many_tables(text: bytes, file: bytes) -> None:
    prepare(text, "t.csv")
    prepare(file, "t.parquet")


# Whole runs --------------------------------------------------------------------------------------

rate = st.one_of(
    st.sampled_from([0.0, 1e-30, 1e-3, 1.0, 1e10, 1e38]),
    st.just({"low": 1e-6, "high": 1e6, "log": True}),
)
NAMED = ["SGD", "Adagrad", "RMSprop", "Adam", "AdamW", "NAdam", "RAdam", "Adamax", "Adadelta"]
OTHERS = ["Adafactor", "ASGD", "Rprop"]
runnable = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32 - 1),
        "experiment": st.text(min_size=1, max_size=10),
        "validation": st.fixed_dictionaries(
            {"folds": st.integers(1, 3), "repeats": st.integers(1, 2)},
            optional={"fraction": st.floats(0.05, 0.9)},
        ),
        "model": st.fixed_dictionaries(
            {"hidden": st.sampled_from([[], [1], [3, 2], {"choice": [[2], []]}])},
            optional={
                "activation": st.sampled_from(["relu", "elu", "gelu", "tanh"]),
                "dropout": st.sampled_from([0.0, 0.5, 0.999]),
                "batch_norm": st.booleans(),
            },
        ),
        "training": st.fixed_dictionaries(
            {"epochs": st.integers(1, 3), "batch_size": st.sampled_from([1, 2, 3, 64, 10**9])},
            optional={"patience": st.sampled_from([None, 1])},
        ),
        "optimizers": st.lists(
            st.fixed_dictionaries({"name": st.sampled_from(NAMED + OTHERS), "lr": rate}),
            min_size=1,
            max_size=2,
        ),
        "search": st.fixed_dictionaries(
            {
                "trials": st.integers(1, 3),
                "sampler": st.sampled_from(["tpe", "random", "qmc"]),
                "pruner": st.sampled_from(["none", "halving"]),
                "objective": st.sampled_from(["val_accuracy", "val_loss"]),
            }
        ),
    }
)


@pytest.fixture(scope="module")
def place(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder with a store; all examples share it."""
    folder = tmp_path_factory.mktemp("place")
    shutil.copy(empty_store, folder / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        yield folder


def check_run(config: dict[str, Any], content: bytes) -> None:
    Path("t.csv").write_bytes(content)
    Path("c.yaml").write_text(json.dumps({**config, "data": {"source": "t.csv", "target": "y"}}))
    assert command_line.main(["run", "--config", "c.yaml", "--fresh"]) in (0, 2)


@settings(max_examples=2, derandomize=True, **LOOSE)
@given(runnable, csv_texts(sound=True))
def test_runs(place: Path, config: dict[str, Any], content: bytes) -> None:
    check_run(config, content)
    assert_sound(place / "mlflow.db")


@pytest.mark.slow
@settings(max_examples=MANY, **LOOSE)
@given(runnable, csv_texts(sound=True) | csv_texts())
def test_many_runs(place: Path, config: dict[str, Any], content: bytes) -> None:
    check_run(config, content)
    assert_sound(place / "mlflow.db")
