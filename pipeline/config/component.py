"""What a configuration names: a class or a function with its arguments, by its bare name where it
is torch's, else by its path."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Annotated, Any, Literal, Required, cast, get_args, get_origin

from pydantic import AfterValidator, ConfigDict, Field, PlainValidator, TypeAdapter, WithJsonSchema
from typing_extensions import TypedDict  # pydantic takes that of `typing` from Python 3.12 on

from pipeline.common.errors import did_you_mean, nearest
from pipeline.common.imports import is_path
from pipeline.config.ranges import (
    Anything,
    Line,
    Plain,
    Searchable,
    String,
    check_keys,
    expected,
    filled,
    must_be,
    plain,
    refuse,
)
from pipeline.config.signatures import Condition, class_names, signature
from pipeline.config.yaml_text import Location, show

LONGEST_LABEL = 60

_PATH = re.compile(r".+\.py:[^\W\d]\w*(\.[^\W\d]\w*)*|(?!.*\.py$)[^\W\d]\w*(\.[^\W\d]\w*)+")


@dataclass(frozen=True)
class Component:
    """A class or a function that people name, with keyword arguments for it.

    Attributes:
        path: `FILE.py:NAME`, `package.module.NAME`, or the bare name of a class of torch or
            torchmetrics.
        arguments: a value or a range by name; what is left out has the class's default. At any
            depth of the arguments of a path a range may stand; lists are tuples.
        label: what tables and pages call an optimizer or a metric, at most 60 characters; unique
            among these. Others have none."""

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
    """Classes of torch, or torchmetrics, that a configuration calls by their bare names.

    Attributes:
        module: where they are.
        pattern: of the names there that may be called.
        example: an entry, and the path of one that is somebody's own.
        withheld: arguments that a configuration may not set, with the reason.
        filled: required arguments that a run knows by itself."""

    module: str
    pattern: str
    example: tuple[str, str]
    withheld: Mapping[str, str]
    filled: frozenset[str] = frozenset()

    @property
    def names(self) -> tuple[str, ...]:
        """What may stand there as a bare name."""
        names = class_names(self.module)
        return tuple(name for name in names if re.fullmatch(self.pattern, name))

    def arguments_of(self, name: str) -> tuple[str, ...]:
        """The arguments of a class that a configuration may set."""
        return tuple(key for key in signature(self.module, name).types if key not in self.withheld)


_GIVEN = "the program passes it"

REFUSED_ARGUMENTS: Mapping[str, str] = {
    **dict.fromkeys(
        ("foreach", "fused", "capturable", "differentiable"),
        "how a step is computed is chosen here, not per optimizer",
    ),
    "maximize": "the loss is minimised here",
}
OPTIMIZERS = Family(
    "torch.optim",
    "(?!Optimizer$|SparseAdam$).*",  # gradients of these networks are dense
    ("{name: SGD, lr: 0.1}", "pytorch_optimizer.Lion"),
    {"params": _GIVEN, **REFUSED_ARGUMENTS},
)
SCHEDULES = Family(
    "torch.optim.lr_scheduler",
    "(?!LRScheduler$).*",
    ("{name: StepLR, step_size: 30}", "schedules.py:WarmUp"),
    {"optimizer": _GIVEN, "last_epoch": "a schedule begins with the training"},
    frozenset(
        ("T_max", "total_steps", "total_iters", "epochs", "steps_per_epoch", "max_lr", "base_lr")
    ),
)
OF_LABELS = ("CrossEntropyLoss", "NLLLoss", "MultiMarginLoss")
"""Losses that take an output for each label and label ids. The others take one output: of the
second of two labels."""
LOSSES = Family(
    "torch.nn.modules.loss",
    "|".join((*OF_LABELS, "BCEWithLogitsLoss", "BCELoss", "SoftMarginLoss")),
    ("{name: CrossEntropyLoss, label_smoothing: 0.1}", "losses.py:focal_loss"),
    {
        **dict.fromkeys(
            ("reduction", "reduce", "size_average"), "a loss is the mean over the rows of a batch"
        ),
        **dict.fromkeys(("weight", "pos_weight"), "training.class_weight weighs the labels"),
    },
)
METRICS = Family(
    "torchmetrics.classification",
    "(?!Binary|Multi|ConfusionMatrix|ExactMatch|ROC$|PrecisionRecallCurve|StatScores).*",
    ("{name: FBetaScore, beta: 2.0}", "metrics.py:cost"),
    {
        **dict.fromkeys(
            ("task", "num_classes", "num_labels", "multidim_average", "ignore_index"),
            "it follows from the table",
        ),
        "threshold": "a label is predicted above 0.5, or registry.threshold",
        "validate_args": _GIVEN,
    },
)
FAMILIES: Mapping[str, Family] = {
    "metrics": METRICS,
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
        raise must_be("a path such as nets.py:Net or package.module.Net")
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
    fields = {**_own(family, name), **_arguments(family, name)}
    return TypeAdapter(_keys(name, {"name": Required[Literal[name]], **fields}))


@cache
def path_reader(family: Family | None, keys: tuple[str, ...]) -> TypeAdapter[dict[str, Any]]:
    """What checks an entry by path that has these keys."""
    fields: dict[str, Any] = dict.fromkeys(keys, Plain if family is METRICS else Anything)
    return TypeAdapter(_keys("path", fields | _own(family) | {"name": Required[Path]}))


def _own(family: Family | None, name: str = "") -> dict[str, Any]:
    """The keys of an entry that are no arguments, but for the name."""
    if family not in (OPTIMIZERS, METRICS):
        return {}
    schedule = {"schedule": Schedule} if family is OPTIMIZERS else {}
    rest = {"rest": _keys(REST, _arguments(OPTIMIZERS, REST))} if name == "Muon" else {}
    return {"label": Label, **schedule, **rest}


def known_keys(place: str, name: str) -> tuple[str, ...]:
    """The keys that an entry under a key of `FAMILIES` may have."""
    family = FAMILIES[place]
    if place == "rest":
        return family.arguments_of(REST)
    name = bare_name(family, name)
    return (*_own(family, name), *family.arguments_of(name))


def _keys(title: str, fields: Mapping[str, Any]) -> Any:
    keys = cast(Any, TypedDict)(title, fields, total=False)
    keys.__pydantic_config__ = ConfigDict(extra="forbid")
    return keys


def _arguments(family: Family, name: str) -> dict[str, Any]:
    if family is METRICS:  # whose values are checked when it is made
        return dict.fromkeys(family.arguments_of(name), Plain)
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
        here = [condition for condition in conditions if condition.place == place]
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
    if not isinstance(entry, Mapping):
        raise must_be(f"a mapping such as {family.example[0]}")
    if "name" not in entry and (meant := nearest("name", entry)):
        refuse(((meant,), "unknown key; did you mean 'name'?"))
    name = bare_name(family, entry.get("name"))
    if isinstance(name, str) and is_path(name):
        return read_path(family, entry)
    if name not in (names := family.names):
        words = ", ".join(["auto", *names] if family is LOSSES else names)
        rule = f"one of {words}, or a path such as {family.example[1]}"
        refuse((where, f"must be {rule}; got {show(name)}{did_you_mean(str(name), names)}"))
    arguments = reader(family, name).validate_python({**entry, "name": name})
    label, _ = arguments.pop("label", ""), arguments.pop("name")
    return Component(name, arguments, label)


def bare_name(family: Family, name: Any) -> Any:
    """The bare name of a class of torch that is called by its path; others as they are."""
    place, _, bare = str(name).rpartition(".")
    is_torchs = place in (family.module, "torch.nn", "torchmetrics")
    return bare if is_torchs and bare in family.names else name


def read_path(family: Family | None, entry: Mapping[str, Any]) -> Component:
    """The component that an entry describes whose name is a path. Raises pydantic's errors."""
    check_keys(entry)
    arguments = path_reader(family, tuple(entry)).validate_python(entry)
    label = arguments.pop("label", "") if _own(family) else ""
    path: str = arguments.pop("name")
    return Component(path, arguments, label)


def _read_schedule(value: Any) -> Component | tuple[Component, ...] | None:
    if value is None:
        return None
    if isinstance(value, list):
        return _SEQUENCE.validate_python(value)
    return read(SCHEDULES, value)


Optimizer = Annotated[Component, PlainValidator(partial(read, OPTIMIZERS))]
"""A component that is read from an entry under `optimizers`."""
Metric = Annotated[
    Component, PlainValidator(partial(read, METRICS)), WithJsonSchema({"definition": "Metric"})
]
"""A component that is read from an entry under `metrics`."""
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
