import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.common.errors import UserError
from pipeline.config import (
    ACTIVATIONS,
    Choice,
    Config,
    FloatRange,
    IntRange,
    check,
    json_schema,
    load,
    loads,
    schema_text,
)
from pipeline.config.optimizer_table import OPTIMIZERS
from pipeline.config.sections import model_name
from pipeline.config.yaml_text import block_text

CONFIGS = Path(__file__).parents[2] / "configs"
DATA = "data: {source: a.csv, target: y}\n"

CONTRACT = """\
experiment: water-potability        # MLflow experiment, created when missing
seed: 0
data:
  source: data/water_potability.csv
  sha256: null
  target: Potability
  positive: null
  drop: []
  test: 0.25
validation:
  folds: 5
  repeats: 1
  fraction: 0.2
model:
  hidden: [64, 32]
  activation: relu
  dropout: 0.0
  batch_norm: false
training:
  epochs: 100
  batch_size: 64
  patience: 20
  device: auto
optimizers:
  - {name: SGD,     lr: {low: 1.0e-3, high: 1.0,    log: true}}
  - {name: Adagrad, lr: {low: 1.0e-3, high: 1.0,    log: true}}
  - {name: RMSprop, lr: {low: 1.0e-4, high: 1.0e-1, log: true}}
  - {name: Adam,    lr: {low: 1.0e-4, high: 1.0e-1, log: true}}
search:
  trials: 40
  objective: val_accuracy
  sampler: tpe
  pruner: none
registry:
  name: water-potability
  onnx: false
tracking:
  keep_models: all
"""


def problems_of(text: str | bytes) -> tuple[str, ...]:
    with pytest.raises(UserError) as error:
        loads(text, "x.yaml")
    return error.value.problems


