"""Monitoring over HTTP, which changes nothing: metrics, the live page, its numbers, health."""

import hmac

from flask import Blueprint, Response, abort, current_app, request
from flask.typing import ResponseReturnValue
from prometheus_client.exposition import choose_encoder

from ..caching import cache
from . import report
from .metrics import registry

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
CHALLENGE = {"WWW-Authenticate": 'Basic realm="monitoring", charset="UTF-8"'}  # RFC 7617

bp = Blueprint("monitoring", __name__, static_folder="static", static_url_path="/cache/static")
health = Blueprint("health", __name__)


@bp.before_request
def require_password() -> ResponseReturnValue | None:
    """Ask for MONITORING_PASSWORD by HTTP Basic, with any user name, except in debug mode.

    Answers 401 without the right password. Raises 404 if none is set.
    """
    password = current_app.config["MONITORING_PASSWORD"]
    given = request.authorization and request.authorization.password
    if not password and not current_app.debug:
        abort(404)
    # In constant time, so that the time tells nothing about the password.
    if current_app.debug or hmac.compare_digest((given or "").encode(), password.encode()):
        return None
    return "The password is MONITORING_PASSWORD, with any user name.\n", 401, CHALLENGE


@bp.after_request
@health.after_request
def set_headers(response: Response) -> Response:
    """Keep answers out of caches and frames, and other content out of the page."""
    response.headers.update(HEADERS)
    return response


@bp.get("/metrics")
def metrics() -> ResponseReturnValue:
    """Show the metrics of all worker processes, in the format that the scraper asks for."""
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return encode(registry), {"Content-Type": content_type}


bp.add_url_rule("/cache/", "page", lambda: bp.send_static_file("index.html"))
bp.add_url_rule("/cache/stats", "stats", report.read)


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
        backend.get("readyz")
        answers = not backend.is_open
    return {"status": "ok" if answers else "degraded", "cache": "ok" if answers else "unavailable"}
