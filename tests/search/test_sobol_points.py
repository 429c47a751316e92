"""Evenly spread points."""

import math
from collections import Counter

import numpy as np
from scipy.stats import qmc

from pipeline.search.draw import sobol_point
from pipeline.search.search import Search
from pipeline.search.space import Space
from tests.toy_search import LR, entries, make, run


def test_every_value_of_a_choice_gets_its_share_of_the_points() -> None:
    space = Space(
        make([{"name": "SGD", "lr": {"choice": [1, 2, 3, 4]}}], {"dropout": LR | {"high": 0.5}})
    )
    points = [sobol_point(space, 0, 0, index) for index in range(64)]
    drawn = Counter(point.params["optimizers.0.lr"] for point in points)
    assert drawn == {1: 16, 2: 16, 3: 16, 4: 16}


def test_qmc_spreads_evenly_within_each_optimizer() -> None:
    optimizers = [
        {"name": name, "lr": LR, "weight_decay": {"low": 0.0, "high": 1.0}}
        for name in ("SGD", "Adam", "AdamW")
    ]

    def discrepancies(sampler: str, seed: int) -> list[float]:
        config = make(optimizers, sampler=sampler, trials=96, seed=seed)
        told = run(Search(config))
        found = []
        for entry in range(3):
            rows = [tuple(t.params.values()) for t in told if t.optimizer == config.labels[entry]]
            unit = np.array([[math.log10(lr) / 4 + 1, decay] for lr, decay in rows])
            found.append(float(qmc.discrepancy(np.clip(unit, 0, 1))))
        if sampler == "qmc":
            assert Counter(entries(config, told)) == {0: 32, 1: 32, 2: 32}
        return found

    even = [d for seed in range(5) for d in discrepancies("qmc", seed)]
    chance = [d for seed in range(5) for d in discrepancies("random", seed)]
    assert max(even) < min(chance)
    assert np.mean(even) < np.mean(chance) / 5