# What stands below a good `data` line (line 1); the line, path and substance of the one problem.
WRONG: list[tuple[str, int, str, str]] = [
    ("trainning: {}", 2, "trainning", "unknown key; did you mean 'training'?"),
    ("zebra: 1", 2, "zebra", "unknown key; known are experiment, seed, data"),
    ("epochs: 5", 2, "epochs", "unknown key; did you mean 'training.epochs'?"),
    ("training:\n  epoch: 5", 3, "training.epoch", "unknown key; did you mean 'epochs'?"),
    ("training: 5", 2, "training", "must be a mapping of keys to values; got 5"),
    ("training: [1]", 2, "training", "must be a mapping of keys to values; got [1]"),
    ("training:", 2, "training", "must be a mapping of keys to values; got null"),
    ("seed: 1\nseed: 2", 3, "seed", "a key must be given once; it stands in line 2 already"),
    ("seed: -1", 2, "seed", "must be an integer in [0, 4294967296); got -1"),
    ("seed: 4294967296", 2, "seed", "must be an integer in [0, 4294967296)"),
    ("seed: 1.0", 2, "seed", "must be an integer in [0, 4294967296); got 1.0"),
    ("seed: true", 2, "seed", "got true"),
    ("seed: '1'", 2, "seed", "got '1'; write it without quotes"),
    ("seed: 1_000", 2, "seed", "got '1_000'"),
    ("experiment: ''", 2, "experiment", "must be text that is not empty; got ''"),
    ("experiment: 7", 2, "experiment", "got 7; put it in quotes"),
    ("experiment: " + "x" * 501, 2, "experiment", "at most 500 characters long; got 501"),
    ("registry: {name: a/b}", 2, "registry.name", "must be a name without '/'"),
    ("registry: {name: 'a:b'}", 2, "registry.name", "must be a name without '/'"),
    ("registry: {name: a@b}", 2, "registry.name", "must be a name without '/'"),
    ("registry: {name: ..}", 2, "registry.name", "blanks at its ends; got '..'"),
    ("registry: {name: ''}", 2, "registry.name", "must be a name"),
    ("validation: {folds: 0}", 2, "validation.folds", "must be an integer >= 1; got 0"),
    ("validation: {repeats: 0}", 2, "validation.repeats", "must be an integer in [1, 1000]; got 0"),
    ("validation: {fraction: 1}", 2, "validation.fraction", "must be a number in (0, 1); got 1"),
    ("validation: {fraction: 0}", 2, "validation.fraction", "must be a number in (0, 1); got 0"),
    (
        "validation:\n  folds: {low: 2, high: 5}",
        3,
        "validation.folds",
        "must be an integer >= 1; got {low: 2, high: 5}; a range cannot stand here",
    ),
    ("model:\n  hidden: 64", 3, "model.hidden", "must be a list of layer widths; got 64"),
    ("model: {hidden: [64, 0]}", 2, "model.hidden.1", "must be an integer >= 1; got 0"),
    ("model: {hidden: [64, 3.5]}", 2, "model.hidden.1", "must be an integer >= 1; got 3.5"),
    ("model: {hidden: [true]}", 2, "model.hidden.0", "must be an integer >= 1; got true"),
    ("model: {hidden: [1000000001]}", 2, "model.hidden.0", "must be at most 1000000000"),
    (
        "model:\n  hidden:\n    - 8\n    - {low: 0.5, high: 8}",
        5,
        "model.hidden.1.low",
        "must be an integer >= 1; got 0.5",
    ),
    (
        "model: {hidden: {low: 1, high: 8}}",
        2,
        "model.hidden",
        "must be a list of layer widths; got {low: 1, high: 8}, nor a range: {choice: [...]}",
    ),
    (
        "model: {hidden: {choice: [[8], [8, {low: 1, high: 2}]]}}",
        2,
        "model.hidden.choice.1.1",
        "got {low: 1, high: 2}; a range cannot stand here",
    ),
    ("model: {activation: rellu}", 2, "model.activation", "did you mean 'relu'?"),
    ("model: {activation: swish}", 2, "model.activation", "must be one of relu, leaky_relu"),
    ("model: {activation: {choice: [relu, tan]}}", 2, "model.activation.choice.1", "'tanh'?"),
    ("model: {dropout: 1}", 2, "model.dropout", "must be a number in [0, 1); got 1"),
    ("model: {dropout: -0.1}", 2, "model.dropout", "must be a number in [0, 1); got -0.1"),
    ("model: {dropout: .nan}", 2, "model.dropout", "must be finite"),
    ("model: {dropout: nan}", 2, "model.dropout", "a finite number is needed"),
    ("model: {dropout: {low: 0, high: 1}}", 2, "model.dropout.high", "in [0, 1); got 1"),
    (
        "model: {dropout: {low: 0.5, high: 0.1}}",
        2,
        "model.dropout",
        "`low <= high` must hold, but got (low=0.5, high=0.1)",
    ),
    ("model: {dropout: {low: 0, high: 0.5, log: true}}", 2, "model.dropout", "`low > 0` must hold"),
    (
        "model: {dropout: {low: 0.1, high: 0.5, log: true, step: 0.1}}",
        2,
        "model.dropout",
        "`log: true` and `step` exclude each other, but got step=0.1",
    ),
    ("model: {dropout: {low: 0, high: 0.5, step: 0}}", 2, "model.dropout", "`step > 0` must hold"),
    ("model: {dropout: {low: 0}}", 2, "model.dropout", "`low` and `high`; `high` is missing"),
    ("model: {dropout: {low: 0, hihg: 1, high: 0.5}}", 2, "model.dropout.hihg", "'high'?"),
    ("model: {dropout: {lo: 0}}", 2, "model.dropout", "nor a range: {low: ..., high: ..., log"),
    ("model: {dropout: {choice: []}}", 2, "model.dropout.choice", "at least one value; got []"),
    ("model: {dropout: {choice: 0.1}}", 2, "model.dropout.choice", "must be a list of values"),
    (
        "model: {dropout: {choice: [0, 0.0]}}",
        2,
        "model.dropout.choice.1",
        "must be given once; got 0.0 again",
    ),
    ("model: {dropout: {choice: [0.1, 1.5]}}", 2, "model.dropout.choice.1", "in [0, 1); got 1.5"),
    ("model: {dropout: {choice: [0], low: 0}}", 2, "model.dropout.low", "unknown key"),
    ("model: {batch_norm: yes}", 2, "model.batch_norm", "must be true or false; got 'yes'"),
    (
        "model: {batch_norm: true}\ntraining: {batch_size: 1}",
        3,
        "training.batch_size",
        "at least 2 with model.batch_norm",
    ),
    ("model: {batch_norm: 1}", 2, "model.batch_norm", "must be true or false; got 1"),
    ("model: {batch_norm: {low: 0, high: 1}}", 2, "model.batch_norm", "a range: {choice: [...]}"),
    ("training: {epochs: 0}", 2, "training.epochs", "must be an integer >= 1; got 0"),
    ("training: {epochs: 1e3}", 2, "training.epochs", "must be an integer >= 1; got 1000.0"),
    ("training: {epochs: 1:30}", 2, "training.epochs", "must be an integer >= 1; got '1:30'"),
    ("training: {batch_size: 0}", 2, "training.batch_size", "must be an integer >= 1; got 0"),
    ("training: {batch_size: null}", 2, "training.batch_size", "got null"),
    ("training: {patience: 0}", 2, "training.patience", "must be an integer >= 1 or null; got 0"),
    ("training: {patience: None}", 2, "training.patience", "got 'None'; YAML writes it null"),
    ("training: {device: gpu}", 2, "training.device", "must be one of auto, cpu, cuda, cuda:N"),
    ("training: {device: 'cuda:x'}", 2, "training.device", "got 'cuda:x'; did you mean 'cuda'?"),
    ("search: {trials: 0}", 2, "search.trials", "must be an integer >= 1; got 0"),
    ("search: {objective: accuracy}", 2, "search.objective", "did you mean 'val_accuracy'?"),
    ("search: {sampler: tpee}", 2, "search.sampler", "must be one of tpe, random, qmc, gp"),
    (
        "search: {pruner: null}",
        2,
        "search.pruner",
        "must be one of none, median, halving; got null",
    ),
    ("optimizers: []", 2, "optimizers", "must be a list of at least one optimizer; got []"),
    ("optimizers: {name: SGD}", 2, "optimizers", "must be a list of at least one optimizer; got"),
    ("optimizers:\n  - SGD", 3, "optimizers.0", "such as {name: SGD, lr: 0.1}; got 'SGD'"),
    ("optimizers:\n  - lr: 1", 3, "optimizers.0", "must have a `name`"),
    ("optimizers:\n  - nmae: SGD", 3, "optimizers.0.nmae", "unknown key; did you mean 'name'?"),
    ("optimizers:\n  - name: adam", 3, "optimizers.0.name", "did you mean 'Adam'?"),
    ("optimizers:\n  - name: LBFGS", 3, "optimizers.0.name", "(a closure)"),
    ("optimizers:\n  - name: [SGD]", 3, "optimizers.0.name", "must be the name of an optimizer"),
    (
        "optimizers:\n  - name: Adam\n  - name: SGD\n    lr: -1",
        5,
        "optimizers.1.lr",
        "must be a number >= 0; got -1",
    ),
    (
        "optimizers:\n  - name: SGD\n    lr:\n      low: 0\n      high: 1\n      log: true",
        4,
        "optimizers.0.lr",
        "`low > 0` must hold for `log: true`, but got (low=0.0, high=1.0)",
    ),
    ("optimizers:\n  - {name: SGD, fused: true}", 3, "optimizers.0.fused", "cannot be set"),
    ("optimizers:\n  - {name: SGD, nesterov: true}", 3, "optimizers.0.nesterov", "momentum > 0"),
    (
        "optimizers:\n  - name: Adam\n    betas:\n      - 0.9\n      - 1",
        6,
        "optimizers.0.betas.1",
        "must be a number in [0, 1); got 1",
    ),
]

