"""The parts of a watched request: each notes by name what is read from it.

A name is the key of a header in a WSGI environ, REMOTE_ADDR for the client's address, wsgi.input
for the body, "session", "changed session", "cookie NAME", or "*" for all headers; while a block is
spied on also "g" for what hooks left, "g.NAME" for a user in `g`, and "request.NAME".
"""

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from flask import g, globals
from werkzeug.datastructures import EnvironHeaders, ImmutableMultiDict
from werkzeug.local import LocalProxy
from werkzeug.routing import MapAdapter
from werkzeug.sansio.request import Request
from werkzeug.test import create_environ
from werkzeug.utils import cached_property

# Flask 3.2 has one context, which 3.1 calls `request_ctx` during a request. They hold the session,
# which counts as read if one asks Flask's `session` for it.
_context: Any = vars(globals).get("request_ctx", globals.app_ctx)
current_context: Callable[[], Any] = _context._get_current_object

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
#: Names in `g` that say who the visitor is, or the language: of Flask's tutorial and patterns,
#: Flask-Login, Flask-WTF, Flask-HTTPAuth, Flask-JWT-Extended, Flask-Principal and Flask-Babel.
USER_NAMES = (
    *("user", "user_id", "current_user", "_login_user", "csrf_token", "csrf_valid"),
    *("flask_httpauth_user", "_jwt_extended_jwt", "_jwt_extended_jwt_user", "identity"),
    *("lang_code", "_flask_babel"),
)


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
    watches = tuple(request.watches.values())
    if all(name in reads for reads, _ in watches):
        return
    depth = _logging_depth(sys._getframe(1))
    if depth < 0:
        return
    for reads, began in watches:
        if depth <= _logging_depth(began):
            reads.add(name)
    if depth > _logging_depth(watches[0][1]) and name not in _LOGGED:
        known = attributes(g) if g and not request.logged else {}
        request.known |= {n: it for n, it in known.items() if type(it) in _PLAIN}
        request.logged.add(name)


def _logging_depth(frame: Any) -> int:
    """Return how many frames of `logging` a frame is in; -1 in code that reads for nothing."""
    depth = 0
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if (module, frame.f_code.co_name) in _FREE_CODE:
            return -1
        depth += module.partition(".")[0] == "logging"
        frame = frame.f_back
    return depth


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


# An object that is spied on -> [by how many blocks, the request, what hooks left there]
_SPIED = WeakKeyDictionary[Any, list[Any]]()
# Attributes of a request that tell nothing of it, or whose parts are noted.
_OWN = {"headers", "shallow", "_address", "watches", "logged", "known", "details", "making"}
# Modules that read these attributes for others.
_INNER = ("flask.ctx", "flask.wrappers", "werkzeug.utils", "werkzeug.wrappers", "werkzeug.sansio")
_OURS = {f"{__package__}.{module}" for module in ("pages", "rules", "watch")}
_PARTS = {"__dict__", "environ", "url_rule", "json_module"}


@contextmanager
def spying(context: Any) -> Iterator[None]:
    """Note what the block reads of `g` and the request's own attributes, and the host of URLs."""
    request, here = context.request, g._get_current_object()
    spied = [it for it in (request, here, context.url_adapter) if it is not None]
    for it in spied:
        if it not in _SPIED:
            kind = it.__class__
            _SPIED[it] = [0, request, {*vars(it)} - (_fresh(kind) if it is request else set())]
            # Not by `it.__class__ =`, which would be one more value in `g`.
            object.__setattr__(it, "__class__", _spy(kind))
        _SPIED[it][0] += 1
    try:
        yield
    finally:
        for it in spied:
            _SPIED[it][0] -= 1
            if not _SPIED[it][0]:  # blocks of async functions may end in any order
                object.__setattr__(it, "__class__", type(it).__base__)
                del _SPIED[it]


@functools.cache
def _spy(kind: Any) -> Any:
    """Return a subclass of `kind` that notes what is read from its objects."""

    def tell(self: Any, name: str) -> None:
        _, request, left = _SPIED[self]
        if name in left or (name == "__dict__" and left):
            note(request, "g")
        if self is request:
            made = isinstance(getattr(kind, name, None), cached_property)
            if name not in _OWN and (made or name in {"__dict__", *attributes(self)}):
                note(request, f"request.{name}")
        elif name == "__dict__" or name in request.users:
            note(request, f"g.{name}")

    def __getattribute__(self: Any, name: str) -> Any:
        module = sys._getframe(1).f_globals.get("__name__", "")
        inner = module.startswith(_INNER) and name in _PARTS
        if (name == "__dict__" or name[:2] != "__") and not inner and module not in _OURS:
            tell(self, name)
        return kind.__getattribute__(self, name)

    def __setattr__(self: Any, name: str, value: Any) -> None:
        _SPIED[self][2].discard(name)
        kind.__setattr__(self, name, value)

    def telling(method: str) -> Any:
        def reading(self: Any, *args: Any) -> Any:
            tell(self, args[0] if args else "__dict__")
            return getattr(kind, method)(self, *args)

        return reading

    def build(self: Any, *args: Any, **kwargs: Any) -> str:
        url: str = kind.build(self, *args, **kwargs)
        if self.script_name != "/" or not url.startswith("/") or url.startswith("//"):
            note(_SPIED[self][1], "request.host")
        return url

    if issubclass(kind, MapAdapter):
        return type(kind.__name__, (kind,), {"build": build})
    own: dict[str, Any] = {"__getattribute__": __getattribute__, "__setattr__": __setattr__}
    if not issubclass(kind, Request):
        names = ("__delattr__", "__contains__", "__iter__", "get", "pop", "setdefault")
        own |= {name: telling(name) for name in names}
    return type(kind.__name__, (kind,), own)


def attributes(it: Any) -> dict[str, Any]:
    """Return an object's attributes, or those of the current `g`, unnoticed."""
    it = it._get_current_object() if type(it) is LocalProxy else it
    return object.__getattribute__(it, "__dict__")  # type: ignore[no-any-return]


@functools.cache
def _fresh(request_class: Any) -> set[str]:
    """Return the names of the attributes that a request has before any hook runs."""
    routed = {"view_args", "url_rule", "routing_exception", "json_module"}
    return {*vars(request_class(create_environ())), *routed, "making", "details"}


def uncached(base: type[Request]) -> dict[str, property]:
    """Return those of Werkzeug's properties that `base` has and that read a header, each time.

    Werkzeug's keep what they found, so that a read for a log, which is free, would hide others.
    """
    cached = {n: p for n, p in vars(Request).items() if isinstance(p, cached_property)}
    own = {n: p for n, p in cached.items() if getattr(base, n) is p and n not in _IN_KEY}
    return {name: property(it.fget) for name, it in own.items()}


_IN_KEY = {"args", "full_path", "url", "base_url", "root_url", "host_url", "host", "cookies"}
