"""The backend under test."""

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def backend_settings(tmp_path: Path) -> dict[str, Any]:
    """Return the settings of an empty cache."""
    # A loaded machine may be slow, and these tests are not about timeouts.
    return {"CACHE_DIR": str(tmp_path / "cache"), "CACHE_DISK_TIMEOUT": 30.0}
