"""The backend under test."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.engine import inside
from tests.engine.fixtures import Clock


@pytest.fixture
def backend_settings(tmp_path: Path) -> dict[str, Any]:
    """Return the settings of an empty cache."""
    # A loaded machine may be slow, and these tests are not about timeouts.
    return {"CACHE_DIR": str(tmp_path / "cache"), "CACHE_DISK_TIMEOUT": 30.0}


@pytest.fixture
def pass_time(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Return `pass_time(seconds)`, which moves the cache's clock and the backend's own."""
    inside.tell_time_by(monkeypatch, clock)
    return clock.forward
