"""From proposals to trials: members in stacks, and the model of each trial."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from pipeline.analysis.cross_fitting import Answers, cross_fitted
from pipeline.common import files as memory
from pipeline.common.errors import UserError
from pipeline.config import Choice, Config
from pipeline.data import dataset as data
from pipeline.data import splits as folds
from pipeline.data.dataset import Parts
from pipeline.data.encoding import Encoder
from pipeline.models import flavor
from pipeline.models.calibrated import CalibratedEnsemble
from pipeline.models.export import Ensemble, Exporter
from pipeline.search.search import Search
from pipeline.training import trial as trials
from pipeline.training.batches import PARTS
from pipeline.training.loop import Arrays, Member, Settings, fit
from pipeline.training.members import Fit
from pipeline.training.outcomes import Watch
from pipeline.training.proposals import Proposal
from pipeline.training.trial import Trial

EXAMPLE_ROWS = 5

Splitting = Callable[[Config, Parts, data.Rows], tuple[folds.Split, ...]]


class Trainer:
    """Trains batches of proposals on the training rows of `parts`, each on every split.

    Args:
        splits: how the rows are split; as a rule by `config.validation`.
        seed: of initial weights, batches and dropout; None: that of the configuration.
        cross_fit: whether trials can be asked for `answers`.

    Attributes:
        arrays: the rows, encoded for each split.
    """

    def __init__(
        self,
        config: Config,
        parts: Parts,
        splits: Splitting | None = None,
        seed: int | None = None,
        cross_fit: bool = False,
    ) -> None:
        check_device(config)
        rows = data.load_training(parts)
        self.splits = (splits or search_splits)(config, parts, rows)
        raw = torch.from_numpy(rows.raw)
        training_rows = [torch.from_numpy(split.training) for split in self.splits]
        self._encoder = Encoder.fit(raw, parts.schema, training_rows)
        self.arrays = Arrays.build(
            self._encoder, rows.raw, rows.y, self.splits, parts.schema.classes
        )
        self._schema = parts.schema
        self._seed = config.seed if seed is None else seed
        self._cross_fit = cross_fit
        self._exporter = Exporter(len(parts.schema.columns))
        self._exported: set[tuple[tuple[int, ...], str]] = set()
        columns = [column.name for column in parts.schema.columns]
        self._example = rows.table.select(columns).slice(0, EXAMPLE_ROWS).to_pandas()

    def train(self, batch: Sequence[Proposal], search: Search | None = None) -> Iterator[Trial]:
        """The trials of a batch, stack by stack; `search` prunes them."""
        for proposals in stacks(batch):
            settings = self._settings(proposals[0].config)
            members = [member for p in proposals for member in self._members(p.config)]
            owners = [p.number for p in proposals for _ in self.splits]
            started = time.perf_counter()
            watch = search.watch(proposals, owners) if search is not None else None
            fits = self._fit(members, settings, watch)
            seconds = (time.perf_counter() - started) / len(proposals)
            for place, proposal in enumerate(proposals):
                start = place * len(self.splits)
                yield trials.combine(
                    number=proposal.number,
                    config=proposal.config,
                    entry=proposal.entry,
                    params=proposal.params,
                    fits=fits[start : start + len(self.splits)],
                    splits=self.splits,
                    seconds=seconds,
                )

    def _fit(self, members: list[Member], settings: Settings, watch: Watch | None) -> list[Fit]:
        """As `fit`; members whose networks the memory does not hold have failed."""
        weights = self.arrays.architecture(settings).size
        # In 32 bits, at least: a network at work, with its gradients, and what members keep.
        kept = 1 + PARTS if self._cross_fit else 1
        if 4 * weights * (kept * len(members) + 2) <= memory.limit():
            try:
                return fit(self.arrays, members, settings, watch)
            except (MemoryError, RuntimeError) as error:
                if not _is_out_of_memory(error):
                    raise
        none = np.empty(0)
        reason = f"networks of {weights:,} weights do not fit into the memory"
        failed = Fit(none, none, none, 0, np.nan, np.nan, "failed", reason, torch.empty(0))
        return [failed] * len(members)

    def export(self, trial: Trial) -> None:
        """Export the program for the trial's architecture, unless that was done.

        In the thread that trains, while nothing is written: tracing replaces methods of torch for
        the whole process, so nothing else may compute meanwhile. `model` only swaps weights in.
        """
        if not self.is_exported(trial):
            self.model(trial)
            self._exported.add(_program_key(trial))

    def is_exported(self, trial: Trial) -> bool:
        """Whether there is nothing to export for the trial."""
        return trial.state != "COMPLETE" or _program_key(trial) in self._exported

    def model(self, trial: Trial) -> Mapping[str, Any] | None:
        """What the flavor saves of a completed trial: the mean of its members.

        To be called by one thread, after `export` in the one that trains; what it gives is valid
        until the next call.
        """
        if trial.state != "COMPLETE":
            return None
        return self.saved(self.ensemble(trial))

    def ensemble(self, trial: Trial, temperature: float | None = None) -> Ensemble:
        """The mean of the trial's members; with `temperature` its probabilities are tempered."""
        states = torch.stack([fit.weights for fit in trial.fits])
        architecture = self.arrays.architecture(self._settings(trial.config))
        every = torch.arange(len(self.splits))
        encoder = self._encoder.select(every)
        if temperature is None:
            return Ensemble(encoder, architecture, states)
        return CalibratedEnsemble(encoder, architecture, states, temperature)

    def answers(self, trial: Trial) -> list[Answers]:
        """Of a completed trial, for each split, on rows that did not choose the epoch either."""
        architecture = self.arrays.architecture(self._settings(trial.config))
        return cross_fitted(trial.fits, self.arrays, architecture)

    def saved(self, ensemble: Ensemble, threshold: float | None = None) -> Mapping[str, Any]:
        """What the flavor saves; `threshold` is what `predict` takes when it is told none."""
        schema = self._schema.to_dict()
        return {
            "program": self._exporter.program(ensemble),
            "schema": schema if threshold is None else schema | {"threshold": threshold},
            "input_example": self._example,
            "requirements": flavor.default_requirements(),
        }

    def _settings(self, config: Config) -> Settings:
        return Settings(
            hidden=config.model.hidden,
            activation=config.model.activation,
            batch_norm=config.model.batch_norm,
            batch_size=config.training.batch_size,
            seed=self._seed,
            device=config.training.device,
            cross_fit=self._cross_fit,
        )

    def _members(self, config: Config) -> list[Member]:
        """One member for each split, all alike."""
        (optimizer,) = config.optimizers
        return [
            Member(
                split=split,
                optimizer=optimizer.name,
                arguments=optimizer.arguments,
                epochs=config.training.epochs,
                patience=config.training.patience,
                dropout=config.model.dropout,
            )
            for split in range(len(self.splits))
        ]


