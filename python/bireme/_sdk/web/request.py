"""Requests, as web functions see them."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

from .. import jsontext
from ..http.headers import Headers
from .body import Body
from .problem import Problem


class Request:
    """The whole request, for a function that needs more than typed parameters."""

    def __init__(self, method: str, path_with_query: str, headers: Headers, body: Body) -> None:
        #: The method, in capitals.
        self.method = method
        #: The path below the app and the query, as they were sent: escapes are not decoded.
        self.path, _, self.query = path_with_query.partition("?")
        self.headers = headers
        #: Values of the route's ``{name}``s, decoded.
        self.path_values: dict[str, str] = {}
        self.body = body

    def query_values(self, name: str) -> list[str]:
        """Returns every value of a name in the query, decoded."""
        return [value for known, value in parse_qsl(self.query, keep_blank_values=True) if known == name]

    def json(self) -> Any:
        """Reads the body as JSON."""
        try:
            return jsontext.loads(self.body.whole())
        except jsontext.NotJson as error:
            raise Problem.of_request(400, "invalid-input", f"the body is no JSON: {error}") from None

    def text(self) -> str:
        """Reads the body as text."""
        return self.body.whole().decode("utf-8", "replace")

    def form(self) -> dict[str, list[str]]:
        """Reads the body as a posted form."""
        fields: dict[str, list[str]] = {}
        text = self.body.whole().decode("utf-8", "replace")
        for name, value in parse_qsl(text, keep_blank_values=True):
            fields.setdefault(name, []).append(value)
        return fields

    def url(self, path: str) -> str:
        """Returns the path of a route of this app, as a browser requests it: on a host, apps lie below ``/{app}``."""
        return prefix(self.headers) + path

    def __repr__(self) -> str:
        return f"<{self.method} {self.path}>"


def prefix(headers: Headers) -> str:
    """Returns the app's path prefix on its host."""
    return headers.get("x-forwarded-prefix", "").rstrip("/")
