import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.common.errors import UserError
from pipeline.config import Config, FloatRange, loads, split_overrides

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
        ("training.epochs=0", "training.epochs", "must be an integer >= 1; got 0"),
        ("training.epoch=5", "training.epoch", "unknown key; did you mean 'epochs'?"),
        ("trainin.epochs=5", "trainin", "unknown key; did you mean 'training'?"),
        ("epochs=5", "epochs", "unknown key; did you mean 'training.epochs'?"),
        ("training.lr=5", "training.lr", "unknown key; did you mean 'optimizers.0.lr'?"),
        ("training.qqq=5", "training.qqq", "unknown key; known are epochs, batch_size"),
        ("training.epochs=", "training.epochs", "must be an integer >= 1; got null"),
        ("optimizers.2.lr=1", "optimizers", "has the entries 0 to 1; got '2'"),
        ("optimizers.-1.lr=1", "optimizers", "has the entries 0 to 1; got '-1'"),
        ("optimizers.x.lr=1", "optimizers", "has the entries 0 to 1; got 'x'"),
        ("optimizers.0.lr.hihg=1", "optimizers.0.lr.hihg", "unknown key; did you mean 'high'?"),
        ("model.hidden.0.low=1", "model.hidden.0.low", "model.hidden.0 is 8, so it has no 'low'"),
        ("training={epochs: -1}", "training.epochs", "must be an integer >= 1; got -1"),
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
    shown = override if len(override) <= 80 else override[:77] + "..."
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
        ("a='x y' b=2", ["a=x y", "b=2"]),
        ("a=[1, 2] b={c: [3, 4], d: 5} e=6", ["a=[1, 2]", "b={c: [3, 4], d: 5}", "e=6"]),
        ("a={low: 0, high: 1}", ["a={low: 0, high: 1}"]),
        ("a=x] b=[1, 2]", ["a=x]", "b=[1, 2]"]),
    ],
)
def test_split(text: str, parts: list[str]) -> None:
    assert split_overrides(text) == parts


def test_split_needs_closed_quotes() -> None:
    with pytest.raises(UserError, match="No closing quotation"):
        split_overrides("a='1")


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="[]{}"), min_size=1)))
def test_split_undoes_the_quoting_of_a_shell(parts: list[str]) -> None:
    assert split_overrides(shlex.join(parts)) == parts
