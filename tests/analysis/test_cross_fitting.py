"""What networks predict for the rows that they were validated on."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss

from pipeline.analysis.cross_fitting import Predictions, cross_fitted, together
from pipeline.config.sections import Model, Training
from pipeline.models.metrics import METRICS
from pipeline.models.task import Classification
from pipeline.training.batches import Arrays
from pipeline.training.loop import fit
from pipeline.training.members import Settings
from pipeline.training.outcomes import Fit
from tests.models.test_mlp import network
from tests.training.test_loop import arrays, member, split_of


def trained(data: Arrays, lr: float = 0.1, seed: int = 0) -> tuple[list[Fit], Model]:
    members = [
        member(k, "Adam", {"lr": lr}, epochs=15, hidden=(6,)) for k in range(len(data.splits))
    ]
    return fit(data, members, Settings(seed, cross_fit=True)), members[0].model


@pytest.mark.parametrize("labels", [2, 4])
def test_a_share_is_predicted_with_the_weights_that_it_did_not_choose(labels: int) -> None:
    data = arrays(labels)
    fits, model = trained(data)
    architecture = data.architecture(model, Training())
    found = cross_fitted(fits, data, architecture)
    for place, (one, answers) in enumerate(zip(fits, found, strict=True)):
        validation = data.splits[place].validation
        assert sorted(answers.rows) == list(validation)
        by_label = sorted(validation, key=lambda row: data.y[row].item())
        expected = {}
        assert one.cross_fitted is not None
        for part, weights in enumerate(one.cross_fitted):
            model = network(architecture, weights.double()).eval()
            for row in by_label[part::5]:
                logits = model(data.x[place, row : row + 1].double()).detach()[0]
                expected[row] = torch.cat((torch.zeros(1), logits)) if labels == 2 else logits
        said = torch.stack([expected[row] for row in answers.rows]).float()
        torch.testing.assert_close(answers.logits.float(), said, atol=1e-5, rtol=0)
        y = data.y[answers.rows].numpy()
        probabilities = answers.probabilities
        assert answers.scores()["accuracy"] == accuracy_score(y, probabilities.argmax(axis=1))
        assert answers.scores()["loss"] == pytest.approx(
            log_loss(y, probabilities, labels=range(labels))
        )


def test_together_is_the_mean_of_the_probabilities() -> None:
    y = torch.tensor([0, 1, 1])
    first = Predictions(np.array([2, 0, 1]), torch.tensor([[0.0, 1], [2, 0], [0, 0]]).double(), y)
    second = Predictions(np.array([0, 1, 2]), torch.tensor([[0.0, 4], [0, -3], [1, 1]]).double(), y)
    found = together([first, second], y)
    sigmoid = [1 / (1 + math.exp(-x)) for x in (-2, 0, 1, 4, -3, 0)]
    expected = [(sigmoid[i] + sigmoid[3 + i]) / 2 for i in range(3)]
    np.testing.assert_allclose(found.probabilities[:, 1], expected)
    assert found.scores()["accuracy"] == pytest.approx(1 / 3)


def test_certain_networks_give_finite_losses() -> None:
    sure = Predictions(np.array([0]), torch.tensor([[0.0, 2000.0]]).double(), torch.tensor([0]))
    assert sure.scores()["loss"] == pytest.approx(2000)
    assert math.isfinite(together([sure], sure.y).scores()["loss"])


def test_coins_flatter_the_kept_epoch_and_nothing_else() -> None:
    """Labels that nothing predicts: whoever does better than a coin was flattered."""
    kept, crossed = [], []
    for seed in range(40):
        draw = np.random.default_rng(seed)
        x, y = draw.normal(size=(1, 100, 4)), draw.permutation(np.arange(100) % 2)
        splits = tuple(split_of(part, 100) for part in np.array_split(draw.permutation(100), 5))
        inputs = torch.from_numpy(x).float().repeat(5, 1, 1)
        data = Arrays(inputs, torch.from_numpy(y), splits, Classification(2))
        fits, model = trained(data, lr=0.03, seed=seed)
        answers = cross_fitted(fits, data, data.architecture(model, Training()))
        kept.append([np.mean([each.scores[name] for each in fits]) for name in METRICS])
        crossed.append([np.mean([each.scores()[name] for each in answers]) for name in METRICS])
    flattered = np.array(kept) - np.array(crossed)
    accuracy, loss = flattered.mean(axis=0) / (flattered.std(axis=0) / math.sqrt(len(flattered)))
    assert accuracy > 4  # standard errors
    assert loss < -4
    assert np.mean(kept, axis=0)[1] < math.log(2) < np.mean(crossed, axis=0)[1]
    assert abs(np.mean(crossed, axis=0)[0] - 0.5) < 3 * math.sqrt(0.25 / 4000)
