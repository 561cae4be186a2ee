"""Keys that never collide: everything that tells two values apart goes in, a hash comes out."""

import functools
import hashlib
import io
import pickle
from collections.abc import Callable, Iterable
from typing import Any


class UnpicklableError(TypeError):
    """A value that cannot be pickled, so that keys could not tell it from others."""


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


def hashed(kind: str, parts: tuple[Any, ...], hash_method: Any = None) -> str:
    """Return the key of `kind` for `parts`, nested tuples of str, bytes, int, bool and None.

    `ascii` writes such a tuple so that it can be read back only one way: equal text, equal parts.
    """
    return f"{kind}:{(hash_method or hashlib.blake2s)(ascii(parts).encode()).hexdigest()}"


@functools.lru_cache(maxsize=1024)
def tag_key(tag: str) -> str:
    """Return the key of a tag's token, which no key of an app's own can be."""
    return hashed("tag", (tag,))


class _Pickler(pickle.Pickler):
    def persistent_id(self, value: Any) -> Any:
        """Return a substitute for `value` in the pickle, None to pickle it as usual.

        It is the `__caching_id__()` if the class has one, and the members of a set in one order.
        """
        if type(value) in (set, frozenset):
            return type(value), sorted(map(pickled, value))
        own = getattr(type(value), "__caching_id__", None)
        return None if own is None else (name_of(type(value)), str(own(value)))


def pickled(value: Any, name: str = "") -> bytes:
    """Return a pickle of `value` that depends on its contents alone.

    Without the memo of an ordinary pickle, in which equal strings differ from one string twice.
    Raises UnpicklableError for a value that cannot be pickled or contains itself; `name` is that of
    the function it is an argument of.
    """
    buffer = io.BytesIO()
    pickler = _Pickler(buffer, pickle.HIGHEST_PROTOCOL)
    pickler.fast = True
    try:
        pickler.dump(value)
    except Exception as error:
        raise UnpicklableError(
            f"{name} cannot be cached for these arguments, because one of them cannot be pickled "
            f"to tell calls apart: {error}. Pass plain values, such as an object's id, or give its "
            "class a method __caching_id__ that returns one."
        ) from error
    return buffer.getvalue()
