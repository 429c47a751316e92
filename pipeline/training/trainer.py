"""From proposals to trials: members in stacks, and the model of each trial."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from pipeline.common import files
from pipeline.common.errors import UserError
from pipeline.config import Choice, Config
from pipeline.data.encoding import Encoder
from pipeline.data.prepared import PreparedData, Rows, load_training
from pipeline.data.splits import Split, make_splits
from pipeline.models import flavor
from pipeline.models.export import Ensemble, Exporter
from pipeline.models.mlp import Architecture
from pipeline.models.task import Classification
from pipeline.optimizers.stacked import OptimizerSpec
from pipeline.training.batches import CROSS_FIT_SHARES, Arrays
from pipeline.training.executors import Executor, Local, Shard
from pipeline.training.loop import fit
from pipeline.training.members import Member, Settings, stack_key
from pipeline.training.outcomes import Fit, Outcomes, Watch
from pipeline.training.trial import Trial, ended

EXAMPLE_ROWS = 5

Splitting = Callable[[Config, PreparedData, Rows], tuple[Split, ...]]
Watching = Callable[[Sequence[Trial], Sequence[int]], Watch | None]
"""The proposals of a stack, and for each of its members the number of its trial -> what is asked
after each epoch which members to drop; None: none will be."""


def search_splits(config: Config, parts: PreparedData, rows: Rows) -> tuple[Split, ...]:
    """The splits on which every trial of the search is estimated."""
    how, labels = config.validation, parts.schema.labels
    return make_splits(rows.y, how.folds, how.repeats, how.fraction, config.seed, labels)


class Trainer:
    """Trains batches of proposals on the training rows of `parts`, each on every split.

    Args:
        splits: how the rows are split; as a rule by `config.validation`.
        seed: of initial weights, batches and dropout; None: that of the configuration.
        cross_fit: see `Settings`.
        executor: where the members are trained.

    Attributes:
        arrays: the rows, encoded for each split.
    """

    def __init__(
        self,
        config: Config,
        parts: PreparedData,
        splits: Splitting = search_splits,
        seed: int | None = None,
        cross_fit: bool = False,
        executor: Executor | None = None,
    ) -> None:
        check_device(config)
        rows = load_training(parts)
        self.splits = splits(config, parts, rows)
        raw = torch.from_numpy(rows.raw)
        training_rows = [torch.from_numpy(split.training) for split in self.splits]
        self._encoder = Encoder.fit(raw, parts.schema, training_rows)
        task = Classification(parts.schema.classes)
        self.arrays = Arrays.build(self._encoder, rows.raw, rows.y, self.splits, task)
        self._schema = parts.schema
        self._settings = Settings(config.seed if seed is None else seed, cross_fit=cross_fit)
        self._executor = executor or Local()
        self._exporter = Exporter(len(parts.schema.columns))
        self._exported: set[Architecture] = set()
        columns = [column.name for column in parts.schema.columns]
        self._example = rows.table.select(columns).slice(0, EXAMPLE_ROWS).to_pandas()

    def train(self, batch: Sequence[Trial], watch: Watching | None = None) -> Iterator[Trial]:
        """The trials of a batch, stack by stack; what `watch` gives for a stack prunes them."""
        groups = stacks(batch)
        shards = [self._shard(proposals, watch) for proposals in groups]
        started = time.perf_counter()
        for position, fits in self._executor.run(shards, partial(_fit, self.arrays)):
            proposals, count = groups[position], len(self.splits)
            seconds = (time.perf_counter() - started) / len(proposals)
            for place, proposal in enumerate(proposals):
                of_trial = fits[place * count : (place + 1) * count]
                yield ended(proposal, of_trial, self.splits, seconds)
            started = time.perf_counter()

    def _shard(self, proposals: Sequence[Trial], watch: Watching | None) -> Shard:
        """Each trial's members, one for each split, side by side."""
        members, numbers = [], []
        for proposal in proposals:
            config = proposal.settings
            optimizer = OptimizerSpec(config.optimizers[0].name, config.optimizers[0].arguments)
            for split in range(len(self.splits)):
                members.append(Member(split, optimizer, config.model, config.training))
                numbers.append(proposal.number)
        return Shard(members, self._settings, watch(proposals, numbers) if watch else None)

    def architecture(self, config: Config) -> Architecture:
        """That of a trial's networks."""
        return self.arrays.architecture(config.model)

    def export(self, trial: Trial) -> None:
        """Export the program for the trial's architecture.

        In the thread that trains, while nothing is written: tracing replaces methods of torch for
        the whole process, so nothing else may compute meanwhile. `model` only swaps weights in.
        """
        self.model(trial)
        self._exported.add(self._program(trial))

    def is_exported(self, trial: Trial) -> bool:
        """Whether there is nothing to export for the trial."""
        return trial.state != "COMPLETE" or self._program(trial) in self._exported

    def _program(self, trial: Trial) -> Architecture:
        """What asks for a program of its own: not batch norm, which is folded into the layers."""
        return replace(self.architecture(trial.settings), batch_norm=False)

    def model(self, trial: Trial) -> Mapping[str, Any] | None:
        """What the flavor saves of a completed trial: the mean of its members.

        To be called by one thread, after `export` in the one that trains; what it gives is valid
        until the next call.
        """
        return self.saved(self.ensemble(trial)) if trial.state == "COMPLETE" else None

    def ensemble(self, trial: Trial, temperature: float | None = None) -> Ensemble:
        """The mean of the trial's members; with `temperature` its probabilities are tempered."""
        states = torch.stack([fit.weights for fit in trial.fits])
        architecture = self.architecture(trial.settings)
        return Ensemble(self._encoder, architecture, states, temperature)

    def saved(self, ensemble: Ensemble, threshold: float | None = None) -> Mapping[str, Any]:
        """What the flavor saves; `threshold` is what `predict` takes when it is told none."""
        schema = self._schema.to_dict()
        return {
            "program": self._exporter.program(ensemble),
            "schema": schema if threshold is None else schema | {"threshold": threshold},
            "input_example": self._example,
            "requirements": flavor.default_requirements(),
        }


