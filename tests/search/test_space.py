"""The space: axes, branches and their points."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import Choice, FloatRange, IntRange, Range
from pipeline.search.search import Search
from pipeline.search.space import Axis, Space
from tests.toy_search import RICH, make, run

ranges = st.one_of(
    st.builds(
        lambda low, width, log: IntRange(low, low + width, log=log),
        st.integers(1, 50), st.integers(0, 50), st.booleans(),
    ),
    st.builds(
        lambda low, width, step: IntRange(low, low + width, step=step),
        st.integers(-50, 50), st.integers(0, 50), st.integers(1, 7),
    ),
    st.builds(
        lambda low, width, log: FloatRange(low, low + width, log=log),
        st.floats(1e-6, 10), st.floats(0, 10), st.booleans(),
    ),
    st.lists(st.one_of(st.none(), st.integers(), st.text()), min_size=1, unique=True).map(
        lambda values: Choice(tuple(values))
    ),
)  # fmt: skip


@given(ranges, st.floats(0, 1, exclude_max=True))
def test_an_axis_gives_values_of_its_range(leaf: Range, fraction: float) -> None:
    axis = Axis.of("x", leaf)
    value = axis.at(fraction)
    if isinstance(leaf, Choice):
        assert value in leaf.choice
    else:
        assert leaf.low <= value <= leaf.high
    if axis.values is not None:
        assert value in axis.values
    assert axis.decode(axis.encode(value)) == value


def test_two_entries_may_have_one_name() -> None:
    space = Space(make(**RICH))
    assert len(set(space.labels)) == 3
    assert {told.optimizer for told in run(Search(make(**RICH)))} == {*space.labels}


def test_every_point_of_a_finite_space_is_had_once() -> None:
    space = Space(
        make([{"name": "SGD", "lr": {"choice": [1, 2, 3]}}], {"hidden": [{"low": 1, "high": 4}]})
    )
    points = [point.params for point in space.alternating()]
    assert len(points) == space.size
    expected = itertools.product(range(1, 5), (1, 2, 3))
    assert [tuple(params.values()) for params in points] == list(expected)