# Whole files.
WRONG_DATA: list[tuple[str, int, str, str]] = [
    ("seed: 0", 1, "data", "must be given as a mapping with `source` and `target`"),
    ("seed: 0\ndata: a.csv", 2, "data", "must be a mapping of keys to values; got 'a.csv'"),
    ("seed: 0\ndata:\n  source: a.csv", 2, "data.target", "must be given"),
    (
        "data:\n  target: y\n  source: a.csv\n  test: http://me:pw@h/b.csv",
        4,
        "data.test",
        "must hold no password: the configuration is written to MLflow; got 'http://me:***@h/b.csv'",
    ),
    ("data:\n  target: y\n  source: 5", 3, "data.source", "must be a path, a URL or sklearn:NAME"),
    ("data:\n  target: 2020\n  source: a", 2, "data.target", "got 2020; put it in quotes"),
    ("data: {source: a, target: y, sha256: abc}", 1, "data.sha256", "64 hexadecimal digits"),
    ("data: {source: a, target: y, drop: b}", 1, "data.drop", "must be a list of column names"),
    ("data: {source: a, target: y, drop: [b, b]}", 1, "data.drop.1", "must be given once"),
    ("data: {source: a, target: y, drop: [y]}", 1, "data.drop.0", "must leave the target in"),
    ("data: {source: a, target: y, test: 0}", 1, "data.test", "must be a number in (0, 1), or a"),
    ("data: {source: a, target: y, test: true}", 1, "data.test", "got true"),
    ("data: {source: a, target: y, test: a}", 1, "data.test", "must be another file than"),
    ("data: {source: a, target: y, positive: [1]}", 1, "data.positive", "must be a label"),
    ("data: {source: a, target: y, positive: .inf}", 1, "data.positive", "must be finite"),
    ('data: {source: "a\\0", target: y}', 1, "data.source", "must be a path"),
]

