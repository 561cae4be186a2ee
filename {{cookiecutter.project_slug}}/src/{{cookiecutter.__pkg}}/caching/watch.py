"""The parts of a watched request: each notes by name what is read from it.

A name is the key of a header in a WSGI environ, REMOTE_ADDR for the client's address, wsgi.input
for the body, "session", "changed session", "cookie NAME", or "*" for all headers; after `spy`
also "g" for what hooks left, "g.NAME" for a user in `g`, and "request.NAME".
"""

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from inspect import getattr_static
from typing import Any

from flask import Request as FlaskRequest
from flask import g, globals
from werkzeug.datastructures import EnvironHeaders, ImmutableMultiDict
from werkzeug.local import LocalProxy
from werkzeug.routing import MapAdapter
from werkzeug.sansio.request import Request
from werkzeug.test import create_environ
from werkzeug.utils import cached_property, environ_property

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


class Reads(set[str]):
    """Names of what a block reads of `request`; it began inside `depth` frames of `logging`."""

    depth, request = 0, None


#: The open blocks of this context, of which a request is the first. A task beside it has others.
opened: ContextVar[tuple[Reads, ...]] = ContextVar("opened", default=())


@contextmanager
def reading(context: Any, aside: bool = False) -> Iterator[Reads]:
    """Note what the block reads in a set of its own; `aside` only there, not as the page's."""
    request, reads = context.request, Reads()
    outer = () if aside else _blocks(request)
    reads.request = request
    reads.depth = 0 if aside else _logging_depth(sys._getframe(1))
    _spy_on(context)
    request._watches[id(reads)] = reads
    token = opened.set((*outer, reads))
    try:
        yield reads
    finally:
        del request._watches[id(reads)]
        with suppress(ValueError):  # a task that was thrown away ends in another context
            opened.reset(token)


def _blocks(request: Any) -> tuple[Reads, ...]:
    """Return the blocks that read now: those of this context; all of them in a new thread's."""
    known, ours = tuple(request._watches.values()), opened.get()
    return tuple(it for it in known if any(it is own for own in ours)) or known


def note(request: Any, name: str) -> None:
    """Note that `name` was read, unless to format a log record or by code that does not use it."""
    blocks = _blocks(request)
    if all(name in reads for reads in blocks):
        return
    depth = _logging_depth(sys._getframe(1))
    if depth < 0:
        return
    for reads in blocks:
        if depth <= reads.depth:
            reads.add(name)
    if depth > blocks[0].depth and name not in _LOGGED:
        known = [*attributes(g).items()] if g and not request._logged else ()
        request._known |= {n: it for n, it in known if type(it) in _PLAIN}
        request._logged.add(name)


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


# Attributes of a request that tell nothing of it, or whose parts are noted.
_OWN = {
    *("headers", "_headers", "shallow", "_address", "_making"),
    *("_watches", "_logged", "_known", "_left", "_details"),
}
# Those that no hook has left there.
_FRESH = _OWN | {*vars(FlaskRequest(create_environ())), "routing_exception", "json_module"}
# Modules that read these attributes for others.
_INNER = ("flask.ctx", "flask.wrappers", "werkzeug.utils", "werkzeug.wrappers", "werkzeug.sansio")
_OURS = {f"{__package__}.{module}" for module in ("advice", "pages", "rules", "watch")}
_PARTS = {"__dict__", "environ", "url_rule", "json_module"}


def spy(context: Any) -> None:
    """From now on note reads of `g` and of the request's own attributes, and of the host of URLs.

    "g" is what is there already: hooks left it.
    """
    request, here = context.request, g._get_current_object()
    request._left |= {(id(here), name) for name in [*getattr(here, "__dict__", ())]}
    request._left |= {(id(request), name) for name in {*vars(request)} - _FRESH}
    _spy_on(request, here, context.url_adapter)


def _spy_on(*spied: Any) -> None:
    """Let objects note what is read from them, to the end of the request: threads may share it."""
    for it in spied:
        if it is not None and not hasattr(type(it), "is_spy"):
            # Not by `it.__class__ =`, which would be one more value in `g`.
            object.__setattr__(it, "__class__", _spy(type(it)))  # type: ignore[arg-type]


