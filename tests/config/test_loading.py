import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from pipeline.common.errors import UserError
from pipeline.config import (
    Config,
    FloatRange,
    IntRange,
    check,
    from_mapping,
    json_schema,
    load,
    loads,
    schema_text,
    split_overrides,
)
from pipeline.config.yaml_text import parse

CONFIGS = Path(__file__).parents[2] / "configs"
DATA = "data: {source: a.csv, target: y}\n"


def problems_of(text: str | bytes) -> tuple[str, ...]:
    with pytest.raises(UserError) as error:
        loads(text, "x.yaml")
    return error.value.problems


# What stands below a good `data` line (line 1); the line, path and substance of the one problem.
WRONG: list[tuple[str, int, str, str]] = [
    ("trainning: {}", 2, "trainning", "unknown key; did you mean 'training'?"),
    ("zebra: 1", 2, "zebra", "unknown key; known are experiment, seed, data"),
    ("epochs: 5", 2, "epochs", "unknown key; did you mean 'training.epochs'?"),
    ("folds: 5", 2, "folds", "unknown key; did you mean 'validation.folds'?"),
    ("lr: 5", 2, "lr", "unknown key; did you mean 'optimizers.0.lr'?"),
    ("validation: {final: {fold: 5}}", 2, "validation.final.fold", "did you mean 'folds'?"),
    ("validation: {final: 5}", 2, "validation.final", "must be a mapping of keys to values; got 5"),
    ("optimizers:\n  - {name: SGD, lable: a}", 3, "optimizers.0.lable", "did you mean 'label'?"),
    ("training:\n  epoch: 5", 3, "training.epoch", "unknown key; did you mean 'epochs'?"),
    ("training: 5", 2, "training", "must be a mapping of keys to values; got 5"),
    ("training: [1]", 2, "training", "must be a mapping of keys to values; got [1]"),
    ("training:", 2, "training", "must be a mapping of keys to values; got null"),
    ("seed: 1\nseed: 2", 3, "seed", "a key must be given once; it stands in line 2 already"),
    ("seed: -1", 2, "seed", "greater than or equal to 0; got -1"),
    ("seed: 4294967296", 2, "seed", "less than 4294967296; got 4294967296"),
    ("seed: 1.0", 2, "seed", "must be a valid integer; got 1.0"),
    ("seed: true", 2, "seed", "got true"),
    ("seed: '1'", 2, "seed", "got '1'; write it without quotes"),
    ("seed: 1_000", 2, "seed", "got '1_000'"),
    ("experiment: ''", 2, "experiment", "must be text that is not empty; got ''"),
    ('experiment: "\\x85\\x1d"', 2, "experiment", "must be text that is not empty"),
    ("experiment: 7", 2, "experiment", "got 7; put it in quotes"),
    ("experiment: " + "x" * 501, 2, "experiment", "at most 500 characters; got 'xxx"),
    *(
        (
            f"registry: {{name: '{name}'}}",
            2,
            "registry.name",
            "must be a name of at most 250 characters without / : ? @, a first dot",
        )
        for name in ("", "a/b", "a:b", "a?b", "a@b", "..", " a")
    ),
    ("validation: {folds: 0}", 2, "validation.folds", "greater than or equal to 1; got 0"),
    ("validation: {repeats: 0}", 2, "validation.repeats", "greater than or equal to 1; got 0"),
    ("validation: {fraction: 1}", 2, "validation.fraction", "less than 1; got 1"),
    ("validation: {fraction: 0}", 2, "validation.fraction", "greater than 0; got 0"),
    (
        "validation:\n  folds: {low: 2, high: 5}",
        3,
        "validation.folds",
        "must be a valid integer; got {low: 2, high: 5}; a range cannot stand here",
    ),
    ("model:\n  hidden: 64", 3, "model.hidden", "must be a list; got 64"),
    ("model: {hidden: [64, 0]}", 2, "model.hidden.1", "greater than or equal to 1; got 0"),
    ("model: {hidden: [64, 3.5]}", 2, "model.hidden.1", "must be a valid integer; got 3.5"),
    ("model: {hidden: [true]}", 2, "model.hidden.0", "must be a valid integer; got true"),
    (
        "model: {hidden: [1000000001]}",
        2,
        "model.hidden.0",
        "or equal to 1000000000; got 1000000001",
    ),
    (
        "model:\n  hidden:\n    - 8\n    - {low: 0.5, high: 8}",
        5,
        "model.hidden.1.low",
        "must be a valid integer; got 0.5",
    ),
    (
        "model: {hidden: {low: 1, high: 8}}",
        2,
        "model.hidden",
        "must be a value or {choice: [...]}; got {low: 1, high: 8}",
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
    ("model: {name: mlpp}", 2, "model.name", "must be mlp, or a path such as nets.py:Net"),
    ("model: {name: 7}", 2, "model.name", "must be mlp, or a path such as nets.py:Net"),
    ("model: {nmae: mlp}", 2, "model.nmae", "unknown key; did you mean 'name'?"),
    ("model: {name: nets.py}", 2, "model.name", "must be a path such as nets.py:Net or"),
    ("model: {name: 'nets.py:'}", 2, "model.name", "must be a path such as nets.py:Net or"),
    ("model: {name: 'nets.py:3'}", 2, "model.name", "got 'nets.py:3'"),
    ("model: {name: n.N, a.b: 1}", 2, "model.a.b", "a key must be text of letters, digits"),
    ("model: {name: n.N, a: {b.c: 1}}", 2, "model.a.b.c", "a key must be text of letters"),
    ("model:\n  name: n.N\n  a: .nan", 4, "model.a", "must be a number; got .nan"),
    ("model:\n  name: n.N\n  a:\n    - b: {low: 1}", 5, "model.a.0.b.high", "must be given"),
    ("model: {name: n.N, a: {low: 3, high: 1}}", 2, "model.a", "`low <= high` must hold"),
    (
        "model: {name: n.N, a: {low: 0, high: 1, log: true}}",
        2,
        "model.a",
        "`low > 0` for `log: true`",
    ),
    ("model: {name: n.N, a: {low: 0, high: 1.5, step: 0}}", 2, "model.a.step", "greater than 0"),
    ("model: {name: n.N, a: {low: 0, hihg: 1, high: 2}}", 2, "model.a.hihg", "mean 'high'?"),
    (
        "model: {name: n.N, a: {low: x, high: 2}}",
        2,
        "model.a.low",
        "must be a valid number; got 'x'",
    ),
    ("model: {name: n.N, a: {choice: []}}", 2, "model.a", "must hold at least one value"),
    ("model: {name: n.N, a: {choice: [1, 1]}}", 2, "model.a.choice.1", "must be given once"),
    (
        "model: {name: n.N, a: {choice: [1, {b: {low: 1, high: 2}}]}}",
        2,
        "model.a.choice.1.b",
        "must be a value; got {low: 1, high: 2}; a range cannot stand here",
    ),
    ("model: {dropout: 1}", 2, "model.dropout", "less than 1; got 1"),
    ("model: {dropout: -0.1}", 2, "model.dropout", "greater than or equal to 0; got -0.1"),
    ("model: {dropout: .nan}", 2, "model.dropout", "must be a finite number"),
    ("model: {dropout: nan}", 2, "model.dropout", "must be a valid number; got 'nan'"),
    ("model: {dropout: {low: 0, high: 1}}", 2, "model.dropout.high", "less than 1; got 1"),
    (
        "model: {dropout: {low: 0.5, high: 0.1}}",
        2,
        "model.dropout",
        "`low <= high` must hold, but got (low=0.5, high=0.1)",
    ),
    (
        "model: {dropout: {low: 0, high: 0.5, log: true}}",
        2,
        "model.dropout",
        "`low > 0` for `log: true`",
    ),
    (
        "model: {dropout: {low: 0.1, high: 0.5, log: true, step: 0.1}}",
        2,
        "model.dropout",
        "`step` without `log: true` must hold, but got (low=0.1, high=0.5, step=0.1)",
    ),
    (
        "model: {dropout: {low: 0, high: 0.5, step: 0}}",
        2,
        "model.dropout.step",
        "greater than 0; got 0",
    ),
    ("model: {dropout: {low: 0}}", 2, "model.dropout.high", "must be given"),
    ("model: {dropout: {low: 0, hihg: 1, high: 0.5}}", 2, "model.dropout.hihg", "'high'?"),
    (
        "model: {dropout: {lo: 0}}",
        2,
        "model.dropout",
        "must be a value or {choice: [...]} or {low: ..., high: ..., log",
    ),
    (
        "model: {dropout: {choice: []}}",
        2,
        "model.dropout",
        "must hold at least one value, but got []",
    ),
    ("model: {dropout: {choice: 0.1}}", 2, "model.dropout.choice", "must be a list; got 0.1"),
    (
        "model: {dropout: {choice: [0, 0.0]}}",
        2,
        "model.dropout.choice.1",
        "must be given once; got 0.0 again",
    ),
    ("model: {dropout: {choice: [0.1, 1.5]}}", 2, "model.dropout.choice.1", "less than 1; got 1.5"),
    ("model: {dropout: {choice: [0], low: 0}}", 2, "model.dropout.low", "unknown key"),
    ("model: {batch_norm: yes}", 2, "model.batch_norm", "must be true or false; got 'yes'"),
    (
        "model: {batch_norm: true}\ntraining: {batch_size: 1}",
        3,
        "training.batch_size",
        "at least 2 with model.batch_norm",
    ),
    ("model: {batch_norm: 1}", 2, "model.batch_norm", "must be true or false; got 1"),
    (
        "model: {batch_norm: {low: 0, high: 1}}",
        2,
        "model.batch_norm",
        "must be a value or {choice: [...]}",
    ),
    ("training: {epochs: 0}", 2, "training.epochs", "greater than or equal to 1; got 0"),
    ("training: {epochs: 1e3}", 2, "training.epochs", "must be a valid integer; got 1000.0"),
    ("training: {epochs: 1:30}", 2, "training.epochs", "must be a valid integer; got '1:30'"),
    ("training: {batch_size: 0}", 2, "training.batch_size", "greater than or equal to 1; got 0"),
    ("training: {batch_size: null}", 2, "training.batch_size", "got null"),
    ("training: {patience: 0}", 2, "training.patience", "greater than or equal to 1; got 0"),
    ("training: {patience: None}", 2, "training.patience", "must be a valid integer; got 'None'"),
    *(
        (
            f"training: {{device: '{device}'}}",
            2,
            "training.device",
            f"must be one of auto, cpu, cuda, cuda:N; got '{device}'",
        )
        for device in ("gpu", "cuda:x")
    ),
    ("search: {trials: 0}", 2, "search.trials", "greater than or equal to 1; got 0"),
    ("search: {objective: accuracy}", 2, "search.objective", "did you mean 'val_accuracy'?"),
    ("search: {sampler: tpee}", 2, "search.sampler", "must be one of tpe, random, qmc"),
    (
        "search: {pruner: null}",
        2,
        "search.pruner",
        "must be one of none, median, halving; got null",
    ),
    ("optimizers: []", 2, "optimizers", "must hold at least one entry; got []"),
    ("optimizers: {name: SGD}", 2, "optimizers", "must be a list; got {name: SGD}"),
    ("optimizers:\n  - SGD", 3, "optimizers.0", "such as {name: SGD, lr: 0.1}; got 'SGD'"),
    ("optimizers:\n  - lr: 1", 3, "optimizers.0.name", "must be one of Adafactor, Adadelta"),
    ("optimizers:\n  - nmae: SGD", 3, "optimizers.0.nmae", "unknown key; did you mean 'name'?"),
    ("optimizers:\n  - name: adam", 3, "optimizers.0.name", "did you mean 'Adam'?"),
    ("optimizers:\n  - name: SparseAdam", 3, "optimizers.0.name", "must be one of"),
    (
        "optimizers:\n  - name: 'x.py:'",
        3,
        "optimizers.0.name",
        "must be a path such as nets.py:Net",
    ),
    (
        "optimizers:\n  - name: Adam\n  - name: SGD\n    schedule:\n      name: StepLR\n"
        "      step_size: 3\n      gama: 1",
        8,
        "optimizers.1.schedule.gama",
        "unknown key; did you mean 'gamma'?",
    ),
    (
        "optimizers:\n  - {name: p.Lion, schedule: Step}",
        3,
        "optimizers.0.schedule",
        "did you mean 'StepLR'?",
    ),
    ("training:\n  loss:\n    nam: x", 4, "training.loss.nam", "did you mean 'name'?"),
    ("optimizers:\n  - name: [SGD]", 3, "optimizers.0.name", "must be one of Adafactor, Adadelta"),
    (
        "optimizers:\n  - name: Adam\n  - name: SGD\n    lr: -1",
        5,
        "optimizers.1.lr",
        "`not lr < 0.0` must hold, but got -1",
    ),
    (
        "optimizers:\n  - name: SGD\n    lr:\n      low: 0\n      high: 1\n      log: true",
        4,
        "optimizers.0.lr",
        "`low > 0` for `log: true` must hold, but got (low=0.0, high=1.0)",
    ),
    ("optimizers:\n  - {name: SGD, momentm: 1}", 3, "optimizers.0.momentm", "mean 'momentum'?"),
    ("optimizers:\n  - {name: SGD, label: ''}", 3, "optimizers.0.label", "a line of 1 to 60"),
    ("optimizers:\n  - {name: SGD, label: 7}", 3, "optimizers.0.label", "got 7"),
    ("optimizers:\n  - {name: SGD, label: " + "x" * 61 + "}", 3, "optimizers.0.label", "1 to 60"),
    (
        "optimizers:\n  - {name: SGD, label: a}\n  - name: Adam\n    label: a",
        5,
        "optimizers.1.label",
        "must be given once; got 'a' again",
    ),
    ("optimizers:\n  - {name: SGD, fused: true}", 3, "optimizers.0.fused", "cannot be set"),
    (
        "optimizers:\n  - name: Adam\n    betas:\n      - 0.9\n      - 1",
        6,
        "optimizers.0.betas.1",
        "`0.0 <= betas[1] < 1.0` must hold, but got 1",
    ),
]

# Whole files.
WRONG_DATA: list[tuple[str, int, str, str]] = [
    ("seed: 0", 1, "data", "must be given"),
    ("seed: 0\ndata: a.csv", 2, "data", "must be a mapping of keys to values; got 'a.csv'"),
    ("seed: 0\ndata:\n  source: a.csv", 2, "data.target", "must be given"),
    ("data:\n  source: sklearn:iris\n  target: null", 3, "data.target", "must be given"),
    ("data: {source: http://h/A.parquet}", 1, "data.target", "must be given"),
    ("data: {source: x.npz, size: [0, 8]}", 1, "data.size.0", "greater than or equal to 1; got 0"),
    ("data: {source: x.npz, size: [8, 4097]}", 1, "data.size.1", "or equal to 4096; got 4097"),
    ("data: {source: x.npz, size: [8]}", 1, "data.size.1", "must be given"),
    ("data: {source: x.npz, size: 8}", 1, "data.size", "must be a list; got 8"),
    ("data: {source: 'x.py:f', arguments: 8}", 1, "data.arguments", "valid dictionary; got 8"),
    (
        "data: {source: 'x.py:f', arguments: {a: {low: 1, high: 2}}}",
        1,
        "data.arguments.a",
        "a range cannot stand here",
    ),
    (
        "data:\n  target: y\n  source: a.csv\n  test: http://me:pw@h/b.csv",
        4,
        "data.test",
        "must hold no password: the configuration is written to MLflow; got 'http://***@h/b.csv'",
    ),
    ("data:\n  target: y\n  source: 5", 3, "data.source", "must be a path, a URL or sklearn:NAME"),
    ("data:\n  target: [2]\n  source: a", 2, "data.target", "must be a valid string"),
    ("data: {source: a, separator: ab}", 1, "data.separator", "must be one sign of ASCII"),
    ("data: {source: a, encoding: utf 8}", 1, "data.encoding", "that Python knows; got 'utf 8'"),
    ("data: {source: a, dates: {d: dmy}}", 1, "data.dates.d", "as strptime has it"),
    ("data: {source: a, dates: {d: '%d %Q'}}", 1, "data.dates.d", "as strptime has it"),
    ("data: {source: a, header: -1}", 1, "data.header", "greater than or equal to 0"),
    ("data: {source: a, unlabelled: keep}", 1, "data.unlabelled", "must be one of error, drop"),
    ("data: {source: a, target: y, sha256: abc}", 1, "data.sha256", "64 hexadecimal digits"),
    ("data: {source: a, target: y, drop: b}", 1, "data.drop", "must be a list; got 'b'"),
    ("data: {source: a, target: y, drop: [y]}", 1, "data.drop.0", "must leave the target in"),
    ("data: {source: a, target: y, test: 0}", 1, "data.test", "must be a number in (0, 1), or a"),
    ("data: {source: a, target: y, test: true}", 1, "data.test", "got true"),
    ("data: {source: a, target: y, test: a}", 1, "data.test", "must be another file than"),
    ("data: {source: a, target: y, positive: [1]}", 1, "data.positive", "must be a label"),
    ("data: {source: a, target: y, positive: .inf}", 1, "data.positive", "a finite number"),
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


@pytest.mark.parametrize("label", ["accuracy", "test_x", "x_std", "reason", "params", "shift_auc"])
def test_a_metric_cannot_have_a_name_that_something_else_has(label: str) -> None:
    (problem,) = problems_of(DATA + f"metrics: [{{name: AUROC, label: {label}}}]")
    assert problem.startswith("x.yaml:2: metrics.0: must have a name of its own")


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
        "x.yaml:7: optimizers.0.lr.low",
        "x.yaml:7: optimizers.0.lr.high",
        "x.yaml:7: optimizers.0.lr.lgo",
        "x.yaml:7: optimizers.0.betas",
    ]


def test_a_thousand_problems_are_cut_short() -> None:
    problems = problems_of(DATA + "".join(f"k{i}: 1\n" for i in range(1000)))
    assert len(problems) == 101
    assert problems[0].startswith("x.yaml:2: k0: ")
    assert problems[-1] == "and 900 more"


@pytest.mark.parametrize(
    ("content", "substance"),
    [
        (b"", "x.yaml: must be a mapping of keys to values; got null"),
        (b"# nothing\n", "x.yaml: must be a mapping"),
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
    with pytest.raises(UserError, match=r"cannot be read: .*directory"):
        load(tmp_path)
    with pytest.raises(UserError, match="there is no folder"):
        load(tmp_path / "no" / "x.yaml")
    with pytest.raises(UserError, match="cannot be read"):
        load("x\0y")
    with pytest.raises(UserError, match="cannot be read"):
        load("x" * 5000)


def test_objects_of_python_are_no_values() -> None:
    model = {"name": "nets.py:Net", "a": [object()], "b": {1, 2}, "c": {"d": DATA.encode}}
    mapping = {"data": {"source": "a.npz"}, "seed": len, "model": model}
    with pytest.raises(UserError) as error:
        check(mapping)
    assert error.value.problems == (
        "seed: must be a valid integer; got an object of the class builtin_function_or_method",
        "model.a.0: must be a value that YAML has; got an object of the class object",
        "model.b: must be a value that YAML has; got !!set {1: null, 2: null}",
        "model.c.d: must be a value that YAML has; got an object of the class"
        " builtin_function_or_method",
    )


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


def test_words_that_follow_from_the_metrics() -> None:
    text = (
        DATA + "model: {activation: {choice: [relu, tan, swish, 7]}}\n"
        "search: {objective: val_acc}\n"
    )
    known = "relu, leaky_relu, elu, gelu, silu, tanh, sigmoid"
    place = "x.yaml:2: model.activation.choice"
    with pytest.raises(UserError) as error:
        loads(text, "x.yaml", ["registry.threshold=val_auroc"])
    assert error.value.problems == (
        f"{place}.1: must be one of {known}; got 'tan'; did you mean 'tanh'?",
        f"{place}.2: must be one of {known}; got 'swish'",
        f"{place}.3: must be one of {known}; got 7",
        "x.yaml:3: search.objective: must be one of val_accuracy, val_loss, val_auroc,"
        " val_balanced_accuracy, val_f1_score; got 'val_acc'; did you mean 'val_auroc'?",
        "--set registry.threshold=val_auroc: registry.threshold: must be one of accuracy, f1,"
        " youden, balanced_accuracy, f1_score, val_accuracy, val_balanced_accuracy, val_f1_score;"
        " got 'val_auroc'; did you mean 'val_accuracy'?",
    )
    listed = DATA + "metrics: [CohenKappa]\nsearch: {objective: val_cohen_kappa}\n"
    assert loads(listed, "x.yaml").search.objective == "val_cohen_kappa"
    with pytest.raises(UserError, match="not empty"):
        loads(DATA + "search: {objective: ' '}\n", "x.yaml")
    with pytest.raises(UserError) as error:
        loads(DATA + "metrics: [CohenKapa]\nsearch: {objective: val_cohen_kappa}\n", "x.yaml")
    assert len(error.value.problems) == 1


# Settings from the command line.

FILE = """\
data: &data {source: a.csv, target: y}
model:
  hidden: [8, 16]
optimizers:
  - {name: SGD, lr: {low: 1e-3, high: 1, log: true}}
  - {name: Adam}
"""


def with_set(*overrides: str) -> Config:
    return loads(FILE, "x.yaml", overrides)


def test_values_ranges_and_parts_of_both() -> None:
    config = with_set(
        "training.epochs=7",
        "model.hidden.1={choice: [4, 8]}",
        "optimizers.0.lr.high=0.5",
        "optimizers.1.weight_decay=1e-4",
        "data.positive=yes",
        "data.drop=[a b, 'c']",
        "validation={folds: 1}",
        "search.trials = 3",
        "seed=1",
        "seed=2",
    )
    assert config.training.epochs == 7
    assert config.validation.folds == 1
    assert config.data.positive == "yes"
    assert config.data.drop == ("a b", "c")
    assert config.search.trials == 3
    assert config.seed == 2
    ranges = config.ranges()
    assert ranges["model.hidden.1"].grid() == (4, 8)
    assert ranges["optimizers.0.lr"] == FloatRange(1e-3, 0.5, log=True)
    assert config.optimizers[1].arguments == {"weight_decay": 1e-4}


def test_an_override_equals_the_same_line_in_the_file() -> None:
    written = FILE + "training:\n  epochs: 7\n"
    assert with_set("training.epochs=7") == loads(written, "x.yaml")


def test_a_default_list_can_be_reached_into() -> None:
    config = loads("data: {source: a, target: y}\n", "x.yaml", ["optimizers.3.lr=0.5"])
    assert config.optimizers[3].name == "Adam"
    assert config.optimizers[3].arguments == {"lr": 0.5}
    assert len(config.optimizers) == 5


def test_a_network_is_put_in_by_overrides() -> None:
    overrides = "model.name=nets.py:Net model.hidden=[7] model.depth.low=1 model.depth.high=3"
    own: Any = loads(DATA, "x.yaml", overrides.split()).model
    assert own.arguments == {"hidden": (7,), "depth": IntRange(1, 3)}


@pytest.mark.parametrize("source", ["a.npz", "make.py:data", "images", "table.of.rows"])
def test_what_is_no_table_needs_no_target(source: str) -> None:
    text = f"data: {{source: '{source}'}}\n"
    assert loads(text, "x.yaml").data.target is None
    VALIDATOR.validate(loads(text, "x.yaml").to_plain())


def test_an_anchor_is_not_changed_through_its_alias() -> None:
    text = "data: {source: a, target: y}\noptimizers:\n  - &a {name: SGD, lr: 1}\n  - *a\n"
    config = loads(text, "x.yaml", ["optimizers.0.lr=2"])
    assert [entry.arguments["lr"] for entry in config.optimizers] == [2.0, 1.0]


def test_an_empty_section_can_be_filled() -> None:
    text = "data: {source: a, target: y}\ntraining:\n"
    assert loads(text, "x.yaml", ["training.epochs=3"]).training.epochs == 3


@pytest.mark.parametrize(
    ("override", "path", "substance"),
    [
        ("training.epochs=0", "training.epochs", "greater than or equal to 1; got 0"),
        ("training.epoch=5", "training.epoch", "unknown key; did you mean 'epochs'?"),
        ("trainin.epochs=5", "trainin", "unknown key; did you mean 'training'?"),
        ("epochs=5", "epochs", "unknown key; did you mean 'training.epochs'?"),
        ("training.lr=5", "training.lr", "unknown key; did you mean 'optimizers.0.lr'?"),
        ("training.qqq=5", "training.qqq", "unknown key; known are epochs, batch_size"),
        ("training.epochs=", "training.epochs", "must be a valid integer; got null"),
        ("optimizers.2.lr=1", "optimizers", "has the entries 0 to 1; got '2'"),
        ("optimizers.-1.lr=1", "optimizers", "has the entries 0 to 1; got '-1'"),
        ("optimizers.x.lr=1", "optimizers", "has the entries 0 to 1; got 'x'"),
        ("optimizers.0.lr.hihg=1", "optimizers.0.lr.hihg", "unknown key; did you mean 'high'?"),
        ("model.hidden.0.low=1", "model.hidden.0.low", "model.hidden.0 is 8, so it has no 'low'"),
        ("training={epochs: -1}", "training.epochs", "greater than or equal to 1; got -1"),
        ("seed=[", "", "not YAML"),
        ("seed={a: 1, a: 2}", "a", "a key must be given once; it stands there already"),
        (".".join("a" * 1000) + "=1", "", "must be KEY=VALUE with a dotted path"),
        ("optimizers." + "9" * 5000 + ".lr=1", "", "has the entries 0 to 1; got '999"),
        ("seed", "", "must be KEY=VALUE with a dotted path"),
        ("=3", "", "must be KEY=VALUE with a dotted path"),
        ("training..epochs=3", "", "must be KEY=VALUE with a dotted path"),
        ("seed=\ud800", "", "the character U+D800 is not allowed"),
    ],
)
def test_a_wrong_override_is_named(override: str, path: str, substance: str) -> None:
    with pytest.raises(UserError) as error:
        with_set(override)
    shown = override if len(override) <= 80 else override[:79] + "…"
    place = f"--set {shown}: {path}: " if path else f"--set {shown}: "
    assert error.value.problems[0].startswith(place)
    assert substance in error.value.problems[0]


def test_a_long_value_is_cut_in_the_message() -> None:
    with pytest.raises(UserError) as error:
        with_set("seed=" + "x" * 10_000)
    assert len(str(error.value)) < 300


def test_file_and_overrides_are_reported_together() -> None:
    with pytest.raises(UserError) as error:
        loads(FILE + "sed: 1\n", "x.yaml", ["search.trials=0"])
    assert [problem.split(": ")[0] for problem in error.value.problems] == [
        "x.yaml:7",
        "--set search.trials=0",
    ]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", []),
        ("  \n ", []),
        ("a=1 b.c=2", ["a=1", "b.c=2"]),
        ("a='x y' b=2", ["a='x y'", "b=2"]),
        ("a=x y b.c-d = 2", ["a=x y", "b.c-d = 2"]),
        ("a=[1, 2] b={c: [3, 4], d: 5} e=6", ["a=[1, 2]", "b={c: [3, 4], d: 5}", "e=6"]),
        ("a={low: 0, high: 1}", ["a={low: 0, high: 1}"]),
        ("a=x] b=[1, 2]", ["a=x]", "b=[1, 2]"]),
    ],
)
def test_split(text: str, parts: list[str]) -> None:
    assert split_overrides(text) == parts


# The shipped files, and what a file may hold.

VALIDATOR = jsonschema.Draft7Validator(json_schema())
SHIPPED = sorted(CONFIGS.rglob("*.yaml"))


def test_there_are_shipped_files() -> None:
    names = [path.name for path in SHIPPED]
    assert names == ["default.yaml", "images.yaml", "lecture.yaml", "quick.yaml", "water.yaml"]


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
    "label: a",
    "drop: [y]",
    "test: a}",
    "seed: 1.0",  # an integer for JSON
    ":pw@",
    "1e3",
    ".nan",
    ".inf",
    "\\0",
    "name: nets.py",
    "'nets.py:",
    "a.b: 1",
    "name: n.N",
    "'x.py:'",
    "A.parquet",
    "data:\n  source: a.csv",
    "log: true, step: 0.1",
    "target: null",
    "{low: 1, high: 2}}}",
)


