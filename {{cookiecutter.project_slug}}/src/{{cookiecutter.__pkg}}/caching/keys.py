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
    """Return the key of `kind` for `parts`, nested tuples of str, bytes, int, bool and None."""
    # Such a tuple can be read back from its `ascii` only one way: equal text, equal parts.
    return f"{kind}:{(hash_method or hashlib.blake2s)(ascii(parts).encode()).hexdigest()}"


@functools.lru_cache(maxsize=1024)
def tag_key(tag: str) -> str:
    """Return the key of a tag's token, which no key of an app's own can be."""
    return hashed("tag", (tag,))


class _Pickler(pickle.Pickler):
    def persistent_id(self, value: Any) -> Any:
        """Return a set's members in one order, or a `__caching_id__()`; None for all else."""
        if type(value) in (set, frozenset):
            return type(value), sorted(map(pickled, value))
        own = getattr(type(value), "__caching_id__", None)
        return None if own is None else (name_of(type(value)), str(own(value)))


def pickled(value: Any, name: str = "") -> bytes:
    """Return a pickle of `value` that depends on its contents alone.

    Raises UnpicklableError for a value that cannot be pickled or contains itself; `name` is that of
    the function it is an argument of.
    """
    pickler = _Pickler(buffer := io.BytesIO(), pickle.HIGHEST_PROTOCOL)
    pickler.fast = True  # no memo, by which one string twice differs from two equal strings
    try:
        pickler.dump(value)
    except Exception as error:
        raise UnpicklableError(
            f"{name} cannot be cached for these arguments, one of which cannot be pickled: {error}."
            " Pass plain values, such as an object's id, or give its class a method __caching_id__."
        ) from error
    return buffer.getvalue()
