"""The parts of a watched request: each notes by name what is read from it.

A name is the key of a header in a WSGI environ, REMOTE_ADDR for the client's address, wsgi.input
for the body, "session", "changed session", "g", "cookie NAME", or "*" for all headers.
"""

import functools
import sys
from typing import Any
from weakref import WeakKeyDictionary

from flask import g
from werkzeug.datastructures import EnvironHeaders, ImmutableMultiDict
from werkzeug.sansio.request import Request
from werkzeug.test import create_environ
from werkzeug.utils import cached_property

_PRIVATE = """
X-API-Key API-Key ApiKey X-Auth-Token X-Access-Token X-Session-Token X-User-Token  # by custom
Private-Token X-Goog-Api-Key X-RapidAPI-Key X-Amz-Security-Token  # GitLab, Google, RapidAPI, AWS
Ocp-Apim-Subscription-Key X-Functions-Key Proxy-Authorization  # Azure; RFC 9110
X-Remote-User X-User X-User-ID X-Email X-WebAuth-User X-Vouch-User  # nginx by custom; Grafana
Client-Cert X-Forwarded-Client-Cert X-Forwarded-Tls-Client-Cert  # RFC 9440, Envoy, Traefik
SSL-Client-Cert SSL-Client-Subject-DN X-SSL-Client-Cert X-SSL-Client-S-DN  # ingress-nginx, HAProxy
X-Forwarded-User X-Forwarded-Email X-Forwarded-Preferred-Username X-Forwarded-Groups
X-Forwarded-Access-Token X-Auth-Request-User X-Auth-Request-Email X-Auth-Request-Groups
X-Auth-Request-Preferred-Username X-Auth-Request-Access-Token  # oauth2-proxy, header options
Cf-Access-Jwt-Assertion Cf-Access-Authenticated-User-Email Cf-Access-Token
Cf-Access-Client-Id Cf-Access-Client-Secret  # Cloudflare Access, authorization cookie
X-Amzn-Oidc-Accesstoken X-Amzn-Oidc-Identity X-Amzn-Oidc-Data  # AWS ALB, user claims
X-Goog-Authenticated-User-Email X-Goog-Authenticated-User-ID X-Goog-IAP-JWT-Assertion  # Google IAP
X-MS-Client-Principal X-MS-Client-Principal-ID X-MS-Client-Principal-Name X-MS-Client-Principal-IDP
X-MS-Token-AAD-ID-Token X-MS-Token-AAD-Access-Token  # Azure App Service, user identities
Tailscale-User-Login Tailscale-User-Name Tailscale-User-Profile-Pic  # Tailscale, serve
Remote-User Remote-Email Remote-Name Remote-Groups  # Authelia, trusted header SSO
X-Authentik-Username X-Authentik-Email X-Authentik-JWT X-Pomerium-JWT-Assertion  # and Pomerium
"""
#: Headers that say who the visitor is. Requests with one of them go past the cache.
PRIVATE_HEADERS = tuple(" ".join(line.partition("#")[0] for line in _PRIVATE.splitlines()).split())


def environ_key(header: str) -> str:
    """Return the key of a header in a WSGI environ (PEP 3333)."""
    key = header.upper().replace("-", "_")
    return key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"


_FREE = """User-Agent Accept-Encoding X-Forwarded-For X-Forwarded-Proto X-Real-IP X-Request-ID
X-Correlation-ID Traceparent Tracestate Baggage Sentry-Trace X-Amzn-Trace-Id X-Cloud-Trace-Context
X-B3-TraceId X-B3-SpanId X-B3-ParentSpanId X-B3-Sampled X-B3-Flags"""
#: A hook may read these for a log or a limit, as long as the page takes nothing that hooks left.
FREE = {"REMOTE_ADDR", *map(environ_key, _FREE.split())}
_PLAIN = {int, str, float, bool, bytes, type(None)}  # nothing can be left in them
_LOGGED = FREE | {"*", "HTTP_COOKIE"}  # logs write them down, and make nothing else of them
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
        if (module, frame.f_code.co_name) in _FREE_CODE:
            return
        if module.partition(".")[0] == "logging":
            if name not in _LOGGED:
                there = {**vars(g), **(request.hidden or ({}, {}))[1]} if g else {}
                known = {} if request.logged else there
                request.known |= {n: it for n, it in known.items() if type(it) in _PLAIN}
                request.logged.add(name)
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


def _noting(method: str, name: str) -> Any:
    def reading(self: Cookies, *args: Any, **kwargs: Any) -> Any:
        note(self.request, name % (*args, *kwargs.values())[:1] if "%" in name else name)
        return getattr(super(Cookies, self), method)(*args, **kwargs)

    return reading


for _names, _name in (
    ("__getitem__ __contains__ get getlist", "cookie %s"),
    ("__iter__ __len__ __eq__ __or__ __repr__ __reduce_ex__ __copy__ keys values", "HTTP_COOKIE"),
    ("items lists listvalues to_dict copy deepcopy", "HTTP_COOKIE"),
):
    for _method in _names.split():
        setattr(Cookies, _method, _noting(_method, _name))


# `g` -> the request whose hooks left in it what is hidden; it need not be the current one.
_HIDERS = WeakKeyDictionary[Any, Any]()


def hide(request: Any) -> None:
    """Hide what hooks left in `g` and on the request, until it is read or `show` is called."""
    here: Any = g._get_current_object()
    attributes = vars(request)
    left = {name: attributes.pop(name) for name in attributes.keys() - _fresh(request.__class__)}
    request.hidden = left, vars(here).copy(), here, here.__class__
    vars(here).clear()
    _HIDERS[here] = request
    # Not by `here.__class__ =`, which would be one more value in `g`.
    object.__setattr__(here, "__class__", _hiding(here.__class__))


def show(request: Any) -> None:
    """Give back what is hidden; what was set meanwhile stays."""
    if request.hidden:
        left, values, here, kind = request.hidden
        request.hidden = None
        object.__setattr__(here, "__class__", kind)
        vars(request).update({**left, **vars(request)})
        vars(here).update({**values, **vars(here)})


@functools.cache
def _hiding(base: Any) -> Any:
    """Return the class of a `g` that shows its hidden values when one of them is read."""

    def showing(method: str) -> Any:
        def reading(self: Any, *args: Any) -> Any:
            if not args or args[0] in _HIDERS[self].hidden[1]:
                note(_HIDERS[self], "g")
                show(_HIDERS[self])
            return getattr(base, method)(self, *args)

        return reading

    names = ("__getattr__", "__delattr__", "__contains__", "__iter__", "get", "pop", "setdefault")
    return type(base.__name__, (base,), {name: showing(name) for name in names})


@functools.cache
def _fresh(request_class: Any) -> set[str]:
    """Return the names of the attributes that a request has before any hook runs."""
    routed = {"view_args", "url_rule", "routing_exception", "json_module"}
    return {*vars(request_class(create_environ())), *routed, "hidden", "pages_being_made"}


def uncached(base: type[Request]) -> dict[str, property]:
    """Return those of Werkzeug's properties that `base` has and that read a header, each time.

    Werkzeug's keep what they found, so that a read for a log, which is free, would hide others.
    """
    cached = {n: p for n, p in vars(Request).items() if isinstance(p, cached_property)}
    own = {n: p for n, p in cached.items() if getattr(base, n) is p and n not in _IN_KEY}
    return {name: property(it.fget) for name, it in own.items()}


_IN_KEY = {"args", "full_path", "url", "base_url", "root_url", "host_url", "host", "cookies"}
