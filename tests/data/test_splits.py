import random
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedShuffleSplit

from pipeline.common.errors import UserError
from pipeline.data.splits import held_out, holdout, make_splits

LABELS = st.lists(st.integers(5, 40), min_size=2, max_size=4).flatmap(
    lambda counts: st.permutations(np.repeat(np.arange(len(counts)), counts).tolist())
)


@settings(max_examples=30)
@given(y=LABELS, folds=st.integers(2, 5), repeats=st.integers(1, 3), seed=st.integers(0, 2**40))
def test_folds_partition_the_rows_and_keep_the_proportions(
    y: list[int], folds: int, repeats: int, seed: int
) -> None:
    labels = np.array(y)
    splits = make_splits(labels, folds, repeats, 0.2, seed)
    assert [(s.repeat, s.fold) for s in splits] == [
        (repeat, fold) for repeat in range(repeats) for fold in range(folds)
    ]
    for repeat in range(repeats):
        parts = [split.validation for split in splits if split.repeat == repeat]
        assert sorted(np.concatenate(parts)) == list(range(len(labels)))
    for split in splits:
        assert split.training.dtype == split.validation.dtype == np.int64
        assert sorted([*split.training, *split.validation]) == list(range(len(labels)))
        assert (np.diff(split.training) > 0).all()
        assert (np.diff(split.validation) > 0).all()
        expected = np.bincount(labels) / folds
        assert (np.abs(np.bincount(labels[split.validation]) - expected) <= 1).all()


def test_one_fold_is_a_hold_out_per_repeat() -> None:
    y = np.array([0] * 60 + [1] * 40)
    splits = make_splits(y, 1, 3, 0.2, seed=0)
    assert [len(split.validation) for split in splits] == [20] * 3
    assert [np.bincount(y[split.validation]).tolist() for split in splits] == [[12, 8]] * 3
    assert len({tuple(split.validation) for split in splits}) == 3


def test_hold_out_is_stratified_and_disjoint() -> None:
    y = np.array([0] * 30 + [1] * 10)
    training, test = holdout(y, 0.25, seed=0)
    assert sorted([*training, *test]) == list(range(40))
    assert np.bincount(y[test]).tolist() in ([7, 3], [8, 2])


@pytest.mark.parametrize("folds", [1, 5])
def test_the_seed_decides(folds: int) -> None:
    y = np.arange(100) % 2

    def rows(seed: int) -> list[list[int]]:
        return [split.validation.tolist() for split in make_splits(y, folds, 2, 0.2, seed)]

    assert rows(0) == rows(0)
    assert rows(0) != rows(1)
    assert rows(0)[0] != holdout(y, 0.2, 0)[1].tolist()


def test_labels_with_too_few_rows_are_named() -> None:
    y = np.array([0] * 20 + [1] * 3 + [2] * 2)
    with pytest.raises(UserError) as caught:
        make_splits(y, 5, 1, 0.2, 0, labels=("red", "green", "blue"))
    ways = "; set validation.folds: 2, data.rare_labels: drop, or leave these rows out"
    assert caught.value.problems == (
        "every label must have at least 5 training rows for validation.folds = 5; "
        f"label 'green' has 3{ways}",
        "every label must have at least 5 training rows for validation.folds = 5; "
        f"label 'blue' has 2{ways}",
    )


@pytest.mark.parametrize(
    ("counts", "fraction", "message"),
    [
        ([10, 1], 0.25, "label 1 has 1"),
        ([4, 3, 3], 0.1, "data.test must leave at least one row of each of the 3 labels"),
        ([4, 3, 3], 0.9, "data.test must leave at least one row of each of the 3 labels"),
        ([500, 2], 0.1, r"data\.test = 0\.1\); label 1 has none"),
    ],
)
def test_hold_outs_that_cannot_be(counts: list[int], fraction: float, message: str) -> None:
    with pytest.raises(UserError, match=message):
        holdout(np.repeat(np.arange(len(counts)), counts), fraction, seed=0)


def test_many_labels_are_counted_not_listed() -> None:
    with pytest.raises(UserError) as caught:
        make_splits(np.arange(1000), 5, 1, 0.2, 0)
    assert len(caught.value.problems) == 6
    assert "995 more labels" in caught.value.problems[-1]


@given(
    st.lists(st.integers(2, 30), min_size=2, max_size=6),
    st.floats(0.02, 0.9),
    st.integers(0, 2**32 - 1),
    st.randoms(use_true_random=False),
)
def test_whether_a_hold_out_will_do_depends_on_the_counts_alone(
    counts: list[int], fraction: float, seed: int, shuffle: random.Random
) -> None:
    y = np.repeat(np.arange(len(counts)), counts)
    order = list(y)
    shuffle.shuffle(order)

    def problems(check: Callable[[], object]) -> tuple[str, ...]:
        try:
            check()
        except UserError as error:
            return error.problems
        return ()

    in_order = problems(lambda: make_splits(y, 1, 3, fraction, seed))
    assert in_order == problems(lambda: make_splits(np.array(order), 1, 3, fraction, seed))


@given(st.integers(4, 3000), st.floats(0.001, 0.999) | st.sampled_from([0.1, 0.2, 0.25, 0.3, 0.7]))
def test_a_fraction_is_as_many_rows_as_scikit_learn_holds_out(rows: int, fraction: float) -> None:
    y = np.arange(rows) % 2
    held = held_out(rows, fraction)
    divider = StratifiedShuffleSplit(1, test_size=fraction, random_state=0)
    assume(2 <= held <= rows - 2)
    _, test = next(divider.split(y, y))
    assert len(test) == held
