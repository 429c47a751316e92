"""What a configuration names: a class or a function with its arguments, by its bare name where it
is torch's, else by its path."""

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Annotated, Any, Literal, Required, cast, get_args, get_origin

from pydantic import AfterValidator, ConfigDict, Field, PlainValidator, TypeAdapter, WithJsonSchema
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict  # pydantic takes that of `typing` from Python 3.12 on

from pipeline.common.errors import did_you_mean, nearest
from pipeline.common.imports import is_path
from pipeline.config.ranges import (
    Anything,
    Line,
    Location,
    Searchable,
    String,
    check_keys,
    ends,
    expected,
    filled,
    plain,
    refuse,
)
from pipeline.config.signatures import Condition, class_names, signature
from pipeline.config.yaml_text import flow_text, show

LONGEST_LABEL = 60
MOST_COMBINATIONS = 10_000  # of values in which a condition on several arguments is checked

_PATH = re.compile(r".+\.py:[^\W\d]\w*(\.[^\W\d]\w*)*|(?!.*\.py$)[^\W\d]\w*(\.[^\W\d]\w*)+")


@dataclass(frozen=True)
class Component:
    """A class or a function that people name, with keyword arguments for it.

    Attributes:
        path: `FILE.py:NAME`, `package.module.NAME`, or the bare name of a class of torch.
        arguments: a value or a range by name; what is left out has the class's default. At any
            depth of the arguments of a path a range may stand; lists are tuples.
        label: what tables and pages call an optimizer, at most 60 characters; unique in a
            configuration. Others have none."""

    path: str
    arguments: Mapping[str, Any]
    label: str = ""

    @property
    def name(self) -> str:
        """The class's name."""
        return re.split("[.:]", self.path)[-1]

    def leaves(self) -> dict[str, Any]:
        """What stands in the file, by key; a label that is the name is left out."""
        label = {} if self.label in ("", self.name) else {"label": self.label}
        return {"name": self.path, **label, **self.arguments}


@dataclass(frozen=True, eq=False)
class Family:
    """Classes of torch that a configuration calls by their bare names.

    Attributes:
        module: where they are.
        example: an entry, and the path of one that is somebody's own.
        refused: names that are no answer, with the reason where there is one to give.
        withheld: arguments that a configuration may not set, with the reason.
        filled: required arguments that a run knows by itself.
        only: names; empty: all that the module has."""

    module: str
    example: tuple[str, str]
    refused: Mapping[str, str]
    withheld: Mapping[str, str]
    filled: frozenset[str] = frozenset()
    only: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """What may stand there as a bare name."""
        return self.only or tuple(n for n in class_names(self.module) if n not in self.refused)

    def arguments_of(self, name: str) -> tuple[str, ...]:
        """The arguments of a class that a configuration may set."""
        return tuple(k for k in signature(self.module, name).types if k not in self.withheld)


_STEP = "how a step is computed is chosen here, not per optimizer"
_GIVEN = "the program passes it"
_MEAN = "a loss is the mean over the rows of a batch"
_WEIGHT = "training.class_weight weighs the labels"

REFUSED_ARGUMENTS: Mapping[str, str] = {
    **dict.fromkeys(("foreach", "fused"), _STEP),
    "capturable": "it is for CUDA graphs, which this training does not record",
    "differentiable": "it is for differentiating through a step, which this training does not do",
    "maximize": "the loss is minimised here",
}
OPTIMIZERS = Family(
    "torch.optim",
    ("{name: SGD, lr: 0.1}", "pytorch_optimizer.Lion"),
    {
        "Optimizer": "",
        "SparseAdam": "it takes sparse gradients only, and those of these networks are dense",
    },
    {"params": _GIVEN, **REFUSED_ARGUMENTS},
)
SCHEDULES = Family(
    "torch.optim.lr_scheduler",
    ("{name: StepLR, step_size: 30}", "schedules.py:WarmUp"),
    {"LRScheduler": ""},
    {
        "optimizer": _GIVEN,
        "last_epoch": "a schedule begins with the training",
        "verbose": "learning rates are logged as a curve",
    },
    frozenset(
        ("T_max", "total_steps", "total_iters", "epochs", "steps_per_epoch", "max_lr", "base_lr")
    ),
)
OF_LABELS = ("CrossEntropyLoss", "NLLLoss", "MultiMarginLoss")
"""Losses that take an output for each label and label ids."""
OF_POSITIVE = ("BCEWithLogitsLoss", "BCELoss", "SoftMarginLoss")
"""Those that take one output: of the second of two labels."""
LOSSES = Family(
    "torch.nn.modules.loss",
    ("{name: CrossEntropyLoss, label_smoothing: 0.1}", "losses.py:focal_loss"),
    {},
    {
        **dict.fromkeys(("reduction", "reduce", "size_average"), _MEAN),
        **dict.fromkeys(("weight", "pos_weight"), _WEIGHT),
    },
    only=OF_LABELS + OF_POSITIVE,
)
FAMILIES: Mapping[str, Family] = {
    "optimizers": OPTIMIZERS,
    "rest": OPTIMIZERS,
    "schedule": SCHEDULES,
    "schedulers": SCHEDULES,
    "loss": LOSSES,
}
"""By the key that entries stand at."""
FUNCTIONS = ("lr_lambda", "scale_fn")
"""Arguments of schedules that are functions, given by their path."""
REST = "AdamW"
"""What trains under Muon, which takes matrices only, all that is no matrix."""


