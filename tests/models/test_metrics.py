"""Each metric of torchmetrics by its bare name against scikit-learn's value, and the scores that
are computed for many networks or samples of rows at once."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchmetrics.classification
from sklearn import metrics as sklearn_metrics
from torch import Tensor

from pipeline.common.errors import UserError
from pipeline.config import Component, Config, check
from pipeline.config.component import METRICS, read
from pipeline.config.measures import metric_name
from pipeline.models.metrics import KNOWN, metric_of, metrics_of, on_test_rows
from pipeline.models.scores import check_component, judges_labels, of_component

ARGUMENTS: dict[str, dict[str, Any]] = {
    "FBetaScore": {"beta": 2.0},
    "RecallAtFixedPrecision": {"min_precision": 0.6},
    "PrecisionAtFixedRecall": {"min_recall": 0.6},
    "SensitivityAtSpecificity": {"min_specificity": 0.6},
    "SpecificityAtSensitivity": {"min_sensitivity": 0.6},
}
BARE = METRICS.names


def component(name: str) -> Component:
    return read(METRICS, {"name": name, **ARGUMENTS.get(name, {})})


def config(*entries: Any, **sections: Any) -> Config:
    return check({"data": {"source": "a.csv", "target": "y"}, "metrics": [*entries], **sections})


def rows(labels: int, *lead: int, seed: int = 0, count: int = 60) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(seed)
    y = torch.randint(labels, (*lead, count), generator=draws)
    logits = torch.randn(*lead, count, labels, generator=draws, dtype=torch.float64)
    return (logits + 0.7 * torch.eye(labels)[y]).round(decimals=1), y  # with equal values


def shares(y: np.ndarray, predicted: np.ndarray, which: str) -> float:
    """The mean over the labels of recall, specificity or negative predictive value; of two labels
    the second's."""
    table = sklearn_metrics.multilabel_confusion_matrix(y, predicted)
    values = []
    for (right_not, false), (missed, _) in table:
        divisor = false if which == "specificity" else missed
        values.append(right_not / (right_not + divisor))
    return float(values[1] if len(values) == 2 else np.mean(values))


def expected_by_sklearn(name: str, p: np.ndarray, y: np.ndarray) -> float | None:
    labels, predicted = p.shape[1], p.argmax(axis=1)
    average = "binary" if labels == 2 else "macro"
    of_labels = {
        "Precision": sklearn_metrics.precision_score,
        "Recall": sklearn_metrics.recall_score,
        "F1Score": sklearn_metrics.f1_score,
        "FBetaScore": partial(sklearn_metrics.fbeta_score, beta=2.0),
        "JaccardIndex": sklearn_metrics.jaccard_score,
    }
    if name in of_labels:
        return float(of_labels[name](y, predicted, average=average))
    if name in ("Specificity", "NegativePredictiveValue"):
        return shares(y, predicted, name.lower())
    one_hot = np.eye(labels)[y]
    ranked = (y, p[:, 1]) if labels == 2 else (one_hot, p)
    match name:
        case "AUROC":
            return float(sklearn_metrics.roc_auc_score(*ranked))
        case "AveragePrecision":
            return float(sklearn_metrics.average_precision_score(*ranked))
        case "Accuracy" if labels == 2:
            return float(sklearn_metrics.accuracy_score(y, predicted))
        case "Accuracy":
            return float(sklearn_metrics.balanced_accuracy_score(y, predicted))
        case "HammingDistance" if labels == 2:
            return float(sklearn_metrics.hamming_loss(y, predicted))
        case "HammingDistance":
            return 1 - float(sklearn_metrics.balanced_accuracy_score(y, predicted))
        case "MatthewsCorrCoef":
            return float(sklearn_metrics.matthews_corrcoef(y, predicted))
        case "CohenKappa":
            return float(sklearn_metrics.cohen_kappa_score(y, predicted))
    return None


