import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import metrics
from torchmetrics.functional import classification as torch_scores

from pipeline.analysis.evaluation import calibration, curves, evaluate, score
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
def test_curves_are_those_of_torchmetrics(labels):
    probabilities, y = predictions(labels, 250)
    rocs, prs = curves(probabilities, y)
    assert [c.label for c in rocs] == [c.label for c in prs]
    assert [c.label for c in rocs] == ([1] if labels == 2 else list(range(labels)))
    for roc, pr in zip(rocs, prs, strict=True):
        said = torch.from_numpy(probabilities[:, roc.label].astype(np.float64))
        truth = torch.from_numpy((y == roc.label).astype(np.int64))
        assert roc.area == pytest.approx(torch_scores.binary_auroc(said, truth).item(), abs=1e-6)
        average = torch_scores.binary_average_precision(said, truth).item()
        assert pr.area == pytest.approx(average, abs=1e-6)
        # scikit-learn leaves out the points on straight lines of a ROC curve.
        fpr, tpr, _ = (part.numpy() for part in torch_scores.binary_roc(said, truth))
        known = set(zip(fpr.round(5), tpr.round(5), strict=True))
        assert (
            set(zip(np.float32(roc.x).round(5), np.float32(roc.y).round(5), strict=True)) <= known
        )
        precision, recall, _ = torch_scores.binary_precision_recall_curve(said, truth)
        assert pr.x == pytest.approx(recall.numpy(), abs=1e-6)
        assert pr.y == pytest.approx(precision.numpy(), abs=1e-6)


def test_curves_of_many_rows_are_thinned():
    probabilities, y = predictions(2, 5000)
    for (curve,), whole in zip(
        curves(probabilities, y), (metrics.roc_curve, metrics.precision_recall_curve), strict=True
    ):
        assert len(curve.x) == len(curve.y) == 300
        first, second, _ = whole(y, probabilities[:, 1])
        points = {*zip(first, second, strict=True), *zip(second, first, strict=True)}
        assert set(zip(curve.x, curve.y, strict=True)) <= points
        assert {curve.x[0], curve.x[-1]} == {0.0, 1.0}


def test_curves_leave_out_a_label_that_is_absent():
    probabilities, y = predictions(4)
    keep = y != 2
    for of_one_kind in curves(probabilities[keep], y[keep]):
        assert [curve.label for curve in of_one_kind] == [0, 1, 3]
    assert curves(probabilities[y == 2], y[y == 2]) == ((), ())


@pytest.mark.parametrize("labels", [2, 5])
def test_calibration_error_equals_torchmetrics(labels):
    probabilities, y = predictions(labels, 400)
    said, truth = torch.from_numpy(probabilities), torch.from_numpy(y)
    found = calibration(probabilities, y, bins=10)
    if labels == 2:  # torchmetrics' binary form is of the probability of label 1, as is ours
        expected = torch_scores.binary_calibration_error(said[:, 1].contiguous(), truth, n_bins=10)
    else:
        expected = torch_scores.multiclass_calibration_error(said, truth, labels, n_bins=10)
    assert found.error == pytest.approx(expected.item(), abs=1e-5)
    assert found.count.sum() == len(y)
    bins = np.ceil(10 * found.predicted)
    assert len(set(bins)) == len(bins)


def test_calibration_band_covers_a_calibrated_model():
    inside = bins = 0
    for seed in range(20):
        found = calibration(*predictions(2, 400, seed))
        inside += ((found.band_low <= found.observed) & (found.observed <= found.band_high)).sum()
        bins += len(found.count)
    assert inside / bins > 0.93
    off = calibration(*predictions(2, 4000, sharpness=4.0))
    assert ((off.band_low > off.observed) | (off.observed > off.band_high)).any()


@pytest.mark.parametrize("labels", [2, 3])
def test_certain_predictions(labels):
    y = np.arange(30) % labels
    found = evaluate(np.eye(labels)[y], y)
    assert found.calibration.error == 0
    assert np.isfinite(found.calibration.band_low).all()
    assert np.isfinite(found.calibration.band_high).all()
    assert found.scores.accuracy == 1
    assert all(curve.area == 1 for curve in found.roc)
