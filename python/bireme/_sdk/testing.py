"""Fakes for an author's tests: a test has no host, so calls and maps run in process.

HTTP, models and key-value data need a fake, and fail by name without one. Each fake is a context manager, and the
earlier one comes back at its end.

>>> from bireme import App, http, testing
>>> app = App("pages")
>>> @app.function(outbound=["https://example.com"])
... def words(url: str) -> int:
...     return len(http.get(url).raise_for_status().text.split())
>>> with testing.fake_http({"https://example.com/": "two decks"}):
...     words("https://example.com/"), words.remote("https://example.com/")
(2, 2)
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Union

from . import describe as documents
from . import jsontext
from .app import App
from .failure import Failure
from .fakes import FAKES, LogLine
from .function import Caller
from .host import native
from .http import Headers, Request, Response
from .http.headers import HeadersLike
from .http.request import Data
from .payload import Bytes, Payload
from .web import server
from .web.body import Body
from .web.problem import Problem
from .web.request import Request as WebRequest
from .web.responses import of_problem

Site = Union[Callable[[Request], Response], Mapping[str, "Response | str | bytes | int"]]


@contextlib.contextmanager
def fake_http(site: Site) -> Generator[list[Request], None, None]:
    """Answers requests: by a function, or by URL with a text, a status or a response; other URLs are a 404.

    Redirects are followed as on a host, with a request for each hop. Yields the requests that were made.
    """
    requests: list[Request] = []
    answer = site if callable(site) else _pages(site)

    def recorded(request: Request) -> Response:
        requests.append(request)
        return answer(request)

    with _set("http", recorded):
        yield requests


def _pages(pages: Mapping[str, Any]) -> Callable[[Request], Response]:
    def answer(request: Request) -> Response:
        page = pages.get(request.url)
        if isinstance(page, Response):
            return Response(page.status_code, page.content, page.headers)
        if isinstance(page, int):
            return Response(page)
        return Response(404) if page is None else Response(200, page)

    return answer


@contextlib.contextmanager
def _set(name: str, value: Any) -> Generator[None, None, None]:
    before = getattr(FAKES, name)
    setattr(FAKES, name, value)
    try:
        yield
    finally:
        setattr(FAKES, name, before)


def fake_kv() -> contextlib.AbstractContextManager[None]:
    """Gives buckets in memory; all are empty at first, and any name can be opened."""
    return _set("kv", {})


def fake_model(name: str, embed: Callable[[str], Sequence[float]]) -> contextlib.AbstractContextManager[None]:
    """Gives one embedding model: the vector of a text."""
    return _set("embedders", {**FAKES.embedders, name: embed})


def fake_reranker(name: str, score: Callable[[str, str], float]) -> contextlib.AbstractContextManager[None]:
    """Gives one reranker: the score of a document for a query."""
    return _set("rerankers", {**FAKES.rerankers, name: score})


def fake_classifier(name: str, classify: Callable[[str], dict[str, float]]) -> contextlib.AbstractContextManager[None]:
    """Gives one classifier: the scores of a text by label."""
    return _set("classifiers", {**FAKES.classifiers, name: classify})


def fake_infer(
    name: str, infer: Callable[[dict[str, Any]], Mapping[str, Any]]
) -> contextlib.AbstractContextManager[None]:
    """Gives one model of named tensors."""
    return _set("inferrers", {**FAKES.inferrers, name: infer})


def fake_config(values: Mapping[str, str] | None = None, /, **more: str) -> contextlib.AbstractContextManager[None]:
    """Adds configuration values."""
    return _set("config", {**FAKES.config, **(values or {}), **more})


def fake_secrets(values: Mapping[str, str] | None = None, /, **more: str) -> contextlib.AbstractContextManager[None]:
    """Adds secrets."""
    return _set("secrets", {**FAKES.secrets, **(values or {}), **more})


@contextlib.contextmanager
def logs() -> Generator[list[LogLine], None, None]:
    """Collects the lines that are logged."""
    lines: list[LogLine] = []
    with _set("logs", lines):
        yield lines


def advance(seconds: float) -> None:
    """Moves the clock of values that expire, which stands still otherwise."""
    FAKES.moved += seconds


def web(
    app: App,
    method: str,
    path: str,
    *,
    headers: HeadersLike = (),
    params: Any = None,
    data: Data | None = None,
    json: Any = None,
) -> Response:
    """Sends a request to a web function of the app, in process, and reads its answer to the end.

    A stream that fails midway becomes a problem document here, where a host cuts the connection.
    """
    request = Request(method, f"http://localhost{path}", params=params, headers=headers, data=data, json=json)
    target = request.url.removeprefix("http://localhost")
    body = Body(iter([request.body] if request.body else []))
    web_request = WebRequest(request.method, target, request.headers, body)
    response = server.answer(app.entries, web_request, _ignore)
    try:
        content = b"".join(server.parts(response, _ignore))
    except Failure as failure:
        response = of_problem(Problem.of_failure(failure))
        content = b"".join(server.parts(response, _ignore))
    return Response(response.status, b"" if request.method == "HEAD" else content, response.headers, path)


def _ignore(text: str) -> None:
    pass


def call(function: Caller[Any], value: Any = None) -> Any:
    """Calls a function with an input as it comes over HTTP: JSON, or bytes. Returns JSON or bytes; raises `Failure`.

    >>> from bireme import App, testing
    >>> app = App("a")
    >>> @app.function
    ... def double(number: int) -> int:
    ...     return number * 2
    >>> testing.call(double, {"number": 2}), testing.call(double, 3)
    (4, 6)
    """
    if isinstance(value, (bytes, bytearray)):
        payload = Payload(getattr(value, "content_type", "application/octet-stream"), bytes(value))
    else:
        payload = Payload(jsontext.JSON, b"" if value is None else jsontext.dumps(value))
    answer = native.invoke(function.entry, payload)
    if jsontext.essence(answer.content_type) == jsontext.JSON:
        return jsontext.loads(answer.data)
    return Bytes(answer.data, answer.content_type)


def document(app: App) -> dict[str, Any]:
    """Returns the app's metadata document, which `bireme inspect` shows."""
    return documents.document(app)


__all__ = [
    "Headers",
    "LogLine",
    "Request",
    "Response",
    "advance",
    "call",
    "document",
    "fake_classifier",
    "fake_config",
    "fake_http",
    "fake_infer",
    "fake_kv",
    "fake_model",
    "fake_reranker",
    "fake_secrets",
    "logs",
    "web",
]
