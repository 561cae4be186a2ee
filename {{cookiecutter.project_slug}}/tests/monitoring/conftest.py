"""An app with the project's cache and its monitoring, and nothing else."""

from typing import Any

import pytest
from flask import Flask

from {{ cookiecutter.project_slug }} import monitoring
from {{ cookiecutter.project_slug }}.caching import cache

from tests.conftest import Clock

PASSWORD = "pässwörd: 密"


def monitor(app: Flask, **config: Any) -> Flask:
    """Add the cache and its monitoring to an app, with a password unless `config` has another."""
    app.config.update({"MONITORING_PASSWORD": PASSWORD, **config})
    cache.init_app(app)
    monitoring.init_app(app)
    return app


@pytest.fixture
def monitored(bare: Flask, clock: Clock) -> Flask:
    """Return a monitored app, in whose cache nothing expires, since `clock` stands still."""
    return monitor(bare)
