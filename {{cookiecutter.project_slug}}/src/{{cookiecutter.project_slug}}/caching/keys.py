"""Keys that never collide: whatever tells two values apart goes in, and a hash comes out."""

import functools
import hashlib
import inspect
import io
import pickle
from collections.abc import Callable
from typing import Any

Hash = Callable[[bytes], Any]


def name_of(function: Callable[..., Any]) -> str:
    """Return the dotted name of `function`."""
    return f"{function.__module__}.{function.__qualname__}"


def hashed(kind: str, parts: tuple[Any, ...], hash_method: Hash) -> str:
    """Return the key of `kind` for `parts`, nested tuples of str, bytes, int, bool and None.

    `ascii` writes such a tuple so that it can be read back only one way: equal text, equal parts.
    """
    return f"{kind}:{hash_method(ascii(parts).encode()).hexdigest()}"


@functools.lru_cache(maxsize=1024)
def tag_key(tag: str) -> str:
    """Return the key that the token of `tag` stands under, which no key of a user's can be."""
    return hashed("tag", (tag,), hashlib.sha256)


def pickled(value: Any) -> bytes:
    """Return a pickle of `value` that depends on its contents alone.

    Without the memo of an ordinary pickle, in which equal strings differ from one string twice.
    Raises what pickle raises, and ValueError for a value that contains itself.
    """
    buffer = io.BytesIO()
    pickler = pickle.Pickler(buffer, pickle.HIGHEST_PROTOCOL)
    pickler.fast = True
    pickler.dump(value)
    return buffer.getvalue()


def arguments(function: Callable[..., Any], args: Any, kwargs: Any) -> bytes:
    """Return the arguments of a call as bytes: alike however they are passed, defaults included.

    By their pickle and not their `repr`: two objects may share a repr, or change it at each start.
    Raises TypeError if the call does not fit the signature or an argument cannot be pickled.
    """
    bound = inspect.signature(function).bind(*args, **kwargs)
    bound.apply_defaults()
    values = {
        name: sorted(value.items()) if parameter.kind is parameter.VAR_KEYWORD else value
        for (name, value), parameter in zip(
            bound.arguments.items(), bound.signature.parameters.values(), strict=True
        )
    }
    try:
        return pickled(values)
    except Exception as error:
        raise TypeError(
            f"{name_of(function)} cannot be cached for these arguments, because one of them cannot "
            f"be pickled to tell calls apart: {error}. Pass plain values, such as an object's id."
        ) from error
