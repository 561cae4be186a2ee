"""Notes by name what a block of code reads from the request.

A name is the key of a header in a WSGI environ, REMOTE_ADDR for the client's address, wsgi.input
for the body, "session", "changed session", "cookie NAME", or "*" for all headers; after `spy`
also "g" for what hooks left, "g.NAME" for a user in `g`, and "request.NAME".
"""

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from flask import Request as FlaskRequest
from flask import g, globals, has_request_context
from flask.sessions import SecureCookieSession
from werkzeug.local import LocalProxy
from werkzeug.routing import MapAdapter
from werkzeug.sansio.request import Request
from werkzeug.test import create_environ
from werkzeug.utils import cached_property

from . import visitor

# Flask 3.2 has one context, which 3.1 calls `request_ctx` during a request. They hold the session,
# which counts as read if one asks Flask's `session` for it.
_context: Any = vars(globals).get("request_ctx", globals.app_ctx)
current_context: Callable[[], Any] = _context._get_current_object

_PLAIN = {int, str, float, bool, bytes, type(None)}  # nothing can be left in them
_LOGGED = visitor.FREE | {"*", "HTTP_COOKIE"}  # logs write them down, and make nothing else of them
# Code that reads more than it uses. Flask-Login (0.6) makes this identifier for every visitor, and
# looks at it only if the session holds something, which is a read of its own.
_FREE_CODE = {("flask_login.utils", "_create_identifier")}


@dataclass(eq=False, slots=True)
class Block:
    """A block that is watched; it began inside `depth` frames of `logging`."""

    request: Any = None
    depth: int = 0
    reads: set[str] = field(default_factory=set)  #: Names of what it reads of the request.


UNREAD = Block()  #: That of a request which is not watched.
#: The open blocks of this context, the request itself first. A task beside it has others, and a new
#: thread has none: all count there.
opened: ContextVar[tuple[Block, ...]] = ContextVar("opened", default=())


@contextmanager
def reading(context: Any, aside: bool = False) -> Iterator[set[str]]:
    """Note what the block reads in a set of its own; `aside` only there, not as the page's."""
    request = context.request
    block = Block(request, 0 if aside else _logging_depth(sys._getframe(1)))
    object.__setattr__(context, "__class__", _spy(type(context)))  # type: ignore[arg-type]
    outer = opened.get()
    if aside or request._blocks.isdisjoint(outer):
        outer = (Block(), *(() if aside else request._blocks))
    token = opened.set((*outer, block))
    request._blocks.add(block)
    try:
        yield block.reads
    finally:
        request._blocks.discard(block)
        with suppress(ValueError):  # a task that was thrown away ends in another context
            opened.reset(token)


@contextmanager
def watching() -> Iterator[set[str]]:
    """Note what the block, which is no page, reads of the request, if there is one."""
    context = current_context() if has_request_context() else None
    if context is None or not hasattr(context.request, "_blocks"):
        yield set() if context is None else {"request.request_class"}
        return
    spy(context)
    with reading(context) as reads:
        yield reads


@contextmanager
def computing(context: Any, hide: bool = False) -> Iterator[set[str]]:
    """Note what the block reads, even if it was read before.

    With `hide` also whether it takes a value that hooks left in `g` or on the request.
    """
    request = context.request
    for name in [*vars(request)]:
        kind = type(getattr(type(request), name, None))
        if name in _CACHES or issubclass(kind, cached_property):
            del vars(request)[name]
    session = context._session
    modified = session.modified
    if isinstance(session, SecureCookieSession):  # others may not notice each change
        session.modified = False
    if hide:
        spy(context)
    with reading(context) as reads:
        try:
            yield reads
        finally:
            if "session" in reads and session.modified:
                reads.add("changed session")
            session.modified |= modified


def note(request: Any, name: str) -> None:
    """Note that `name` was read, unless to format a log record or by code that does not use it."""
    if request is None:  # it has ended
        return
    blocks = request._blocks.intersection(opened.get()) or request._blocks.copy()
    if all(name in block.reads for block in blocks):
        return
    depth = _logging_depth(sys._getframe(1))
    for block in blocks:
        if 0 <= depth <= block.depth:
            block.reads.add(name)
    if depth > 0 and name not in _LOGGED:
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


# What a request keeps of its headers and body beside the cached properties.
_CACHES = {"_parsed_content_type", "_cached_data", "_cached_json"}
# Attributes of a request that tell nothing of it, or whose parts are noted.
_OWN = {
    *("headers", "_headers", "shallow", "_address", "_making"),
    *("_read", "_blocks", "_logged", "_known", "_left", "_details"),
}
# Those that no hook has left there.
_FRESH = _OWN | {*vars(FlaskRequest(create_environ())), "routing_exception", "json_module"}
# Modules that read these attributes for others.
_INNER = ("flask.ctx", "flask.wrappers", "werkzeug.utils", "werkzeug.wrappers", "werkzeug.sansio")
_OURS = {f"{__package__}.{module}" for module in ("advice", "pages", "rules", "watch")}
_PARTS = {"__dict__", "environ", "url_rule", "json_module"}


def spy(context: Any) -> None:
    """From now on note reads of `g` and of the request's own attributes, and of the host of URLs.

    Values that are there already are noted as "g": a hook left them.
    """
    request, here = context.request, g._get_current_object()
    request._left |= {(id(here), name) for name in [*getattr(here, "__dict__", ())]}
    request._left |= {(id(request), name) for name in {*vars(request)} - _FRESH}
    for it in (request, here, *([context.url_adapter] if context.url_adapter else ())):
        # Not by `it.__class__ =`, which would be one more value in `g`.
        object.__setattr__(it, "__class__", _spy(type(it)))  # type: ignore[arg-type]


@functools.lru_cache(maxsize=32)
def _spy(kind: Any) -> Any:
    """Return a subclass of `kind` that notes what is read from its objects, to their end.

    Not only while a block is open, because threads may share a request.
    """
    if hasattr(kind, "is_spy"):
        return kind

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
            for method in ("__delattr__", "__contains__", "__iter__", "get", "pop", "setdefault"):
                own[method] = telling(method)
    return type(kind.__name__, (kind,), own)


def _requests() -> set[Any]:
    """Return the requests that this context's blocks watch, else the current one."""
    current = _context.request if _context else None
    own = {block.request for block in opened.get()} - {None}
    return own or ({current} if hasattr(current, "_blocks") else set())


def attributes(it: Any) -> dict[str, Any]:
    """Return an object's attributes, or those of the current `g`, unnoticed."""
    it = it._get_current_object() if type(it) is LocalProxy else it
    return object.__getattribute__(it, "__dict__")  # type: ignore[no-any-return]
