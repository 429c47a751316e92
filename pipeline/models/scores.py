"""Scores of many networks, or of many samples of rows, at once.

All take logits or log-probabilities [..., N, C], label ids [..., N] and, perhaps, how often each
row counts [..., N] (whole numbers as floats; None: once), whose leading dimensions are broadcast,
and give the score of the N rows [...] in float64. NaN: there is none for such rows."""

import math
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.common import imports
from pipeline.common.errors import UserError
from pipeline.config.component import Component
from pipeline.config.ranges import plain

# That a label is absent: `measure_of` looks after that.
warnings.filterwarnings("ignore", category=UserWarning, module="torchmetrics")


def accuracy(logits: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
    """The share of rows whose most probable label, the first of equals, is the true one."""
    return _mean((logits.argmax(dim=-1) == y).double(), weights)


def loss(logits: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
    """The mean cross entropy, nats."""
    return -_mean(logits.log_softmax(dim=-1).gather(-1, y.unsqueeze(-1)).squeeze(-1), weights)


def auroc(logits: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
    """The area under the ROC curve: of the second of two labels, else the mean over the labels,
    each against the rest. NaN where a label is absent."""
    weights = torch.ones_like(y, dtype=torch.float64) if weights is None else weights
    if y.dim() > 1:
        return torch.stack([auroc(*each) for each in zip(logits, y, weights, strict=True)])
    of_labels = enumerate(_probabilities(logits).T)
    areas = [_area(p, y == label, weights) for label, p in of_labels if label or len(logits.T) > 2]
    return torch.stack(areas).mean(dim=0).double()


def balanced_accuracy(logits: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
    """The share of a label's rows that are predicted right: the mean over the labels there are."""
    hits, _, true = _counts(logits, y, weights)
    return (hits / true).nanmean(dim=-1)


def f1_score(logits: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
    """The harmonic mean of precision and recall: of the second of two labels, 0 where it is
    nowhere; else the mean over the labels that are there or predicted."""
    hits, predicted, true = _counts(logits, y, weights)
    of_labels = 2 * hits / (predicted + true)
    is_of_two = logits.shape[-1] == 2
    return of_labels[..., 1].nan_to_num(0.0) if is_of_two else of_labels.nanmean(dim=-1)


def _probabilities(logits: Tensor) -> Tensor:
    """In single precision, where equal ones are equal whatever rounded them."""
    return logits.double().softmax(dim=-1).float()


def _mean(values: Tensor, weights: Tensor | None) -> Tensor:
    if weights is None:
        return values.mean(dim=-1)
    return (values * weights).sum(dim=-1) / weights.sum(dim=-1)


def _area(values: Tensor, positive: Tensor, weights: Tensor) -> Tensor:
    """The chance that a positive row is above a negative one, of values [N], weights [..., N], by
    rank sums: Mann and Whitney (1947), Annals of Mathematical Statistics 18(1), 50-60."""
    order = values.argsort()
    up, down = order[positive[order]], order[~positive[order]]
    above, below = weights[..., up], F.pad(weights[..., down].cumsum(dim=-1), (1, 0))
    ends = (torch.searchsorted(values[down], values[up], right=right) for right in (False, True))
    low, high = (below[..., end] for end in ends)  # equal values count half
    return (above * (low + high)).sum(dim=-1) / (2 * above.sum(dim=-1) * below[..., -1])


def _counts(logits: Tensor, y: Tensor, weights: Tensor | None) -> list[Tensor]:
    """Of each label [..., C]: how many rows are predicted right, predicted, and there."""
    weights = torch.ones_like(y, dtype=torch.float64) if weights is None else weights
    labels = logits.shape[-1]
    predicted, true = (F.one_hot(ids, labels).to(weights) for ids in (logits.argmax(dim=-1), y))
    rows = predicted * true, predicted, true
    return [(weights.unsqueeze(-2) @ each).squeeze(-2).double() for each in rows]


def of_component(
    component: Component, logits: Tensor, y: Tensor, weights: Tensor | None = None
) -> Tensor:
    """By an entry under `metrics`, one sample of rows after the other. NaN where it gives no finite
    number, or fails."""
    measure, rows = measure_of(component, logits.shape[-1]), logits.shape[-2]
    weights = torch.ones_like(y) if weights is None else weights.long()
    samples = (y[..., 0] * weights[..., 0]).shape
    logits = logits.expand(*samples, *logits.shape[-2:]).reshape(-1, *logits.shape[-2:])
    y, weights = (each.expand(*samples, rows).reshape(-1, rows) for each in (y, weights))
    values = []
    for sample in zip(logits.cpu(), y.cpu(), weights.cpu(), strict=True):
        index = torch.arange(rows).repeat_interleave(sample[2])
        try:
            values.append(measure(sample[0][index], sample[1][index]))
        except Exception:
            values.append(math.nan)
    return torch.tensor(values, dtype=torch.float64, device=logits.device).reshape(samples)


def measure_of(component: Component, labels: int) -> Callable[[Tensor, Tensor], float]:
    """What scores logits [N, C] and label ids [N] by an entry under `metrics`.

    A bare name is `Binary` and the name for two labels, `Multiclass` and the name for more, with
    its own defaults. It is shown probabilities [N] of the second of two labels, else [N, C]. Of
    (value, threshold) the value counts, of values of labels their mean. Those of a whole curve, of
    which torchmetrics makes 0 where a label is absent, are NaN there.

    Raises UserError: it is not there; whatever a class raises that cannot be made."""
    path, arguments = component.path, plain(component.arguments)
    is_of_two = labels == 2
    if imports.is_path(path):
        found = imports.load(path, "metrics")
    else:
        import torchmetrics.classification as classes

        found = getattr(classes, ("Binary" if is_of_two else "Multiclass") + path)
        arguments |= {} if is_of_two else {"num_classes": labels}
    made: Any = found(**arguments) if isinstance(found, type) else partial(found, **arguments)

    def measure(logits: Tensor, y: Tensor) -> float:
        probabilities = _probabilities(logits)
        probabilities = probabilities[:, 1] if is_of_two else probabilities
        if not isinstance(found, type):
            value = made(probabilities, y)
        elif hasattr(made, "thresholds") and len(torch.unique(y)) < labels:
            return math.nan
        else:
            made.reset()
            made.update(probabilities, y)
            value = made.compute()
        value = value[0] if isinstance(value, tuple) else value
        return float(torch.as_tensor(value, dtype=torch.float64).mean())

    return measure


def check_component(component: Component, key: str, labels: int) -> None:
    """Raise UserError, which begins with `key`, unless the metric can be made and gives a finite
    number for a few rows of so many labels."""
    path, y = component.path, torch.arange(8 * labels) % labels
    logits = torch.randn(len(y), labels, generator=torch.Generator().manual_seed(0))
    try:
        value = measure_of(component, labels)(logits + 2 * torch.eye(labels)[y], y)
        problem = "" if math.isfinite(value) else f"it gives {value}, which is not finite"
    except UserError:
        raise
    except Exception as error:
        source = imports.source_file(path) if imports.is_path(path) else None
        problem = imports.reason_of(error)
        problem += f" ({source}{imports.line_of(error, source)})" if source else ""
    if problem:
        raise UserError(f"{key}: {path} cannot score a table of {labels} labels: {problem}")


def judges_labels(score: Callable[..., Tensor]) -> bool:
    """Whether a score of two labels depends on nothing but which label is predicted."""
    draws = torch.Generator().manual_seed(0)
    logits = torch.randn(8, 40, 2, generator=draws)
    y = torch.randint(2, (8, 40), generator=draws)
    of_both = (score(each, y).nan_to_num() for each in (logits, certain(logits.argmax(dim=-1), 2)))
    return torch.equal(*of_both)


def certain(predicted: Tensor, labels: int) -> Tensor:
    """Logits [..., C] whose probabilities, in single precision, are 1 and 0."""
    return 200.0 * F.one_hot(predicted, labels)
