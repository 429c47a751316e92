"""The search: every trial trained, logged and told, and what came out of it."""

from collections import Counter

from pipeline import flavor
from pipeline.config import Config
from pipeline.errors import UserError
from pipeline.evaluation import best_per_optimizer, best_trial, completed
from pipeline.report import Report, descriptions, verdict
from pipeline.search import Search
from pipeline.stages.job import Job
from pipeline.stages.trainer import Trainer
from pipeline.tracking import LoggedTrial, Run, TrialLog, trials_of, with_history
from pipeline.trials import Trial


def train(job: Job, parent: Run) -> list[LoggedTrial]:
    """Search as a child of the pipeline's run; the trials as the store has them.

    Raises UserError when no trial completed.
    """
    name = f"train · {job.config.search.trials} trials"
    with job.store.run("train", name, parent=parent, fingerprint=job.fingerprint) as run:
        run.inputs((job.data_set("train"), "training"))
        _search(job, run)
        trials = read_trials(job, run.run_id)
        _conclude(job, run, trials)
    return trials


def read_trials(job: Job, train_run_id: str) -> list[LoggedTrial]:
    """All trials of a search, the best of each optimizer with its curves and folds."""
    trials = trials_of(job.store, train_run_id)
    shown = {trial.number for trial in best_per_optimizer(trials, job.config.search.objective)}
    return [with_history(job.store, t) if t.number in shown else t for t in trials]


def _search(job: Job, run: Run) -> None:
    """Ask, train, log and tell until the budget is spent."""
    config = job.config
    trainer = Trainer(config, job.parts)
    search = Search(config)
    log = TrialLog(job.store, run, config.search.trials, flavor, job.data_set("train"))
    with job.console.search(search.remaining, config.search.objective) as progress:
        while batch := search.ask():
            for trial in trainer.train(batch, search):
                log.log_trial(trial, trainer.model(trial))
                search.tell(trial.number, trial.state, *_objective(config, trial))
                progress.update([trial])
    if search.exhausted:
        job.console.say(f"All {len(search.told)} combinations were tried.")


def _objective(config: Config, trial: Trial) -> tuple[float | None, dict[int, float]]:
    """The trial's value for the search, and its course by epoch."""
    value = trial.accuracy if config.search.objective == "val_accuracy" else trial.loss
    curve = trial.curves[config.search.objective]
    return value, dict(enumerate(curve.tolist(), start=1))


def _conclude(job: Job, run: Run, trials: list[LoggedTrial]) -> None:
    """What came out: metrics, plots, the description and which trial was best."""
    states = Counter(trial.state for trial in trials)
    run.metrics(
        {
            "trials": len(trials),
            "trials_complete": states["COMPLETE"],
            "trials_failed": states["FAIL"],
            "trials_pruned": states["PRUNED"],
        }
    )
    report = Report(job.facts(), trials)
    best = best_trial(trials, job.config.search.objective)
    if best is None:
        raise UserError(" ".join(verdict(report)))
    done = completed(trials)
    run.metrics(
        {
            "best_accuracy": max(trial.accuracy for trial in done if trial.accuracy is not None),
            "best_loss": min(trial.loss for trial in done if trial.loss is not None),
        }
    )
    run.tags(
        {
            "best.trial": str(best.number),
            "best.run_id": best.run_id,
            "best.model_id": best.model_id or "",
            "best.optimizer": best.optimizer,
            "best.lr": str(best.lr),
        }
    )
    for name, figure in report.figures.items():
        run.figure(figure, f"plots/{name}.png")
    run.describe(descriptions.train_description(report))
