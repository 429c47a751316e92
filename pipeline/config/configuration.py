"""YAML -> one frozen, checked `Config`; every problem is reported at once, with path and line."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self, get_args

from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from pipeline.common.errors import UserError, did_you_mean, nearest
from pipeline.config.checks import Broken, Items, Location, Number, Text, path_text, show
from pipeline.config.component import Optimizer, OptimizerRule
from pipeline.config.json_schema import tidy
from pipeline.config.overrides import apply_override
from pipeline.config.ranges import Choice, FloatRange, IntRange, Range, plain
from pipeline.config.sections import (
    DEFAULT_EXPERIMENT,
    Data,
    Model,
    Registry,
    Search,
    Section,
    Tracking,
    Training,
    Validation,
    model_name,
)
from pipeline.config.yaml_text import Node, block_text, decode, flow_text, parse

# A file that is something else altogether has thousands.
MOST_PROBLEMS = 100

DEFAULT_OPTIMIZERS = tuple(
    Optimizer(name, {"lr": FloatRange(low, high, log=True)})
    for name, low, high in (
        ("SGD", 1e-3, 1.0),
        ("Adagrad", 1e-3, 1.0),
        ("RMSprop", 1e-4, 1e-1),
        ("Adam", 1e-4, 1e-1),
        ("AdamW", 1e-4, 1e-1),
    )
)


class Config(Section):
    """A configuration that keeps every rule: of a search, or, without ranges, of one trial."""

    experiment: Annotated[
        str, Text(longest=500), Field(description="MLflow experiment, created when missing.")
    ] = DEFAULT_EXPERIMENT
    seed: Annotated[
        int,
        Number(low=0, high=2**32, open_high=True, integer=True),
        Field(description="Everything random follows from it."),
    ] = 0
    data: Data
    validation: Validation = Validation()
    model: Model = Model()
    training: Training = Training()
    optimizers: Annotated[
        tuple[Optimizer, ...],
        Items(OptimizerRule(), what="a list of at least one optimizer", least=1),
        Field(
            description="torch.optim class names with their keyword arguments;"
            " one entry is drawn per trial."
        ),
    ] = DEFAULT_OPTIMIZERS
    search: Search = Search()
    registry: Registry = Registry()
    tracking: Tracking = Tracking()

    @model_validator(mode="before")
    @classmethod
    def _name_the_model(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not isinstance(values.get("experiment"), str):
            return values
        registry = values.get("registry", {})
        if not isinstance(registry, dict) or "name" in registry:
            return values
        return values | {"registry": registry | {"name": model_name(values["experiment"])}}

    @model_validator(mode="after")
    def _check_batches(self) -> Self:
        one_row = 1 in _ends(self.training.batch_size)
        if one_row and True in _ends(self.model.batch_norm):
            text = "must be at least 2 with model.batch_norm: one row has no variance; got 1"
            raise Broken((("training", "batch_size"), text)).for_pydantic()
        return self

    @model_validator(mode="after")
    def _check_final(self) -> Self:
        if self.validation.final is not None:
            return self
        parts: list[tuple[Location, str]] = []
        for key, without in (("model", "ensemble"), ("threshold", 0.5)):
            value = getattr(self.registry, key)
            if value != without:
                text = f"must be {without} where validation.final is null; got {show(value)}"
                parts.append((("registry", key), text))
        if parts:
            raise Broken(*parts).for_pydantic()
        return self

    def ranges(self) -> dict[str, Range]:
        """Every range by its dotted path: `model.hidden.0`, `optimizers.2.betas.0`."""
        return {path: value for path, value in _leaves(self, "", True) if isinstance(value, Range)}

    def at(self, entry: int, values: Mapping[str, Any]) -> "Config":
        """The configuration of one trial: this one with the optimizer `entry` (from 0) alone and
        every range replaced by its value.

        `values`: dotted path, as in `ranges()`, to value, for every range outside of `optimizers`
        and of the entry; the index in `optimizers.2.lr` is the one that the entry has here.
        Raises `ValueError` when the entry or the paths are others, `UserError` when a value breaks
        its rule.
        """
        if not 0 <= entry < len(self.optimizers):
            raise ValueError(f"an entry from 0 to {len(self.optimizers) - 1} needed, got {entry}")
        own = f"optimizers.{entry}."
        needed = {
            path
            for path in self.ranges()
            if path.startswith(own) or not path.startswith("optimizers.")
        }
        if needed != values.keys():
            raise ValueError(f"values for {sorted(needed)} needed, got {sorted(values)}")
        mapping = self.to_plain()
        for path, value in values.items():
            *way, last = path.split(".")
            place = mapping
            for part in way:
                place = place[int(part) if isinstance(place, list) else part]
            place[int(last) if isinstance(place, list) else last] = plain(value)
        mapping["optimizers"] = [mapping["optimizers"][entry]]
        return check(mapping)

    def flat(self) -> dict[str, str]:
        """Every leaf by its dotted path, as text. A list of values and a range are one leaf each,
        written as in YAML: `[64, 32]`, `{low: 0.001, high: 1.0, log: true}`."""
        return {
            path: value if isinstance(value, str) else flow_text(plain(value))
            for path, value in _leaves(self, "", False)
        }

    def to_yaml(self) -> str:
        """As YAML that `loads` reads back to an equal configuration."""
        return block_text(self.to_plain())


def _ends(leaf: Any) -> tuple[Any, ...]:
    """The values of a choice, both ends of a range, or the one value."""
    if isinstance(leaf, Choice):
        return leaf.choice
    return (leaf.low, leaf.high) if isinstance(leaf, FloatRange | IntRange) else (leaf,)


def _leaves(value: Any, path: str, into_lists: bool) -> Iterator[tuple[str, Any]]:
    children: Iterator[tuple[Any, Any]] | None = None
    if isinstance(value, BaseModel):
        children = ((key, getattr(value, key)) for key in type(value).model_fields)
    elif isinstance(value, Optimizer):
        children = iter({"name": value.name, **value.arguments}.items())
    elif isinstance(value, tuple) and (into_lists or any(isinstance(v, Optimizer) for v in value)):
        children = iter(enumerate(value))
    if children is None:
        yield path, value
        return
    for key, child in children:
        yield from _leaves(child, f"{path}.{key}" if path else str(key), into_lists)


def load(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """The configuration in a file, with `overrides` (`a.b=value`, the value in YAML) put over it.

    Raises `UserError` with every problem: `configs/x.yaml:12: training.epochs: must be ...`.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file{_nearest_file(path)}") from None
    except IsADirectoryError:
        raise UserError(f"{path}: must be a YAML file; got a folder") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    return loads(content, str(path), overrides)


