"""The backend under test."""

from typing import Any

import pytest


@pytest.fixture
def backend_settings() -> dict[str, Any]:
    """Return the settings of an empty cache."""
    return {"CACHE_THRESHOLD": 1000}
