"""Trials in MLflow: logged, one run each with its curves, scores and model, and read back.

The model is there before the metrics, so that the scores name the model and the data set that they
are of.
"""

import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Metric, Param
from mlflow.exceptions import MlflowException

from pipeline.common import signals
from pipeline.common.text import count, number, percent, shorten
from pipeline.models.metrics import ACCURACY, LOSS, METRICS
from pipeline.tracking.connection import is_outage
from pipeline.tracking.registry import log_model
from pipeline.tracking.runs import (
    DESCRIPTION,
    PARAM_LENGTH,
    DataSet,
    Run,
    Stage,
    Status,
    now_ms,
    outcome,
)
from pipeline.tracking.store import Store
from pipeline.training.trial import CURVES, FOLDS_RUNNING, State, Trial, best_epochs

MOST_EPOCHS = 500
"""Of a longer curve so many values are logged, evenly in epochs: no chart shows more. The epochs
that are kept, those at which trials are judged and the last are among them in any case."""

FIXED = "fixed"  # the tag `trial.lr` where no range of learning rates is searched

_STATUS: Mapping[State, Status] = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED"}


@dataclass(frozen=True)
class Logged:
    """Where a trial went: its run, and its model when it has one."""

    run_id: str
    model_id: str | None


@dataclass(frozen=True)
class TrialLog:
    """Writes the trials of one train run.

    Attributes:
        total: how many are expected, for their names.
        data: the data set that the scores were measured on.
        judged: epochs at which trials are pruned, from 1.
    """

    store: Store
    train: Run
    total: int
    data: DataSet | None = None
    judged: Collection[int] = ()
    stage: ClassVar[Stage] = "trial"

    def log_trial(self, trial: Trial, model_args: Mapping[str, Any] | None) -> Logged:
        """Write a whole trial. `model_args` go to the flavor's save_model; None: no model.

        Only a COMPLETE trial has a model and scores. When writing fails the run ends as FAILED,
        the trial counts as never run, and the error goes on.
        """
        complete = trial.state == "COMPLETE"
        end = now_ms()
        start = end - round(1000 * trial.seconds)
        params = _params(trial)
        run: Run | None = None
        model_id = None
        try:
            with signals.deferred():
                run = self.store.create(self.stage, self._name(trial), self._tags(trial), start)
            if complete and model_args is not None:
                model_id = log_model(self.store, run, trial.number, params, model_args)
            metrics = [*_curves(trial, start, end, self.judged)]
            if complete:
                metrics += [*_fold_scores(trial, end), *self._scores(trial, end, model_id)]
            if self.data:
                run.inputs((self.data, "training"))
            if model_id:
                run.client.log_outputs(run.run_id, [LoggedModelOutput(model_id, step=0)])
                run.client.finalize_logged_model(model_id, LoggedModelStatus.READY)
            # The client parts this into calls of 1,000 metrics and 100 parameters.
            run.client.log_batch(
                run.run_id, metrics, [Param(k, v) for k, v in params.items()], synchronous=True
            )
            run.client.set_terminated(run.run_id, _STATUS[trial.state], end)
        except BaseException as error:
            # A store that is away would not be told either: `tidy` ends such runs when it is back.
            if run is not None and not is_outage(error, self.store.uri):
                _abandon(run, error)
            raise
        return Logged(run.run_id, model_id)

    def tidy(self) -> set[int]:
        """End the trials' runs that an outage cut short; the numbers of those that are whole.

        For the writer alone: what is RUNNING must not be in somebody's hands.
        """
        whole = set()
        for entity in self.store.trials_under(self.train.run_id):
            if entity.info.status == "RUNNING":
                run = Run(
                    self.store.client, entity.info.run_id, self.store.experiment_id, "trial", ""
                )
                _abandon(run, ConnectionError("the tracking store went away"))
                self.store.fail_models(run)
            elif "pipeline.abandoned" not in entity.data.tags:
                whole.add(int(entity.data.tags["trial.number"]))
        return whole

    def _name(self, trial: Trial) -> str:
        digits = max(2, len(str(self.total - 1)))
        return f"#{trial.number:0{digits}d} {trial.optimizer} lr={trial.lr:.2g}"

    def _tags(self, trial: Trial) -> dict[str, str]:
        tags = {
            "mlflow.parentRunId": self.train.run_id,
            "trial.number": str(trial.number),
            "trial.state": trial.state,
            # `lr` is a parameter of every trial: this tells which range it is of.
            "trial.lr": lr_path(trial.params) or FIXED,
            DESCRIPTION: _description(trial),
        }
        return tags | {"trial.reason": trial.reason} if trial.reason else tags

    def _scores(self, trial: Trial, end: int, model_id: str | None) -> Iterator[Metric]:
        values = dict(trial.scores) | {"best_epoch": trial.best_epoch}
        values |= {f"{name}_std": value for name, value in trial.deviations.items()}
        # MLflow keeps the data set of a metric with the model, and only there.
        data = self.data if model_id else None
        of_data = (data.short_name, data.short_digest) if data else (None, None)
        for key, value in values.items():
            if value is not None and math.isfinite(value):
                yield Metric(key, float(value), end, 0, model_id, *of_data)


