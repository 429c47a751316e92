"""The searches of a tracking store: listed (`status`), rid of models that nobody needs (`gc`)."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from pipeline.analysis.ranking import best_per_optimizer, best_trial
from pipeline.common.text import count, percent, shorten
from pipeline.config import Config
from pipeline.models.metrics import ACCURACY, metric_of
from pipeline.report.console import Console
from pipeline.report.tables import Table
from pipeline.tracking import processes
from pipeline.tracking.connection import connect, paged, quiet, sqlite_path, store_uri
from pipeline.tracking.registry import delete_models
from pipeline.tracking.store import Store
from pipeline.tracking.trials import trials_of
from pipeline.training.trial import Trial

SearchState = Literal["running", "finished", "failed", "unfinished"]


@dataclass(frozen=True)
class SearchRun:
    """One search: its train run, and how far it is.

    budget: None for a run that does not say. best: validation accuracy, from 0 to 1. started: in
    milliseconds since the epoch.
    """

    run_id: str
    experiment: str
    table: str
    state: SearchState
    trials: int
    budget: int | None
    best: float | None
    started: int


def searches() -> list[SearchRun]:
    """Those of every experiment, the latest first; none where there is no store yet."""
    quiet()
    path = sqlite_path(store_uri())
    if path is not None and not path.exists():
        return []
    client = connect()
    listed: list[SearchRun] = []
    for experiment in paged(client.search_experiments):
        listed += _searches_in(Store(client, experiment.experiment_id, experiment.name))
    return sorted(listed, key=lambda search: -search.started)


def _searches_in(store: Store) -> Iterator[SearchRun]:
    runs = list(store.search("tags.`pipeline.stage` = 'train'"))
    if not runs:
        return
    silent = processes.silent_identities(processes.claims(store.client, store.experiment_id))
    for run in runs:
        tags = run.data.tags
        trials = trials_of(store, run.info.run_id)
        budget = tags.get("search.trials", "")
        yield SearchRun(
            run.info.run_id,
            store.experiment,
            tags.get("data.table", ""),
            _state(run, processes.is_left(tags.get("pipeline.process", ""), silent)),
            len(trials),
            int(budget) if budget.isdigit() else None,
            ACCURACY.best(t.scores[ACCURACY.name] for t in trials if t.is_complete),
            run.info.start_time,
        )


def _state(run: Any, is_left: bool) -> SearchState:
    if run.info.status == "RUNNING":
        return "unfinished" if is_left else "running"
    states: dict[str, SearchState] = {"FINISHED": "finished", "FAILED": "failed"}
    return states.get(run.info.status, "unfinished")


def status() -> None:
    """One line for each search, the latest first."""
    console = Console()
    listed = searches()
    if not listed:
        console.say("No searches yet.")
        return
    console.table(Table.of(listed, _COLUMNS, ["text"] * 3))
    if any(search.state == "unfinished" for search in listed):
        console.say("", "An unfinished search goes on when its command is given again.")


_COLUMNS: dict[str, Callable[[SearchRun], str]] = {
    "Experiment": lambda search: shorten(search.experiment, 24),
    "Table": lambda search: shorten(search.table, 20),
    "State": lambda search: search.state,
    "Trials": lambda search: f"{search.trials}/{'?' if search.budget is None else search.budget}",
    "Best accuracy": lambda search: percent(search.best),
    "Started": lambda search: f"{datetime.fromtimestamp(search.started / 1000):%Y-%m-%d %H:%M}",
    "Run": lambda search: search.run_id,
}


def keep_models(config: Config, store: Store, trials: Sequence[Trial]) -> int:
    """Delete the models of one search's trials that the configuration does not keep; how many.

    The best trial's stays in any case: it is what `evaluate` scores and registers, and what a
    search that goes on is measured by. So resuming and evaluating work as before.
    """
    if config.tracking.keep_models == "all":
        return 0
    metric = metric_of(config.search.objective)
    kept = [best_trial(trials, metric)]
    if config.tracking.keep_models == "best_per_optimizer":
        kept += best_per_optimizer(trials, metric)
    ids = {trial.model_id for trial in kept if trial is not None and trial.model_id}
    return delete_models(store, {trial.run_id for trial in trials}, ids)


def gc(config: Config) -> None:
    """The same for every search of the experiment that has ended."""
    console = Console()
    store = Store.open(config.experiment)
    if config.tracking.keep_models == "all":
        console.say("tracking.keep_models is all: nothing to delete.")
        return
    deleted = 0
    for run in list(store.search("tags.`pipeline.stage` = 'train'")):
        if run.info.status != "RUNNING":
            deleted += keep_models(config, store, trials_of(store, run.info.run_id))
    console.say(f"{count(deleted, 'model')} deleted from the experiment {store.experiment}.")
