"""One frozen, checked `Config`, and the sentences for what is wrong with one."""

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import ErrorDetails

from pipeline.common.errors import UserError, did_you_mean, nearest
from pipeline.common.imports import is_path
from pipeline.config import sections
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
    Choice,
    FloatRange,
    IntRange,
    Location,
    Range,
    Text,
    ends,
    filled,
    plain,
    refuse,
)
from pipeline.config.sections import DEFAULT_EXPERIMENT, Integer, Model, Section, model_name
from pipeline.config.yaml_text import block_text, flow_text, resolve, show

Names = Mapping[str, Sequence[str]]
"""The words that may stand at a dotted path."""

DEFAULT_OPTIMIZERS: Any = tuple(
    {"name": name, "lr": {"low": low, "high": high, "log": True}}
    for name, low, high in (
        ("SGD", 1e-3, 1.0),
        ("Adagrad", 1e-3, 1.0),
        ("RMSprop", 1e-4, 1e-1),
        ("Adam", 1e-4, 1e-1),
        ("AdamW", 1e-4, 1e-1),
    )
)


def labelled(components: tuple[Component, ...]) -> tuple[Component, ...]:
    """The components, each with a label that no other has: where none is given, the class's name
    and the arguments in which it differs from others of its class without a label. Raises
    pydantic's `ValidationError` where two are given the same."""
    filled(components)
    first: dict[str, int] = {}
    refuse(
        *(
            ((index, "label"), f"must be given once; entry {first[label]} has {show(label)} too")
            for index, label in enumerate(component.label for component in components)
            if label and first.setdefault(label, index) != index
        )
    )
    unnamed = [component for component in components if not component.label]
    taken = set(first)
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
    differences = (f"{key}={_brief(value)}" for key, value in differing)
    text = " ".join([component.name, *differences])
    room = LONGEST_LABEL - len(" [99999]")
    return text if len(text) <= room else component.name[:room]


def _brief(value: Any) -> str:
    if isinstance(value, FloatRange | IntRange):
        return f"{value.low:g}..{value.high:g}"
    if isinstance(value, Choice):
        return "|".join(map(_brief, value.choice))
    if isinstance(value, Component):
        return value.name
    if isinstance(value, tuple):
        return f"[{', '.join(map(_brief, value))}]"
    return f"{value:g}" if isinstance(value, float) else flow_text(plain(value))


