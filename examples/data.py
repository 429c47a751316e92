"""Data to be named in a configuration: `data: {source: examples/data.py:digits}`."""

import numpy as np
from sklearn.datasets import load_digits


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Handwritten digits: x [1797, 1, 8, 8] float32 in [0, 1], y [1797]."""
    bunch = load_digits()
    return (bunch.images / 16).astype(np.float32)[:, None], bunch.target
