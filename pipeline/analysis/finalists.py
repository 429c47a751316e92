"""The final round as a computation: trials in, evidence out; nothing here knows MLflow's store.

All finalists are trained on the same folds from the same initial weights with the same batches, so
their scores are compared pair by pair.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.analysis import baselines
from pipeline.analysis.comparison import overlap, pairs
from pipeline.analysis.cross_fitting import Predictions, cross_fitted, together
from pipeline.analysis.evidence import Baseline, Evidence, Finalist, Tolerance
from pipeline.analysis.ranking import best_per_optimizer
from pipeline.analysis.tolerance import tolerances
from pipeline.common.seeds import Purpose, seed32
from pipeline.config import Config
from pipeline.data import splits
from pipeline.data.prepared import PreparedData, Rows
from pipeline.models.metrics import METRICS, metric_of
from pipeline.training.trainer import Trainer
from pipeline.training.trial import Trial, proposed

MOST_ELEMENTS = 2**29
"""Encoded numbers that all folds together may hold (2 GB); a larger table has fewer repeats."""


@dataclass(frozen=True)
class TrainedFinalists:
    """The finalists trained, by their numbers in the search, with what trained them."""

    evidence: Evidence
    trainer: Trainer
    trained: Mapping[int, Trial]


def train_finalists(
    config: Config, parts: PreparedData, trials: Sequence[Trial]
) -> TrainedFinalists:
    """Train the best trial of each optimizer on fresh folds and compare them.

    Args:
        trials: all of the search; the best of each optimizer with its curves and folds. One at
            least is complete.
    """
    chosen = finalists(config, trials)
    trainer = Trainer(config, parts, final_splits, final_seed(config), cross_fit=True)
    batch = [
        proposed(trial.number, trial.optimizer, trial.params, config)
        for trial in sorted(chosen, key=lambda trial: trial.number)
    ]
    trained = {trial.number: trial for trial in trainer.train(batch)}
    metric = metric_of(config.search.objective)
    entries = [_finalist(trial, trained[trial.number], trainer) for trial in chosen]
    entries.sort(key=lambda finalist: finalist.ranking(metric))
    scores = [
        (finalist.optimizer, metric.sign * finalist.scores[metric.name])
        for finalist in entries
        if finalist.completed
    ]
    folds = 1 + max(split.fold for split in trainer.splits)
    evidence = Evidence(
        objective=config.search.objective,
        folds=folds,
        repeats=len(trainer.splits) // folds,
        finalists=tuple(entries),
        pairs=pairs(scores, overlap(folds)),
        baselines=_baselines(trainer, folds, parts.schema.classes),
        tolerances=search_tolerances(config, parts, trials),
    )
    return TrainedFinalists(evidence, trainer, trained)


def finalists(config: Config, trials: Sequence[Trial]) -> list[Trial]:
    """The best trial of each optimizer, the best first."""
    return best_per_optimizer(trials, metric_of(config.search.objective))


def final_seed(config: Config) -> int:
    return seed32(config.seed, Purpose.FINAL_ROUND)


def final_splits(config: Config, parts: PreparedData, rows: Rows) -> tuple[splits.Split, ...]:
    """Other folds than those of the search; at most as many as the rarest label has rows."""
    final = config.validation.final
    assert final is not None
    count = min(final.folds, int(np.bincount(rows.y).min()))
    at_once = count * len(rows.y) * max(parts.schema.width, 1)
    repeats = max(1, min(final.repeats, MOST_ELEMENTS // at_once))
    return splits.make_splits(
        rows.y, count, repeats, config.validation.fraction, final_seed(config), parts.schema.labels
    )


def search_tolerances(
    config: Config, parts: PreparedData, trials: Sequence[Trial]
) -> tuple[Tolerance, ...]:
    """The learning-rate tolerance of each optimizer, by the trials of the search."""
    validation = config.validation
    held = None
    if validation.folds == 1:
        held = splits.held_out(parts.rows["train"], validation.fraction)
    members = validation.folds * validation.repeats
    return tolerances(trials, metric_of(config.search.objective), members, held)


def validation_predictions(trainer: Trainer, trial: Trial) -> list[Predictions]:
    """Of a complete trial, for each split, cross-fitted."""
    return cross_fitted(trial.fits, trainer.arrays, trainer.architecture(trial.settings))


def _finalist(before: Trial, trial: Trial, trainer: Trainer) -> Finalist:
    predictions = validation_predictions(trainer, trial) if trial.state == "COMPLETE" else []
    ensemble = together(predictions, trainer.arrays.y) if predictions else None
    scores = [each.scores for each in predictions]
    return Finalist(
        optimizer=trial.optimizer,
        trial=trial.number,
        lr=trial.lr,
        params=dict(trial.params),
        scores={
            name: np.array([each[name] for each in scores], dtype=np.float64)
            for name in (METRICS if scores else ())
        },
        at_best_epoch=dict(trial.scores),
        ensemble=ensemble.scores if ensemble else {},
        search=dict(before.scores),
        best_epoch=trial.best_epoch,
        seconds=trial.seconds,
        reason=trial.reason,
    )


def _baselines(trainer: Trainer, folds: int, labels: int) -> tuple[Baseline, ...]:
    """The majority label on all folds; models that cost something on those of the first repeat."""
    x, y = trainer.arrays.x.numpy(), trainer.arrays.y.numpy()
    _, rows, columns = x.shape
    scored = []
    for name in baselines.NAMES:
        if baselines.affordable(name, rows, columns, labels):
            used = len(trainer.splits) if name == "majority label" else folds
            scores = baselines.scores(name, x[:used], y, trainer.splits[:used], labels)
            scored.append(Baseline(name, scores))
    return tuple(scored)
