"""The search: every trial trained, logged and told, the final round, and what came out of it."""

from collections import Counter
from dataclasses import dataclass

from pipeline.analysis.evidence import Evidence
from pipeline.analysis.importance import Searched
from pipeline.analysis.ranking import best_per_optimizer, best_trial, completed
from pipeline.commands.final_round import FinalRound, final_round, read_final, write_evidence
from pipeline.commands.job import Job
from pipeline.common.errors import UserError
from pipeline.config import Config
from pipeline.models import flavor
from pipeline.report import descriptions
from pipeline.report.words import Report, verdict
from pipeline.search.search import Search
from pipeline.search.settings import settings_of
from pipeline.tracking.history import LoggedTrial, curves_of, trials_of, with_history
from pipeline.tracking.journal import Journal
from pipeline.tracking.lease import Lease
from pipeline.tracking.runs import Run
from pipeline.tracking.trials import TrialLog
from pipeline.tracking.writer import Writer
from pipeline.training.proposals import Told
from pipeline.training.trainer import Trainer
from pipeline.training.trial import Trial


@dataclass(frozen=True)
class Trained:
    """The trials as the store has them, the final round where one is asked for, and what can be
    said of the settings."""

    trials: list[LoggedTrial]
    final: FinalRound | None
    searched: Searched

    @classmethod
    def of(cls, job: Job, trials: list[LoggedTrial], final: FinalRound | None) -> "Trained":
        config = job.config
        return cls(trials, final, Searched(settings_of(config), trials, config.search.objective))

    @property
    def evidence(self) -> Evidence | None:
        return self.final.evidence if self.final is not None else None


def train(job: Job, parent: Run, lease: Lease) -> Trained:
    """Search as a child of the pipeline's run, then the final round under the search.

    A search that is there goes on; one that has its whole budget and its final round is read and
    nothing else.

    Raises UserError when no trial completed.
    """
    found = job.store.child(parent, "train")
    if found is not None and found.info.status == "FINISHED":
        finished = read_finished(job, found.info.run_id)
        if finished is not None:
            return finished
    name = f"train · {job.config.search.trials} trials"
    tags = {"search.trials": str(job.config.search.trials), "data.table": job.table}
    with job.store.run(
        "train",
        name,
        parent=parent,
        fingerprint=job.fingerprint,
        tags=tags,
        resume=found.info.run_id if found is not None else None,
    ) as run:
        run.inputs((job.data_set("train"), "training"))
        _search(job, run, lease)
        trials = read_trials(job, run.run_id)
        final = read_final(job, run.run_id, trials)
        if final is None:
            final_round(job, run, trials, lease)
            final = read_final(job, run.run_id, trials)
        else:
            write_evidence(run, final.evidence)
        trained = Trained.of(job, trials, final)
        _conclude(job, run, trained)
    return trained


def read_finished(job: Job, train_run_id: str) -> Trained | None:
    """A search that has its whole budget and its final round; None when something is missing."""
    history = [_told(job, trial) for trial in trials_of(job.store, train_run_id)]
    if Search(job.config, history).remaining:
        return None
    trained = read_trained(job, train_run_id)
    is_whole = job.config.validation.final is None or trained.final is not None
    return trained if is_whole else None


def read_trained(job: Job, train_run_id: str) -> Trained:
    """All trials of a search, and its final round when it has the one that is asked for."""
    trials = read_trials(job, train_run_id)
    return Trained.of(job, trials, read_final(job, train_run_id, trials))


def read_trials(job: Job, train_run_id: str) -> list[LoggedTrial]:
    """All trials of a search, the best of each optimizer with its curves and folds."""
    trials = trials_of(job.store, train_run_id)
    shown = {trial.number for trial in best_per_optimizer(trials, job.config.search.objective)}
    return [with_history(job.store, t) if t.number in shown else t for t in trials]


def _search(job: Job, run: Run, lease: Lease) -> None:
    """Ask, train, log and tell until the budget is spent."""
    config = job.config
    trainer = Trainer(config, job.parts)
    log = TrialLog(job.store, run, config.search.trials, flavor, job.data_set("train"))
    journal = Journal(config, run.run_id)
    if journal.numbers:
        job.console.say("Trials that the tracking store missed earlier are written now.")
        with Writer(log, trainer.model, journal):
            pass
    done = trials_of(job.store, run.run_id)
    search = Search(config, [_told(job, trial) for trial in done])
    total, objective = len(done) + search.remaining, config.search.objective
    if search.remaining:
        with (
            job.console.search(total, objective, done) as progress,
            Writer(log, trainer.model, journal, job.console.warn) as writer,
        ):
            while asked := {proposal.number for proposal in search.ask()}:
                # A batch that was cut short is trained whole: results depend on the stack's size.
                for trial in trainer.train(search.batch, search):
                    lease.check()
                    if trial.number in asked:
                        if not trainer.is_exported(trial):
                            with writer.paused():
                                trainer.export(trial)
                        writer.put(trial)
                        search.tell(trial.number, trial.state, *_objective(config, trial))
                        progress.update([trial])
    if search.exhausted:
        job.console.say(f"All {len(search.told)} combinations were tried.")


def _told(job: Job, trial: LoggedTrial) -> Told:
    """A trial of the store as the search was told it; the course only where somebody reads it."""
    objective = job.config.search.objective
    course: dict[int, float] = {}
    if job.config.search.pruner != "none":
        curve = curves_of(job.store, trial.run_id, [objective])[objective]
        course = dict(enumerate(curve.tolist(), start=1))
    value = trial.accuracy if objective == "val_accuracy" else trial.loss
    return Told(trial.number, trial.entry, trial.params, trial.state, value, course)


def _objective(config: Config, trial: Trial) -> tuple[float | None, dict[int, float]]:
    """The trial's value for the search, and its course by epoch."""
    value = trial.accuracy if config.search.objective == "val_accuracy" else trial.loss
    curve = trial.curves[config.search.objective]
    return value, dict(enumerate(curve.tolist(), start=1))


def _conclude(job: Job, run: Run, trained: Trained) -> None:
    """What came out: metrics, plots, the description and which trial was best."""
    trials = trained.trials
    states = Counter(trial.state for trial in trials)
    run.metrics(
        {
            "trials": len(trials),
            "trials_complete": states["COMPLETE"],
            "trials_failed": states["FAIL"],
            "trials_pruned": states["PRUNED"],
        }
    )
    report = Report(job.facts(), trials, evidence=trained.evidence, searched=trained.searched)
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
