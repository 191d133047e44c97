"""Body of a request, streamed."""

from __future__ import annotations

from collections.abc import Iterator

from .problem import Problem

#: Bytes of a body that is read whole: 8 MiB. A larger one is refused with status 413; `Body` has no limit of its own.
BODY_BYTES_MAX = 8 << 20


class Body:
    """Body of a request: a large one never has to fit into memory.

    Iterating yields its parts as they arrive.
    """

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts
        self._held = b""

    def __iter__(self) -> Iterator[bytes]:
        if self._held:
            held, self._held = self._held, b""
            yield held
        yield from self._parts

    def read(self, size: int = -1) -> bytes:
        """Reads at most `size` bytes, or the rest."""
        if size < 0:
            return b"".join(self)
        while len(self._held) < size and (part := next(self._parts, None)) is not None:
            self._held += part
        out, self._held = self._held[:size], self._held[size:]
        return out

    def lines(self) -> Iterator[str]:
        """Yields the lines of a text, without their ends."""
        held = b""
        for part in self:
            lines = (held + part).split(b"\n")
            held = lines.pop()
            for line in lines:
                yield line.removesuffix(b"\r").decode("utf-8", "replace")
        if held:
            yield held.decode("utf-8", "replace")

    def whole(self) -> bytes:
        """Reads all of it, within the limit."""
        parts: list[bytes] = []
        total = 0
        for part in self:
            total += len(part)
            if total > BODY_BYTES_MAX:
                raise Problem.of_request(
                    413, "input-too-large", f"the body is over the limit of {BODY_BYTES_MAX} bytes"
                )
            parts.append(part)
        return b"".join(parts)
