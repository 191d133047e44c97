"""Connections of `asyncio`: one set of kept-open ones for each loop, over the parser of the blocking ones."""

from __future__ import annotations

import asyncio
import ssl
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Optional, cast

from ..errors import BadAnswer, HostUnreachable, Timeout
from .connection import CONNECT_SECONDS, IDLE_MAX, Answer
from .jsontext import document as read_document
from .wire import BODY_BYTES_MAX, END, NEED, Head, Parser

if TYPE_CHECKING:
    from .address import Address
    from .connection import Transport
    from .host import Host

#: Connections of one loop to one host; further requests wait for one of them.
CONNECTIONS_MAX: Final = 128


class _Connection(asyncio.Protocol):
    """One connection, and the answer that it waits for."""

    def __init__(self) -> None:
        self.transport: Optional[asyncio.Transport] = None
        self.is_lost = False
        self.has_begun = False
        self._parser = Parser()
        self._answer: Optional[asyncio.Future[Answer]] = None
        self._head: Optional[Head] = None
        self._parts: list[bytes] = []
        self._size = 0

    @property
    def is_kept(self) -> bool:
        return not self.is_lost and self._parser.is_kept

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def request(self, data: bytes) -> asyncio.Future[Answer]:
        """Sends a request, and returns its answer to come."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._answer, self._head, self._parts, self._size = answer, None, [], 0
        self.has_begun = False
        self._parser.begin()
        if self.transport is None or self.is_lost:
            answer.set_exception(ConnectionResetError("it closed the connection"))
        else:
            self.transport.write(data)
        return answer

    def data_received(self, data: bytes) -> None:
        if self._answer is None:
            # Nothing was asked for.
            self.close()
            return
        self.has_begun = True
        try:
            self._parser.feed(data)
            self._take()
        except BadAnswer as error:
            self._fail(error)
            self.close()

    def _take(self) -> None:
        parser = self._parser
        while (event := parser.event()) is not NEED:
            if event is END:
                head, waiting, self._answer = self._head, self._answer, None
                if waiting is not None and not waiting.done() and head is not None:
                    waiting.set_result(Answer(head.status, head.headers, b"".join(self._parts)))
                return
            if isinstance(event, Head):
                self._head = event
                continue
            part = cast(bytes, event)
            self._size += len(part)
            if self._size > BODY_BYTES_MAX:
                raise BadAnswer(f"the answer is over {BODY_BYTES_MAX >> 20} MiB")
            self._parts.append(part)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        if self._answer is None:
            return
        if not self.has_begun or exc is not None:
            self._fail(exc if isinstance(exc, OSError) else ConnectionResetError("it closed the connection"))
            return
        try:
            self._parser.end_of_stream()
            self._take()
        except BadAnswer as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        waiting, self._answer = self._answer, None
        if waiting is not None and not waiting.done():
            waiting.set_exception(error)

    def close(self) -> None:
        self.is_lost = True
        if self.transport is not None:
            self.transport.abort()


class _Pool:
    """Connections of one loop to one host."""

    def __init__(self) -> None:
        self.idle: list[_Connection] = []
        self.permits = asyncio.Semaphore(CONNECTIONS_MAX)

    def take(self) -> _Connection | None:
        while self.idle:
            connection = self.idle.pop()
            if connection.is_kept:
                return connection
            connection.close()
        return None

    def keep(self, connection: _Connection) -> None:
        if connection.is_kept and len(self.idle) < IDLE_MAX:
            self.idle.append(connection)
        else:
            connection.close()


_pools: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, weakref.WeakKeyDictionary[Transport, _Pool]] = (
    weakref.WeakKeyDictionary()
)


def _pool(transport: Transport) -> _Pool:
    pools = _pools.setdefault(asyncio.get_running_loop(), weakref.WeakKeyDictionary())
    pool = pools.get(transport)
    if pool is None:
        pool = pools[transport] = _Pool()
    return pool


async def request(
    transport: Transport,
    method: str,
    target: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    timeout: float | None = None,
    is_repeatable: bool = False,
) -> Answer:
    """Sends a request and waits for its answer, of whatever status."""
    data = transport.head(method, target, headers, None if body is None else len(body)) + (body or b"")
    address = transport.address
    try:
        return await asyncio.wait_for(_exchange(transport, data, is_repeatable), timeout)
    except asyncio.TimeoutError:
        raise Timeout(f"{address.url} has not answered within {timeout:g} s") from None
    except OSError as error:
        raise HostUnreachable(
            f"the connection to {address.url} broke before the answer ({error.strerror or error})",
            hint="the call may have run; `.spawn` and `.map` go on where a host ends",
        ) from None


async def _exchange(transport: Transport, data: bytes, is_repeatable: bool) -> Answer:
    pool = _pool(transport)
    async with pool.permits:
        connection = pool.take()
        is_new = connection is None
        if connection is None:
            connection = await _open(transport.address)
        try:
            answer = await connection.request(data)
        except ConnectionError:
            connection.close()
            if is_new or not is_repeatable or connection.has_begun:
                raise
            connection = await _open(transport.address)
            try:
                answer = await connection.request(data)
            except BaseException:
                connection.close()
                raise
        except BaseException:
            # Cancelled, for example: its answer is still to come, and is nobody's.
            connection.close()
            raise
        pool.keep(connection)
        return answer


async def _open(address: Address) -> _Connection:
    loop = asyncio.get_running_loop()
    try:
        if address.kind == "unix":
            opening: Any = loop.create_unix_connection(_Connection, address.host)
        else:
            context = ssl.create_default_context() if address.kind == "tls" else None
            opening = loop.create_connection(_Connection, address.host, address.port, ssl=context)
        _, protocol = await asyncio.wait_for(opening, CONNECT_SECONDS)
    except asyncio.TimeoutError:
        raise address.unreachable(f"no connection within {CONNECT_SECONDS:g} s") from None
    except OSError as error:
        raise address.unreachable(error.strerror or str(error)) from None
    return cast(_Connection, protocol)


async def document(
    host: Host, method: str, target: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Sends a request that may be repeated, for an answer that is a JSON object."""
    answer = await request(host.transport, method, target, body, headers, is_repeatable=True)
    if answer.status >= 400:
        host.refuse(answer)
    return read_document(answer.data)
