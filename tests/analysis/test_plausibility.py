"""Test scores that cross-validation does not allow, and test rows that can be told apart."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.metrics import roc_auc_score

from pipeline.analysis.comparison import MeanDifference
from pipeline.analysis.plausibility import Gap, Shift, auc_interval, gap, shift
from pipeline.data.dependence import Dependence
from pipeline.data.prepared import Rows
from pipeline.data.schema import Column, Inputs, Schema
from pipeline.models.metrics import ACCURACY, LOSS, Metric
from tests.study import overlap

TRAINING, TEST, FOLDS = 400, 130, 5


def estimate(right: npt.NDArray[np.bool_], repeats: int = 4, seed: int = 0) -> MeanDifference:
    """Of the accuracy of a model that is right in these training rows [N], on repeated folds."""
    draw = np.random.default_rng(seed)
    folds = [
        float(right[rows].mean())
        for _ in range(repeats)
        for rows in np.array_split(draw.permutation(len(right)), FOLDS)
    ]
    return MeanDifference.of(folds, overlap(FOLDS))


def predictions(right: Sequence[bool] | npt.NDArray[np.bool_], sure: float = 0.8) -> tuple[
    npt.NDArray[np.float64], npt.NDArray[np.int64]
]:  # fmt: skip
    """Probabilities [N, 2] that are right in these rows, and labels."""
    y = np.arange(len(right)) % 2
    label = np.where(right, y, 1 - y)
    probabilities = np.full((len(y), 2), 1 - sure)
    probabilities[np.arange(len(y)), label] = sure
    return probabilities, y


def found(estimated: MeanDifference, right: npt.NDArray[np.bool_], **about: int) -> Gap | None:
    return gap(ACCURACY, estimated, TRAINING, *predictions(right), **about)


@pytest.mark.parametrize("share", [0.6, 0.8, 0.97, 1.0])
def test_it_is_rare_where_both_are_of_one_kind(share: float) -> None:
    draw = np.random.default_rng(1)
    gaps = [
        found(estimate(draw.random(TRAINING) < share, seed=n), draw.random(TEST) < share)
        for n in range(300)
    ]
    assert sum(each is not None for each in gaps) <= 6  # 3 are to be expected


@pytest.mark.parametrize(("test", "is_worse"), [(0.6, True), (0.99, False)])
def test_what_is_worse_and_what_is_better_is_found(test: float, is_worse: bool) -> None:
    draw = np.random.default_rng(2)
    gaps = [
        found(estimate(draw.random(TRAINING) < 0.82, seed=n), draw.random(TEST) < test)
        for n in range(60)
    ]
    told = [each for each in gaps if each is not None]
    assert len(told) >= 54
    for each in told:
        assert (each.metric, each.is_worse) == (ACCURACY, is_worse)
        assert (each.high < 0) is is_worse
        assert each.low < each.test - each.expected < each.high
        assert (each.low > 0) is not is_worse


def test_a_few_rows_that_are_all_right_are_not_certain_of_it() -> None:
    right = np.arange(150) >= 6
    assert gap(ACCURACY, estimate(right), 150, *predictions([True] * 38)) is None
    assert gap(ACCURACY, estimate(right[6:]), 144, *predictions([False] + [True] * 39)) is None
    assert gap(ACCURACY, estimate(right), 150, *predictions([True])) is None


def test_the_best_of_many_estimates_promises_more() -> None:
    """A gap that stands out of one estimate need not stand out of forty."""
    estimated = estimate(np.arange(TRAINING) % 5 > 0)
    right = np.arange(TEST) >= 42
    assert found(estimated, right) is not None
    assert found(estimated, right, estimates=40) is None
    better = np.arange(TEST) >= 5  # choosing makes a better test score no likelier
    assert found(estimated, better, estimates=40) == found(estimated, better)


def test_a_loss_counts_where_it_is_worse() -> None:
    draw = np.random.default_rng(3)
    folds = draw.normal(0.5, 0.02, 20)
    estimated = MeanDifference.of(folds, overlap(FOLDS))
    worse = gap(LOSS, estimated, TRAINING, *predictions(draw.random(TEST) < 0.5, 0.9))
    assert worse is not None
    assert (worse.metric, worse.is_worse) == (LOSS, True)
    assert worse.low > 0
    assert gap(LOSS, estimated, TRAINING, *predictions([True] * TEST, 0.95)) is None


def test_any_metric_by_a_jackknife() -> None:
    """The mean over rows has the usual standard error, whatever the metric is called."""
    log_odds = np.random.default_rng(4).normal(1.2, 1.0, TEST)
    y = np.ones(TEST, np.int64)
    probabilities = np.stack([1 / (1 + np.exp(log_odds)), 1 / (1 + np.exp(-log_odds))], axis=1)

    def mean_probability(logits, labels):  # type: ignore[no-untyped-def]
        return logits.softmax(-1)[..., 1].mean(-1)

    metric = Metric("mean", greater_is_better=True, is_share=True, score=mean_probability)
    surely = MeanDifference(0.5, 1e-9, 19)
    told = gap(metric, surely, TRAINING, probabilities, y)
    assert told is not None
    error = probabilities[:, 1].std(ddof=1) / np.sqrt(TEST)
    assert (told.high - told.low) / 2 == pytest.approx(2.68 * error, rel=0.25)  # t, 49 degrees


# Rows that can be told apart ---------------------------------------------------------------------


def _shift(
    training: npt.NDArray[Any],
    test: npt.NDArray[Any],
    schema: Schema,
    seed: int,
    groups: Sequence[npt.NDArray[np.int64]] | None = None,
) -> Shift | None:
    known = [Dependence(g) for g in groups] if groups else [Dependence()] * 2
    sides = zip((training, test), known, strict=True)
    rows = [Rows(raw, np.zeros(len(raw), int), None, of_rows) for raw, of_rows in sides]
    return shift(*rows, schema, seed)


def test_groups_that_are_recognised_are_no_shift() -> None:
    """Every row tells whose it is, and each stands on one side: that says nothing of new ones."""
    draw = np.random.default_rng(0)
    own = np.repeat(draw.normal(size=(120, 6)), 10, axis=0) + 0.01 * draw.normal(size=(1200, 6))
    place = np.repeat(np.arange(120), 10)
    sides = own[place < 90], own[place >= 90]
    plain = _shift(*sides, table(6), 0)
    grouped = _shift(*sides, table(6), 0, (place[place < 90], place[place >= 90]))
    assert plain is not None
    assert grouped is not None
    assert plain.auc > 0.9
    assert grouped.low < 0.5 < grouped.high


def table(columns: int, **further: Column) -> Schema:
    names = [Column(f"c{number}", "number") for number in range(columns)]
    return Schema((*names, *further.values()), "y", (0, 1))


def test_rows_of_one_kind_cannot_be_told_apart() -> None:
    draw = np.random.default_rng(5)
    clear = []
    for seed in range(30):
        rows = draw.normal(size=(400, 6))
        apart = _shift(rows[:300], rows[300:], table(6), seed)
        assert apart is not None
        assert apart.low < apart.auc < apart.high
        clear.append(apart.is_clear)
    assert sum(clear) <= 2


def test_the_columns_that_tell_most_are_named() -> None:
    draw = np.random.default_rng(6)
    training, test = draw.normal(size=(3000, 6)), draw.normal(size=(500, 6))
    test[:, 4] += 1.5
    test[:, 1] -= 0.8
    test[:, 2] += 0.3
    apart = _shift(training, test, table(6), 0)
    assert apart is not None
    assert apart.is_clear
    assert apart.columns == ("c4", "c1")
    # By the two columns together about as much as the sum of their own differences.
    score = np.concatenate([training, test]) @ [0, -0.8, 0.3, 0, 1.5, 0]
    whole = roc_auc_score(np.repeat([0, 1], [3000, 500]), score)
    assert apart.low < whole < apart.high + 0.02
    assert _shift(training, test, table(6), 0) == apart


def test_categories_and_gaps_tell_too() -> None:
    draw = np.random.default_rng(7)
    schema = table(1, shop=Column("shop", "category", ("a", "b", "c"), missing=True))
    training = np.column_stack([draw.normal(size=600), draw.integers(-1, 3, 600)]).astype(float)
    training[training[:, 1] < 0, 1] = np.nan
    test = training[:200].copy()
    test[:, 1] = 1.0  # the middle one: its code alone would not tell
    apart = _shift(training, test, schema, 0)
    assert apart is not None
    assert apart.is_clear
    assert apart.columns == ("shop",)
    test[:, 1] = np.nan
    apart = _shift(training, test, schema, 0)
    assert apart is not None
    assert apart.columns == ("shop",)


def test_arrays_name_no_columns_and_what_is_little_or_wide_is_left_out() -> None:
    draw = np.random.default_rng(8)
    images = draw.integers(0, 200, (300, 1, 4, 4), dtype=np.uint8)
    schema = Schema((), "y", (0, 1), Inputs((1, 4, 4), "uint8"))
    apart = _shift(images[:200], images[200:] + np.uint8(40), schema, 0)
    assert apart is not None
    assert apart.is_clear
    assert apart.columns == ()
    assert _shift(images[:290], images[290:], schema, 0) is None
    wide = Schema((), "y", (0, 1), Inputs((3, 64, 64), "uint8"))
    many = np.zeros((60, 3, 64, 64), np.uint8)
    assert _shift(many[:30], many[30:], wide, 0) is None


def test_hanley_and_mcneil_as_in_their_paper() -> None:
    """Radiology 143, table II: an area of 0.893, 51 abnormal and 58 normal: error 0.032."""
    low, high = auc_interval(0.893, 51, 58)
    assert (high - low) / 2 / 1.96 == pytest.approx(0.032, abs=0.001)
    assert auc_interval(1.0, 3, 3) == (1.0, 1.0)
    assert auc_interval(0.5, 2, 2) == (0.0, 1.0)
