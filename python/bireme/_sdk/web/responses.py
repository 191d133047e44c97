"""What web functions return."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Union

from .. import jsontext
from ..http.headers import Headers, HeadersLike
from .problem import Problem

Part = Union[bytes, str]


class Html(str):
    """An HTML page. `escape` makes a text safe to stand in one."""

    __slots__ = ()


class Response:
    """A response: status, headers, body.

    >>> Response("User-agent: *", content_type="text/plain", headers={"cache-control": "max-age=3600"}).status
    200
    """

    def __init__(
        self,
        body: Part | Iterable[Part] = b"",
        status: int = 200,
        headers: HeadersLike = (),
        *,
        content_type: str | None = None,
    ) -> None:
        if not 100 <= status < 1000:
            raise ValueError(f"{status} is no status")
        self.status = status
        self.headers = Headers(headers)
        self.body: bytes | Iterator[bytes]
        if isinstance(body, str):
            self.body = body.encode()
            content_type = content_type or "text/plain; charset=utf-8"
        elif isinstance(body, (bytes, bytearray)):
            self.body = bytes(body)
        else:
            self.body = _bytes(body)
        if content_type is not None and "content-type" not in self.headers:
            self.headers.set("content-type", content_type)


class Redirect(Response):
    """A redirect: 303 to a page that is requested by ``GET``, as after a posted form; 307 and 308 for the same request.

    A path that begins with ``/`` is one of this app, wherever its host mounts it.
    """

    def __init__(self, location: str, status: int = 303) -> None:
        super().__init__(b"", status, {"location": location})


class Stream(Response):
    """A streamed body: each part leaves at once, and a slow client makes the function wait.

    An error after the first part cannot reach the client; it is logged, and the connection is cut off.
    """

    def __init__(self, parts: Iterable[Part], content_type: str = "text/plain; charset=utf-8") -> None:
        super().__init__(parts, content_type=content_type)

    @classmethod
    def json_lines(cls, values: Iterable[Any]) -> Stream:
        """Streams JSON Lines, one value on each."""
        return cls((jsontext.dumps(value) + b"\n" for value in values), "application/x-ndjson")


def _bytes(parts: Iterable[Part]) -> Iterator[bytes]:
    for part in parts:
        yield part.encode() if isinstance(part, str) else part


def of_problem(problem: Problem) -> Response:
    """Returns a problem as a response."""
    return Response(jsontext.dumps(problem.document()), problem.status, content_type="application/problem+json")
