import pickle
import re
from typing import Any

import jsonschema
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.common.errors import UserError
from pipeline.config import (
    Choice,
    Config,
    FloatRange,
    IntRange,
    check,
    from_mapping,
    json_schema,
    loads,
)
from pipeline.config.component import OPTIMIZERS, Component
from pipeline.config.ranges import plain
from pipeline.config.signatures import signature
from pipeline.config.yaml_text import text_of
from pipeline.models.activations import ACTIVATIONS

DATA = "data: {source: a.csv, target: y}\n"
VALIDATOR = jsonschema.Draft7Validator(json_schema())

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
tracking:
  keep_models: all
"""


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
    written["validation"] |= {"groups": None, "order": None}
    written["data"] |= {"arguments": {}, "size": None, "duplicates": "keep"}
    written["data"] |= {"categorical": [], "max_categories": 64, "dates": {}, "missing": []}
    written["data"] |= dict.fromkeys(("separator", "encoding", "decimal", "header"))
    written["data"] |= {"unlabelled": "error", "rare_labels": "error"}
    written["metrics"] = []
    written["compute"] = {"engine": "local", "address": None}
    written["model"] |= {"name": "mlp", "encoding": "standard", "pieces": 8}
    written["training"] |= {
        "loss": "auto",
        "label_smoothing": 0.1,
        "class_weight": None,
        "schedule": {"name": "CosineAnnealingLR"},
        "clip_norm": None,
    }
    written["registry"] |= {"model": "ensemble", "threshold": 0.5, "calibrate": True}
    assert config.to_plain() == written
    assert config.flat()["optimizers.0.lr"] == "{low: 0.001, high: 1.0, log: true}"
    assert config.flat()["model.hidden"] == "[64, 32]"
    assert config.flat()["data.sha256"] == "null"


def test_labels_are_smoothed_where_accuracy_is_asked_for_and_nothing_else_said() -> None:
    for keys, smoothing in (
        ({}, 0.1),
        ({"training": {"epochs": 3, "loss": "auto"}}, 0.1),
        ({"search": {"objective": "val_loss"}}, 0.0),
        ({"training": {"loss": "BCELoss"}}, 0.0),
        ({"training": {"label_smoothing": 0.2}, "search": {"objective": "val_loss"}}, 0.2),
    ):
        data = {"source": "t.csv", "target": "y"}
        assert from_mapping({"data": data, **keys}).training.label_smoothing == smoothing


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
    default = signature("torch.optim", name).defaults[key]
    if isinstance(default, bool):
        return one_of(st.booleans())
    if isinstance(default, tuple):
        return st.tuples(number(0.0, 0.99), number(0.0, 0.99)).map(list).map(listed)
    return number(0.0, 0.99)


def entry(name: str) -> st.SearchStrategy[tuple[Any, Any]]:
    left_out = {"nesterov"}  # needs others
    keys = [key for key in OPTIMIZERS.arguments_of(name) if key not in left_out]
    arguments = {key: argument(name, key) for key in keys} | {"schedule": schedule}
    return st.fixed_dictionaries({"name": st.just((name, name))}, optional=arguments).map(keyed)


def named(
    name: str, **arguments: st.SearchStrategy[tuple[Any, Any]]
) -> st.SearchStrategy[tuple[Any, Any]]:
    return st.fixed_dictionaries({"name": st.just((name, name)), **arguments}).map(keyed)


KEYS = st.text("aé_- 1", min_size=1, max_size=4)
texts = st.text(st.characters(codec="utf-8"), max_size=5)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts
anything = st.recursive(
    scalars.map(lambda value: (value, value))
    | one_of(texts)
    | one_of(st.lists(texts) | st.dictionaries(KEYS, texts))
    | number(-1e9, 1e9)
    | integer(1, 10**9),
    lambda inner: (
        st.lists(inner, max_size=3).map(listed)
        | st.dictionaries(KEYS, inner, max_size=3).map(keyed)
    ),
    max_leaves=5,
)


def by_path(name: str) -> st.SearchStrategy[tuple[Any, Any]]:
    arguments = st.dictionaries(KEYS, anything, max_size=3)
    return arguments.map(lambda items: keyed({"name": (name, name), **items}))


one_schedule = (
    named("StepLR", step_size=integer(1, 9), gamma=number(0.1, 1))
    | named("LambdaLR", lr_lambda=st.just(("s.py:f", "s.py:f")))
    | by_path("schedules.WarmUp")
    | st.just(({"name": "CosineAnnealingLR"},) * 2)
)
schedule = (
    one_schedule
    | st.just((None, None))
    | st.lists(one_schedule, min_size=1, max_size=2).map(listed)
    | named(
        "ChainedScheduler", schedulers=st.lists(one_schedule, min_size=1, max_size=2).map(listed)
    )
)
loss = (
    st.just(("auto", "auto"))
    | named("CrossEntropyLoss", label_smoothing=number(0, 0.5))
    | by_path("losses.py:focal")
)


def section(**fields: st.SearchStrategy[tuple[Any, Any]]) -> st.SearchStrategy[tuple[Any, Any]]:
    return st.fixed_dictionaries({}, optional=fields).map(keyed)


hidden = st.lists(integer(1, 64), max_size=3).map(listed) | one_of(
    st.lists(st.integers(1, 64), max_size=3)
)
searched = st.tuples(
    section(
        hidden=hidden,
        activation=one_of(st.sampled_from(list(ACTIVATIONS))),
        dropout=number(0.0, 0.99),
        batch_norm=one_of(st.booleans()),
    )
    | by_path("nets.py:Net"),
    section(
        epochs=integer(1, 1000),
        batch_size=integer(2, 512),
        patience=one_of(st.none() | st.integers(1, 100)),
        device=one_of(st.sampled_from(["cpu", "auto"])),
        loss=loss,
        schedule=schedule,
        clip_norm=one_of(st.none() | st.floats(0.1, 9)),
    ),
    st.lists(
        st.sampled_from(["SGD", "Adagrad", "RMSprop", "Adam", "AdamW", "NAdam"]).flatmap(entry)
        | by_path("pytorch_optimizer.Lion"),
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
    config = loads(text_of(file), "x.yaml")
    chosen = data.draw(st.integers(0, len(config.optimizers) - 1))
    paths = [
        path
        for path in config.ranges()
        if not path.startswith("optimizers.") or path.startswith(f"optimizers.{chosen}.")
    ]
    label = config.labels[chosen]
    trial = config.at(label, {path: at_path(replaced, path) for path in paths})
    replaced["optimizers"] = [replaced["optimizers"][chosen] | {"label": label}]
    assert trial == loads(text_of(replaced), "x.yaml")
    assert trial.labels == (label,)
    assert trial.ranges() == {}


@settings(max_examples=40)
@given(searched)
def test_a_configuration_written_out_is_read_back(parts: tuple[tuple[Any, Any], ...]) -> None:
    file = as_file(*(part for part, _ in parts))
    config = loads(text_of(file), "x.yaml")
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


@settings(max_examples=100)
@given(st.dictionaries(texts, scalars | st.lists(scalars), max_size=3), st.data())
def test_keys_of_a_mapping_are_read_back(arguments: dict[str, Any], data: st.DataObject) -> None:
    weights = {f"{key}.": 2.0 for key in arguments} or None
    source = {"source": "data.py:make", "arguments": arguments, "size": [8, 9]}
    config = check({"data": source, "training": {"class_weight": weights}})
    assert config.data.target is None
    assert config.data.size == (8, 9)
    assert plain(config.data.arguments) == arguments
    assert config.training.class_weight == weights
    assert loads(config.to_yaml(), "y.yaml") == config
    assert {"data.arguments", "training.class_weight"} <= config.flat().keys()


OWN = """\
data: {source: 'data/make.py:digits', arguments: {n: 3}}
model: {name: 'nets.py:Net', hidden: [64, {low: 8, high: 32}], act: {kind: {choice: [relu, tanh]}}}
training:
  loss: {name: package.losses.Focal, gamma: {low: 1, high: 3.0}}
  schedule: [{name: 'a.b.WarmUp'}, {name: LambdaLR, lr_lambda: 's.py:f'}]
