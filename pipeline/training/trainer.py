"""From proposals to trials: members in stacks, and the model of each trial."""

from collections import defaultdict
from collections.abc import Callable, Container, Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from pipeline.common.errors import UserError
from pipeline.config import Config
from pipeline.config.sections import Model
from pipeline.data.encoding import Encoding, encoder_for
from pipeline.data.prepared import PreparedData, Rows, load_training
from pipeline.data.splits import Split, make_splits
from pipeline.models import flavor
from pipeline.models.architecture import Architecture
from pipeline.models.export import Ensemble, Exporter, ensemble_of
from pipeline.models.metrics import METRICS, Metric, metric_of, metrics_of, with_objective
from pipeline.models.task import Classification
from pipeline.training.batches import Arrays
from pipeline.training.engines import Engines
from pipeline.training.executors import LOCAL, Executor, Shard, check_compute, fit_shard
from pipeline.training.layouts import trials_together
from pipeline.training.members import Member, Settings, scheduled, stack_key
from pipeline.training.outcomes import Fit, Watch
from pipeline.training.trial import Trial, ended

EXAMPLE_ROWS = 5

Splitting = Callable[[Config, PreparedData, Rows], tuple[Split, ...]]
Watching = Callable[[Sequence[Trial], Sequence[int]], Watch | None]
"""The proposals of a stack, and for each of its members the number of its trial -> what is asked
after each epoch which members to drop; None: none will be."""


def search_splits(config: Config, parts: PreparedData, rows: Rows) -> tuple[Split, ...]:
    """The splits on which every trial of the search is estimated."""
    how, labels = config.validation, parts.schema.labels
    sizes = how.folds, how.repeats, how.fraction
    return make_splits(rows.y, *sizes, config.seed, labels, rows.dependence)


