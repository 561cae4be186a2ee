"""Monitoring over HTTP, which changes nothing: metrics, the live page, its numbers, health."""

import hmac
from typing import Any

from flask import Blueprint, Response, abort, current_app, request
from flask.typing import ResponseReturnValue
from prometheus_client.exposition import choose_encoder
from werkzeug.datastructures import WWWAuthenticate

from ..caching import cache
from . import report
from .metrics import registry

#: Keep answers out of caches and frames, and the content of other hosts out of the page.
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

CHALLENGE = WWWAuthenticate("basic", {"realm": "monitoring", "charset": "UTF-8"})  # RFC 7617

bp = Blueprint("monitoring", __name__, static_folder="static", static_url_path="/cache/static")
health = Blueprint("health", __name__)


@bp.before_request
def require_password() -> None:
    """Ask for MONITORING_PASSWORD by HTTP Basic, with any user name, except in debug mode.

    Raises 401 without the right password, and 404 if none is set.
    """
    password = current_app.config["MONITORING_PASSWORD"]
    given = request.authorization and request.authorization.password
    if current_app.debug:
        return
    if not password:
        abort(404)
    # In constant time, so that the time tells nothing about the password.
    if not hmac.compare_digest((given or "").encode(), password.encode()):
        abort(401, "The password is MONITORING_PASSWORD.", www_authenticate=CHALLENGE)


@bp.after_request
@health.after_request
def set_headers(response: Response) -> Response:
    """Add HEADERS."""
    response.headers.update(HEADERS)
    return response


@bp.get("/metrics")
def metrics() -> ResponseReturnValue:
    """Show the metrics of all worker processes, in the format that the scraper asks for."""
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return encode(registry()), {"Content-Type": content_type}


@bp.get("/cache/")
def page() -> Response:
    """Show the live page."""
    return bp.send_static_file("index.html")


@bp.get("/cache/stats")
def numbers() -> dict[str, Any]:
    """Show the numbers of the live page as JSON."""
    return report.read()


@health.get("/healthz")
def healthz() -> dict[str, str]:
    """Say that the process answers, without using the cache."""
    return {"status": "ok"}


@health.get("/readyz")
def readyz() -> dict[str, str]:
    """Say whether the backend answers. 200 also if not: the app serves without it."""
    backend = current_app.extensions["cache"][cache]
    if hasattr(backend, "ping"):
        answers = backend.ping() is not None
    else:  # one of Flask-Caching's: if it fails three times the breaker opens
        backend.has("readyz")
        answers = not backend.is_open
    return {"status": "ok" if answers else "degraded", "cache": "ok" if answers else "unavailable"}
