"""A request, ready to be sent."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Union
from urllib.parse import urlencode

from .. import jsontext
from ..url import Url, UrlError
from .errors import InvalidRequest
from .headers import Headers, HeadersLike

Fields = Union[Mapping[str, Any], "list[tuple[str, Any]]"]
Data = Union[bytes, bytearray, str, Fields]


class Request:
    """One request. A fake of a test gets it, and answers."""

    def __init__(
        self,
        method: str,
        url: str,
        *,
        params: Fields | None = None,
        headers: HeadersLike = (),
        data: Data | None = None,
        json: Any = None,
        auth: tuple[str, str] | None = None,
    ) -> None:
        self.method = method.upper()
        self.headers = Headers(headers)
        try:
            self.url = str(Url(_with_params(url, params)))
        except UrlError as error:
            raise InvalidRequest(str(error), url) from None
        if not self.method.isascii() or not self.method.replace("-", "").isalpha():
            raise InvalidRequest(f"cannot ask for `{self.url}`: `{method}` is no method", self.url)
        self.body = b""
        if json is not None:
            if data is not None:
                raise TypeError("a request has `data` or `json`, not both")
            self.body = jsontext.dumps(json)
            self._default("content-type", jsontext.JSON)
        elif isinstance(data, (bytes, bytearray)):
            self.body = bytes(data)
        elif isinstance(data, str):
            self.body = data.encode()
            self._default("content-type", "text/plain; charset=utf-8")
        elif data is not None:
            self.body = urlencode(_pairs(data)).encode()
            self._default("content-type", "application/x-www-form-urlencoded")
        if auth is not None:
            token = base64.b64encode(f"{auth[0]}:{auth[1]}".encode()).decode()
            self._default("authorization", f"Basic {token}")

    def _default(self, name: str, value: str) -> None:
        if name not in self.headers:
            self.headers.set(name, value)

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    def json(self) -> Any:
        """The body as JSON."""
        return jsontext.loads(self.body)

    def __repr__(self) -> str:
        return f"<{self.method} {self.url}>"


def _pairs(fields: Fields) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for name, value in fields.items() if isinstance(fields, Mapping) else fields:
        values: list[Any] = list(value) if isinstance(value, (list, tuple)) else [value]  # pyright: ignore[reportUnknownArgumentType]
        for one in values:
            if one is not None:
                pairs.append((name, ("true" if one else "false") if isinstance(one, bool) else str(one)))
    return pairs


def _with_params(url: str, params: Fields | None) -> str:
    query = urlencode(_pairs(params)) if params else ""
    if not query:
        return url
    before, mark, fragment = url.partition("#")
    joint = "?" if "?" not in before else "" if before.endswith(("?", "&")) else "&"
    return f"{before}{joint}{query}{mark}{fragment}"