ALL_WRONG = [(DATA + text, *rest) for text, *rest in WRONG] + WRONG_DATA


@pytest.mark.parametrize(("text", "line", "path", "substance"), ALL_WRONG)
def test_a_wrong_file_is_refused_with_line_path_and_rule(
    text: str, line: int, path: str, substance: str
) -> None:
    (problem,) = problems_of(text + "\n")
    assert problem.startswith(f"x.yaml:{line}: {path}: ")
    assert substance in problem


def test_all_problems_at_once_in_the_order_of_the_file() -> None:
    text = (
        "sed: 1\ndata: {target: y, test: 2}\nmodel:\n  hidden: [0, {low: 0, high: 0.5}]\n"
        "  hidden: 3\noptimizers:\n  - {name: SGD, lr: {low: -1, high: -1, lgo: 1}, betas: 1}\n"
    )
    assert [": ".join(problem.split(": ")[:2]) for problem in problems_of(text)] == [
        "x.yaml:1: sed",
        "x.yaml:2: data.source",
        "x.yaml:2: data.test",
        "x.yaml:4: model.hidden.0",
        "x.yaml:4: model.hidden.1.low",
        "x.yaml:4: model.hidden.1.high",
        "x.yaml:5: model.hidden",
        "x.yaml:7: optimizers.0.betas",
        "x.yaml:7: optimizers.0.lr.lgo",
        "x.yaml:7: optimizers.0.lr.low",
        "x.yaml:7: optimizers.0.lr.high",
    ]


def test_a_thousand_problems_are_cut_short() -> None:
    problems = problems_of(DATA + "".join(f"k{i}: 1\n" for i in range(1000)))
    assert len(problems) == 101
    assert problems[0].startswith("x.yaml:2: k0: ")
    assert problems[-1] == "and 900 problems more"


