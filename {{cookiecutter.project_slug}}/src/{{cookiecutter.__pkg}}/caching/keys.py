"""Keys that never collide: everything that tells two values apart goes in, a hash comes out."""

import functools
import hashlib
import inspect
import io
import pickle
import secrets
from collections.abc import Callable, Iterable
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any


class UnpicklableError(TypeError):
    """A value that cannot be pickled, so that keys could not tell it from others."""


def name_of(function: Callable[..., Any]) -> str:
    """Return the dotted name of a function or class, or of the one behind a partial or object."""
    while isinstance(function, functools.partial):
        function = function.func
    if not hasattr(function, "__qualname__"):
        function = type(function)
    module = getattr(function, "__module__", None) or type(function).__module__
    return f"{module}.{function.__qualname__}"


def unwrapped(function: Any) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """Return the function behind a partial, a bound method or an object, and its arguments there.

    They are the partial's, or the object as `self`.
    """
    args: tuple[Any, ...] = ()
    more: dict[str, Any] = {}
    while True:
        owner: Any = getattr(function, "__self__", None)
        if isinstance(function, functools.partial):
            args, more = (*function.args, *args), {**function.keywords, **more}
            function = function.func
        elif not hasattr(function, "__qualname__"):
            args, function = (function, *args), type(function).__call__
        elif owner is None or isinstance(owner, ModuleType):  # a module's built-in function
            return function, args, more
        else:
            kind = owner if isinstance(owner, type) else type(owner)
            its = inspect.getattr_static(kind, function.__name__, function)  # a built-in one's
            inner = getattr(function, "__func__", its)
            if inner is function or isinstance(inner, staticmethod):  # it does not know its owner
                return function, args, more
            args, function = (owner, *args), inner


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
        if not self.fast and type(value) in (str, bytes):  # a number has no place in the memo
            return int.from_bytes(hashlib.blake2s(_dumped(value)).digest())
        if type(value) in (set, frozenset):
            try:
                return type(value), sorted(map(_dumped, value))
            except (ValueError, RecursionError):
                if self.fast:
                    raise
                return None  # a set in a circle: in the order it has
        state = getattr(value, "__dict__", {}).get("_sa_instance_state")
        if state and state.key:  # an ORM would load what a commit expired only for the function
            for name in state.unloaded & {*state.mapper.column_attrs.keys()}:
                getattr(value, name)
        own = getattr(type(value), "__caching_id__", None)
        return None if own is None else (name_of(type(value)), str(own(value)))


def pickled(value: Any, name: str = "") -> bytes:
    """Return a pickle of `value` that depends on its contents alone.

    Raises UnpicklableError, which names `name`, if it cannot be pickled.
    """
    try:
        return _contents(value)
    except Exception as error:
        raise UnpicklableError(
            f"{name} cannot be cached for these arguments, one of which cannot be pickled: {error}."
            " Pass plain values, such as an object's id, or give its class a method __caching_id__."
        ) from error


def _contents(value: Any, kind: type[_Pickler] = _Pickler) -> bytes:
    try:
        return _dumped(value, kind)
    except (ValueError, RecursionError):  # it may contain itself
        return _dumped(value, kind, fast=False)


def _dumped(value: Any, kind: type[_Pickler] = _Pickler, fast: bool = True) -> bytes:
    pickler = kind(buffer := io.BytesIO(), pickle.HIGHEST_PROTOCOL)
    pickler.fast = fast  # no memo, by which one string twice differs from two equal strings
    pickler.dump(value)
    return buffer.getvalue()


class _Identifier(_Pickler):
    """Tells functions, classes and modules apart, where a name is not enough by their code."""

    seen: tuple[int, ...] = ()  # ids

    def persistent_id(self, value: Any) -> Any:
        """Return what tells such a value apart; None for all else."""
        value = getattr(value, "uncached", value) if type(value) is FunctionType else value
        if isinstance(value, ModuleType):
            return value.__name__
        if type(value) is CodeType:
            return value.co_code, value.co_names, value.co_consts, value.co_exceptiontable
        if type(value) is FunctionType and is_first(value, value.__code__):
            return name_of(value)
        if type(value) is FunctionType:
            more: Any = value.__code__, value.__defaults__, value.__kwdefaults__, _parts(value)
        elif isinstance(value, type) and "<locals>" in value.__qualname__:
            own = {n: it for n, it in vars(value).items() if n not in ("__dict__", "__weakref__")}
            more = value.__bases__, sorted(own.items())
        elif type(value) in _METHODS or "__wrapped__" in getattr(value, "__dict__", ()):
            more = (_parts(value),)
        else:
            return super().persistent_id(value)
        if id(value) in self.seen:
            return name_of(value), self.seen.index(id(value))
        self.seen += (id(value),)
        return name_of(value), *more


_METHODS = (staticmethod, classmethod)
_first: dict[tuple[type, str], Any] = {}  # by kind and name


def is_first(function: Any, about: Any) -> bool:
    """Tell whether a function's name is enough to find it; not that of a lambda or a local one.

    Nor is it for a second function of that name, which differs from the first in `about`.
    """
    code, name = getattr(function, "__code__", None), function.__qualname__
    named = "<" not in name and (not code or code.co_qualname == name)
    return named and _first.setdefault((type(function), name_of(function)), about) == about


def _parts(value: Any) -> list[tuple[str, Any]]:
    """Return the variables around a function, which may be filled later, and its attributes.

    Of an object in a function's place, as functools.cache makes one, also its class.
    """
    code, own = getattr(value, "__code__", None), getattr(value, "__dict__", None)
    if own is None and type(value).__module__ == "builtins":
        return []  # its name is enough
    if own is None or isinstance(value, type):
        return [("itself", value)]
    cells = [*zip(code.co_freevars, value.__closure__ or (), strict=False)] if code else []
    around = [(n, "empty" if it == CellType() else it.cell_contents) for n, it in cells]
    inner = getattr(value, "__wrapped__", None)
    kind = [] if code else [("__class__", type(value)), ("__wrapped__", inner)]
    more = sorted(own.keys() - {*functools.WRAPPER_ASSIGNMENTS, "__wrapped__"})
    return [*around, *kind, *((f".{name}", own[name]) for name in more)]


def identity(function: Any) -> tuple[str, str]:
    """Return what tells a function from others of its name, and which variables could not.

    That is its code, and the variables around it as they are now (its closure). One that cannot be
    pickled gets a random value, so that the results are this process's own.
    """
    code: Any = getattr(function, "__code__", None)
    if code and is_first(function, code):
        return "", ""
    parts, unclear = list[Any](), list[str]()
    for variable, content in _parts(function):
        try:
            parts += variable, _contents(content, _Identifier)
        except Exception as error:
            parts.append(secrets.token_hex())
            unclear.append(f"{variable} ({error})")
    digest = hashlib.blake2s(_dumped([code, parts], _Identifier)).hexdigest()
    return ("", "") if not code and is_first(function, digest) else (digest, ", ".join(unclear))
