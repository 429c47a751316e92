"""The searches of a tracking store: listed (`status`), rid of models that nobody needs (`gc`)."""

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any

from pipeline.analysis.ranking import best_per_optimizer
from pipeline.common.text import count, percent
from pipeline.config import Config
from pipeline.models.metrics import ACCURACY, metric_of
from pipeline.report.console import Console
from pipeline.report.tables import Kind, Table
from pipeline.tracking import processes
from pipeline.tracking.connection import connect, paged, quiet, sqlite_path, store_uri
from pipeline.tracking.deletion import Deletion, delete_models
from pipeline.tracking.store import Store
from pipeline.tracking.trials import trials_of
from pipeline.training.trial import Trial

_NARROW = 110  # columns of a terminal in which not everything has room
_LONGEST = 24  # characters of a name on a terminal
_PARENT = "mlflow.parentRunId"


def status(as_json: bool = False) -> None:
    """One line for each search of every experiment, the latest first; where the output is no
    terminal every value whole, and as JSON with `as_json`."""
    quiet()
    console, path = Console(), sqlite_path(store_uri())
    searches: list[dict[str, Any]] = []
    if path is None or path.exists():
        client = connect()
        for experiment in paged(client.search_experiments):
            searches += _searches_in(Store(client, experiment.experiment_id, experiment.name))
    searches.sort(key=itemgetter("started"), reverse=True)
    if as_json:
        print(json.dumps(searches, indent=1))
        return
    if not searches:
        console.say("No searches yet.")
        return
    longest = _LONGEST if console.is_terminal else None
    cells: dict[str, Callable[[dict[str, Any]], str]] = {
        "Experiment": lambda each: each["experiment"][:longest],
        "Table": lambda each: each["table"][:longest],
        "State": itemgetter("state"),
        "Trials": lambda each: f"{each['trials']}/{each['budget'] or '?'}",
        "Best accuracy": lambda each: percent(each["best_accuracy"]),
        "Started": lambda each: each["started"].replace("T", " ")[:16],
        "Run": itemgetter("run_id"),
    }
    if console.is_terminal and console.rich.width < _NARROW:
        del cells["Table"], cells["Started"]
    kinds: dict[str, Kind] = {"Experiment": "text", "Table": "text", "State": "optimizer"}
    console.table(Table.of(searches, cells, [kinds[name] for name in cells if name in kinds]))
    if any(search["state"] == "unfinished" for search in searches):
        console.say("", "An unfinished search goes on when its command is given again.")


def _searches_in(store: Store) -> Iterator[dict[str, Any]]:
    """What is known of each search, and of each sweep with the searches under it, for people and as
    JSON."""
    runs = list(store.search("tags.`pipeline.stage` = 'train'"))
    if not runs:
        return
    silent = processes.silent_identities(processes.claims(store.client, store.experiment_id))
    sweeps = {run.info.run_id: run for run in store.search("tags.`pipeline.stage` = 'sweep'")}
    pipelines = list(store.search("tags.`pipeline.stage` = 'pipeline'")) if sweeps else []
    above = {run.info.run_id: run.data.tags.get(_PARENT) for run in pipelines}
    under: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        tags, trials = run.data.tags, trials_of(store, run.info.run_id)
        scores = (trial.scores[ACCURACY.name] for trial in trials if trial.is_complete)
        line = _line(store, run, silent) | {
            "table": tags.get("data.table", ""),
            "trials": len(trials),
            "budget": int(tags["search.trials"]) if "search.trials" in tags else None,
            "best_accuracy": ACCURACY.best(scores),
        }
        if (sweep := above.get(tags.get(_PARENT, ""))) in sweeps:
            under.setdefault(str(sweep), []).append(line)
        else:
            yield line
    for run_id, lines in under.items():
        yield _line(store, sweeps[run_id], silent) | {
            "searches": len(lines),
            "table": count(len({line["table"] for line in lines}), "table"),
            "trials": sum(line["trials"] for line in lines),
            "budget": sum(line["budget"] or 0 for line in lines),
        }


def _line(store: Store, run: Any, silent: Collection[str]) -> dict[str, Any]:
    """What `status` has of any run, in the order of its columns."""
    is_left = processes.is_left(run.data.tags.get("pipeline.process", ""), silent)
    state = "unfinished" if is_left else "running"
    if run.info.status != "RUNNING":
        state = {"FINISHED": "finished", "FAILED": "failed"}.get(run.info.status, "unfinished")
    started = datetime.fromtimestamp(run.info.start_time / 1000).isoformat(timespec="seconds")
    unknown = {"searches": 1, "table": "", "trials": 0, "budget": None, "best_accuracy": None}
    where = {"experiment": store.experiment, "run_id": run.info.run_id}
    return {**where, "state": state, **unknown, "started": started}


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
