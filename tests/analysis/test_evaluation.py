import numpy as np
import pytest
import torch
from scipy import stats
from torchmetrics.functional import classification as torch_scores

from pipeline.analysis.evaluation import calibration, evaluate, score
from tests.study import predictions

pytestmark = pytest.mark.filterwarnings("error")


def wilson_by_its_definition(right: int, n: int) -> tuple[float, float]:
    """The two proportions whose normal score test just accepts `right` of n (Wilson, 1927)."""
    z2 = stats.norm.ppf(0.975) ** 2
    roots = np.roots([1 + z2 / n, -(2 * right / n + z2 / n), (right / n) ** 2])
    return float(roots.min()), float(roots.max())


@pytest.mark.parametrize("labels", [2, 3, 5])
def test_score_equals_torchmetrics(labels):
    probabilities, y = predictions(labels)
    found = score(probabilities, y)
    said, truth = torch.from_numpy(probabilities), torch.from_numpy(y)
    if labels == 2:
        said_one = said[:, 1].double()
        accuracy = torch_scores.binary_accuracy(said_one, truth)
        auc = torch_scores.binary_auroc(said_one, truth)
    else:
        accuracy = torch_scores.multiclass_accuracy(said, truth, labels, average="micro")
        auc = torch_scores.multiclass_auroc(said, truth, labels, average="macro")
    assert found.accuracy == pytest.approx(accuracy.item(), abs=1e-6)
    assert found.further["auroc"] == pytest.approx(auc.item(), abs=1e-6)
    loss = torch.nn.functional.nll_loss(said.double().log(), truth).item()
    assert found.loss == pytest.approx(loss, abs=1e-6)
    confusion = torch_scores.multiclass_confusion_matrix(said, truth, labels)
    assert (found.confusion == confusion.numpy()).all()
    right = int((probabilities.argmax(axis=1) == y).sum())
    expected = wilson_by_its_definition(right, found.n)
    assert (found.accuracy_low, found.accuracy_high) == pytest.approx(expected, abs=1e-12)
    assert found.baseline == pytest.approx(np.bincount(y).max() / len(y))


@pytest.mark.parametrize("labels", [2, 4])
def test_score_where_roc_is_undefined(labels):
    probabilities, _ = predictions(labels, 20)
    found = score(probabilities, np.zeros(20, dtype=np.int64))
    assert "auroc" not in found.further
    assert np.isfinite(found.loss)
    assert found.confusion.shape == (labels, labels)


def test_score_of_a_certain_mistake_is_finite():
    certain = np.array([[1.0, 0.0]], dtype=np.float32)
    assert np.isfinite(score(certain, np.array([1])).loss)


def test_score_accepts_float32_sums_in_float64():
    probabilities, y = predictions(5)
    assert score(probabilities.astype(np.float64), y).loss == pytest.approx(
        score(probabilities, y).loss, abs=1e-6
    )


@pytest.mark.parametrize(
    ("probabilities", "y"),
    [
        (np.array([[0.5, np.nan]]), np.array([0])),
        (np.array([[0.5, 0.6]]), np.array([0])),
        (np.array([[1.5, -0.5]]), np.array([0])),
    ],
)
def test_score_refuses(probabilities, y):
    with pytest.raises(ValueError, match=r"must|no rows"):
        score(probabilities, y)


@pytest.mark.parametrize("labels", [2, 5])
def test_calibration_is_of_groups_of_as_many_rows(labels):
    probabilities, y = predictions(labels, 400)
    found = calibration(probabilities, y)
    assert found.count.tolist() == [40] * 10
    values = probabilities[:, 1] if labels == 2 else probabilities.max(axis=1)
    came_true = y if labels == 2 else probabilities.argmax(axis=1) == y
    groups = np.array_split(np.argsort(values), 10)
    predicted = [values[group].mean() for group in groups]
    observed = [came_true[group].mean() for group in groups]
    assert found.predicted == pytest.approx(predicted, abs=1e-6)
    assert found.observed == pytest.approx(observed)
    assert found.error == pytest.approx(np.mean(np.abs(np.subtract(observed, predicted))), abs=1e-6)


def test_few_rows_make_few_groups():
    assert calibration(*predictions(2, 55)).count.sum() == 55
    assert len(calibration(*predictions(2, 55)).count) == 2
    assert len(calibration(*predictions(2, 5)).count) == 1


def test_calibration_band_covers_a_calibrated_model():
    inside = bins = 0
    for seed in range(20):
        found = calibration(*predictions(2, 400, seed))
        inside += len(found.count) - found.off
        bins += len(found.count)
    assert inside / bins > 0.93
    off = calibration(*predictions(2, 4000, sharpness=4.0))
    assert off.off > 5


@pytest.mark.parametrize("labels", [2, 3])
def test_certain_predictions(labels):
    y = np.arange(30) % labels
    found = evaluate(np.eye(labels)[y], y)
    assert found.calibration.error == 0
    assert np.isfinite(found.calibration.band_low).all()
    assert np.isfinite(found.calibration.band_high).all()
    assert found.scores.accuracy == 1
