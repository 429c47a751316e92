"""Where the seconds of a short run go that are not training.

    python benchmarks/startup.py [--runs 3]

The default configuration, each time with a new store: `mlflow run`, the same without MLflow's
launcher, and once more where the search is finished. Then what a run cannot do without, each in a
process of its own that has imported what comes before it: medians in seconds.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from setting import machine, show

ROOT = Path(__file__).parents[1]
RUN = [sys.executable, "-m", "pipeline", "run", "--config", str(ROOT / "configs/default.yaml")]
LAUNCHED = [sys.executable, "-m", "mlflow", "run", str(ROOT), "--env-manager", "local"]

PARTS = {
    "importing torch": ("", "import torch"),
    "MLflow and SQLAlchemy": (
        "import torch",
        "import mlflow, mlflow.store.tracking.sqlalchemy_store",
    ),
    "scikit-learn, scipy.stats, pyarrow, pandas": (
        "import torch, mlflow",
        "import sklearn.ensemble, sklearn.linear_model, scipy.stats, pyarrow.dataset, pandas",
    ),
    "Optuna, torchmetrics, Matplotlib": (
        "import torch, mlflow, sklearn.ensemble, scipy.stats",
        "import optuna, torchmetrics.functional, matplotlib.figure",
    ),
    "torch.export and what it brings": (
        "import torch, mlflow, sklearn.ensemble, scipy.stats",
        "import torch._dynamo, torch.export._trace",
    ),
    "MLflow's tables in a new SQLite file": (
        "import torch, mlflow, mlflow.store.tracking.sqlalchemy_store",
        "mlflow.MlflowClient('sqlite:///new.db').search_experiments()",
    ),
    "exporting two ensembles": (
        "import sys, torch, torch._dynamo, torch.export._trace\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from pipeline.data.encoding import Columns\n"
        "from pipeline.models.export import MLPEnsemble, export\n"
        "from pipeline.models.mlp import MLP\n"
        "network = MLP(30, (32, 16), 1, 'relu', False)\n"
        "def of(k):\n"
        "    scaling = Columns(torch.zeros(k, 30).double(), torch.ones(k, 30).double())\n"
        "    return MLPEnsemble(scaling, network, torch.zeros(k, network.size))",
        "export(of(5), (30,)); export(of(20), (30,))",
    ),
}


def timed(command: list[str], folder: str) -> float:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PATH": path}
    environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
    started = time.perf_counter()
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    return time.perf_counter() - started


def part(before: str, code: str) -> float:
    """Seconds that the code takes after what comes before it."""
    text = f"{before}\nimport time\nt = time.perf_counter()\n{code}\nprint(time.perf_counter() - t)"
    with tempfile.TemporaryDirectory() as folder:
        how = {"cwd": folder, "capture_output": True, "text": True}
        done = subprocess.run([sys.executable, "-W", "ignore", "-c", text], check=True, **how)
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    print(machine(["torch", "mlflow", "scikit-learn"]))
    wholes: dict[str, list[float]] = {"mlflow run": [], "without the launcher": [], "again": []}
    for _ in range(arguments.runs):
        with tempfile.TemporaryDirectory() as folder:
            wholes["mlflow run"].append(timed(LAUNCHED, folder))
        with tempfile.TemporaryDirectory() as folder:
            wholes["without the launcher"].append(timed(RUN, folder))
            wholes["again"].append(timed(RUN, folder))
    rows = [[name, f"{median(seconds):.1f}"] for name, seconds in wholes.items()]
    show(["the default run", "seconds"], rows)
    print()
    parts = {
        name: median(part(*each) for _ in range(arguments.runs)) for name, each in PARTS.items()
    }
    rows = [[name, f"{seconds:.2f}"] for name, seconds in parts.items()]
    show(["part", "seconds"], [*rows, ["together", f"{sum(parts.values()):.1f}"]])


if __name__ == "__main__":
    main()
