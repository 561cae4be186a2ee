"""What is shown over HTTP, which changes nothing: metrics, the live page, its numbers, health."""

import hmac
from typing import Any

from flask import Blueprint, Response, abort, current_app, request
from flask.typing import ResponseReturnValue
from prometheus_client.exposition import choose_encoder

from ..caching import cache
from . import report
from .metrics import registry

#: Everything on the page is from here: no other host, no inline script, no frame around it.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

bp = Blueprint("monitoring", __name__, static_folder="static", static_url_path="/cache/static")
health = Blueprint("health", __name__)


@bp.before_request
def require_password() -> ResponseReturnValue | None:
    """Let in whoever has MONITORING_PASSWORD, by HTTP Basic, or anybody in debug.

    401 for a wrong one; 404 if there is none, as long as the app is not in debug any more.
    """
    password = current_app.config["MONITORING_PASSWORD"]
    if current_app.debug:
        return None
    if not password:
        abort(404)
    given = request.authorization
    said = given.password if given is not None and given.type == "basic" else None
    # In constant time, so that a guess is not told how much of it is right.
    if said is not None and hmac.compare_digest(said.encode(), password.encode()):
        return None
    challenge = {"WWW-Authenticate": 'Basic realm="monitoring", charset="UTF-8"'}  # RFC 7617
    return "The password is in MONITORING_PASSWORD; any user name will do.\n", 401, challenge


@bp.after_request
@health.after_request
def keep_to_itself(response: Response) -> Response:
    """Keep what is shown out of caches and frames, and other content out of the page."""
    response.headers["Cache-Control"] = "no-store"
    response.headers["Content-Security-Policy"] = POLICY
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["X-Content-Type-Options"] = "nosniff"
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
    """Show the numbers of the live page."""
    return report.read()


@health.get("/healthz")
def healthz() -> dict[str, str]:
    """Say that the process answers; touches nothing."""
    return {"status": "ok"}


@health.get("/readyz")
def readyz() -> dict[str, str]:
    """Say whether the cache answers, too. 200 also if it does not: the app still serves."""
    backend = current_app.extensions["cache"][cache]
    if hasattr(backend, "ping"):
        answers = backend.ping() is not None
    else:  # one of Flask-Caching's: when asking it fails three times, the breaker tells
        backend.has("readyz")
        answers = not backend.is_open
    return {"status": "ok" if answers else "degraded", "cache": "ok" if answers else "out of reach"}
