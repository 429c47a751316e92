"""The final round: the best trial of each optimizer once more, on fresh folds from fresh weights.

The search picks the best of many estimates, and so the luckiest; this round measures what it picked
on folds that it was not picked by."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import numpy as np

from pipeline.analysis import baselines
from pipeline.analysis import finalists as computed
from pipeline.analysis.cross_fitting import together
from pipeline.analysis.evidence import Evidence
from pipeline.analysis.finalists import TrainedFinalists
from pipeline.analysis.ranking import best_per_optimizer
from pipeline.commands.job import Job
from pipeline.common.errors import UserError, naming
from pipeline.common.text import count, duration
from pipeline.config import Config
from pipeline.config.measures import PREFIX
from pipeline.data.prepared import PreparedData, Rows, load_training
from pipeline.data.splits import Split
from pipeline.models import calibration
from pipeline.models.export import Ensemble
from pipeline.models.metrics import KNOWN, metrics_of
from pipeline.report.console import FinalProgress
from pipeline.report.words import round_words
from pipeline.tracking.processes import Lease
from pipeline.tracking.runs import Run
from pipeline.tracking.trials import FinalLog, Logged
from pipeline.training.executors import Executor
from pipeline.training.trainer import Trainer
from pipeline.training.trial import Trial

FILE = "evidence.json"


@dataclass(frozen=True)
class FinalRound:
    """What came out, and the run and the model of the winner (None when all diverged)."""

    evidence: Evidence
    run_id: str | None
    model_id: str | None


def check(config: Config, parts: PreparedData) -> None:
    """Raise UserError where a threshold is asked for that has no meaning, or forward folds that
    cannot be made: these are others than the search's."""
    if config.registry.threshold != 0.5 and parts.schema.classes > 2:
        raise UserError(
            "registry.threshold: must be 0.5 for a table of more than two labels, of which the "
            f"likeliest is predicted; got {config.registry.threshold!r}, and the table has "
            f"{parts.schema.classes} labels"
        )
    if config.validation.order is not None and config.validation.final is not None:
        with naming("validation.final"):
            computed.final_splits(config, parts, load_training(parts))


def final_round(
    job: Job, run: Run, trials: Sequence[Trial], lease: Lease, executor: Executor
) -> None:
    """Train the finalists, log each under its trial and leave the evidence on the train run.

    Cut short it is trained again whole, with the same results, and what was logged stays."""
    chosen = best_per_optimizer(trials, job.metric)
    if job.config.validation.final is None or not chosen:
        return
    started = time.perf_counter()
    with FinalProgress(job.console, len(chosen)) as progress:
        watch = progress.watching() if executor.is_here else None
        how = job.engines(run.run_id), watch, executor, partial(progress.trained, executor.is_here)
        trained = computed.train_finalists(job.config, job.parts, trials, *how)
    lease.check()
    evidence = trained.evidence
    further = {finalist.trial: finalist.metrics(job.metric) for finalist in evidence.finalists}
    repeated = {trial.number: trial.run_id for trial in chosen}
    about: Any = {"round": round_name(job, chosen), "further": further, "repeated": repeated}
    about["metric"] = job.metric
    log = FinalLog(job.store, run, len(chosen), job.data_set("train"), **about)
    winner = _log(job, log, trained)
    _conclude(run, evidence, winner, log.round)
    job.console.say(
        f"final round: the best trials of {count(len(chosen), 'optimizer')}, "
        f"{round_words(evidence)}; took {duration(time.perf_counter() - started)}"
    )


def write_evidence(run: Run, evidence: Evidence) -> None:
    run.text(json.dumps(evidence.to_plain(), indent=1), FILE)


def read_final(job: Job, train_run_id: str, trials: Sequence[Trial]) -> FinalRound | None:
    """The final round that these trials and this configuration ask for, when it was made.

    A larger budget may have left the best trials what they were: then the round is the same."""
    tags = job.store.client.get_run(train_run_id).data.tags
    chosen = best_per_optimizer(trials, job.metric)
    # One whose winner's model was logged serves as well where none is kept.
    if tags.get("final.round") not in {round_name(job, chosen), round_name(job, chosen, True)}:
        return None
    text = job.store.needed(train_run_id, FILE)
    evidence = Evidence.from_plain(json.loads(text), job.metric)
    places = (tags.get(f"final.{what}") or None for what in ("run_id", "model_id"))
    return FinalRound(evidence, *places)


