"""The sections of a configuration: their keys, defaults and rules."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipeline.common.text import without_password
from pipeline.config.checks import (
    Broken,
    Either,
    Flag,
    Items,
    Label,
    Location,
    Number,
    OneOf,
    Text,
    show,
)
from pipeline.config.ranges import Leaf, plain

ACTIVATIONS = ("relu", "leaky_relu", "elu", "gelu", "silu", "tanh", "sigmoid")

DEFAULT_EXPERIMENT = "optimizer-search"

# What MLflow takes as the name of a registered model, and what `models:/NAME@champion` can hold:
# no `/`, `:`, `?` or `@`, no control characters, nothing that is another path (`.`, `..`).
_MODEL_NAME = r"^(?![.\s])[^/:?@\x00-\x1f\x7f]*[^/:?@\x00-\x1f\x7f\s]$"
_LONGEST_MODEL_NAME = 250
_MODEL_NAME_TEXT = "a name without '/', ':', '?', '@', a dot at its start or blanks at its ends"

_count = Number(low=1, integer=True)
_repeats = Number(low=1, high=1000, integer=True)
_part = Number(low=0, high=1, open_low=True, open_high=True)
_path = Text("a path, a URL or sklearn:NAME")


class Section(BaseModel):
    """A mapping of the file. Fields under `model` and `training` are typed as in a trial's
    configuration; in one that is still to be searched, each may hold a range instead."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def to_plain(self) -> dict[str, Any]:
        """As dicts, lists and scalars, in the form of the file, every default written out."""
        return {key: plain(getattr(self, key)) for key in type(self).model_fields}


class Data(Section):
    """The table and its label column."""

    source: Annotated[
        str,
        _path,
        Field(
            description="Path or URL of a .csv, .csv.gz, .tsv or .parquet file,"
            " or sklearn:breast_cancer, sklearn:iris, sklearn:wine, sklearn:digits."
        ),
    ]
    sha256: Annotated[
        str | None,
        Text("64 hexadecimal digits", r"^[0-9a-fA-F]{64}$", optional=True, lower=True),
        Field(description="Digest of the file, checked before it is parsed; null: no check."),
    ] = None
    target: Annotated[str, Text(), Field(description="The label column; two labels or more.")]
    positive: Annotated[
        str | int | float | bool | None,
        Label(),
        Field(description="Two labels: the one that counts as 1; null: the greater."),
    ] = None
    drop: Annotated[
        tuple[str, ...],
        Items(Text("a column name"), what="a list of column names", unique=True),
        Field(description="Columns to leave out."),
    ] = ()
    test: Annotated[
        float | str,
        Either(Text("a path or URL"), _part),
        Field(description="Fraction of the rows to hold out, stratified; or a file of test rows."),
    ] = 0.25

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        parts: list[tuple[Location, str]] = []
        if self.target in self.drop:
            where = ("drop", self.drop.index(self.target))
            parts.append((where, f"must leave the target in; got {show(self.target)}"))
        if self.test == self.source:
            parts.append((("test",), f"must be another file than data.source; got {self.test!r}"))
        for key, place in (("source", self.source), ("test", self.test)):
            if isinstance(place, str) and (shown := without_password(place)) != place:
                rule = "must hold no password: the configuration is written to MLflow; got"
                parts.append(((key,), f"{rule} {show(shown)}"))
        if parts:
            raise Broken(*parts).for_pydantic()
        return self


class Final(Section):
    """How the best trial of each optimizer is measured once more, on fresh folds."""

    folds: Annotated[
        int, Number(low=2, integer=True), Field(description="Stratified folds, other ones.")
    ] = 5
    repeats: Annotated[int, _count, Field(description="How often to split anew.")] = 4


class Validation(Section):
    """How a trial is estimated: `folds` stratified folds, `repeats` times over."""

    folds: Annotated[
        int, _count, Field(description="Stratified folds; 1: one hold-out of `fraction`.")
    ] = 5
    repeats: Annotated[int, _repeats, Field(description="How often to split anew.")] = 1
    fraction: Annotated[
        float, _part, Field(description="Fraction that validates, when folds is 1.")
    ] = 0.2
    final: Annotated[
        Final | None,
        Field(description="The final round, which compares the optimizers; null: none."),
    ] = Final()


