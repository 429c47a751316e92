import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.common.errors import UserError
from pipeline.config import check, loads
from pipeline.config.sections import model_name

DATA = "data: {source: a.csv, target: y}\n"


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
