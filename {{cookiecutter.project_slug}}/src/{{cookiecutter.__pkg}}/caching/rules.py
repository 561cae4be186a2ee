"""The rules for pages: what they may depend on, and which of them may be kept.

A page is watched while it is made. Anything of the request that it reads is part of its key, or was
absent and is noted with the page, or the page is not kept.
"""

import pickle
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from flask import Flask, Response, after_this_request, g
from flask.sessions import SecureCookieSessionInterface
from werkzeug.http import parse_cookie, parse_date, parse_list_header

from . import advice, visitor, watch

Names = tuple[str, ...]


@dataclass(slots=True)
class Visit:
    """A request on its way to a page."""

    context: Any
    before: set[str]  #: Names of what was read before.
    direct: bool  #: The page is directly under the route: no decorator sees what the view returned.
    args: Any
    kwargs: Any
    covered: frozenset[str] = frozenset()  #: Of what was read and is in the key.
    loose: frozenset[str] = frozenset()  #: Of what functions read that are not in it.
    owner: Any = None
    hides: bool = False  #: The page may take nothing that hooks left.
    absent: Names = ()  #: Names of what was read and was not there.
    detail: str = ""  #: Why the page is not kept, in full.
    present: str = ""  #: The name of what keeps the page out, if other requests may lack it.

    @contextmanager
    def aside(self, in_key: bool = True) -> Iterator[None]:
        """Let the page read again what the block reads; not `in_key`, it may not even use it."""
        with watch.reading(self.context, aside=True) as reads:
            yield
        if in_key:
            self.covered |= reads
        else:
            self.loose |= reads


def compute(page: Any, asked: Visit) -> tuple[Any, Any, str | None, float]:
    """Call a page's view; return its answer, what is stored or why not, and its freshness."""
    context, before, free = asked.context, asked.before, visitor.FREE
    app, request = context.app, context.request
    later = len(context._after_request_functions)
    making = vars(request).setdefault("_making", set())
    making.add(page)
    try:
        for name in asked.loose:
            if not _found(context, name)[1]:
                before = before | {name}  # absent: does no harm
        asked.hides = not (asked.loose <= before and free.isdisjoint(before))
        with watch.computing(context, asked.hides) as reads:
            value = app.ensure_sync(page.function)(*asked.args, **asked.kwargs)
            response = value = app.make_response(value) if asked.direct else value
    except Exception:
        status = ("Cache-Status", f'{app.name}; fwd=miss; detail="error"')
        after_this_request(lambda response: response.headers.add(*status) or response)
        raise
    finally:
        making.discard(page)
    if not isinstance(value, Response):
        response = judged(app, value)
    # A log may have left in `g` what it made of them, as a new value or in an object.
    for name, it in [*watch.attributes(g).items()] if request._logged else ():
        reads |= request._logged if request._known.get(name, g) is not it else set()
    read, asked.absent = verdict(asked, reads | (before - free), page.vary_keys)
    refusal, fresh = refused(response, page.vary_names, asked.owner)
    asked.present = "" if refusal else asked.present  # nobody's page may be kept
    refusal = "head" if request.method == "HEAD" else refusal or read
    if not refusal and len(context._after_request_functions) > later:
        refusal = "after_this_request"  # a hit would not run these functions
    if not refusal and page.response_filter and not page.response_filter(response):
        refusal = "response_filter"
    stored, refusal = (None, refusal) if refusal else kept(asked, value, page.vary_names)
    asked.detail = refusal or ""
    return value, stored, refusal and advice.label(refusal), fresh


def verdict(asked: Visit, reads: set[str], vary: Names) -> tuple[str | None, Names]:
    """Return why a page that reads `reads` must not be kept, or None, and those that are absent.

    The headers of `vary` are in the key, and for a page with an owner all that is private.
    """
    context, absent, known = asked.context, set(), asked.covered | {"HTTP_HOST", *vary}
    for name in sorted(reads - known):
        # In the key, or noted in detail; and hooks may not have made it of what they read.
        if name.startswith(("request.", "g.")) or (name == "g" and not asked.hides):
            continue
        if name.startswith("cookie ") and "HTTP_COOKIE" in known:
            continue
        personal = name in visitor.PERSONAL | context.request._private or name.startswith("cookie ")
        if asked.owner is not None and personal:
            continue
        found, there = _found(context, name)
        if not there:
            absent |= {found} - {""}
            continue
        asked.present = found if found.startswith(("HTTP_", "cookie ")) else ""
        kind, header = name.partition(" ")[0], name.removeprefix("HTTP_").replace("_", "-").lower()
        if kind in advice.ADVICE:
            return advice.ADVICE[kind], ()
        what = "give private_key" if personal else "add it to vary"
        return f"reads {re.sub('[^a-z0-9-]', '?', header)}: {what}", ()
    return None, tuple(sorted(absent))


