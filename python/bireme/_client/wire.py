"""HTTP/1.1 without input or output: requests as bytes, answers from bytes.

One parser serves the blocking and the asynchronous connections. `http.client` takes 60 µs of CPU for an answer, most of
it in the parser of e-mail headers, and reads heads and bodies of any size; this takes 10 and has bounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Union

from ..errors import BadAnswer

#: Bytes of a status line with its headers.
HEAD_BYTES_MAX: Final = 64 << 10
#: Bytes of an answer that is read as a whole; a function's output is within it.
BODY_BYTES_MAX: Final = 1 << 30
# Bytes of the line with a chunk's size, extensions included.
_CHUNK_LINE_BYTES_MAX: Final = 1 << 10
_TRAILER_BYTES_MAX: Final = 16 << 10


class Head:
    """Status and headers of an answer."""

    __slots__ = ("headers", "status")

    def __init__(self, status: int, headers: dict[str, str]) -> None:
        self.status = status
        #: By lower-case name.
        self.headers = headers


class _Mark:
    __slots__ = ()


#: More bytes are needed.
NEED: Final = _Mark()
#: The answer is complete.
END: Final = _Mark()

Event = Union[Head, bytes, _Mark]

_HEAD, _LENGTH, _CHUNK_SIZE, _CHUNK, _CHUNK_END, _TRAILERS, _TO_CLOSE, _DONE = range(8)


def request(
    method: str, target: str, fixed: str, headers: Mapping[str, str] | None = None, length: int | None = None
) -> bytes:
    """Returns the head of a request. `fixed` are header lines of the connection, each with its line end."""
    lines = [f"{method} {target} HTTP/1.1\r\n", fixed]
    if headers:
        for name, value in headers.items():
            if "\r" in value or "\n" in value:
                raise ValueError(f"the header `{name}` has a line end in it")
            lines.append(f"{name}: {value}\r\n")
    if length is not None:
        lines.append(f"content-length: {length}\r\n")
    lines.append("\r\n")
    return "".join(lines).encode("latin-1")


class Parser:
    """Answers of one connection, one after another: `feed` bytes, then take events until `NEED` or `END`."""

    __slots__ = ("_buffer", "_left", "_state", "is_kept")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._state = _HEAD
        self._left = 0
        #: Whether the connection can carry another request.
        self.is_kept = True

    def begin(self) -> None:
        """Expects the answer to the next request."""
        self._state = _HEAD

    @property
    def has_begun(self) -> bool:
        """Whether any byte of the answer has come."""
        return bool(self._buffer) or self._state != _HEAD

    def feed(self, data: bytes) -> None:
        """Takes bytes that came."""
        self._buffer += data

    def end_of_stream(self) -> None:
        """Takes the end of the connection: the end of an answer without a length, a fault in any other."""
        if self._state == _TO_CLOSE:
            self._state = _DONE
        elif self._state != _DONE:
            raise BadAnswer("the connection ended in the middle of the answer")

    def event(self) -> Event:
        """Returns the next part: a head, bytes of the body, `END`, or `NEED`."""
        buffer = self._buffer
        while True:
            state = self._state
            if state == _DONE:
                return END
            if state == _HEAD:
                end = buffer.find(b"\r\n\r\n")
                if end > HEAD_BYTES_MAX or (end < 0 and len(buffer) > HEAD_BYTES_MAX):
                    raise BadAnswer(f"the answer's head is over {HEAD_BYTES_MAX >> 10} KiB")
                if end < 0:
                    return NEED
                head = self._head(bytes(buffer[:end]))
                del buffer[: end + 4]
                if head.status < 200:
                    continue
                return head
            if state == _LENGTH or state == _CHUNK:
                if not buffer:
                    return NEED
                if len(buffer) <= self._left:
                    part = bytes(buffer)
                    buffer.clear()
                else:
                    part = bytes(buffer[: self._left])
                    del buffer[: self._left]
                self._left -= len(part)
                if not self._left:
                    self._state = _DONE if state == _LENGTH else _CHUNK_END
                return part
            if state == _TO_CLOSE:
                if not buffer:
                    return NEED
                part = bytes(buffer)
                buffer.clear()
                return part
            limit = _TRAILER_BYTES_MAX if state == _TRAILERS else _CHUNK_LINE_BYTES_MAX
            end = buffer.find(b"\r\n")
            if end > limit or (end < 0 and len(buffer) > limit):
                raise BadAnswer("a line between the answer's chunks is too long")
            if end < 0:
                return NEED
            line = bytes(buffer[:end])
            del buffer[: end + 2]
            self._chunk_line(state, line)

    def _chunk_line(self, state: int, line: bytes) -> None:
        if state == _CHUNK_END:
            if line:
                raise BadAnswer("a chunk of the answer is longer than it says")
            self._state = _CHUNK_SIZE
        elif state == _CHUNK_SIZE:
            digits = line.partition(b";")[0].strip()
            # `int` would take signs and underscores.
            if not digits or len(digits) > 16 or digits.strip(b"0123456789abcdefABCDEF"):
                raise BadAnswer(f"a chunk of the answer has the size {digits[:40]!r}")
            self._left = int(digits, 16)
            self._state = _CHUNK if self._left else _TRAILERS
        elif not line:
            self._state = _DONE

    def _head(self, head: bytes) -> Head:
        lines = head.decode("latin-1").split("\r\n")
        first = lines[0]
        version, _, rest = first.partition(" ")
        digits = rest[:3]
        if version not in ("HTTP/1.1", "HTTP/1.0") or len(digits) != 3 or not (digits.isascii() and digits.isdigit()):
            raise BadAnswer(f"what answers does not speak HTTP/1.1: {first[:80]!r}")
        status = int(digits)
        headers: dict[str, str] = {}
        for line in lines[1:]:
            name, separator, value = line.partition(":")
            if not separator:
                raise BadAnswer(f"a header of the answer has no colon: {line[:80]!r}")
            name = name.lower()
            if name in headers and name in ("content-length", "transfer-encoding"):
                raise BadAnswer(f"the answer has two headers `{name}`")
            headers[name] = value.strip()
        self.is_kept = version == "HTTP/1.1" and headers.get("connection", "").lower() != "close"
        if status >= 200:
            self._body_of(status, headers)
        return Head(status, headers)

    def _body_of(self, status: int, headers: dict[str, str]) -> None:
        length = headers.get("content-length")
        if "transfer-encoding" in headers:
            if headers["transfer-encoding"].lower() != "chunked" or length is not None:
                raise BadAnswer("the answer's length is ambiguous")
            self._state = _CHUNK_SIZE
        elif status in (204, 304):
            self._state = _DONE
        elif length is not None:
            if not (length.isascii() and length.isdigit() and len(length) <= 18):
                raise BadAnswer(f"the answer has the length {length[:40]!r}")
            self._left = int(length)
            self._state = _LENGTH if self._left else _DONE
        else:
            self._state, self.is_kept = _TO_CLOSE, False