def round_name(job: Job, chosen: Sequence[Trial], with_model: bool = False) -> str:
    """Says what was asked of a round, so that one is made again when something else is asked.

    with_model: of the round that logs the winner's model, whatever the configuration keeps."""
    final, registry = job.config.validation.final, job.config.registry
    if final is None:
        return ""
    numbers = ", ".join(str(trial.number) for trial in sorted(chosen, key=lambda t: t.number))
    calibrated = "calibrated" if registry.calibrate else "as trained"
    kept = "" if with_model or job.keeps_models else "; no model"
    return (
        f"trials {numbers}; {final.folds} folds x {final.repeats}, cross-fitted; "
        f"{registry.model}, {calibrated}, threshold {registry.threshold}{kept}"
    )


def all_rows(config: Config, parts: PreparedData, rows: Rows) -> tuple[Split, ...]:
    """One split that trains on every row; its validation scores are of these rows too."""
    every = np.arange(len(rows.y))
    return (Split(0, 0, every, every),)


def _log(job: Job, log: FinalLog, trained: TrainedFinalists) -> Logged | None:
    """Write a run for each finalist that has none yet; where the winner's is."""
    written = log.written()
    winner = trained.evidence.winner
    for finalist in trained.evidence.finalists:
        trial = trained.trained[finalist.trial]
        if trial.number not in written:
            model = None
            if finalist is winner and job.keeps_models:
                trainer, ensemble, threshold = _ensemble(job, trained.trainer, trial)
                model = trainer.saved(ensemble, threshold)
            written[trial.number] = log.log_trial(trial, model)
    return written[winner.trial] if winner is not None else None


def retrained_winner(
    job: Job, trials: Sequence[Trial], number: int
) -> tuple[Ensemble, float | None]:
    """The winner's networks, calibrated, and the threshold to use, trained once more."""
    again = computed.train_finalists(job.config, job.parts, trials)
    return _ensemble(job, again.trainer, again.trained[number])[1:]


def _ensemble(job: Job, trainer: Trainer, trial: Trial) -> tuple[Trainer, Ensemble, float | None]:
    """What trained the networks last, these, and the threshold; None: of more than two labels."""
    registry = job.config.registry
    predictions = computed.validation_predictions(trainer, trial)
    if registry.model == "ensemble":
        predictions = [together(predictions, trainer.y)]
    probabilities = np.concatenate([each.probabilities for each in predictions])
    y = np.concatenate([each.y.numpy() for each in predictions])
    temperature = calibration.fit_temperature(probabilities, y) if registry.calibrate else None
    if temperature is not None:
        probabilities = calibration.tempered(probabilities, temperature)
    threshold = None
    if job.parts.schema.classes == 2:
        goal, positive = registry.threshold, probabilities[:, 1]
        if isinstance(goal, str):
            name = goal.removeprefix(PREFIX)
            exact = {"f1_score": "f1", "balanced_accuracy": "youden"}  # best at the same thresholds
            others = {m.name: m for m in metrics_of(job.config) if KNOWN.get(m.name) is not m}
            chosen: Any = others.get(name, exact.get(name, name))
            threshold = calibration.choose_threshold(positive, y, chosen)
        else:
            threshold = float(goal)
    if registry.model == "single":
        trainer, trial = _retrained(job, trial, trainer.executor)
    return trainer, trainer.ensemble(trial, temperature), threshold


def _retrained(job: Job, trial: Trial, executor: Executor) -> tuple[Trainer, Trial]:
    """One network on all training rows, for the median of the members' best epochs."""
    epochs = max(1, round(median(fit.best_epoch for fit in trial.fits)))
    training = trial.settings.training.model_copy(update={"epochs": epochs, "patience": None})
    config = trial.settings.model_copy(update={"training": training})
    how = all_rows, computed.final_seed(job.config)
    trainer = Trainer(job.config, job.parts, *how, executor=executor)
    again = Trial(trial.number, trial.optimizer, trial.params, trial.lr, config)
    (single,) = trainer.train([again])
    if single.state != "COMPLETE":
        raise UserError(
            f"registry.model: single: {trial.optimizer} diverged on all training rows "
            f"({single.reason}); ensemble takes the networks of the final round"
        )
    return trainer, single


def _conclude(run: Run, evidence: Evidence, winner: Logged | None, name: str) -> None:
    """The evidence on the train run; the tag that says which round it is comes last."""
    best = evidence.winner
    write_evidence(run, evidence)
    metrics = best.metrics(evidence.metric) if best is not None else {}
    for model in evidence.baselines:
        key = baselines.key(model.name)
        metrics |= {f"{key}_{name}": mean for name, mean in model.means().items()}
    run.metrics(metrics)
    tags = {"optimizer.winner": best.optimizer if best else ""}
    tags["optimizer.winner_is_clear"] = str(evidence.winner_is_clear).lower()
    tags["final.run_id"] = winner.run_id if winner else ""
    tags["final.model_id"] = (winner.model_id or "") if winner else ""
    run.tags(tags)
    run.tags({"final.round": name})
