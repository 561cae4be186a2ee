"""Advice: what the log and Cache-Status say about results that are not kept, or should not be."""

import logging
import re
from collections.abc import Sequence, Set
from contextlib import suppress
from itertools import islice
from typing import Any

from flask import after_this_request

from . import visitor, watch

logger = logging.getLogger(__name__)

MOST = 8  # details of one response
_warned: set[tuple[str, str]] = set()
ADVICE = {
    "session": "reads session: give private_key",
    "cookie": "reads cookie: give private_key",
    "HTTP_COOKIE": "reads cookie: give private_key",
    "changed": "changes session",
    "REMOTE_ADDR": "reads address: give make_cache_key",
    "wsgi.input": "reads body",
    "*": "reads headers: name those that matter, and add them to vary",
    "g": "reads g: a hook read the address or the like, and left something that the page takes",
}


def label(reason: str) -> str:
    """Return a reason as metrics tell it, without the names of headers."""
    short = reason.partition(":")[0]
    return short if short in _LABELS or not short.startswith("reads ") else "reads header"


_LABELS = {advice.partition(":")[0] for advice in ADVICE.values()}


def unkept(reads: set[str], owned: bool) -> tuple[str, str]:
    """Return why the result of a function that reads `reads` must not be kept: in short, in full.

    Empty if it may be. If it is `owned` its owner is in the key: what is private may be read.
    """
    kinds, shown = set[str](), list[str]()
    for name in sorted(reads - {"g"}):
        kind, of = name.partition(" ")[0], name.partition(".")[0]
        private = visitor.PERSONAL | getattr(watch.current_context().request, "_private", set())
        if owned and (kind == "cookie" or of == "g" or name in private):
            continue
        known = ADVICE[kind].partition(":")[0].removeprefix("reads ") if kind in ADVICE else ""
        kinds.add(known or {"g": "user", "request": "request"}.get(of, "header"))
        header = name.removeprefix("HTTP_").lower().replace("_", "-")
        shown.append(known or (name.removeprefix("request.") if of in ("g", "request") else header))
    text = ", ".join(dict.fromkeys(shown))
    return (f"reads {max(kinds)}", f"reads {text}: pass it as an argument") if shown else ("", "")


def add_detail(detail: str) -> None:
    """Add a detail to the Cache-Status of the page that is being made, or of the response.

    Each is said once, and the first few of a request: proxies refuse long headers.
    """
    context, text = watch.current_context(), re.sub(r"[^\w.,:<> -]", "?", detail, flags=re.ASCII)
    request = context.request
    if text in request._details or len(request._details) >= MOST:
        return
    request._details += (text,)
    if not vars(request).get("_making"):
        status = ("Cache-Status", f'{context.app.name}; detail="{text}"')
        after_this_request(lambda response: response.headers.add(*status) or response)


def warn_once(message: str, name: str, *more: str) -> None:
    """Log a warning about the function called `name`, the first time only."""
    if (message, name) not in _warned:
        _warned.add((message, name))
        logger.warning(message, name, *more)


def warn_of_session(name: str, value: Any) -> None:
    """Warn once if a value of the function or page called `name` holds objects of an ORM."""
    left = [value]
    for _ in range(200):  # enough to meet one
        one = left.pop() if left else None
        with suppress(Exception):  # a sequence that is read late may fail
            if "_sa_instance_state" in getattr(one, "__dict__", ()):
                warn_once(_OF_SESSION, name)
            elif isinstance(one, (dict, Sequence, Set)) and not isinstance(one, (str, bytes)):
                left += islice(one.values() if isinstance(one, dict) else one, 200)


_OF_SESSION = (
    "%s keeps objects of a database session, which fail when it is closed and an attribute is "
    "missing. Return plain values instead, such as dicts."
)