@dataclass(frozen=True)
class FinalLog(TrialLog):
    """Writes the finalists of one train run, each under the trial that it repeats: so the children
    of a train run are its trials and nothing else.

    Attributes:
        round: which final round it is: what was asked of it, and the trials that are in it.
        further: further metrics by the trial's number in the search.
        repeated: the run of each trial, by the same number.
    """

    round: str = ""
    further: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    repeated: Mapping[int, str] = field(default_factory=dict)
    stage: ClassVar[Stage] = "final"

    def written(self) -> dict[int, Logged]:
        """The finalists of this round that are whole in the store, by their numbers."""
        whole = {}
        for entity in self.store.search(
            f"tags.`final.train` = '{self.train.run_id}'", "tags.`pipeline.stage` = 'final'"
        ):
            tags = entity.data.tags
            is_whole = entity.info.status != "RUNNING" and "pipeline.abandoned" not in tags
            if is_whole and tags.get("final.round") == self.round:
                whole[int(tags["final.trial"])] = Logged(entity.info.run_id, _model_of(entity))
        return whole

    def _name(self, trial: Trial) -> str:
        return f"final · {trial.optimizer} lr={trial.lr:.2g}"

    def _tags(self, trial: Trial) -> dict[str, str]:
        tags = {
            "mlflow.parentRunId": self.repeated[trial.number],
            "final.train": self.train.run_id,
            "final.round": self.round,
            "final.trial": str(trial.number),
            "final.state": trial.state,
            DESCRIPTION: self._final_description(trial),
        }
        return tags | {"final.reason": trial.reason} if trial.reason else tags

    def _final_description(self, trial: Trial) -> str:
        if trial.state != "COMPLETE":
            return f"Trial {trial.number} once more, on fresh folds. It failed: {trial.reason}."
        further = self.further[trial.number]
        return (
            f"Trial {trial.number} once more, on fresh folds from fresh weights: "
            f"{percent(further['cross_fitted_accuracy'])} accuracy at epochs that other rows chose "
            f"(cross-fitted), {percent(trial.score(ACCURACY))} at each fold's best epoch; the "
            f"search had {percent(further['search_accuracy'])}."
        )

    def _scores(self, trial: Trial, end: int, model_id: str | None) -> Iterator[Metric]:
        yield from super()._scores(trial, end, model_id)
        for key, value in self.further.get(trial.number, {}).items():
            if math.isfinite(value):
                yield Metric(key, float(value), end, 0)


def trials_of(store: Store, train_run_id: str) -> list[Trial]:
    """All trials of a train run by number, without curves and scores of folds; those whose writing
    was cut short are left out."""
    trials: dict[int, Trial] = {}
    for run in store.trials_under(train_run_id):
        if "pipeline.abandoned" not in run.data.tags and run.info.status != "RUNNING":
            trial = _read(run)
            trials.setdefault(trial.number, trial)
    return [trials[key] for key in sorted(trials)]


def with_history(store: Store, trial: Trial) -> Trial:
    """The trial with its curves and the scores of its folds."""
    fold_scores = curves_of(store, trial.run_id, [f"fold_{name}" for name in METRICS])
    scores = {name: fold_scores[f"fold_{name}"] for name in METRICS}
    if not len(scores[LOSS.name]):
        scores = {name: np.array([value]) for name, value in trial.scores.items()}
    curves = curves_of(store, trial.run_id, [*CURVES, FOLDS_RUNNING])
    curves[FOLDS_RUNNING] = _filled(curves[FOLDS_RUNNING])
    return replace(trial, curves=curves, fold_scores=scores)


def with_curve(store: Store, trial: Trial, name: str) -> Trial:
    """The trial with one curve."""
    return replace(trial, curves=curves_of(store, trial.run_id, [name]))


def curves_of(store: Store, run_id: str, names: Iterable[str]) -> dict[str, np.ndarray]:
    """A trial's metrics by step, from 1: float64 [steps], NaN where there is no value."""
    curves = {}
    for name in names:
        history = store.client.get_metric_history(run_id, name)
        curve = np.full(max((point.step for point in history), default=0), np.nan)
        for point in history:
            curve[point.step - 1] = point.value
        curves[name] = curve
    return curves


def lr_path(params: Mapping[str, Any]) -> str | None:
    """The path of the searched learning rate (`optimizers.2.lr`); None: it is not searched."""
    return next((path for path in params if _is_lr(path)), None)


