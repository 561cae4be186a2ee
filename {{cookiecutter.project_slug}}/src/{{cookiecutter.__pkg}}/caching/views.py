"""Where a decorated function stands: directly under a route, below other decorators, or neither."""

import functools
import gc
import inspect
from collections.abc import Callable, Iterator
from types import CellType, FunctionType, MethodType
from typing import Any

import flask.views
from flask.sansio.scaffold import Scaffold
from flask.views import MethodView, View
from werkzeug.local import LocalProxy

MOST = 500  #: So many objects are looked at, at most: what a view holds may be anything.


def place(view: Any, function: Callable[..., Any], method: str) -> str:
    """Return "direct" or "below" if the view function of a route runs `function`, else "".

    Directly under the route Flask is given the function's own answer. In doubt it is "below".
    """
    inmost = inspect.unwrap(function)
    if isinstance(inmost, MethodType):  # put on for this request, as Flask-RESTful does
        kinds = (getattr(one, "view_class", None) for one in _reached(view))
        return "below" if any(kind and isinstance(inmost.__self__, kind) for kind in kinds) else ""
    return (_place if callable(type(view).__hash__) else _place.__wrapped__)(view, function, method)


@functools.lru_cache(maxsize=1024)
def _place(view: Any, function: Any, method: str) -> str:
    kind = getattr(view, "view_class", None)
    # The function that `as_view` makes, with no decorator around it.
    if kind and getattr(view, "__code__", view).co_filename == flask.views.__file__:
        dispatch: Any = kind.dispatch_request
        if dispatch is MethodView.dispatch_request:
            get = getattr(kind, "get", None) if method == "HEAD" else None
            dispatch = getattr(kind, method.lower(), get)
        if dispatch is function:
            return "direct"
    return "below" if any(one is function for one in _reached(view)) else ""


def _reached(view: Any) -> Iterator[Any]:
    """Yield what a view function may call: what it wraps, holds in closures, partials, attributes.

    Types are asked by `type`, because a proxy would have its object made.
    """
    seen, left = set[int](), [view]
    while left and len(seen) < MOST:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        kind = type(one)
        if kind is FunctionType and hasattr(one, "make_cache_key"):
            left.append(getattr(one, "__wrapped__", None))
        elif kind is FunctionType:
            held = gc.get_referents(*(one.__closure__ or ()))
            left += [it for it in held if not _is_neighbour(one, it)]
            left += vars(one), one.__defaults__, one.__kwdefaults__
        elif issubclass(kind, type):
            left += gc.get_referents(one) if issubclass(one, View) else ()
        elif issubclass(kind, _HOLDERS) or any("__call__" in vars(base) for base in kind.__mro__):
            left += () if issubclass(kind, (Scaffold, LocalProxy)) else gc.get_referents(one)


def _is_neighbour(function: Any, other: Any) -> bool:
    """Tell whether two functions were written side by side: one calls the other as a helper."""
    if type(other) is not FunctionType or function.__globals__["__name__"] != other.__module__:
        return False
    places = (function.__code__.co_qualname, other.__qualname__)
    return len({place.rpartition(".")[0] for place in places}) == 1


_HOLDERS = (CellType, MethodType, functools.partial, list, tuple, set, frozenset, dict)
