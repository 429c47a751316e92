"""Seconds per tracked trial: this pipeline beside what people write today.

    python benchmarks/search.py                          # 100 trials of 50 epochs
    python benchmarks/search.py --trials 104 --epochs 1000 --only ours

Every variant searches four optimizers and a learning rate with Optuna for the network 9-16-8-1,
batch 64, on one hold-out of the same 1,508 rows, and logs parameters, metrics by epoch and the
model of each trial to a SQLite store of its own, on the same machine, one after the other:

- ours: the seconds that a whole process takes longer for `--trials` than for `--others`, and the
  whole process, imports, the making of the database and evaluation included;
- examples: a DataLoader loop, `mlflow.log_metrics` each epoch and `mlflow.pytorch.log_model`, as
  the libraries' own examples put them together;
- requirements named: the same, and `pip_requirements` given to log_model;
- Ray Tune with MLflow's callback, when ray is installed.

The others take minutes for a hundred trials and cost the same each: `--others` trials are run, and
timed after their imports and the making of their store.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import yaml
from setting import frame, machine, show

ROOT = Path(__file__).parents[1]
OPTIMIZERS = ("SGD", "Adagrad", "RMSprop", "Adam")
HIDDEN = (16, 8)
BATCH = 64


def ours(folder: Path, trials: int, epochs: int) -> float:
    """Seconds of a whole process: imports, the making of the store and evaluation included."""
    table = folder / "table.csv"
    frame(1508 + 503, 9).to_csv(table, index=False)
    lr = {"low": 1e-3, "high": 1e-1, "log": True}
    config = {
        "experiment": "ours",
        "data": {"source": str(table), "target": "label"},
        "validation": {"folds": 1, "final": None},  # the others have no such thing
        "model": {"hidden": list(HIDDEN)},
        "training": {"epochs": epochs, "batch_size": BATCH, "patience": None},
        "optimizers": [{"name": name, "lr": lr} for name in OPTIMIZERS],
        "search": {"trials": trials},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "pipeline", "run", "--config", str(folder / "config.yaml")],
        check=True,
        cwd=folder,
        env=_environment(folder) | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - started


def examples(folder: Path, trials: int, epochs: int, named: bool = False) -> float:
    """Seconds per trial of the examples' way, after the imports and the making of the store."""
    script = [sys.executable, __file__, "--as-examples", str(trials), str(epochs), str(int(named))]
    done = subprocess.run(
        script, check=True, cwd=folder, env=_environment(folder), stdout=subprocess.PIPE, text=True
    )
    return float(json.loads(done.stdout.splitlines()[-1]))


def run_as_examples(trials: int, epochs: int, named: bool) -> float:
    """In a process of its own: Optuna around a DataLoader loop around MLflow's calls."""
    import mlflow
    import optuna
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    table = frame(1508, 9)
    x = torch.from_numpy(table.drop(columns="label").to_numpy())
    y = torch.from_numpy(table["label"].to_numpy()).float().unsqueeze(1)
    held = len(x) // 5
    training = DataLoader(TensorDataset(x[held:], y[held:]), batch_size=BATCH, shuffle=True)
    validation = DataLoader(TensorDataset(x[:held], y[:held]), batch_size=BATCH)
    mlflow.set_experiment("examples")

    def objective(trial: optuna.Trial) -> float:
        with mlflow.start_run():
            name = trial.suggest_categorical("optimizer", OPTIMIZERS)
            lr = trial.suggest_float("lr", 1e-3, 1e-1, log=True)
            mlflow.log_params({"optimizer": name, "lr": lr})
            first, second = HIDDEN
            net = torch.nn.Sequential(
                torch.nn.Linear(9, first),
                torch.nn.ReLU(),
                torch.nn.Linear(first, second),
                torch.nn.ReLU(),
                torch.nn.Linear(second, 1),
                torch.nn.Sigmoid(),
            )
            criterion = torch.nn.BCELoss()
            optimizer = getattr(torch.optim, name)(net.parameters(), lr=lr)
            accuracy = 0.0
            for epoch in range(epochs):
                net.train()
                total = 0.0
                for features, labels in training:
                    optimizer.zero_grad()
                    loss = criterion(net(features), labels)
                    loss.backward()
                    optimizer.step()
                    total += loss.item()
                net.eval()
                right = 0
                with torch.no_grad():
                    for features, labels in validation:
                        right += int(((net(features) > 0.5) == labels).sum())
                accuracy = right / held
                values = {"train_loss": total / len(training), "val_accuracy": accuracy}
                mlflow.log_metrics(values, step=epoch)
            extra = {"pip_requirements": [f"torch=={torch.__version__}"]} if named else {}
            mlflow.pytorch.log_model(net, name="model", input_example=x[:2].numpy(), **extra)
        return accuracy

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    with mlflow.start_run(run_name="warm-up"):
        mlflow.log_metric("started", 1.0)  # the tables are made here, not in the first trial
    started = time.perf_counter()
    study.optimize(objective, n_trials=trials)
    return (time.perf_counter() - started) / trials