@pytest.mark.parametrize(
    ("content", "substance"),
    [
        (b"", "x.yaml: is empty; data.source and data.target must be given"),
        (b"# nothing\n", "x.yaml: is empty"),
        (b"\n- 1\n", "x.yaml:2: must be a mapping of keys to values; got [1]"),
        (b"data\n", "x.yaml:1: must be a mapping of keys to values; got 'data'"),
        (b"a: 1\n\tb: 2\n", "x.yaml:2: not YAML"),
        (b"a: \xff\n", "x.yaml:1: must be UTF-8"),
        (b"a: !!python/name:os.system\n", "x.yaml:1: tags are not read"),
    ],
)
def test_what_is_no_configuration_at_all(content: bytes, substance: str) -> None:
    assert problems_of(content)[0].startswith(substance)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "water.yaml").write_text(DATA)
    (tmp_path / "water.txt").write_text("")
    assert load(tmp_path / "water.yaml").data.target == "y"
    with pytest.raises(UserError, match=r"watre\.yaml: no such file; did you mean '.*water\.yaml'"):
        load(tmp_path / "watre.yaml")
    with pytest.raises(UserError, match="got a folder"):
        load(tmp_path)
    with pytest.raises(UserError, match="there is no folder"):
        load(tmp_path / "no" / "x.yaml")
    with pytest.raises(UserError, match="cannot be read"):
        load("x\0y")
    with pytest.raises(UserError, match="cannot be read"):
        load("x" * 5000)


def test_the_contract_is_read() -> None:
    config = loads(CONTRACT, "x.yaml")
    assert config.ranges() == {
        "optimizers.0.lr": FloatRange(1e-3, 1.0, log=True),
        "optimizers.1.lr": FloatRange(1e-3, 1.0, log=True),
        "optimizers.2.lr": FloatRange(1e-4, 1e-1, log=True),
        "optimizers.3.lr": FloatRange(1e-4, 1e-1, log=True),
    }
    written = yaml.safe_load(CONTRACT)
    written["validation"]["final"] = {"folds": 5, "repeats": 4}
    written["search"]["budget"] = "shared"
    written["registry"] |= {"model": "ensemble", "threshold": 0.5, "calibrate": True}
    assert config.to_plain() == written
    assert config.flat()["optimizers.0.lr"] == "{low: 0.001, high: 1.0, log: true}"
    assert config.flat()["model.hidden"] == "[64, 32]"
    assert config.flat()["data.sha256"] == "null"


def test_what_people_mean() -> None:
    config = loads(
        b"\xef\xbb\xbf" + b"experiment: 'on'\n"
        b"data: {source: a, target: no, positive: yes, drop: [off, 2024-01-02]}\n"
        b"training: {epochs: 010}\n"
        b"optimizers:\n  - {name: SGD, lr: 1e-4}\n  - {name: SGD, lr: 1, momentum: 0.9}\n",
        "x.yaml",
    )
    assert config.experiment == "on"
    assert config.data.target == "no"
    assert config.data.positive == "yes"
    assert config.data.drop == ("off", "2024-01-02")
    assert config.training.epochs == 10
    assert config.optimizers[0].arguments == {"lr": 1e-4}
    assert config.optimizers[1].arguments == {"lr": 1.0, "momentum": 0.9}


def test_everything_but_the_table_has_a_default() -> None:
    config = loads(DATA, "x.yaml")
    assert config.experiment == config.registry.name == "optimizer-search"
    assert [entry.name for entry in config.optimizers] == [
        "SGD",
        "Adagrad",
        "RMSprop",
        "Adam",
        "AdamW",
    ]
    assert config == check(config.to_plain())
    assert loads(DATA + "model: {hidden: []}\n", "x.yaml").model.hidden == ()


def test_a_configuration_cannot_be_changed() -> None:
    config = loads(DATA, "x.yaml")
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 1
    with pytest.raises(ValueError, match="frozen"):
        config.model.dropout = 0.5


