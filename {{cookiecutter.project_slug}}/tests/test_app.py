"""The app as a whole."""

from typing import Any

from flask import Flask

from {{ cookiecutter.project_slug }} import create_app
from {{ cookiecutter.project_slug }}.caching import cache


def test_the_app_starts_and_answers_an_unknown_path_with_404(app: Flask) -> None:
    assert app.test_client().get("/no/such/page").status_code == 404


def test_the_app_has_a_cache_with_the_chosen_default_timeout(app: Flask) -> None:
    assert app.config["CACHE_DEFAULT_TIMEOUT"] == {{ cookiecutter.default_timeout }}
    with app.app_context():
        assert cache.set("k", "v", timeout=60)
        assert cache.get("k") == "v"


def test_the_app_is_monitored(settings: dict[str, Any]) -> None:
    client = create_app(settings | {"MONITORING_PASSWORD": "p"}).test_client()
    assert client.get("/healthz").status_code == 200
    assert client.get("/cache/stats").status_code == 401
    assert client.get("/cache/stats", auth=("", "p")).status_code == 200


def test_caching_can_be_switched_off(settings: dict[str, Any]) -> None:
    off = create_app(settings | {"CACHE_TYPE": "NullCache", "CACHE_NO_NULL_WARNING": True})
    with off.app_context():
        cache.set("k", "v")
        assert cache.get("k") is None