@pytest.mark.parametrize("labels", [2, 3])
@pytest.mark.parametrize("name", BARE)
def test_a_bare_name_is_the_class_for_so_many_labels(name: str, labels: int) -> None:
    logits, y = rows(labels)
    check_component(component(name), "metrics.0", labels)
    value = of_component(component(name), logits, y).item()
    p = logits.softmax(dim=-1).float()
    form = "Binary" if labels == 2 else "Multiclass"
    fixed = {"num_classes": labels} if labels > 2 else {}
    made = getattr(torchmetrics.classification, form + name)(**fixed, **ARGUMENTS.get(name, {}))
    given = made(p[:, 1] if labels == 2 else p, y)
    given = given[0] if isinstance(given, tuple) else given
    assert value == pytest.approx(given.double().mean().item(), abs=1e-6)
    expected = expected_by_sklearn(name, p.double().numpy(), y.numpy())
    if expected is not None:
        assert value == pytest.approx(expected, abs=1e-6)


def test_most_names_have_a_value_of_scikit_learn_to_be_compared_with() -> None:
    logits, y = rows(3)
    values = [expected_by_sklearn(n, logits.softmax(dim=-1).numpy(), y.numpy()) for n in BARE]
    assert sum(value is not None for value in values) == 13
    assert len(BARE) == 21


@pytest.mark.parametrize("name", BARE)
def test_directions_are_those_of_torchmetrics(name: str) -> None:
    entry = {"name": name, "label": "mine", **ARGUMENTS.get(name, {})}
    metric = metric_of(config(entry, search={"objective": "val_mine"}))
    for form in ("Binary", "Multiclass"):
        higher = getattr(torchmetrics.classification, form + name).higher_is_better
        assert metric.greater_is_better == (name != "EER" if higher is None else higher)


def test_names_are_in_snake_case() -> None:
    names = {name: metric_name(Component(name, {})) for name in BARE}
    assert names["AUROC"] == "auroc"
    assert names["F1Score"] == "f1_score"
    assert names["FBetaScore"] == "fbeta_score"
    assert names["MatthewsCorrCoef"] == "matthews_corr_coef"
    assert names["LogAUC"] == "log_auc"
    assert names["EER"] == "eer"
    assert metric_name(Component("m.py:cost", {}, "Cost of 2 errors")) == "cost_of_2_errors"


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("labels", [2, 3, 5])
def test_weights_count_rows_so_often(name: str, labels: int) -> None:
    score = KNOWN[name].score
    logits, y = rows(labels, 4)
    weights = torch.randint(0, 3, (4, 60), generator=torch.Generator().manual_seed(1))
    together = score(logits, y, weights.double())
    for k in range(4):
        index = torch.arange(60).repeat_interleave(weights[k])
        alone = score(logits[k, index], y[k, index])
        assert together[k].item() == pytest.approx(alone.item(), abs=1e-12)
    of_one = score(logits[0], y[0], weights.float())  # samples of the same rows
    for k in range(4):
        one = score(logits[0], y[0], weights[k].double())
        assert of_one[k].item() == pytest.approx(one.item(), abs=1e-6)


@pytest.mark.parametrize("labels", [2, 3])
def test_what_test_rows_have_is_what_scikit_learn_says(labels: int) -> None:
    logits, y = rows(labels)
    p, predicted = logits.softmax(dim=-1).numpy(), logits.argmax(dim=-1).numpy()
    average = "binary" if labels == 2 else "macro"
    expected = {
        "accuracy": sklearn_metrics.accuracy_score(y, predicted),
        "loss": sklearn_metrics.log_loss(y, p),
        "auroc": expected_by_sklearn("AUROC", p.astype(np.float32), y.numpy()),
        "balanced_accuracy": sklearn_metrics.balanced_accuracy_score(y, predicted),
        "f1_score": sklearn_metrics.f1_score(y, predicted, average=average),
    }
    found = {metric.name: metric.score(logits, y).item() for metric in on_test_rows(config())}
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", ["AUROC", "LogAUC", "EER", "AveragePrecision"])
def test_a_curve_without_a_row_of_a_label_has_no_number(name: str) -> None:
    for labels in (2, 3):
        logits, y = rows(labels)
        assert of_component(component(name), logits, y.clamp(max=labels - 2)).isnan()
        assert KNOWN["auroc"].score(logits, y.clamp(max=labels - 2)).isnan()


