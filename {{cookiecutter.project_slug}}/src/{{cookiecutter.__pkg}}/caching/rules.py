"""The rules for pages: what they may depend on, and which of them may be kept.

A page is watched while it is made. Anything of the request that it reads is part of its key, or was
absent and is noted with the page, or the page is not kept. A name of something that was read is the
key of a header in a WSGI environ, REMOTE_ADDR for the client's address, wsgi.input for the body,
"session", "changed session", "g", "cookie NAME", or "*" for all headers.
"""

import functools
import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from flask import Flask, Response, g, globals, has_request_context, request
from flask.sessions import SecureCookieSessionInterface
from werkzeug.datastructures import EnvironHeaders, ImmutableMultiDict
from werkzeug.http import parse_cookie, parse_date, parse_list_header
from werkzeug.test import create_environ
from werkzeug.utils import cached_property

# Flask 3.2 has one context, which 3.1 calls `request_ctx` during a request. They hold the session,
# which counts as read if one asks Flask's `session` for it.
_context: Any = vars(globals).get("request_ctx", globals.app_ctx)
current_context: Callable[[], Any] = _context._get_current_object

#: Headers that say who the visitor is. Requests with one of them go past the cache.
PRIVATE_HEADERS = (
    # API keys, as OpenAPI's own example, Azure, Google, GitLab, RapidAPI and many others name them
    *("X-API-Key", "Api-Key", "ApiKey", "X-Auth-Token", "X-Access-Token", "X-Session-Token"),
    *("Ocp-Apim-Subscription-Key", "X-Functions-Key", "X-Goog-Api-Key", "Private-Token"),
    *("X-RapidAPI-Key", "X-User-Token", "X-Amz-Security-Token", "Proxy-Authorization"),
    # nginx, Traefik and Apache in front of an app, by custom; Grafana's auth proxy
    *("X-Remote-User", "X-User", "X-User-ID", "X-Email", "X-WebAuth-User", "X-Vouch-User"),
    # Client certificates: RFC 9440; Envoy; ingress-nginx; Traefik
    *("Client-Cert", "X-Forwarded-Client-Cert", "SSL-Client-Cert", "SSL-Client-Subject-DN"),
    *("X-SSL-Client-Cert", "X-SSL-Client-S-DN", "X-Forwarded-Tls-Client-Cert"),
    # https://oauth2-proxy.github.io/oauth2-proxy/configuration/overview#header-options
    *("X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Preferred-Username"),
    *("X-Forwarded-Groups", "X-Forwarded-Access-Token", "X-Auth-Request-User"),
    *("X-Auth-Request-Email", "X-Auth-Request-Preferred-Username", "X-Auth-Request-Groups"),
    "X-Auth-Request-Access-Token",
    # https://developers.cloudflare.com/cloudflare-one/identity/authorization-cookie/
    *("Cf-Access-Jwt-Assertion", "Cf-Access-Authenticated-User-Email"),
    *("Cf-Access-Client-Id", "Cf-Access-Client-Secret", "Cf-Access-Token"),
    # https://docs.aws.amazon.com/elasticloadbalancing/latest/application/listener-authenticate-users.html
    *("X-Amzn-Oidc-Accesstoken", "X-Amzn-Oidc-Identity", "X-Amzn-Oidc-Data"),
    # https://cloud.google.com/iap/docs/identity-howto
    *("X-Goog-Authenticated-User-Email", "X-Goog-Authenticated-User-Id"),
    "X-Goog-Iap-Jwt-Assertion",
    # https://learn.microsoft.com/azure/app-service/configure-authentication-user-identities
    *("X-MS-Client-Principal", "X-MS-Client-Principal-Id", "X-MS-Client-Principal-Name"),
    *("X-MS-Client-Principal-Idp", "X-MS-Token-AAD-Id-Token", "X-MS-Token-AAD-Access-Token"),
    # https://tailscale.com/kb/1312/serve#identity-headers
    *("Tailscale-User-Login", "Tailscale-User-Name", "Tailscale-User-Profile-Pic"),
    # https://www.authelia.com/integration/trusted-header-sso/introduction/; authentik; Pomerium
    *("Remote-User", "Remote-Email", "Remote-Name", "Remote-Groups"),
    *("X-Authentik-Username", "X-Authentik-Email", "X-Authentik-Jwt"),
    "X-Pomerium-Jwt-Assertion",
)