def encode_param(value: Any) -> str:
    """A parameter as text that people read and `decode_param` turns back into the same value.

    JSON, except that a string stands as it is unless it would read as something else.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str) and decode_param(value) == value:
        return value
    return json.dumps(value, ensure_ascii=False)


def decode_param(text: str) -> Any:
    """The value of a parameter that `encode_param` wrote; lists come back as tuples."""
    try:
        return _tuples(json.loads(text))
    except ValueError:
        return text


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _is_lr(path: str) -> bool:
    section, _, rest = path.partition(".")
    return section == "optimizers" and rest.partition(".")[2] == "lr"


def _read(run: Any) -> Trial:
    tags, metrics = run.data.tags, run.data.metrics
    params = {key: decode_param(text) for key, text in run.data.params.items()}
    optimizer, lr = str(params.pop("optimizer")), float(params.pop("lr"))
    if tags["trial.lr"] != FIXED:
        params[tags["trial.lr"]] = lr
    return Trial(
        number=int(tags["trial.number"]),
        optimizer=optimizer,
        params=params,
        lr=lr,
        state=tags["trial.state"],
        reason=tags.get("trial.reason"),
        scores={name: metrics[name] for name in METRICS if name in metrics},
        deviations={name: metrics[f"{name}_std"] for name in METRICS if f"{name}_std" in metrics},
        best_epoch=metrics.get("best_epoch"),
        seconds=(run.info.end_time - run.info.start_time) / 1000,
        run_id=run.info.run_id,
        model_id=_model_of(run),
        name=run.info.run_name,
    )


def _model_of(run: Any) -> str | None:
    outputs = run.outputs.model_outputs if run.outputs else []
    return outputs[0].model_id if outputs else None


def _abandon(run: Run, error: BaseException) -> None:
    reason = outcome(error)[1] or "ended"
    tags = {f"{run.stage}.state": "FAIL", f"{run.stage}.reason": reason}
    try:
        with signals.deferred():
            run.tags({"pipeline.abandoned": "true", **tags})
            run.close("FAILED", reason)
    except MlflowException as failure:
        error.add_note(f"The run {run.run_id} could not be closed: {failure}")


def _description(trial: Trial) -> str:
    """What became of a trial, in a sentence."""
    if trial.state == "FAIL":
        return f"Failed: {trial.reason}."
    if trial.state == "PRUNED":
        epochs = max((len(curve) for curve in trial.curves.values()), default=0)
        return f"Dropped after {count(epochs, 'epoch')}: other trials were better there."
    networks = count(len(trial.fits), "network")
    return (
        f"{percent(trial.score(ACCURACY))} validation accuracy (standard deviation "
        f"{percent(trial.deviation(ACCURACY))}) and loss {number(trial.score(LOSS))}, the mean of "
        f"{networks}, each at its best epoch ({number(trial.best_epoch)} on average). The model is "
        "their mean answer."
    )


def _params(trial: Trial) -> dict[str, str]:
    values = {"optimizer": trial.optimizer, "lr": trial.lr}
    values |= {path: value for path, value in trial.params.items() if not _is_lr(path)}
    return {key: shorten(encode_param(value), PARAM_LENGTH) for key, value in values.items()}


def _curves(trial: Trial, start: int, end: int, judged: Collection[int]) -> Iterator[Metric]:
    """Finite values, their times spread evenly over the trial's; how many folds run where that
    changes."""
    for name, curve in trial.curves.items():
        chosen = _shown_epochs(len(curve), {*judged, *best_epochs([trial])})
        if name == FOLDS_RUNNING:
            chosen = _changes(curve)
        for epoch in chosen:
            if math.isfinite(curve[epoch - 1]):
                time = start + round((end - start) * epoch / len(curve))
                yield Metric(name, float(curve[epoch - 1]), time, epoch)


def _shown_epochs(epochs: int, kept: Collection[int]) -> list[int]:
    """The epochs of a curve that are logged, from 1, ascending."""
    if epochs <= MOST_EPOCHS:
        return list(range(1, epochs + 1))
    even = np.linspace(1, epochs, MOST_EPOCHS).round().astype(int).tolist()
    return sorted({*even, *(epoch for epoch in kept if 0 < epoch <= epochs)})


def _changes(curve: np.ndarray) -> list[int]:
    """The first and the last epoch, and those around a change of the value."""
    before = np.flatnonzero(np.diff(curve)) + 1
    ends = [1, len(curve)] if len(curve) else []
    return sorted({*ends, *before.tolist(), *(before + 1).tolist()})


def _filled(curve: np.ndarray) -> np.ndarray:
    """The curve with the value before wherever there is none."""
    if not len(curve):
        return curve
    last = np.maximum.accumulate(np.where(np.isfinite(curve), np.arange(len(curve)), 0))
    return np.asarray(curve[last])


def _fold_scores(trial: Trial, end: int) -> Iterator[Metric]:
    """Each member's scores, with its place (repeat by repeat, fold by fold, from 1) as the step."""
    for name, values in trial.fold_scores.items():
        if len(values) > 1:
            for place, value in enumerate(values, start=1):
                if math.isfinite(value):
                    yield Metric(f"fold_{name}", float(value), end, place)