@pytest.mark.parametrize(
    ("experiment", "name"),
    [("water", "water"), ("a/b: c?", "a-b- c-"), ("../x", "-x"), ("...", "optimizer-search")],
)
def test_the_model_is_named_after_the_experiment(experiment: str, name: str) -> None:
    text = f"experiment: {json.dumps(experiment)}\n"
    assert loads(text + DATA, "x.yaml").registry.name == name
    assert loads(text + DATA + "registry: {}\n", "x.yaml").registry.name == name
    assert loads(text + DATA + "registry: {name: own}\n", "x.yaml").registry.name == "own"


@settings(max_examples=100)
@given(st.text(min_size=1) | st.text("./:?@ a\n", min_size=1, max_size=6))
def test_mlflow_takes_every_name_that_is_accepted(name: str) -> None:
    from mlflow.store.artifact.utils.models import _parse_model_uri
    from mlflow.utils.validation import _validate_model_name

    derived = model_name(name)
    registry = {"name": name}
    mapping: dict[str, Any] = {"data": {"source": "a", "target": "y"}, "registry": registry}
    try:
        accepted = [derived, check(mapping).registry.name]
    except UserError:
        accepted = [derived]
    for one in accepted:
        registry["name"] = one
        assert check(mapping).registry.name == one
        _validate_model_name(one)
        parsed = _parse_model_uri(f"models:/{one}@champion")
        assert (parsed.name, parsed.alias) == (one, "champion")


# Configurations in the form of the file: each leaf is drawn with the value that a trial gives it.


def number(low: float, high: float) -> st.SearchStrategy[tuple[Any, Any]]:
    plain = st.floats(low, high)

    def with_range(ends: tuple[float, float]) -> st.SearchStrategy[tuple[Any, Any]]:
        first, last = sorted(ends)
        return st.tuples(st.just({"low": first, "high": last}), st.floats(first, last))

    return one_of(plain) | st.tuples(plain, plain).flatmap(with_range)


def integer(low: int, high: int) -> st.SearchStrategy[tuple[Any, Any]]:
    plain = st.integers(low, high)

    def with_range(ends: tuple[int, int]) -> st.SearchStrategy[tuple[Any, Any]]:
        first, last = sorted(ends)
        return st.tuples(
            st.just({"low": first, "high": last, "log": True}), st.integers(first, last)
        )

    return one_of(plain) | st.tuples(plain, plain).flatmap(with_range)


def one_of(plain: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, Any]]:
    choice = st.lists(plain, min_size=1, max_size=4, unique_by=repr).flatmap(
        lambda values: st.tuples(st.just({"choice": values}), st.sampled_from(values))
    )
    return plain.map(lambda value: (value, value)) | choice


def listed(items: list[tuple[Any, Any]]) -> tuple[Any, Any]:
    return [one for one, _ in items], [value for _, value in items]


def keyed(items: dict[str, tuple[Any, Any]]) -> tuple[Any, Any]:
    return {k: one for k, (one, _) in items.items()}, {k: value for k, (_, value) in items.items()}


def argument(name: str, key: str) -> st.SearchStrategy[tuple[Any, Any]]:
    default = OPTIMIZERS[name][key].default
    if isinstance(default, bool):
        return one_of(st.booleans())
    if isinstance(default, tuple):
        return st.tuples(number(0.0, 0.99), number(0.0, 0.99)).map(list).map(listed)
    return number(0.0, 0.99)


def entry(name: str) -> st.SearchStrategy[tuple[Any, Any]]:
    left_out = {"nesterov"}  # needs others
    arguments = {key: argument(name, key) for key in OPTIMIZERS[name] if key not in left_out}
    return st.fixed_dictionaries({"name": st.just((name, name))}, optional=arguments).map(keyed)


def section(**fields: st.SearchStrategy[tuple[Any, Any]]) -> st.SearchStrategy[tuple[Any, Any]]:
    return st.fixed_dictionaries({}, optional=fields).map(keyed)


