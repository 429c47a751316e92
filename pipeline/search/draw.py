"""The points of one batch, drawn one after the other."""

from collections import Counter
from collections.abc import Collection, Sequence

from pipeline.common.seeds import Purpose, generator
from pipeline.config import Config
from pipeline.search.samplers import Qmc, sampler_of
from pipeline.search.space import Key, Point, Space
from pipeline.search.spread import Spread
from pipeline.training.proposals import Told

ATTEMPTS = 4  # draws that may fall on points of a finite space that were had before


class Draw:
    """The points of one batch, drawn one after the other."""

    def __init__(
        self,
        config: Config,
        space: Space,
        quota: Sequence[int] | None,
        spread: Spread,
        before: Sequence[Told],
        start: int,
    ) -> None:
        self._space = space
        self._quota = quota
        self._spread = spread
        self._number = start
        self._kept = Counter(told.entry for told in before)
        self._spread_drawn = self._kept.copy()
        self._rng = generator(config.seed, Purpose.LEFT_OVER, start)
        self._enumerate = space.size is not None and space.size <= config.search.trials
        self._sampler = Qmc() if self._enumerate else sampler_of(config, space, before, start)

    def next(self, taken: Collection[Key]) -> Point | None:
        """The batch's next point, not one of `taken` where that can be; None when all are."""
        entries = self._space.open(taken)
        if self._quota is not None:
            entries = [e for e in entries if self._kept[e] < self._quota[e]]
        if not entries:
            return None
        point = self._fresh(entries, taken)
        self._number += 1
        self._kept[point.entry] += 1
        return point

    def _fresh(self, entries: Sequence[int], taken: Collection[Key]) -> Point:
        turn = min(entries, key=lambda entry: (self._kept[entry], entry))
        if self._enumerate:
            left = (p for p in self._space.alternating() if self._space.key(p) not in taken)
            return next(p for p in left if self._quota is None or p.entry == turn)
        for _ in range(ATTEMPTS):
            point = self._draw(turn)
            # Also a point that is had already: the samplers keep away from what is running.
            self._sampler.running(point)
            if self._space.key(point) not in taken:
                return point
        # The sampler insists on what was had. The entry whose turn it is has something left.
        if self._space.branches[turn].size is not None:
            point = self._space.any_but(taken, turn, self._rng)
        else:
            point = self._next_spread(turn)
        self._sampler.running(point)
        return point

    def _draw(self, turn: int) -> Point:
        if self._sampler.ready(self._number, turn):
            return self._sampler.draw(turn)
        return self._next_spread(turn)

    def _next_spread(self, turn: int) -> Point:
        index = self._spread_drawn[turn]
        self._spread_drawn[turn] += 1
        return self._spread.point(turn, index)