@functools.lru_cache(maxsize=32)
def _spy(kind: Any) -> Any:
    """Return a subclass of `kind` that notes what is read from its objects."""

    def tell(self: Any, name: str) -> None:
        for request in (self,) if issubclass(kind, Request) else _requests():
            if (id(self), name) in request._left or (name == "__dict__" and request._left):
                note(request, "g")
            if self is not request and (name == "__dict__" or name in request._users):
                note(request, f"g.{name}")
        if isinstance(self, Request):
            made = isinstance(getattr(kind, name, None), cached_property)
            if name not in _OWN and (made or name in {"__dict__", *attributes(self)}):
                note(self, f"request.{name}")

    def __getattribute__(self: Any, name: str) -> Any:
        module = sys._getframe(1).f_globals.get("__name__", "")
        inner = module.startswith(_INNER) and name in _PARTS
        if (name == "__dict__" or name[:2] != "__") and not inner and module not in _OURS:
            tell(self, name)
        return kind.__getattribute__(self, name)

    def __setattr__(self: Any, name: str, value: Any) -> None:
        for request in _requests():
            request._left.discard((id(self), name))
        kind.__setattr__(self, name, value)

    def telling(method: str) -> Any:
        def reading(self: Any, *args: Any) -> Any:
            tell(self, args[0] if args else "__dict__")
            return getattr(kind, method)(self, *args)

        return reading

    def build(self: Any, *args: Any, **kwargs: Any) -> str:
        url: str = kind.build(self, *args, **kwargs)
        if self.script_name != "/" or not url.startswith("/") or url.startswith("//"):
            for request in _requests():
                note(request, "request.host")
        return url

    def session(self: Any) -> Any:
        note(self.request, "session")
        return kind.session.fget(self)

    own: dict[str, Any] = {"is_spy": True, "__slots__": ()}
    if issubclass(kind, MapAdapter):
        own["build"] = build
    elif hasattr(kind, "match_request"):
        own["session"] = property(session)
    else:
        own |= {"__getattribute__": __getattribute__, "__setattr__": __setattr__}
        if not issubclass(kind, Request):
            names = ("__delattr__", "__contains__", "__iter__", "get", "pop", "setdefault")
            own |= {name: telling(name) for name in names}
    return type(kind.__name__, (kind,), own)


def _requests() -> set[Any]:
    """Return the requests that this context's blocks watch, else the current one."""
    current = _context.request if _context else None
    own = {reads.request for reads in opened.get()} - {None}
    return own or ({current} if hasattr(current, "_watches") else set())


def attributes(it: Any) -> dict[str, Any]:
    """Return an object's attributes, or those of the current `g`, unnoticed."""
    it = it._get_current_object() if type(it) is LocalProxy else it
    return object.__getattribute__(it, "__dict__")  # type: ignore[no-any-return]


def uncached(base: type[Request]) -> dict[str, property]:
    """Return those properties of `base` that read a header or the environ, to be noted each time.

    Werkzeug's cached ones keep what they found, so that a read for a log, which is free, would hide
    others.
    """
    cached = {n: p for n, p in vars(Request).items() if isinstance(p, cached_property)}
    own = {n: p for n, p in cached.items() if getattr(base, n) is p and n not in _IN_KEY}
    its = [(name, getattr_static(base, name)) for name in dir(base)]
    return {name: property(it.fget) for name, it in own.items()} | {
        name: _noted(base, it)
        for name, it in its
        if isinstance(it, environ_property) and not it.name.startswith(("wsgi.multi", "wsgi.run"))
    }


def _noted(base: Any, it: Any) -> property:
    def read(self: Any) -> Any:
        note(self, it.name)
        return it.__get__(self, base)

    return property(read, it.__set__, it.__delete__, it.__doc__)


_IN_KEY = {"args", "full_path", "url", "base_url", "root_url", "host_url", "host", "cookies"}
