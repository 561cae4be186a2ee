"""The backend under test."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.engine import inside
from tests.engine.fixtures import Clock


@pytest.fixture
def backend_settings() -> dict[str, Any]:
    """Return the settings of an empty cache."""
    return {"CACHE_THRESHOLD": 1000}


@pytest.fixture
def pass_time(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Return `pass_time(seconds)`, which moves the cache's clock and the backend's own."""
    inside.tell_time_by(monkeypatch, clock)
    return clock.forward