def _found(context: Any, name: str) -> tuple[str, bool]:
    """Return the name to note if a request lacks `name` ("" for none), and whether it has it."""
    environ, interface = context.request.environ, context.app.session_interface
    if name == "session":
        # Other sessions may come from anywhere.
        if type(interface) is not SecureCookieSessionInterface or context._session.modified:
            return name, True
        cookie = interface.get_cookie_name(context.app)
        return f"cookie {cookie}", cookie in parse_cookie(environ.get("HTTP_COOKIE"))
    if name.startswith("cookie "):
        return name, name[7:] in parse_cookie(environ.get("HTTP_COOKIE"))
    if name == "wsgi.input":  # a request that tells of a body goes past; HTTP/2 need not tell
        told = "HTTP/1" in environ.get("SERVER_PROTOCOL", "HTTP/1")
        return "", not told and bool(environ.get("wsgi.input_terminated"))
    return name, name in environ or name in ("*", "g", "changed session")


def lacks(environ: dict[str, Any], absent: Names) -> bool:
    """Tell whether a request lacks all that was absent when a page was made."""
    cookies = parse_cookie(environ.get("HTTP_COOKIE"))
    present = environ.keys() | {f"cookie {name}" for name in cookies}
    return present.isdisjoint(absent)


def judged(app: Flask, value: Any) -> Response:
    """Return an empty response with the status and headers of what a view returned."""
    body, *rest = value if isinstance(value, tuple) and value else (value,)
    like = body if isinstance(body, Response) else app.response_class()
    response = app.response_class(status=like.status, headers=like.headers)
    try:
        return app.make_response((response, *rest)) if rest else response
    except (TypeError, ValueError):  # it is for a decorator, which knows better
        return app.response_class(status=501)


def refused(response: Response, vary: Names, owner: Any) -> tuple[str | None, float]:
    """Return why `response` must not be stored or None (after RFC 9111, section 3).

    And for how many seconds it is fresh by its own headers. Each line of a header counts.
    """
    fresh, headers = float("inf"), response.headers
    if response.status_code != 200:
        return f"status {response.status_code}", fresh
    if not response.is_sequence and (response.is_streamed or response.direct_passthrough):
        return "streamed", fresh
    if "Set-Cookie" in headers:
        return "set-cookie", fresh
    for directive in parse_list_header(", ".join(headers.getlist("Cache-Control"))):
        name, _, value = re.sub(r"\s", "", directive.lower()).partition("=")
        if name in ("no-store", "no-cache") or (name == "private" and owner is None):
            return name, fresh
        if name in ("max-age", "s-maxage"):
            value = value.strip('"')
            if not (value.isascii() and value.isdigit() and value.strip("0")):
                return f"{name}=0", fresh
            fresh = min(fresh, int(value[-10:]) if len(value) <= 10 else 2**31)
    if "no-cache" in ",".join(headers.getlist("Pragma")).lower():
        return "no-cache", fresh
    for line in headers.getlist("Expires"):
        date = parse_date(line)
        left = (date - datetime.now(UTC)).total_seconds() if date else 0
        if left <= 0:
            return "expired", fresh
        fresh = min(fresh, left)
    named = {*parse_list_header(", ".join(headers.getlist("Vary")).lower())}
    owned = {"cookie", "authorization"} if owner is not None else set()
    return "vary" if named - {*vary, *owned} else None, fresh


def kept(asked: Visit, value: Any, vary: Names) -> tuple[Any, str | None]:
    """Return what is stored of a page, and the reason if nothing is.

    It is the body, the status, the headers and the absent names; status 0 for other values.
    """
    absent, limit = asked.absent, asked.context.app.config["CACHE_MAX_PAGE_BYTES"]
    if isinstance(value, Response):
        body = value.get_data()
        if len(body) > limit:
            return None, "too large"
        if asked.direct:
            value.add_etag()
            finish(value, vary, absent, asked.owner)
        value.headers.pop("Age", None)  # of another cache: its own age begins now
        headers = Response.get_wsgi_headers(value, asked.context.request.environ)
        return (body, value.status_code, tuple(headers), absent), None
    if hasattr(value[0] if isinstance(value, tuple) and value else value, "__next__"):
        return None, "streamed"
    advice.warn_of_session(asked.context.request.endpoint, value)
    try:
        size = len(pickle.dumps(value))
    except Exception:
        return None, "cannot be pickled"
    return (None, "too large") if size > limit else ((value, 0, (), absent), None)


def finish(response: Response, vary: Names, absent: Names, owner: Any) -> None:
    """Complete the headers of a page: Vary, and Cache-Control for a page that has an owner."""
    cookie = ("Cookie",) if "cookie " in ",".join(absent) else ()
    if vary or cookie:
        response.vary.update((*vary, *cookie))
    said = ", ".join(response.headers.getlist("Cache-Control")).lower()
    if owner is not None and not any(w in said for w in ("public", "private", "no-store")):
        response.headers.add("Cache-Control", "private")
