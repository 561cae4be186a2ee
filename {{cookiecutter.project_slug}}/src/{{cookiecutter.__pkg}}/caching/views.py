"""Where a decorated function stands: directly under a route, below other decorators, or neither."""

import functools
from collections.abc import Callable, Iterator
from types import FunctionType, MethodType
from typing import Any

import flask.views
from flask.sansio.scaffold import Scaffold
from flask.views import MethodView, View
from werkzeug.local import LocalProxy

#: So many objects are looked at, at most: what a view holds may be anything.
MOST = 500


def place(view: Any, function: Callable[..., Any], method: str) -> str:
    """Return "direct" or "below" if the view function of a route runs `function`, else "".

    Directly under the route Flask is given the function's own answer. In doubt it is "below".
    """
    *_, inmost = _chain(function)
    if isinstance(inmost, MethodType):  # put on for this request, as Flask-RESTful does
        kinds = (getattr(one, "view_class", None) for one in _reached(view))
        return "below" if any(kind and isinstance(inmost.__self__, kind) for kind in kinds) else ""
    return _place(view, function, method)


@functools.lru_cache(maxsize=1024)
def _place(view: Any, function: Any, method: str) -> str:
    kind = getattr(view, "view_class", None)
    # The function that `as_view` makes, with no decorator around it.
    if kind and view.__code__.co_filename == flask.views.__file__:
        names = (method.lower(), "get") if method == "HEAD" else (method.lower(),)
        handler = next((getattr(kind, n) for n in names if hasattr(kind, n)), None)
        if kind.dispatch_request is MethodView.dispatch_request and handler is function:
            return "direct"
        if kind.dispatch_request is function:
            return "direct"
    return "below" if any(one is function for one in _reached(view)) else ""


def _chain(function: Any) -> Iterator[Any]:
    """Yield a function and those that it wraps, by `functools.wraps`."""
    while function is not None:
        yield function
        function = getattr(function, "__wrapped__", None)


def _reached(view: Any) -> Iterator[Any]:
    """Yield what a view function may call: what it wraps, holds in closures, partials, attributes.

    What the functions that are decorated here call themselves is theirs. Types are asked by `type`,
    because a proxy would have its object made.
    """
    seen, left = set[int](), [view]
    while left and len(seen) < MOST:
        one = left.pop()
        if id(one) not in seen:
            seen.add(id(one))
            yield one
            left += _held(one, type(one))


def _held(one: Any, kind: type) -> list[Any]:
    if issubclass(kind, FunctionType):
        if hasattr(one, "make_cache_key"):
            return [*_chain(one)]
        held = [vars(one), one.__defaults__, one.__kwdefaults__]
        for cell in one.__closure__ or ():
            try:
                held.append(cell.cell_contents)
            except ValueError:  # it is empty
                continue
        return held
    if issubclass(kind, functools.partial):
        return [one.func, *one.args, *one.keywords.values()]
    if issubclass(kind, MethodType):
        return [one.__func__, *getattr(one.__self__, "__dict__", {}).values()]
    if issubclass(kind, type) and issubclass(one, View):
        names = ("dispatch_request", *map(str.lower, one.methods or ()))
        return [getattr(one, name, None) for name in names]
    if issubclass(kind, (list, tuple, set, frozenset)):
        return [*one]
    if issubclass(kind, dict):
        return [*one.values()]
    if "__call__" in dir(kind) and not issubclass(kind, (type, Scaffold, LocalProxy)):
        return [*getattr(one, "__dict__", {}).values()]
    return []