class Model(Section):
    """The network: fully connected layers."""

    hidden: Annotated[
        tuple[int, ...],
        Leaf(Items(Leaf(_count), what="a list of layer widths")),
        Field(description="Widths of the hidden layers; [] is logistic regression."),
    ] = (64, 32)
    activation: Annotated[
        str, Leaf(OneOf(ACTIVATIONS)), Field(description="After each hidden layer.")
    ] = "relu"
    dropout: Annotated[
        float,
        Leaf(Number(low=0, high=1, open_high=True)),
        Field(description="Probability of dropping a hidden unit."),
    ] = 0.0
    batch_norm: Annotated[
        bool, Leaf(Flag()), Field(description="Batch normalisation before each activation.")
    ] = False


class Training(Section):
    """The loop over epochs."""

    epochs: Annotated[int, Leaf(_count), Field(description="Epochs at most.")] = 200
    batch_size: Annotated[int, Leaf(_count), Field(description="Rows per step.")] = 64
    patience: Annotated[
        int | None,
        Leaf(Number(low=1, integer=True, optional=True)),
        Field(description="Epochs without a lower validation loss; null: run them all."),
    ] = 40
    device: Annotated[
        str,
        Leaf(OneOf(("auto", "cpu", "cuda"), r"^cuda:[0-9]{1,3}$", "cuda:N")),
        Field(description="auto: the first GPU where there is one, else the CPU."),
    ] = "auto"


class Search(Section):
    """How the ranges are searched."""

    trials: Annotated[
        int,
        _count,
        Field(description="The whole budget: a resumed search runs only what is missing."),
    ] = 40
    budget: Annotated[
        Literal["shared", "equal"],
        OneOf(("shared", "equal")),
        Field(
            description="shared: one study, which spends trials where they pay;"
            " equal: a study and as many trials for each entry of `optimizers`."
        ),
    ] = "shared"
    objective: Annotated[
        Literal["val_accuracy", "val_loss"],
        OneOf(("val_accuracy", "val_loss")),
        Field(description="What the best trial is best in."),
    ] = "val_accuracy"
    sampler: Annotated[
        Literal["tpe", "random", "qmc", "gp"],
        OneOf(("tpe", "random", "qmc", "gp")),
        Field(description="Optuna's sampler."),
    ] = "tpe"
    pruner: Annotated[
        Literal["none", "median", "halving"],
        OneOf(("none", "median", "halving")),
        Field(description="Which trials are stopped early."),
    ] = "none"


class Registry(Section):
    """Where the best model is registered, and what kind of model that is."""

    name: Annotated[
        str,
        Text(_MODEL_NAME_TEXT, _MODEL_NAME, longest=_LONGEST_MODEL_NAME),
        Field(description="Registered model; default: the experiment's name."),
    ] = DEFAULT_EXPERIMENT
    model: Annotated[
        Literal["ensemble", "single"],
        OneOf(("ensemble", "single")),
        Field(
            description="ensemble: the mean of the winner's networks of the final round;"
            " single: one network, trained again on all training rows."
        ),
    ] = "ensemble"
    threshold: Annotated[
        float | str,
        Either(
            Text("accuracy, f1 or youden", r"^(accuracy|f1|youden)$"),
            Number(low=0, high=1, open_low=True, open_high=True),
        ),
        Field(
            description="Two labels: the probability above which the positive one is predicted;"
            " or what to choose it for, on validation rows: accuracy, f1 or youden."
        ),
    ] = 0.5
    calibrate: Annotated[
        bool,
        Flag(),
        Field(description="Fit a temperature to the probabilities, on validation rows."),
    ] = True
    onnx: Annotated[
        bool,
        Flag(),
        Field(description="Put an ONNX file into the registered model's folder as well."),
    ] = False


class Tracking(Section):
    """What stays in MLflow."""

    keep_models: Annotated[
        Literal["all", "best_per_optimizer", "champion"],
        OneOf(("all", "best_per_optimizer", "champion")),
        Field(description="Trials whose models stay; a registered one and the best always do."),
    ] = "all"


def model_name(experiment: str) -> str:
    """The experiment's name as one that a registered model can have."""
    name = "".join("-" if c in "/:?@" or ord(c) < 32 or ord(c) == 127 else c for c in experiment)
    return re.sub(r"^[.\s]+", "", name)[:_LONGEST_MODEL_NAME].rstrip() or DEFAULT_EXPERIMENT
