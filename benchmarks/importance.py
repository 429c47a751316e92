"""What the importances of settings can be trusted for, on searches whose truth is known.

    python benchmarks/importance.py                       # 40 searches of each kind: an hour
    python benchmarks/importance.py --seeds 20 --trials 20 40

Each search is this project's own (TPE, four optimizers, seven settings), of a made-up score in
which known settings have an effect and all others have none, with noise of 0.6 points:

- nothing: noise alone;
- batch size: 0, 2.4 or 4 points, by the batch size;
- weak batch size: 0, 0.6 or 1 point;
- learning rate and dropout: a hump over the learning rate, elsewhere for each optimizer, and 1
  point by dropout;
- optimizer: 0 to 3 points.

Printed for each kind and number of trials: how often a setting with an effect had the greatest
share, by ours and by Optuna's evaluators on the same trials; how often those with an effect stood
out from chance, and how often one without any did (5 % are meant); and the seconds that ours took.
Optuna's fANOVA leaves out settings that not all optimizers have, such as the learning rate.
"""

import argparse
import math
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from setting import machine, show

sys.path.insert(0, str(Path(__file__).parents[1]))
from pipeline.analysis import importance
from pipeline.analysis.importance import Searched
from pipeline.config import Config, loads
from pipeline.models.metrics import ACCURACY
from pipeline.search.optuna_study import Study
from pipeline.search.search import Search
from pipeline.search.settings import argument, settings_of
from pipeline.search.space import Space
from pipeline.training.trial import Trial

CONFIG = """
data: {source: none.csv, target: none}
model:
  hidden: {choice: [[32], [64, 32]]}
  dropout: {choice: [0.2, 0.4]}
training: {batch_size: {choice: [32, 64, 128]}}
optimizers:
  - {name: SGD, lr: {low: 1e-3, high: 1.0, log: true}, momentum: {low: 0.0, high: 0.95}}
  - {name: Adagrad, lr: {low: 1e-3, high: 1.0, log: true}}
  - {name: Adam, lr: {low: 1e-4, high: 1e-1, log: true}}
  - name: AdamW
    lr: {low: 1e-4, high: 1e-1, log: true}
    weight_decay: {low: 1e-4, high: 1.0, log: true}
"""
NOISE = 0.006
BEST_LR = (-0.7, -1.3, -2.2, -2.5)  # log10, of each optimizer


@dataclass(frozen=True)
class Truth:
    """A made-up score, and the settings that have an effect on it."""

    score: Callable[[int, dict[str, Any]], float]
    settings: frozenset[str]


def _batch_size(points: float) -> Truth:
    gain = {32: 0.0, 64: 0.6 * points, 128: points}
    return Truth(lambda _, p: gain[p["training.batch_size"]], frozenset({"training.batch_size"}))


def _learning_rate(entry: int, params: dict[str, Any]) -> float:
    away = math.log10(params[f"optimizers.{entry}.lr"]) - BEST_LR[entry]
    return -0.04 * min(away**2, 2.5) + 0.01 * (params["model.dropout"] == 0.2)


TRUTHS = {
    "nothing": Truth(lambda *_: 0.0, frozenset()),
    "batch size": _batch_size(0.04),
    "weak batch size": _batch_size(0.01),
    "learning rate and dropout": Truth(_learning_rate, frozenset({"lr", "model.dropout"})),
    "optimizer": Truth(lambda e, _: (0.0, 0.01, 0.03, 0.025)[e], frozenset({"optimizer"})),
}


def searched(truth: Truth, trials: int, seed: int) -> Search:
    """A search that is finished."""
    config = loads(CONFIG, "benchmark")
    changed = config.search.model_copy(update={"trials": trials})
    search = Search(config.model_copy(update={"seed": seed, "search": changed}))
    rng = np.random.default_rng((seed, trials))
    while asked := search.ask():
        for proposal in asked:
            score = _score(truth, config, proposal, rng)
            scores = {"accuracy": score, "loss": 1 - score}
            search.tell(replace(proposal, state="COMPLETE", scores=scores))
    return search


def _score(truth: Truth, config: Config, trial: Trial, rng: np.random.Generator) -> float:
    entry = config.labels.index(trial.optimizer)
    return 0.7 + truth.score(entry, trial.params) + NOISE * float(rng.normal())


def ours(search: Search, config: Config) -> dict[str, bool]:
    """Settings, the greatest share first -> whether they stand out."""
    importances = Searched(settings_of(config), search.told, ACCURACY).importances
    return {each.setting.name: each.stands_out for each in importances}


def optunas(search: Search, config: Config, evaluator: Any = None) -> str:
    """The setting that Optuna gives the greatest importance."""
    space = Space(config)
    study = Study(space, "random", 0)
    for trial in search.told:
        study.add(space.point(trial), "COMPLETE", trial.scores["accuracy"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importances = get_param_importances(study._study, evaluator=evaluator)
    return argument(next(iter(importances)))


def measured(truth: Truth, trials: int, seeds: int) -> list[str]:
    """A row of the table."""
    config = loads(CONFIG, "benchmark")
    tops: dict[str, list[str]] = {"ours": [], "fANOVA": [], "default": []}
    with_effect, without, seconds = [], [], []
    for seed in range(seeds):
        search = searched(truth, trials, seed)
        started = time.perf_counter()
        found = ours(search, config)
        seconds.append(time.perf_counter() - started)
        tops["ours"].append(next(iter(found)))
        tops["fANOVA"].append(optunas(search, config, FanovaImportanceEvaluator(seed=seed)))
        tops["default"].append(optunas(search, config))
        for name, out in found.items():
            (with_effect if name in truth.settings else without).append(out)
    shares = [_share([name in truth.settings for name in names]) for names in tops.values()]
    if not truth.settings:
        shares = ["–"] * len(shares)
    return [
        str(trials), *shares, _share(with_effect), _share(without), f"{np.mean(seconds):.1f}",
    ]  # fmt: skip


def _share(found: Sequence[bool]) -> str:
    return f"{100 * np.mean(found):.0f} %" if found else "–"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--trials", type=int, nargs="+", default=[10, 20, 40, 200])
    parser.add_argument("--only", nargs="+", choices=list(TRUTHS), default=list(TRUTHS))
    arguments = parser.parse_args()
    importance.LEAST_TRIALS = 1  # to see what fewer would be worth
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    print(machine(["optuna", "scikit-learn"]))
    print(f"{arguments.seeds} searches of each kind\n")
    head = ["effect of", "trials", "right on top", "Optuna's fANOVA", "Optuna's default",
            "with an effect, stood out", "without any, stood out", "seconds"]  # fmt: skip
    show(
        head,
        [
            [kind, *measured(TRUTHS[kind], trials, arguments.seeds)]
            for kind in arguments.only
            for trials in arguments.trials
        ],
    )


if __name__ == "__main__":
    main()
