"""The app as a whole."""

from typing import Any

from flask import Flask

from {{ cookiecutter.project_slug }} import create_app
from {{ cookiecutter.project_slug }}.caching import cache
from {{ cookiecutter.project_slug }}.caching.backend import Backend

from tests.conftest import backend_of


def test_the_app_starts_and_does_not_know_every_path(app: Flask) -> None:
    assert app.test_client().get("/no/such/page").status_code == 404


def test_the_cache_is_the_chosen_backend_with_the_chosen_timeout(app: Flask) -> None:
    with app.app_context():
        assert isinstance(backend_of(cache), Backend)
        assert cache.cache.default_timeout == {{ cookiecutter.default_timeout }}


def test_caching_can_be_switched_off(settings: dict[str, Any]) -> None:
    off = create_app(settings | {"CACHE_TYPE": "NullCache", "CACHE_NO_NULL_WARNING": True})
    with off.app_context():
        cache.set("k", "v")
        assert cache.get("k") is None