def _checked_path(path: str) -> str:
    if not _PATH.fullmatch(path):
        text = "a path such as nets.py:Net or package.module.Net"
        raise PydanticCustomError("expected", "{text}", {"text": text})
    return path


Path = Annotated[
    String, AfterValidator(_checked_path), Field(json_schema_extra={"pattern": "[.:]"})
]
Label = Annotated[
    Line, Field(max_length=LONGEST_LABEL), expected(f"a line of 1 to {LONGEST_LABEL} characters")
]


@cache
def reader(family: Family, name: str) -> TypeAdapter[dict[str, Any]]:
    """What checks the entry of a class of torch and brings its keys into the order of the
    constructor."""
    fields = {"name": Required[Literal[name]], **_own(family), **_arguments(family, name)}
    if name == "Muon":
        fields["rest"] = _keys(REST, _arguments(OPTIMIZERS, REST))
    return TypeAdapter(_keys(name, fields))


@cache
def path_reader(family: Family | None, keys: tuple[str, ...]) -> TypeAdapter[dict[str, Any]]:
    """What checks an entry by path that has these keys."""
    fields: dict[str, Any] = dict.fromkeys(keys, Anything)
    return TypeAdapter(_keys("path", fields | _own(family) | {"name": Required[Path]}))


def _own(family: Family | None) -> dict[str, Any]:
    """The keys of an entry that are no arguments, but for the name."""
    return {"label": Label, "schedule": Schedule} if family is OPTIMIZERS else {}


def known_keys(place: str, name: Any) -> tuple[str, ...]:
    """The keys that an entry under a key of `FAMILIES` may have."""
    if place == "rest":
        return OPTIMIZERS.arguments_of(REST)
    name = bare_name(FAMILIES[place], name)
    keys = FAMILIES[place].arguments_of(name)
    if place == "optimizers":
        return ("label", *keys, "schedule", *(("rest",) if name == "Muon" else ()))
    return keys


def _keys(title: str, fields: Mapping[str, Any]) -> Any:
    keys = cast(Any, TypedDict)(title, fields, total=False)
    keys.__pydantic_config__ = ConfigDict(extra="forbid")
    return keys


def _arguments(family: Family, name: str) -> dict[str, Any]:
    taken = signature(family.module, name)
    fields = {}
    for key in family.arguments_of(name):
        leaf = _SPECIAL.get(key) or _searchable(taken.types[key], key, taken.conditions)
        default = taken.defaults.get(key, ...)
        extra = {"default": plain(default)} if default is not ... else {}
        leaf = Annotated[leaf, Field(json_schema_extra=extra)]
        fields[key] = leaf if key in {*taken.defaults, *family.filled} else Required[leaf]
    return fields


def _searchable(type_: Any, key: str, conditions: Iterable[Condition]) -> Any:
    """A type, with the conditions on its values and on its items, for any of which a range may
    stand."""

    def leaf(type_: Any, *place: str | int) -> Any:
        here = [condition for condition in conditions if condition.places == {place}]
        checked: Any = Annotated[(type_, *here)] if here else type_
        return checked if type_ is Anything else Searchable[checked]  # type: ignore[misc]

    if type_ is Any:
        type_ = Anything
    if get_origin(type_) is tuple:
        items = tuple(leaf(item, key, index) for index, item in enumerate(get_args(type_)))
        type_ = tuple[items]  # type: ignore[valid-type]
    return leaf(type_, key)


