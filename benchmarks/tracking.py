"""Milliseconds per tracked trial: a trial of ours beside MLflow's calls as its examples put them.

    python benchmarks/tracking.py --epochs 100
    python benchmarks/tracking.py --postgres postgresql://user@host/database --server

On a new SQLite file, on PostgreSQL when an empty database is named, and over an `mlflow server`
that the benchmark starts. A trial is a run with three curves, its scores, its parameters and its
model (9-16-8-1, five members). "Processor" counts this process and not the server.
"""

import argparse
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from setting import frame, machine, show

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

CURVES = ("train_loss", "val_loss", "val_accuracy")


def timed(action: Callable[[int], object], trials: int) -> tuple[float, float]:
    """Wall and processor milliseconds per call, after one call that is not counted."""
    action(-1)
    wall, processor = time.perf_counter(), time.process_time()
    for number in range(trials):
        action(number)
    return (
        1000 * (time.perf_counter() - wall) / trials,
        1000 * (time.process_time() - processor) / trials,
    )


def ours(trials: int, epochs: int, with_model: bool = True) -> tuple[float, float]:
    """Through the pipeline's own log of trials, in line."""
    import torch

    from pipeline import config
    from pipeline.data import prepared as data
    from pipeline.tracking.store import Store
    from pipeline.tracking.trials import TrialLog
    from pipeline.training.outcomes import Fit
    from pipeline.training.trainer import Trainer
    from pipeline.training.trial import CURVES, ended, proposed

    table = Path("table.csv")
    frame(400, 9).to_csv(table, index=False)
    optimizer = {"name": "Adam", "lr": {"low": 1e-3, "high": 1e-1, "log": True}}
    checked = config.check(
        {
            "data": {"source": str(table), "target": "label"},
            "model": {"hidden": [16, 8]},
            "optimizers": [optimizer],
        }
    )
    trainer = Trainer(checked, data.prepare(checked, Path("prepared")))
    random = np.random.default_rng(0)
    size = (9 * 16 + 16) + (16 * 8 + 8) + (8 + 1)
    fits = [
        Fit(
            {name: random.random(epochs) for name in CURVES},
            {"loss": 0.6, "accuracy": 0.7},
            epochs,
            "complete",
            None,
            torch.rand(size),
        )
        for _ in trainer.splits
    ]
    store = Store.open("ours")
    with store.run("train", "train") as run:
        log = TrialLog(store, run, trials)

        def one(number: int) -> None:
            params = {"optimizers.0.lr": 0.01 + number / 1e6}
            proposal = proposed(max(number, 0), "Adam", params, checked)
            trial = ended(proposal, fits, trainer.splits, 1.0)
            log.log_trial(trial, trainer.model(trial) if with_model else None)

        return timed(one, trials)


def without_model(trials: int, epochs: int) -> tuple[float, float]:
    """The same with `tracking.keep_models: none`."""
    return ours(trials, epochs, with_model=False)


def by_examples(trials: int, epochs: int) -> tuple[float, float]:
    """`log_metrics` each epoch and `mlflow.pytorch.log_model`, requirements named."""
    import mlflow
    import torch

    net = torch.nn.Sequential(
        torch.nn.Linear(9, 16),
        torch.nn.ReLU(),
        torch.nn.Linear(16, 8),
        torch.nn.ReLU(),
        torch.nn.Linear(8, 1),
    )
    example = np.zeros((2, 9), dtype=np.float32)
    mlflow.set_experiment("examples")

    def one(number: int) -> None:
        with mlflow.start_run():
            mlflow.log_params({"optimizer": "Adam", "lr": 0.01 + number / 1e6})
            for epoch in range(epochs):
                mlflow.log_metrics(dict.fromkeys(CURVES, 1.0 / (epoch + 1)), step=epoch)
            requirements = [f"torch=={torch.__version__}"]
            mlflow.pytorch.log_model(
                net, name="model", input_example=example, pip_requirements=requirements
            )

    return timed(one, trials)


@contextlib.contextmanager
def server(folder: Path) -> Iterator[str]:
    """An `mlflow server` of its own, on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    store = ["--backend-store-uri", f"sqlite:///{folder}/server.db"]
    artifacts = ["--artifacts-destination", str(folder / "artifacts")]
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    process = subprocess.Popen(
        [*command, *store, *artifacts], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    uri = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{uri}/health", timeout=1):
                break
            time.sleep(0.5)
        yield uri
    finally:
        process.terminate()
        process.wait()


def measure(way: str, uri: str, trials: int, epochs: int) -> tuple[float, float]:
    """In a process and a folder of its own."""
    command = [sys.executable, __file__, "--way", way]
    command += ["--trials", str(trials), "--epochs", str(epochs)]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            command,
            check=True,
            cwd=folder,
            env=os.environ | {"MLFLOW_TRACKING_URI": uri or f"sqlite:///{folder}/mlflow.db"},
            stdout=subprocess.PIPE,
            text=True,
        )
    wall, processor = done.stdout.split()[-2:]
    return float(wall), float(processor)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--others", type=int, default=2, help="trials of the examples' way")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--postgres", metavar="URI", help="an empty database")
    parser.add_argument("--server", action="store_true", help="also over an mlflow server")
    parser.add_argument("--way", choices=["ours", "bare", "examples"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        way = {"ours": ours, "bare": without_model, "examples": by_examples}[arguments.way]
        print(*way(arguments.trials, arguments.epochs))
        return

    print(machine(["mlflow", "torch", "sqlalchemy"]))
    print(f"{arguments.epochs} epochs, {3 * arguments.epochs} metric values and a model a trial\n")
    rows = []
    with contextlib.ExitStack() as stack:
        stores = {"SQLite": ""}
        if arguments.postgres:
            stores["PostgreSQL"] = arguments.postgres
        if arguments.server:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            stores["mlflow server"] = stack.enter_context(server(folder))
        for name, uri in stores.items():
            wall, processor = measure("ours", uri, arguments.trials, arguments.epochs)
            other, used = measure("examples", uri, arguments.others, arguments.epochs)
            rows.append([name, "ours", f"{wall:.0f}", f"{processor:.0f}", "1"])
            rows.append([name, "examples", f"{other:.0f}", f"{used:.0f}", f"{other / wall:.0f}"])
    show(["store", "way", "ms per trial", "ms of processor", "times ours"], rows)


if __name__ == "__main__":
    main()
