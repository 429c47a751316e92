"""What training asks: the value of a trial by its members, at the rungs."""

import math
from typing import Any

import pytest
import torch

from pipeline.search.pruning import Halving
from pipeline.search.watch import Watch


def test_no_tensor_is_read_between_rungs() -> None:
    watch = Watch(Halving((10,), {}), [0, 0, 1, 1, 2, 2], maximise=True)
    nothing: Any = object()
    for epoch in range(1, 10):
        assert not watch(epoch, nothing, nothing, nothing)
    with pytest.raises(AttributeError):
        watch(10, nothing, nothing, nothing)


def test_halving_keeps_a_third_by_the_mean_of_the_members() -> None:
    watch = Watch(Halving((1,), {}), [0, 1, 2, 0, 1, 2], maximise=True)
    scores = torch.tensor([0.9, 0.6, 0.5, 0.3, 0.8, 0.5])  # means 0.6, 0.7, 0.5
    assert sorted(watch(1, -scores, scores, torch.arange(6))) == [0, 2, 3, 5]
    watch = Watch(Halving((1,), {}), [0, 1, 2, 0, 1, 2], maximise=False)
    assert sorted(watch(1, scores, -scores, torch.arange(6))) == [0, 1, 3, 4]


def test_members_that_stopped_count_with_the_score_of_their_lowest_loss() -> None:
    watch = Watch(Halving((4,), {}), [0, 0, 1, 2], maximise=True)

    def epoch(number: int, losses: list[float], scores: list[float], *who: int) -> list[int]:
        return list(watch(number, torch.tensor(losses), torch.tensor(scores), torch.tensor(who)))

    assert not epoch(1, [0.3, 1, 1, 1], [0.9, 0.1, 0.6, 0.1], 0, 1, 2, 3)
    assert not epoch(2, [0.4, 1, 1, 1], [0.2, 0.1, 0.6, 0.1], 0, 1, 2, 3)
    # Member 0 left after epoch 2: trial 0 has (0.9 + 0.4) / 2 now, more than trial 1.
    assert not epoch(3, [1, 1, 1], [0.2, 0.6, 0.1], 1, 2, 3)
    assert epoch(4, [1, 1, 1], [0.4, 0.6, 0.1], 1, 2, 3) == [2, 3]


def test_a_member_that_is_not_finite_makes_its_trial_the_worst() -> None:
    for maximise in (True, False):
        watch = Watch(Halving((1,), {}), [0, 0, 1, 2], maximise)
        values = torch.tensor([math.nan, 0.9, 0.5, 0.5])
        assert watch(1, values, values, torch.arange(4)) == [0, 1]
