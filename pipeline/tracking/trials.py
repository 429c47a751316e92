"""Trials in MLflow: logged, one run each with its curves, scores and model, and read back.

The model is there before the metrics, so that the scores name the model and the data set that they
are of."""

import json
import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Param
from mlflow.entities import Metric as Value
from mlflow.exceptions import MlflowException

from pipeline.common import signals
from pipeline.common.text import count, number, shorten
from pipeline.models.metrics import ACCURACY, LOSS, METRICS, Metric
from pipeline.tracking import runs
from pipeline.tracking.connection import is_outage
from pipeline.tracking.registry import log_model
from pipeline.tracking.runs import DESCRIPTION, DataSet, Run, Stage, Status
from pipeline.tracking.store import Store
from pipeline.training.trial import CURVES, FOLDS_RUNNING, State, Trial

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
    """Writes the trials of one train run."""

    store: Store
    train: Run
    total: int  # how many are expected, for their names
    data: DataSet | None = None  # that the scores were measured on
    judged: Collection[int] = ()  # epochs at which trials are pruned, from 1
    metric: Metric = ACCURACY  # what the best trial is best in
    stage: ClassVar[Stage] = "trial"

    def log_trial(self, trial: Trial, model_args: Mapping[str, Any] | None) -> Logged:
        """Write a whole trial. `model_args` go to the flavor's save_model; None: no model.

        Only a COMPLETE trial has a model and scores. When writing fails the run ends as FAILED,
        the trial counts as never run, and the error goes on."""
        complete = trial.state == "COMPLETE"
        end = runs.now_ms()
        start = end - round(1000 * trial.seconds)
        others = {path: value for path, value in trial.params.items() if not _is_lr(path)}
        values = {"optimizer": trial.optimizer, "lr": trial.lr, **others}
        params = {k: shorten(encode_param(v), runs.PARAM_LENGTH) for k, v in values.items()}
        run: Run | None = None
        model_id = None
        try:
            tags = self._tags(trial) | {f"{self.stage}.state": trial.state}
            tags |= {f"{self.stage}.reason": trial.reason} if trial.reason else {}
            with signals.deferred():
                run = self.store.create(self.stage, self._name(trial), tags, start)
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

        For the writer alone: what is RUNNING must not be in somebody's hands."""
        whole = set()
        for entity in self.store.trials_under(self.train.run_id):
            if _is_whole(entity):
                whole.add(int(entity.data.tags["trial.number"]))
            elif entity.info.status == "RUNNING":
                run_id, experiment_id = entity.info.run_id, self.store.experiment_id
                run = Run(self.store.client, run_id, experiment_id, "trial", "")
                _abandon(run, ConnectionError("the tracking store went away"))
                self.store.fail_models(run)
        return whole

    def _name(self, trial: Trial) -> str:
        digits = max(2, len(str(self.total - 1)))
        return f"#{trial.number:0{digits}d} {trial.optimizer} lr={trial.lr:.2g}"

    def _tags(self, trial: Trial) -> dict[str, str]:
        tags = {"mlflow.parentRunId": self.train.run_id, "trial.number": str(trial.number)}
        # `lr` is a parameter of every trial: this tells which range it is of.
        tags["trial.lr"] = lr_path(trial.params) or FIXED
        tags[DESCRIPTION] = _description(trial, self.metric)
        return tags | ({"training.engine": trial.fits[0].engine} if trial.fits else {})

    def _scores(self, trial: Trial, end: int, model_id: str | None) -> Iterator[Value]:
        values = dict(trial.scores) | {"best_epoch": trial.best_epoch}
        values |= {f"{name}_std": value for name, value in trial.deviations.items()}
        # MLflow keeps the data set of a metric with the model, and only there.
        yield from runs.finite(values, end, model_id, self.data if model_id else None)


