"""The parts of a watched request: each notes what is read from it, by the names of `watch.py`."""

from inspect import getattr_static
from typing import Any
from weakref import ref

from flask import Request
from werkzeug.datastructures import EnvironHeaders, ImmutableMultiDict
from werkzeug.sansio.request import Request as SansioRequest
from werkzeug.utils import cached_property, environ_property

from . import watch


class Environ(tuple[dict[str, Any], Any]):
    """A WSGI environ as `Headers` needs it, and a weak reference to the request that notes reads.

    Weak, so that a request is gone at its end, without the garbage collector.
    """

    def __getitem__(self, key: Any) -> Any:
        """Return one header."""
        environ, request = self
        watch.note(request(), key)
        return environ[key]

    def items(self) -> Any:
        """Return all headers, and more."""
        environ, request = self
        watch.note(request(), "*")
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


def _noting(method: str) -> Any:
    def reading(self: Cookies, *args: Any, **kwargs: Any) -> Any:
        first = (*args, *kwargs.values())[:1] if method in _ONE else ()
        watch.note(self.request, f"cookie {first[0]}" if first else "HTTP_COOKIE")
        return getattr(super(Cookies, self), method)(*args, **kwargs)

    return reading


_ONE = ("__getitem__", "__contains__", "get", "getlist")
_ALL = """__iter__ __len__ __eq__ __or__ __repr__ __reduce_ex__ __copy__ keys values items lists
listvalues to_dict copy deepcopy"""
for _method in (*_ONE, *_ALL.split()):
    setattr(Cookies, _method, _noting(_method))


def _watch(request: Any, headers: Any) -> None:
    request._headers = headers
    if type(headers) is EnvironHeaders:
        request._headers.environ = Environ((headers.environ, ref(request)))
        request._headers.__class__ = Headers


def uncached(base: type[Request]) -> dict[str, property]:
    """Return those properties of `base` that read a header, the environ or the body, to be noted.

    Werkzeug's cached ones keep what they found, so that a read for a log, which is free, would hide
    others.
    """
    own = {"stream": _noted(base, "stream", "wsgi.input")}
    if base.__init__ is not Request.__init__:  # it may read headers, or make others
        own["headers"] = property(lambda self: self._headers, _watch)
    if getattr_static(base, "remote_addr", None) is not getattr_static(
        Request, "remote_addr", None
    ):
        own["remote_addr"] = _noted(base, "remote_addr", "REMOTE_ADDR")
    for name in dir(base):
        it: Any = getattr_static(base, name)
        is_cached = isinstance(it, cached_property) and vars(SansioRequest).get(name) is it
        if is_cached and name not in _IN_KEY:
            own[name] = property(it.fget)
        if isinstance(it, environ_property) and not it.name.startswith(("wsgi.m", "wsgi.r")):
            own[name] = _noted(base, name, it.name)
    return own


def _noted(base: Any, name: str, key: str) -> property:
    its: Any = getattr_static(base, name)

    def read(self: Any) -> Any:
        watch.note(self, key)
        return its.__get__(self, base)

    return property(read, *(getattr(its, name, None) for name in ("__set__", "__delete__")))


_IN_KEY = {"args", "full_path", "url", "base_url", "root_url", "host_url", "host", "cookies"}
