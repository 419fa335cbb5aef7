"""What every test starts from: Keras on JAX, and a cache of its own that lives as long as the test run."""

import os

import pytest


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["FANIN_CACHE_DIR"] = str(tmp_path_factory.mktemp("cache"))
    os.environ["KERAS_BACKEND"] = "jax"
    os.environ.pop("FANIN_DATA_DIR", None)
