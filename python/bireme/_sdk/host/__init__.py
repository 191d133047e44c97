"""The host's side: its imports in a sandbox, a stand-in elsewhere.

`use` sets which one; the loader of the sandbox sets the host's own, and everything else has the stand-in.
"""

from __future__ import annotations

from .api import Answer, CallInfo, Host, HttpError, Outcome, Progress

_host: Host | None = None


def host() -> Host:
    """Returns the host."""
    global _host
    if _host is None:
        # Late, so that a sandbox does not carry it.
        from .native import NativeHost

        _host = NativeHost()
    return _host


def use(new: Host) -> None:
    """Sets the host."""
    global _host
    _host = new


__all__ = ["Answer", "CallInfo", "Host", "HttpError", "Outcome", "Progress", "host", "use"]
