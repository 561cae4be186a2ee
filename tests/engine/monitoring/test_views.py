"""What is shown over HTTP: to whom, and that it changes nothing."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
from flask import Flask
from prometheus_client.parser import text_string_to_metric_families
from werkzeug.test import TestResponse

from shop import create_app
from shop.caching import cache as app_cache
from shop.caching import events
from shop.monitoring import views
from tests.engine.monitoring.test_metrics import faulty

SHOWN = ["/metrics", "/cache/", "/cache/stats", "/cache/static/index.html"]
HEALTH = ["/healthz", "/readyz"]
PASSWORD = "pässwörd: 密"


@pytest.fixture
def guarded(settings: dict[str, Any]) -> Flask:
    """Return the app with a password, as in production."""
    return create_app(settings | {"MONITORING_PASSWORD": PASSWORD})


@pytest.fixture
def debug(settings: dict[str, Any]) -> Flask:
    """Return the app in debug."""
    return create_app(settings | {"DEBUG": True})


def ask(app: Flask, path: str, method: str = "GET", **options: Any) -> TestResponse:
    """Return what the app answers, read to its end."""
    return app.test_client().open(path, method=method, buffered=True, **options)


# Who sees it.


@pytest.mark.parametrize("path", [*SHOWN, "/cache/static/no-such-file"])
def test_without_a_password_nothing_is_there(app: Flask, path: str) -> None:
    for auth in (None, ("any", ""), ("any", "None")):
        response = ask(app, path, auth=auth)
        assert response.status_code == 404
        assert "WWW-Authenticate" not in response.headers
    assert ask(app, path, "POST").status_code == 404
    assert ask(app, path.rstrip("/")).status_code == 404  # no redirect tells of it either


def test_an_app_that_leaves_debug_is_closed(debug: Flask) -> None:
    debug.debug = False
    assert ask(debug, "/cache/").status_code == 404


@pytest.mark.parametrize("path", SHOWN)
def test_the_password_opens_it_whatever_the_user_name(guarded: Flask, path: str) -> None:
    for name in ("prometheus", "", "Ünï"):
        assert ask(guarded, path, auth=(name, PASSWORD)).status_code == 200


@pytest.mark.parametrize("path", [*SHOWN, "/cache/static/no-such-file"])
def test_without_the_right_password_it_is_closed(guarded: Flask, path: str) -> None:
    right = ask(guarded, path, auth=("any", PASSWORD)).request.headers["Authorization"]
    bearer = right.replace("Basic", "Bearer")
    assert bearer != right
    refused = [ask(guarded, path)]
    for wrong in ("", "wrong", PASSWORD[:-1], PASSWORD.upper()):
        refused.append(ask(guarded, path, auth=("any", wrong)))
    for header in ("Basic", "Basic !", "Basic w6Q=", "Basic /w==", bearer):
        refused.append(ask(guarded, path, headers={"Authorization": header}))
    for response in refused:
        assert response.status_code == 401
        challenge = response.www_authenticate
        assert challenge.type == "basic"
        assert challenge.parameters["charset"] == "UTF-8"
        assert PASSWORD not in response.text


@pytest.mark.parametrize("path", SHOWN)
def test_in_debug_it_is_open(debug: Flask, path: str) -> None:
    assert ask(debug, path).status_code == 200


@pytest.mark.parametrize("path", HEALTH)
def test_health_needs_no_password(app: Flask, guarded: Flask, path: str) -> None:
    for one in (app, guarded):
        assert ask(one, path).status_code == 200


# That it changes nothing, and lets nothing in.


def test_everything_can_be_read_and_nothing_written(debug: Flask) -> None:
    rules = [r for r in debug.url_map.iter_rules() if r.endpoint.startswith(("monit", "health."))]
    assert {rule.rule for rule in rules} >= {*SHOWN[:-1], *HEALTH}
    for rule in rules:
        path = rule.rule.replace("<path:filename>", "index.html")
        assert ask(debug, path, "HEAD").status_code == 200
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            assert ask(debug, path, method).status_code == 405


@pytest.mark.parametrize("path", SHOWN)
def test_each_answer_stays_out_of_caches_and_frames(
    guarded: Flask, debug: Flask, path: str
) -> None:
    for one in (guarded, debug):
        headers = ask(one, path).headers
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
        parts = headers["Content-Security-Policy"].split(";")
        policy = dict(part.strip().split(" ", 1) for part in parts)
        assert set(policy.values()) <= {"'none'", "'self'"}
        for part in ("default-src", "frame-ancestors", "base-uri", "form-action"):
            assert policy[part] == "'none'"


def test_the_page_needs_nothing_but_its_own_files(debug: Flask) -> None:
    """No other host, and nothing inline: the policy would refuse both."""
    for path in Path(views.__file__).with_name("static").rglob("*"):
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search("https?://", text), path
    page = ask(debug, "/cache/").text
    assert not re.search(r"(?i)<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+\s*=", page)
    for reference in re.findall(r'(?i)(?:src|href)="([^"#]+)"', page):
        assert ask(debug, urljoin("/cache/", reference)).status_code == 200, reference


# What it shows.


def test_the_page_is_html(debug: Flask) -> None:
    response = ask(debug, "/cache/")
    assert response.mimetype == "text/html"
    assert "<title>" in response.text


def test_the_metrics_are_in_the_format_of_prometheus(debug: Flask) -> None:
    events.lookup("scraped", "hit")
    response = ask(debug, "/metrics")
    assert response.mimetype == "text/plain"
    families = {family.name: family for family in text_string_to_metric_families(response.text)}
    labels = [sample.labels for sample in families["cache_gets"].samples]
    assert {"cache": "scraped", "result": "hit"} in labels


def test_a_scraper_that_asks_for_openmetrics_gets_it(debug: Flask) -> None:
    accept = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"}
    response = ask(debug, "/metrics", headers=accept)
    assert response.mimetype == "application/openmetrics-text"
    assert response.text.endswith("# EOF\n")


def test_the_numbers_are_json(debug: Flask) -> None:
    events.lookup("shown", "hit", 0.25)
    numbers = ask(debug, "/cache/stats").json
    assert numbers is not None
    assert numbers["app"] == debug.name
    assert "shown" in [one["name"] for one in numbers["caches"]]


@pytest.mark.parametrize("path", SHOWN)
def test_it_is_shown_while_the_backend_fails(debug: Flask, path: str) -> None:
    with faulty(debug, TimeoutError("silent")):
        for _ in range(2):
            assert ask(debug, path).status_code == 200


def test_it_is_shown_for_a_backend_of_flask_caching(settings: dict[str, Any]) -> None:
    app = create_app(settings | {"DEBUG": True, "CACHE_TYPE": "SimpleCache"})
    for path in (*SHOWN, *HEALTH):
        assert ask(app, path).status_code == 200


# Health.


def test_healthz_touches_nothing(app: Flask) -> None:
    with faulty(app, TimeoutError("silent")) as backend:
        response = ask(app, "/healthz")
        assert (response.status_code, response.json) == (200, {"status": "ok"})
        assert backend.asked == 0


def test_readyz_says_whether_the_cache_answers_and_is_no_error_if_not(app: Flask) -> None:
    assert ask(app, "/readyz").json == {"status": "ok", "cache": "ok"}
    with faulty(app, ConnectionError("refused")) as backend:
        response = ask(app, "/readyz")
        assert response.status_code == 200
        assert response.json == {"status": "degraded", "cache": "unavailable"}
        assert backend.asked == 1
    assert ask(app, "/readyz").json == {"status": "ok", "cache": "ok"}


def test_readyz_does_not_wait_for_a_backend_that_is_left_alone(app: Flask) -> None:
    with faulty(app, TimeoutError("silent")) as backend:
        with app.app_context():
            app_cache.get("k")
        for _ in range(3):
            response = ask(app, "/readyz")
            assert response.status_code == 200
            assert response.json == {"status": "degraded", "cache": "unavailable"}
        assert backend.asked == 1
