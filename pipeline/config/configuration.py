"""One frozen, checked `Config`, and the sentences for what is wrong with one."""

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    Field,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from pipeline.common.errors import UserError, did_you_mean, nearest
from pipeline.common.imports import is_path
from pipeline.config import measures, sections
from pipeline.config.component import (
    FAMILIES,
    FUNCTIONS,
    LONGEST_LABEL,
    Component,
    Optimizer,
    known_keys,
    read_path,
)
from pipeline.config.ranges import (
    FORMS,
    FloatRange,
    IntRange,
    Range,
    Text,
    ends,
    filled,
    plain,
    refuse,
)
from pipeline.config.sections import DEFAULT_EXPERIMENT, Integer, Model, Section, model_name
from pipeline.config.yaml_text import Location, flow_text, resolve, show, text_of

DEFAULT_OPTIMIZERS: Any = tuple(  # the ranges are those of docs/atlas
    {"name": name, "lr": {"low": low, "high": high, "log": True}}
    for name, low, high in (
        ("SGD", 1e-2, 3.0),
        ("Adagrad", 1e-2, 1.0),
        ("RMSprop", 1e-3, 1e-1),
        ("Adam", 1e-3, 1e-1),
        ("AdamW", 1e-3, 1e-1),
    )
)


def labelled(components: tuple[Component, ...]) -> tuple[Component, ...]:
    """The components, each with a label that no other has: where none is given, the class's name
    and the arguments in which it differs from others of its class without a label. Raises
    pydantic's `ValidationError` where two are given the same."""
    filled(components)
    given = [component.label for component in components]
    twice = ((i, label) for i, label in enumerate(given) if label and label in given[:i])
    refuse(*(((i, "label"), f"must be given once; got {show(text)} again") for i, text in twice))
    unnamed = [component for component in components if not component.label]
    taken = set(given)
    result = []
    for component in components:
        label = component.label
        if not label:
            text = _described(component, [c.arguments for c in unnamed if c.path == component.path])
            texts = itertools.chain([text], (f"{text} [{n}]" for n in itertools.count(2)))
            label = next(text for text in texts if text not in taken)
        taken.add(label)
        result.append(replace(component, label=label))
    return tuple(result)


def _described(component: Component, siblings: Sequence[Mapping[str, Any]]) -> str:
    """The class's name and the arguments in which the component differs from its siblings."""
    own = component.arguments.items()
    differing = ((k, v) for k, v in own if any(other.get(k, ...) != v for other in siblings))
    text = " ".join([component.name, *(f"{key}={_brief(value)}" for key, value in differing)])
    room = LONGEST_LABEL - len(" [99999]")
    return text if len(text) <= room else component.name[:room]


def _brief(value: Any) -> str:
    if isinstance(value, FloatRange | IntRange):
        return f"{value.low:g}..{value.high:g}"
    if isinstance(value, Component):
        return value.name
    return f"{value:g}" if isinstance(value, float) else flow_text(plain(value))


def _read_model(value: Any) -> Model | Component:
    name = value.get("name") if isinstance(value, Mapping) else None
    if isinstance(name, str) and is_path(name):
        return read_path(None, value)
    return Model.model_validate(value)


