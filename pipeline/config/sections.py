"""The sections of a configuration: their keys, defaults and rules."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    Strict,
    TypeAdapter,
    ValidationInfo,
    model_validator,
)

from pipeline.common.addresses import has_userinfo, masked
from pipeline.config.component import Component, Loss, Schedule
from pipeline.config.ranges import (
    LARGEST_INTEGER,
    Finite,
    Flag,
    Number,
    Plain,
    Searchable,
    String,
    Text,
    ends,
    expected,
    filled,
    must_be,
    plain,
    refuse,
)
from pipeline.config.yaml_text import Location, flow_text, show

DEFAULT_EXPERIMENT = "optimizer-search"
SMOOTHING = 0.1

Name = Annotated[
    Text, BeforeValidator(lambda value: str(value) if type(value) in (int, float) else value)
]
"""Of a column, or what stands in one; a number stands for its text."""
Integer = Annotated[int, Strict()]
Count = Annotated[Integer, Field(ge=1, le=LARGEST_INTEGER)]
Positive = Annotated[Number, Field(gt=0)]
Fraction = Annotated[Finite, Field(gt=0, lt=1)]
Side = Annotated[Integer, Field(ge=1, le=4096)]
Path = Annotated[Text, expected("a path, a URL or sklearn:NAME")]
Digest = Annotated[String, Field(pattern="^[0-9a-fA-F]{64}$"), AfterValidator(str.lower)]
Device = Annotated[
    String,
    Field(pattern="^(auto|cpu|cuda(:[0-9]{1,3})?)$"),
    expected("one of auto, cpu, cuda, cuda:N"),
]
# What MLflow takes as the name of a registered model, and what `models:/NAME@champion` can hold:
# no `/`, `:`, `?` or `@`, no control characters, nothing that is another path (`.`, `..`).
LONGEST_MODEL_NAME = 250
ModelName = Annotated[
    String,
    Field(pattern=r"^[^./:?@\s\x00-\x1f\x7f]([^/:?@\x00-\x1f\x7f]{0,248}[^/:?@\s\x00-\x1f\x7f])?$"),
    expected("a name of at most 250 characters without / : ? @, a first dot or blanks at its ends"),
]


class Section(BaseModel):
    """A mapping of the file. The text below a key describes it in the JSON Schema."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    def leaves(self) -> dict[str, Any]:
        """What stands in the file, by key."""
        return dict(self)

    def to_plain(self) -> dict[str, Any]:
        """As dicts, lists and scalars, in the form of the file, every default written out."""
        return dict(plain(self))


TABLES = (
    r"^sklearn:|\.(csv|tsv|txt|data)(\.(gz|bz2|xz|zip))?$"
    r"|\.(xlsx|parquet|feather|arrow|orc|jsonl|ndjson)$"
)
"""Sources that are tables, whatever else may be one."""


def _target(value: str | None, info: ValidationInfo) -> str | None:
    if value is None and re.search(TABLES, info.data.get("source", ""), re.IGNORECASE):
        refuse(((), "must be given"))
    return value


Separator = Annotated[String, Field(pattern=r"^[\t -~]$"), expected("one sign of ASCII")]
Encoding = Annotated[
    String, Field(pattern=r"^[A-Za-z0-9_-]+$"), expected("an encoding that Python knows")
]
_DIRECTIVE = "%[aAbBdHIjmMpSyYzf%]"
DateFormat = Annotated[
    String,
    Field(pattern=f"^([^%]|{_DIRECTIVE})*{_DIRECTIVE}([^%]|{_DIRECTIVE})*$"),
    expected("a form of dates as strptime has it, such as '%d/%m/%Y'"),
]


