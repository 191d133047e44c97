"""Sending of requests: redirects, retries, sessions."""

from __future__ import annotations

import datetime
import random
import time
from typing import Any

from ..host import HttpError, host
from ..units import Duration, milliseconds
from ..url import Url, UrlError
from . import body as bodies
from .errors import ConnectError, Error, InvalidRequest, ProtocolError, Timeout, TooManyRedirects, of_host
from .headers import Headers, HeadersLike
from .request import Data, Fields, Request
from .response import Response

#: Bytes of a response's body, compressed and not: 8 MiB. A larger one is an error, not cut off.
MAX_BYTES = 8 << 20

_REDIRECTS = 5
_DAY_MS = 86_400_000

# Delay before the second attempt, which doubles each time, and the longest of our own; a server may ask for more.
_DELAY, _DELAY_MAX = 0.25, 10.0

_REPEATABLE = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"})
_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})


def request(
    method: str,
    url: str,
    *,
    params: Fields | None = None,
    headers: HeadersLike = (),
    data: Data | None = None,
    json: Any = None,
    auth: tuple[str, str] | None = None,
    timeout: Duration | None = None,
    allow_redirects: bool | None = None,
    stream: bool = False,
    retries: int = 0,
    max_bytes: int = MAX_BYTES,
) -> Response:
    """Sends a request and returns its response, of whatever status.

    :param params: fields that are added to the URL's query.
    :param data: the body: bytes, a text, or the fields of a form.
    :param json: the body as JSON.
    :param auth: user and password.
    :param timeout: time from sending to the last byte; none but the call's own by default.
    :param allow_redirects: whether up to 5 redirects are followed; by default for ``GET``, ``HEAD`` and ``OPTIONS``.
        ``authorization`` and ``cookie`` are not sent to another origin.
    :param stream: leaves the body unread, for `iter_content` and `iter_lines`.
    :param retries: further attempts of an idempotent method after a status of 408, 425, 429, 500, 502, 503 or 504, or a
        broken connection. The delay follows ``retry-after``, or else is 250 ms, doubled each time.
    :param max_bytes: the largest body, compressed and not.
    """
    seconds = None if timeout is None else milliseconds("timeout", timeout, "10s", 1, _DAY_MS) / 1000
    sent = Request(method, url, params=params, headers=headers, data=data, json=json, auth=auth)
    if "accept-encoding" not in sent.headers:
        sent.headers.set("accept-encoding", bodies.ACCEPTED)
    follows = sent.method in ("GET", "HEAD", "OPTIONS") if allow_redirects is None else allow_redirects
    for attempt in range(1, retries + 1):
        if sent.method not in _REPEATABLE:
            break
        try:
            response = _follow(sent, seconds, _REDIRECTS if follows else 0, stream, max_bytes)
            if response.status_code not in _BUSY:
                return response
            delay = _delay(attempt, response.headers)
            response_or_error: Response | Error = response
        except (ConnectError, Timeout, ProtocolError) as error:
            delay, response_or_error = _delay(attempt, Headers()), error
        # Without time left for another attempt, a delay would only turn this outcome into a missed deadline.
        if delay >= host().remaining():
            if isinstance(response_or_error, Error):
                raise response_or_error
            return response_or_error
        host().sleep(delay)
    return _follow(sent, seconds, _REDIRECTS if follows else 0, stream, max_bytes)


def _delay(attempt: int, headers: Headers) -> float:
    asked = headers.get("retry-after", "").strip()
    if asked.isdigit():
        return float(asked)
    if asked:
        try:
            date = datetime.datetime.strptime(asked, "%a, %d %b %Y %H:%M:%S GMT")
            return max(date.replace(tzinfo=datetime.timezone.utc).timestamp() - time.time(), 0.0)
        except ValueError:
            # No date of HTTP; the delay is our own.
            pass
    # Half of it is random, so that calls that were refused together do not come again together.
    return min(_DELAY * 2.0 ** min(attempt - 1, 16), _DELAY_MAX) * (0.5 + 0.5 * random.random())