class Config(Section):
    """A configuration that keeps every rule: of a search, or, without ranges, of one trial."""

    experiment: Annotated[Text, Field(max_length=500)] = DEFAULT_EXPERIMENT
    """MLflow experiment, created when missing."""
    seed: Annotated[Integer, Field(ge=0, lt=2**32)] = 0
    """Everything random follows from it."""
    data: sections.Data
    validation: sections.Validation = sections.Validation()
    model: Annotated[
        Model | Component, PlainValidator(_read_model, json_schema_input_type=Model)
    ] = Model()
    training: sections.Training = Field(default_factory=sections.Training)
    optimizers: Annotated[tuple[Optimizer, ...], AfterValidator(labelled)] = Field(
        default=DEFAULT_OPTIMIZERS, validate_default=True
    )
    """Classes of torch.optim, or paths, with their keyword arguments; one entry is drawn per
    trial."""
    metrics: measures.Metrics = ()
    """What else is measured: classes of torchmetrics.classification with their arguments, or paths.
    """
    search: sections.Search = sections.Search()
    registry: sections.Registry = sections.Registry()
    tracking: sections.Tracking = sections.Tracking()
    compute: sections.Compute = sections.Compute()

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: Any) -> Any:
        """What follows from other keys: the smoothing of labels, the name of the model."""
        if not isinstance(values, dict):
            return values
        search, training = values.get("search", {}), values.get("training", {})
        if isinstance(search, dict) and isinstance(training, dict):
            is_plain = training.get("loss") in (None, "auto")
            by_accuracy = search.get("objective", "val_accuracy") == "val_accuracy"
            smoothing = sections.SMOOTHING if is_plain and by_accuracy else 0.0
            values = values | {"training": {"label_smoothing": smoothing, **training}}
        if not isinstance(values.get("experiment"), str):
            return values
        registry = values.get("registry", {})
        if isinstance(registry, dict):
            registry = {"name": model_name(values["experiment"]), **registry}
        return values | {"registry": registry}

    @field_validator("search", "registry")
    @classmethod
    def _check_metric(cls, section: Any, info: ValidationInfo) -> Any:
        for key, words in measures.words(info.data.get("metrics", ())).items():
            value = getattr(section, key, None)
            if "metrics" in info.data and isinstance(value, str) and value not in words:
                refuse(((key,), _one_of(words, value)))
        return section

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        problems: list[tuple[Location, str]] = []
        batch_norm = ends(self.model.batch_norm) if isinstance(self.model, Model) else ()
        if 1 in ends(self.training.batch_size) and True in batch_norm:
            text = "must be at least 2 with model.batch_norm: one row has no variance; got 1"
            problems.append((("training", "batch_size"), text))
        for key in ("groups", "order"):
            if (column := getattr(self.validation, key)) is not None and column == self.data.target:
                text = f"must be another column than data.target; got {show(column)}"
                problems.append((("validation", key), text))
        if self.compute.engine == "ray":
            for device in (each for each in ends(self.training.device) if ":" in each):
                text = f"must be auto, cpu or cuda where Ray chooses the GPU; got {device}"
                problems.append((("training", "device"), text))
        if self.validation.groups is not None and self.validation.order is not None:
            text = f"must be null beside groups; got {show(self.validation.order)}"
            problems.append((("validation", "order"), text))
        for key, without in (("model", "ensemble"), ("threshold", 0.5)):
            value = getattr(self.registry, key)
            if self.validation.final is None and value != without:
                text = f"must be {without} where validation.final is null; got {show(value)}"
                problems.append((("registry", key), text))
        refuse(*problems)
        return self

    @property
    def labels(self) -> tuple[str, ...]:
        """What tables and pages call the entries of `optimizers`, in their order; all differ."""
        return tuple(component.label for component in self.optimizers)

    def ranges(self) -> dict[str, Range]:
        """Every range by its dotted path: `model.hidden.0`, `optimizers.2.betas.0`."""
        return {path: value for path, value in _walk(self, "") if isinstance(value, Range)}

    def paths(self) -> dict[str, str]:
        """What people brought, by the dotted path of its key: `model.name`, `data.source`,
        `optimizers.2.schedule.lr_lambda`; each `FILE.py:NAME` or `package.module.NAME`."""
        source = self.data.source
        found = {"data.source": source} if re.search(r"\.py:[^\W\d][\w.]*$", source) else {}
        for path, value in _walk(self, ""):
            if isinstance(value, Component):
                keys = ("name",) if is_path(value.path) else FUNCTIONS
                leaves = value.leaves()
                found |= {f"{path}.{key}": leaves[key] for key in keys if key in leaves}
        return found

    def at(self, label: str, values: Mapping[str, Any]) -> "Config":
        """The configuration of one trial: this one with the labelled optimizer alone, which keeps
        its label, and every range replaced by its value.

        `values`: dotted path, as in `ranges()`, to value, for every range outside of `optimizers`
        and of the entry; the index in `optimizers.2.lr` is the one that the entry has here.
        Raises `ValueError` when the label or the paths are others, `UserError` when a value breaks
        its rule."""
        entry = self.labels.index(label)
        own = f"optimizers.{entry}."
        needed = {p for p in self.ranges() if p.startswith(own) or not p.startswith("optimizers.")}
        if needed != values.keys():
            raise ValueError(f"values for {sorted(needed)} needed, got {sorted(values)}")
        mapping = self.to_plain()
        for path, value in values.items():
            *way, last = path.split(".")
            place = mapping
            for part in way:
                place = place[int(part) if isinstance(place, list) else part]
            place[int(last) if isinstance(place, list) else last] = value
        mapping["optimizers"] = [mapping["optimizers"][entry]]
        return check(mapping)

    def flat(self) -> dict[str, str]:
        """Every leaf by its dotted path, as text. A list of values, a mapping that is a value and
        a range are one leaf each, written as in YAML: `[64, 32]`, `{low: 0.001, high: 1.0}`."""
        leaves = ((path, v) for path, v in _walk(self, "", _is_leaf) if _is_leaf(v))
        return {path: v if isinstance(v, str) else flow_text(plain(v)) for path, v in leaves}

    def to_yaml(self) -> str:
        """As YAML that `loads` reads back to an equal configuration."""
        return text_of(self.to_plain())


