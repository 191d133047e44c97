"""Coroutines in a sandbox: an event loop without sockets and threads, whose waits are the host's timers."""

from __future__ import annotations

import asyncio
import asyncio.base_events
from collections.abc import Coroutine
from typing import Any, TypeVar

from .host import host

T = TypeVar("T")


class _Selector:
    """Waits for time alone, since nothing else happens to a sandbox."""

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("the function waits for something that nothing in its sandbox can do")
        if timeout > 0:
            host().sleep(timeout)
        return []


class _Loop(asyncio.base_events.BaseEventLoop):
    """An event loop of one call: `asyncio.sleep`, `gather`, queues, locks, time-outs."""

    def __init__(self) -> None:
        super().__init__()
        self._selector = _Selector()

    def _process_events(self, event_list: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass


def run_coroutine(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine to its end."""
    loop = _Loop()
    try:
        return loop.run_until_complete(coroutine)
    finally:
        loop.close()
