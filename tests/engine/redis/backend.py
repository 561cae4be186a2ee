"""The backend under test: a real server of the tests' own, on a free port."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis

from tests.engine.fixtures import Clock
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


#: A server has no clock to move: all that expires there does so earlier.
_PASS = """
    for _, key in ipairs(redis.call('KEYS', '*')) do
        local left = redis.call('PTTL', key)
        if left >= 0 then redis.call('PEXPIRE', key, left - ARGV[1]) end
    end
"""


@pytest.fixture
def pass_time(clock: Clock, redis_url: str) -> Iterator[Callable[[float], None]]:
    """Return `pass_time(seconds)`, which moves the cache's clock and the backend's own."""

    def pass_time(seconds: float) -> None:
        clock.forward(seconds)
        client.eval(_PASS, 0, round(1000 * seconds))

    with Redis.from_url(redis_url) as client:
        yield pass_time
