"""Tables as people have them, through the command line; those of shared/cases where they are."""

import csv
import shutil
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException

import pipeline
from pipeline.__main__ import main

CASES = Path(__file__).parents[2].parent / "shared" / "cases"
QUICK = {"search.trials": 2, "training.epochs": 3, "validation.final": None, "validation.folds": 2}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    return tmp_path


def dirty_rows(rows: int, seed: int) -> pd.DataFrame:
    """Cells as people write them, a tenth of them soiled."""
    random = np.random.default_rng(seed)
    x = random.integers(1000, 9999, rows)
    frame = pd.DataFrame(
        {
            "price": [f"$ {n:,}" for n in x],
            "size": [f"{n / 7:.3f}".replace(".", ",") for n in x],
            "day": [f"{1 + n % 28:02}/{1 + n % 12:02}/20{n % 20:02}" for n in x],
            "zip": [f"0{n % 7}" for n in x],
            "plan": random.choice(["basic", "plus", " pro"], rows),
        }
    )
    dirt = [
        "",
        " ",
        "-",
        "n/a",
        "#DIV/0!",
        "5O1",
        "1.2.3",
        "2021-05-06",
        "31/31/2020",
        "?",
        "12 kg",
    ]
    for name in frame:
        for row in np.flatnonzero(random.random(rows) < 0.1):
            frame.loc[row, name] = dirt[random.integers(len(dirt))]
    return frame.assign(y=np.where(x > 5000, "high", "low"))


def test_predict_and_pyfunc_give_the_same_answers_and_refusals(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dirty_rows(300, 0).to_csv("t.csv", index=False, sep=";")
    settings: dict[str, Any] = {"data": {"source": "t.csv", "target": "y"}, "experiment": "dirty"}
    result = pipeline.run(settings, QUICK)
    assert {name for name in ("price", "size", "day") if name in capsys.readouterr().err}
    rows = dirty_rows(200, 1).drop(columns="y")
    rows.to_csv("new.csv", index=False, sep=";", quoting=csv.QUOTE_MINIMAL)
    files = ["--input", "new.csv", "--output", "out.csv"]
    assert main(["predict", "--model", "models:/dirty@champion", *files]) == 3
    rejected = pd.read_csv("out.rejected.csv")
    scored = iter(pd.read_csv("out.csv").itertuples(index=False))
    reasons = dict(zip(rejected["row"], rejected["reason"], strict=True))
    assert 20 < len(reasons) < 120
    for number, (_, row) in enumerate(rows.iterrows(), start=1):
        frame = row.to_frame().T
        if number in reasons:
            with pytest.raises(MlflowException) as caught:
                result.model.predict(frame)
            for reason in str(reasons[number]).split("; column "):
                assert reason.removeprefix("column ") in str(caught.value)
        else:
            answer, expected = result.model.predict(frame), next(scored)
            assert answer["prediction"].item() == expected.prediction
            assert answer["probability"].item() == pytest.approx(expected.probability, abs=1e-6)


COLUMNS_2 = "2 columns"
EXPECTED: dict[str, tuple[int, list[str]]] = {
    "01-semicolons/config": (0, [COLUMNS_2, "read separated by ';'"]),
    "04-blank-cells/config": (0, [COLUMNS_2]),
    "05-dash-for-missing/config": (0, [COLUMNS_2]),
    "06-one-typo/config": (
        0,
        ["column 'weight': 1 value is no number ('5O1') and counts as missing"],
    ),
    "08-no-header/config": (2, ["must have a column 'class'", "set data.header: 0"]),
    "08-no-header/by_first_row": (0, ["looks like one of data", "set data.header: 0"]),
    "09-row-number-leak/config": (0, ["column 'Id' numbers the rows and alone is right"]),
    "09-row-number-leak/unnamed": (0, ["'Unnamed: 0' is left out"]),
    "11-trailing-commas/config": (0, ["3 columns"]),
    "11-trailing-commas/everywhere": (0, ["3 columns", "'Unnamed: 6' is left out: it has no name"]),
    "11-trailing-commas/rows_only": (0, ["3 columns", "'Unnamed: 4' is left out: it has no name"]),
    "12-rare-labels/config": (2, ["label 'swim' has 1", "set data.rare_labels: drop"]),
    "14-declared-category/config": (0, [COLUMNS_2]),
    "15-thousands-percent-currency/config": (0, ["3 columns"]),
    "16-dates-day-first/config": (0, [COLUMNS_2]),
    "17-groups/config": (
        0,
        ["column 'patient' repeats as groups do", "validation.groups: patient"],
    ),
    "18-label-copy/config": (0, ["column 'status_code' alone is right for 100.0 %"]),
    "21-missing-labels/config": (2, ["none in lines 4, 16", "data.unlabelled: drop"]),
    "22-label-types/config": (0, ["labels: 0.0, 1.0"]),
    "22-label-types/bool": (0, ["labels: False, True"]),
    "22-label-types/cross": (0, ["labels: False, True"]),
    "22-label-types/cross2": (0, ["labels: 0.0, 1.0"]),
    "22-label-types/text": (0, ["'Yes' as 'yes', 'No' as 'no'"]),
    "24-parquet-types/config": (0, ["'tags' is left out", "'__index_level_0__' is left out"]),
    "24-parquet-types/folder": (0, ["120 training"]),
    "24-parquet-types/glob": (0, ["120 training"]),
    "26-positive-label/config": (0, ["probability is that of 'Stayed' (data.positive: Churned)"]),
    "27-label-spelling/config": (0, ["differ by case only are others: 'Yes', 'yes'"]),
    "27-label-spelling/blanks": (0, ["86 labels with blanks at the ends, such as 'Yes '"]),
    "28-leading-zeros/config": (0, ["labels: '01', '02', '10'"]),
    "29-test-file-other-format/config": (0, ["200 training and 100 test rows"]),
    "33-twenty-rows/config": (2, ["label 'rare' has 4; set validation.folds: 4"]),
    "35-big-and-infinite/config": (0, ["3 columns"]),
    "37-numbers-as-names/config": (0, [COLUMNS_2]),
    "38-positive-yes/config": (0, ["probability is that of 'yes'"]),
    "38-positive-yes/no": (0, ["probability is that of 'no'"]),
    "40-line-ends-and-quotes/config": (0, [COLUMNS_2]),
    "41-missing-marks/config": (0, ["'word'", "'unknown'", "'<0.1'"]),
    "43-parquet-named-index/config": (0, ["'record' is left out: it is the index"]),
}


@pytest.mark.skipif(not CASES.is_dir(), reason="the cases are not here")
@pytest.mark.parametrize("case", EXPECTED)
def test_cases(
    case: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, words = EXPECTED[case]
    folder, name = case.split("/")
    shutil.copytree(CASES / folder, place / "case")
    monkeypatch.chdir(place / "case")
    assert main(["prepare", "--config", f"{name}.yaml"]) == status
    said = "".join(capsys.readouterr())
    assert [word for word in words if word not in said] == [], said
