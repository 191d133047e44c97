"""A server that answers whatever a test wants, well-formed or not."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType

#: Writes the answer to one request, given its head and body; the connection is closed where it returns false.
Answer = Callable[[socket.socket, bytes, bytes], bool]


class FakeHost:
    """Accepts connections; each request is answered by `answer`."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.heads: list[bytes] = []
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        received = b""
        try:
            with connection:
                while True:
                    while b"\r\n\r\n" not in received:
                        data = connection.recv(65_536)
                        if not data:
                            return
                        received += data
                    head, _, received = received.partition(b"\r\n\r\n")
                    self.heads.append(head)
                    length = 0
                    for line in head.lower().split(b"\r\n"):
                        if line.startswith(b"content-length:"):
                            length = int(line.split(b":")[1])
                    while len(received) < length:
                        data = connection.recv(65_536)
                        if not data:
                            return
                        received += data
                    body, received = received[:length], received[length:]
                    if not self._answer(connection, head, body):
                        return
        except OSError:
            pass

    def close(self) -> None:
        """Stops listening."""
        self._listener.close()

    def __enter__(self) -> FakeHost:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def raw(data: bytes, keeps: bool = False) -> Answer:
    """Answers every request with these bytes."""

    def answer(connection: socket.socket, head: bytes, body: bytes) -> bool:
        connection.sendall(data)
        return keeps

    return answer


def response(body: bytes, content_type: str = "application/json", status: str = "200 OK") -> bytes:
    """A well-formed answer."""
    head = f"HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def endless(start: bytes, part: bytes) -> Answer:
    """Answers with `start`, then `part` until the client goes away."""

    def answer(connection: socket.socket, head: bytes, body: bytes) -> bool:
        connection.sendall(start)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            connection.sendall(part)
        return False

    return answer
