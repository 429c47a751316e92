"""Which trials' models stay: `tracking.keep_models`, at the end of a search and by `gc`."""

from collections.abc import Sequence

from pipeline.analysis.ranking import best_per_optimizer, best_trial
from pipeline.common import text as formats
from pipeline.config import Config
from pipeline.report.console import Console
from pipeline.tracking.history import LoggedTrial, trials_of
from pipeline.tracking.models import delete_models
from pipeline.tracking.store import Store


def keep_models(config: Config, store: Store, trials: Sequence[LoggedTrial]) -> int:
    """Delete the models of one search's trials that the configuration does not keep; how many.

    The best trial's stays in any case: it is what `evaluate` scores and registers, and what a
    search that goes on is measured by. So resuming and evaluating work as before.
    """
    if config.tracking.keep_models == "all":
        return 0
    objective = config.search.objective
    kept = [best_trial(trials, objective)]
    if config.tracking.keep_models == "best_per_optimizer":
        kept += best_per_optimizer(trials, objective)
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
    console.say(
        f"{formats.count(deleted, 'model')} deleted from the experiment {store.experiment}."
    )
