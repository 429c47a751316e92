"""The searches of a tracking store: listed (`status`), rid of models that nobody needs (`gc`)."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from operator import itemgetter

from pipeline.analysis.ranking import best_per_optimizer
from pipeline.common.text import count, percent, shorten
from pipeline.config import Config
from pipeline.models.metrics import ACCURACY, metric_of
from pipeline.report.console import Console
from pipeline.report.tables import Table
from pipeline.tracking import processes
from pipeline.tracking.connection import connect, paged, quiet, sqlite_path, store_uri
from pipeline.tracking.deletion import Deletion, delete_models
from pipeline.tracking.store import Store
from pipeline.tracking.trials import trials_of
from pipeline.training.trial import Trial

_COLUMNS = ("Experiment", "Table", "State", "Trials", "Best accuracy", "Started", "Run")


def status() -> None:
    """One line for each search of every experiment, the latest first."""
    quiet()
    console, path = Console(), sqlite_path(store_uri())
    listed: list[tuple[int, tuple[str, ...]]] = []
    if path is None or path.exists():
        client = connect()
        for experiment in paged(client.search_experiments):
            listed += _searches_in(Store(client, experiment.experiment_id, experiment.name))
    if not listed:
        console.say("No searches yet.")
        return
    rows = [row for _, row in sorted(listed, key=lambda search: -search[0])]
    cells = {heading: itemgetter(place) for place, heading in enumerate(_COLUMNS)}
    console.table(Table.of(rows, cells, ["text"] * 3))
    if any("unfinished" in row for row in rows):
        console.say("", "An unfinished search goes on when its command is given again.")


def _searches_in(store: Store) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Of each search when it started, milliseconds since the epoch, and its cells."""
    runs = list(store.search("tags.`pipeline.stage` = 'train'"))
    if not runs:
        return
    silent = processes.silent_identities(processes.claims(store.client, store.experiment_id))
    for run in runs:
        tags, started = run.data.tags, run.info.start_time
        trials = trials_of(store, run.info.run_id)
        is_left = processes.is_left(tags.get("pipeline.process", ""), silent)
        state = "unfinished" if is_left else "running"
        if run.info.status != "RUNNING":
            state = {"FINISHED": "finished", "FAILED": "failed"}.get(run.info.status, "unfinished")
        scores = (trial.scores[ACCURACY.name] for trial in trials if trial.is_complete)
        yield (
            started,
            (
                shorten(store.experiment, 24),
                shorten(tags.get("data.table", ""), 20),
                state,
                f"{len(trials)}/{tags.get('search.trials') or '?'}",
                percent(ACCURACY.best(scores)),
                f"{datetime.fromtimestamp(started / 1000):%Y-%m-%d %H:%M}",
                run.info.run_id,
            ),
        )


def keep_models(config: Config, store: Store, trials: Sequence[Trial], console: Console) -> int:
    """Delete the models of one search's trials that the configuration does not keep; how many.

    The best trial's stays unless none is kept: it is what `evaluate` scores and registers, and what
    a search that goes on is measured by. So resuming and evaluating work as before."""
    return _delete(store, [_dispensable(config, store, trials)], console)


def _dispensable(
    config: Config, store: Store, trials: Sequence[Trial]
) -> tuple[set[str], set[str]]:
    """The runs whose models may go, and the models of theirs that stay."""
    keep, run_ids = config.tracking.keep_models, {trial.run_id for trial in trials}
    if keep == "all":
        return set(), set()
    metric = metric_of(config)
    if any(metric.name not in trial.scores for trial in trials if trial.is_complete):
        metric = ACCURACY  # of another search in the experiment
    best = best_per_optimizer(trials, metric)
    kept = best if keep == "best_per_optimizer" else best[:1]
    if keep == "none":
        kept, finals = [], list(store.search("tags.`pipeline.stage` = 'final'"))
        under = (run for run in finals if run.data.tags["mlflow.parentRunId"] in run_ids)
        run_ids |= {run.info.run_id for run in under}
    return run_ids, {trial.model_id for trial in kept if trial.model_id}


def _delete(store: Store, searches: Sequence[tuple[set[str], set[str]]], console: Console) -> int:
    run_ids, kept = (set[str]().union(*(each[i] for each in searches)) for i in (0, 1))
    deletion = delete_models(store, run_ids, kept) if run_ids else Deletion()
    if deletion.spared:
        console.warn(deletion.spared)
    return deletion.count


def gc(config: Config) -> None:
    """The same for every search of the experiment that has ended."""
    console = Console()
    store = Store.open(config.experiment)
    if config.tracking.keep_models == "all":
        console.say("tracking.keep_models is all: nothing to delete.")
        return
    searches = list(store.search("tags.`pipeline.stage` = 'train'"))
    ended = [run.info.run_id for run in searches if run.info.status != "RUNNING"]
    trials = [trials_of(store, run_id) for run_id in ended]
    deleted = _delete(store, [_dispensable(config, store, each) for each in trials], console)
    console.say(f"{count(deleted, 'model')} deleted from the experiment {store.experiment}.")