def environ_key(header: str) -> str:
    """Return the key of a header in a WSGI environ (PEP 3333)."""
    key = header.upper().replace("-", "_")
    return key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"


#: A hook may read these for a log or a limit, as long as the page takes nothing that hooks left.
FREE = {"REMOTE_ADDR"} | {
    environ_key(header)
    for header in (
        *("User-Agent", "Accept-Encoding", "X-Forwarded-For", "X-Forwarded-Proto", "X-Real-IP"),
        *("X-Request-ID", "X-Correlation-ID", "Traceparent", "Tracestate", "Baggage"),
        *("Sentry-Trace", "X-Amzn-Trace-Id", "X-Cloud-Trace-Context", "X-B3-TraceId"),
        *("X-B3-SpanId", "X-B3-ParentSpanId", "X-B3-Sampled", "X-B3-Flags"),
    )
}
# Code that reads more than it uses. Flask-Login (0.6) makes this identifier for every visitor, and
# looks at it only if the session holds something, which is a read of its own.
_FREE_CODE = {("flask_login.utils", "_create_identifier")}


def note(request: Any, name: str) -> None:
    """Note that `name` was read, unless to format a log record or by code that does not use it."""
    if name in request.reads:
        return
    frame: Any = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.partition(".")[0] == "logging" or (module, frame.f_code.co_name) in _FREE_CODE:
            return
        frame = frame.f_back
    request.reads.add(name)


class Environ(tuple[dict[str, Any], Any]):
    """A WSGI environ as `Headers` needs it, and the request, which notes what is read from it."""

    def __getitem__(self, key: Any) -> Any:
        """Return one header."""
        environ, request = self
        note(request, key)
        return environ[key]

    def items(self) -> Any:
        """Return all headers, and more."""
        environ, request = self
        note(request, "*")
        return environ.items()


class Headers(EnvironHeaders):
    """The headers of a watched request."""

    def getlist(self, key: str, type: Any = None) -> Any:
        """Return the header as a list, without a look at the others."""
        value = self.get(key, type=type)
        return [] if value is None else [value]

    get_all = getlist  # type: ignore[assignment]


class Cookies(ImmutableMultiDict[str, str]):
    """The cookies of a watched request; each of them is noted by name, or all at once."""

    request: Any = None

    def __getitem__(self, key: str) -> Any:
        """Return one cookie."""
        note(self.request, f"cookie {key}")
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        """Tell whether a cookie is there."""
        note(self.request, f"cookie {key}")
        return super().__contains__(key)

    def getlist(self, key: str, type: Any = None) -> Any:
        """Return all values of one cookie."""
        note(self.request, f"cookie {key}")
        return super().getlist(key, type)


def _noting_all(method: str) -> Any:
    def reading(self: Cookies, *args: Any, **kwargs: Any) -> Any:
        note(self.request, "HTTP_COOKIE")
        return getattr(super(Cookies, self), method)(*args, **kwargs)

    return reading


for _method in (
    *("__iter__", "__len__", "__eq__", "__or__", "__repr__", "__reduce_ex__", "__copy__"),
    *("keys", "values", "items", "lists", "listvalues", "to_dict", "copy", "deepcopy"),
):
    setattr(Cookies, _method, _noting_all(_method))


class Globals:
    """Flask's `g`, from which values that hooks left can be hidden; `app_ctx_globals_class`."""

    def _restore(self, name: str | None = None) -> None:
        hidden = getattr(request, "hidden", None) if has_request_context() else None
        if hidden and (name is None or name in hidden[0]):
            restore(request._get_current_object())  # type: ignore[attr-defined]


def restore(request: Any) -> None:
    """Give back what was hidden, because the page takes some of it."""
    note(request, "g")
    show(request)


def _restoring(method: str, base: type) -> Any:
    def reading(self: Any, *args: Any) -> Any:
        self._restore(*args[:1])
        return getattr(base, method)(self, *args)

    return reading


