"""What holds for all tests of theory."""

from collections.abc import Iterator

import pytest
from threadpoolctl import threadpool_limits


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Threads that wait for each other on a busy machine make small matrices a hundred times slower."""
    with threadpool_limits(1):
        yield