@pytest.mark.parametrize(
    "text", [text for text, *_ in ALL_WRONG if not any(part in text for part in NOT_IN_SCHEMA)]
)
def test_the_schema_refuses_what_is_refused(text: str) -> None:
    value, _ = parse(text, str, [])
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(value)


def test_nothing_heavy_is_imported() -> None:
    heavy = "torch mlflow optuna sklearn scipy pandas numpy matplotlib plotly torchmetrics pyarrow"
    code = f"import sys, pipeline.config; print(set(sys.modules) & set({heavy.split()!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_python_gives_classes_and_functions_in_place_of_their_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from examples.networks import Convolutions

    (tmp_path / "own_rows.py").write_text("def rows(): ...")
    monkeypatch.syspath_prepend(tmp_path)
    given = {
        "data": {"source": importlib.import_module("own_rows").rows},
        "model": {"name": Convolutions},
        "optimizers": [{"name": torch.optim.Adam, "lr": 0.01}],
        "training": {"loss": torch.nn.CrossEntropyLoss},
    }
    named = {
        "data": {"source": f"{tmp_path}/own_rows.py:rows"},
        "model": {"name": "examples.networks.Convolutions"},
        "optimizers": [{"name": "Adam", "lr": 0.01}],
        "training": {"loss": "CrossEntropyLoss"},
    }
    assert from_mapping(given) == from_mapping(named)


def test_what_no_file_holds_has_no_path() -> None:
    class Local:
        """Within a function."""

    with pytest.raises(UserError, match=r"model\.name: .*Local must be in a file"):
        from_mapping({"data": {"source": "a"}, "model": {"name": Local}})
