"""Blocking connections to one host: kept open between requests, shared by threads.

Invariants: a connection serves one request at a time; one whose answer was not read to its end is closed; a request
that may have reached the host is sent again only where that is harmless.
"""

from __future__ import annotations

import os
import select
import socket
import time
import weakref
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Final, cast

from ..errors import BadAnswer, HostUnreachable, Timeout
from .address import Address
from .wire import BODY_BYTES_MAX, END, NEED, Head, Parser, request

CONNECT_SECONDS: Final = 5.0
#: Idle connections that are kept; threads beyond it connect anew.
IDLE_MAX: Final = 32
# The host closes an idle connection after 10 s, or earlier for another one's sake.
_IDLE_TRUSTED_SECONDS: Final = 0.25
_RECEIVE_BYTES: Final = 256 << 10
# Bodies up to this size go out with their head, in one segment.
_JOINED_BYTES_MAX: Final = 64 << 10


class Answer:
    """An answer that was read to its end."""

    __slots__ = ("data", "headers", "status")

    def __init__(self, status: int, headers: dict[str, str], data: bytes) -> None:
        self.status = status
        self.headers = headers
        self.data = data


class _Connection:
    __slots__ = ("_timeout", "address", "idle_since", "parser", "socket")

    def __init__(self, address: Address, timeout: float | None) -> None:
        self.address = address
        self._timeout: float | None = CONNECT_SECONDS if timeout is None else min(CONNECT_SECONDS, timeout)
        self.socket = _connect(address, self._timeout)
        self.parser = Parser()
        self.idle_since = 0.0

    def set_timeout(self, timeout: float | None) -> None:
        """Sets the longest wait of the next send or receive. Each change is a system call."""
        if timeout != self._timeout:
            self._timeout = timeout
            self.socket.settimeout(timeout)

    def is_open(self) -> bool:
        """Whether an idle connection can be used: nothing has come on it, its end neither."""
        if time.monotonic() - self.idle_since < _IDLE_TRUSTED_SECONDS:
            return True
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        self.socket.close()

    def send(self, head: bytes, body: bytes) -> None:
        if len(body) <= _JOINED_BYTES_MAX:
            self.socket.sendall(head + body)
        else:
            self.socket.sendall(head)
            self.socket.sendall(body)

    def receive(self, deadline: float | None) -> None:
        """Feeds the parser with what comes."""
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self.set_timeout(left)
        data = self.socket.recv(_RECEIVE_BYTES)
        if data:
            self.parser.feed(data)
        elif not self.parser.has_begun:
            raise ConnectionResetError("it closed the connection")
        else:
            self.parser.end_of_stream()

    def head(self, deadline: float | None) -> Head:
        while (event := self.parser.event()) is NEED:
            self.receive(deadline)
        return cast(Head, event)


