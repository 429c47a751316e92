"""A search as a study in a storage of Optuna, for optuna-dashboard and Optuna's own plots."""

from pipeline.commands.job import Job
from pipeline.common.errors import UserError
from pipeline.common.text import count
from pipeline.config import Config
from pipeline.data.prepared import open_prepared
from pipeline.report.console import Console
from pipeline.search.optuna_study import Study
from pipeline.search.space import Space
from pipeline.tracking.store import Store
from pipeline.tracking.trials import trials_of, with_curve


def write_study(config: Config, storage: str, name: str) -> None:
    """Write the latest search of this configuration, with each trial's objective by epoch and its
    run in MLflow. `name`: of the study; "": that of the experiment.

    Raises UserError: there is no such search; a storage that cannot be used, or has that study."""
    store, console = Store.open(config.experiment, launched=None), Console()
    job = Job(config, open_prepared(config), store, console, "")
    search = store.latest("train", job.fingerprint)
    if search is None:
        raise UserError(
            f"there is no search with this configuration in the experiment {store.experiment!r} of "
            f"{store.uri}; run it first"
        )
    metric, space = job.metric, Space(config)
    study = Study(space, "random", config.seed)
    for trial in (
        with_curve(store, each, metric.curve) for each in trials_of(store, search.info.run_id)
    ):
        curve = trial.curves.get(metric.curve, ())
        values = {epoch: float(value) for epoch, value in enumerate(curve, 1) if value == value}
        about = {"run_id": trial.run_id, "lr": trial.lr, **trial.scores}
        study.add(space.point(trial), trial.state, trial.score(metric), values, about)
    name = name or store.experiment
    study.write(storage, name, metric.greater_is_better)
    trials = count(len(study), "trial")
    console.say(f"{trials} are the study {name!r} of {storage}: optuna-dashboard {storage}")
