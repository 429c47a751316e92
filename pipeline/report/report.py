"""What a run has to say: the facts that were asked for, the trials, the evidence, the test scores.

`words` and `tables` say it, `page` and `descriptions` show it, `numbers` hold it for programs."""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata
from typing import TYPE_CHECKING, Any

from pipeline.analysis.evaluation import Evaluation
from pipeline.analysis.evidence import Evidence, Finalist
from pipeline.analysis.ranking import OptimizerSummary, best_trial, summarize
from pipeline.common.addresses import masked
from pipeline.common.text import count
from pipeline.models.metrics import Metric, metric_of
from pipeline.training.trial import Trial

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.data.prepared import PreparedData
    from pipeline.report import figures

# Those that decide results.
_PACKAGES = ("torch", "mlflow", "optuna", "scikit-learn", "torchmetrics", "pyarrow")


@dataclass(frozen=True)
class Facts:
    """What was asked, of which table, and how to do it again. All texts as they came."""

    experiment: str
    source: str
    target: str
    labels: Sequence[Any]  # by class id; two labels: the second is the positive one
    rows: Mapping[str, int]  # "train" and "test"
    columns: Mapping[str, str]  # columns used -> kind; arrays have none
    left_out: Mapping[str, str]  # columns left out -> why
    folds: int
    repeats: int
    fraction: float  # of the rows that a single hold-out (folds = 1) validates on
    trials: int  # the budget
    epochs: str
    metric: Metric  # what the best trial is best in
    optimizers: Sequence[str]
    settings: Mapping[str, str] = field(default_factory=dict)  # every leaf by its dotted path
    command: str = ""
    fingerprint: str = ""  # of the prepared rows
    digest: str = ""  # SHA-256 of the source
    tracking_uri: str = ""
    model_uri: str = ""  # empty: nothing is registered
    versions: Mapping[str, str] = field(default_factory=dict)
    commit: str = ""  # of the repository that the command was started in
    machine: str = ""
    arrays: str = ""  # the shape and the dtype of a row; empty: of a table
    groups: str = ""  # the column whose values say which rows belong together
    order: str = ""  # the column that splits go forward in
    counts: Mapping[str, int] = field(default_factory=dict)  # of groups, in "train" and "test"
    warnings: Sequence[str] = ()  # of the rows

    @property
    def form(self) -> str:
        """What a row is: `9 columns`, `[3, 32, 32] uint8`."""
        return self.arrays or count(len(self.columns), "column")

    @classmethod
    def of(
        cls,
        config: "Config",
        parts: "PreparedData",
        command: str,
        store: str,
        model_uri: str = "",
        commit: str = "",
    ) -> "Facts":
        """The facts of a run of `config` on the prepared `parts` on this machine; secrets are
        hidden."""
        settings, schema = config.flat(), parts.schema
        return cls(
            experiment=config.experiment,
            source=masked(config.data.source),
            target=schema.target,
            labels=schema.labels,
            rows=parts.rows,
            columns={column.name: column.kind for column in schema.columns},
            left_out=parts.left_out,
            **{key: getattr(config.validation, key) for key in ("folds", "repeats", "fraction")},
            trials=config.search.trials,
            epochs=settings.get("training.epochs", str(config.training.epochs)),
            metric=metric_of(config),
            optimizers=config.labels,
            settings={name: masked(value) for name, value in settings.items()},
            command=masked(command, config.data.source),
            fingerprint=parts.directory.name,
            digest=parts.digests.get("source", ""),
            tracking_uri=masked(store, store),
            arrays=schema.form if schema.inputs else "",
            groups=config.validation.groups or "",
            order=config.validation.order or "",
            counts=parts.groups,
            warnings=parts.warnings,
            versions={"Python": platform.python_version()}
            | {name: metadata.version(name) for name in _PACKAGES},
            machine=f"{platform.platform()}, {count(os.cpu_count() or 1, 'processor')}",
            model_uri=model_uri,
            commit=commit,
        )


@dataclass(frozen=True)
class Report:
    """Everything that the page and the descriptions are made of."""

    facts: Facts
    trials: Sequence[Trial]
    evaluation: Evaluation | None = None  # None until the test rows have been scored
    evidence: Evidence | None = None  # None where there is no final round
    registered: str = ""  # what became of the model; empty where none was registered
    drawn: "dict[str, figures.Plot]" = field(default_factory=dict, compare=False)
    """Figures that an earlier stage of the command drew; those of this report are added."""

    @property
    def metric(self) -> Metric:
        """What the best trial is best in."""
        return self.facts.metric

    @cached_property
    def best(self) -> Trial | None:
        return best_trial(self.trials, self.metric)

    @property
    def winner(self) -> Finalist | None:
        """Of the final round; None where there is no round, or where all diverged in it."""
        return self.evidence.winner if self.evidence is not None else None

    @cached_property
    def summaries(self) -> list[OptimizerSummary]:
        """One for each optimizer, in the order of the final round, else of the search."""
        finalists = self.evidence.finalists if self.evidence is not None else ()
        place = {finalist.optimizer: number for number, finalist in enumerate(finalists)}
        summaries = summarize(self.trials, self.metric)
        return sorted(summaries, key=lambda each: place.get(each.optimizer, len(place)))

    @cached_property
    def figures(self) -> "dict[str, figures.Plot]":
        """Of the search, the final round and the evaluation, as far as there are, by file name."""
        from pipeline.report import figures  # slow to import, and words need none

        drawn, name = self.drawn, f"landscape_{self.metric.name}"
        if name not in drawn and (plot := figures.landscape(self.trials, self.metric)) is not None:
            drawn[name] = plot
        if "final_scores" not in drawn and self.evidence is not None and self.winner is not None:
            drawn["final_scores"] = figures.final_scores(self.evidence)
        if "calibration" not in drawn and self.evaluation is not None:
            drawn |= figures.evaluation_figures(self.evaluation, self.facts.labels)
        return drawn