def _is_out_of_memory(error: Exception) -> bool:
    """torch has a class of error for GPUs only."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(words in str(error) for words in ("can't allocate memory", "not enough memory"))


def _program_key(trial: Trial) -> tuple[tuple[int, ...], str]:
    """Without batch norm: it is folded into the layers, so the program is the same."""
    return trial.config.model.hidden, trial.config.model.activation


def search_splits(config: Config, parts: Parts, rows: data.Rows) -> tuple[folds.Split, ...]:
    """The splits on which every trial of the search is estimated."""
    return folds.make_splits(
        rows.y,
        config.validation.folds,
        config.validation.repeats,
        config.validation.fraction,
        config.seed,
        parts.schema.labels,
    )


def check_device(config: Config) -> None:
    """Raise UserError when torch has no such GPU here."""
    device = config.training.device
    values = device.choice if isinstance(device, Choice) else (device,)
    found = torch.cuda.device_count()
    for value in values:
        if value.startswith("cuda") and int(value.partition(":")[2] or 0) >= found:
            raise UserError(
                f"training.device: must be a device that torch finds here; got {value!r}, and "
                f"torch finds {found} GPUs; auto takes one where there is one"
            )


def stacks(batch: Sequence[Proposal]) -> list[list[Proposal]]:
    """The proposals whose members can share a stack: one shape, batch size and device."""
    groups: dict[tuple[Any, ...], list[Proposal]] = {}
    for proposal in batch:
        model, training = proposal.config.model, proposal.config.training
        key = (
            model.hidden,
            model.activation,
            model.batch_norm,
            training.batch_size,
            training.device,
        )
        groups.setdefault(key, []).append(proposal)
    return list(groups.values())
