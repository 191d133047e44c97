"""A host: requests to it, its errors as exceptions, descriptions of its apps."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, NoReturn, Optional
from urllib.parse import quote

from .._shapes import array_of, is_object, object_of
from ..errors import BadAnswer, NotFound, error_of
from . import address
from .connection import Answer, Stream, Transport
from .jsontext import document
from .receipt import Receipt

_NAME_LEN_MAX = 256


class Host:
    """A Bireme host. Made by `bireme.connect`; nothing is sent before it is used. May be shared by threads.

    >>> Host("http://127.0.0.1:9").url
    'http://127.0.0.1:9'
    """

    def __init__(self, url: str | None = None, token: str | None = None) -> None:
        self.address = address.find(url, token)
        self.transport = Transport(self.address)

    @property
    def url(self) -> str:
        """Address of the host."""
        return self.address.url

    def __repr__(self) -> str:
        return f"<Bireme host at {self.url}>"

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
        """Sends a request; a status of 400 and above is raised as an `Error`."""
        answer = self.transport.request(method, target, body, headers, timeout=timeout, is_repeatable=is_repeatable)
        return answer if answer.status < 400 else self.refuse(answer)

    def document(self, method: str, target: str, body: bytes | None = None, **options: Any) -> dict[str, Any]:
        """Is `request` for an answer that is a JSON object."""
        return document(self.request(method, target, body, **options).data)

    def stream(self, target: str) -> Stream:
        """Gets an answer that is read as it comes."""
        stream = self.transport.stream("GET", target)
        if stream.status >= 400:
            self.refuse(Answer(stream.status, stream.headers, stream.read()))
        return stream

    def refuse(self, answer: Answer) -> NoReturn:
        """Raises what an answer of 400 and above says."""
        raise self.error(answer)

    def error(self, answer: Answer) -> Exception:
        """Returns what an answer of 400 and above says."""
        kind = answer.headers.get("content-type", "")
        if "json" not in kind:
            where = "a proxy, or a server that is no Bireme host"
            return BadAnswer(f"{self.url} answered {answer.status} without a problem document", hint=f"it may be {where}")
        return error_of(
            document(answer.data),
            status=answer.status,
            receipt=Receipt.of_headers(answer.headers),
            call_id=answer.headers.get("bireme-call"),
        )

    def function(self, app: str, name: str) -> dict[str, Any]:
        """Returns a function's entry in the metadata of its live app."""
        path = f"/api/v1/apps/{segment(app)}/functions/{segment(name)}"
        function: Any = self.document("GET", path).get("function")
        if not is_object(function):
            raise BadAnswer("the description of the function has no entry of it")
        return function

    def apps(self) -> dict[str, list[str]]:
        """Lists the live apps of the host with the names of their functions."""
        found: dict[str, list[str]] = {}
        for app in map(object_of, array_of(self.document("GET", "/api/v1/apps").get("apps"))):
            if app.get("state") == "live":
                functions = map(object_of, array_of(app.get("functions")))
                found[str(app.get("name"))] = [str(function.get("name")) for function in functions]
        return found

    def close(self) -> None:
        """Closes idle connections; the next request opens another."""
        self.transport.close()


def segment(name: str) -> str:
    """Returns a name as a segment of a path."""
    if not name or len(name) > _NAME_LEN_MAX or name in (".", ".."):
        raise NotFound(f"{name[:80]!r} is no name")
    return quote(name, safe="-_~.")


_default: Optional[Host] = None
_lock = threading.Lock()


def default_host() -> Host:
    """Returns the host of this process: the last one of `connect`, else the one of the environment or this machine."""
    global _default
    with _lock:
        if _default is None:
            _default = Host()
        return _default


def connect(url: str | None = None, token: str | None = None) -> Host:
    """Returns a host, and makes it the one that lookups use.

    Without `url` it is the host of BIREME_HOST, else the one of the data directory on this machine, else
    `http://127.0.0.1:8080`. Without `token` it is BIREME_TOKEN, or for this machine the token in the data directory.
    """
    global _default
    host = Host(url, token)
    with _lock:
        _default = host
    return host
