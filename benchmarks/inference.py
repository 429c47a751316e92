"""Time per prediction: ours, the bare module, a scikit-learn pipeline and ONNX Runtime.

    python benchmarks/inference.py [--rows 1 100 10000 1000000] [--columns 30] [--pieces 0]

One network, 30-32-16-1 in an ensemble of five, as the default configuration registers it, or with
so many pieces of each column beside it (`model.encoding: quantiles`). `bare` is what cannot be
avoided in torch: making the tensor of a data frame and calling the exported module.
ONNX Runtime is measured when it, onnx and onnxscript are installed.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import torch
from setting import frame, machine, show
from sklearn.impute import SimpleImputer
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

sys.path.insert(0, str(Path(__file__).parents[1]))

from pipeline import inference
from pipeline.data.encoding import Encoder
from pipeline.data.schema import Column, Schema
from pipeline.models import flavor
from pipeline.models.export import MLPEnsemble, export
from pipeline.models.mlp import MLP

HIDDEN = (32, 16)
MEMBERS = 5


def ensemble(rows: pd.DataFrame, pieces: int) -> tuple[MLPEnsemble, Schema]:
    """An untrained network: what it predicts does not matter for the time."""
    names = [name for name in rows.columns if name != "label"]
    schema = Schema(tuple(Column(name, "number") for name in names), "label", (0, 1))
    raw = torch.tensor(rows[names].to_numpy(), dtype=torch.float64)
    encoder = Encoder.fit(raw, schema, [torch.arange(len(raw))] * MEMBERS, pieces)
    architecture = MLP(encoder(raw[:1]).shape[2], HIDDEN, 1)
    states = architecture.initial(MEMBERS, 0)
    return MLPEnsemble(encoder, architecture, states.float()), schema


def saved(folder: Path, rows: pd.DataFrame, pieces: int) -> Path:
    """The model's folder, as a trial's."""
    model, schema = ensemble(rows, pieces)
    flavor.save_model(
        folder / "model",
        program=export(model, (len(schema.columns),)),
        schema=schema.to_dict(),
        input_example=rows.head(3),
        requirements=flavor.default_requirements(),
    )
    return folder / "model"


def onnx_session(folder: Path, module: torch.nn.Module, columns: int) -> Any:
    """The same network in ONNX Runtime with one thread; None where it is not installed."""
    try:
        import onnxruntime

        for needed in ("onnx", "onnxscript"):
            metadata.version(needed)
    except (ImportError, metadata.PackageNotFoundError):
        return None
    example = (torch.zeros((2, columns), dtype=torch.float64),)
    shapes = ({0: torch.export.Dim("rows")},)
    program = torch.onnx.export(module, example, dynamic_shapes=shapes, verbose=False)
    assert program is not None
    program.save(str(folder / "model.onnx"))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(folder / "model.onnx", options)


def milliseconds(call: Callable[[], object], seconds: float = 1.0) -> float:
    """The median of as many calls as fit into the time, three at least."""
    call()
    took: list[float] = []
    until = time.perf_counter() + seconds
    while len(took) < 3 or (time.perf_counter() < until and len(took) < 2000):
        start = time.perf_counter()
        call()
        took.append(time.perf_counter() - start)
    return 1000 * statistics.median(took)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 100, 10_000, 1_000_000])
    parser.add_argument("--columns", type=int, default=30)
    parser.add_argument("--pieces", type=int, default=0)
    arguments = parser.parse_args()
    print(machine(["torch", "mlflow", "pandas", "scikit-learn"]))
    training = frame(2000, arguments.columns).astype({"label": int})
    training = training.astype({name: float for name in training.columns if name != "label"})
    names = list(training.columns[:-1])
    with tempfile.TemporaryDirectory() as temporary:
        folder = saved(Path(temporary), training, arguments.pieces)
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        start = time.perf_counter()
        model = inference.load(folder)
        loading = 1000 * (time.perf_counter() - start)
        served = mlflow.pyfunc.load_model(str(folder))
        module = mlflow.pytorch.load_model(str(folder))
        network, _ = ensemble(training, arguments.pieces)
        session = onnx_session(Path(temporary), network.eval(), len(names))
    classifier = MLPClassifier(HIDDEN, max_iter=5, random_state=0)
    sklearn = make_pipeline(SimpleImputer(), StandardScaler(), classifier)
    sklearn.fit(training[names], training["label"])
    print(f"The model's folder has {size / 1000:.0f} kB and loads in {loading:.0f} ms.\n")

    table = []
    for count in arguments.rows:
        values = np.random.default_rng(0).normal(size=(count, len(names)))
        rows = pd.DataFrame(values, columns=names)
        bare = milliseconds(lambda rows=rows: _bare(module, rows))
        calls: dict[str, Callable[[], object]] = {
            "mlflow.pyfunc": lambda rows=rows: served.predict(rows),
            "without MLflow": lambda rows=rows: model.predict(rows),
            "scikit-learn": lambda rows=rows: sklearn.predict_proba(rows),
        }
        if session is not None:
            name = session.get_inputs()[0].name
            calls["ONNX Runtime"] = lambda rows=rows, name=name: session.run(
                None, {name: np.ascontiguousarray(rows.to_numpy())}
            )
        table.append([f"{count:,}", "bare", f"{bare:.3f}", "1"])
        for way, call in calls.items():
            took = milliseconds(call)
            table.append([f"{count:,}", way, f"{took:.3f}", f"{took / bare:.2f}"])
    show(["rows", "way", "ms", "times bare"], table)


def _bare(module: torch.nn.Module, rows: pd.DataFrame) -> torch.Tensor:
    with torch.inference_mode():
        probabilities: torch.Tensor = module(torch.tensor(rows.to_numpy(np.float64)))
        return probabilities


if __name__ == "__main__":
    main()
