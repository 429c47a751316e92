"""The points of one batch, drawn one after the other, within the budget of trials.

What draws them is made anew for each batch from the trials before it, so the points follow from
these and from the seed alone."""

from collections import Counter
from collections.abc import Collection, Sequence
from functools import lru_cache
from itertools import count

import numpy as np
import numpy.typing as npt

from pipeline.common.seeds import Purpose, generator, seed32
from pipeline.config import Config
from pipeline.models.metrics import Metric, metric_of
from pipeline.search.batch_sizes import first_trials, takes_turns
from pipeline.search.optuna_study import Study
from pipeline.search.space import Key, Point, Space
from pipeline.training.trial import Trial

ATTEMPTS = 4  # draws that may fall on points of a finite space that were had before


def quotas(config: Config, space: Space) -> list[float]:
    """How many trials each entry may have: one for each of its points, infinitely many included.

    With equal budgets no more than its share either. What the budget leaves over goes to the first
    entries, one each; what an entry with few points does not use goes to nobody."""
    sizes = space.sizes
    if config.search.budget == "shared":
        return sizes
    share, rest = divmod(config.search.trials, len(sizes))
    return [min(share + (entry < rest), size) for entry, size in enumerate(sizes)]


class Draw:
    """The points of one batch.

    TPE (Bergstra et al. 2011) with a shared budget and the random sampler have one study, in which
    the entry is one of the parameters. With equal budgets, and always with a Gaussian process, the
    entries take turns; TPE and the process then have a study for each, over its own ranges, and the
    entries know nothing of each other.

    Args:
        before: the trials before the batch.
        start: the number of the batch's first trial."""

    def __init__(self, config: Config, space: Space, before: Sequence[Trial], start: int) -> None:
        self._config, self._space, self._before, self._number = config, space, before, start
        self._name = config.search.sampler
        self._metric = metric_of(config)
        self._quotas = quotas(config, space)
        self._drawn = Counter(space.entry(trial) for trial in before)
        self._sobol_drawn = self._drawn.copy()
        self._rng = generator(config.seed, Purpose.LEFT_OVER, start)
        self._seed = config.seed, Purpose.SAMPLER, start
        self._in_turn = takes_turns(config)
        self._studies: dict[int | None, Study] = {}

    def next(self, taken: Collection[Key]) -> Point | None:
        """The batch's next point, not one of `taken` where that can be; None when all are."""
        entries = [e for e in self._space.open(taken) if self._drawn[e] < self._quotas[e]]
        if not entries:
            return None
        turn = min(entries, key=lambda entry: self._drawn[entry])
        if self._space.size <= self._config.search.trials:  # all of them are tried
            left = (p for p in self._space.alternating() if self._space.key(p) not in taken)
            is_shared = self._config.search.budget == "shared"
            point = next(point for point in left if is_shared or point.entry == turn)
        else:
            point = self._sampled(turn, taken)
        self._number += 1
        self._drawn[point.entry] += 1
        return point

    def _sampled(self, turn: int, taken: Collection[Key]) -> Point:
        for _ in range(ATTEMPTS):
            drawn = None
            if self._has_begun(turn):
                drawn = self._study(turn).suggest(turn if self._in_turn else None)
            point = drawn or self._next_sobol(turn)
            # Also a point that is had already: the samplers keep away from what is running.
            self._add_running(point)
            if self._space.key(point) not in taken:
                return point
        # The sampler insists on what was had. The entry whose turn it is has something left.
        draws = (self._rng.random(len(self._space.axes[turn])) for _ in count())
        points = (self._space.at(turn, fractions.tolist()) for fractions in draws)
        point = next(point for point in points if self._space.key(point) not in taken)
        self._add_running(point)
        return point

    def _add_running(self, point: Point) -> None:
        """Takes the point for one whose outcome is awaited."""
        if self._name in ("tpe", "gp"):
            self._study(point.entry).add(point, "RUNNING")

    def _next_sobol(self, turn: int) -> Point:
        index = self._sobol_drawn[turn]
        self._sobol_drawn[turn] += 1
        return sobol_point(self._space, self._config.seed, turn, index)

    def _has_begun(self, turn: int) -> bool:
        """Whether there were enough trials, of all entries or of the one whose turn it is."""
        number = self._number
        if self._in_turn:
            number = sum(self._space.entry(trial) == turn for trial in self._before)
        return number >= first_trials(self._config, self._space, turn)

    def _study(self, entry: int) -> Study:
        key = entry if self._in_turn and self._name != "random" else None
        if key not in self._studies:
            self._studies[key] = self._new_study(key)
        return self._studies[key]

    def _new_study(self, entry: int | None) -> Study:
        seed = seed32(*self._seed) if entry is None else seed32(*self._seed, entry)
        study = Study(self._space, self._name, seed, entry)
        if self._name == "random":
            return study
        values = [_value(trial, self._metric) for trial in self._before]
        for trial, value, drawn_in in zip(
            self._before, values, fenced(values).tolist(), strict=True
        ):
            point = self._space.point(trial)
            if entry not in (None, point.entry):
                continue
            if self._name == "gp" or trial.state == "COMPLETE":
                # A Gaussian process reads neither pruned nor failed trials: the former count with
                # their last value, the latter with the worst.
                study.add(point, "COMPLETE", drawn_in if self._name == "gp" else value)
            else:
                # Of a pruned trial TPE reads the last epoch. It passes failed ones over, and would
                # go there again; as pruned before the first epoch they are the last of all.
                last = _last(trial, self._metric) if trial.state == "PRUNED" else {}
                study.add(point, "PRUNED", None, last)
        return study


