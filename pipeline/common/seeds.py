"""Seeds of the search's streams of random numbers."""

import numpy as np

# What a stream is for; the second part of its seed, after the configuration's.
SPREAD, LEFT_OVER = range(1, 3)


def seed_of(*key: int) -> int:
    """A seed for Optuna's samplers, from 0 to 2**32 - 1, another one for each key."""
    return int(np.random.SeedSequence(key).generate_state(1)[0])
