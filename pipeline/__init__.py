"""The Python interface: `pipeline.run` does what `python -m pipeline run` does, and returns what it
found out.

What it needs is imported when it is called: importing this loads neither torch nor MLflow."""

import html
import importlib
import os
import threading
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pipeline.common.errors import RunError, UserError
from pipeline.common.text import count, printable, shorten

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.commands.run import Conclusion
    from pipeline.report.tables import Table
    from pipeline.training.trial import Trial

__version__ = "0.1.0"

__all__ = ["Result", "RunError", "UserError", "run"]

_LONGEST_CALL = 2000  # characters

# torch traces a network for the whole process: nothing else may compute meanwhile.
_one_at_a_time = threading.Lock()


def run(
    config: str | os.PathLike[str] | Mapping[str, Any],
    overrides: Mapping[str, Any] | None = None,
    *,
    data: Any = None,
    fresh: bool = False,
) -> "Result":
    """Search, compare, evaluate and register, tracked where MLflow's own functions look.

    A search that was interrupted goes on; one that is finished answers at once. An active run of
    MLflow is left alone, and so are its settings, signal handlers and loggers. Calls of several
    threads take turns.

    Args:
        config: a YAML file, or a mapping in its form.
        overrides: values by their dotted paths, put over it: `{"search.trials": 8}`.
        data: the rows, in place of `data.source`: a data frame (pandas, polars, Arrow), which has
            the column `data.target`, or arrays (x, y).
        fresh: search anew even where a search can go on or is finished.

    Raises:
        UserError: the configuration or the data is wrong; its `problems` are what the command line
            says.
        RunError: the same search is running already, or the store stays away."""
    from pipeline import config as configuration

    asked = [repr(os.fspath(config) if isinstance(config, os.PathLike) else config)]
    asked += [repr(overrides)] if overrides else []
    asked += ["data=..."] if data is not None else []
    asked += ["fresh=True"] if fresh else []
    call = shorten(f"pipeline.run({', '.join(asked)})", _LONGEST_CALL)  # for the report
    rows = name = None
    if data is not None:
        from pipeline.data import given

        rows = given.given(data)
        name = given.name_of(rows)
    if not isinstance(overrides, Mapping | None):
        kind = type(overrides).__name__
        raise UserError(f"overrides: must be a mapping of dotted paths to values; got {kind}")
    changes = {**(overrides or {}), **({"data.source": name, "data.sha256": None} if name else {})}
    if isinstance(config, Mapping):
        settings = configuration.from_mapping(config, changes)
    elif isinstance(config, str | os.PathLike):
        settings = configuration.load(os.fspath(config), changes)
    else:
        raise UserError(f"config: must be a path or a mapping; got {type(config).__name__}")

    with warnings.catch_warnings():
        # In a notebook without widgets tqdm, which MLflow and Optuna import, warns of that.
        warnings.simplefilter("ignore")
        importlib.import_module("tqdm.auto")
    from pipeline.commands.run import run_all
    from pipeline.tracking.connection import undisturbed

    with _one_at_a_time, undisturbed():
        conclusion = run_all(settings, call, fresh, given=rows, launched=None)
    if conclusion.ended is not None:
        conclusion.job.console.say(
            f"This search finished on {conclusion.ended:%Y-%m-%d at %H:%M} with "
            f"{count(len(conclusion.report.trials), 'trial')}; fresh=True does all of it again."
        )
    return Result._of(conclusion)


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """What a search found out.

    Attributes:
        winner: the label of the best optimizer.
        winner_is_clear: whether it is told apart from every other one.
        test_accuracy: on rows that the search never saw, from 0 to 1.
        run_id: the pipeline's run in MLflow.
        trials: a row for each trial: number, optimizer, lr, each further searched leaf by its
            dotted path, state, accuracy, loss and further metrics (validation, means over the
            folds), their standard deviations, best_epoch, seconds and run_id. What a trial has not
            is missing.
        answer: the sentences that the command line ends with.
        model_uri: the registered version; "" where tracking.keep_models is none."""

    winner: str
    winner_is_clear: bool
    test_accuracy: float
    run_id: str
    trials: "pd.DataFrame"
    answer: tuple[str, ...]
    model_uri: str
    _tracking_uri: str
    _optimizers: "Table"

    @cached_property
    def model(self) -> Any:
        """The registered version as `mlflow.pyfunc.load_model` gives it; None: none was kept."""
        from pipeline.tracking.registry import load_pyfunc

        return load_pyfunc(self._tracking_uri, self.model_uri) if self.model_uri else None

    def __repr__(self) -> str:
        sentences = "\n".join(map(printable, self.answer))
        return f"{sentences}\n\n{self._frame().to_string(index=False)}"

    def _repr_html_(self) -> str:
        sentences = "".join(f"<p>{html.escape(printable(each))}</p>" for each in self.answer)
        table = self._frame().to_html(index=False, escape=True, border=0)
        return f'<div class="tex2jax_ignore mathjax_ignore">{sentences}{table}</div>'

    def _frame(self) -> "pd.DataFrame":
        """The table of the optimizers, as text."""
        import pandas as pd

        records = self._optimizers.records()
        texts = [{key: printable(text) for key, text in record.items()} for record in records]
        return pd.DataFrame(texts)

    @classmethod
    def _of(cls, conclusion: "Conclusion") -> "Result":
        from pipeline.report.tables import optimizer_table

        report = conclusion.report
        best = report.winner or report.best
        accuracy = conclusion.test["test_accuracy"]
        assert best is not None
        assert accuracy is not None
        return cls(
            winner=best.optimizer,
            winner_is_clear=report.evidence is not None and report.evidence.winner_is_clear,
            test_accuracy=accuracy,
            run_id=conclusion.run_id,
            trials=_frame_of(report.trials),
            answer=tuple(conclusion.answer),
            model_uri=conclusion.version_uri,
            _tracking_uri=conclusion.job.store.uri,
            _optimizers=optimizer_table(report),
        )


def _frame_of(trials: "Sequence[Trial]") -> "pd.DataFrame":
    import pandas as pd

    from pipeline.models.metrics import METRICS
    from pipeline.tracking.trials import lr_path

    names = dict.fromkeys((*METRICS, *(name for trial in trials for name in trial.scores)))
    leaves = dict.fromkeys(p for t in trials for p in t.params if p != lr_path(t.params))
    return pd.DataFrame(
        {
            "number": trial.number,
            "optimizer": trial.optimizer,
            "lr": trial.lr,
            **{path: trial.params.get(path) for path in leaves},
            "state": trial.state,
            **{name: trial.scores.get(name) for name in names},
            **{f"{name}_std": trial.deviations.get(name) for name in names},
            "best_epoch": trial.best_epoch,
            "seconds": trial.seconds,
            "run_id": trial.run_id,
        }
        for trial in trials
    )
