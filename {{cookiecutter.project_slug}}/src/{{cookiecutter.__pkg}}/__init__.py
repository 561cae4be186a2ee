"""The app."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from flask import Blueprint, Flask
from werkzeug.utils import find_modules

from . import monitoring
from .caching import cache
from .settings import load


def create_app(config: Mapping[str, Any] | None = None) -> Flask:
    """Make the app; `config` overrides settings.

    Raises SettingsError if a setting cannot be used.
    """
    app = Flask(__name__)
    app.config.from_mapping(load(config))
    cache.init_app(app)
    register_blueprints(app)
    monitoring.init_app(app)
    return app


def register_blueprints(app: Flask) -> None:
    """Register the blueprint called `bp` of each module here and in `routes` that has one."""
    packages = (__name__, f"{__name__}.routes")
    names = [name for package in packages for name in find_modules(package, include_packages=True)]
    for module in list(map(import_module, names)):  # all first: a module may add to another's
        bp = getattr(module, "bp", None)
        if isinstance(bp, Blueprint) and bp not in app.blueprints.values():
            app.register_blueprint(bp)
