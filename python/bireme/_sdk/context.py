"""Identity of the running call, and its remaining time."""

from __future__ import annotations

from .host import CallInfo, host


def current() -> CallInfo:
    """Returns the identity of this call: app, function, version, call id, attempt."""
    return host().current()


def remaining() -> float:
    """Returns the seconds until this call's deadline; 0 once it has passed."""
    return host().remaining()


def sleep(seconds: float) -> None:
    """Waits. The call's `timeout` goes on; other calls run meanwhile. `time.sleep` is the same."""
    host().sleep(seconds)


__all__ = ["CallInfo", "current", "remaining", "sleep"]
