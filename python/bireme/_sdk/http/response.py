"""Responses, in the way of `requests`."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any

from .. import jsontext
from ..codec import Misfit, codec_of
from . import charset
from .errors import HTTPError, JSONError
from .headers import Headers, HeadersLike


def _nothing() -> None:
    pass


class Response:
    """A response. Its body is read at once, or with ``stream=True`` as the function asks for it.

    A fake of a test makes one: ``Response(200, b"hello", {"content-type": "text/plain"})``.
    """

    def __init__(
        self,
        status_code: int,
        content: bytes | str | Iterator[bytes] = b"",
        headers: HeadersLike = (),
        url: str = "",
        close: Callable[[], None] = _nothing,
    ) -> None:
        self.status_code = status_code
        self.headers = Headers(headers)
        #: The final URL, after redirects.
        self.url = url
        #: Redirects that led here, the first one first.
        self.history: list[Response] = []
        #: The text's encoding, where it is not the one that the response tells.
        self.encoding: str | None = None
        self._close = close
        self._parts: Iterator[bytes] | None = None
        self._content: bytes | None = None
        if isinstance(content, str):
            self._content = content.encode()
        elif isinstance(content, (bytes, bytearray)):
            self._content = bytes(content)
        else:
            self._parts = content

    @property
    def content(self) -> bytes:
        """The body."""
        if self._content is None:
            parts, self._parts = self._parts, None
            if parts is None:
                raise RuntimeError("the body was streamed, and is gone")
            try:
                self._content = b"".join(parts)
            finally:
                self._close()
        return self._content

    @property
    def text(self) -> str:
        """The body as text: in the encoding that the header, a byte order mark or the HTML names, else UTF-8."""
        return charset.decode(self.content, self.encoding or self.apparent_encoding)

    @property
    def apparent_encoding(self) -> str:
        """The encoding that the response tells."""
        return charset.encoding_of(self.headers.get("content-type", ""), self._content or b"")

    def json(self, of: Any = Any) -> Any:
        """Decodes the body as JSON, of the type `of` where it is given: a dataclass, ``list[int]``, …"""
        try:
            value = jsontext.loads(self.content.removeprefix(codecs.BOM_UTF8))
            return value if of is Any else codec_of(of).decode(value)
        except jsontext.NotJson as error:
            raise JSONError(f"the body of `{self.url}` is no JSON: {error}", self.url, is_misfit=False) from None
        except Misfit as error:
            raise JSONError(
                f"the body of `{self.url}` is not the expected JSON: {error.text()}", self.url, is_misfit=True
            ) from None

    @property
    def ok(self) -> bool:
        """Whether the status is below 400."""
        return self.status_code < 400

    @property
    def reason(self) -> str:
        """The status in words."""
        try:
            return HTTPStatus(self.status_code).phrase
        except ValueError:
            return ""

    def raise_for_status(self) -> Response:
        """Raises `HTTPError` for a status from 400 on, and returns the response otherwise."""
        if not self.ok:
            self._close()
            raise HTTPError(self)
        return self

    def iter_content(self, chunk_size: int | None = None) -> Iterator[bytes]:
        """Yields the body in parts, as they arrive or of `chunk_size` bytes."""
        if self._content is not None:
            parts = iter([self._content] if self._content else [])
        else:
            taken, self._parts = self._parts, None
            if taken is None:
                raise RuntimeError("the body was streamed, and is gone")
            parts = taken
        try:
            if chunk_size is None:
                yield from parts
                return
            held = bytearray()
            for part in parts:
                held += part
                while len(held) >= chunk_size:
                    yield bytes(held[:chunk_size])
                    del held[:chunk_size]
            if held:
                yield bytes(held)
        finally:
            self._close()

    def iter_lines(self) -> Iterator[str]:
        """Yields the lines of a text, without their ends."""
        decoder = codecs.getincrementaldecoder(self.encoding or self.apparent_encoding)("replace")
        held = ""
        for part in self.iter_content():
            lines = (held + decoder.decode(part)).split("\n")
            held = lines.pop()
            for line in lines:
                yield line.removesuffix("\r")
        held += decoder.decode(b"", True)
        if held:
            yield held.removesuffix("\r")

    def close(self) -> None:
        """Gives the connection back; the rest of a streamed body is gone."""
        self._parts = None
        self._close()

    def __enter__(self) -> Response:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Response [{self.status_code}]>"