def test_which_metrics_depend_on_predicted_labels_alone() -> None:
    judging = {n for n in BARE if judges_labels(partial(of_component, component(n)))}
    assert judging >= {"Accuracy", "F1Score", "FBetaScore", "MatthewsCorrCoef", "CohenKappa"}
    assert not judging & {"AUROC", "CalibrationError", "HingeLoss", "EER", "LogAUC"}
    known = {name for name, metric in KNOWN.items() if judges_labels(metric.score)}
    assert known == {"accuracy", "balanced_accuracy", "f1_score"}


OWN = """
import torchmetrics
from torchmetrics.classification import BinaryAccuracy

def cost(probabilities, y, of_missed=5.0):
    missed = ((probabilities <= 0.5) & (y == 1)).float().mean()
    return of_missed * missed

cost.higher_is_better = False

class Mine(BinaryAccuracy):
    pass

def nothing(probabilities, y):
    return float("nan")

def wrong(probabilities, y):
    return probabilities.no_such_thing

def undirected(probabilities, y):
    return 1.0
"""


def test_somebodys_own_metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(OWN)
    entries = [{"name": "own.py:cost", "of_missed": 2.0}, "own.py:Mine"]
    *_, cost, mine = metrics_of(config(*entries))
    logits, y = rows(2)
    positive, truth = logits.softmax(dim=-1)[:, 1], y == 1
    expected = 2 * (truth & (positive <= 0.5)).double().mean()
    assert cost.score(logits, y).item() == pytest.approx(expected.item(), abs=1e-6)
    right = ((positive > 0.5) == truth).double().mean().item()
    assert mine.score(logits, y).item() == pytest.approx(right)
    assert (cost.sign, mine.sign) == (-1.0, 1.0)
    refused = {"nothing": "not finite", "wrong": "own.py:18", "no": "has no 'no'"}
    for name, words in refused.items():
        with pytest.raises(UserError, match=words):
            check_component(read(METRICS, f"own.py:{name}"), "metrics.0", 2)


@pytest.mark.parametrize(
    ("entry", "labels", "words"),
    [
        ({"name": "F1Score", "average": "micro"}, 2, "average"),
        ({"name": "AUROC", "average": "micros"}, 3, "average"),
        ("FBetaScore", 2, "beta"),
    ],
)
def test_what_cannot_score_is_said_before_a_run(entry: Any, labels: int, words: str) -> None:
    with pytest.raises(UserError, match=f"metrics.4: .*{words}"):
        check_component(read(METRICS, entry), "metrics.4", labels)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("ConfusionMatrix", "must be one of AUROC"),
        ("MulticlassF1Score", "got 'MulticlassF1Score'"),
        ("ExactMatch", "must be one of AUROC"),
        ("BinaryFairness", "must be one of AUROC"),
        ("AUROK", "did you mean 'AUROC'"),
        ("Accuracy", "'accuracy' is taken; give it a label"),
        ({"name": "F1Score", "task": "binary"}, "cannot be set: it follows from"),
        ({"name": "F1Score", "threshold": 0.3}, "registry.threshold"),
        ({"name": "F1Score", "avrage": "macro"}, "did you mean 'average'"),
        ({"name": "F1Score", "label": "Test error"}, "'test_error' is taken"),
    ],
)
def test_what_a_configuration_may_not_name(entry: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        config(entry)


def test_an_objective_is_one_of_the_metrics() -> None:
    found = config("EER", search={"objective": "val_eer"})
    assert [metric.name for metric in metrics_of(found)] == ["accuracy", "loss", "eer"]
    assert metric_of(config(search={"objective": "val_f1_score"})) is KNOWN["f1_score"]
    with pytest.raises(UserError, match="did you mean 'val_fbeta_score'"):
        config(component("FBetaScore").leaves(), search={"objective": "val_f_beta_score"})
    with pytest.raises(UserError, match=r"must be one of accuracy, f1, youden.* got 'auroc'"):
        config(registry={"threshold": "auroc"})
