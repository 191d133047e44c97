"""Errors of calls through a host.

Every error has the host's stable `code` (``bireme explain CODE`` tells more), and most have a `hint` with the next step.

>>> isinstance(Timeout("no answer within 2 s"), TimeoutError)
True
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ._shapes import array_of

if TYPE_CHECKING:
    from ._client.receipt import Receipt

__all__ = [
    "BadAnswer",
    "Cancelled",
    "Error",
    "FunctionFailed",
    "HostUnreachable",
    "InvalidInput",
    "MapFailed",
    "NotFound",
    "Overloaded",
    "Timeout",
    "Unauthorized",
]

# Characters of a text from the host that an error shows.
_SHOWN_MAX = 4_000
_CAUSES_MAX = 16


class Error(Exception):
    """A request that a host refused, or a call that failed."""

    #: Code of an error that the client made itself.
    code_default = "unavailable"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        hint: str | None = None,
        causes: Sequence[str] = (),
        status: int | None = None,
        receipt: Receipt | None = None,
        call_id: str | None = None,
        map_id: str | None = None,
        index: int | None = None,
    ) -> None:
        super().__init__(message)
        #: What happened, in one sentence.
        self.message = message
        #: Stable name of the error, as in `docs/errors.md`.
        self.code = code or self.code_default
        #: Next step.
        self.hint = hint
        #: Causes, outermost first.
        self.causes = tuple(causes)
        #: HTTP status; `None` where no answer came.
        self.status = status
        #: Cost of the call, where it ran.
        self.receipt = receipt
        #: Call that failed.
        self.call_id = call_id
        #: Map that it belongs to, and the index of its input.
        self.map_id = map_id
        self.index = index

    def __str__(self) -> str:
        place = "" if self.index is None else f"input {self.index}: "
        text = f"[{self.code}] {place}" + ": ".join([self.message, *self.causes])
        return f"{text}\nhint: {self.hint}" if self.hint else text

    def __reduce__(self) -> tuple[Any, ...]:
        # Made from `args` alone, an error would lose what it knows on its way between processes.
        return (_restore, (type(self), self.message, self.__dict__.copy()))


def _restore(kind: type[Error], message: str, state: dict[str, Any]) -> Error:
    error = kind(message)
    error.__dict__.update(state)
    return error


class NotFound(Error):
    """The host has no such app, function, call, map or model."""

    code_default = "not-found"


class InvalidInput(Error):
    """The input does not fit the function's parameters, or is over its limit."""

    code_default = "invalid-input"


class FunctionFailed(Error):
    """The function returned an error, crashed, or used more than its limits."""

    code_default = "failed"


class Timeout(Error, TimeoutError):
    """The time was over before the call had ended."""

    code_default = "timeout"


class Overloaded(Error):
    """The host has no room now, or no disk; the same request may succeed later."""

    code_default = "overloaded"


class Cancelled(Error):
    """The call or map was cancelled."""

    code_default = "cancelled"


class Unauthorized(Error):
    """The control API asks for the host's token."""

    code_default = "unauthorized"


class HostUnreachable(Error):
    """No host answers, or the connection broke before the answer."""

    code_default = "no-host"


class BadAnswer(Error):
    """What answers is no Bireme host, or its answer is broken."""

    code_default = "bad-answer"


class MapFailed(Error):
    """A map cannot go on: its inputs were refused, or its outcomes cannot be read."""

    code_default = "map-failed"


_KINDS: dict[str, type[Error]] = {
    **dict.fromkeys(
        (
            "unknown-app",
            "unknown-function",
            "unknown-call",
            "unknown-map",
            "unknown-model",
            "unknown-key",
            "unknown-version",
            "not-found",
            "not-scheduled",
            "web-function",
        ),
        NotFound,
    ),
    **dict.fromkeys(("invalid-input", "input-too-large", "unsupported-media-type", "bad-query"), InvalidInput),
    **dict.fromkeys(
        ("failed", "terminal", "crashed", "memory-limit", "output-too-large", "bad-output", "depth-exceeded"),
        FunctionFailed,
    ),
    "timeout": Timeout,
    **dict.fromkeys(("overloaded", "unavailable", "disk-full", "disk-quota", "device-lost"), Overloaded),
    "cancelled": Cancelled,
    "unauthorized": Unauthorized,
    "no-host": HostUnreachable,
    **dict.fromkeys(("map-closed", "map-failed", "map-not-ended", "input-gap", "input-differs"), MapFailed),
}

_HINTS = {
    "unknown-app": "deploy it with `bireme deploy`; `bireme apps` lists those of the host",
    "unknown-model": "install it with `bireme models pull NAME`",
    "unauthorized": "pass `token=`, or set BIREME_TOKEN; `bireme token` prints it on the host",
    "web-function": "send an HTTP request to its route",
    "overloaded": "try again in a moment, or use `.spawn` or `.map`, which wait on the host's disk",
    "timeout": "raise the function's `timeout`, or split its work",
}


def error_of(
    document: Mapping[str, Any],
    *,
    status: int | None = None,
    receipt: Receipt | None = None,
    call_id: str | None = None,
    map_id: str | None = None,
    index: int | None = None,
) -> Error:
    """Makes the error that a problem document, or the failure in a line of a map, describes."""
    code = _text(document.get("code")) or "unavailable"
    message = _text(document.get("detail")) or _text(document.get("message")) or code
    shown = [_text(cause) for cause in array_of(document.get("causes"))[:_CAUSES_MAX]]
    explain = _text(document.get("explain"))
    hint = _HINTS.get(code) or (f"`{explain}` says more" if explain else None)
    return _KINDS.get(code, Error)(
        message,
        code=code,
        hint=hint,
        causes=[cause for cause in shown if cause],
        status=status,
        receipt=receipt,
        call_id=call_id,
        map_id=map_id,
        index=index,
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        return ""
    return value if len(value) <= _SHOWN_MAX else value[:_SHOWN_MAX] + "…"