def loads(content: str | bytes, name: str, overrides: Sequence[str] = ()) -> Config:
    """As `load`, of what stands in a file; `name` is what messages call it."""
    text = content if isinstance(content, str) else decode(content, name)
    problems: list[str] = []
    root = parse(text, lambda line: f"{name}:{line}", problems)
    if root is None or root.value is None:
        raise UserError(f"{name}: is empty; data.source and data.target must be given at least")
    if not isinstance(root.value, dict):
        found = show(root.plain())
        raise UserError(f"{root.where}: must be a mapping of keys to values; got {found}")
    for override in overrides:
        root = apply_override(root, override, _default_at, problems)
    return _check(root.plain(), root, problems)


def check(mapping: Mapping[str, Any]) -> Config:
    """A configuration from dicts, lists and scalars in the form of the file. Raises `UserError`."""
    return _check(dict(mapping), None, [])


def json_schema() -> dict[str, Any]:
    """What a file may hold, as JSON Schema (draft 7, which editors understand best)."""
    return tidy(Config.model_json_schema())


def schema_text() -> str:
    """`json_schema()` as the text of a file."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def _default_at(path: str) -> str | None:
    """The default list that an override reaches into, as YAML."""
    defaults = {"optimizers": DEFAULT_OPTIMIZERS, "model.hidden": Model().hidden}
    return flow_text(plain(defaults[path])) if path in defaults else None


def _check(mapping: dict[str, Any], root: Node | None, problems: list[str]) -> Config:
    config = None
    try:
        config = Config.model_validate(mapping)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            place = f"{root.nearest(details['loc']).where}: " if root is not None else ""
            problems.append(f"{place}{path_text(details['loc'])}{_sentence(details)}")
    if config is None or problems:
        more = len(problems) - MOST_PROBLEMS
        rest = [f"and {more} problems more"] if more > 0 else []
        raise UserError(sorted(problems, key=_line)[:MOST_PROBLEMS] + rest)
    return config


def _line(problem: str) -> float:
    """The line that a problem names; overrides come last."""
    place = problem.split(": ", 1)[0]
    line = place.rpartition(":")[2]
    return int(line) if line.isascii() and line.isdigit() else float("inf")


def _sentence(details: ErrorDetails) -> str:
    kind, where = details["type"], details["loc"]
    if kind == "missing":
        needs = " as a mapping with `source` and `target`" if where == ("data",) else ""
        return f"must be given{needs}"
    if kind == "extra_forbidden":
        return "unknown key" + _known_key(where)
    if kind == "model_type":
        return f"must be a mapping of keys to values; got {show(details['input'])}"
    return details["msg"]


def _known_key(where: Location) -> str:
    """What an unknown key was probably meant to be."""
    *way, key = map(str, where)
    section: type[BaseModel] = Config
    for part in way:
        section = _section(section.model_fields[part].annotation)
    siblings = list(section.model_fields)
    if hint := did_you_mean(key, siblings):
        return hint
    elsewhere = {path.rpartition(".")[2]: path for path in _paths()}
    found = nearest(key, elsewhere)
    return (
        f"; did you mean {elsewhere[found]!r}?" if found else f"; known are {', '.join(siblings)}"
    )


def _section(annotation: Any) -> type[BaseModel]:
    """The section that a field holds, also one that may be null."""
    found = next(one for one in (annotation, *get_args(annotation)) if isinstance(one, type))
    assert issubclass(found, BaseModel)
    return found


def _paths() -> Iterator[str]:
    for key, field in Config.model_fields.items():
        yield key
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from (f"{key}.{name}" for name in field.annotation.model_fields)
    yield "optimizers.0.lr"


def _nearest_file(path: Path) -> str:
    try:
        siblings = [one.name for one in path.parent.iterdir() if one.is_file()]
    except OSError:
        return f"; there is no folder {path.parent} either"
    preferred = [one for one in siblings if one.endswith((".yaml", ".yml"))]
    found = nearest(path.name, preferred) or nearest(path.name, siblings)
    return f"; did you mean {str(path.with_name(found))!r}?" if found else ""
