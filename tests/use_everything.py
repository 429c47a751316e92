"""A script: every use of a registered model that the README names, written to a file as JSON.

To be run where nothing is installed but what the model asks for:

    python -I use_everything.py MODEL_FOLDER ROWS.csv RAW.npy FOUND.json
"""

import importlib.util
import json
import sys
from collections.abc import Callable
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import torch


def uses(model: Any, rows: pd.DataFrame, file: str) -> dict[str, Callable[[], pd.DataFrame]]:
    """By name; what each gives, or the exception that it ends with, is what the test looks at."""
    predict = model.predict
    plain = rows.astype(object).where(rows.notna(), None)
    found = {
        "frame": lambda: predict(rows),
        "dictionary of columns": lambda: predict(plain.to_dict("list")),
        "list of dictionaries": lambda: predict(plain.to_dict("records")),
        "columns reversed": lambda: predict(rows[rows.columns[::-1]]),
        "a column more": lambda: predict(rows.assign(surplus="x")),
        "a column less": lambda: predict(rows.drop(columns="income")),
        "unseen categories": lambda: predict(rows.assign(colour="never seen")),
        "nothing known": lambda: predict(rows.assign(**dict.fromkeys(rows.columns))),
        "whole numbers": lambda: predict(rows.assign(income=rows["income"].fillna(0).astype(int))),
        "text for numbers": lambda: predict(rows.assign(age="old")),
        "one row": lambda: predict(rows[3:4]),
        "one dictionary": lambda: predict(plain.to_dict("records")[3]),
        "no rows": lambda: predict(rows[:0]),
        "threshold 0.9": lambda: predict(rows, params={"threshold": 0.9}),
        "threshold 0.1": lambda: predict(rows, params={"threshold": 0.1}),
        "threshold 7": lambda: predict(rows, params={"threshold": 7}),
    }
    for name in rows.columns:
        found[f"no {name}"] = lambda name=name: predict(rows.assign(**{name: None}))
    if importlib.util.find_spec("polars"):
        import polars

        found["polars"] = lambda: predict(polars.read_csv(file))
    return found


def outcome(use: Callable[[], pd.DataFrame]) -> dict[str, Any]:
    try:
        frame = use()
    except Exception as error:
        return {"error": str(error)}
    return {"columns": list(frame), **{name: frame[name].tolist() for name in frame}}


def module(folder: str, file: str) -> dict[str, Any]:
    """The bare module: what it gives, and a step of training."""
    loaded = mlflow.pytorch.load_model(folder)
    probabilities = loaded(torch.from_numpy(np.load(file)))
    probabilities[:, 1].clamp(min=1e-7).log().mean().backward()
    gradients = [parameter.grad for parameter in loaded.parameters()]
    return {
        "is a module": isinstance(loaded, torch.nn.Module),
        "probabilities": probabilities.tolist(),
        "gradients": len(gradients),
        "finite": all(g is not None and bool(g.isfinite().all()) for g in gradients),
    }


def main(folder: str, rows: str, raw: str, out: str) -> None:
    model = mlflow.pyfunc.load_model(folder)
    found: dict[str, Any] = {
        name: outcome(use) for name, use in uses(model, pd.read_csv(rows), rows).items()
    }
    found["module"] = module(folder, raw)
    found["installed"] = [
        name for name in ("pipeline", "tests", "optuna", "polars") if importlib.util.find_spec(name)
    ]
    with open(out, "w", encoding="utf-8") as file:
        json.dump(found, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