optimizers:
  - {name: Adam, schedule: StepLR.StepLR}
  - {name: SGD}
  - name: pytorch_optimizer.Lion
    schedule: {name: CyclicLR, base_lr: {choice: [0.1, 0.2]}, max_lr: 1, scale_fn: 's.py:g'}
"""


def test_paths_of_what_people_brought() -> None:
    config = loads(OWN, "x.yaml")
    assert config.paths() == {
        "data.source": "data/make.py:digits",
        "model.name": "nets.py:Net",
        "training.loss.name": "package.losses.Focal",
        "training.schedule.0.name": "a.b.WarmUp",
        "training.schedule.1.lr_lambda": "s.py:f",
        "optimizers.0.schedule.name": "StepLR.StepLR",
        "optimizers.2.name": "pytorch_optimizer.Lion",
        "optimizers.2.schedule.scale_fn": "s.py:g",
    }
    assert loads(CONTRACT, "x.yaml").paths() == {}


def test_ranges_of_own_networks_losses_and_schedules() -> None:
    config = loads(OWN, "x.yaml")
    values = {
        "model.hidden.1": 9,
        "model.act.kind": "tanh",
        "training.loss.gamma": 2.5,
        "optimizers.2.schedule.base_lr": 0.2,
    }
    assert config.ranges() == {
        "model.hidden.1": IntRange(8, 32),
        "model.act.kind": Choice(("relu", "tanh")),
        "training.loss.gamma": FloatRange(1.0, 3.0),
        "optimizers.2.schedule.base_lr": Choice((0.1, 0.2)),
    }
    trial = config.at("Lion", values)
    assert trial.model == Component("nets.py:Net", {"hidden": (64, 9), "act": {"kind": "tanh"}})
    assert trial.training.loss == Component("package.losses.Focal", {"gamma": 2.5})
    assert trial.optimizers[0].arguments["schedule"].arguments["base_lr"] == 0.2
    flat = trial.flat()
    assert flat["model.hidden"] == "[64, 9]"
    assert flat["model.act"] == "{kind: tanh}"
    assert flat["training.schedule.1.lr_lambda"] == "s.py:f"
    assert flat["optimizers.0.schedule.name"] == "CyclicLR"


def test_a_trial_needs_a_value_for_each_of_its_ranges() -> None:
    config = loads(CONTRACT, "x.yaml")
    assert config.at("Adagrad", {"optimizers.1.lr": 0.1}).optimizers[0].arguments == {"lr": 0.1}
    for values in ({}, {"optimizers.0.lr": 0.1}, {"optimizers.1.lr": 0.1, "model.dropout": 0.1}):
        with pytest.raises(ValueError, match=r"optimizers\.1\.lr"):
            config.at("Adagrad", values)
    for label in ("adagrad", "", "AdamW"):
        with pytest.raises(ValueError, match="not in tuple"):
            config.at(label, {})
    with pytest.raises(UserError, match=r"optimizers\.0\.lr: `0\.0 <= lr` must hold, but got -1"):
        config.at("Adagrad", {"optimizers.1.lr": -1})


def test_values_may_be_those_of_numpy() -> None:
    model = {"dropout": {"low": 0, "high": 0.5}, "hidden": [{"low": 1, "high": 8}]}
    config = check({"data": {"source": "a", "target": "y"}, "model": model, "optimizers": [ADAM]})
    trial = config.at("Adam", {"model.dropout": np.float64(0.25), "model.hidden.0": np.int64(4)})
    assert trial.to_yaml().count("dropout: 0.25") == trial.to_yaml().count("hidden: [4]") == 1


def test_an_entry_past_the_ninth_keeps_its_own_values() -> None:
    file = yaml.safe_load(CONTRACT)
    file["optimizers"] *= 4
    config = check(file)
    assert config.labels[:4] == ("SGD", "Adagrad", "RMSprop", "Adam")
    assert config.labels[4:8] == ("SGD [2]", "Adagrad [2]", "RMSprop [2]", "Adam [2]")
    assert config.labels[-1] == "Adam [4]"
    trial = config.at("Adagrad", {"optimizers.1.lr": 0.5})
    assert trial.optimizers[0].name == "Adagrad"
    trial = config.at("Adam [3]", {"optimizers.11.lr": 0.5})
    assert trial.optimizers[0].name == "Adam"
    assert trial.labels == ("Adam [3]",)


# Labels.

ADAM = {"name": "Adam"}


def labels_of(*entries: dict[str, Any]) -> tuple[str, ...]:
    data = {"source": "a.csv", "target": "y"}
    config = check({"data": data, "optimizers": list(entries)})
    assert config.labels == tuple(component.label for component in config.optimizers)
    assert check(config.to_plain()).labels == config.labels
    return config.labels


@pytest.mark.parametrize(
    ("entries", "labels"),
    [
        ("[{name: SGD}, {name: Adam}]", ("SGD", "Adam")),
        ("[{name: SGD}, {name: SGD, momentum: 0.9}]", ("SGD", "SGD momentum=0.9")),
        (
            "[{name: SGD, lr: {low: 1e-3, high: 0.1, log: true}}, {name: SGD, lr: 1e-05}]",
            ("SGD lr=0.001..0.1", "SGD lr=1e-05"),
        ),
        (
            "[{name: SGD, lr: 1, nesterov: false}, {name: SGD, lr: {choice: [1, 2]}}]",
            ("SGD lr=1 nesterov=false", "SGD lr={choice: [1.0, 2.0]}"),
        ),
        (
            "[{name: Adam, lr: 1, betas: [0.9, 0.99]}, {name: Adam, lr: 1, betas: [0.5, 0.99]}]",
            ("Adam betas=[0.9, 0.99]", "Adam betas=[0.5, 0.99]"),
        ),
        ("[{name: SGD}, {name: SGD}, {name: SGD}]", ("SGD", "SGD [2]", "SGD [3]")),
        ("[{name: SGD, label: mine}, {name: SGD}]", ("mine", "SGD")),
        ("[{name: p.Lion}, {name: 'l.py:Lion'}, {name: p.a.B}]", ("Lion", "Lion [2]", "B")),
        (
            "[{name: SGD}, {name: SGD, schedule: CosineAnnealingLR},"
            " {name: SGD, schedule: [a.b.C, CosineAnnealingLR]}]",
            ("SGD", "SGD schedule=CosineAnnealingLR", "SGD [2]"),
        ),
        ("[{name: SGD}, {name: Adam, label: SGD}]", ("SGD [2]", "SGD")),
        ("[{name: SGD, label: SGD}, {name: SGD, lr: 1}]", ("SGD", "SGD [2]")),
        (
            "[{name: SGD, label: 'SGD [2]'}, {name: SGD}, {name: SGD}]",
            ("SGD [2]", "SGD", "SGD [3]"),
        ),
        (
            "[{name: Adam, lr: 0.12345, eps: 0.123456, betas: [0.12345, 0.12345]}, {name: Adam}]",
            ("Adam", "Adam [2]"),  # all that differs would be longer than a label may be
        ),
    ],
)
def test_an_entry_is_called_by_its_class_and_by_what_differs(
    entries: str, labels: tuple[str, ...]
) -> None:
    config = loads(f"{DATA}optimizers: {entries}\n", "x.yaml")
    assert config.labels == labels
    assert labels_of(*config.to_plain()["optimizers"]) == labels
    written = [
        entry.get("label", re.split("[.:]", entry["name"])[-1])
        for entry in config.to_plain()["optimizers"]
    ]
    assert tuple(written) == labels
    paths = config.ranges().keys()
    for index, label in enumerate(labels):
        own = {path: 1.0 for path in paths if path.startswith(f"optimizers.{index}.")}
        trial = config.at(label, own)
        assert trial.labels == (label,)
        assert trial.optimizers[0].path == config.optimizers[index].path
        assert (trial.flat().get("optimizers.0.label") == label) == (
            label != trial.optimizers[0].name
        )


small = st.fixed_dictionaries(
    {"name": st.sampled_from(["SGD", "Adam"])},
    optional={
        "lr": st.sampled_from(
            [0.1, 1, {"low": 0.1, "high": 1}, {"low": 0.1, "high": 1, "log": True}]
        ),
        "weight_decay": st.sampled_from([0, 0.123456789]),
    },
)
label_texts = st.sampled_from(["SGD", "Adam", "SGD [2]", "SGD lr=0.1"]) | st.text(
    st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), min_size=1, max_size=60
).filter(lambda text: bool(text.strip()))


@settings(max_examples=100)
@given(st.lists(st.tuples(small, st.none() | label_texts), min_size=1, max_size=6))
def test_labels_are_unique_short_and_read_back(entries: list[tuple[dict[str, Any], Any]]) -> None:
    given_labels = [label for _, label in entries if label is not None]
    mappings = [entry | ({"label": label} if label else {}) for entry, label in entries]
    if len(set(given_labels)) < len(given_labels):
        with pytest.raises(UserError, match=r"optimizers\.\d\.label: must be given once"):
            labels_of(*mappings)
        return
    labels = labels_of(*mappings)
    assert len(set(labels)) == len(labels) == len(entries)
    assert all(0 < len(label) <= 60 for label in labels)
    assert [label for label in labels if label in given_labels] == given_labels


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


def test_a_configuration_can_be_sent_to_another_process() -> None:
    config = loads(CONTRACT, "x.yaml")
    again: Config = pickle.loads(pickle.dumps(config))
    assert again == config