class Data(Section):
    """The examples: a table and its label column, arrays, images, or what a function gives."""

    source: Path
    """Path or URL of a table: .csv, .tsv, .txt, .data (also with .gz, .bz2, .xz, .zip), .xlsx,
    .parquet, .feather, .arrow, .orc, .jsonl; a folder or a pattern of such files, all of one form;
    sklearn:breast_cancer, sklearn:iris, sklearn:wine, sklearn:digits; a .npz file with `x` and `y`;
    a folder of images with a folder for each label; or FILE.py:NAME, what gives (x, y) or a
    map-style data set."""
    arguments: dict[String, Plain] = {}
    """Of FILE.py:NAME."""
    size: tuple[Side, Side] | None = None
    """Images are brought to [height, width]; null: they have one size."""
    sha256: Annotated[Digest | None, expected("64 hexadecimal digits or null")] = None
    """Digest of the file, checked before it is parsed; null: no check."""
    target: Annotated[Name | None, AfterValidator(_target)] = Field(
        default=None, validate_default=True
    )
    """The label column of a table; two labels or more."""
    positive: Annotated[
        String | Integer | Finite | Flag | None,
        expected("a label: text, a finite number, true, false or null"),
    ] = None
    """Two labels: the one that counts as 1; null: the greater."""
    drop: tuple[Name, ...] = ()
    """Columns to leave out."""
    categorical: tuple[Name, ...] = ()
    """Columns that are categories whatever they look like."""
    max_categories: Annotated[Integer, Field(ge=1, le=10_000)] = 64
    """Of a column with more, the most frequent ones are kept."""
    dates: dict[Name, DateFormat] = {}
    """Column: the form of its dates, as strptime has it, such as '%d/%m/%Y'."""
    missing: tuple[Name, ...] = ()
    """Further marks that count as missing, text or numbers."""
    separator: Separator | None = None
    """Of text files, one sign; a blank is any number of blanks and tabs. null: found out."""
    encoding: Encoding | None = None
    """Of text files, a name that Python knows. null: found out."""
    decimal: Literal[".", ","] | None = None
    """The decimal sign of text files. null: found out."""
    header: Annotated[Integer, Field(ge=0, le=LARGEST_INTEGER)] | None = None
    """The line that the header of text files is on, from 1; 0: there is none, and columns are
    called by their positions, from 0. null: found out."""
    unlabelled: Literal["error", "drop"] = "error"
    """drop: rows without a label are left out."""
    rare_labels: Literal["error", "drop"] = "error"
    """drop: rows of labels that have too few rows for the folds are left out."""
    duplicates: Literal["keep", "drop"] = "keep"
    """drop: of rows that are the same in every column that is used, and in the label, one stays."""
    test: Annotated[Fraction | Text, expected("a number in (0, 1), or a path or URL")] = 0.25
    """Fraction of the rows to hold out, stratified, or of the groups, or the latest rows; or a file
    of test rows."""

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        problems: list[tuple[Location, str]] = []
        if self.target in self.drop:
            keys = ("drop", self.drop.index(self.target))
            problems.append((keys, f"must leave the target in; got {show(self.target)}"))
        if self.test == self.source:
            rule = "must be another file than data.source; got"
            problems.append((("test",), f"{rule} {self.test!r}"))
        for key, place in (("source", self.source), ("test", self.test)):
            if isinstance(place, str) and has_userinfo(place):
                rule = "must hold no password: the configuration is written to MLflow; got"
                problems.append(((key,), f"{rule} {show(masked(place))}"))
        refuse(*problems)
        return self


class Final(Section):
    """How the best trial of each optimizer is measured once more, on fresh folds."""

    folds: Annotated[Count, Field(ge=2)] = 5
    """Stratified folds, other ones."""
    repeats: Count = 4
    """How often to split anew."""


class Validation(Section):
    """How a trial is estimated: `folds` stratified folds, `repeats` times over."""

    folds: Count = 5
    """Stratified folds; 1: one hold-out of `fraction`."""
    repeats: Annotated[Count, Field(le=1000)] = 1
    """How often to split anew."""
    fraction: Fraction = 0.2
    """Fraction that validates, when folds is 1."""
    final: Final | None = Final()
    """The final round, which compares the optimizers; null: none."""
    groups: Name | None = None
    """Column whose values say which rows belong together, such as a patient: they stand on one side
    of every split, and uncertainty counts groups. It is no input."""
    order: Name | None = None
    """Column of dates or numbers: what trains comes before what validates, and the test rows are
    the latest. It is no input."""


Activation = Literal["relu", "leaky_relu", "elu", "gelu", "silu", "tanh", "sigmoid"]


class Model(Section):
    """The network: fully connected layers, or somebody's own by its path, with its arguments."""

    name: Annotated[Literal["mlp"], expected("mlp, or a path such as nets.py:Net")] = "mlp"
    """mlp; or FILE.py:NAME or package.module.NAME: a class of modules, or a function that returns
    one. All further keys are its arguments."""
    encoding: Searchable[Literal["standard", "quantiles"]] = "standard"
    """Of a table's numbers. standard: by mean and standard deviation; quantiles: beside that in
    pieces from quantile to quantile, each from 0 before to 1 after it."""
    pieces: Searchable[Annotated[Integer, Field(ge=2, le=1024)]] = 8
    """Of a number's range, at most, where the encoding is quantiles."""
    hidden: Searchable[tuple[Searchable[Count], ...]] = (64, 32)
    """Widths of the hidden layers; [] is logistic regression."""
    activation: Searchable[Activation] = "relu"
    """After each hidden layer."""
    dropout: Searchable[Annotated[Finite, Field(ge=0, lt=1)]] = 0.0
    """Probability of dropping a hidden unit."""
    batch_norm: Searchable[Flag] = False
    """Batch normalisation before each activation."""

    @property
    def quantiles(self) -> int:
        """The most pieces that numbers are encoded in; 0: in none."""
        return max(ends(self.pieces)) if "quantiles" in ends(self.encoding) else 0


Weights = dict[String, Positive]
_WEIGHTS = TypeAdapter(Annotated[Weights, AfterValidator(filled)])


