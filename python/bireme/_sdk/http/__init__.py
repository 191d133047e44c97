"""Requests to the origins that a function declares in its `outbound`, in the way of `requests`.

>>> from bireme import http, testing
>>> def site(request):
...     return http.Response(200, b"<h1>hello</h1>", {"content-type": "text/html"})
>>> with testing.fake_http(site):
...     http.get("https://example.com/", params={"page": 2}).raise_for_status().text
'<h1>hello</h1>'
"""

from ..public import publish
from .client import Session, delete, get, head, options, patch, post, put, request
from .errors import (
    BodyTooLarge,
    ConnectError,
    DecodeError,
    Denied,
    Error,
    HTTPError,
    InvalidRequest,
    JSONError,
    ProtocolError,
    Timeout,
    TooManyRedirects,
)
from .headers import Headers
from .request import Request
from .response import Response

__all__ = [
    "BodyTooLarge",
    "ConnectError",
    "DecodeError",
    "Denied",
    "Error",
    "HTTPError",
    "Headers",
    "InvalidRequest",
    "JSONError",
    "ProtocolError",
    "Request",
    "Response",
    "Session",
    "Timeout",
    "TooManyRedirects",
    "delete",
    "get",
    "head",
    "options",
    "patch",
    "post",
    "put",
    "request",
]

publish("bireme.http", globals(), __all__)