def sobol_point(space: Space, seed: int, entry: int, index: int) -> Point:
    """Point `index`, from 0, of an entry's sequence of evenly spread points over its own ranges.

    It depends on nothing else. A scrambled Sobol sequence: Sobol 1967, scrambled as in Matousek
    1998 (scipy.stats.qmc.Sobol). Optuna's QMCSampler draws its first trial at random and knows no
    ranges that come and go with the optimizer."""
    dimensions = len(space.axes[entry])
    if dimensions == 0:
        return Point(entry, {})
    # A longer sequence begins with the shorter one. Powers of two keep it balanced.
    rows = _sobol(seed, entry, dimensions, max(6, index.bit_length()))
    return space.at(entry, rows[index].tolist())


@lru_cache(256)
def _sobol(seed: int, entry: int, dimensions: int, log2_length: int) -> npt.NDArray[np.float64]:
    from scipy.stats.qmc import Sobol  # slow to import, and most searches need few points

    rng = generator(seed, Purpose.SOBOL, entry)
    rows: npt.NDArray[np.float64] = Sobol(dimensions, rng=rng).random_base2(log2_length)
    return rows


def fenced(values: Sequence[float | None]) -> npt.NDArray[np.float64]:
    """Values of trials [N], larger is better, of which none is far below the others.

    One further below than Tukey's fence, as the loss of a network that all but diverged, would
    flatten all others, so it is drawn in to the fence. None: the trial has no value, and counts as
    the worst."""
    scores = np.array([-np.inf if value is None else value for value in values], dtype=np.float64)
    finite = scores[np.isfinite(scores)] if np.isfinite(scores).any() else np.zeros(1)
    low, high = np.quantile(finite, [0.25, 0.75])
    return np.asarray(np.maximum(scores, max(finite.min(), low - 1.5 * (high - low))))


def _value(trial: Trial, metric: Metric) -> float | None:
    """The trial's score, or the last one of a pruned trial's curve; larger is better."""
    score = trial.score(metric)
    if score is not None:
        return metric.sign * score
    return next(iter(_last(trial, metric).values()), None) if trial.state == "PRUNED" else None


def _last(trial: Trial, metric: Metric) -> dict[int, float]:
    """The last value of the curve that was finite, larger is better, by its epoch; may be empty."""
    curve = np.asarray(trial.curves.get(metric.curve, ()))
    epochs = np.flatnonzero(np.isfinite(curve))
    return {int(epochs[-1]) + 1: metric.sign * float(curve[epochs[-1]])} if len(epochs) else {}