def _class_weight(value: Any) -> Any:
    if isinstance(value, Mapping):
        texts = {k if isinstance(k, str) else flow_text(k): weight for k, weight in value.items()}
        return _WEIGHTS.validate_python(texts)
    if value not in (None, "balanced"):
        raise must_be("null, balanced or a mapping such as {LABEL: 2.0}")
    return value


class Training(Section):
    """The loop over epochs."""

    epochs: Searchable[Count] = 200
    """Epochs at most."""
    batch_size: Searchable[Count] = 64
    """Rows per step."""
    patience: Searchable[Count | None] = 40
    """Epochs without a better one: of a higher validation accuracy, or of as high a one and a lower
    loss, where the objective is val_accuracy; else of a lower loss; null: run them all."""
    device: Searchable[Device] = "auto"
    """auto: the first GPU where there is one, else the CPU."""
    loss: Loss = Field(default=None, json_schema_extra={"default": "auto"})
    """auto: cross entropy of logits; else a class of torch.nn with its arguments, or a path."""
    class_weight: Annotated[
        Literal["balanced"] | Weights | None,
        PlainValidator(_class_weight, json_schema_input_type=Literal["balanced"] | Weights | None),
    ] = None
    """What an error counts by its label: balanced, as much in all as other labels; {LABEL: number};
    null: each row the same."""
    label_smoothing: Searchable[Annotated[Finite, Field(ge=0, lt=1)]] = 0.0
    """Share of a row's label that is dealt out evenly to all labels, in training alone, with the
    loss auto; default: 0.1 where the objective is val_accuracy."""
    schedule: Schedule = Field(
        default_factory=lambda: Component("CosineAnnealingLR", {}),
        json_schema_extra={"default": "CosineAnnealingLR"},
    )
    """Of the learning rate: a class of torch.optim.lr_scheduler with its arguments, or a path; a
    list of them is a sequence; null: none. An entry of `optimizers` may have its own."""
    clip_norm: Searchable[Positive | None] = None
    """Norm that a network's gradients are scaled down to; null: as they are."""

    def leaves(self) -> dict[str, Any]:
        """What stands in the file, by key."""
        return super().leaves() | ({"loss": "auto"} if self.loss is None else {})


class Search(Section):
    """How the ranges are searched."""

    trials: Count = 40
    """The whole budget: a resumed search runs only what is missing."""
    budget: Literal["shared", "equal"] = "shared"
    """shared: one study, which spends trials where they pay; equal: a study and as many trials for
    each entry of `optimizers`."""
    objective: Annotated[Text, Field(json_schema_extra={"pattern": "^val_."})] = "val_accuracy"
    """What the best trial is best in: val_accuracy, val_loss, val_auroc, val_balanced_accuracy,
    val_f1_score, or val_ and the name of one of `metrics`."""
    sampler: Literal["tpe", "random", "qmc", "gp"] = "tpe"
    """How trials are drawn: Optuna's TPE or Gaussian processes, at random, or a Sobol sequence."""
    pruner: Literal["none", "median", "halving"] = "none"
    """Which trials are stopped early."""


class Registry(Section):
    """Where the best model is registered, and what kind of model that is."""

    name: ModelName = DEFAULT_EXPERIMENT
    """Registered model; default: the experiment's name."""
    model: Literal["ensemble", "single"] = "ensemble"
    """ensemble: the mean of the winner's networks of the final round; single: one network, trained
    again on all training rows."""
    threshold: Annotated[
        Fraction | Text, expected("a number in (0, 1), or accuracy, f1, youden or a metric")
    ] = 0.5
    """Two labels: the probability above which the positive one is predicted; or what to choose it
    for, on validation rows: accuracy, f1, youden, or a metric that judges predicted labels."""
    calibrate: Flag = True
    """Fit a temperature to the probabilities, on validation rows."""


class Tracking(Section):
    """What stays in MLflow."""

    keep_models: Literal["all", "best_per_optimizer", "champion", "none"] = "all"
    """Trials whose models stay; a registered one and the best always do. none: no model is made."""


class Compute(Section):
    """Where trials are trained. Another place changes nothing about them."""

    engine: Literal["local", "ray"] = "local"
    """local: in this process; ray: on a cluster, or in as many processes as there are cores."""
    address: Annotated[
        Annotated[String, Field(pattern=r"^(auto|local|[^:/\s]+:[0-9]{1,5})$")] | None,
        expected("HOST:PORT of a Ray cluster, auto, local or null"),
    ] = None
    """Of a Ray cluster that this machine is part of, such as 10.0.0.1:6379; null: that in
    RAY_ADDRESS, else one is started here."""


def model_name(experiment: str) -> str:
    """The experiment's name as one that a registered model can have."""
    name = "".join("-" if c in "/:?@" or ord(c) < 32 or ord(c) == 127 else c for c in experiment)
    return re.sub(r"^[.\s]+", "", name)[:LONGEST_MODEL_NAME].rstrip() or DEFAULT_EXPERIMENT
