"""Work that is done once, while the snapshot of an app is made, so that no call has to do it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

F = TypeVar("F", bound="Callable[[], object]")

_warmers: list[Callable[[], object]] = []


def warm(function: F) -> F:
    """Runs a function once at the end of the load: its caches, compiled patterns and parsed tables are in every call.

    The first parse of a page fills caches that cost 70 times the second one; with this every call is a second one:

    >>> @warm
    ... def parse_once():
    ...     import re
    ...     re.compile("a+").match("aaa")

    It runs without a host: no requests, no data, no secrets. Random numbers and the clock are the same each time.
    """
    _warmers.append(function)
    return function


def run() -> None:
    """Runs what was registered, in order."""
    while _warmers:
        _warmers.pop(0)()
