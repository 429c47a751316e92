import inspect
import sys
from typing import Any

import pytest
import torch

from pipeline.config.component import LOSSES, OPTIMIZERS, SCHEDULES, Family
from pipeline.config.signatures import class_names, signature

CLASSES = [(family, name) for family in (OPTIMIZERS, SCHEDULES, LOSSES) for name in family.names]


@pytest.mark.parametrize(
    ("family", "name"), CLASSES, ids=lambda value: getattr(value, "module", value)
)
def test_arguments_and_defaults_are_those_of_torch(family: Family, name: str) -> None:
    parameters = inspect.signature(getattr(sys.modules[family.module], name)).parameters
    taken = signature(family.module, name)
    assert list(taken.types) == list(parameters)
    defaults = {
        key: parameter.default
        for key, parameter in parameters.items()
        if parameter.default is not parameter.empty
    }
    assert taken.defaults.keys() == defaults.keys()
    constants = [key for key, default in taken.defaults.items() if default is ...]
    assert {**taken.defaults, **{key: defaults[key] for key in constants}} == defaults
    assert set(constants) <= {"ns_coefficients", "eps", "ns_steps", "factor", "start_factor"}


def test_the_classes_of_a_module_are_those_that_it_says_it_has() -> None:
    assert set(class_names("torch.optim")) == {
        name for name in torch.optim.__all__ if inspect.isclass(getattr(torch.optim, name))
    }


SOURCE = '''
from __future__ import annotations
import nowhere_at_all

class Base:
    def __init__(self, rate, depth: int = 2, name="x", *, unused=None):
        if rate > 1: raise ValueError("rate")
        if depth < 1: raise ValueError("depth")
        if name == "": raise ValueError("name")

class Net(Base):
    def __init__(self, params, rate: float | nowhere_at_all.Thing, depth: "int" = 3,
                 sizes=(1, 2.0), scale: float = nowhere_at_all.SCALE, *, flag=False, name="y"):
        if not (isinstance(rate, float) and rate > 0): raise ValueError("rate")
        if scale < 0 and flag: raise ValueError("scale")
        if nowhere_at_all.bad(depth): raise ValueError("depth")
        depth = depth * 2
        if depth > 3: raise ValueError("not said of the argument")
        super().__init__(rate, unused=name)

class Same(Net):
    """Takes what Net takes."""
'''


def test_any_class_is_read_from_its_source_and_nothing_is_imported(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "some_nets"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("from .inner.nets import Same as Renamed\n")
    (package / "inner" / "nets.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    taken = signature("some_nets", "Renamed")
    assert list(taken.types) == ["params", "rate", "depth", "sizes", "scale", "flag", "name"]
    others = {"depth": 3, "sizes": (1, 2.0), "flag": False, "name": "y"}
    assert taken.defaults == others | {"scale": ...}
    assert list(map(str, taken.conditions)) == [
        "`isinstance(rate, float) and rate > 0` must hold",
        "`not rate > 1` must hold",
    ]
    assert "some_nets" not in sys.modules
    with pytest.raises(LookupError, match="some_nets has no class Other"):
        signature("some_nets", "Other")
    with pytest.raises(LookupError, match="no package nowhere_at_all"):
        signature("nowhere_at_all", "Other")
    with pytest.raises(LookupError, match="some_nets has no __all__"):
        class_names("some_nets")
