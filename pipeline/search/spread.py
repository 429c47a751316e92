"""Evenly spread points: what is tried before a sampler has anything to go by."""

import numpy as np

from pipeline.common.seeds import Purpose, generator
from pipeline.search.space import Point, Space


class Spread:
    """Evenly spread points of each entry: a scrambled Sobol sequence over its own ranges.

    Point `index` of an entry depends on the seed and on nothing else.
    Source: Sobol 1967, scrambled as in Matousek 1998 (scipy.stats.qmc.Sobol).
    """

    def __init__(self, space: Space, seed: int) -> None:
        self._space = space
        self._seed = seed
        self._rows: dict[int, np.ndarray] = {}

    def point(self, entry: int, index: int) -> Point:
        """Point number `index`, from 0, of the sequence of `entry`."""
        axes = self._space.branches[entry].axes
        if not axes:
            return Point(entry, {})
        rows = self._rows.get(entry)
        if rows is None or index >= len(rows):
            # A longer sequence begins with the shorter one. Powers of two keep it balanced.
            rows = self._rows[entry] = self._sequence(entry, len(axes), max(6, index.bit_length()))
        row = rows[index]
        return Point(entry, {a.path: a.at(float(u)) for a, u in zip(axes, row, strict=True)})

    def _sequence(self, entry: int, dimensions: int, log2_length: int) -> np.ndarray:
        from scipy.stats.qmc import Sobol  # slow to import, and most searches need few points

        rng = generator(self._seed, Purpose.SPREAD, entry)
        rows: np.ndarray = Sobol(dimensions, scramble=True, rng=rng).random_base2(log2_length)
        return rows
