import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution, IntDistribution

from pipeline.config.ranges import Choice, FloatRange, IntRange

# As people write them: Optuna loses the end of a range in decimals of more than 28 digits.
floats = st.sampled_from([0.0, 1e-5, 1e-12]) | st.integers(-300, 300).map(lambda v: v / 100)
steps = st.none() | st.sampled_from([0.0, -0.1, 0.1, 0.25, 1.0])


@settings(max_examples=200)
@given(floats, floats, st.booleans(), steps)
def test_a_float_range_is_what_optuna_takes(
    low: float, high: float, log: bool, step: float | None
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            distribution = FloatDistribution(low, high, log=log, step=step)
        except ValueError:
            with pytest.raises(ValueError, match=r"must hold|exclude"):
                FloatRange(low, high, log=log, step=step)
            return
    grid = FloatRange(low, high, log=log, step=step).grid()
    if grid is None:
        assert step is None
        assert not distribution.single()
        return
    assert all(distribution._contains(value) for value in grid)
    assert distribution.single() == (len(grid) == 1)
    if step is not None and len(grid) > 1:
        assert grid[-1] == distribution.high


@settings(max_examples=200)
@given(st.integers(-3, 20), st.integers(-3, 20), st.booleans(), st.integers(-1, 4))
def test_an_int_range_is_what_optuna_takes(low: int, high: int, log: bool, step: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            distribution = IntDistribution(low, high, log=log, step=step)
        except ValueError:
            with pytest.raises(ValueError, match=r"must hold|exclude"):
                IntRange(low, high, log=log, step=step)
            return
    inside = tuple(v for v in range(low, high + 1) if distribution._contains(v))
    assert tuple(IntRange(low, high, log=log, step=step).grid()) == inside


def test_grids() -> None:
    assert FloatRange(0.1, 0.3, step=0.1).grid() == (0.1, 0.2, 0.3)
    assert FloatRange(0.1, 0.35, step=0.1).grid() == (0.1, 0.2, 0.3)
    assert FloatRange(0.1, 0.3).grid() is None
    assert FloatRange(-1.0, -1e-227, step=0.5).grid() == (-1.0, -0.5)
    assert FloatRange(0.2, 0.2, log=True).grid() == (0.2,)
    assert FloatRange(0.0, 1.0, step=1e-9).grid() is None
    assert IntRange(1, 8, step=3).grid() == range(1, 9, 3)
    assert Choice(("a", None)).grid() == ("a", None)


def test_a_choice_needs_a_value() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        Choice(())