@dataclass(frozen=True)
class FinalLog(TrialLog):
    """Writes the finalists of one train run, each under the trial that it repeats: so the children
    of a train run are its trials and nothing else."""

    round: str = ""  # which it is: what was asked of it, and the trials that are in it
    further: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    """Further metrics by the trial's number in the search."""
    repeated: Mapping[int, str] = field(default_factory=dict)
    """The run of each trial, by the same number."""
    stage: ClassVar[Stage] = "final"

    def written(self) -> dict[int, Logged]:
        """The finalists of this round that are whole in the store, by their numbers."""
        of_train = f"tags.`final.train` = '{self.train.run_id}'"
        return {
            int(run.data.tags["final.trial"]): Logged(run.info.run_id, _model_of(run))
            for run in self.store.search(of_train, "tags.`pipeline.stage` = 'final'")
            if _is_whole(run) and run.data.tags.get("final.round") == self.round
        }

    def _name(self, trial: Trial) -> str:
        return f"final · {trial.optimizer} lr={trial.lr:.2g}"

    def _tags(self, trial: Trial) -> dict[str, str]:
        number, text = trial.number, f"Trial {trial.number} once more, in the final round"
        metric, further = self.metric, self.further.get(trial.number, {})
        if trial.state == "COMPLETE":
            score = metric.text(further.get(f"cross_fitted_{metric.name}"))
            text += (
                f", from fresh weights: {metric.words} {score}, at epochs that other rows chose."
            )
        else:
            text += f". It failed: {trial.reason}."
        tags = {"final.train": self.train.run_id, "final.round": self.round}
        tags |= {"final.trial": str(number), "mlflow.parentRunId": self.repeated[number]}
        return tags | {DESCRIPTION: text}

    def _scores(self, trial: Trial, end: int, model_id: str | None) -> Iterator[Value]:
        yield from super()._scores(trial, end, model_id)
        yield from runs.finite(self.further.get(trial.number, {}), end)


def trials_of(store: Store, train_run_id: str) -> list[Trial]:
    """All trials of a train run by number, without curves and scores of folds; those whose writing
    was cut short are left out."""
    trials: dict[int, Trial] = {}
    for run in store.trials_under(train_run_id):
        if _is_whole(run):
            trial = _read(run)
            trials.setdefault(trial.number, trial)
    return [trials[key] for key in sorted(trials)]


def with_history(store: Store, trial: Trial, metric: Metric = ACCURACY) -> Trial:
    """The trial with its curves, that of `metric` too, and the scores of its folds."""
    scores = {name: curve_of(store, trial.run_id, f"fold_{name}") for name in trial.scores}
    if not len(scores[LOSS.name]):
        scores = {name: np.array([value]) for name, value in trial.scores.items()}
    names = dict.fromkeys((*CURVES, metric.curve, FOLDS_RUNNING))
    curves = {name: curve_of(store, trial.run_id, name) for name in names}
    if len(running := curves[FOLDS_RUNNING]):  # where there is none, the value before
        known = np.where(np.isfinite(running), np.arange(len(running)), 0)
        curves[FOLDS_RUNNING] = running[np.maximum.accumulate(known)]
    return replace(trial, curves=curves, fold_scores=scores)


def with_curve(store: Store, trial: Trial, name: str) -> Trial:
    """The trial with one curve."""
    return replace(trial, curves={name: curve_of(store, trial.run_id, name)})


def curve_of(store: Store, run_id: str, name: str) -> np.ndarray:
    """A trial's metric by step, from 1: float64 [steps], NaN where there is no value."""
    history = store.client.get_metric_history(run_id, name)
    values = np.full(max((point.step for point in history), default=0), np.nan)
    for point in history:
        values[point.step - 1] = point.value
    return values


def lr_path(params: Mapping[str, Any]) -> str | None:
    """The path of the searched learning rate (`optimizers.2.lr`); None: it is not searched."""
    return next((path for path in params if _is_lr(path)), None)


def encode_param(value: Any) -> str:
    """A parameter as text that people read and `decode_param` turns back into the same value.

    JSON, except that a string stands as it is unless it would read as something else."""
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
    return re.fullmatch(r"optimizers\.[^.]+\.lr", path) is not None