def _read_model(value: Any, info: ValidationInfo) -> Model | Component:
    name = value.get("name", "mlp") if isinstance(value, Mapping) else "mlp"
    if isinstance(name, str) and is_path(name):
        return read_path(None, value)
    if name != "mlp":
        rule = "must be mlp, or a path such as nets.py:Net or package.module.Net; got"
        refuse((("name",), f"{rule} {show(name)}{did_you_mean(str(name), ['mlp'])}"))
    return Model.model_validate(value, context=info.context)


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
    training: sections.Training = sections.Training()
    optimizers: Annotated[tuple[Optimizer, ...], AfterValidator(labelled)] = Field(
        default=DEFAULT_OPTIMIZERS, validate_default=True
    )
    """Classes of torch.optim, or paths, with their keyword arguments; one entry is drawn per
    trial."""
    search: sections.Search = sections.Search()
    registry: sections.Registry = sections.Registry()
    tracking: sections.Tracking = sections.Tracking()

    @model_validator(mode="before")
    @classmethod
    def _name_the_model(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not isinstance(values.get("experiment"), str):
            return values
        registry = values.get("registry", {})
        if isinstance(registry, dict):
            registry = {"name": model_name(values["experiment"]), **registry}
        return values | {"registry": registry}

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        problems: list[tuple[Location, str]] = []
        batch_norm = ends(self.model.batch_norm) if isinstance(self.model, Model) else ()
        if 1 in ends(self.training.batch_size) and True in batch_norm:
            text = "must be at least 2 with model.batch_norm: one row has no variance; got 1"
            problems.append((("training", "batch_size"), text))
        for key, without in (("model", "ensemble"), ("threshold", 0.5)):
            value = getattr(self.registry, key)
            if self.validation.final is None and value != without:
                text = f"must be {without} where validation.final is null; got {show(value)}"
                problems.append((("registry", key), text))
        if self.registry.onnx and self.tracking.keep_models == "none":
            text = "must be false where tracking.keep_models is none; got true"
            problems.append((("registry", "onnx"), text))
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
        if label not in self.labels:
            raise ValueError(f"a label of {list(self.labels)} needed, got {label!r}")
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
        leaves = _leaves(self, "")
        return {path: v if isinstance(v, str) else flow_text(plain(v)) for path, v in leaves}

    def to_yaml(self) -> str:
        """As YAML that `loads` reads back to an equal configuration."""
        return block_text(self.to_plain())


def _children(value: Any) -> Iterable[tuple[Any, Any]]:
    """What stands below a value, by key or index."""
    if isinstance(value, Section | Component):
        return value.leaves().items()
    if isinstance(value, Mapping):
        return value.items()
    return enumerate(value) if isinstance(value, tuple) else ()


def _walk(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """A value and all that stands below it, each by its dotted path."""
    yield path, value
    for key, child in _children(value):
        yield from _walk(child, f"{path}.{key}" if path else str(key))


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """The leaves of sections and components."""
    listed = isinstance(value, tuple) and any(isinstance(child, Component) for child in value)
    if not listed and not isinstance(value, Section | Component):
        yield path, value
        return
    for key, child in _children(value):
        yield from _leaves(child, f"{path}.{key}" if path else str(key))


def check(
    mapping: Mapping[str, Any],
    names: Names | None = None,
    place: Callable[[Location], str] = lambda keys: "",
) -> Config:
    """A configuration from dicts, lists and scalars in the form of the file. Raises `UserError`
    with every problem. `names`: as in `load`. `place` gives what a message about the value at some
    keys begins with."""
    mapping = plain(mapping)
    try:
        return Config.model_validate(mapping, context=names)
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
    "dict_type": "must be a mapping; got {got}",
    "tuple_type": "must be a list; got {got}{hint}",
    "too_long": "must hold at most {max_length} values; got {got}",
    "bool_type": "must be true or false; got {got}{hint}",
    "int_type": "must be an integer; got {got}{hint}",
    "float_type": "must be a number; got {got}{hint}",
    "finite_number": "must be finite; got {got}",
    "greater_than": "must be > {gt:.12g}; got {got}",
    "greater_than_equal": "must be >= {ge:.12g}; got {got}",
    "less_than": "must be < {lt:.12g}; got {got}",
    "less_than_equal": "must be <= {le:.12g}; got {got}",
    "string_type": "must be text; got {got}{hint}",
    "string_too_long": "must be at most {max_length} characters long; got {got}",
    "string_pattern_mismatch": "must be text that is not empty; got {got}",
    "union_tag_invalid": "must be {forms}; got {got}",
}
"""What must be, by pydantic's type of error."""


def _sentence(details: ErrorDetails, mapping: Any) -> str:
    kind, value, context = details["type"], details["input"], details.get("ctx", {})
    if kind == "missing" and details["loc"] == ("data",):
        return "must be given as a mapping with `source` and `target`"
    if kind == "extra_forbidden":
        return _unknown_key(details["loc"], mapping)
    if kind == "literal_error":
        return _one_of(re.findall("'(.*?)'", context["expected"]), value)
    if kind == "expected" and context["text"].startswith("one of "):
        return _one_of(context["text"].removeprefix("one of ").split(", "), value)
    if kind not in _SENTENCES:
        return details["msg"]
    hint = _hint(value, text_needed=kind == "string_type")
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
    if isinstance(value, str) and isinstance(resolve(value), int | float):
        return "; write it without quotes"
    if isinstance(value, str) and value.lower() in ("none", "nil"):
        return "; YAML writes it null"
    if isinstance(value, str) and value.lower() in ("nan", "inf", "-inf", "infinity"):
        return "; a finite number is needed"
    return ""


def _unknown_key(where: Location, mapping: Any) -> str:
    """What an unknown key was probably meant to be."""
    *way, key = map(str, where)
    keys_of = dict(_sections(Config, ""))
    keys_of["optimizers.0."] = ("lr",)
    outer_last = reversed(keys_of.items())
    elsewhere = {key: f"{path}{key}" for path, keys in outer_last for key in keys}
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
        keys = keys_of["".join(f"{part}." for part in way)]
    if hint := did_you_mean(key, keys):
        return f"unknown key{hint}"
    if meant := nearest(key, elsewhere):
        return f"unknown key; did you mean {elsewhere[meant]!r}?"
    return f"unknown key; known are {', '.join(keys)}"


def _sections(section: type[BaseModel], path: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The keys of a section and of those below it, with what stands before: `validation.final.`."""
    yield path, tuple(section.model_fields)
    for key, field in section.model_fields.items():
        for part in (field.annotation, *get_args(field.annotation)):
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from _sections(part, f"{path}{key}.")
