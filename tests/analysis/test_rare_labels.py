"""Labels that few rows have, beside scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from pipeline.analysis.rare_labels import by_label


def test_precision_and_recall_are_scikit_learns() -> None:
    draw = np.random.default_rng(0)
    y = draw.choice(3, 400, p=[0.7, 0.25, 0.05])
    predicted = np.where(draw.random(400) < 0.7, y, draw.choice(3, 400))
    scores = by_label(confusion_matrix(y, predicted), [700, 250, 50])
    assert [each.label for each in scores] == [2, 1, 0]
    assert [each.is_rare for each in scores] == [True, False, False]
    precision, recall, _, support = precision_recall_fscore_support(y, predicted)
    for each in scores:
        assert each.precision == pytest.approx(precision[each.label])
        assert each.recall == pytest.approx(recall[each.label])
        assert each.rows == support[each.label]


def test_what_is_not_there_has_no_score() -> None:
    (rare, usual) = by_label(np.array([[40, 0], [0, 0]]), [95, 5])
    assert (rare.recall, rare.precision, rare.found) == (None, None, 0)
    assert (usual.recall, usual.precision) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("training", "rare"),
    [
        ([900, 100], []),
        ([901, 99], [1]),
        ([100] * 10, []),  # a tenth each: none of them is rare
        ([100] * 9 + [60], []),
        ([100] * 9 + [40], [9]),
        ([30] * 40, []),
    ],
)
def test_rare_is_less_than_a_tenth_and_than_half_of_its_part(
    training: list[int], rare: list[int]
) -> None:
    scores = by_label(np.eye(len(training), dtype=np.int64), training)
    assert [each.label for each in scores if each.is_rare] == rare
    assert len(scores) == min(20, len(training))


def test_of_many_labels_the_rarest_are_looked_at() -> None:
    scores = by_label(np.eye(50, dtype=np.int64), list(range(1, 51)))
    assert [each.label for each in scores] == list(range(20))