@functools.cache
def globals_class(base: Any) -> Any:
    """Return a subclass of an `app_ctx_globals_class` that tells when a hidden value is read."""
    if issubclass(base, Globals):
        return base
    methods = ("__getattr__", "__delattr__", "__contains__", "__iter__", "get", "pop", "setdefault")
    return type(base.__name__, (Globals, base), {m: _restoring(m, base) for m in methods})


@contextmanager
def apart(context: Any) -> Iterator[set[str]]:
    """Note what the block reads in a set of its own."""
    request, session = context.request, context._session
    before, request.reads = request.reads, set()
    accessed, session.accessed = session.accessed, False
    try:
        yield request.reads
    finally:
        if session.accessed:
            request.reads.add("session")
        session.accessed |= accessed
        request.reads = before


@contextmanager
def aside(context: Any, covered: set[str], sessions: bool) -> Iterator[None]:
    """Add what the block reads to `covered`; the session and cookies only with `sessions`."""
    if not hasattr(context.request, "reads"):  # of another class, which is not watched
        yield
        return
    with apart(context) as reads:
        yield
    personal = () if sessions else {"session", *(r for r in reads if "cookie" in r.lower())}
    covered.update(reads.difference(personal))


def label(reason: str) -> str:
    """Return a reason as metrics tell it, without the names of headers."""
    kinds = ("reads", "changes session", "request_class")
    return next((kind for kind in kinds if reason.startswith(kind)), reason)


@contextmanager
def computing(context: Any, hide: bool = False) -> Iterator[set[str]]:
    """Note what the block reads, even if it was read before.

    With `hide` also whether it takes a value that hooks left in `g` or on the request.
    """
    request, values, globals_ = context.request, vars(context.request), vars(g)
    for name in [*values]:
        if name in _CACHES or isinstance(getattr(type(request), name, None), cached_property):
            del values[name]
    if hide and not request.hidden:
        own: Any = _fresh(request.__class__)
        left = {name: it for name, it in values.items() if name not in own}
        for name in left:
            del values[name]
        values["hidden"] = globals_.copy(), left
        globals_.clear()
    with apart(context) as reads:
        try:
            yield reads
        finally:
            if reads is request.reads and request.hidden:
                show(request)
            if context._session.accessed and context._session.modified:
                reads.add("changed session")
    request.reads |= reads


# What a request keeps of its headers and body beside the cached properties.
_CACHES = {"_parsed_content_type", "_cached_data", "_cached_json"}


@functools.cache
def _fresh(request_class: Any) -> set[str]:
    """Return the names of the attributes that a request has before any hook runs."""
    routed = {"view_args", "url_rule", "routing_exception", "json_module"}
    return {*vars(request_class(create_environ())), *routed, "hidden", "pages_being_made"}


def show(request: Any) -> None:
    """Give back what was hidden; what was set meanwhile stays."""
    hidden, request.hidden = request.hidden, None
    for values, left in zip((vars(g), vars(request)), hidden, strict=True):
        values.update({name: value for name, value in left.items() if name not in values})


def verdict(
    context: Any, reads: set[str], covered: set[str], owner: Any
) -> tuple[str | None, tuple[str, ...]]:
    """Return why a page that reads `reads` must not be kept, or None, and those that are absent.

    `covered` are in the key. With an `owner` so are the session, cookies and private headers.
    """
    absent = set()
    for name in sorted(reads - covered - {"HTTP_HOST"}):
        private = _PERSONAL | context.request.private
        personal = name in private or name.startswith("cookie ")
        if owner is not None and personal:
            continue
        lacking = _lacking(context, name)
        if lacking is None:
            kind = name.partition(" ")[0]
            header = name.removeprefix("HTTP_").replace("_", "-").lower()
            if kind in _ADVICE:
                return _ADVICE[kind], ()
            advice = "give private_key" if personal else "add it to vary"
            known = header.isascii() and header.replace("-", "").isalnum()
            return f"reads {header if known else 'headers'}: {advice}", ()
        absent |= {lacking} - {""}
    return None, tuple(sorted(absent))


