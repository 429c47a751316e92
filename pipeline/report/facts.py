"""What was asked, of which table, and how to do it again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import TYPE_CHECKING, Any

from pipeline.analysis.ranking import Objective
from pipeline.common import text as formats

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.data.dataset import Parts

REPORTED_PACKAGES = ("torch", "mlflow", "optuna", "scikit-learn", "torchmetrics", "pyarrow")


@dataclass(frozen=True)
class Facts:
    """What was asked, of which table, and how to do it again. All texts as they came."""

    experiment: str
    source: str
    target: str
    labels: Sequence[Any]  # by class id; two labels: the second is the positive one
    rows: Mapping[str, int]  # "train" and "test"
    columns: Mapping[str, str]  # columns used -> kind
    left_out: Mapping[str, str]  # columns left out -> why
    folds: int
    repeats: int
    fraction: float  # of the rows that a single hold-out (folds = 1) validates on
    trials: int  # the budget
    epochs: str
    objective: Objective
    optimizers: Sequence[str]
    settings: Mapping[str, str] = field(default_factory=dict)  # every leaf by its dotted path
    command: str = ""
    fingerprint: str = ""  # of the prepared rows
    digest: str = ""  # SHA-256 of the source
    tracking_uri: str = ""
    model_uri: str = ""  # empty: nothing is registered
    versions: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        config: "Config",
        parts: "Parts",
        *,
        command: str = "",
        tracking_uri: str = "",
        model_uri: str = "",
    ) -> "Facts":
        """The facts of a run of `config` on the prepared `parts`; passwords in URLs are hidden."""
        hidden = formats.without_password
        return cls(
            experiment=config.experiment,
            source=hidden(config.data.source),
            target=config.data.target,
            labels=tuple(parts.schema.labels),
            rows=dict(parts.rows),
            columns={column.name: column.kind for column in parts.schema.columns},
            left_out=dict(parts.left_out),
            folds=config.validation.folds,
            repeats=config.validation.repeats,
            fraction=config.validation.fraction,
            trials=config.search.trials,
            epochs=config.flat().get("training.epochs", str(config.training.epochs)),
            objective=config.search.objective,
            optimizers=tuple(dict.fromkeys(entry.name for entry in config.optimizers)),
            settings={name: hidden(value) for name, value in config.flat().items()},
            command=hidden(command),
            fingerprint=parts.directory.name,
            digest=parts.digests.get("source", ""),
            tracking_uri=hidden(tracking_uri),
            model_uri=model_uri,
            versions=versions(),
        )


def versions() -> dict[str, str]:
    """Installed versions of the packages that decide results."""
    return {name: metadata.version(name) for name in REPORTED_PACKAGES}


def validation_words(facts: Facts) -> str:
    """How trials were validated, without a full stop."""
    if facts.folds > 1:
        again = f", repeated {facts.repeats} times" if facts.repeats > 1 else ""
        return f"{facts.folds} folds{again}"
    share = formats.percent(facts.fraction, 0)
    again = f", {facts.repeats} times" if facts.repeats > 1 else ""
    return f"one hold-out of {share} of the rows{again}"
