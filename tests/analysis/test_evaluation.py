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
    assert found.roc_auc == pytest.approx(auc.item(), abs=1e-6)
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
    assert found.roc_auc is None
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
def test_curves_pass_through_the_operating_point(labels):
    probabilities, y = predictions(labels)
    confusion = score(probabilities, y).confusion
    rocs, prs = curves(probabilities, y)
    assert [c.label for c in rocs] == [c.label for c in prs]
    assert [c.label for c in rocs] == ([1] if labels == 2 else list(range(labels)))
    for roc, pr in zip(rocs, prs, strict=True):
        k = roc.label
        hits, said, true = confusion[k, k], confusion[:, k].sum(), confusion[k].sum()
        assert roc.operating_point == pytest.approx(
            ((said - hits) / (len(y) - true), hits / true), abs=1e-12
        )
        assert pr.operating_point == pytest.approx((hits / true, hits / said), abs=1e-12)
        assert roc.auc == pytest.approx(metrics.roc_auc_score(y == k, probabilities[:, k]))
        assert pr.prevalence == pytest.approx((y == k).mean())
    if labels == 2:  # the most probable of two labels is a threshold of 0.5, a point of the curve
        near = np.hypot(
            rocs[0].false_positive_rate - rocs[0].operating_point[0],
            rocs[0].true_positive_rate - rocs[0].operating_point[1],
        )
        assert near.min() < 0.01


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
    assert ((found.low_edge <= found.predicted) & (found.predicted <= found.high_edge)).all()


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
    assert all(curve.auc == 1 for curve in found.roc)
