"""The search: every trial trained, logged and told, the final round, and what came out of it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline.analysis.evidence import Evidence
from pipeline.analysis.ranking import best_per_optimizer, best_trial, completed
from pipeline.commands.final_round import FinalRound, final_round, read_final
from pipeline.commands.job import Job
from pipeline.common.errors import UserError
from pipeline.common.text import count
from pipeline.models.export import Ensemble
from pipeline.models.metrics import with_objective
from pipeline.report import descriptions
from pipeline.report.console import SearchProgress
from pipeline.report.report import Report
from pipeline.report.words import verdict
from pipeline.search.pruning import rungs_of
from pipeline.search.search import Search
from pipeline.tracking.processes import Lease
from pipeline.tracking.runs import Run, now_ms
from pipeline.tracking.trials import TrialLog, trials_of, with_curve, with_history
from pipeline.tracking.views import write_views
from pipeline.tracking.writer import Journal, Writer
from pipeline.training.executors import Executor
from pipeline.training.trainer import Trainer
from pipeline.training.trial import Trial, proposed

_SEARCHED = ("validation", "model", "training", "optimizers", "search")  # sections, on its run


@dataclass(frozen=True)
class Trained:
    """The trials as the store has them, and the final round where one is asked for."""

    trials: list[Trial]
    final: FinalRound | None

    @property
    def evidence(self) -> Evidence | None:
        return self.final.evidence if self.final is not None else None


def train(job: Job, parent: Run, lease: Lease) -> Trained:
    """Search as a child of the pipeline's run, then the final round under the search.

    A search that is there goes on; one that has its whole budget and its final round is read and
    nothing else.

    Raises UserError when no trial completed."""
    before = job.store.child(parent, "train")
    if before is not None and before.info.status == "FINISHED":
        finished = read_finished(job, before.info.run_id)
        if finished is not None:
            return finished
    budget = str(job.config.search.trials)
    tags = {"search.trials": budget, "data.table": job.table}
    with (
        job.executor() as executor,
        job.stage("train", f"{budget} trials", before, parent, tags) as run,
    ):
        run.inputs((job.data_set("train"), "training"))
        flat = job.config.flat()
        run.params({key: flat[key] for key in flat if key.partition(".")[0] in _SEARCHED})
        _search(job, run, lease, executor)
        trained = read_trained(job, run.run_id)
        if trained.evidence is None:
            final_round(job, run, trained.trials, lease, executor)
            final = read_final(job, run.run_id, trained.trials)
            trained = replace(trained, final=final)
        _conclude(job, run, trained)
    return trained


def read_finished(job: Job, train_run_id: str) -> Trained | None:
    """A search that has its whole budget and its final round; None when something is missing."""
    if Search(job.config, _told(job, trials_of(job.store, train_run_id))).remaining:
        return None
    trained = read_trained(job, train_run_id)
    is_whole = job.config.validation.final is None or trained.final is not None
    return trained if is_whole else None


def read_trained(job: Job, train_run_id: str) -> Trained:
    """All trials of a search, the best of each optimizer with its curves and folds, and its final
    round when it has the one that is asked for."""
    trials = trials_of(job.store, train_run_id)
    shown = {trial.number for trial in best_per_optimizer(trials, job.metric)}
    trials = [with_history(job.store, t, job.metric) if t.number in shown else t for t in trials]
    return Trained(trials, read_final(job, train_run_id, trials))


def _search(job: Job, run: Run, lease: Lease, executor: Executor) -> None:
    """Ask, train, log and tell until the budget is spent."""
    config = job.config
    trainer = Trainer(config, job.parts, engines=job.engines(run.run_id), executor=executor)
    data, keeps = job.data_set("train"), job.keeps_models
    log = TrialLog(job.store, run, config.search.trials, data, rungs_of(config), job.metric)
    model = trainer.model if keeps else lambda trial: None
    journal = Journal(config, run.run_id)
    if journal.numbers:
        job.console.say("Trials that the tracking store missed earlier are written now.")
        with Writer(log, model, journal):
            pass
    done = _told(job, trials_of(job.store, run.run_id))
    search = Search(config, done)
    engines: set[str] = set()
    if search.remaining:
        with (
            SearchProgress(job.console, len(done) + search.remaining, job.metric, done) as progress,
            Writer(log, model, journal, job.console.warn, progress.written) as writer,
        ):
            while asked := {proposal.number for proposal in search.ask()}:
                # What shares a stack is trained again whole: results depend on the stack's size.
                watch = progress.watching(search.watch) if executor.is_here else search.watch
                for trial in trainer.train(search.batch, watch, asked):
                    progress.trained(executor.is_here)
                    lease.check()
                    engines |= {fit.engine for fit in trial.fits if fit.engine}
                    if trial.number in asked:
                        if keeps and not trainer.is_exported(trial):
                            with writer.paused():
                                trial = trainer.export(trial)
                        writer.put(trial)
                        search.tell(trial)
    if engines:
        run.tags({"training.engine": ", ".join(sorted(engines))})
    if search.exhausted:
        tried = count(len(search.told), "trial")
        job.console.say(f"Every combination of the settings was tried: {tried}.")


def retrain(job: Job, trials: Sequence[Trial], number: int) -> tuple[Ensemble, None]:
    """The networks of a trial of the search, trained once more; and no threshold, which only the
    final round chooses."""
    trial = next(trial for trial in trials if trial.number == number)
    trainer = Trainer(job.config, job.parts)
    (again,) = trainer.train([proposed(number, trial.optimizer, trial.params, job.config)])
    return trainer.ensemble(again), None


def _told(job: Job, trials: list[Trial]) -> list[Trial]:
    """The trials of the store as the search is told of them; curves only where it reads them."""
    if job.config.search.pruner == "none":
        return trials
    return [with_curve(job.store, trial, job.metric.curve) for trial in trials]


def _conclude(job: Job, run: Run, trained: Trained) -> None:
    """What came out: metrics, plots, the description and which trial was best."""
    trials = trained.trials
    states: Counter[str] = Counter(trial.state for trial in trials)
    names = {"complete": "COMPLETE", "failed": "FAIL", "pruned": "PRUNED"}
    counts = {f"trials_{name}": states[state] for name, state in names.items()}
    run.metrics({"trials": len(trials), **counts})
    report = Report(job.facts(), trials, None, trained.evidence, drawn=job.drawn)
    best = best_trial(trials, job.metric)
    if best is None:
        raise UserError(" ".join(verdict(report)))
    scores = [trial.scores for trial in completed(trials)]
    metrics = with_objective(job.metric)
    run.metrics({f"best_{m.name}": m.best(each[m.name] for each in scores) for m in metrics})
    tags = {"trial": str(best.number), "run_id": best.run_id, "model_id": best.model_id or ""}
    tags |= {"optimizer": best.optimizer, "lr": str(best.lr)}
    run.tags({f"best.{name}": text for name, text in tags.items()})
    run.figures({name: plot.drawn for name, plot in report.figures.items()})
    run.describe(descriptions.search_description(report))
    write_views(job.store, job.metric, run.run_id, now_ms())
