"""Labels are what stands in the table, and the same labels however another file writes them."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline import config
from pipeline.common.errors import UserError
from pipeline.data.labels import LabelColumn, ids_of, labels_of, read_labels
from pipeline.data.prepared import PreparedData, load_test, load_training, prepare
from pipeline.data.schema import Schema


def labels(*texts: Any, marks: tuple[str, ...] = ()) -> tuple[list[Any], tuple[str, ...]]:
    column = read_labels(pa.chunked_array([list(texts)]), "y", marks=marks)
    return column.values.to_pylist(), column.warnings


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["01", "02", "10"], ["01", "02", "10"]),
        (["1", "2", "10"], [1, 2, 10]),
        (["-1", "1", ""], [-1, 1, None]),
        (["0.0", "1.0", "NA"], [0.0, 1.0, None]),
        (["True", "FALSE", "none"], [True, False, None]),
        (["yes", "no", "NaN"], ["yes", "no", None]),
        (["None", "mild", "severe"], ["None", "mild", "severe"]),
        (["NA", "EU", "SA"], ["NA", "EU", "SA"]),
        (["+", "-", ""], ["+", "-", None]),
        (["<=50K", ">50K", "?"], ["<=50K", ">50K", None]),
        (["Yes ", "Yes", " No"], ["Yes", "Yes", "No"]),
        (["99999999999999999999", "1"], ["99999999999999999999", "1"]),
    ],
)
def test_labels_are_what_stands_there(texts: list[str], expected: list[Any]) -> None:
    found, _ = labels(*texts)
    if expected[0] == "99999999999999999999":
        assert found == [1e20, 1.0]
    else:
        assert found == expected
        assert [type(label) for label in found] == [type(label) for label in expected]


def test_what_may_be_meant_otherwise_is_told() -> None:
    (blanks,) = labels("Yes ", "Yes", "No")[1]
    assert "1 label with blanks at the ends, such as 'Yes '" in blanks
    assert "(row 1)" in blanks
    (cases,) = labels("Yes", "yes", "No")[1]
    assert "differ by case only are others: 'Yes', 'yes'" in cases
    (words,) = labels("None", "mild")[1]
    assert "'None' is read as a label" in words
    assert "set data.missing: ['None'] and data.unlabelled: drop" in words
    found, warnings = labels("None", "mild", "x", marks=("None", "x"))
    assert (found, warnings) == ([None, "mild", None], ())
    assert labels(1, -9, 2, marks=("-9",))[0] == [1, None, 2]
    assert labels("a", "b", "a")[1] == ()


@pytest.mark.parametrize(
    ("trained", "later", "warned"),
    [
        ([0.0, 1.0], ["0", "1"], False),
        ([0, 1], ["0.0", "1.0"], False),
        ([0, 1], ["FALSE", "true"], False),
        ([False, True], ["0", "1"], False),
        ([False, True], ["no", "Yes"], True),
        (["no", "yes"], ["No", "YES"], True),
        (["no", "yes"], ["n", "y"], True),
        (["n", "y"], [False, True], False),
        (["a", "b", "C"], ["A", "b", "c"], True),
    ],
)
def test_the_same_labels_in_another_file(trained: Any, later: Any, warned: bool) -> None:
    schema = Schema((), "y", labels_of(LabelColumn(pa.chunked_array([trained])), "y"))
    ids, warnings = ids_of(read_labels(pa.chunked_array([later]), "y"), schema)
    expected = sorted(range(len(trained)), key=lambda i: trained[i])
    assert [schema.labels[i] for i in ids] == [trained[i] for i in range(len(trained))]
    assert sorted(ids.tolist()) == sorted(expected)
    assert bool(warnings) == warned


@pytest.mark.parametrize(
    ("trained", "later"),
    [(["Yes", "yes", "No"], ["YES"]), (["01", "02"], ["1"]), ([0, 1], ["2"]), ([1, 2], ["true"])],
)
def test_other_labels_are_refused(trained: Any, later: Any) -> None:
    schema = Schema((), "y", labels_of(LabelColumn(pa.chunked_array([trained])), "y"))
    with pytest.raises(UserError, match="must hold only labels that training has"):
        ids_of(read_labels(pa.chunked_array([later]), "y"), schema)


def prepared(tmp_path: Path, text: str, test: str | None = None, **data: Any) -> PreparedData:
    (tmp_path / "t.csv").write_text(text)
    if test is not None:
        (tmp_path / "test.csv").write_text(test)
        data["test"] = str(tmp_path / "test.csv")
    checked = config.check(
        {
            "data": {"source": str(tmp_path / "t.csv"), "target": "y", **data},
            "validation": {"folds": 4, "final": None},
        }
    )
    return prepare(checked, tmp_path / "prepared")


ROWS = "".join(f"{i},{'pq'[i % 2]}\n" for i in range(40))


def test_all_problems_of_labels_at_once_and_what_helps(tmp_path: Path) -> None:
    text = "a,y\n" + ROWS + "50,\n51,r\n52,r\n53,NaN\n"
    with pytest.raises(UserError) as caught:
        prepared(tmp_path, text)
    missing, rare = caught.value.problems
    assert "column 'y' has none in lines 42, 45 (2 of 44 rows)" in missing
    assert "data.unlabelled: drop leaves them out" in missing
    assert "label 'r' has 2" in rare
    assert "data.rare_labels: drop" in rare
    data = prepared(tmp_path, text, unlabelled="drop", rare_labels="drop")
    assert data.schema.labels == ("p", "q")
    assert sum(data.rows.values()) == 40
    assert data.warnings[:2] == (
        "2 of 44 rows are without a label and are left out (data.unlabelled: drop)",
        "2 of 42 rows are of labels with too few rows ('r') and are left out "
        "(data.rare_labels: drop)",
    )


def test_prepared_labels_are_those_of_the_rows(tmp_path: Path) -> None:
    text = "a,y\n" + "".join(f"{i},{['None', 'mild ', '07'][i % 3]}\n" for i in range(60))
    data = prepared(tmp_path, text)
    assert data.schema.labels == ("07", "None", "mild")
    for rows in (load_training(data), load_test(data)):
        assert rows.table is not None
        numbers = rows.raw[:, 0].astype(int)
        assert [data.schema.labels[i] for i in rows.y] == [
            ("None", "mild", "07")[n % 3] for n in numbers
        ]


def test_a_test_file_without_labels_is_for_predict(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="to score rows without labels, use predict"):
        prepared(tmp_path, "a,y\n" + ROWS, "a\n1\n")


@pytest.mark.parametrize("target", ["0.5 1.25", "3 17"])
def test_many_numbers_are_no_labels(tmp_path: Path, target: str) -> None:
    first, step = map(float, target.split())
    values = np.arange(100) * step + first
    text = "a,y\n" + "".join(f"{i},{value:g}\n" for i, value in enumerate(values))
    with pytest.raises(UserError, match=r"^t?.*regression is not supported, this program class"):
        prepared(tmp_path, text)