class Trainer:
    """Trains batches of proposals on the training rows of `parts`, each on every split.

    Args:
        splits: how the rows are split; as a rule by `config.validation`.
        seed: of initial weights, batches and dropout; None: that of the configuration.
        cross_fit: see `Settings`.
        engines: which way somebody's networks are trained, where the search has begun already.
        executor: where they are trained.

    Attributes:
        y: [N] int64, label ids of the rows; dependence: what makes these depend on each other.
        shipped: positions of the splits whose networks are the model."""

    def __init__(
        self,
        config: Config,
        parts: PreparedData,
        splits: Splitting = search_splits,
        seed: int | None = None,
        cross_fit: bool = False,
        engines: Engines | None = None,
        executor: Executor = LOCAL,
    ) -> None:
        check_compute(config)
        self._rows = rows = load_training(parts)
        self.executor, self._is_halving = executor, config.search.pruner == "halving"
        self.splits = splits(config, parts, rows)
        self.y, self.dependence = torch.from_numpy(rows.y), rows.dependence
        self._schema = parts.schema
        # Of forward splits the last one alone has seen what came last.
        last = max(split.fold for split in self.splits)
        is_forward = rows.dependence.order is not None
        self.shipped = [
            s for s, split in enumerate(self.splits) if split.fold == last or not is_forward
        ]
        self._task = task_of(parts, with_objective(metric_of(config)))
        self._metrics = metrics_of(config)
        self._inputs: dict[int, tuple[Encoding, Arrays]] = {}
        seed = config.seed if seed is None else seed
        criterion, engines = metric_of(config), engines or Engines()
        self._settings = Settings(seed, cross_fit=cross_fit, criterion=criterion, engines=engines)
        example = rows.take(slice(1))
        self._exporter = Exporter(example.shape[1:], torch.from_numpy(example).dtype)
        self._exported: set[Hashable] = set()
        self._example = rows.given(slice(EXAMPLE_ROWS))

    def arrays(self, config: Config) -> Arrays:
        """The rows, encoded for each split as a trial's networks take them."""
        return self._encoded(config)[1]

    def _encoded(self, config: Config) -> tuple[Encoding, Arrays]:
        """What encodes raw rows for the networks of each split, and the rows, encoded."""
        pieces, as_columns = pieces_of(config), isinstance(config.model, Model)
        if pieces not in self._inputs:
            raw = torch.from_numpy(self._rows.raw)
            training = [torch.from_numpy(split.training) for split in self.splits]
            encoder = encoder_for(raw, self._schema, training, as_columns, pieces)
            # Where nothing is fitted the rows are held once, as they are.
            is_shared = self._schema.inputs is not None and not as_columns
            shared = raw.unsqueeze(0) if is_shared else None
            del raw  # of a table twice as large as what networks take
            x = self._rows.encoded(encoder) if shared is None else shared
            how = self.splits, self._task, is_shared, self.dependence
            self._inputs[pieces] = encoder, Arrays(x, self.y, *how)
        return self._inputs[pieces]

    def train(
        self,
        batch: Sequence[Trial],
        watch: Watching | None = None,
        asked: Container[int] | None = None,
    ) -> Iterator[Trial]:
        """The trials of a batch, shard by shard; what `watch` gives for a shard prunes them.

        asked: numbers of trials; shards that hold none of them are left out. None: all are asked
            for."""
        count = len(self.splits)
        begun: list[list[Trial]] = []

        def shards() -> Iterator[tuple[Arrays, Shard]]:
            for proposals in stacks(batch, trials_together(count)):
                arrays = self.arrays(proposals[0].settings)
                members = [member for proposal in proposals for member in self._members(proposal)]
                runs: Sequence[range] = [range(len(members))]
                if not (watch and self._is_halving):  # which compares the trials of a stack
                    runs = self.executor.shards(arrays, members, self._settings)
                for run in runs:
                    trials = proposals[run.start // count : run.stop // count]
                    if asked is not None and not any(trial.number in asked for trial in trials):
                        continue
                    numbers = [trial.number for trial in trials for _ in self.splits]
                    watching = watch(trials, numbers) if watch else None
                    begun.append(trials)
                    yield arrays, Shard(members[run.start : run.stop], self._settings, watching)

        for number, (fits, seconds) in self.executor.run(fit_shard, shards()):
            trials = begun[number]
            for place, proposal in enumerate(trials):
                of_trial = self._measured(proposal, fits[place * count : (place + 1) * count])
                yield ended(proposal, of_trial, self.splits, seconds / len(trials))

    def _members(self, proposal: Trial) -> list[Member]:
        config = proposal.settings
        optimizer = scheduled(config.optimizers[0], config.training)
        device = self.executor.device(config.training.device)
        training = config.training.model_copy(update={"device": device})
        places = range(len(self.splits))
        return [Member(split, optimizer, config.model, training) for split in places]

    def _measured(self, trial: Trial, fits: Sequence[Fit]) -> list[Fit]:
        """The members' outcomes with the scores of those metrics that have no curve, by the weights
        of the best epoch."""
        others = [metric for metric in self._metrics if metric not in self._task.metrics]
        if not others or any(one.state != "complete" for one in fits):
            return list(fits)
        weights = torch.stack([fit.weights for fit in fits])
        networks = ensemble_of(self.architecture(trial.settings), nn.Identity(), weights)
        measured, arrays = [], self.arrays(trial.settings)
        for member, (one, split) in enumerate(zip(fits, self.splits, strict=True)):
            rows = torch.from_numpy(split.validation)
            with torch.no_grad():
                logits = networks.logits(member, arrays.rows(member, rows))
            y = self.y[rows]
            scores = {metric.name: float(metric.score(logits, y)) for metric in others}
            measured.append(replace(one, scores={**one.scores, **scores}))
        return measured

    def architecture(self, config: Config) -> Architecture:
        """That of a trial's networks."""
        return self.arrays(config).architecture(config.model, config.training)

    def export(self, trial: Trial) -> Trial:
        """Export the program for the trial's architecture; the trial, which has failed where torch
        cannot export it.

        In the thread that trains, while nothing is written: tracing replaces methods of torch for
        the whole process, so nothing else may compute meanwhile. `model` only swaps weights in."""
        try:
            self.model(trial)
        except UserError as error:
            return replace(trial, state="FAIL", reason=str(error))
        self._exported.add(self.architecture(trial.settings).program)
        return trial

    def is_exported(self, trial: Trial) -> bool:
        """Whether there is nothing to export for the trial."""
        complete = trial.state == "COMPLETE"
        return not complete or self.architecture(trial.settings).program in self._exported

    def model(self, trial: Trial) -> Mapping[str, Any] | None:
        """What the flavor saves of a completed trial: the mean of its members.

        To be called by one thread, after `export` in the one that trains; what it gives is valid
        until the next call."""
        return self.saved(self.ensemble(trial)) if trial.state == "COMPLETE" else None

    def ensemble(self, trial: Trial, temperature: float | None = None) -> Ensemble:
        """The mean of the trial's members, of forward splits those that trained on the most recent
        rows; with `temperature` its probabilities are tempered."""
        states = torch.stack([trial.fits[split].weights for split in self.shipped])
        architecture = self.architecture(trial.settings)
        encoder = self._encoded(trial.settings)[0].of(self.shipped)
        return ensemble_of(architecture, encoder, states, temperature)

    def saved(self, ensemble: Ensemble, threshold: float | None = None) -> Mapping[str, Any]:
        """What the flavor saves; `threshold` is what `predict` takes when it is told none."""
        schema = self._schema.to_dict()
        return {
            "program": self._exporter.program(ensemble),
            "schema": schema if threshold is None else schema | {"threshold": threshold},
            "input_example": self._example,
            "requirements": flavor.default_requirements(),
        }


def pieces_of(config: Config) -> int:
    """Pieces that numbers are encoded in (`Model.quantiles`); of somebody's network 0."""
    return config.model.quantiles if isinstance(config.model, Model) else 0


def task_of(
    parts: PreparedData, metrics: tuple[Metric, ...] = tuple(METRICS.values())
) -> Classification:
    """What the training rows are trained for, and what is measured after every epoch."""
    schema = parts.schema
    # As the configuration has them: YAML writes true and false.
    names = tuple(str(x).lower() if isinstance(x, bool) else str(x) for x in schema.labels)
    return Classification(schema.classes, metrics, names, parts.counts["train"])


def stacks(batch: Sequence[Trial], most: int) -> list[list[Trial]]:
    """The proposals whose members can share a stack (`members.stack_key`), at most so many."""
    groups = defaultdict(list)
    for proposal in batch:
        model = proposal.settings.model
        groups[stack_key(model, proposal.settings.training)].append(proposal)
    return [group[at : at + most] for group in groups.values() for at in range(0, len(group), most)]
