"""All searches of a tracking store, as `status` lists them. Nothing is written or closed here."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.tracking import lease
from pipeline.tracking.connection import connect, quiet, sqlite_path, store_uri
from pipeline.tracking.history import trials_of
from pipeline.tracking.store import Store

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
    found: list[SearchRun] = []
    token = None
    while True:
        page = client.search_experiments(page_token=token)
        for experiment in page:
            store = Store(client, experiment.experiment_id, experiment.name)
            found += _searches_in(store)
        token = page.token
        if not token:
            return sorted(found, key=lambda one: -one.started)


def _searches_in(store: Store) -> Iterator[SearchRun]:
    runs = list(store.search("tags.`pipeline.stage` = 'train'"))
    if not runs:
        return
    silent = lease.silent_identities(lease.claims(store.client, store.experiment_id))
    for run in runs:
        tags = run.data.tags
        trials = trials_of(store, run.info.run_id)
        budget = tags.get("search.trials", "")
        yield SearchRun(
            run.info.run_id,
            store.experiment,
            tags.get("data.table", ""),
            _state(run, lease.is_left(tags.get("pipeline.process", ""), silent)),
            len(trials),
            int(budget) if budget.isdigit() else None,
            max((t.accuracy for t in trials if t.accuracy is not None), default=None),
            run.info.start_time,
        )


def _state(run: Any, is_left: bool) -> SearchState:
    if run.info.status == "RUNNING":
        return "unfinished" if is_left else "running"
    states: dict[str, SearchState] = {"FINISHED": "finished", "FAILED": "failed"}
    return states.get(run.info.status, "unfinished")
