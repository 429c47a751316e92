import itertools

import numpy as np
import pytest
import torch

from pipeline.common.seeds import Purpose, generator, seed32, seed64, sequence

SEEDS = (0, 1, 7, 2**32 - 1)
KEYS: tuple[tuple[int, ...], ...] = ((), (0,), (1,), (0, 0), (0, 1))


def test_no_two_purposes_draw_the_same_numbers() -> None:
    """Of every purpose, seed and key, by each way of drawing: all first draws differ."""
    streams = list(itertools.product(SEEDS, Purpose, KEYS))
    drawn = [generator(*stream[:2], *stream[2]).random(4).tobytes() for stream in streams]
    torch_draws = [
        torch.rand(4, generator=torch.Generator().manual_seed(seed64(s, p, *key))).numpy().tobytes()
        for s, p, key in streams
    ]
    small = [seed32(s, p, *key) for s, p, key in streams]
    for values in (drawn, torch_draws, small):
        assert len(set(values)) == len(streams)


def test_a_stream_is_not_that_of_the_bare_seed() -> None:
    bare = np.random.default_rng(7).random(8)
    for purpose in Purpose:
        assert not np.isin(generator(7, purpose).random(8), bare).any()


def test_the_same_purpose_draws_the_same_numbers() -> None:
    first, second = (generator(3, Purpose.FOLDS, 2).random(5) for _ in range(2))
    assert (first == second).all()


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="non-negative"):
        sequence(-1, Purpose.FOLDS)