def read(family: Family, entry: Any) -> Component:
    """The component that an entry describes, its label "" where none is given; a text alone is its
    name. Raises pydantic's errors."""
    where: Location = ("name",)
    if isinstance(entry, str) and family is not OPTIMIZERS:
        where, entry = (), {"name": entry}
    if not isinstance(entry, Mapping) or entry.keys() == {"choice"}:
        text = f"a mapping such as {family.example[0]}"
        raise PydanticCustomError("expected", "{text}", {"text": text})
    if "name" not in entry and (meant := nearest("name", entry)):
        refuse(((meant,), "unknown key; did you mean 'name'?"))
    name: Any = entry.get("name")
    names = family.names
    if isinstance(name, str) and is_path(name):
        if is_path(bare := bare_name(family, name)):
            return read_path(family, entry)
        name, entry = bare, {**entry, "name": bare}
    if reason := family.refused.get(str(name)):
        refuse((where, f"{name} cannot be trained here: {reason}"))
    if name not in names:
        words = ", ".join(("auto", *names) if family is LOSSES else names)
        rule = f"one of {words}, or a path such as {family.example[1]}"
        refuse((where, f"must be {rule}; got {show(name)}{did_you_mean(str(name), names)}"))
    arguments = reader(family, name).validate_python(entry)
    label, _ = arguments.pop("label", ""), arguments.pop("name")
    taken = signature(family.module, name)
    several = [condition for condition in taken.conditions if len(condition.places) > 1]
    refuse(*(p for c in several for p in _refusal(c, {**taken.defaults, **arguments})))
    return Component(name, arguments, label)


def bare_name(family: Family, name: str) -> str:
    """The bare name of a class of torch that is called by its path; others as they are."""
    place, _, bare = name.rpartition(".")
    is_torchs = place in (family.module, "torch.nn") and bare in (*family.names, *family.refused)
    return bare if is_torchs else name


def read_path(family: Family | None, entry: Mapping[str, Any]) -> Component:
    """The component that an entry describes whose name is a path. Raises pydantic's errors."""
    check_keys(entry)
    arguments = path_reader(family, tuple(entry)).validate_python(entry)
    label = arguments.pop("label", "") if family is OPTIMIZERS else ""
    path: str = arguments.pop("name")
    return Component(path, arguments, label)


def _refusal(condition: Condition, arguments: Mapping[str, Any]) -> list[tuple[Location, str]]:
    """The first combination of values that a condition on several of them refuses."""
    leaves = [
        itertools.islice(ends(arguments.get(name)), MOST_COMBINATIONS) for name in condition.names
    ]
    for combination in itertools.islice(itertools.product(*leaves), MOST_COMBINATIONS):
        values = dict(zip(condition.names, combination, strict=True))
        if not condition.holds(values):
            got = ", ".join(f"{key}={flow_text(plain(value))}" for key, value in values.items())
            return [((condition.names[0],), f"{condition}, but got ({got})")]
    return []


def _read_schedule(value: Any) -> Component | tuple[Component, ...] | None:
    if value is None:
        return None
    if isinstance(value, list):
        return _SEQUENCE.validate_python(value)
    return read(SCHEDULES, value)


Optimizer = Annotated[Component, PlainValidator(partial(read, OPTIMIZERS))]
"""A component that is read from an entry under `optimizers`."""
Loss = Annotated[
    Component | None,
    PlainValidator(lambda given: None if given in (None, "auto") else read(LOSSES, given)),
]
Schedule = Annotated[
    Component | tuple[Component, ...] | None,
    PlainValidator(_read_schedule),
    WithJsonSchema({"definition": "Schedule"}),
]
_Schedule = Annotated[
    Component,
    PlainValidator(partial(read, SCHEDULES)),
    WithJsonSchema({"definition": "OneSchedule"}),
]
_Schedules = Annotated[tuple[_Schedule, ...], AfterValidator(filled)]
_SEQUENCE: TypeAdapter[tuple[Component, ...]] = TypeAdapter(_Schedules)
_SPECIAL: Mapping[str, Any] = {"schedulers": _Schedules, **dict.fromkeys(FUNCTIONS, Path)}
"""Types of arguments that torch's annotations do not tell."""