class Transport:
    """Connections to one host."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._idle: list[_Connection] = []
        self.fixed = f"host: {address.authority}\r\nuser-agent: bireme-python\r\n"
        self.authorization = "" if address.token is None else f"authorization: Bearer {address.token}\r\n"
        _transports.add(self)

    def head(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str] | None = None,
        length: int | None = None,
    ) -> bytes:
        """Returns the head of a request; the token goes to the control API alone."""
        fixed = self.fixed + self.authorization if target.startswith("/api/") else self.fixed
        return request(method, target, fixed, headers, length)

    def request(
        self,
        method: str,
        target: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        timeout: float | None = None,
        is_repeatable: bool | None = None,
    ) -> Answer:
        """Sends a request and reads its answer. One that is repeatable is sent once more over a new connection."""
        length = len(body) if body is not None else (0 if method == "POST" else None)
        repeatable = method in ("GET", "DELETE") if is_repeatable is None else is_repeatable
        return self.exchange(self.head(method, target, headers, length), body or b"", timeout, repeatable)

    def exchange(
        self, head: bytes, body: bytes, timeout: float | None = None, is_repeatable: bool = False
    ) -> Answer:
        """Sends bytes of a request and reads the answer."""
        deadline = None if timeout is None else time.monotonic() + timeout
        connection, answer = self._begin(head, body, deadline, is_repeatable)
        try:
            parser, parts, size = connection.parser, list[bytes](), 0
            while (event := parser.event()) is not END:
                if event is NEED:
                    connection.receive(deadline)
                    continue
                part = cast(bytes, event)
                size += len(part)
                if size > BODY_BYTES_MAX:
                    raise BadAnswer(f"the answer is over {BODY_BYTES_MAX >> 20} MiB")
                parts.append(part)
        except BaseException as error:
            connection.close()
            raise self._named(error, timeout) from None
        self._keep(connection)
        return Answer(answer.status, answer.headers, parts[0] if len(parts) == 1 else b"".join(parts))

    def stream(self, method: str, target: str, headers: Mapping[str, str] | None = None) -> Stream:
        """Sends a request without a body, whose answer is read in parts."""
        connection, head = self._begin(self.head(method, target, headers), b"", None, True)
        return Stream(self, connection, head)

    def _begin(
        self, head: bytes, body: bytes, deadline: float | None, is_repeatable: bool
    ) -> tuple[_Connection, Head]:
        """Sends a request and reads the head of its answer."""
        timeout = None if deadline is None else max(deadline - time.monotonic(), 0.001)
        while True:
            connection, is_new = self._take(timeout)
            try:
                connection.parser.begin()
                connection.set_timeout(timeout)
                is_sent = True
                try:
                    connection.send(head, body)
                except (BrokenPipeError, ConnectionResetError):
                    # A host that refuses a body may answer and close before all of it is sent; its answer says why.
                    is_sent = False
                answer = connection.head(deadline)
                connection.parser.is_kept &= is_sent
                return connection, answer
            except BaseException as error:
                connection.close()
                has_begun = connection.parser.has_begun
                if isinstance(error, ConnectionError) and not is_new and is_repeatable and not has_begun:
                    self.close()
                    continue
                raise self._named(error, timeout) from None

    def _take(self, timeout: float | None) -> tuple[_Connection, bool]:
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return _Connection(self.address, timeout), True
            if connection.is_open():
                return connection, False
            connection.close()

    def _keep(self, connection: _Connection) -> None:
        if connection.parser.is_kept and len(self._idle) < IDLE_MAX:
            connection.idle_since = time.monotonic()
            self._idle.append(connection)
        else:
            connection.close()

    def _named(self, error: BaseException, timeout: float | None) -> BaseException:
        """Returns the error as those of this package."""
        if isinstance(error, TimeoutError):
            return Timeout(f"{self.address.url} has not answered within {timeout:g} s" if timeout else "no answer in time")
        if isinstance(error, OSError):
            reason = error.strerror or str(error) or type(error).__name__
            return HostUnreachable(
                f"the connection to {self.address.url} broke before the answer ({reason})",
                hint="the call may have run; `.spawn` and `.map` go on where a host ends",
            )
        return error

    def close(self) -> None:
        """Closes idle connections."""
        while self._idle:
            try:
                self._idle.pop().close()
            except IndexError:
                return

    def forget(self) -> None:
        """Drops the connections of the process that was forked, which goes on with them."""
        for connection in self._idle:
            os.close(connection.socket.detach())
        self._idle = []


class Stream:
    """An answer whose body is read as it comes."""

    def __init__(self, transport: Transport, connection: _Connection, head: Head) -> None:
        self._transport = transport
        self._connection: _Connection | None = connection
        self.status = head.status
        self.headers = head.headers

    def __iter__(self) -> Iterator[bytes]:
        connection = self._connection
        if connection is None:
            return
        try:
            while (event := connection.parser.event()) is not END:
                if event is NEED:
                    connection.receive(None)
                else:
                    yield cast(bytes, event)
        except (OSError, BadAnswer) as error:
            self.close()
            raise self._transport._named(error, None) from None  # pyright: ignore[reportPrivateUsage]
        self._connection = None
        self._transport._keep(connection)  # pyright: ignore[reportPrivateUsage]

    def read(self) -> bytes:
        """Reads the rest, up to a bound; for problem documents."""
        parts, size = list[bytes](), 0
        for part in self:
            parts.append(part)
            size += len(part)
            if size > _RECEIVE_BYTES * 4:
                break
        self.close()
        return b"".join(parts)

    def close(self) -> None:
        """Closes the connection, where the answer was not read to its end. Another thread's `recv` ends."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            connection.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _connect(address: Address, timeout: float) -> socket.socket:
    try:
        if address.kind == "unix":
            plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                plain.settimeout(timeout)
                plain.connect(address.host)
            except BaseException:
                plain.close()
                raise
            return plain
        plain = socket.create_connection((address.host, address.port), timeout)
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # Answers may take as long as a function may run; a machine that is gone is noticed by this.
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if hasattr(socket, "TCP_KEEPIDLE"):
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
            if address.kind == "tls":
                import ssl

                return ssl.create_default_context().wrap_socket(plain, server_hostname=address.host)
        except BaseException:
            plain.close()
            raise
        return plain
    except TimeoutError:
        raise address.unreachable(f"no connection within {timeout:g} s") from None
    except OSError as error:
        raise address.unreachable(error.strerror or str(error)) from None


_transports: weakref.WeakSet[Transport] = weakref.WeakSet()


def _forget_all() -> None:
    for transport in list(_transports):
        transport.forget()


# Two processes that read one connection would take each other's answers.
os.register_at_fork(after_in_child=_forget_all)