def _children(value: Any) -> Iterable[tuple[Any, Any]]:
    """What stands below a value, by key or index."""
    if isinstance(value, Section | Component):
        return value.leaves().items()
    if isinstance(value, Mapping):
        return value.items()
    return enumerate(value) if isinstance(value, tuple) else ()


def _walk(
    value: Any, path: str, ends_at: Callable[[Any], bool] = lambda value: False
) -> Iterator[tuple[str, Any]]:
    """A value and all that stands below it, each by its dotted path."""
    yield path, value
    for key, child in () if ends_at(value) else _children(value):
        yield from _walk(child, f"{path}.{key}" if path else str(key), ends_at)


def _is_leaf(value: Any) -> bool:
    """Whether it is a leaf of a section or of a component."""
    listed = isinstance(value, tuple) and any(isinstance(child, Component) for child in value)
    return not listed and not isinstance(value, Section | Component)


def check(mapping: Mapping[str, Any], place: Callable[[Location], str] = lambda keys: "") -> Config:
    """A configuration from dicts, lists and scalars in the form of the file. Raises `UserError`
    with every problem. `place` gives what a message about the value at some keys begins with."""
    mapping = plain(mapping)
    try:
        return Config.model_validate(mapping)
    except ValidationError as error:
        problems = []
        for details in error.errors(include_url=False):
            keys = tuple(key for key in details["loc"] if key not in FORMS)
            path = ".".join(map(str, keys)) + ": " if keys else ""
            problems.append(place(keys) + path + _sentence(details, mapping))
        raise UserError(problems) from None


_SENTENCES: Mapping[str, str] = {
    "missing": "must be given",
    "rule": "{text}",
    "value_error": "{error}",
    "condition": "{rule}, but got {got}",
    "expected": "must be {text}; got {got}{hint}",
    "model_type": "must be a mapping of keys to values; got {got}",
    "tuple_type": "must be a list; got {got}{hint}",
    "bool_type": "must be true or false; got {got}{hint}",
    "string_pattern_mismatch": "must be text that is not empty; got {got}",
    "union_tag_invalid": "must be {forms}; got {got}",
}
"""What must be, by pydantic's type of error, where its own words say too little."""


def _sentence(details: ErrorDetails, mapping: Any) -> str:
    kind, value, context = details["type"], details["input"], details.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(details["loc"], mapping)
    if kind == "literal_error":
        return _one_of(re.findall("'(.*?)'", context["expected"]), value)
    hint = _hint(value, text_needed=kind == "string_type")
    if kind not in _SENTENCES:
        return f"{details['msg'].replace('Input should', 'must')}; got {show(value)}{hint}"
    forms = context.get("expected_tags", "").replace("'", "").replace(", {", " or {")
    return _SENTENCES[kind].format(**context, got=show(value), hint=hint, forms=forms)


def _one_of(words: Sequence[str], value: object) -> str:
    hint = did_you_mean(value, words) if isinstance(value, str) else ""
    return f"must be one of {', '.join(words)}; got {show(value)}{hint or _hint(value)}"


def _hint(value: object, text_needed: bool = False) -> str:
    if text_needed and isinstance(value, int | float):
        return "; put it in quotes"
    if isinstance(value, Mapping) and {"low", "high", "choice"} & set(value):
        return "; a range cannot stand here"
    is_number = isinstance(value, str) and isinstance(resolve(value), int | float)
    return "; write it without quotes" if is_number else ""


def _unknown_key(where: Location, mapping: Any) -> str:
    """What an unknown key was probably meant to be."""
    *way, key = map(str, where)
    default = Config.model_validate({"data": {"source": "."}})
    elsewhere = {path.rpartition(".")[2]: path for path, _ in reversed([*_walk(default, "")])}
    place = next((part for part in reversed(way) if not part.isdigit()), "")
    if way and way[-1] in FORMS:
        keys: Sequence[str] = FORMS[way[-1]]
    elif place in FAMILIES:
        if reason := FAMILIES[place].withheld.get(key):
            return f"cannot be set: {reason}"
        for part in where[:-1]:
            mapping = mapping[part]
        keys, elsewhere = known_keys(place, mapping.get("name")), {}
    else:
        keys = tuple(reduce(getattr, way, default).leaves())
    if hint := did_you_mean(key, keys):
        return f"unknown key{hint}"
    if meant := nearest(key, elsewhere):
        return f"unknown key; did you mean {elsewhere[meant]!r}?"
    return f"unknown key; known are {', '.join(keys)}"