def _follow(sent: Request, timeout: float | None, redirects: int, stream: bool, max_bytes: int) -> Response:
    method, url, headers, body = sent.method, Url(sent.url), Headers(sent.headers), sent.body
    history: list[Response] = []
    while True:
        response = _send(method, url, headers, body, timeout, max_bytes)
        response.history = history
        location = response.headers.get("location") if response.status_code in (301, 302, 303, 307, 308) else None
        if location is None or not redirects:
            if not stream and method != "HEAD":
                _ = response.content
            return response
        response.close()
        if len(history) == redirects:
            raise TooManyRedirects(f"`{url}` redirects again after {redirects} redirects", str(url))
        history = [*history, response]
        try:
            target = url.join(location)
        except (UrlError, ValueError) as error:
            raise InvalidRequest(f"`{url}` redirects to `{location}`: {error}", str(url)) from None
        status = response.status_code
        if (status == 303 and method != "HEAD") or (status in (301, 302) and method == "POST"):
            method, body = "GET", b""
            headers.remove("content-type", "content-length", "content-encoding", "content-language", "content-location")
        if target.origin != url.origin:
            headers.remove("authorization", "cookie", "proxy-authorization")
        url = target


def _send(method: str, url: Url, headers: Headers, body: bytes, timeout: float | None, max_bytes: int) -> Response:
    text = str(url)
    try:
        answer = host().http(method, text, headers.raw(), body, timeout)
    except HttpError as error:
        raise of_host(error, text) from None
    received = Headers.of_raw(answer.headers)
    encoding = received.get("content-encoding", "").strip().lower()
    if encoding in ("gzip", "x-gzip", "deflate") and method != "HEAD":
        # Both describe the compressed body.
        received.remove("content-encoding", "content-length")
    parts = bodies.read(answer.body, encoding, text, max_bytes)
    return Response(answer.status, parts if method != "HEAD" else b"", received, text, answer.close)


class Session:
    """Settings that several requests share."""

    def __init__(self, *, headers: HeadersLike = (), **settings: Any) -> None:
        self.headers = Headers(headers)
        self._settings = settings

    def request(self, method: str, url: str, *, headers: HeadersLike = (), **settings: Any) -> Response:
        """Is `request`, with the session's headers and settings where the request has none."""
        merged = Headers(self.headers)
        for name, value in Headers(headers).all():
            merged.set(name, value)
        return request(method, url, headers=merged, **{**self._settings, **settings})

    def get(self, url: str, **settings: Any) -> Response:
        """Sends a ``GET``."""
        return self.request("GET", url, **settings)

    def post(self, url: str, **settings: Any) -> Response:
        """Sends a ``POST``."""
        return self.request("POST", url, **settings)

    def put(self, url: str, **settings: Any) -> Response:
        """Sends a ``PUT``."""
        return self.request("PUT", url, **settings)

    def patch(self, url: str, **settings: Any) -> Response:
        """Sends a ``PATCH``."""
        return self.request("PATCH", url, **settings)

    def delete(self, url: str, **settings: Any) -> Response:
        """Sends a ``DELETE``."""
        return self.request("DELETE", url, **settings)

    def head(self, url: str, **settings: Any) -> Response:
        """Sends a ``HEAD``."""
        return self.request("HEAD", url, **settings)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def get(url: str, params: Fields | None = None, **settings: Any) -> Response:
    """Sends a ``GET``. `request` has the settings."""
    return request("GET", url, params=params, **settings)


def head(url: str, **settings: Any) -> Response:
    """Sends a ``HEAD``."""
    return request("HEAD", url, **settings)


def post(url: str, data: Data | None = None, json: Any = None, **settings: Any) -> Response:
    """Sends a ``POST``."""
    return request("POST", url, data=data, json=json, **settings)


def put(url: str, data: Data | None = None, **settings: Any) -> Response:
    """Sends a ``PUT``."""
    return request("PUT", url, data=data, **settings)


def patch(url: str, data: Data | None = None, **settings: Any) -> Response:
    """Sends a ``PATCH``."""
    return request("PATCH", url, data=data, **settings)


def delete(url: str, **settings: Any) -> Response:
    """Sends a ``DELETE``."""
    return request("DELETE", url, **settings)


def options(url: str, **settings: Any) -> Response:
    """Sends an ``OPTIONS``."""
    return request("OPTIONS", url, **settings)
