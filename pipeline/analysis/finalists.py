"""The final round as a computation: trials in, evidence out; nothing here knows MLflow's store.

All finalists are trained on the same folds from the same initial weights with the same batches, so
their scores are compared pair by pair."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.analysis import baselines
from pipeline.analysis.comparison import overlap, pairs
from pipeline.analysis.cross_fitting import Predictions, cross_fitted, together
from pipeline.analysis.evidence import Baseline, Evidence, Finalist, Tolerance
from pipeline.analysis.ranking import best_per_optimizer
from pipeline.analysis.tolerance import tolerances
from pipeline.common.seeds import Purpose, seed32
from pipeline.config import Config
from pipeline.data import splits
from pipeline.data.encoding import encoded, encoder_for
from pipeline.data.prepared import PreparedData, Rows, load_training
from pipeline.models.metrics import METRICS, metric_of
from pipeline.training.engines import Engines
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
    config: Config, parts: PreparedData, trials: Sequence[Trial], engines: Engines | None = None
) -> TrainedFinalists:
    """Train the best trial of each optimizer on fresh folds and compare them.

    Args:
        trials: all of the search; the best of each optimizer with its curves and folds. One at
            least is complete."""
    how = final_splits, final_seed(config)
    trainer = Trainer(config, parts, *how, cross_fit=True, engines=engines)
    ordered = sorted(finalists(config, trials), key=lambda trial: trial.number)
    batch = [proposed(t.number, t.optimizer, t.params, config) for t in ordered]
    trained = {trial.number: trial for trial in trainer.train(batch)}
    metric = metric_of(config.search.objective)
    chosen = finalists(config, trials)
    entries = [_finalist(trial, trained[trial.number], trainer) for trial in chosen]
    entries.sort(key=lambda finalist: finalist.ranking(metric))
    done = [finalist for finalist in entries if finalist.completed]
    scores = [(each.optimizer, metric.sign * each.scores[metric.name]) for each in done]
    folds = 1 + max(split.fold for split in trainer.splits)
    evidence = Evidence(
        objective=config.search.objective,
        folds=folds,
        repeats=len(trainer.splits) // folds,
        finalists=tuple(entries),
        pairs=pairs(scores, overlap(folds)),
        baselines=_baselines(parts, trainer.splits),
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
    how, rows = config.validation, parts.rows["train"]
    held = splits.held_out(rows, how.fraction) if how.folds == 1 else None
    return tolerances(trials, metric_of(config.search.objective), how.folds * how.repeats, held)


def validation_predictions(trainer: Trainer, trial: Trial) -> list[Predictions]:
    """Of a complete trial, for each split, cross-fitted."""
    return cross_fitted(trial.fits, trainer.arrays, trainer.architecture(trial.settings))


def _finalist(before: Trial, trial: Trial, trainer: Trainer) -> Finalist:
    predictions = validation_predictions(trainer, trial) if trial.state == "COMPLETE" else []
    ensemble = together(predictions, trainer.arrays.y) if predictions else None
    scores = [each.scores for each in predictions]
    return Finalist(
        trial.optimizer,
        trial.number,
        trial.lr,
        dict(trial.params),
        scores={n: np.array([s[n] for s in scores], float) for n in (METRICS if scores else ())},
        at_best_epoch=dict(trial.scores),
        ensemble=ensemble.scores if ensemble else {},
        search=dict(before.scores),
        best_epoch=trial.best_epoch,
        seconds=trial.seconds,
        reason=trial.reason,
    )


def _baselines(parts: PreparedData, splitting: Sequence[splits.Split]) -> tuple[Baseline, ...]:
    """The majority label on all folds; models that cost something on those of the first repeat."""
    rows, schema = load_training(parts), parts.schema
    raw = torch.from_numpy(rows.raw)

    def inputs(split: splits.Split) -> np.ndarray:
        encoder = encoder_for(raw, schema, [torch.from_numpy(split.training)], as_columns=True)
        return encoded(encoder, raw)[0].numpy()

    first = [split for split in splitting if split.repeat == 0]
    scored = []
    for name in baselines.NAMES:
        if baselines.affordable(name, len(rows.y), schema.width, schema.classes):
            is_majority = name == "majority label"
            used = splitting if is_majority else first
            x = (rows.raw if is_majority else inputs(split) for split in used)
            scored.append(Baseline(name, baselines.scores(name, x, rows.y, used, schema.classes)))
    return tuple(scored)