_PERSONAL = {"session", "HTTP_COOKIE", "HTTP_AUTHORIZATION", "REMOTE_USER"}
_ADVICE = {
    "session": "reads session: give private_key",
    "cookie": "reads cookie: give private_key",
    "HTTP_COOKIE": "reads cookie: give private_key",
    "changed": "changes session",
    "REMOTE_ADDR": "reads address: give make_cache_key",
    "wsgi.input": "reads body",
    "*": "reads headers: name those that matter, and add them to vary",
    "g": "reads g: a hook read the address or the like, and left something that the page takes",
}


_ALWAYS = {"*", "g", "changed session"}  # there, if they were read


def _lacking(context: Any, name: str) -> str | None:
    """Return the name of something that the request lacks, None if it has it.

    "" if no other request needs to be asked for it.
    """
    environ, interface = context.request.environ, context.app.session_interface
    if name == "session":
        # Other sessions may come from anywhere.
        if type(interface) is not SecureCookieSessionInterface or context._session.modified:
            return None
        name = f"cookie {interface.get_cookie_name(context.app)}"
    if name.startswith("cookie "):
        return None if name[7:] in parse_cookie(environ.get("HTTP_COOKIE")) else name
    if name == "wsgi.input":  # a request that tells of a body goes past; HTTP/2 need not tell
        told = "HTTP/1" in environ.get("SERVER_PROTOCOL", "HTTP/1")
        return "" if told or not environ.get("wsgi.input_terminated") else None
    return None if name in environ or name in _ALWAYS else name


def lacks(environ: dict[str, Any], absent: tuple[str, ...]) -> bool:
    """Tell whether a request lacks all that was absent when a page was made."""
    header = environ.get("HTTP_COOKIE")
    if not environ.keys().isdisjoint(absent):
        return False
    return not header or {f"cookie {name}" for name in parse_cookie(header)}.isdisjoint(absent)


def judged(app: Flask, value: Any) -> Response:
    """Return an empty response with the status and headers of what a view returned.

    Raises what Flask raises for a tuple that is none.
    """
    body, *rest = value if isinstance(value, tuple) else (value,)
    response = app.response_class()
    if isinstance(body, Response):
        response = app.response_class(status=body.status, headers=body.headers)
    return app.make_response((response, *rest)) if rest else response


def refusal(response: Response, vary: tuple[str, ...], owner: Any) -> tuple[str | None, float]:
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
        name, _, value = directive.lower().partition("=")
        if name in ("no-store", "no-cache") or (name == "private" and owner is None):
            return name, fresh
        if name in ("max-age", "s-maxage"):
            value = value.strip('" ')
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
    named = {name.lower() for name in parse_list_header(", ".join(headers.getlist("Vary")))}
    if named - set(vary) - ({"cookie", "authorization"} if owner is not None else set()):
        return "vary", fresh
    return None, fresh


def page(asked: Any, value: Any, vary: tuple[str, ...]) -> tuple[Any, str | None]:
    """Return what is stored of a page, and the reason if nothing is.

    It is the body, the status, the headers and the names of what was absent. A value that is no
    response has the status 0 and no headers.
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
        return (body, value.status_code, tuple(value.headers), absent), None
    if hasattr(value[0] if isinstance(value, tuple) and value else value, "__next__"):
        return None, "streamed"
    try:
        size = len(pickle.dumps(value))
    except Exception:
        return None, "cannot be pickled"
    return (None, "too large") if size > limit else ((value, 0, (), absent), None)


def finish(response: Response, vary: tuple[str, ...], absent: tuple[str, ...], owner: Any) -> None:
    """Complete the headers of a page: Vary, and Cache-Control for a page that has an owner."""
    cookie = ("Cookie",) if any(name.startswith("cookie ") for name in absent) else ()
    if vary or cookie:
        response.vary.update((*vary, *cookie))
    said = ", ".join(response.headers.getlist("Cache-Control")).lower()
    if owner is not None and not any(w in said for w in ("public", "private", "no-store")):
        response.headers.add("Cache-Control", "private")