def ray_tune(folder: Path, trials: int, epochs: int) -> float:
    """Seconds per trial of Ray Tune with MLflow's callback and its own random search."""
    import ray
    import torch
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback
    from torch.utils.data import DataLoader, TensorDataset

    table = frame(1508, 9)
    features = table.drop(columns="label").to_numpy()
    labels = table["label"].to_numpy()

    def trainable(config: dict[str, object]) -> None:
        x, y = torch.from_numpy(features), torch.from_numpy(labels).float().unsqueeze(1)
        held = len(x) // 5
        loader = DataLoader(TensorDataset(x[held:], y[held:]), batch_size=BATCH, shuffle=True)
        layers = [torch.nn.Linear(9, 16), torch.nn.ReLU(), torch.nn.Linear(16, 8), torch.nn.ReLU()]
        net = torch.nn.Sequential(*layers, torch.nn.Linear(8, 1), torch.nn.Sigmoid())
        optimizer = getattr(torch.optim, str(config["optimizer"]))(net.parameters(), config["lr"])
        for _ in range(epochs):
            for inputs, wanted in loader:
                optimizer.zero_grad()
                loss = torch.nn.functional.binary_cross_entropy(net(inputs), wanted)
                loss.backward()
                optimizer.step()
            with torch.no_grad():
                accuracy = float(((net(x[:held]) > 0.5) == y[:held]).float().mean())
            tune.report({"val_accuracy": accuracy})

    ray.init(num_cpus=os.cpu_count(), log_to_driver=False)
    callback = MLflowLoggerCallback(f"sqlite:///{folder}/mlflow.db", experiment_name="ray")
    space = {"optimizer": tune.choice(OPTIMIZERS), "lr": tune.loguniform(1e-3, 1e-1)}
    tuner = tune.Tuner(
        trainable,
        param_space=space,
        tune_config=tune.TuneConfig(num_samples=trials),
        run_config=tune.RunConfig(callbacks=[callback], storage_path=str(folder), verbose=0),
    )
    started = time.perf_counter()
    tuner.fit()
    return (time.perf_counter() - started) / trials


def _environment(folder: Path) -> dict[str, str]:
    return os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--others", type=int, default=3, help="trials of the other ways")
    parser.add_argument("--only", choices=["ours"])
    parser.add_argument("--as-examples", nargs=3, type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.as_examples:
        trials, epochs, named = arguments.as_examples
        print(json.dumps(run_as_examples(trials, epochs, bool(named))))
        return

    print(machine(["torch", "mlflow", "optuna"]))
    print(f"{arguments.trials} trials of {arguments.epochs} epochs, 9-16-8-1, batch {BATCH}\n")
    others: dict[str, Callable[[Path, int, int], float]] = {
        "the examples' way": examples,
        "the same, requirements named": lambda f, t, e: examples(f, t, e, named=True),
    }
    if find_spec("ray"):
        others["Ray Tune with MLflow's callback"] = ray_tune
    trials, few = arguments.trials, arguments.others
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory() as other:
        start_up = ours(Path(other), few, arguments.epochs)
        whole = ours(Path(name), trials, arguments.epochs)
    own = (whole - start_up) / (trials - few)
    rows = [
        ["ours", str(trials), f"{own:.3f}", "1"],
        [
            "ours, whole process",
            str(trials),
            f"{whole / trials:.3f}",
            f"{whole / trials / own:.1f}",
        ],
    ]
    print(f"ours: {whole:.1f} s for {trials} trials, {start_up:.1f} s for {few}\n")
    if not arguments.only:
        for label, variant in others.items():
            with tempfile.TemporaryDirectory() as name:
                seconds = variant(Path(name), few, arguments.epochs)
            rows.append([label, str(few), f"{seconds:.3f}", f"{seconds / own:.0f}"])
    show(["way", "trials run", "seconds per trial", "times ours"], rows)


if __name__ == "__main__":
    main()
