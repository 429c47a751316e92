"""The final round as a computation: trials in, evidence out; nothing here knows MLflow's store.

All finalists are trained on the same folds from the same initial weights with the same batches, so
their scores are compared pair by pair."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.analysis import baselines
from pipeline.analysis.clustered import Ageing, mean_error
from pipeline.analysis.comparison import by_fold, overlap_of, pairs
from pipeline.analysis.cross_fitting import Predictions, cross_fitted, together
from pipeline.analysis.evidence import Baseline, Evidence, Finalist
from pipeline.analysis.ranking import best_per_optimizer
from pipeline.common.seeds import Purpose, seed32
from pipeline.config import Config
from pipeline.data import splits
from pipeline.data.encoding import encoded, encoder_for
from pipeline.data.prepared import PreparedData, Rows, load_training
from pipeline.data.schema import Schema
from pipeline.models.export import ensemble_of
from pipeline.models.metrics import Metric, metric_of, metrics_of, with_objective
from pipeline.training.engines import Engines
from pipeline.training.executors import LOCAL, Executor
from pipeline.training.trainer import Trainer, Watching, pieces_of
from pipeline.training.trial import Trial, proposed

MANY_ROWS = 20_000
"""From which on the rows make scores sure, and the round trains half as many networks as the search
at most, if one repeat allows."""

MOST_ELEMENTS = 2**29
"""Encoded numbers that all folds together may hold (2 GB); a larger table has fewer repeats."""


@dataclass(frozen=True)
class TrainedFinalists:
    """The finalists trained, by their numbers in the search, with what trained them."""

    evidence: Evidence
    trainer: Trainer
    trained: Mapping[int, Trial]


def train_finalists(
    config: Config,
    parts: PreparedData,
    trials: Sequence[Trial],
    engines: Engines | None = None,
    watch: Watching | None = None,
    executor: Executor = LOCAL,
    came: Callable[[], None] = lambda: None,
) -> TrainedFinalists:
    """Train the best trial of each optimizer on fresh folds and compare them.

    Args:
        trials: all of the search; the best of each optimizer with its curves and folds. One at
            least is complete.
        watch: see `Trainer.train`.
        came: called when a finalist is trained."""
    metric, how = metric_of(config), (final_splits, final_seed(config))
    trainer = Trainer(config, parts, *how, cross_fit=True, engines=engines, executor=executor)
    ordered = sorted(best_per_optimizer(trials, metric), key=lambda trial: trial.number)
    batch = [proposed(t.number, t.optimizer, t.params, config) for t in ordered]
    trained = {}
    for trial in trainer.train(batch, watch):
        trained[trial.number] = trial
        came()
    of = trainer, metrics_of(config), metric
    entries = [_finalist(each, trained[each.number], *of) for each in ordered]
    entries.sort(key=lambda finalist: finalist.ranking(metric))
    done = [finalist for finalist in entries if finalist.completed]
    folds = 1 + max(split.fold for split in trainer.splits)
    overlap, is_forward = overlap_of(trainer.splits), config.validation.order is not None
    scores = [
        (each.optimizer, by_fold(metric.sign * each.scores[metric.name], folds, is_forward))
        for each in done
    ]
    evidence = Evidence(
        metric=metric,
        folds=folds,
        repeats=len(trainer.splits) // folds,
        overlap=overlap,
        is_forward=is_forward,
        finalists=tuple(entries),
        pairs=pairs(scores, overlap),
        baselines=_baselines(parts, trainer, with_objective(metric)),
        ageing=_ageing(trained[done[0].trial], trainer, parts) if is_forward and done else None,
    )
    return TrainedFinalists(evidence, trainer, trained)


def final_seed(config: Config) -> int:
    return seed32(config.seed, Purpose.FINAL_ROUND)


def final_splits(config: Config, parts: PreparedData, rows: Rows) -> tuple[splits.Split, ...]:
    """Other folds than those of the search, but for forward ones; at most as many as the rarest
    label has rows or groups, and of two groups or more, since one chooses the other's epoch; of
    moments one less than there are."""
    final, groups = config.validation.final, rows.dependence.groups
    assert final is not None
    count = min(final.folds, int(np.bincount(rows.y).min()))
    if groups is not None:
        of_label = [len(np.unique(groups[rows.y == label])) for label in np.unique(rows.y)]
        count = max(2, min(count, *of_label, rows.dependence.count // 2))
    elif rows.dependence.order is not None:
        count = max(2, min(count, rows.dependence.count - 1))
    at_once = count * len(rows.y) * max(parts.schema.width, 1) * (1 + pieces_of(config))
    repeats = min(final.repeats, MOST_ELEMENTS // at_once)
    if len(rows.y) >= MANY_ROWS:
        networks = config.search.trials * config.validation.folds * config.validation.repeats
        repeats = min(repeats, networks // (2 * count * len(config.optimizers)))
    how = (
        count,
        max(1, repeats),
        config.validation.fraction,
        final_seed(config),
        parts.schema.labels,
    )
    return splits.make_splits(rows.y, *how, rows.dependence)


def validation_predictions(trainer: Trainer, trial: Trial) -> list[Predictions]:
    """Of a complete trial, for each split, cross-fitted."""
    arrays = trainer.arrays(trial.settings)
    return cross_fitted(trial.fits, arrays, trainer.architecture(trial.settings))


def _finalist(
    before: Trial, trial: Trial, trainer: Trainer, metrics: Sequence[Metric], objective: Metric
) -> Finalist:
    """Its scores of metrics that are finite numbers for each fold and for all together; it has
    failed where the objective is none."""
    predictions = validation_predictions(trainer, trial) if trial.state == "COMPLETE" else []
    ensemble = together(predictions, trainer.y).scores(metrics) if predictions else {}
    folds = [each.scores(metrics) for each in predictions]
    scores = {name: np.array([fold[name] for fold in folds], float) for name in ensemble}
    scores = {n: v for n, v in scores.items() if np.isfinite([*v, ensemble[n]]).all()}
    reason = trial.reason
    if scores and objective.name not in scores:
        scores, reason = {}, f"{objective.name} is no finite number on the rows of a fold"
    return Finalist(
        trial.optimizer,
        trial.number,
        trial.lr,
        dict(trial.params),
        scores=scores,
        ensemble={name: ensemble[name] for name in scores},
        search=dict(before.scores),
        best_epoch=trial.best_epoch,
        seconds=trial.seconds,
        reason=reason,
    )


def _ageing(trial: Trial, trainer: Trainer, parts: PreparedData) -> Ageing | None:
    """Networks of forward folds on rows that came later, against those that were trained until just
    before these: as many folds older as the next period, as long as the test rows are, is later.
    Where what decides the label moves steadily, the loss grows with the square of the age. Rows of
    one moment do not say how sure that is: then of networks less old; None: of none.

    trial: complete."""
    arrays, folds = trainer.arrays(trial.settings), 1 + max(split.fold for split in trainer.splits)
    block = np.mean([len(split.validation) for split in trainer.splits])
    period = parts.rows["test"] / float(block)
    networks = ensemble_of(
        trainer.architecture(trial.settings),
        torch.nn.Identity(),
        torch.stack([fit.weights for fit in trial.fits]),
    )
    predictions = validation_predictions(trainer, trial)
    for older in range(min(folds - 1, math.ceil(period)), 0, -1):
        rows, lost = [], []
        for old, fresh in enumerate(predictions[older:]):
            if trainer.splits[old].fold + older >= folds:  # of another repeat
                continue
            with torch.no_grad():
                logits = networks.logits(old, arrays.rows(old, torch.from_numpy(fresh.rows)))
            right, right_old = (each.argmax(dim=1) == fresh.y for each in (fresh.logits, logits))
            rows.append(fresh.rows)
            lost.append(right.numpy().astype(float) - right_old.numpy())
        values, clusters = (
            np.concatenate(lost),
            arrays.dependence.take(np.concatenate(rows)).clusters,
        )
        assert clusters is not None
        error, _ = mean_error(values, clusters)
        if error < math.inf:
            scale = max(1.0, 2 * period**2 / (older**2 + older))
            return Ageing(float(values.mean()) * scale, error * scale)
    return None


@dataclass(frozen=True)
class _Folds:
    """What baselines are fitted and measured on."""

    raw: torch.Tensor
    y: np.ndarray
    schema: Schema
    splits: Sequence[splits.Split]
    metrics: Sequence[Metric]


def _baselines(
    parts: PreparedData, trainer: Trainer, metrics: Sequence[Metric]
) -> tuple[Baseline, ...]:
    rows, schema = load_training(parts), parts.schema
    size = len(rows.y), schema.width, schema.classes
    names = [name for name in baselines.NAMES if baselines.affordable(name, *size)]
    # The majority label needs no inputs.
    raw = rows.raw if len(names) > 1 else np.empty((len(rows.y), 0))
    folds = _Folds(torch.from_numpy(raw), rows.y, schema, trainer.splits, metrics)
    done = dict(trainer.executor.run(_baseline, [(folds, name) for name in names]))
    return tuple(done[number] for number in range(len(names)))


def _baseline(folds: _Folds, name: baselines.Name) -> Baseline:
    """The majority label on all folds; models that cost something on those of the first repeat."""
    is_majority = name == "majority label"
    used = [split for split in folds.splits if is_majority or split.repeat == 0]

    def inputs(split: splits.Split) -> np.ndarray:
        if is_majority:
            return folds.raw.numpy()
        rows = [torch.from_numpy(split.training)]
        encoder = encoder_for(folds.raw, folds.schema, rows, as_columns=True)
        return encoded(encoder, [folds.raw], len(folds.raw))[0].numpy()

    scored = baselines.scores(name, inputs, folds.y, used, folds.schema.classes, folds.metrics)
    return Baseline(name, scored)
