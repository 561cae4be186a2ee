"""The backend under test: a real server of the tests' own, on a free port."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.serving import redis_server


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a server for as long as the tests run."""
    with redis_server(tmp_path_factory.mktemp("redis")) as (port, _):
        yield f"redis://127.0.0.1:{port}/0"


@pytest.fixture
def backend_settings(redis_url: str) -> dict[str, Any]:
    """Return the settings of an empty cache."""
    # A loaded machine may be slow, and these tests are not about timeouts.
    return {"CACHE_REDIS_URL": redis_url, "CACHE_REDIS_TIMEOUT": 30.0}