def _fit(arrays: Arrays, shard: Shard) -> list[Fit]:
    """As `loop.fit`; members whose networks the memory does not hold have failed."""
    members, settings = shard.members, shard.settings
    weights = arrays.architecture(members[0].model).size
    # In 32 bits, at least: a network at work, with its gradients, and what members keep.
    copies = 1 + CROSS_FIT_SHARES if settings.cross_fit else 1
    if 4 * weights * (copies * len(members) + 2) <= files.memory_limit():
        try:
            return fit(arrays, members, settings, shard.watch)
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
    outcomes = Outcomes(members, arrays.task.metrics, torch.empty(len(members), 0))
    reason = f"networks of {weights:,} weights do not fit into the memory"
    outcomes.fail(range(len(members)), reason)
    return outcomes.fits()


def _is_out_of_memory(error: Exception) -> bool:
    """torch has a class of error for GPUs only."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(words in str(error) for words in ("can't allocate memory", "not enough memory"))


def check_device(config: Config) -> None:
    """Raise UserError when torch has no such GPU here."""
    device = config.training.device
    values = device.choice if isinstance(device, Choice) else (device,)
    count = torch.cuda.device_count()
    for value in values:
        if value.startswith("cuda") and int(value.partition(":")[2] or 0) >= count:
            raise UserError(
                f"training.device: must be a device that torch finds here; got {value!r}, and "
                f"torch finds {count} GPUs; auto takes one where there is one"
            )


def stacks(batch: Sequence[Trial]) -> list[list[Trial]]:
    """The proposals whose members can share a stack (`members.stack_key`)."""
    groups = defaultdict(list)
    for proposal in batch:
        groups[stack_key(proposal.settings.model, proposal.settings.training)].append(proposal)
    return list(groups.values())