def _read(run: Any) -> Trial:
    tags, metrics = run.data.tags, run.data.metrics
    params = {key: decode_param(text) for key, text in run.data.params.items()}
    further = (key.removesuffix("_std") for key in sorted(metrics) if key.endswith("_std"))
    names = [name for name in dict.fromkeys((*METRICS, *further)) if name in metrics]
    optimizer, lr = str(params.pop("optimizer")), float(params.pop("lr"))
    if tags["trial.lr"] != FIXED:
        params[tags["trial.lr"]] = lr
    return Trial(
        int(tags["trial.number"]),
        optimizer,
        params,
        lr,
        state=tags["trial.state"],
        reason=tags.get("trial.reason"),
        scores={name: metrics[name] for name in names},
        deviations={name: metrics[f"{name}_std"] for name in names if f"{name}_std" in metrics},
        best_epoch=metrics.get("best_epoch"),
        seconds=(run.info.end_time - run.info.start_time) / 1000,
        run_id=run.info.run_id,
        model_id=_model_of(run),
        name=run.info.run_name,
    )


def _is_whole(run: Any) -> bool:
    """Whether its writing was not cut short."""
    return run.info.status != "RUNNING" and "pipeline.abandoned" not in run.data.tags


def _model_of(run: Any) -> str | None:
    outputs = run.outputs.model_outputs if run.outputs else []
    return outputs[0].model_id if outputs else None


def _abandon(run: Run, error: BaseException) -> None:
    reason = runs.outcome(error)[1] or "ended"
    tags = {f"{run.stage}.state": "FAIL", f"{run.stage}.reason": reason}
    try:
        with signals.deferred():
            run.tags({"pipeline.abandoned": "true", **tags})
            run.close("FAILED", reason)
    except MlflowException as failure:
        error.add_note(f"The run {run.run_id} could not be closed: {failure}")


def _description(trial: Trial, metric: Metric) -> str:
    """What became of a trial, in a sentence."""
    if trial.state == "FAIL":
        return f"Failed: {trial.reason}."
    if trial.state == "PRUNED":
        epochs = max(map(len, trial.curves.values()), default=0)
        return f"Dropped after {count(epochs, 'epoch')}: other trials were better there."
    networks = count(len(trial.fits), "network")
    return (
        f"Validation {metric.words} {metric.text(trial.score(metric))} (standard deviation "
        f"{metric.text(trial.deviation(metric))}), the mean of {networks}, each at its best epoch "
        f"({number(trial.best_epoch)} on average)."
    )


def _curves(trial: Trial, start: int, end: int, judged: Collection[int]) -> Iterator[Value]:
    """Finite values, their times spread evenly over the trial's; how many folds run where that
    changes."""
    kept = {*judged, *(fit.best_epoch for fit in trial.fits)}
    for name, curve in trial.curves.items():
        epochs = len(curve)
        if name == FOLDS_RUNNING:  # the first and the last epoch, and those around a change
            before = np.flatnonzero(np.diff(curve)) + 1
            chosen = {1, epochs, *before.tolist(), *(before + 1).tolist()}
        else:
            even = np.linspace(1, epochs, min(epochs, MOST_EPOCHS)).round().astype(int)
            chosen = {*even.tolist(), *kept}
        for epoch in sorted(chosen):
            if 0 < epoch <= epochs and math.isfinite(curve[epoch - 1]):
                time = start + round((end - start) * epoch / epochs)
                yield Value(name, float(curve[epoch - 1]), time, epoch)


def _fold_scores(trial: Trial, end: int) -> Iterator[Value]:
    """Each member's scores, with its place (repeat by repeat, fold by fold, from 1) as the step."""
    for name, values in trial.fold_scores.items():
        if len(values) > 1:
            for place, value in enumerate(values, start=1):
                if math.isfinite(value):
                    yield Value(f"fold_{name}", float(value), end, place)