hidden = st.lists(integer(1, 64), max_size=3).map(listed) | one_of(
    st.lists(st.integers(1, 64), max_size=3)
)
searched = st.tuples(
    section(
        hidden=hidden,
        activation=one_of(st.sampled_from(ACTIVATIONS)),
        dropout=number(0.0, 0.99),
        batch_norm=one_of(st.booleans()),
    ),
    section(
        epochs=integer(1, 1000),
        batch_size=integer(2, 512),
        patience=one_of(st.none() | st.integers(1, 100)),
        device=one_of(st.sampled_from(["cpu", "auto"])),
    ),
    st.lists(
        st.sampled_from(["SGD", "Adagrad", "RMSprop", "Adam", "AdamW", "NAdam"]).flatmap(entry),
        min_size=1,
        max_size=3,
    ).map(listed),
)


def as_file(model: Any, training: Any, optimizers: Any) -> dict[str, Any]:
    return {
        "seed": 3,
        "data": {"source": "a.csv", "target": "y", "drop": ["yes", "1e-4"]},
        "model": model,
        "training": training,
        "optimizers": optimizers,
        "registry": {"name": "7"},
    }


def at_path(value: Any, path: str) -> Any:
    for part in path.split("."):
        value = value[int(part) if isinstance(value, list) else part]
    return value


@settings(max_examples=40)
@given(searched, st.data())
def test_a_trial_is_the_same_file_with_every_range_replaced(
    parts: tuple[tuple[Any, Any], ...], data: st.DataObject
) -> None:
    file = as_file(*(part for part, _ in parts))
    replaced = as_file(*(values for _, values in parts))
    config = loads(block_text(file), "x.yaml")
    chosen = data.draw(st.integers(0, len(config.optimizers) - 1))
    paths = [
        path
        for path in config.ranges()
        if not path.startswith("optimizers.") or path.startswith(f"optimizers.{chosen}.")
    ]
    trial = config.at(chosen, {path: at_path(replaced, path) for path in paths})
    replaced["optimizers"] = [replaced["optimizers"][chosen]]
    assert trial == loads(block_text(replaced), "x.yaml")
    assert trial.ranges() == {}


@settings(max_examples=40)
@given(searched)
def test_a_configuration_written_out_is_read_back(parts: tuple[tuple[Any, Any], ...]) -> None:
    file = as_file(*(part for part, _ in parts))
    config = loads(block_text(file), "x.yaml")
    assert loads(config.to_yaml(), "y.yaml") == config
    assert yaml.safe_load(config.to_yaml()) == config.to_plain()
    assert check(config.to_plain()) == config
    VALIDATOR.validate(file)
    VALIDATOR.validate(config.to_plain())


@settings(max_examples=50)
@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=30),
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
)
def test_text_and_labels_are_read_back(text: str, label: Any) -> None:
    mapping = {"data": {"source": f"x{text}", "target": f"{text}x", "positive": label}}
    config = check(mapping)
    assert loads(config.to_yaml(), "y.yaml") == config
    assert type(loads(config.to_yaml(), "y.yaml").data.positive) is type(label)


def test_a_trial_needs_a_value_for_each_of_its_ranges() -> None:
    config = loads(CONTRACT, "x.yaml")
    assert config.at(1, {"optimizers.1.lr": 0.1}).optimizers[0].arguments == {"lr": 0.1}
    for values in ({}, {"optimizers.0.lr": 0.1}, {"optimizers.1.lr": 0.1, "model.dropout": 0.1}):
        with pytest.raises(ValueError, match=r"optimizers\.1\.lr"):
            config.at(1, values)
    for entry in (-1, 4):
        with pytest.raises(ValueError, match="from 0 to 3 needed"):
            config.at(entry, {})
    with pytest.raises(UserError, match=r"optimizers\.0\.lr: must be a number >= 0; got -1"):
        config.at(1, {"optimizers.1.lr": -1})


