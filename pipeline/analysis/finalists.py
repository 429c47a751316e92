"""The final round as a computation: trials in, evidence out; nothing here knows MLflow's store.

All finalists are trained on the same folds from the same initial weights with the same batches, so
their scores are compared pair by pair.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pipeline.analysis import baselines
from pipeline.analysis.comparison import pairs
from pipeline.analysis.cross_fitting import together
from pipeline.analysis.evidence import Baseline, Evidence, Finalist, Forgiveness
from pipeline.analysis.ranking import AnyTrial, TrialResult, best_per_optimizer
from pipeline.analysis.resampled import overlap
from pipeline.analysis.tolerance import forgiveness
from pipeline.common.seeds import Purpose, seed32
from pipeline.config import Config
from pipeline.data import dataset as data
from pipeline.data import splits as folds
from pipeline.data.dataset import Parts
from pipeline.training.proposals import Proposal
from pipeline.training.trainer import Trainer
from pipeline.training.trial import Trial

MOST_ELEMENTS = 2**29
"""Encoded numbers that all folds together may hold (2 GB); a larger table has fewer repeats."""


class Entrant(TrialResult, Protocol):
    """A trial of the search, as it was or as the store has it."""

    @property
    def entry(self) -> int: ...


@dataclass(frozen=True)
class Competition:
    """The finalists trained, by their numbers in the search, with what trained them."""

    evidence: Evidence
    trainer: Trainer
    trained: Mapping[int, Trial]


def compete(config: Config, parts: Parts, trials: Sequence[Entrant]) -> Competition:
    """Train the best trial of each optimizer on fresh folds and compare them.

    Args:
        trials: all of the search; the best of each optimizer with its curves and folds. One at
            least is complete.
    """
    chosen = finalists(config, trials)
    trainer = Trainer(config, parts, final_splits, final_seed(config), cross_fit=True)
    batch = [
        Proposal(
            trial.number, trial.entry, dict(trial.params), config.at(trial.entry, trial.params)
        )
        for trial in sorted(chosen, key=lambda trial: trial.number)
    ]
    trained = {trial.number: trial for trial in trainer.train(batch)}
    return Competition(_gather(config, parts, trials, trainer, trained), trainer, trained)


def finalists(config: Config, trials: Sequence[AnyTrial]) -> list[AnyTrial]:
    """The best trial of each optimizer, the best first."""
    return best_per_optimizer(trials, config.search.objective)


def final_seed(config: Config) -> int:
    return seed32(config.seed, Purpose.FINAL_ROUND)


def final_splits(config: Config, parts: Parts, rows: data.Rows) -> tuple[folds.Split, ...]:
    """Other folds than those of the search; at most as many as the rarest label has rows."""
    final = config.validation.final
    assert final is not None
    count = min(final.folds, int(np.bincount(rows.y).min()))
    at_once = count * len(rows.y) * max(parts.schema.width, 1)
    repeats = max(1, min(final.repeats, MOST_ELEMENTS // at_once))
    return folds.make_splits(
        rows.y, count, repeats, config.validation.fraction, final_seed(config), parts.schema.labels
    )


def _gather(
    config: Config,
    parts: Parts,
    trials: Sequence[Entrant],
    trainer: Trainer,
    trained: Mapping[int, Trial],
) -> Evidence:
    """Compare the finalists with each other, with the search and with the baselines."""
    objective = config.search.objective
    by_accuracy = objective == "val_accuracy"
    count = 1 + max(split.fold for split in trainer.splits)
    found = [_finalist(one, trained[one.number], trainer) for one in finalists(config, trials)]
    found.sort(key=lambda one: one.ranking(objective))
    scores = [
        (one.optimizer, one.accuracy if by_accuracy else -one.loss)
        for one in found
        if one.completed
    ]
    return Evidence(
        objective=objective,
        folds=count,
        repeats=len(trainer.splits) // count,
        finalists=tuple(found),
        pairs=pairs(scores, overlap(count)),
        baselines=_baselines(trainer, count, parts.schema.classes),
        forgiveness=forgiven(config, parts, trials),
    )


def forgiven(
    config: Config, parts: Parts, trials: Sequence[TrialResult]
) -> tuple[Forgiveness, ...]:
    """How much each optimizer forgives, by the trials of the search."""
    validation = config.validation
    held = math.ceil(validation.fraction * parts.rows["train"]) if validation.folds == 1 else None
    members = validation.folds * validation.repeats
    return forgiveness(trials, config.search.objective, members, held)


def _finalist(before: Entrant, trial: Trial, trainer: Trainer) -> Finalist:
    assert before.accuracy is not None
    assert before.loss is not None
    answers = trainer.answers(trial) if trial.state == "COMPLETE" else []
    ensemble = together(answers, trainer.arrays.y) if answers else None
    return Finalist(
        optimizer=trial.optimizer,
        trial=trial.number,
        lr=trial.lr,
        params=dict(trial.params),
        accuracy=np.array([one.accuracy for one in answers], dtype=np.float64),
        loss=np.array([one.loss for one in answers], dtype=np.float64),
        kept_accuracy=trial.accuracy,
        kept_loss=trial.loss,
        ensemble_accuracy=ensemble.accuracy if ensemble else None,
        ensemble_loss=ensemble.loss if ensemble else None,
        search_accuracy=before.accuracy,
        search_loss=before.loss,
        best_epoch=trial.best_epoch,
        seconds=trial.seconds,
        reason=trial.reason,
    )


def _baselines(trainer: Trainer, count: int, labels: int) -> tuple[Baseline, ...]:
    """The majority label on all folds; models that cost something on those of the first repeat."""
    found = []
    _, rows, columns = trainer.arrays.x.shape
    for name in baselines.NAMES:
        if not baselines.affordable(name, rows, columns, labels):
            continue
        used = len(trainer.splits) if name == "majority label" else count
        x = trainer.arrays.x[:used].numpy()
        y = trainer.arrays.y.numpy()
        found.append(Baseline(name, *baselines.scores(name, x, y, trainer.splits[:used], labels)))
    return tuple(found)
