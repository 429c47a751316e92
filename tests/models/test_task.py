"""A task is held to torch's own losses, and its gradients to autograd."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from pipeline.common.errors import UserError
from pipeline.config.sections import Training
from pipeline.models.metrics import ACCURACY, LOSS
from pipeline.models.task import Classification

ROWS = 7


def drawn(labels: int) -> tuple[Classification, Tensor, Tensor, Tensor]:
    """The task, outputs [3, outputs, ROWS], the logits of all labels, and label ids."""
    task, generator = Classification(labels), torch.Generator().manual_seed(labels)
    shape = 3, 1 if labels == 2 else labels, ROWS
    outputs = torch.randn(shape, generator=generator, dtype=torch.float64)
    # Two labels: the one output is the logit of label 1 against a logit of 0 for label 0.
    logits = torch.cat((torch.zeros_like(outputs), outputs), dim=1) if labels == 2 else outputs
    return task, outputs, logits, torch.randint(0, labels, (3, ROWS), generator=generator)


@pytest.mark.parametrize("labels", [2, 3, 5])
def test_losses_and_predictions_are_those_of_torch(labels: int) -> None:
    task, outputs, logits, y = drawn(labels)
    assert task.outputs == outputs.shape[1]
    torch.testing.assert_close(task.losses(outputs, y), cross_entropy(logits, y, reduction="none"))
    assert torch.equal(task.predictions(outputs), logits.argmax(dim=1))
    alone = outputs[0].T
    torch.testing.assert_close(task.losses(alone, y[0]), task.losses(outputs, y)[0])


@pytest.mark.parametrize("labels", [2, 3, 5])
def test_gradients_are_those_of_the_mean_loss(labels: int) -> None:
    task, outputs, _, y = drawn(labels)
    outputs.requires_grad_()
    task.losses(outputs, y).mean(dim=1).sum().backward()
    torch.testing.assert_close(task.gradients(outputs.detach(), y), outputs.grad)


@pytest.mark.parametrize("labels", [2, 3, 5])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_objective_is_that_of_torch(labels: int, smoothing: float) -> None:
    task, outputs, logits, y = drawn(labels)
    task = task.trained_by(Training(label_smoothing=smoothing))
    outputs.requires_grad_()
    objective = task.objective(outputs, y)
    expected = cross_entropy(logits, y, reduction="none", label_smoothing=smoothing).mean(dim=1)
    torch.testing.assert_close(objective, expected)
    objective.sum().backward()
    torch.testing.assert_close(task.gradients(outputs.detach(), y), outputs.grad)
    torch.testing.assert_close(task.losses(outputs, y), drawn(labels)[0].losses(outputs, y))


def test_smoothing_is_of_the_built_in_loss() -> None:
    training = Training(loss={"name": "CrossEntropyLoss"}, label_smoothing=0.1)
    with pytest.raises(UserError, match=r"training.label_smoothing: .*; got CrossEntropyLoss"):
        Classification(3).trained_by(training)


@pytest.mark.parametrize("labels", [2, 3])
def test_its_metrics_agree_with_its_losses_and_predictions(labels: int) -> None:
    task, outputs, logits, y = drawn(labels)
    assert task.metrics == (ACCURACY, LOSS)
    accuracy, loss = (metric.score(logits.mT, y) for metric in task.metrics)
    torch.testing.assert_close(loss, task.losses(outputs, y).mean(dim=1))
    torch.testing.assert_close(accuracy, (task.predictions(outputs) == y).double().mean(dim=1))
