"""Every stream of random numbers by its purpose: no two are alike.

A purpose is part of NumPy's spawn key and not of the entropy, because `SeedSequence` pads entropy
with zeros: `(7, 0)` and `[7]` are one stream."""

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """What a stream is for. The numbers are part of every result: never change or reuse one."""

    TEST_SPLIT = 0
    FOLDS = 1
    INITIAL_WEIGHTS = 2
    BATCH_ORDER = 3
    DROPOUT = 4
    SOBOL = 5
    LEFT_OVER = 6
    SAMPLER = 7
    FINAL_ROUND = 8
    TEST_SHIFT = 12
    RELIANCE = 13


def sequence(seed: int, purpose: Purpose, *key: int) -> np.random.SeedSequence:
    """The stream of a purpose; `seed` and every part of `key` (a repeat, a trial) are >= 0."""
    return np.random.SeedSequence(seed, spawn_key=(int(purpose), *key))


def generator(seed: int, purpose: Purpose, *key: int) -> np.random.Generator:
    """NumPy's generator of a stream."""
    return np.random.default_rng(sequence(seed, purpose, *key))


def seed32(seed: int, purpose: Purpose, *key: int) -> int:
    """A seed from 0 to 2**32 - 1, as scikit-learn and Optuna take it."""
    return int(sequence(seed, purpose, *key).generate_state(1, np.uint32)[0])


def seed64(seed: int, purpose: Purpose, *key: int) -> int:
    """A seed from 0 to 2**64 - 1, as `torch.Generator.manual_seed` takes it."""
    return int(sequence(seed, purpose, *key).generate_state(1, np.uint64)[0])
