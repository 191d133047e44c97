"""A durable call: it survives the program that spawned it, and the host."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Generic, Literal, Optional, TypeVar, cast

from ..errors import BadAnswer, Cancelled, HostUnreachable, Overloaded, Timeout
from .connection import Answer
from .host import Host, default_host, segment
from .jsontext import document
from .patience import Patience
from .receipt import Receipt
from .signature import Signature

R = TypeVar("R")
State = Literal["accepted", "leased", "waiting", "done", "failed", "dead", "cancelled"]

# Longest wait of one request; the host bounds it at 60 s.
_WAIT_SECONDS = 50.0
# Time for the answer beyond the wait that was asked for.
_GRACE_SECONDS = 30.0


@dataclass(frozen=True)
class CallStatus:
    """State of a durable call."""

    id: str
    #: As `APP::FUNCTION`.
    function: str
    state: State
    #: Attempts begun.
    attempts: int
    receipt: Optional[Receipt]
    #: The whole document, as `docs/api.md` describes it.
    document: dict[str, Any]

    @property
    def is_done(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self.state in ("done", "failed", "dead", "cancelled")


class FunctionCall(Generic[R]):
    """A durable call. `FunctionCall.from_id` finds it again, in another program too."""

    def __init__(self, host: Host, call_id: str, signature: Signature | None = None) -> None:
        self.host = host
        self.id = call_id
        self._signature = signature
        self._path = f"/api/v1/calls/{segment(call_id)}"

    @classmethod
    def from_id(cls, call_id: str, *, host: Host | None = None) -> FunctionCall[Any]:
        """Returns the call of an id, or of its first digits (8 at least)."""
        return cast("FunctionCall[Any]", cls(host or default_host(), call_id))

    def get(self, timeout: float | None = None) -> R:
        """Waits for the result. After `timeout` seconds it raises `Timeout`, and the call goes on."""
        signature = self._its_signature()
        waiting = _Waiting(self, timeout)
        while True:
            try:
                answer = self.host.request(
                    "GET", f"{self._path}/result?wait={waiting.next():.3f}", timeout=_WAIT_SECONDS + _GRACE_SECONDS
                )
                if waiting.is_result(answer):
                    return cast(R, signature.output_of(answer.data, answer.headers.get("content-type", "")))
            except (HostUnreachable, Overloaded) as error:
                waiting.interrupted(error)

    async def aget(self, timeout: float | None = None) -> R:
        """Is `get` for `asyncio`."""
        import asyncio

        from . import aio

        if self._signature is None:
            self._signature = await asyncio.to_thread(self._its_signature)
        waiting = _Waiting(self, timeout)
        while True:
            try:
                target = f"{self._path}/result?wait={waiting.next():.3f}"
                answer = await aio.request(
                    self.host.transport, "GET", target, timeout=_WAIT_SECONDS + _GRACE_SECONDS, is_repeatable=True
                )
                if answer.status >= 400:
                    self.host.refuse(answer)
                if waiting.is_result(answer):
                    return cast(R, self._signature.output_of(answer.data, answer.headers.get("content-type", "")))
            except (HostUnreachable, Overloaded) as error:
                pauses: list[float] = []
                waiting.interrupted(error, pauses.append)
                await asyncio.sleep(sum(pauses))

    def status(self) -> CallStatus:
        """Returns the call's state now."""
        return _status(self.host.document("GET", self._path))

    def cancel(self) -> bool:
        """Cancels the call and what it spawned; false if it had ended."""
        return self.host.document("DELETE", self._path).get("state") == "cancelled"

    def _its_signature(self) -> Signature:
        if self._signature is None:
            app, _, name = self.status().function.partition("::")
            self._signature = Signature(name, self.host.function(app, name))
        return self._signature

    def __repr__(self) -> str:
        return f"<call {self.id} at {self.host.url}>"

    def _repr_html_(self) -> str:
        from .notebook import call_html

        return call_html(self.status())


class _Waiting:
    """The time of one `get`, over as many requests as it takes."""

    def __init__(self, call: FunctionCall[Any], timeout: float | None) -> None:
        self._call = call
        self._timeout = timeout
        self._until = None if timeout is None else time.monotonic() + timeout
        self._patience = Patience()

    def left(self) -> float:
        return _WAIT_SECONDS if self._until is None else self._until - time.monotonic()

    def next(self) -> float:
        return max(min(self.left(), _WAIT_SECONDS), 0.0)

    def is_result(self, answer: Answer) -> bool:
        if answer.status == 200:
            return True
        status = _status(document(answer.data))
        if status.state == "cancelled":
            raise Cancelled("the call was cancelled", call_id=self._call.id, receipt=status.receipt)
        if self.left() <= 0:
            raise self._late()
        self._patience.renew()
        return False

    def interrupted(self, error: HostUnreachable | Overloaded, sleep: Any = time.sleep) -> None:
        """A host that ends or is away: the call is on its disk, and the wait goes on."""
        if error.code not in ("no-host", "unavailable"):
            # The call's own failure.
            raise error
        if self.left() <= 0:
            raise self._late() from error
        self._patience.spend(error, sleep)

    def _late(self) -> Timeout:
        message = f"call {self._call.id} has not ended within {self._timeout:g} s"
        return Timeout(message, hint="it goes on; `.get()` waits longer, `.cancel()` ends it", call_id=self._call.id)


def _status(answer: dict[str, Any]) -> CallStatus:
    state, attempts = answer.get("state"), answer.get("attempts")
    if not isinstance(state, str):
        raise BadAnswer("the call's document has no state")
    return CallStatus(
        str(answer.get("id")),
        str(answer.get("function")),
        cast(State, state),
        attempts if isinstance(attempts, int) else 0,
        Receipt.of_document(answer.get("receipt")),
        answer,
    )