def test_an_entry_past_the_ninth_keeps_its_own_values() -> None:
    file = yaml.safe_load(CONTRACT)
    file["optimizers"] *= 4
    config = check(file)
    trial = config.at(1, {"optimizers.1.lr": 0.5})
    assert trial.optimizers[0].name == "Adagrad"
    assert config.at(11, {"optimizers.11.lr": 0.5}).optimizers[0].name == "Adam"


def test_ranges_of_every_kind_by_path() -> None:
    config = loads(
        DATA + "model: {hidden: [{low: 8, high: 64, log: true}, 16], dropout: {choice: [0, 0.5]}}\n"
        "training: {batch_size: {low: 32, high: 96, step: 32}}\n"
        "optimizers:\n  - {name: Adam, betas: [{low: 0.8, high: 0.9}, 0.999]}\n",
        "x.yaml",
    )
    assert config.ranges() == {
        "model.hidden.0": IntRange(8, 64, log=True),
        "model.dropout": Choice((0.0, 0.5)),
        "training.batch_size": IntRange(32, 96, step=32),
        "optimizers.0.betas.0": FloatRange(0.8, 0.9),
    }
    assert config.flat()["model.hidden"] == "[{low: 8, high: 64, log: true}, 16]"


# The shipped files.

VALIDATOR = jsonschema.Draft7Validator(json_schema())
SHIPPED = sorted(CONFIGS.rglob("*.yaml"))


def test_there_are_shipped_files() -> None:
    names = [path.name for path in SHIPPED]
    assert names == ["default.yaml", "lecture.yaml", "quick.yaml", "water.yaml"]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_a_shipped_file_is_right_and_says_how_to_run_it(path: Path) -> None:
    config = load(path)
    VALIDATOR.validate(config.to_plain())
    command, schema, *_ = path.read_text().splitlines()
    assert command.startswith("# mlflow run . --env-manager local")
    assert path.name == "default.yaml" or command.endswith(f" -P config=configs/{path.name}")
    assert schema == "# yaml-language-server: $schema=schema.json"


def test_the_lecture_has_nothing_to_search() -> None:
    config = load(CONFIGS / "lecture.yaml")
    assert config.ranges() == {}
    assert config.training.patience is None
    assert len(config.optimizers) == config.search.trials == 4


def test_the_committed_schema_is_the_one_that_is_printed() -> None:
    assert (CONFIGS / "schema.json").read_text(encoding="utf-8") == schema_text()
    VALIDATOR.check_schema(json_schema())


NOT_IN_SCHEMA = (  # what JSON Schema cannot say, or says by other means
    "batch_norm: true}\ntraining",
    "seed: 1\nseed: 2",
    "low: 0.5, high: 0.1",
    "low: 0, high: 0.5, log: true}",
    "low: 0\n",
    "nesterov",
    "drop: [y]",
    "test: a}",
    "1000000001",
    "seed: 1.0",  # an integer for JSON
    ":pw@",
    "1e3",
    ".nan",
    ".inf",
    "\\0",
)


@pytest.mark.parametrize(
    "text", [text for text, *_ in ALL_WRONG if not any(part in text for part in NOT_IN_SCHEMA)]
)
def test_the_schema_refuses_what_is_refused(text: str) -> None:
    from pipeline.config.yaml_text import parse

    node = parse(text, str, [])
    assert node is not None
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(node.plain())


def test_nothing_heavy_is_imported() -> None:
    heavy = "torch mlflow optuna sklearn scipy pandas numpy matplotlib plotly torchmetrics pyarrow"
    code = f"import sys, pipeline.config; print(set(sys.modules) & set({heavy.split()!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_a_configuration_can_be_sent_to_another_process() -> None:
    import pickle

    config = loads(CONTRACT, "x.yaml")
    again: Config = pickle.loads(pickle.dumps(config))
    assert again == config
