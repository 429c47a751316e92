"""The final round: the best trial of each optimizer once more, on fresh folds from fresh weights.

The search picks the best of many estimates, and so the luckiest; this round measures what it picked
on folds that it was not picked by. All are trained on the same folds from the same initial weights
with the same batches, so their scores are compared pair by pair.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from pipeline import baselines, data, decision, flavor, folds, formats
from pipeline.calibrated import mean_by_row, out_of_fold
from pipeline.comparison import pairs
from pipeline.config import Config
from pipeline.data import Parts
from pipeline.errors import UserError
from pipeline.evidence import Baseline, Evidence, Finalist
from pipeline.forgiveness import forgiveness
from pipeline.model import Ensemble
from pipeline.ranking import best_per_optimizer
from pipeline.resampled import overlap
from pipeline.search import Proposal
from pipeline.stages.job import Job
from pipeline.stages.trainer import Trainer
from pipeline.tracking import FinalLog, Lease, Logged, LoggedTrial, Run
from pipeline.trials import Trial

FILE = "evidence.json"
MOST_ELEMENTS = 2**29
"""Encoded numbers that all folds together may hold (2 GB); a larger table has fewer repeats."""

_SEED = 3  # what its random numbers are for; the second part of its seed


@dataclass(frozen=True)
class FinalRound:
    """What came out, and the run and the model of the winner (None when all diverged)."""

    evidence: Evidence
    run_id: str | None
    model_id: str | None


def check_threshold(config: Config, parts: Parts) -> None:
    """Raise UserError where a threshold is asked for that has no meaning."""
    if config.registry.threshold != 0.5 and parts.schema.classes > 2:
        raise UserError(
            "registry.threshold: must be 0.5 for a table of more than two labels, of which the "
            f"likeliest is predicted; got {config.registry.threshold!r}, and the table has "
            f"{parts.schema.classes} labels"
        )


def final_round(job: Job, run: Run, trials: Sequence[LoggedTrial], lease: Lease) -> None:
    """Train the finalists, log them under the train run and leave the evidence on it.

    Cut short it is trained again whole, with the same results, and what was logged stays.
    """
    chosen = finalists(job, trials)
    if job.config.validation.final is None or not chosen:
        return
    started = time.perf_counter()
    trainer = Trainer(job.config, job.parts, final_splits, final_seed(job.config))
    batch = [
        Proposal(trial.number, trial.entry, trial.params, job.config.at(trial.entry, trial.params))
        for trial in sorted(chosen, key=lambda trial: trial.number)
    ]
    trained = {trial.number: trial for trial in trainer.train(batch)}
    lease.check()
    evidence = gather(job, trials, trainer, trained)
    log = FinalLog(
        job.store,
        run,
        len(chosen),
        flavor,
        job.data_set("train"),
        round=round_name(job, chosen),
        also={one.trial: _also(one) for one in evidence.finalists if one.completed},
    )
    winner = _log(job, log, trainer, trained, evidence)
    _conclude(run, evidence, winner, log.round)
    again = f", {evidence.repeats} times" if evidence.repeats > 1 else ""
    job.console.say(
        f"final round: the best trial of {formats.count(len(chosen), 'optimizer')} on "
        f"{evidence.folds} fresh folds{again}, took "
        f"{formats.duration(time.perf_counter() - started)}"
    )


def read_final(job: Job, train_run_id: str, trials: Sequence[LoggedTrial]) -> FinalRound | None:
    """The final round that these trials and this configuration ask for, when it was made."""
    tags = job.store.client.get_run(train_run_id).data.tags
    if tags.get("final.round") != round_name(job, finalists(job, trials)):
        return None
    text = job.store.text(train_run_id, FILE)
    if text is None:
        return None
    return FinalRound(
        Evidence.from_plain(json.loads(text)),
        tags.get("final.run_id") or None,
        tags.get("final.model_id") or None,
    )


def finalists(job: Job, trials: Sequence[LoggedTrial]) -> list[LoggedTrial]:
    """The best trial of each optimizer, the best first."""
    return best_per_optimizer(trials, job.config.search.objective)


def round_name(job: Job, chosen: Sequence[LoggedTrial]) -> str:
    """Says what was asked of a round, so that one is made again when something else is asked."""
    final, registry = job.config.validation.final, job.config.registry
    if final is None:
        return ""
    numbers = ", ".join(str(trial.number) for trial in sorted(chosen, key=lambda t: t.number))
    calibrated = "calibrated" if registry.calibrate else "as trained"
    return (
        f"trials {numbers}; {final.folds} folds x {final.repeats}; {registry.model}, {calibrated}, "
        f"threshold {registry.threshold}"
    )


def final_seed(config: Config) -> int:
    return int(np.random.SeedSequence([config.seed, _SEED]).generate_state(1)[0])


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


def all_rows(config: Config, parts: Parts, rows: data.Rows) -> tuple[folds.Split, ...]:
    """One split that trains on every row; its validation scores are of these rows too."""
    every = np.arange(len(rows.y))
    return (folds.Split(0, 0, every, every),)


def gather(
    job: Job, trials: Sequence[LoggedTrial], trainer: Trainer, trained: dict[int, Trial]
) -> Evidence:
    """Compare the finalists with each other, with the search and with the baselines."""
    config, objective = job.config, job.config.search.objective
    by_accuracy = objective == "val_accuracy"
    count = 1 + max(split.fold for split in trainer.splits)
    found = [_finalist(one, trained[one.number]) for one in finalists(job, trials)]
    found.sort(key=lambda one: one.ranking(objective))
    scores = [
        (one.optimizer, one.accuracy if by_accuracy else -one.loss)
        for one in found
        if one.completed
    ]
    validation = config.validation
    held = (
        int(np.ceil(validation.fraction * job.parts.rows["train"]))
        if validation.folds == 1
        else None
    )
    return Evidence(
        objective=objective,
        folds=count,
        repeats=len(trainer.splits) // count,
        finalists=tuple(found),
        pairs=pairs(scores, overlap(count)),
        baselines=_baselines(trainer, count, job.parts.schema.classes),
        forgiveness=forgiveness(trials, objective, validation.folds * validation.repeats, held),
    )


def _finalist(before: LoggedTrial, trial: Trial) -> Finalist:
    assert before.accuracy is not None
    assert before.loss is not None
    fits = trial.fits if trial.state == "COMPLETE" else ()
    return Finalist(
        optimizer=trial.optimizer,
        trial=trial.number,
        lr=trial.lr,
        params=dict(trial.params),
        accuracy=np.array([fit.accuracy for fit in fits], dtype=np.float64),
        loss=np.array([fit.loss for fit in fits], dtype=np.float64),
        search_accuracy=before.accuracy,
        search_loss=before.loss,
        best_epoch=trial.best_epoch,
        seconds=trial.seconds,
        reason=trial.reason,
    )


def _baselines(trainer: Trainer, count: int, labels: int) -> tuple[Baseline, ...]:
    """The majority label on all folds; models that cost something on those of the first repeat."""
    found = []
    for name in baselines.NAMES:
        used = len(trainer.splits) if name == "majority label" else count
        x = trainer.arrays.x[:used].numpy()
        y = trainer.arrays.y.numpy()
        found.append(Baseline(name, *baselines.scores(name, x, y, trainer.splits[:used], labels)))
    return tuple(found)


def _also(one: Finalist) -> dict[str, float]:
    return {
        "loss_std": one.loss_std,
        "search_accuracy": one.search_accuracy,
        "search_loss": one.search_loss,
        "optimism_accuracy": one.optimism_accuracy,
        "optimism_loss": one.optimism_loss,
    }


def _log(
    job: Job, log: FinalLog, trainer: Trainer, trained: dict[int, Trial], evidence: Evidence
) -> Logged | None:
    """Write a run for each finalist that has none yet; where the winner's is."""
    written = log.written()
    winner = evidence.winner
    for one in evidence.finalists:
        trial = trained[one.trial]
        if trial.number not in written:
            model = _model(job, trainer, trial) if one is winner else None
            written[trial.number] = log.log_trial(trial, model)
    return written[winner.trial] if winner is not None else None


