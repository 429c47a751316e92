import pytest

from pipeline.analysis.importance import Searched
from tests.study import batch_size_effect, settings_search


@pytest.fixture(scope="module")
def searched() -> Searched:
    return settings_search(batch_size_effect)
