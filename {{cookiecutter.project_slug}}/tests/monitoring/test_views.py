"""The pages of monitoring: they are closed without the password, and change nothing."""

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from {{ cookiecutter.project_slug }}.caching import events

from tests.conftest import Failing
from tests.monitoring.conftest import PASSWORD, monitor

SHOWN = ["/metrics", "/cache/", "/cache/stats", "/cache/static/index.html"]
HEALTH = ["/healthz", "/readyz"]


def get(app: Flask, path: str, password: str | None = PASSWORD) -> TestResponse:
    auth = None if password is None else ("any", password)
    return app.test_client().get(path, auth=auth, buffered=True)


@pytest.mark.parametrize("path", SHOWN)
def test_the_password_opens_a_page(monitored: Flask, path: str) -> None:
    assert get(monitored, path).status_code == 200
    for wrong in (None, "", "wrong", PASSWORD[:-1]):
        response = get(monitored, path, wrong)
        assert response.status_code == 401
        assert response.www_authenticate.type == "basic"


@pytest.mark.parametrize("path", SHOWN)
def test_without_a_password_in_the_settings_only_debug_opens_a_page(bare: Flask, path: str) -> None:
    bare.debug = True
    app = monitor(bare, MONITORING_PASSWORD="")
    assert get(app, path, None).status_code == 200
    app.debug = False
    for password in (None, "", "None"):
        assert get(app, path, password).status_code == 404


@pytest.mark.parametrize("path", HEALTH)
def test_health_needs_no_password(monitored: Flask, path: str) -> None:
    assert get(monitored, path, None).json is not None


@pytest.mark.parametrize("path", SHOWN + HEALTH)
def test_a_page_can_only_be_read_and_stays_out_of_caches(monitored: Flask, path: str) -> None:
    headers = get(monitored, path).headers
    assert headers["Cache-Control"] == "no-store"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert monitored.test_client().open(path, method=method).status_code == 405


def test_the_numbers_are_json(monitored: Flask) -> None:
    for result in ["hit"] * 32 + ["stale"] * 4 + ["miss"] * 4:  # one hit in 32 is timed
        events.lookup("shown", result, 0.0005)
    events.load("shown", "stored", 0.25)
    events.bypass("shown", "session")
    numbers = get(monitored, "/cache/stats").json
    assert numbers is not None
    (shown,) = [one for one in numbers["caches"] if one["name"] == "shown"]
    assert (shown["hits"], shown["stale"], shown["misses"]) == (32, 4, 4)
    assert (shown["hit_rate"], shown["bypasses"]) == (0.9, {"session": 1})
    assert shown["saved_seconds"] == pytest.approx(36 * (0.25 - 0.0005))


def test_readiness_shows_that_the_backend_fails_and_is_no_error(
    bare: Flask, failing_type: str
) -> None:
    app = monitor(bare, CACHE_TYPE=failing_type)
    assert get(app, "/readyz").json == {"status": "ok", "cache": "ok"}
    Failing.fault = TimeoutError("silent")
    for path in (*HEALTH, *SHOWN):
        assert get(app, path).status_code == 200
    assert get(app, "/readyz").get_json()["status"] == "degraded"
    assert get(app, "/healthz").get_json()["status"] == "ok"
