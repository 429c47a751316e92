"""Splits by groups and in an order, and what is said of tables that have no such splits."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from pipeline import config as configuration
from pipeline.common.errors import UserError
from pipeline.data.dependence import BLOCKS, Dependence, dealt, group_names, held_groups, moments
from pipeline.data.prepared import load_test, load_training, open_prepared, prepare
from pipeline.data.splits import holdout, make_splits


def patients(groups: int, rows: int = 4, seed: int = 0) -> pd.DataFrame:
    draw = np.random.default_rng(seed)
    place = draw.permutation(np.repeat(np.arange(groups), rows))
    x = draw.normal(size=(len(place), 2))
    return pd.DataFrame(x, columns=["a", "b"]).assign(patient=place, y=place % 2)


def prepared(folder: Path, frame: pd.DataFrame, **sections: Any) -> Any:
    frame.to_csv(folder / "t.csv", index=False)
    data = {"source": str(folder / "t.csv"), "target": "y"} | sections.pop("data", {})
    config = configuration.check({"data": data, **sections})
    return prepare(config, folder / "prepared"), config


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 12), min_size=20, max_size=60),
    folds=st.integers(1, 5),
    repeats=st.integers(1, 2),
    seed=st.integers(0, 2**32),
)
def test_rows_of_a_group_stand_on_one_side(
    sizes: list[int], folds: int, repeats: int, seed: int
) -> None:
    groups = np.repeat(np.arange(len(sizes)), sizes)
    y = groups % 2
    known = Dependence(groups)
    splits = make_splits(y, folds, repeats, 0.3, seed, dependence=known)
    training, test = holdout(y, 0.25, seed, dependence=known)
    for one, other in [(training, test), *((s.training, s.validation) for s in splits)]:
        assert not set(groups[one]) & set(groups[other])
        assert sorted([*one, *other]) == list(range(len(y)))
        assert set(y[one]) == set(y[other]) == {0, 1}
    assert len(np.unique(groups[test])) == np.ceil(0.25 * len(sizes))
    if folds > 1:
        for repeat in range(repeats):
            held = [split.validation for split in splits if split.repeat == repeat]
            assert sorted(np.concatenate(held)) == list(range(len(y)))
    if repeats > 1:
        assert [list(s.validation) for s in splits[:folds]] != [
            list(s.validation) for s in splits[folds:]
        ]


def test_labels_are_balanced_at_least_as_well_as_by_scikit_learn() -> None:
    ours, theirs = [], []
    for seed in range(20):
        draw = np.random.default_rng(seed)
        sizes = draw.integers(1, 30, size=40)
        groups = np.repeat(np.arange(40), sizes)
        chance = np.repeat(draw.random(40), sizes)
        y = (draw.random(len(groups)) < chance).astype(int) + (draw.random(len(groups)) < 0.1)

        def unevenness(held: list[np.ndarray], y: np.ndarray = y) -> float:
            counts = np.array([np.bincount(y[rows], minlength=3) for rows in held])
            return float(np.abs(counts / counts.sum(axis=0) - 1 / 5).mean())

        splits = make_splits(y, 5, 1, 0.2, seed, dependence=Dependence(groups))
        divider = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
        ours.append(unevenness([split.validation for split in splits]))
        theirs.append(unevenness([held for _, held in divider.split(y, y, groups)]))
    assert np.mean(ours) <= np.mean(theirs)


def test_held_groups_keep_the_proportions_of_labels() -> None:
    draw = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 5)
    y = np.repeat(draw.random(60) < 0.2, 5).astype(int)
    _, held = held_groups(y, groups, 0.25, 0)
    assert y[held].mean() == pytest.approx(y.mean(), abs=0.02)


@settings(max_examples=40, deadline=None)
@given(
    order=st.lists(st.integers(0, 30), min_size=40, max_size=120),
    folds=st.integers(1, 5),
    seed=st.integers(0, 100),
)
def test_what_trains_comes_before_what_validates(order: list[int], folds: int, seed: int) -> None:
    at = np.array([*range(31), *order], dtype=float)
    y = np.random.default_rng(seed).permutation(np.arange(len(at)) % 2)
    y[np.argsort(at, kind="stable")[:2]] = [0, 1]
    known = Dependence(order=at, column="day")
    splits = make_splits(y, folds, 2, 0.3, seed, dependence=known)
    training, test = holdout(y, 0.25, seed, dependence=known)
    assert at[training].max() < at[test].min()
    for split in splits:
        assert at[split.training].max() < at[split.validation].min()
    first = splits[:folds]
    for before, after in pairwise(first):
        assert set(after.training) == {*before.training, *before.validation}
    assert max(at[split.validation].max() for split in first) == at.max()
    assert [list(s.training) for s in first] == [list(s.training) for s in splits[folds:]]


def test_labels_that_come_late_are_named() -> None:
    y = (np.arange(100) > 60).astype(int)
    known = Dependence(order=np.arange(100.0), column="day")
    with pytest.raises(
        UserError, match=r"rows in the part that trains \(split by 'day'\); label 'b'"
    ):
        make_splits(y, 5, 1, 0.2, 0, labels=("a", "b"), dependence=known)


def test_parts_in_an_order_are_about_as_large() -> None:
    at = np.repeat(np.arange(250), 4).astype(float)
    y = np.arange(1000) % 2
    splits = make_splits(y, 5, 1, 0.2, 0, dependence=Dependence(order=at))
    assert [len(split.training) for split in splits] == [500, 600, 700, 800, 900]
    assert {len(split.validation) for split in splits} == {100}


def test_shares_hold_whole_groups_or_stretches_and_each_label_in_proportion() -> None:
    y, rows = np.arange(100) % 2, np.arange(0, 100, 2)
    groups = np.arange(100) // 8
    shares = dealt(rows, y, Dependence(groups), 5)
    assert sorted(np.concatenate(shares)) == list(rows)
    for one in range(5):
        for other in range(one):
            assert not set(groups[shares[one]]) & set(groups[shares[other]])
    shares = dealt(rows, y, Dependence(order=-np.arange(100.0)), 5)
    assert [share.max() for share in shares] == [98, 78, 58, 38, 18]
    plain = dealt(np.arange(100), y, Dependence(), 5)
    assert [np.bincount(y[share]).tolist() for share in plain] == [[10, 10]] * 5


def test_clusters_are_groups_or_stretches_of_time() -> None:
    order = np.random.default_rng(0).permutation(np.repeat(np.arange(100), 3)).astype(float)
    clusters = Dependence(order=order).clusters
    assert clusters is not None
    assert len(np.unique(clusters)) == BLOCKS
    for cluster in range(BLOCKS - 1):
        assert order[clusters == cluster].max() < order[clusters == cluster + 1].min()
    assert Dependence().clusters is None


def test_a_group_has_one_name_however_it_is_written() -> None:
    written = (pa.array([1, 2, None]), pa.array([1.0, 2.0, None]), pa.array(["1", "2", None]))
    for column in written:
        assert group_names(pa.chunked_array([column])).tolist() == ["1", "2", None]
    assert group_names(pa.chunked_array([pa.array([0.5, 1.0])])).tolist() == ["0.5", "1"]


def test_moments_are_days_or_numbers() -> None:
    dates = pa.chunked_array([pa.array(["2024-01-01", "2024-01-03"])])
    assert np.diff(moments(dates, "day")).tolist() == [2]
    assert moments(pa.chunked_array([pa.array([3, 1])]), "n").tolist() == [3, 1]
    with pytest.raises(UserError, match="'city' holds values such as 'Bonn'"):
        moments(pa.chunked_array([pa.array(["Bonn", "Rome"])]), "city")


def test_the_column_is_no_input_and_the_prepared_rows_keep_it(tmp_path: Path) -> None:
    parts, config = prepared(tmp_path, patients(40), validation={"groups": "patient"})
    assert [column.name for column in parts.schema.columns] == ["a", "b"]
    assert parts.groups == {"train": 30, "test": 10}
    train, test = load_training(parts), load_test(parts)
    assert train.dependence.column == "patient"
    assert not set(train.dependence.groups) & set(test.dependence.groups)
    assert list(train.given().columns) == ["a", "b"]
    assert open_prepared(config, tmp_path / "prepared").groups == parts.groups


def test_order_by_dates(tmp_path: Path) -> None:
    frame = patients(40).drop(columns="patient")
    days = pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(160) // 2, unit="D")
    frame["day"] = days.strftime("%Y-%m-%d")
    parts, _ = prepared(tmp_path, frame.sample(frac=1, random_state=0), validation={"order": "day"})
    train, test = load_training(parts), load_test(parts)
    assert train.dependence.order.max() < test.dependence.order.min()
    assert len(test.y) == 40
    assert "day" not in parts.left_out


@pytest.mark.parametrize(
    ("groups", "validation", "said"),
    [
        (4, {"groups": "patient"}, "groups of 'patient' for validation.folds = 5; label 0 has 3"),
        (1, {"groups": "patient"}, "2 groups of 'patient' to train and to test; label 0 has 1"),
        (40, {"groups": "patiant"}, "got 'patiant'; did you mean 'patient'?"),
        (40, {"order": "when"}, "validation.order must name columns of the table; got 'when'"),
        (40, {"order": "group"}, "dates or numbers; 'group' holds values such as 'g"),
    ],
)
def test_what_cannot_be_divided_is_refused(
    tmp_path: Path, groups: int, validation: dict[str, str], said: str
) -> None:
    frame = patients(groups, rows=40 // min(groups, 8))
    frame["y"] = np.arange(len(frame)) % 2
    frame["group"] = "g" + frame["patient"].astype(str)
    with pytest.raises(UserError) as error:
        prepared(tmp_path, frame, validation=validation)
    assert said in str(error.value)
    assert not (tmp_path / "prepared").exists()


def test_a_label_in_few_groups_is_named(tmp_path: Path) -> None:
    frame = patients(40)
    frame["y"] = np.where(frame["patient"] < 4, "rare", "usual")
    with pytest.raises(UserError, match=r"5 training groups of 'patient' .*; label 'rare' has 3"):
        prepared(tmp_path, frame, validation={"groups": "patient"})


def test_a_row_without_group_or_moment_is_named(tmp_path: Path) -> None:
    frame = patients(40).astype({"patient": "Int64"})
    frame.loc[[3, 5], "patient"] = None
    for key, what in (("groups", "group"), ("order", "place in the order")):
        with pytest.raises(UserError, match=rf"must have a {what}.*'patient'.*lines 5, 7"):
            prepared(tmp_path, frame, validation={key: "patient"})


def test_groups_and_order_exclude_each_other_and_are_no_target(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"validation\.order: must be null beside groups"):
        prepared(tmp_path, patients(40), validation={"groups": "patient", "order": "a"})
    with pytest.raises(UserError, match=r"validation\.groups: must be another column than"):
        prepared(tmp_path, patients(40), validation={"groups": "y"})


def test_a_test_file_with_known_groups_or_early_rows_is_warned_of(tmp_path: Path) -> None:
    frame = patients(40)
    later = patients(20).assign(patient=lambda t: t["patient"] + 35)
    later.to_csv(tmp_path / "later.csv", index=False)
    data = {"test": str(tmp_path / "later.csv")}
    for key, said in (
        ("groups", "5 of the 20 groups ('patient') of the test file stand among the training rows"),
        ("order", "20 of the 80 test rows are not later by 'patient'"),
    ):
        parts, _ = prepared(tmp_path, frame, data=data, validation={key: "patient"})
        (warning,) = [text for text in parts.warnings if "patient" in text]
        assert said in warning


def test_copies_are_left_out_where_that_is_asked_for(tmp_path: Path) -> None:
    frame = patients(40).drop(columns="patient")
    twice = pd.concat([frame, frame.iloc[:30]])
    kept, _ = prepared(tmp_path, twice)
    assert sum(kept.rows.values()) == 190
    dropped, _ = prepared(tmp_path, twice, data={"duplicates": "drop"})
    assert sum(dropped.rows.values()) == 160
    assert any("30 of 190 rows are copies of others" in text for text in dropped.warnings)
    other = pd.concat([frame.iloc[:10], patients(10, seed=1).drop(columns="patient")])
    other.to_csv(tmp_path / "other.csv", index=False)
    data = {"test": str(tmp_path / "other.csv"), "duplicates": "drop"}
    parts, _ = prepared(tmp_path, frame, data=data)
    assert parts.rows == {"train": 160, "test": 40}
    assert any("10 of 50 rows are copies of rows of" in text for text in parts.warnings)
