"""Keys that never collide: everything that tells two values apart goes in, a hash comes out."""

import functools
import inspect
import io
import pickle
from collections.abc import Callable, Iterable
from typing import Any

from flask_caching.utils import get_function_parameters

Hash = Callable[[bytes], Any]


def name_of(function: Callable[..., Any]) -> str:
    """Return the dotted name of a function or class, or of the one behind a partial or object."""
    while isinstance(function, functools.partial):
        function = function.func
    if not hasattr(function, "__qualname__"):
        function = type(function)
    return f"{function.__module__}.{function.__qualname__}"


def names(given: Iterable[str]) -> tuple[str, ...]:
    """Return names as a tuple; a string, such as the ("posts") of a forgotten comma, is one."""
    return (given,) if isinstance(given, str) else tuple(given)


def hashed(kind: str, parts: tuple[Any, ...], hash_method: Hash) -> str:
    """Return the key of `kind` for `parts`, nested tuples of str, bytes, int, bool and None.

    `ascii` writes such a tuple so that it can be read back only one way: equal text, equal parts.
    """
    return f"{kind}:{hash_method(ascii(parts).encode()).hexdigest()}"


class _Pickler(pickle.Pickler):
    def persistent_id(self, value: Any) -> Any:
        """Return what replaces `value` in the pickle, None to pickle it as usual.

        That is its `__caching_id__()` if its class has one, and a set's members in one order.
        """
        if type(value) in (set, frozenset):
            return type(value), sorted(map(pickled, value))
        own = getattr(type(value), "__caching_id__", None)
        return None if own is None else (name_of(type(value)), str(own(value)))


def pickled(value: Any) -> bytes:
    """Return a pickle of `value` that depends on its contents alone.

    Without the memo of an ordinary pickle, in which equal strings differ from one string twice.
    Raises what pickle raises, and ValueError for a value that contains itself.
    """
    buffer = io.BytesIO()
    pickler = _Pickler(buffer, pickle.HIGHEST_PROTOCOL)
    pickler.fast = True
    pickler.dump(value)
    return buffer.getvalue()


class Signature:
    """Makes bytes of the arguments of a function's calls."""

    def __init__(self, function: Callable[..., Any], ignore: frozenset[str] = frozenset()) -> None:
        self._function = function
        self._ignore = ignore

    @functools.cached_property
    def _signature(self) -> inspect.Signature:
        # Which knows how to read annotations that name what is only there for type checkers.
        return inspect.Signature(get_function_parameters(self._function))

    @functools.cached_property
    def _rest(self) -> list[str]:
        return [p.name for p in self._signature.parameters.values() if p.kind is p.VAR_KEYWORD]

    @functools.cached_property
    def is_method(self) -> bool:
        """Whether its first parameter is called `self` or `cls`."""
        return next(iter(self._signature.parameters), "") in {"self", "cls"} - self._ignore

    def arguments(self, args: Any, kwargs: Any) -> bytes:
        """Return the arguments of a call: alike however they are passed, defaults included.

        By their pickle and not their `repr`: two objects may share a repr, or change it at each
        start. Raises TypeError for a call that does not fit and arguments that cannot be pickled.
        """
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        values = bound.arguments
        for name in self._rest:
            values |= {f"**{key}": value for key, value in sorted(values.pop(name).items())}
        for name in self._ignore:
            values.pop(name, values.pop(f"**{name}", None))
        return self.pickled(dict(values))

    def pickled(self, value: Any) -> bytes:
        """Return a pickle of `value`; TypeError, with the function's name, if there can be none."""
        try:
            return pickled(value)
        except Exception as error:
            raise TypeError(
                f"{name_of(self._function)} cannot be cached for these arguments, because one of "
                f"them cannot be pickled to tell calls apart: {error}. Pass plain values, such as "
                "an object's id, or give its class a method __caching_id__ that returns one."
            ) from error
