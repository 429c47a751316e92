import math
from dataclasses import replace

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from pipeline.analysis.importance import LEAST_TRIALS, Searched, main_effects
from pipeline.models.metrics import ACCURACY, LOSS
from tests.study import failed, search, settings_search, trial


def _over_all(searched):
    return {one.setting.label: one for one in searched.importances}


def _rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize(
    ("leaf", "effect"),
    [
        ("batch_size", lambda _, p: {32: 0.0, 64: 0.1, 128: 0.05}[p["training.batch_size"]]),
        ("dropout", lambda _, p: -0.3 * (p["model.dropout"] - 0.2) ** 2),
        ("learning rate", lambda e, p: 0.02 * math.log10(p[f"optimizers.{e}.lr"]) + 0.02 * e),
        ("optimizer", lambda e, _: 0.05 * e),
    ],
)
@pytest.mark.parametrize("metric", [ACCURACY, LOSS])
def test_a_setting_that_does_everything(leaf, effect, metric):
    found = _over_all(settings_search(effect, metric=metric))
    assert next(iter(found)) == leaf
    assert found[leaf].share > 0.9
    assert found[leaf].stands_out
    assert all(one.share < 0.05 for name, one in found.items() if name != leaf)


def test_shares_are_those_of_the_variance():
    """Of y = 3 a + 2 b^2 + c, a and b uniform on [0, 1], c one of 0, 1, 2: the variances are
    9 / 12, 4 (1/5 - 1/9) and 2 / 3."""
    draw = _rng()
    a, b, c = draw.random(1500), draw.random(1500), draw.integers(3, size=1500)
    columns = [a[:, None], b[:, None], np.eye(3)[c]]
    parts = np.array([9 / 12, 4 * (1 / 5 - 1 / 9), 2 / 3])
    found = main_effects(columns, 3 * a + 2 * b**2 + c, 32, _rng())
    assert found == pytest.approx(parts / parts.sum(), abs=0.02)


def test_the_space_counts_and_not_where_the_trials_are():
    """Nine of ten points are where y is flat: the mean over the space knows nothing of that."""
    draw = _rng()
    a = np.concatenate([draw.uniform(0.9, 1.0, 900), draw.uniform(0, 1, 100)])
    b = draw.random(1000)
    # Of a: variance of a step of height 1 in the middle, 1/4; of b: that of 0.5 b, 1/48.
    y = (a > 0.5) + 0.5 * b
    shares = main_effects([a[:, None], b[:, None]], y, 32, _rng())
    assert shares == pytest.approx(np.array([12, 1]) / 13, abs=0.03)


def test_what_only_acts_together_is_in_no_share():
    draw = _rng()
    a, b = draw.integers(2, size=(2, 400))
    found = main_effects([np.eye(2)[a], np.eye(2)[b]], (a ^ b).astype(float), 16, _rng())
    assert found == pytest.approx([0, 0], abs=0.02)


def test_fanova_is_optunas():
    """On numbers that count linearly and on two values, where both mean the same."""
    names = ("a", "b", "c")
    draw = _rng()
    x = draw.random((80, 3))
    x[:, 2] = x[:, 2] > 0.5
    y = np.sin(4 * x[:, 0]) + x[:, 1] * x[:, 2] + 0.1 * draw.normal(size=80)
    spread = FloatDistribution(0, 1)
    distributions = {"a": spread, "b": spread, "c": CategoricalDistribution([0.0, 1.0])}
    study = optuna.create_study()
    for row, value in zip(x, y, strict=True):
        params = dict(zip(names, row.tolist(), strict=True))
        study.add_trial(
            optuna.create_trial(params=params, distributions=distributions, value=value)
        )
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    theirs = evaluator.evaluate(study)
    columns = [x[:, :1], x[:, 1:2], np.eye(2)[x[:, 2].astype(int)]]
    ours = main_effects(columns, y, 64, _rng())
    assert ours == pytest.approx([theirs[name] for name in names], abs=0.05)


def test_scores_alike_have_no_importances():
    assert main_effects([np.eye(2)[[0, 1] * 20]], np.full(40, 0.5), 8, _rng()) is None
    assert settings_search(lambda *_: 0.0, noise=0.0).importances == ()


def test_noise_rarely_stands_out():
    found = [
        one.stands_out
        for seed in range(10)
        for one in settings_search(lambda *_: 0.0, 24, seed=seed).importances
    ]
    assert len(found) == 60
    assert sum(found) <= 8  # 3 are expected; of 60 at 5 %, more than 8 have a chance of 0.3 %


def test_a_setting_of_one_optimizer():
    """Nothing but momentum has an effect, which only SGD has."""
    searched = settings_search(lambda e, p: 0.2 * p["optimizers.0.momentum"] if e == 0 else 0.09)
    found = _over_all(searched)
    assert next(iter(found)) == "momentum (SGD)"
    assert not found["learning rate"].stands_out


def test_same_numbers_again():
    first, second = (settings_search(lambda _, p: p["model.dropout"], 24) for _ in range(2))
    assert [o.share for o in first.importances] == [o.share for o in second.importances]
    assert [o.chance for o in first.importances] == [o.chance for o in second.importances]


def test_few_trials_say_nothing():
    few = settings_search(lambda _, p: p["model.dropout"], LEAST_TRIALS - 1)
    assert few.importances == ()
    more = settings_search(lambda _, p: p["model.dropout"], LEAST_TRIALS)
    assert more.importances


def test_optimizer_and_rate_alone_have_none():
    searched = settings_search(lambda e, _: 0.1 * e)
    alone = [one for one in searched.settings if one.name in ("optimizer", "lr")]
    assert replace(searched, settings=alone).importances == ()


def test_failing_counts():
    """Whatever completes is as good as everything else; above a dropout of 0.3 all fail."""
    searched = settings_search(lambda _, p: math.nan if p["model.dropout"] > 0.3 else 0.0)
    first = searched.importances[0]
    assert (first.setting.label, first.stands_out) == ("dropout", True)
    assert first.trials == len(searched.trials)


def test_the_best_few():
    trials = [trial(i, accuracy=i / 100) for i in range(80)] + [failed(80)]
    numbers = [trial.number for trial in Searched((), trials, ACCURACY).best]
    assert numbers == [79, 78, 77, 76, 75, 74, 73, 72]
    for count, few in ((1, 1), (6, 3), (20, 5)):
        assert len(Searched((), trials[:count], ACCURACY).best) == few
    assert Searched((), search(trials=0), ACCURACY).best == []