def _model(job: Job, trainer: Trainer, trial: Trial) -> dict[str, object]:
    """What the flavor saves: the winner's networks, calibrated, with the threshold to use."""
    registry = job.config.registry
    said = out_of_fold(trainer.ensemble(trial), trainer.arrays)
    y = trainer.arrays.y.numpy()
    if registry.model == "ensemble":
        probabilities = mean_by_row(said, len(y))
    else:
        probabilities = np.concatenate([values for _, values in said])
        y = np.concatenate([y[rows] for rows, _ in said])
    temperature = decision.fit_temperature(probabilities, y) if registry.calibrate else None
    if temperature is not None:
        probabilities = decision.tempered(probabilities, temperature)
    threshold: float | None = None
    if job.parts.schema.classes == 2:
        goal = registry.threshold
        threshold = (
            decision.choose_threshold(probabilities[:, 1], y, goal)  # type: ignore[arg-type]
            if isinstance(goal, str)
            else float(goal)
        )
    ensemble: Ensemble
    if registry.model == "ensemble":
        ensemble = trainer.ensemble(trial, temperature)
    else:
        trainer, single = _retrained(job, trial)
        ensemble = trainer.ensemble(single, temperature)
    return dict(trainer.saved(ensemble, threshold))


def _retrained(job: Job, trial: Trial) -> tuple[Trainer, Trial]:
    """One network on all training rows, for the median of the members' best epochs."""
    epochs = max(1, round(median(fit.best_epoch for fit in trial.fits)))
    training = trial.config.training.model_copy(update={"epochs": epochs, "patience": None})
    config = trial.config.model_copy(update={"training": training})
    trainer = Trainer(job.config, job.parts, all_rows, final_seed(job.config))
    (single,) = trainer.train([Proposal(trial.number, trial.entry, dict(trial.params), config)])
    if single.state != "COMPLETE":
        raise UserError(
            f"registry.model: single: {trial.optimizer} diverged on all training rows "
            f"({single.reason}); ensemble takes the networks of the final round"
        )
    return trainer, replace(single, number=trial.number)


def _conclude(run: Run, evidence: Evidence, winner: Logged | None, name: str) -> None:
    """The evidence on the train run; the tag that says which round it is comes last."""
    best = evidence.winner
    run.text(json.dumps(evidence.to_plain(), indent=1), FILE)
    metrics: dict[str, float | None] = {}
    for one in evidence.baselines:
        key = baselines.key(one.name)
        metrics[f"{key}_accuracy"], metrics[f"{key}_loss"] = one.accuracy_mean, one.loss_mean
    if best is not None:
        metrics |= {
            "final_accuracy": best.accuracy_mean,
            "final_accuracy_std": best.accuracy_std,
            "final_loss": best.loss_mean,
            "optimism_accuracy": best.optimism_accuracy,
            "optimism_loss": best.optimism_loss,
        }
    run.metrics(metrics)
    run.tags(
        {
            "optimizer.winner": best.optimizer if best else "",
            "optimizer.winner_is_clear": str(evidence.winner_is_clear).lower(),
            "final.run_id": winner.run_id if winner else "",
            "final.model_id": (winner.model_id or "") if winner else "",
        }
    )
    run.tags({"final.round": name})
