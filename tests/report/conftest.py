import pytest

from tests.study import Searched, batch_size_effect, settings_search


@pytest.fixture(scope="module")
def searched() -> Searched:
    return settings_search(batch_size_effect)
